"""What ``--add`` collects: the rendered contents of several cells, on disk until they are sent."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from . import payloads, planning
from .errors import NotFound, UsageProblem
from .models import Batch, Content, Recipe, Shape
from .store import Store
from .submission import Ask

_encode = msgspec.json.Encoder().encode


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one cell contributed."""

    recipe: Recipe
    model: str
    retries: int
    reasks: int = 0
    shape: Shape
    file: str
    rows: int


def add(store: Store, ask: Ask, *, key: str, notebook: str, now: float, simulated: bool) -> int:
    """Write what a cell contributes; return how many cells are collected."""
    draft = _find(store, notebook, ask.name)
    if draft is None:
        draft = store.add_batch(
            Batch(
                id=planning.new_batch_id(),
                notebook=notebook,
                name=ask.name,
                version=1,
                created_at=now,
                rows=0,
                recipe=ask.recipe,
                models=[ask.model],
                shape=Shape(kind="list"),
                plan_hash="",
                simulated=simulated,
                draft=True,
            ),
            [],
            {},
        )
    folder = payloads.private_folder(store.folder_of(draft.id))
    name = f"part-{key}.jsonl"
    count = 0
    with payloads.writing(folder / name) as writer:
        for content in ask.contents:
            writer.write(_encode(content) + b"\n")
            count += 1
    part = Part(
        recipe=ask.recipe,
        model=ask.model,
        retries=ask.retries,
        reasks=ask.reasks,
        shape=ask.shape,
        file=name,
        rows=count,
    )
    return store.put_part(draft.id, key, _encode(part))


def ask(store: Store, *, notebook: str, name: str) -> Ask:
    """Return what was collected under `name` as one thing to submit.

    Raises
    ------
    NotFound
        Nothing was collected.
    UsageProblem
        The cells differ in model or options.
    """
    draft = _find(store, notebook, name)
    parts = (
        [msgspec.json.decode(each, type=Part) for each in store.parts(draft.id)] if draft else []
    )
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
    single = len(parts) == 1 and parts[0].shape.kind == "one"
    return Ask(
        name=name,
        contents=_contents(store, draft, parts),
        rows=None,
        shape=Shape(kind="one" if single else "list"),
        recipe=parts[0].recipe,
        model=parts[0].model,
        retries=max(part.retries for part in parts),
        reasks=max(part.reasks for part in parts),
    )


def drop(store: Store, *, notebook: str, name: str) -> bool:
    """Delete what was collected; False when there is nothing."""
    draft = _find(store, notebook, name)
    if draft is None:
        return False
    store.forget(draft.id)
    payloads.remove(store.folder_of(draft.id))
    return True


def _contents(store: Store, draft: Batch, parts: list[Part]) -> Iterator[Content | None]:
    for part in parts:
        for line in payloads.lines(store.folder_of(draft.id) / part.file):
            content: Content | None = msgspec.json.decode(line)
            yield content


def _find(store: Store, notebook: str, name: str) -> Batch | None:
    found = [each for each in store.batches(notebook=notebook, name=name) if each.draft]
    return found[-1] if found else None
