"""What ``--add`` collects: the rendered contents of several cells, on disk until they are sent."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..core import ids, option_table
from ..core.batch import Batch
from ..core.errors import NotFound, StoreProblem, UsageProblem
from ..core.request import Content, Recipe, Shape
from ..providers import registry
from ..storage import files
from ..storage.input_file import write_rows
from ..storage.store import Store
from .prompts import routing
from .spec import Ask

_encode = msgspec.json.Encoder().encode


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one cell contributed."""

    recipe: Recipe
    model: str
    retries: int
    reasks: int = 0
    notify: str = ""
    delete_uploads: bool = False
    max_cost: float | None = None
    shape: Shape
    key: str = ""
    file: str
    rows: int
    snapshot: str = ""  # the file with what the output needs of the input
    routed: bool = False
    dedupe: bool = False
    reuse: list[str] = []
    realtime: bool = False
    sample: int = 0
    deadline: float | None = None
    deadline_cost: float | None = None
    shown: dict[str, Any] = msgspec.field(default_factory=dict)


class Collected(msgspec.Struct, frozen=True):
    """What is collected under a name, at one moment, as one thing to submit."""

    ask: Ask
    draft_id: str
    records: list[bytes]


class _Saved:
    """The rows of a collected cell as far as they are kept: how many, and for their shape."""

    fields: Sequence[str] | None = None

    def __init__(self, part: Part, draft: Batch, path: Path) -> None:
        self.shape = part.shape
        self._size = part.rows
        self._draft = draft
        self._path = path

    def __len__(self) -> int:
        return self._size

    def columns(self, names: Sequence[str], step: int = 0) -> Iterator[tuple[Any, ...]]:
        """Refuse: the cells were rendered when they were collected."""
        raise NotImplementedError(names, step)

    def key(self, number: int) -> Any:
        """Refuse: the cells' texts are rendered already."""
        raise NotImplementedError(number)

    def first(self) -> Any:
        """Refuse, as `key` does."""
        raise NotImplementedError

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Refuse, as `columns` does."""
        raise NotImplementedError

    def snapshot(self, path: Path) -> None:
        """Write what `restore` needs to `path`."""
        try:
            shutil.copyfile(self._path, path)
        except FileNotFoundError:
            raise _taken(self._draft.name) from None


class Added(NamedTuple):
    """A cell that was collected: the draft it is in, and how many cells that has now."""

    draft_id: str
    cells: int


def add(
    store: Store,
    ask: Ask,
    *,
    key: str,
    notebook: str,
    now: float,
    simulated: bool,
    servers: Mapping[str, str],
    joined: str = "",
) -> Added:
    """Write what a cell contributes.

    Parameters
    ----------
    key
        What tells the cell from others, fit for a file's name; empty where its contents do.
    joined
        The draft that has this kernel's earlier cells. A cell is never collected without them.

    Raises
    ------
    UsageProblem
        Another kernel sent or dropped what is collected at the same moment.
    """
    draft = store.draft_cells.find(notebook, ask.name)
    if joined and (draft is None or draft.id != joined):
        raise _taken(ask.name)
    if draft is None:
        draft = store.add_batch(
            Batch(
                id=ids.new_batch_id(),
                notebook=notebook,
                name=ask.name,
                version=1,
                created_at=now,
                rows=0,
                recipe=ask.recipe,
                models=[ask.model] if ask.model else [],
                shape=Shape(kind="list"),
                plan_hash="",
                simulated=simulated,
                draft=True,
            ),
            [],
            {},
        )
    try:
        folder = files.private_folder(store.folder_of(draft.id))
        return Added(draft.id, _add(store, ask, draft, folder, key, servers))
    except (FileNotFoundError, StoreProblem):
        there = store.draft_cells.find(notebook, ask.name)
        if there is not None and there.id == draft.id:
            raise
        raise _taken(ask.name) from None


def _add(
    store: Store, ask: Ask, draft: Batch, folder: Path, key: str, servers: Mapping[str, str]
) -> int:
    # A name of its own: what an earlier run of the cell gave stands until the record names this.
    name = f"part-{ids.new_batch_id()}.jsonl"
    count, digest = 0, hashlib.blake2b(digest_size=8)
    models = None if ask.models is None else iter(ask.models)
    with files.writing(folder / name) as writer:
        for content in ask.contents:
            line: Any = content
            if models is not None:
                model = _model(models, ask.model, count, servers, left_out=content is None)
                line = (model, content)
            encoded = _encode(line) + b"\n"
            writer.write(encoded)
            digest.update(encoded)
            count += 1
    key = key or digest.hexdigest()
    snapshot = "" if ask.rows is None else name.removesuffix(".jsonl") + ".rows"
    if ask.rows is not None:
        write_rows(ask.rows, folder, snapshot)
    part = Part(
        recipe=msgspec.structs.replace(ask.recipe, prefix=""),  # of one cell, not of all
        model=ask.model,
        delete_uploads=ask.delete_uploads,
        shape=ask.shape,
        key=key,
        file=name,
        rows=count,
        snapshot=snapshot,
        routed=ask.models is not None,
        shown=ask.shown,
        **option_table.merged_fields([ask]),
    )
    earlier = [msgspec.json.decode(each, type=Part) for each in store.draft_cells.records(draft.id)]
    cells = store.draft_cells.put(draft.id, key, _encode(part))
    if not cells:
        files.remove(folder)
        raise _taken(ask.name)
    for each in earlier:
        if each.key == key or each.file == f"part-{key}.jsonl":
            _remove_files(folder, each)
    return cells


def collected(store: Store, *, notebook: str, name: str) -> Collected:
    """Return what was collected under `name` as one thing to submit.

    The answers to a single cell have its shape, those to several are a list.

    Raises
    ------
    NotFound
        Nothing was collected.
    UsageProblem
        The cells differ in model or options.
    """
    draft = store.draft_cells.find(notebook, name)
    records = store.draft_cells.records(draft.id) if draft else []
    parts = [msgspec.json.decode(each, type=Part) for each in records]
    if draft is None or not parts:
        raise NotFound(
            f"nothing was collected as {name!r}: run cells with `%%llm_batch {name} --add`"
        )
    models = {part.model for part in parts}
    if len(models) > 1:
        raise UsageProblem(
            f"the cells of {name} name different models ({', '.join(sorted(models))})"
        )
    if any(part.recipe != parts[0].recipe for part in parts):
        raise UsageProblem(f"the cells of {name} differ in their options: give all the same")
    rows, shape = _input(store, draft, parts)
    ask = Ask(
        name=name,
        contents=_contents(store, draft, parts),
        rows=rows,
        shape=shape,
        recipe=parts[0].recipe,
        model=parts[0].model,
        models=_models(store, draft, parts) if any(part.routed for part in parts) else None,
        delete_uploads=any(part.delete_uploads for part in parts),
        shown=option_table.merged_shown([part.shown for part in parts]),
        **option_table.merged_fields(parts),
    )
    return Collected(ask, draft.id, records)


def sent(store: Store, collected: Collected) -> bool:
    """Let go of what was sent; False when another kernel collected more meanwhile, which stays."""
    folder = store.folder_of(collected.draft_id)
    if store.draft_cells.take(collected.draft_id, collected.records):
        files.remove(folder)
        return True
    for record in collected.records:
        _remove_files(folder, msgspec.json.decode(record, type=Part))
    return False


def listed(store: Store, *, notebook: str | None) -> list[Batch]:
    """Return what was collected and not sent, oldest first, with its rows and models.

    Parameters
    ----------
    notebook
        Whose; None for all.
    """
    found = []
    for draft in store.batches(notebook=notebook):
        if draft.draft:
            parts = [
                msgspec.json.decode(each, type=Part) for each in store.draft_cells.records(draft.id)
            ]
            models = [part.model or "a model per row" for part in parts]
            rows = sum(part.rows for part in parts)
            if parts:  # else the first cell failed while it was rendered
                found.append(
                    msgspec.structs.replace(draft, rows=rows, models=list(dict.fromkeys(models)))
                )
    return found


def drop(store: Store, *, notebook: str, name: str) -> bool:
    """Delete what was collected; False when there is nothing."""
    draft = store.draft_cells.find(notebook, name)
    if draft is None:
        return False
    store.forget(draft.id)
    files.remove(store.folder_of(draft.id))
    return True


def _model(
    models: Iterator[Any], default: str, row: int, servers: Mapping[str, str], *, left_out: bool
) -> str:
    try:
        named = next(models)
        name = "" if left_out else routing.model_name(named, default)
        return "" if left_out else registry.qualify(name, servers)
    except UsageProblem as problem:
        raise UsageProblem(f"row {row}: {problem}") from None


def _input(store: Store, draft: Batch, parts: list[Part]) -> tuple[_Saved | None, Shape]:
    only = parts[0]
    if len(parts) == 1 and only.snapshot:
        return _Saved(only, draft, store.folder_of(draft.id) / only.snapshot), only.shape
    if len(parts) == 1 and only.shape.kind == "one":
        return None, only.shape
    return None, Shape(kind="list")


def _contents(store: Store, draft: Batch, parts: list[Part]) -> Iterator[Content | None]:
    for part in parts:
        for line in _lines(store, draft, part):
            value = msgspec.json.decode(line)
            content: Content | None = value[1] if part.routed else value
            yield content


def _models(store: Store, draft: Batch, parts: list[Part]) -> Iterator[str]:
    for part in parts:
        for line in _lines(store, draft, part):
            yield msgspec.json.decode(line)[0] if part.routed else part.model


def _lines(store: Store, draft: Batch, part: Part) -> Iterator[bytes]:
    try:
        yield from files.lines(store.folder_of(draft.id) / part.file)
    except FileNotFoundError:
        raise _taken(draft.name) from None


def _remove_files(folder: Path, part: Part) -> None:
    for file in filter(None, (part.file, part.snapshot)):
        (folder / file).unlink(missing_ok=True)


def _taken(name: str) -> UsageProblem:
    return UsageProblem(
        f"what was collected as {name} went away at the same moment, since another kernel sent it "
        f"or collected it anew: run the cells of {name} again"
    )
