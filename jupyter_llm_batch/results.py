"""From raw result lines back to the user's shape, by custom_id only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from . import adopting, foreign, frames, leftovers, payloads, planning, providers, schemas, sources
from .answers import Unreadable
from .collecting import NO_KEY, without_key
from .errors import Damaged, NotFound
from .lifecycle import may_be_billed, outcome_of
from .models import Batch, Job, JobState, Mode, Outcome, Result
from .recent import lean
from .rowlog import NO_ANSWER
from .store import Store
from .submission import LEFT_OUT, ROWS_FILE


@cache
def _reader(provider: str) -> providers.Adapter:
    """Return an adapter for its pure half; it has no key and connects to nothing."""
    return providers.reader(provider)


def read(
    store: Store,
    batch: Batch,
    *,
    whole: bool = False,
    damaged: Collection[Path] = (),
    early: bool = False,
) -> list[Result | None]:
    """Return the result of every row, in the order of the input; None where there is none yet.

    Rows that have an outcome but no line of their own (missing, withdrawn, refused as a whole) get
    a result that says so.

    Parameters
    ----------
    whole
        With each raw line and what the model thought; without them the answers alone are held.
    damaged
        Files that are not what they were, and could not be mended: nothing in them is believed.
    early
        With the answers that incomplete downloads of unfinished jobs have brought so far.
    """
    outcomes = store.pack(batch.id, "outcomes")
    ids = custom_ids(store, batch)
    found: list[Result | None] = [None] * len(outcomes)
    _own(store, batch, found, whole=whole, damaged=damaged)
    if batch.sources:
        _inherited(store, batch, found, whole=whole, damaged=damaged)
    jobs = {job.number: job for job in store.jobs(batch.id)}
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    for row, code in enumerate(outcomes):
        outcome = outcome_of(code)
        if outcome is Outcome.OK and (invalid := found[row]) and invalid.code == schemas.INVALID:
            # Paid for and accepted when it was collected, however the schema is read today.
            found[row] = schemas.accepted(invalid)
        elif outcome is Outcome.OK and found[row] is None:
            # It was there when it was collected, and its file is not what it was then.
            found[row] = Result(
                custom_id=ids[row],
                outcome=Outcome.MISSING,
                error="the file that holds this answer is damaged",
                billed=True,
            )
        elif outcome is not None and found[row] is None:
            found[row] = Result(
                custom_id=ids[row],
                outcome=outcome,
                code=_code(jobs.get(owners[row]), outcome),
                error=_reason(jobs.get(owners[row]), outcome),
                billed=may_be_billed(code),
            )
        elif outcome is None:
            found[row] = None
        elif (result := found[row]) and outcome is not Outcome.OK and may_be_billed(code):
            found[row] = replace(result, billed=True)  # an earlier attempt may have been
    if early:
        _so_far(store, batch, found, ids)
    return found


def _so_far(store: Store, batch: Batch, found: list[Result | None], ids: Sequence[str]) -> None:
    """Add the answers that jobs have brought which are not over, since their files came short."""
    rows = {custom_id: row for row, custom_id in enumerate(ids)}
    for job in store.jobs(batch.id):
        if job.state is not JobState.COLLECTING:
            continue
        read_line = schemas.checked(_reader(job.provider).parse, batch.recipe.schema)
        for part in job.parts:
            path = _result_file(store, job, part)
            for file in [*([path] if path.exists() else []), *leftovers.of(path)]:
                for line in payloads.lines(file):
                    result = read_line(line, job.endpoint)
                    row = rows.get(result.custom_id, -1)
                    if row >= 0 and found[row] is None and result.outcome is Outcome.OK:
                        found[row] = result


#: With this, texts of the simulator's say so themselves.
_SIMULATED = "(simulated "

_WITHOUT_LINE = {
    Outcome.MISSING: "the provider gave no line for this row",
    Outcome.EXPIRED: "not executed before the completion window ended",
    Outcome.CANCELLED: "cancelled before it was executed",
}


def _code(job: Job | None, outcome: Outcome) -> str | None:
    nameless = outcome is Outcome.MISSING and job is not None and job.unassigned
    return NO_KEY if nameless else None


def unassigned(store: Store, batch: Batch) -> list[Result]:
    """Return the answers that name no row of the batch, with their raw lines."""
    ids = {*custom_ids(store, batch)}
    found = []
    for job in store.jobs(batch.id):
        parse = schemas.legible(_reader(job.provider).parse)
        for path in result_files(store, job) if job.unassigned else ():
            for line in payloads.lines(path):
                result = parse(line, job.endpoint)
                if result.outcome is Outcome.OK and result.custom_id not in ids:
                    found.append(replace(result, raw=line.rstrip(b"\r\n")))
    return found


def _reason(job: Job | None, outcome: Outcome) -> str:
    """Return why a row without a line of its own has its outcome."""
    if _code(job, outcome) and job is not None:
        return without_key(job.unassigned)
    why = job.error if job is not None else None
    if job is not None and job.rest is Outcome.FAILED and outcome is not Outcome.FAILED:
        why = None  # it says why the rest of the job's rows was not sent
    if outcome is Outcome.MISSING and job is not None and job.mode is Mode.REALTIME:
        return why or NO_ANSWER
    return why or _WITHOUT_LINE.get(outcome, outcome.value)


def _own(
    store: Store,
    batch: Batch,
    found: list[Result | None],
    *,
    whole: bool,
    damaged: Collection[Path],
) -> None:
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    rows = {custom_id: row for row, custom_id in enumerate(custom_ids(store, batch))}
    for job in store.jobs(batch.id):
        number = job.number
        for result in _results(store, batch, job, whole=whole, damaged=damaged):
            row = rows.get(result.custom_id, -1)
            # Of the job that gave a row its outcome its answer counts, else its first line.
            if row >= 0 and owners[row] == number and _is_better(result, found[row]):
                found[row] = result


def _results(
    store: Store, batch: Batch, job: Job, *, whole: bool, damaged: Collection[Path]
) -> Iterator[Result]:
    """Yield the results of a job in the order of their lines."""
    harmed = any(_result_file(store, job, part) in damaged for part in job.parts)
    parsed = None if whole or harmed else store.recent.take(job)
    if parsed is not None:
        yield from parsed
        return
    parse = _line_reader(batch, job)
    for path in result_files(store, job):
        for line in payloads.lines(path) if path not in damaged else ():
            result = parse(line, job.endpoint)
            yield replace(result, raw=line.rstrip(b"\r\n")) if whole else lean(result)


def _line_reader(batch: Batch, job: Job) -> Callable[[bytes, str], Result]:
    """Return what reads the result lines of a job, from the first on."""
    parse = schemas.checked(_reader(job.provider).parse, batch.recipe.schema)
    return foreign.Lines(parse, job.provider) if batch.adopted else parse


def _is_better(result: Result, known: Result | None) -> bool:
    """Whether a line of a row takes the place of an earlier one, as in `collecting.Reconciler`."""
    if known is None:
        return True
    return result.outcome is Outcome.OK and known.outcome is not Outcome.OK


def custom_ids(store: Store, batch: Batch) -> list[str]:
    """Return the custom_id of every row, in order."""
    if batch.adopted:
        return adopting.read_keys(store.pack(batch.id, adopting.KEYS))
    return [planning.custom_id(batch.id, row) for row in range(batch.rows)]


def _inherited(
    store: Store,
    batch: Batch,
    found: list[Result | None],
    *,
    whole: bool,
    damaged: Collection[Path],
) -> None:
    taken = sources.read(store.pack(batch.id, "sources"), batch.sources)
    theirs: dict[str, list[Result | None]] = {}
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    for row, (source, there) in taken.items():
        if owners[row]:
            continue  # asked again meanwhile, by this batch itself
        if source == batch.id:
            found[row] = found[there]  # an equal prompt, asked once
            continue
        if source not in theirs:
            origin = store.batch(source)
            theirs[source] = read(store, origin, whole=whole, damaged=damaged) if origin else []
        if there < len(theirs[source]):
            found[row] = theirs[source][there]


class Harm(msgspec.Struct, frozen=True):
    """A part of a job's results that is not on disk as it came."""

    job: Job
    part: str
    path: Path
    what: str


def harmed(store: Store, batch: Batch) -> list[Harm]:
    """Return the result files of a batch, and of those it takes answers from, that are damaged."""
    found = []
    for batch_id in dict.fromkeys([batch.id, *batch.sources]):
        for job in store.jobs(batch_id):
            for part in job.parts if job.state in {JobState.DONE, JobState.GONE} else ():
                path = _result_file(store, job, part)
                known = job.sums.get(part, "")
                if job.state is JobState.GONE and not known:
                    continue  # it may never have come
                if what := payloads.harm(path, known):
                    found.append(Harm(job, part, path, what))
    return found


def unread(store: Store, job: Job, instead: Mapping[Path, Path]) -> int:
    """Return how many rows of a job, answered when it was collected, its files would lack.

    Parameters
    ----------
    instead
        Files that are to take the place of others.
    """
    outcomes = store.pack(job.batch_id, "outcomes")
    owners = memoryview(store.pack(job.batch_id, "owners")).cast("I")
    batch = store.batch(job.batch_id)
    ids = custom_ids(store, batch) if batch else []
    wanted = {
        ids[row]
        for row in store.job_rows(job.id)
        if owners[row] == job.number and outcome_of(outcomes[row]) is Outcome.OK
    }
    parse = schemas.legible(_reader(job.provider).parse)
    if batch and batch.adopted:
        parse = foreign.Lines(parse, job.provider)
    paths = [_result_file(store, job, part) for part in job.parts]
    for path in (instead.get(path, path) for path in paths):
        for line in payloads.lines(path) if path.exists() else ():
            wanted.discard(parse(line, job.endpoint).custom_id)
    return len(wanted)


def _result_file(store: Store, job: Job, part: str) -> Path:
    return store.folder_of(job.batch_id) / f"{Path(job.payload).stem}.{part}.jsonl"


def result_files(store: Store, job: Job) -> list[Path]:
    """Return the files that hold a job's result lines."""
    paths = [_result_file(store, job, part) for part in job.parts]
    return [path for path in paths if path.exists()]


def value(store: Store, batch: Batch, found: list[Result | None], kind: Any = None) -> Any:
    """Return the answers in the shape of the input.

    Parameters
    ----------
    kind
        The user's class for answers that follow a schema; without it they are plain dicts.
    """
    # Columns of polars and pyarrow are made of plain values.
    answers = _answers(found, kind if batch.shape.library in {"", "pandas"} else None)
    if batch.shape.kind == "one":
        return answers[0]
    if batch.shape.kind == "list":
        return answers
    try:
        return frames.restore(
            batch.shape,
            store.folder_of(batch.id) / ROWS_FILE,
            answers,
            fields=_columns(batch, found) if batch.shape.kind == "frame" else None,
            errors=[_error(result) for result in found],
            reasons=[_finish(batch, result) for result in found],
            models=models(store, batch) if batch.routed else None,
        )
    except Unreadable as error:
        raise Damaged(
            f"the copy of {batch.title}'s input cannot be read "
            f"({str(error)[:100]}): run its cell again with the same rows, which "
            f"costs nothing and writes it anew, or `%llm_batch export {batch.title} FILE`"
        ) from error


def models(store: Store, batch: Batch) -> list[str | None]:
    """Return the model that each row was asked of; None for rows that were left out."""
    if not batch.routed:
        return [batch.models[0] if batch.models else None] * batch.rows
    picks = struct.iter_unpack("<H", store.pack(batch.id, "models"))
    return [None if pick == LEFT_OUT else batch.models[pick] for (pick,) in picks]


def _columns(batch: Batch, found: list[Result | None]) -> dict[str, list[Any]] | None:
    """Return the fields of a schema as columns; None where it names none."""
    names = [] if batch.recipe.schema is None else schemas.fields(batch.recipe.schema)
    if not names:
        return None
    parsed = [result.parsed if result is not None else None for result in found]
    return {
        name: [each.get(name) if isinstance(each, dict) else None for each in parsed]
        for name in names
    }


def _answers(found: list[Result | None], kind: Any = None) -> list[Any]:
    """Return what is bound for every row.

    Where some row has several answers (``n``) every row has a list of them; so with vectors.
    """
    oks = [result if result and result.outcome is Outcome.OK else None for result in found]
    several = any(result and result.choices is not None for result in oks)
    vectors = any(result and result.vectors is not None for result in oks)
    return [
        None if result is None else _answer(result, kind, several=several, vectors=vectors)
        for result in oks
    ]


def _answer(result: Result, kind: Any, *, several: bool, vectors: bool) -> Any:
    if result.parsed is not None:
        return schemas.build(kind, result.parsed)
    if result.vector is not None:
        return (result.vectors or [result.vector]) if vectors else result.vector
    text = result.text
    if text is None and result.tool_calls:
        text = _calls(result)
    if several:
        return result.choices if result.choices is not None else [text]
    return text


def _calls(result: Result) -> str:
    """Return tool calls as a cell of text like every other one; `results()` has the objects."""
    try:
        return msgspec.json.encode(result.tool_calls).decode()
    except (ValueError, TypeError, RecursionError):
        names = ", ".join(call.name for call in result.tool_calls)
        return f"(calls that are no JSON: {names}; batch.results() has them)"


def _error(result: Result | None) -> str | None:
    if result is None or result.outcome is Outcome.OK:
        return None
    words = result.error or result.code or ""
    return f"{result.outcome}: {words}" if words else str(result.outcome)


def _finish(batch: Batch, result: Result | None) -> str | None:
    """Return why an answer ended; there a simulated number, choice or vector says what it is."""
    if result is None:
        return None
    carries = result.outcome is not Outcome.OK or _SIMULATED in (result.text or "")
    if carries or not batch.simulated:
        return result.finish_reason
    return f"{result.finish_reason} (simulated)" if result.finish_reason else "simulated"


def find_row(store: Store, batch: Batch, wanted: str) -> int:
    """Return the position of the row that a user names.

    Parameters
    ----------
    wanted
        The custom_id in an adopted batch; the position; or else the first such label of the
        input's index, or key of its dict.

    Raises
    ------
    NotFound
        There is no such row.
    """
    if batch.adopted and wanted in (ids := custom_ids(store, batch)):
        return ids.index(wanted)
    if wanted.isdecimal() and int(wanted) < batch.rows:
        return int(wanted)
    labels = _labels(store, batch)
    if wanted in labels:
        return labels.index(wanted)
    other = "a custom_id" if batch.adopted else "a label of the input's index"
    raise NotFound(
        f"{batch.title} has no row {wanted!r}: its rows are 0 to {batch.rows - 1}"
        + (f", or say {other}" if batch.adopted or labels else "")
    )


def _labels(store: Store, batch: Batch) -> list[str]:
    """Return the index of a pandas input, or the keys of a dict, as a user types them."""
    if batch.adopted or (batch.shape.kind != "dict" and batch.shape.library != "pandas"):
        return []
    bound = value(store, batch, [None] * batch.rows)
    return [str(label) for label in (bound if batch.shape.kind == "dict" else bound.index)]


def request_line(store: Store, batch: Batch, row: int) -> tuple[bytes, Job]:
    """Return the exact request of a row, as it was sent last, and its job.

    Raises
    ------
    NotFound
        The batch has no such row, or it was left out.
    """
    if not 0 <= row < batch.rows:
        raise NotFound(f"{batch.title} has rows 0 to {batch.rows - 1}")
    for job in reversed(store.jobs(batch.id)):
        rows = store.job_rows(job.id)
        if any(start <= row < stop for start, stop in rows.pairs):
            path = store.folder_of(batch.id) / job.payload
            if batch.adopted and not path.exists():
                break
            for here, line in zip(rows, payloads.lines(path), strict=False):
                if here == row:
                    return line, job
    if batch.adopted:
        raise NoRequest(batch, job)
    taken = sources.read(store.pack(batch.id, "sources"), batch.sources)
    if row in taken:
        source, there = taken[row]
        origin = store.batch(source)
        if origin is not None:
            return request_line(store, origin, there)
    raise NotFound(f"row {row} of {batch.title} was left out (--skip-null)")


class NoRequest(NotFound):
    """The request of a row of `job`, which was created elsewhere, is not here."""

    def __init__(self, batch: Batch, job: Job) -> None:
        reason = job.unasked or "what the provider handed out has no request of its own for it"
        super().__init__(
            f"{batch.title} was created elsewhere, and the request of this row is not here: "
            f"{reason}"
        )
        self.job = job


def has_requests(store: Store, batch: Batch) -> bool:
    """Whether the requests of a batch are here, which of what was created elsewhere is not sure."""
    if not batch.adopted:
        return True
    folder = store.folder_of(batch.id)
    return any((folder / job.payload).exists() for job in store.jobs(batch.id))


def read_row(store: Store, batch: Batch, row: int) -> Result | None:
    """Return the whole result of one row without those of the others; None where there is none."""
    if outcome_of(store.pack(batch.id, "outcomes")[row]) is None:
        return None
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    if not owners[row]:
        taken = sources.read(store.pack(batch.id, "sources"), batch.sources)
        source, there = taken.get(row, ("", 0))
        origin = store.batch(source) if source else None
        return read_row(store, origin, there) if origin else read(store, batch)[row]
    wanted = custom_ids(store, batch)[row]
    for job in store.jobs(batch.id):
        if job.number != owners[row]:
            continue
        parse = _line_reader(batch, job)
        found = None
        for path in result_files(store, job):
            for line in payloads.lines(path):
                if batch.adopted or wanted.encode() in line:
                    result = parse(line, job.endpoint)
                    if result.custom_id == wanted and _is_better(result, found):
                        found = replace(result, raw=line.rstrip(b"\r\n"))
        if found is not None:
            return found
    return read(store, batch, whole=True)[row]  # no line of its own: what became of its job


def prompt_text(job: Job, line: bytes) -> str:
    """Return the prompt of a request line, for people to read."""
    return _reader(job.provider).prompt_of(line)


#: The kinds of tokens that exported rows tell.
_COUNTED = ("input", "output", "cached", "reasoning")
#: What exported rows have beside the answer.
_RECORDED = {
    "row", "custom_id", "outcome", "error", "finish_reason", "model", "cost_usd", "realtime_usd",
    *(f"{kind}_tokens" for kind in _COUNTED),
}  # fmt: skip


def job_of_rows(store: Store, batch: Batch) -> dict[int, Job]:
    """Return the job that answered each row; rows of earlier batches have theirs."""
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    jobs = {job.number: job for job in store.jobs(batch.id)}
    found = {row: jobs[number] for row, number in enumerate(owners) if number in jobs}
    taken = sources.read(store.pack(batch.id, "sources"), batch.sources)
    theirs: dict[str, dict[int, Job]] = {batch.id: found}
    for row, (source, there) in taken.items():
        if row in found:
            continue
        if source not in theirs:
            origin = store.batch(source)
            theirs[source] = job_of_rows(store, origin) if origin else {}
        if there in theirs[source]:
            found[row] = theirs[source][there]
    return found


def as_records(batch: Batch, found: list[Result | None]) -> list[dict[str, Any]]:
    """Return one plain mapping per row, for export."""
    records: list[dict[str, Any]] = []
    # A series may be called anything; here its answers have neighbours.
    column = "answer" if batch.shape.column in _RECORDED else batch.shape.column
    for row, (result, answer) in enumerate(zip(found, _answers(found), strict=True)):
        record: dict[str, Any] = {
            "row": row,
            **({"custom_id": result.custom_id if result else None} if batch.adopted else {}),
            "outcome": str(result.outcome) if result else None,
            column: answer,
            "error": _error(result),
            "finish_reason": _finish(batch, result),
            "model": result.model if result else None,
        }
        usage = msgspec.structs.asdict(result.usage) if result else {}
        record |= {f"{kind}_tokens": usage.get(kind) for kind in _COUNTED}
        records.append(record)
    return records
