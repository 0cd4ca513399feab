"""Retry rounds: new jobs of the same batch, made of request lines that are already on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.batch import Batch
from ..core.errors import Damaged, UsageProblem
from ..core.ids import Ranges, custom_id
from ..core.job import Job
from ..core.request import Limits, Mode
from ..core.row_codes import (
    WAITING,
    is_cut,
    may_be_billed,
    rows_cut,
    rows_without_answer,
)
from ..costs import budget
from ..storage import files, inherited_rows
from ..storage.records import Lease
from ..storage.store import Store
from .inherit import caught_up
from .splitter import Splitter

#: Name of the pack that says, a byte a row, whether an earlier attempt may have been billed.
BILLED = "billed"

#: Its bit for rows with an answer that was cut, which counts until there is a better one.
CUT_BEFORE = 2


class DamagedRequests(Damaged):
    """The request lines of `job` are not what was written."""

    def __init__(self, message: str, job: Job) -> None:
        super().__init__(message)
        self.job = job


class NotHere(UsageProblem):
    """Request lines were never on this machine."""


def retry(
    store: Store,
    held: Lease,
    batch: Batch,
    limits_of: Callable[[Job], Limits],
    now: float,
    rules: budget.Rules,
    *,
    unbilled: bool = False,
) -> int:
    """Send the rows of an ended batch that have no answer again; return how many.

    With `unbilled` those that may have been billed are left as they are. What earlier batches have
    got by retries of their own is taken over, and what they ask now is waited for. The other
    parameters are those of `again`.
    """
    outcomes = caught_up(store, batch)
    rows = rows_without_answer(outcomes)
    if unbilled:
        rows = [row for row in rows if not may_be_billed(outcomes[row])]
    sent = again(store, held, batch, rows, limits_of, now, rules, outcomes=outcomes)
    if not sent and outcomes != store.pack(batch.id, "outcomes"):
        packs = {"outcomes": outcomes}
        if WAITING in outcomes:
            store.add_round(held, batch.round, [], packs, by_user=True)
        else:
            store.put_packs(held, packs)
    return sent


def cut_rows(store: Store, batch: Batch, outcomes: bytes) -> list[int]:
    """Return the rows whose answers were cut, and lie with this batch, to be sent again."""
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    return [row for row in rows_cut(outcomes) if owners[row]]


def again(
    store: Store,
    held: Lease,
    batch: Batch,
    rows: Iterable[int],
    limits_of: Callable[[Job], Limits],
    now: float,
    rules: budget.Rules | None = None,
    *,
    outcomes: bytes = b"",
) -> int:
    """Plan `rows` of `batch` as one more round, durably, and return how many are sent.

    Rows that share the answer of another row follow it.

    Parameters
    ----------
    limits_of
        Returns the limits for jobs of the same kind as a job.
    rules
        The user asked for this round: it is money beyond what was promised, held to these.
    outcomes
        What is to be journaled with it of the other rows; by default what stands there.

    Raises
    ------
    UsageProblem
        It may cost more than is allowed.
    """
    wanted, taken = _places(store, batch, rows)
    if not wanted:
        return 0
    written = _Round(store, batch, limits_of)
    try:
        written.write(wanted)
        promise = None
        if rules is not None:
            count, in_full = len(written.sent), written.mode is Mode.REALTIME
            promise = budget.check_sending(
                store, batch, count, written.size, rules, in_full=in_full
            )
    except BaseException as error:
        written.discard()
        if isinstance(error, DamagedRequests) and error.job.batch_id == batch.id:
            store.note(held, error.job, damaged=True)
        raise
    planned = written.commit(now)
    if not written.sent:
        return 0
    packs, names = _packs(store, batch, outcomes, written.sent, taken)
    by_user = rules is not None
    if store.add_round(
        held, written.number, planned, packs, sources=names, reserve=promise, by_user=by_user
    ):
        return len(written.sent)
    written.remove(planned)
    return 0


class _Round:
    """The payload files of one more round, made of request lines that are on disk."""

    def __init__(self, store: Store, batch: Batch, limits_of: Callable[[Job], Limits]) -> None:
        self._store = store
        self._batch = batch
        self._limits_of = limits_of
        self._jobs = store.jobs(batch.id)
        self._folder = files.private_folder(store.folder_of(batch.id))
        self._splitter = Splitter(first=max((job.number for job in self._jobs), default=0) + 1)
        self._writers: dict[int, files.PayloadWriter] = {}
        self._origins: dict[int, Job] = {}
        self.mode = Mode.REALTIME if batch.realtime or batch.cut else Mode.BATCH
        self.number = batch.round + 1
        self.sent: set[int] = set()

    @property
    def size(self) -> int:
        """Bytes of all requests."""
        return sum(draft.bytes for draft in self._splitter.drafts)

    def write(self, wanted: set[int]) -> None:
        """Write the request lines of the wanted rows, within the limits of their jobs."""
        for row, line, origin in _lines(self._store, self._batch, self._jobs, wanted):
            models = origin.models or [origin.model]
            limits = self._limits_of(origin)
            weight = 1 if limits.weigh is None else limits.weigh(line)
            draft = self._splitter.place(
                row, origin.provider, models[0], len(line), limits, weight=weight, mode=self.mode
            )
            draft.models += [model for model in models if model not in draft.models]
            if draft.number not in self._writers:
                path = self._folder / _name(self.number, draft.number)
                self._writers[draft.number] = files.PayloadWriter(path)
                self._origins[draft.number] = origin
            self._writers[draft.number].write(line)
            self.sent.add(row)

    def discard(self) -> None:
        """Let go of what was not committed."""
        for writer in self._writers.values():
            writer.discard()

    def commit(self, now: float) -> list[tuple[Job, Ranges]]:
        """Make the files durable; return their jobs."""
        for writer in self._writers.values():
            writer.commit()
        files.sync_folder(self._folder)
        planned: list[tuple[Job, Ranges]] = []
        for draft in self._splitter.drafts:
            endpoint = self._origins[draft.number].endpoint
            file = _name(self.number, draft.number)
            job = draft.job(self._batch.id, self.number, endpoint, file, now)
            planned.append((job, draft.rows))
        return planned

    def remove(self, planned: list[tuple[Job, Ranges]]) -> None:
        """Remove the files of a round that was not journaled."""
        for job, _ in planned:
            (self._folder / job.payload).unlink(missing_ok=True)


def _packs(
    store: Store,
    batch: Batch,
    outcomes: bytes,
    sent: set[int],
    taken: dict[int, tuple[str, int]],
) -> tuple[dict[str, bytes], list[str]]:
    """Return the per-row data of a round that sends `sent`, and the batches it takes answers of."""
    after = bytearray(outcomes or store.pack(batch.id, "outcomes"))
    followers = [row for row, place in taken.items() if place[0] == batch.id and place[1] in sent]
    billed = bytearray(store.pack(batch.id, BILLED) or bytes(len(after)))
    for row in (*sent, *followers):
        billed[row] |= may_be_billed(after[row]) | (CUT_BEFORE if is_cut(after[row]) else 0)
        after[row] = WAITING
    taken = {row: place for row, place in taken.items() if row not in sent}
    packs = {"outcomes": bytes(after)} | ({BILLED: bytes(billed)} if any(billed) else {})
    names = list(dict.fromkeys([*batch.sources, *(source for source, _ in taken.values())]))
    if names:
        packs["sources"] = inherited_rows.pack(len(after), taken, names)
    return packs, names


def _places(
    store: Store, batch: Batch, rows: Iterable[int]
) -> tuple[set[int], dict[int, tuple[str, int]]]:
    """Return the rows to send, one of each that share an answer, and whose answer others take."""
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    wanted: set[int] = set()
    first: dict[tuple[str, int], int] = {}
    for row in rows:
        place = taken.get(row)
        if place is None or owners[row]:
            wanted.add(row)
        elif place[0] == batch.id:
            wanted.add(place[1])
        else:
            wanted.add(first.setdefault(place, row))
    moved = {
        row: (batch.id, first[place])
        for row, place in taken.items()
        if place in first and not owners[row]
    }
    return wanted, taken | moved


def _name(round_: int, number: int) -> str:
    return f"r{round_}-j{number}.jsonl"


def _lines(
    store: Store, batch: Batch, jobs: list[Job], wanted: set[int]
) -> Iterable[tuple[int, bytes, Job]]:
    """Yield the request line of every wanted row, once."""
    left = set(wanted)
    for job in reversed(jobs):  # the latest attempt of a row comes first
        path = store.folder_of(batch.id) / job.payload
        here = store.job_rows(job.id)
        if left.isdisjoint(here):
            continue
        if batch.adopted and not path.exists():
            continue
        harm = files.harm(path, job.sums.get("request", ""), job.bytes or None)
        if harm:
            raise DamagedRequests(
                f"the requests of {batch.title} cannot be sent again, because {path.name} {harm}: "
                "run its cell again, then only rows without an answer are sent",
                job,
            )
        # Of what was created elsewhere some rows may have no request here; they come last.
        for row, line in zip(here, files.lines(path), strict=not batch.adopted):
            if row in left:
                left.discard(row)
                yield row, line, job
    if batch.adopted and left == wanted:
        raise NotHere(
            f"{batch.title} was created elsewhere, and its requests are not here: send them again "
            "from where they came"
        )
    if left:
        yield from _inherited(store, batch, left)


def _inherited(store: Store, batch: Batch, wanted: set[int]) -> Iterable[tuple[int, bytes, Job]]:
    """Yield lines of rows whose request lies with an earlier batch, renamed to this batch."""
    by_source: dict[str, dict[int, int]] = {}
    for row, (source, there) in inherited_rows.read(
        store.pack(batch.id, "sources"), batch.sources
    ).items():
        if row in wanted:
            by_source.setdefault(source, {})[there] = row
    for source, rows in by_source.items():
        jobs = store.jobs(source)
        theirs = store.batch(source)
        if theirs is None:
            continue
        for there, line, job in _lines(store, theirs, jobs, set(rows)):
            row = rows[there]
            old = custom_id(source, there).encode()
            yield row, line.replace(old, custom_id(batch.id, row).encode(), 1), job


def has_requests(store: Store, batch: Batch) -> bool:
    """Whether the requests of a batch are here, which of what was created elsewhere is not sure."""
    if not batch.adopted:
        return True
    folder = store.folder_of(batch.id)
    return any((folder / job.payload).exists() for job in store.jobs(batch.id))
