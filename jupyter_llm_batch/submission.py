"""From what the user wrote to a planned batch on disk: render, check, split, write, journal.

Everything here runs in the user's cell. When it returns, every request, the rows and the plan are
durable; when it raises, nothing was written and nothing will be sent.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from . import earlier as before
from . import (
    estimate,
    fingerprint,
    media,
    payloads,
    planning,
    routing,
    sources,
    spending,
    tokens,
    trouble,
)
from .earlier import HASH, Earlier
from .errors import StoreProblem, UsageProblem
from .lifecycle import SKIPPED, WAITING
from .models import Batch, Content, Estimate, Job, Mode, Recipe, Rows, Shape
from .spool import Lane, Lanes, Sampler, Spool
from .store import Store

ROWS_FILE = "rows.arrow"

#: Stands for the model of a row that was left out.
LEFT_OUT = 0xFFFF

_canonical = msgspec.json.Encoder(order="deterministic").encode


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wrote, checked and ready to be planned.

    Attributes
    ----------
    contents
        One content per row; None for a row that is left out (``--skip-null``).
    template
        The cell's text as it was written; empty where there is none.
    rows
        The input, for its shape and its snapshot; None for a single prompt or for ``--split``.
    model
        The model of all rows, and of those that `models` gives none.
    models
        What names the model of each row (``--route``), read in step with `contents`.
    note
        Something the user should know before it is paid for.
    dedupe
        Ask equal prompts once.
    reuse
        Names of batches whose answers may be taken.
    max_cost
        USD that it may cost at most.
    kind
        The user's class for answers that follow a schema.
    """

    name: str
    contents: Iterable[Content | None]
    rows: Rows | None
    shape: Shape
    template: str = ""
    note: str = ""
    recipe: Recipe
    model: str = ""
    models: Iterable[Any] | None = None
    retries: int = 2
    reasks: int = 0
    dedupe: bool = False
    reuse: list[str] = []
    max_cost: float | None = None
    kind: Any = None
    notify: str = ""
    delete_uploads: bool = False
    realtime: bool = False
    sample: int = 0
    random: bool = False
    deadline: float | None = None
    deadline_cost: float | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A planned batch, not journaled yet.

    Attributes
    ----------
    same_as
        An earlier batch that asked for exactly this; then nothing is to be sent.
    first
        The first requests as text, for people to look at.
    repeats
        Rows whose prompt another row of this batch asks already.
    media, encoded
        Images and files in the requests, and the base64 of theirs in each job, by its number.
    samples
        By model, ``provider:model``, request lines to count tokens of.
    """

    batch: Batch
    jobs: list[tuple[Job, planning.Ranges]]
    packs: dict[str, bytes]
    same_as: Batch | None
    first: list[str]
    repeats: int = 0
    media: int = 0
    encoded: dict[int, int] = msgspec.field(default_factory=dict)
    samples: dict[str, list[bytes]] = msgspec.field(default_factory=dict)

    @property
    def fresh(self) -> list[int]:
        """The rows that are going to be paid for."""
        return [row for _, rows in self.jobs for row in rows]


def plan(
    store: Store,
    ask: Ask,
    lanes: Lanes,
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
    lanes
        How each model is asked.
    latest
        The latest version of this name that there is.
    dry
        Write nothing, and take the time to count tokens with tiktoken where that is possible.

    Raises
    ------
    UsageProblem
        A row cannot be asked; the message names it. Nothing was written.
    """
    batch_id = planning.new_batch_id()
    folder = store.folder_of(batch_id)
    if ask.models is None:
        lanes.of(ask.model)  # refused before anything is rendered or written
    mode = Mode.REALTIME if ask.realtime else Mode.BATCH
    spool = Spool(None if dry else folder, mode, _sampler(ask))
    filler = _Filler(spool, lanes, batch_id, earlier, dedupe=ask.dedupe)
    try:
        head, contents = fingerprint.peek(ask.contents)
        ask = msgspec.structs.replace(ask, contents=contents)
        filler.fill(ask)
        outcomes, hashes, taken = filler.outcomes, filler.hashes, filler.taken
        if not outcomes or all(code == SKIPPED for code in outcomes):
            raise UsageProblem("there is nothing to ask: every row was left out")
        same_as = before.same(versions, earlier, bytes(hashes))
        written = fingerprint.of(ask.model, ask.recipe, head)
        made_with = fingerprint.made_with(ask.recipe)
        rows = len(outcomes) - outcomes.count(SKIPPED)
        if same_as is None and ask.sample >= rows:
            raise UsageProblem(
                f"--sample {ask.sample} of {rows} {'row' if rows == 1 else 'rows'} leaves "
                "nothing to wait: leave --sample out, or ask all of them with --realtime"
            )
        if same_as is None and all(source == batch_id for source, _ in taken.values()):
            fingerprint.check(written, made_with, bytes(hashes), versions, earlier.hashes, HASH)
        if dry or same_as is not None:
            spool.discard()
        else:
            if ask.rows is not None:
                write_rows(ask.rows, folder)
            spool.commit()
    except BaseException as error:
        spool.discard()
        if not dry:
            payloads.remove(folder)
        if isinstance(error, OSError) and error.errno in trouble.NO_ROOM:
            raise StoreProblem(
                f"cannot write to {folder.parent}: {error.strerror or error}; nothing was sent. "
                "Make room, or choose another folder with %config LLMBatch.data_dir = '...' and "
                "then %reload_ext jupyter_llm_batch"
            ) from error
        raise
    if same_as is not None and not dry:
        payloads.remove(folder)
    from_batches = list(dict.fromkeys(source for source, _ in taken.values()))
    repeats = sum(source == batch_id for source, _ in taken.values())
    batch = Batch(
        id=batch_id,
        notebook=notebook,
        name=ask.name,
        version=latest + 1,
        created_at=now,
        rows=len(outcomes),
        recipe=ask.recipe,
        models=lanes.models,
        shape=ask.shape,
        plan_hash=hashlib.blake2b(hashes, digest_size=HASH).hexdigest(),
        simulated=simulated,
        max_retries=ask.retries,
        max_reasks=ask.reasks,
        reused=len(taken) - repeats,
        notify=ask.notify,
        delete_uploads=ask.delete_uploads,
        skipped=outcomes.count(SKIPPED),
        sources=from_batches,
        routed=ask.models is not None,
        written=written,
        made_with=made_with,
        realtime=ask.realtime,
        held=spool.sampled,
        deadline=None if ask.deadline is None else now + ask.deadline,
        deadline_cost=ask.deadline_cost,
        estimates=[] if same_as else _estimates(store, ask, lanes.lanes, notebook, exact=dry),
        max_cost=ask.max_cost,
    )
    jobs = [
        (
            draft.job(
                batch_id,
                0,
                ask.recipe.endpoint,
                Spool.name(draft.number),
                now,
                spool.after(draft),
                ask.recipe.cache,
            ),
            draft.rows,
        )
        for draft in spool.splitter.drafts
    ]
    packs = {
        "hashes": bytes(hashes),
        "outcomes": before.known(store, outcomes, taken),
        "owners": bytes(4 * len(outcomes)),
    }
    if taken:
        packs["sources"] = sources.pack(len(outcomes), taken, from_batches)
    if batch.routed:
        packs["models"] = bytes(filler.picks)
    first = [lane.prompt_of(line) for lane, line in spool.first]
    return Plan(
        batch=batch,
        jobs=jobs,
        packs=packs,
        same_as=same_as,
        first=first,
        repeats=repeats,
        media=spool.media,
        encoded=dict(spool.encoded),
        samples={lane.name: [*lane.meter.lines] for lane in lanes.lanes if lane.meter.rows},
    )


def _estimates(
    store: Store, ask: Ask, lanes: Iterable[Lane], notebook: str, *, exact: bool
) -> list[Estimate]:
    """Return what the requests of each model are going to use."""
    counter, method = tokens.counter() if exact else (None, "")
    found = []
    for lane in lanes:
        if lane.meter.rows:
            prompt = spending.prompt_key(lane.meaning.digest(), notebook, ask.name, ask.template)
            made = estimate.make(
                lane.meter,
                provider=lane.provider,
                model=lane.model,
                recipe=lane.recipe,
                reasks=ask.reasks,
                bound=lane.bounds.most() if lane.bounds else None,
                before=spending.past(store, lane.provider, lane.model, prompt),
                counter=counter,
                method=method,
            )
            found.append(
                msgspec.structs.replace(
                    made,
                    prompt=prompt,
                    url=lane.url,
                    full=lane.meter.rows if ask.realtime else lane.sampled,
                    late=ask.deadline is not None,
                )
            )
    return found


def _sampler(ask: Ask) -> Sampler | None:
    """Return what chooses the sample; a random one is the same whenever the cell is run."""
    if not ask.sample:
        return None
    if not ask.random:
        return Sampler(ask.sample)
    if ask.rows is None:
        raise UsageProblem("--random chooses among rows: it needs --over ROWS")
    chosen = random.Random(ask.name).sample(range(len(ask.rows)), min(ask.sample, len(ask.rows)))  # noqa: S311 - nothing secret
    return Sampler(ask.sample, frozenset(chosen))


class _Filler:
    """Writes each row's line, or notes where its answer comes from."""

    def __init__(
        self, spool: Spool, lanes: Lanes, batch_id: str, earlier: Earlier, *, dedupe: bool
    ) -> None:
        self.taken: dict[int, tuple[str, int]] = {}
        self.hashes, self.outcomes, self.picks = bytearray(), bytearray(), bytearray()
        self._spool = spool
        self._lanes = lanes
        self._batch_id = batch_id
        self._take = earlier.take
        self._rows_of: dict[bytes, int] | None = {} if dedupe else None

    def fill(self, ask: Ask) -> None:
        """Take all rows of `ask`."""
        prefix = planning.custom_id(self._batch_id, 0)[:-1]
        write, hashes, outcomes = self._spool.write, self.hashes, self.outcomes
        models = None if ask.models is None else iter(ask.models)
        lane = None if models else self._lanes.of(ask.model)[1]
        for row, content in enumerate(ask.contents):
            if models is not None:
                lane = self._routed(models, ask.model, row, left_out=content is None)
            if content is None:
                hashes += bytes(HASH)
                outcomes.append(SKIPPED)
                continue
            assert lane is not None
            if isinstance(content, str) and not content.strip():
                raise UsageProblem(f"row {row}: the prompt is blank; leave the row out")
            digest = content_hash(lane.meaning, content, row)
            hashes += digest
            outcomes.append(WAITING)
            known = self._take(digest)
            if self._rows_of is not None:
                known = self._repeated(digest, row, known)
            if known is not None:
                self.taken[row] = known
                continue
            try:
                line = lane.encode(f"{prefix}{row}", content)
            except UsageProblem as problem:
                raise UsageProblem(f"row {row}: {problem}") from None
            write(row, line, lane)
            if type(content) is list:
                self._spool.weigh(content, lane)

    def _routed(
        self, models: Iterator[Any], default: str, row: int, *, left_out: bool
    ) -> Lane | None:
        """Return the lane of a row that names its model."""
        try:
            named = next(models)
            if left_out:
                self.picks += struct.pack("<H", LEFT_OUT)
                return None
            number, lane = self._lanes.of(routing.model_name(named, default))
        except UsageProblem as problem:
            raise UsageProblem(f"row {row}: {problem}") from None
        self.picks += struct.pack("<H", number)
        return lane

    def _repeated(
        self, digest: bytes, row: int, known: tuple[str, int] | None
    ) -> tuple[str, int] | None:
        """Return where an equal prompt is asked already, in this batch too."""
        assert self._rows_of is not None
        first = self._rows_of.setdefault(digest, row)
        if first == row or known is not None:
            return known
        return self.taken.get(first, (self._batch_id, first))


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
        digest.update(b"\0json\0" + _canonical(media.meaning(content)))
    return digest.digest()


def write_rows(rows: Rows, folder: Path, name: str = ROWS_FILE) -> None:
    """Snapshot the input beside the plan, whole or not at all; an equal one stays as it is."""
    snapshot = getattr(rows, "snapshot", None)
    if snapshot is None:
        return
    temporary = payloads.temporary(folder / name)
    os.close(payloads.private_opener(str(temporary), os.O_CREAT | os.O_WRONLY))
    try:
        snapshot(temporary)
        if not (folder / name).exists() or not filecmp.cmp(temporary, folder / name, shallow=False):
            payloads.adopt(temporary, folder / name)
    finally:
        temporary.unlink(missing_ok=True)
