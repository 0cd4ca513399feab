"""Cost and time of the unfinished rows of a batch, and when to ask the user. No I/O here.

Based on the batch's own answers where there are some. Before that, on the size of its prompts and
the limit of output tokens, which gives a ceiling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from statistics import median

import msgspec

from ..core.batch import Batch
from ..core.job import Job, JobState
from ..core.lifecycle import TERMINAL
from ..core.request import Mode
from ..core.result import Outcome, Usage
from ..core.row_codes import rows_to_finish
from .prices import PriceBook

#: A deadline that was seen this much too late passed while nobody watched (seconds).
LATE = 60.0

#: A batch without progress is stuck after this many times the longest of the latest batches,
STUCK_TIMES = 2.0
#: but never before this, and after that where nothing is known of earlier ones (seconds).
STUCK_LEAST, STUCK_UNKNOWN = 1_800.0, 12 * 3_600.0

#: English text has about four characters to a token.
_BYTES_PER_TOKEN = 4


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Unfinished rows, and what they will cost.

    Attributes
    ----------
    cost
        USD; None where the price or the length of the answers is not known.
    measured
        Based on this batch's own answers, not on a ceiling.
    """

    rows: int
    cost: Decimal | None
    measured: bool


def unfinished_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Return the unfinished jobs of a batch, those that wait for the user's OK included."""
    over = {*TERMINAL, JobState.COLLECTING}
    return [job for job in jobs if job.mode is Mode.BATCH and job.state not in over]


def rows_to_ask(jobs: Iterable[Job]) -> list[tuple[Job, int]]:
    """Return the jobs with rows that may be sent in real time, and at most how many rows."""
    jobs = [*jobs]
    return [(job, job.rows) for job in unfinished_jobs(jobs)] + [
        (job, job.rows - (job.counts.done if job.counts else 0))
        for job in jobs
        if job.mode is Mode.BATCH and job.state is JobState.COLLECTING
    ]


def rows_back(outcomes: bytes, owners: bytes) -> Mapping[int, int]:
    """Return how many rows without an answer are sent in real time too, by job number.

    0 stands for earlier batches.
    """
    rows = rows_to_finish(outcomes)
    numbers = memoryview(owners).cast("I")
    return Counter(numbers[row] for row in rows)


def remaining_rows(
    batch: Batch,
    jobs: Sequence[Job],
    mode: Mode,
    book: PriceBook,
    back: Mapping[int, int] | None = None,
) -> Rest:
    """Return the unfinished rows, and their cost if they are sent in `mode`.

    What a provider has done of a running job already counts as well: nobody knows which rows they
    are.

    Parameters
    ----------
    back
        Rows that came back without an answer and are sent as well; see `rows_back`.
    """
    if mode is Mode.BATCH:
        return _sum(batch, jobs, [(job, job.rows) for job in unfinished_jobs(jobs)], mode, book)
    rows = rows_to_ask(jobs)
    known = {job.number: job for job in jobs}
    for number, count in (back or {}).items():
        # Of which model rows of earlier batches are nobody can tell here: the dearest is assumed.
        dearest = max(jobs, key=lambda job: _sum(batch, jobs, [(job, 1)], mode, book).cost or 0)
        rows.append((known.get(number, dearest), count))
    return _sum(batch, jobs, rows, mode, book)


def _sum(
    batch: Batch, jobs: Sequence[Job], rows: Sequence[tuple[Job, int]], mode: Mode, book: PriceBook
) -> Rest:
    per_row = measured_tokens(jobs)
    total, measured = Decimal(0), True
    several = sum(count for _, count in rows)
    for job, count in rows:
        usage = per_row.get((job.provider, job.model))
        measured = measured and usage is not None
        part = row_price(job, usage or _ceiling(batch, job), mode, book)
        if part is None:
            return Rest(rows=several, cost=None, measured=measured)
        total += part * count
    return Rest(rows=several, cost=total, measured=measured)


def measured_tokens(jobs: Iterable[Job]) -> dict[tuple[str, str], tuple[Usage, int]]:
    """Return the tokens of a model's answers so far, and how many they were."""
    sums: dict[tuple[str, str], tuple[Usage, int]] = {}
    for job in jobs:
        rows = job.tally.get(Outcome.OK, 0)
        if rows:
            usage, before = sums.get((job.provider, job.model), (Usage(), 0))
            sums[job.provider, job.model] = usage + job.usage, before + rows
    return sums


def _ceiling(batch: Batch, job: Job) -> tuple[Usage, int] | None:
    most = batch.recipe.max_tokens
    if batch.recipe.endpoint == "embeddings":
        most = 0
    if most is None:
        return None
    return Usage(input=job.bytes // _BYTES_PER_TOKEN, output=most * job.rows), job.rows


def row_price(
    job: Job, usage: tuple[Usage, int] | None, mode: Mode, book: PriceBook
) -> Decimal | None:
    """Return the price of one row; that of the dearest model where a job has several."""
    if usage is None:
        return None
    tokens, rows = usage
    url = job.account.base_url if job.account else ""
    prices: list[Decimal] = []
    for model in job.models or [job.model]:
        if mode is Mode.REALTIME:
            price = book.realtime(job.provider, model, tokens, url=url)
        else:
            cost = book.cost(job.provider, model, tokens, url=url)
            price = cost.batch if cost else None
        if price is None:
            return None
        prices.append(price / rows)
    return max(prices)


# -- deadlines -------------------------------------------------------------------------------------


def is_due(batch: Batch, jobs: Iterable[Job], now: float) -> bool:
    """Whether the deadline has passed, rows are unfinished, and nothing was decided."""
    return (
        batch.deadline is not None
        and now >= batch.deadline
        and not (batch.cut or batch.held or batch.cancel_requested or batch.finished_at)
        and bool(unfinished_jobs(jobs))
    )


def deadline_doubt(
    batch: Batch,
    jobs: Sequence[Job],
    now: float,
    book: PriceBook,
    back: Mapping[int, int] | None = None,
) -> str:
    """Return why the user has to decide about a deadline that has passed; empty if not."""
    assert batch.deadline is not None
    if now - batch.deadline > LATE:
        return "it passed while no kernel ran"
    if batch.deadline_cost is None:
        return ""
    cost = remaining_rows(batch, jobs, Mode.REALTIME, book, back).cost
    if cost is None:
        return "what it would cost is not known"
    if cost > Decimal(str(batch.deadline_cost)):
        return f"it would cost more than the ${batch.deadline_cost:,.2f} that you allowed"
    return ""


def stuck_for(jobs: Iterable[Job], now: float, history: Sequence[float]) -> float:
    """Return for how long running jobs have made no progress, if that is strange; else 0.

    Parameters
    ----------
    history
        Durations in seconds of earlier batches of this provider.
    """
    running = [job for job in jobs if job.mode is Mode.BATCH and job.state is JobState.RUNNING]
    if not running:
        return 0.0
    # What was created elsewhere has been looked at since it was adopted, not since it was sent.
    seen = (max(job.progress_at, job.submitted_at or 0.0, job.created_at) for job in running)
    still = now - max(seen)
    patience = STUCK_TIMES * max(history) if len(history) >= 3 else STUCK_UNKNOWN
    return still if still > max(patience, STUCK_LEAST) else 0.0


def usual_duration(history: Sequence[float]) -> float | None:
    """Return how long batches of this provider took lately."""
    return median(history) if history else None
