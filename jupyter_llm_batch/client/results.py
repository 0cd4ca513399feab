"""From raw result lines back to the user's shape, by custom_id only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from .. import providers
from ..core import ids as ids_
from ..core.batch import Batch
from ..core.errors import Damaged
from ..core.ids import LEFT_OUT
from ..core.job import Job, JobState
from ..core.request import Mode
from ..core.result import Outcome, Result
from ..core.row_codes import may_be_billed, outcome_of
from ..data import rows as frames
from ..data import structured
from ..data.answers import Unreadable
from ..engine.reconcile import NO_KEY, without_key
from ..providers import registry
from ..providers.shared import foreign_lines
from ..storage import files, inherited_rows, partial_downloads
from ..storage.input_file import ROWS_FILE
from ..storage.parsed_cache import lean
from ..storage.realtime_log import NO_ANSWER
from ..storage.store import Store
from ..submission import adopt


@cache
def reader_of(provider: str) -> providers.Adapter:
    """Return an adapter for its pure half; it has no key and connects to nothing."""
    return registry.reader(provider)


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
        if outcome is Outcome.OK and (invalid := found[row]) and invalid.code == structured.INVALID:
            # Paid for and accepted when it was collected, however the schema is read today.
            found[row] = structured.mark_accepted(invalid)
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
        read_line, skip = line_reader(store, batch, job)
        skip()  # downloads that came short overlap and have gaps
        for part in job.parts:
            path = result_file(store, job, part)
            for file in [*([path] if path.exists() else []), *partial_downloads.of(path)]:
                for line in files.lines(file):
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
        parse = structured.never_raising(reader_of(job.provider).parse)
        for path in result_files(store, job) if job.unassigned else ():
            for line in files.lines(path):
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
            if row >= 0 and owners[row] == number and is_better(result, found[row]):
                found[row] = result


def _results(
    store: Store, batch: Batch, job: Job, *, whole: bool, damaged: Collection[Path]
) -> Iterator[Result]:
    """Yield the results of a job in the order of their lines."""
    harmed = any(result_file(store, job, part) in damaged for part in job.parts)
    parsed = None if whole or harmed else store.recent.take(job)
    if parsed is not None:
        yield from parsed
        return
    parse, skip = line_reader(store, batch, job)
    for path in (result_file(store, job, part) for part in job.parts):
        if path in damaged:
            skip()
            continue
        for line in files.lines(path) if path.exists() else ():
            result = parse(line, job.endpoint)
            yield replace(result, raw=line.rstrip(b"\r\n")) if whole else lean(result)


def line_reader(
    store: Store, batch: Batch, job: Job
) -> tuple[Callable[[bytes, str], Result], Callable[[], None]]:
    """Return what reads the result lines of a job, from the first on; and tells it of a gap."""
    parse = structured.with_schema_check(reader_of(job.provider).parse, batch.recipe.schema)
    if not batch.adopted:
        return parse, lambda: None
    lines = foreign_lines.Lines(parse, job.provider, custom_ids(store, batch))
    return lines, lines.skip


def is_better(result: Result, known: Result | None) -> bool:
    """Whether a line of a row takes the place of an earlier one, as in `collecting.Reconciler`."""
    if known is None:
        return True
    return result.outcome is Outcome.OK and known.outcome is not Outcome.OK


def custom_ids(store: Store, batch: Batch) -> list[str]:
    """Return the custom_id of every row, in order."""
    if batch.adopted:
        return adopt.read_keys(store.pack(batch.id, adopt.KEYS))
    return [ids_.custom_id(batch.id, row) for row in range(batch.rows)]


def _inherited(
    store: Store,
    batch: Batch,
    found: list[Result | None],
    *,
    whole: bool,
    damaged: Collection[Path],
) -> None:
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
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


def result_file(store: Store, job: Job, part: str) -> Path:
    """Return where one part of a job's results lies."""
    return store.folder_of(job.batch_id) / f"{Path(job.payload).stem}.{part}.jsonl"


def result_files(store: Store, job: Job) -> list[Path]:
    """Return the files that hold a job's result lines."""
    paths = [result_file(store, job, part) for part in job.parts]
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
    names = [] if batch.recipe.schema is None else structured.schema_fields(batch.recipe.schema)
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
        return structured.build_answer(kind, result.parsed)
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


#: The kinds of tokens that exported rows tell.
_COUNTED = ("input", "output", "cached", "reasoning")

#: What exported rows have beside the answer.
_RECORDED = {
    "row", "custom_id", "outcome", "error", "finish_reason", "model", "cost_usd", "realtime_usd",
    *(f"{kind}_tokens" for kind in _COUNTED),
}  # fmt: skip


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
