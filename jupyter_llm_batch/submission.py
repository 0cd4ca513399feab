"""From what the user wrote to a planned batch on disk: render, check, split, write, journal.

Everything here runs in the user's cell. When it returns, every request, the rows and the plan are
durable; when it raises, nothing was written and nothing will be sent.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from . import frames, payloads, planning, prompts, sources
from .errors import UsageProblem
from .lifecycle import SKIPPED, WAITING, may_be_billed, outcome_of
from .models import Batch, Content, Job, Outcome, Recipe, Rows, Shape
from .providers.base import Adapter, Encoder, Limits
from .store import Store

#: Bytes of a request hash.
HASH = 16

ROWS_FILE = "rows.arrow"

_canonical = msgspec.json.Encoder(order="deterministic").encode


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wrote, checked and ready to be planned.

    Attributes
    ----------
    contents
        One content per row; None for a row that is left out (``--skip-null``).
    rows
        The input, for its shape and its snapshot; None for a single prompt or for ``--split``.
    model
        ``provider:model``.
    note
        Something the user should know before it is paid for.
    """

    name: str
    contents: Iterable[Content | None]
    rows: Rows | None
    shape: Shape
    note: str = ""
    recipe: Recipe
    model: str
    retries: int = 2
    reasks: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A planned batch, not journaled yet.

    Attributes
    ----------
    same_as
        An earlier batch that asked for exactly this; then nothing is to be sent.
    first
        The first request lines, for people to look at.
    """

    batch: Batch
    jobs: list[tuple[Job, planning.Ranges]]
    packs: dict[str, bytes]
    same_as: Batch | None
    first: list[bytes]


class Earlier:
    """Answers that were paid for, or are on their way, under the same name: never asked twice.

    Found by (request hash, occurrence), so that equal prompts stay separate requests.
    """

    def __init__(self, store: Store, batches: Sequence[Batch]) -> None:
        self._places: dict[bytes, deque[tuple[str, int]]] = {}
        self.hashes: dict[str, bytes] = {}
        seen: set[tuple[str, int]] = set()
        for batch in batches:
            hashes = self.hashes[batch.id] = store.pack(batch.id, "hashes")
            outcomes = store.pack(batch.id, "outcomes")
            owners = memoryview(store.pack(batch.id, "owners")).cast("I")
            inherited = sources.read(store.pack(batch.id, "sources"), batch.sources)
            for row, code in enumerate(outcomes):
                if not _is_kept(code):
                    continue
                place = (batch.id, row) if owners[row] else inherited.get(row, (batch.id, row))
                if place not in seen:
                    seen.add(place)
                    digest = hashes[row * HASH : (row + 1) * HASH]
                    self._places.setdefault(digest, deque()).append(place)

    def take(self, digest: bytes) -> tuple[str, int] | None:
        """Return where the next occurrence of a request was asked before, or None."""
        places = self._places.get(digest)
        return places.popleft() if places else None


def _is_kept(code: int) -> bool:
    """Whether a row must not be asked again by itself: answered, under way, or maybe billed."""
    if code == SKIPPED:
        return False
    return code == WAITING or outcome_of(code) is Outcome.OK or may_be_billed(code)


def plan(
    store: Store,
    ask: Ask,
    adapter: Adapter,
    *,
    notebook: str,
    now: float,
    simulated: bool,
    earlier: Earlier,
    versions: Sequence[Batch],
    latest: int,
    dry: bool = False,
) -> Plan:
    """Render every request and write it to disk, in jobs within the provider's limits.

    Parameters
    ----------
    latest
        The latest version of this name that there is.

    Raises
    ------
    UsageProblem
        A row cannot be asked; the message names it. Nothing was written.
    """
    provider, _, model = ask.model.partition(":")
    adapter.validate(ask.recipe, model)
    batch_id = planning.new_batch_id()
    folder = store.folder_of(batch_id)
    spool = Spool(None if dry else folder, provider, model, adapter.limits(ask.recipe.endpoint))
    try:
        taken, hashes, outcomes = _fill(
            spool, ask.contents, batch_id, adapter.encoder(ask.recipe, model),
            hashlib.blake2b(adapter.meaning(ask.recipe, model), digest_size=HASH), earlier,
        )  # fmt: skip
        if not outcomes or all(code == SKIPPED for code in outcomes):
            raise UsageProblem("there is nothing to ask: every row was left out")
        same_as = _same(versions, earlier, bytes(hashes))
        if dry or same_as is not None:
            spool.discard()
        else:
            if ask.rows is not None:
                write_rows(ask.rows, folder)
            spool.commit()
    except BaseException:
        spool.discard()
        if not dry:
            payloads.remove(folder)
        raise
    if same_as is not None and not dry:
        payloads.remove(folder)
    from_batches = list(dict.fromkeys(source for source, _ in taken.values()))
    batch = Batch(
        id=batch_id,
        notebook=notebook,
        name=ask.name,
        version=latest + 1,
        created_at=now,
        rows=len(outcomes),
        recipe=ask.recipe,
        models=[ask.model],
        shape=ask.shape,
        plan_hash=hashlib.blake2b(hashes, digest_size=HASH).hexdigest(),
        simulated=simulated,
        max_retries=ask.retries,
        max_reasks=ask.reasks,
        reused=len(taken),
        skipped=outcomes.count(SKIPPED),
        sources=from_batches,
    )
    jobs = [
        (draft.job(batch_id, 0, ask.recipe.endpoint, Spool.name(draft.number), now), draft.rows)
        for draft in spool.splitter.drafts
    ]
    packs = {
        "hashes": bytes(hashes),
        "outcomes": _known(store, outcomes, taken),
        "owners": bytes(4 * len(outcomes)),
    }
    if taken:
        packs["sources"] = sources.pack(len(outcomes), taken, from_batches)
    return Plan(batch=batch, jobs=jobs, packs=packs, same_as=same_as, first=spool.first)


def _fill(
    spool: Spool,
    contents: Iterable[Content | None],
    batch_id: str,
    encode: Encoder,
    meaning: hashlib.blake2b,
    earlier: Earlier,
) -> tuple[dict[int, tuple[str, int]], bytearray, bytearray]:
    """Write each row's line, or note where its answer comes from."""
    taken: dict[int, tuple[str, int]] = {}
    hashes, outcomes = bytearray(), bytearray()
    prefix = planning.custom_id(batch_id, 0)[:-1]
    take, write = earlier.take, spool.write
    for row, content in enumerate(contents):
        if content is None:
            hashes += bytes(HASH)
            outcomes.append(SKIPPED)
            continue
        if isinstance(content, str) and not content.strip():
            raise UsageProblem(f"row {row}: the prompt is blank; leave the row out")
        digest = content_hash(meaning, content, row)
        hashes += digest
        outcomes.append(WAITING)
        known = take(digest)
        if known is not None:
            taken[row] = known
            continue
        try:
            line = encode(f"{prefix}{row}", content)
        except UsageProblem as problem:
            raise UsageProblem(f"row {row}: {problem}") from None
        write(row, line)
    return taken, hashes, outcomes


def content_hash(meaning: hashlib.blake2b, content: Content, row: int = 0) -> bytes:
    """Return the request hash: what all rows share, then what this one asks.

    It must never change for the same meaning, or an upgrade would buy answers again.
    """
    digest = meaning.copy()
    if isinstance(content, str):
        try:
            digest.update(b"\0text\0" + content.encode())
        except UnicodeEncodeError:
            raise UsageProblem(
                f"row {row}: the text holds a lone surrogate, which is not valid Unicode: "
                "clean it with text.encode('utf-8', 'replace').decode()"
            ) from None
    else:
        digest.update(b"\0json\0" + _canonical(content))
    return digest.digest()


def _same(versions: Sequence[Batch], earlier: Earlier, hashes: bytes) -> Batch | None:
    """Return the latest earlier batch that asked for exactly these rows in this order."""
    for batch in reversed(versions):
        if earlier.hashes.get(batch.id) == hashes:
            return batch
    return None


def _known(store: Store, outcomes: bytearray, taken: Mapping[int, tuple[str, int]]) -> bytes:
    """Fill in the outcomes that inherited rows have already."""
    packs: dict[str, bytes] = {}
    for row, (source, there) in taken.items():
        if source not in packs:
            packs[source] = store.pack(source, "outcomes")
        outcomes[row] = packs[source][there]
    return bytes(outcomes)


def write_rows(rows: Rows, folder: Path) -> None:
    """Snapshot the input beside the plan, whole or not at all."""
    snapshot = getattr(rows, "snapshot", None)
    if snapshot is None:
        return
    temporary = folder / f"{ROWS_FILE}.new"
    snapshot(temporary)
    payloads.adopt(temporary, folder / ROWS_FILE)


class Spool:
    """The payload files of a plan while rows are still added.

    Parameters
    ----------
    folder
        Where they are written; None writes nothing (``--dry-run``).
    """

    def __init__(self, folder: Path | None, provider: str, model: str, limits: Limits) -> None:
        self.splitter = planning.Splitter()
        self.first: list[bytes] = []
        self._folder = payloads.private_folder(folder) if folder else None
        self._lane = (provider, model)
        self._limits = limits
        self._writers: list[payloads.PayloadWriter] = []
        self._draft: planning.Draft | None = None
        self._put: Callable[[bytes], object] = len

    @staticmethod
    def name(number: int) -> str:
        """Return the file name of a first round's job."""
        return f"r0-j{number}.jsonl"

    def write(self, row: int, line: bytes) -> None:
        """Add a row to the job that has room for it."""
        if len(self.first) < 3:
            self.first.append(line)
        size = len(line)
        draft = self._draft
        if draft is not None and size <= self._limits.line_bytes and draft.has_room(size):
            draft.add(row, size)  # the common case, without the splitter's questions
        else:
            draft = self.splitter.place(row, *self._lane, size, self._limits)
        if draft is not self._draft:
            self._draft = draft
            if self._folder is not None:
                writer = payloads.PayloadWriter(self._folder / self.name(draft.number))
                self._writers.append(writer)
                self._put = writer.write
        self._put(line)

    def commit(self) -> None:
        """Make every file durable."""
        for writer in self._writers:
            writer.commit()
        if self._folder is not None:
            payloads.sync_folder(self._folder)

    def discard(self) -> None:
        """Delete every file."""
        for writer in self._writers:
            writer.discard()


# -- what the options mean -------------------------------------------------------------------------


def read_contents(
    *,
    text: str | None,
    over: Any,
    has_over: bool,
    split: bool,
    raw: bool,
    skip_null: bool,
    column: str,
    namespace: Mapping[str, Any],
) -> tuple[Iterable[Content | None], Rows | None, Shape, str]:
    """Turn cell text and rows into contents, with the shape of the answers and a note."""
    if not has_over:
        if text is None:
            raise UsageProblem("there is nothing to ask: give --over ROWS or a cell body")
        if split:
            parts = [prompts.compile(part).render_one(namespace) for part in prompts.split(text)]
            return parts, None, Shape(kind="list", column=column), ""
        prompt = prompts.compile(text).render_one(namespace)
        return [prompt], None, Shape(kind="one", column=column), ""
    if split:
        raise UsageProblem("--split divides the cell into prompts; it does not go with --over")
    rows: Rows = frames.read(over, column=column)
    if text is None:
        return prompts.ready(rows, raw=raw, skip_null=skip_null), rows, rows.shape, ""
    if raw:
        raise UsageProblem("--raw takes finished request bodies: use `%llm_batch run NAME --over`")
    template = prompts.compile(text)
    note = "" if template.names - namespace.keys() else _same_for_all(template, rows)
    contents = template.render(rows, namespace=namespace, skip_null=skip_null)
    return contents, rows, rows.shape, note


def _same_for_all(template: prompts.Template, rows: Rows) -> str:
    """Return a warning when no name of the template is a field: every row asks the same."""
    fields = {*(rows.fields or ()), *prompts.RESERVED}
    if rows.fields is None or template.names & fields:
        return ""
    first = next(iter(rows.fields), "name")
    return f"every row asks the same: the cell names no field, such as {{{{ {first} }}}}"
