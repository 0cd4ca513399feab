"""What the journal knows about a batch, as one `Snapshot` in words that a person uses.

`snapshot` is the only place that decides what a batch's state is called. It is pure: the clock
and everything that was read from the store come in as arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from ...core.batch import Batch
from ...core.job import Job, JobState
from ...core.lifecycle import ACCEPTED, TERMINAL, is_failing, waits_for_user
from ...core.option_table import as_typed
from ...core.request import Mode
from ...core.result import ErrorKind, Outcome, Sample, Usage
from ...core.snapshot import JobLine, Snapshot
from ...core.text import many
from ...costs import remaining
from ...costs.prices import PriceBook
from .line import with_line, without_kernel
from .words import (
    AT_PROVIDER,
    WAITS_FOR_YOU,
    Trouble,
    describe,
    duplicates_words,
    expiring,
    is_sent_here,
    left_files_words,
    question_for_user,
    question_of_other,
    real_time_words,
    title_beside,
    trouble_words,
    unassigned_words,
)

#: Below this share of finished rows an extrapolation is a guess, and none is shown.
_ENOUGH = 0.05


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read about a batch, beside its record and its jobs.

    Attributes
    ----------
    outcomes
        Rows by `Outcome` value, and perhaps ``"skipped"``; all others are waiting.
    retryable
        Rows that a retry would send again.
    doubtful
        Those of them that may have been billed.
    unsent
        Cancelled rows that had never been sent.
    cut
        Answered rows whose answers stop before their end.
    history
        Durations in seconds of earlier batches of this provider.
    paused
        Why the batch does not move on, in the words shown to the user; empty if it does.
    trouble
        What went wrong here when the batch was to continue.
    cost, saved, saved_cache, saved_reuse
        USD, when known.
    expected, ceiling
        USD in all, while the batch is under way: what is spent and what the rest will cost.
    guessed
        `expected` is based on a guess of the length of the answers.
    unpriced
        The price of a model is not known.
    book
        The prices of what the user may decide about.
    errors, samples
        For the panel's details.
    behind
        Batches under way that ask rows of this one, whose own jobs are over, with their jobs.
    back
        Rows that came back without an answer; see `remaining.rows_back`.
    """

    outcomes: Mapping[str, int]
    retryable: int = 0
    doubtful: int = 0
    unsent: int = 0
    cut: int = 0
    history: Sequence[float] = ()
    paused: str = ""
    trouble: Trouble | None = None
    cost: float | None = None
    saved: float | None = None
    saved_cache: float | None = None
    saved_reuse: float | None = None
    expected: float | None = None
    ceiling: float | None = None
    guessed: bool = False
    unpriced: bool = False
    book: PriceBook | None = None
    errors: Sequence[ErrorKind] = ()
    samples: Sequence[Sample] = ()
    behind: Sequence[tuple[Batch, Sequence[Job]]] = ()
    back: Mapping[int, int] | None = None


class _Situation(NamedTuple):
    """What a batch does or waits for, and what the user may decide."""

    state: str
    words: str
    question: str
    choices: list[str]


def snapshot(batch: Batch, jobs: Sequence[Job], now: float, facts: Facts) -> Snapshot:
    """Describe a batch at one moment.

    Parameters
    ----------
    batch, jobs
        The batch and its jobs of all rounds, as journaled.
    now
        Unix seconds.
    """
    outcomes, unsent = facts.outcomes, facts.unsent
    rows = batch.rows - outcomes.get("skipped", batch.skipped)
    ok = outcomes.get(Outcome.OK, 0)
    failed = sum(outcomes.get(outcome, 0) for outcome in Outcome if outcome is not Outcome.OK)
    waiting = rows - ok - failed
    failed -= unsent
    progress, progress_failed = _at_provider(jobs, waiting)
    finished = batch.finished_at is not None
    state, words, question, choices = _situation(batch, jobs, now, facts)
    end = now if batch.finished_at is None else batch.finished_at
    elapsed = 0.0 if batch.draft else max(0.0, end - batch.created_at)
    moving = not finished and state not in ("draft", "paused", "attention", "stopped")
    shot = Snapshot(
        batch_id=batch.id,
        title=batch.title,
        model=_models(batch.models),
        state=state,
        words=words,
        rows=rows,
        ok=ok,
        failed=failed,
        waiting=waiting,
        progress=progress,
        progress_failed=progress_failed,
        outcomes=_told(outcomes, unsent),
        unsent=unsent,
        cut=facts.cut,
        simulated=batch.simulated,
        safe_to_close=_safe_to_close(batch, jobs) and not _is_unwell(state, jobs),
        finished=finished,
        cancelling=batch.cancel_requested and not finished,
        retryable=facts.retryable,
        doubtful=facts.doubtful,
        started_at=batch.created_at,
        elapsed=elapsed,
        remaining=_remaining(jobs, now, elapsed, facts.history) if moving else None,
        cost=facts.cost,
        saved=facts.saved,
        cached=_cached(batch, jobs),
        saved_cache=facts.saved_cache,
        saved_reuse=facts.saved_reuse,
        expected=facts.expected,
        ceiling=facts.ceiling,
        guessed=facts.guessed,
        unpriced=facts.unpriced,
        keep_until=_kept(jobs, now, finished=finished),
        notice=_notice(batch, jobs, now, facts.expected),
        jobs=[_job_line(job) for job in jobs],
        errors=list(facts.errors),
        samples=list(facts.samples),
        realtime=not finished and any(is_sent_here(job) for job in jobs),
        deadline=_deadline(batch, jobs, now),
        question=question,
        choices=choices,
        options=as_typed(batch.options),
    )
    shot = msgspec.structs.replace(shot, alone=without_kernel(shot))
    return with_line(shot, warned=bool(expiring(jobs, now)))


def _situation(batch: Batch, jobs: Sequence[Job], now: float, facts: Facts) -> _Situation:
    """Return what a batch does or waits for, and what the user may decide."""
    outcomes, unsent, cut, behind = facts.outcomes, facts.unsent, facts.cut, facts.behind
    state, words = describe(batch, jobs, now, outcomes, facts.paused, facts.trouble)
    if state == "cancelled" and unsent and unsent == outcomes.get(Outcome.CANCELLED, 0):
        words = "stopped"
    if state == "done" and cut:  # its colour is that of the worst that happened
        state, words = "partial", f"done, {many(cut, 'answer')} cut off"
    question, urgent = "", False
    choices: list[str] = []
    over = batch.finished_at is not None or batch.draft or batch.cancel_requested
    if not (over or facts.paused):
        book = facts.book or PriceBook()
        question, choices, urgent = question_for_user(
            batch, jobs, now, facts.history, book, facts.back
        )
    if behind and state in ("preparing", "collecting") and not batch.cancel_requested:
        words = f"waiting for {', '.join(title_beside(each, batch) for each, _ in behind)}"
        words += ", which asks the same rows"
        if all(waits_for_user(*each) for each in behind):
            question, urgent = question_of_other(behind[0][0], batch), True
    if urgent:
        state, words = "attention", WAITS_FOR_YOU
    return _Situation(state, words, question, choices)


def _notice(batch: Batch, jobs: Sequence[Job], now: float, expected: float | None) -> str:
    """Return what else a person should know about a batch."""
    parts = (
        real_time_words(batch, jobs),
        batch.notice,
        duplicates_words(batch, jobs, expected),
        expiring(jobs, now),
        left_files_words(jobs),
        unassigned_words(batch, jobs),
    )
    return " · ".join(filter(None, parts))


def _kept(jobs: Sequence[Job], now: float, *, finished: bool) -> float | None:
    """Return until when a provider keeps the first of the answers that it still has."""
    there = [job for job in jobs if job.state in AT_PROVIDER]
    if finished:
        there = [job for job in jobs if job.state is JobState.DONE and job.tidied != "deleted"]
    known = [job.keep_until for job in there if job.keep_until is not None]
    return min((until for until in known if until > now or not finished), default=None)


def _told(outcomes: Mapping[str, int], unsent: int) -> dict[str, int]:
    """Return rows by outcome, without those that have none or were never sent."""
    told = {**outcomes, Outcome.CANCELLED.value: outcomes.get(Outcome.CANCELLED, 0) - unsent}
    return {str(name): n for name, n in told.items() if n > 0 and name != "waiting"}


def _cached(batch: Batch, jobs: Iterable[Job]) -> float | None:
    """Return the share of the input that a prompt cache gave."""
    usage = sum((job.usage for job in jobs), Usage())
    if not usage.input or not (usage.cached or batch.recipe.cache):
        return None
    return usage.cached / usage.input


def _models(models: Sequence[str]) -> str:
    return " + ".join(models) if len(models) < 3 else f"{len(models)} models"


def troubled(shot: Snapshot, trouble: Trouble, now: float) -> Snapshot:
    """Return an earlier snapshot as it is told while no new one can be made."""
    state, words = trouble_words(trouble, now)
    shot = msgspec.structs.replace(shot, state=state, words=words, remaining=None, choices=[])
    return with_line(shot, warned=False)


def _deadline(batch: Batch, jobs: Sequence[Job], now: float) -> float | None:
    if (
        batch.deadline is None
        or batch.cut
        or batch.finished_at
        or not remaining.unfinished_jobs(jobs)
    ):
        return None
    return batch.deadline - now if batch.deadline > now else None


def _safe_to_close(batch: Batch, jobs: Sequence[Job]) -> bool:
    if batch.draft:
        return False
    if not jobs:
        return batch.finished_at is not None
    return all(job.state in ACCEPTED and not is_sent_here(job) for job in jobs)


def _is_unwell(state: str, jobs: Iterable[Job]) -> bool:
    """Whether nobody should be told that all is well."""
    return state == "stopped" or any(is_failing(job) for job in jobs)


def _at_provider(jobs: Iterable[Job], waiting: int) -> tuple[int | None, int]:
    """Return the rows that the provider has finished and we have not collected, and the failed."""
    done, failed, known = 0, 0, False
    for job in jobs:
        if job.state in AT_PROVIDER and job.counts is not None and job.counts.total:
            known = True
            done += max(0, job.counts.done + job.counts.failed - sum(job.tally.values()))
            failed += job.counts.failed
    progress = min(done, waiting)
    return (progress, min(failed, progress)) if known else (None, 0)


def _remaining(
    jobs: Sequence[Job], now: float, elapsed: float, history: Sequence[float]
) -> float | None:
    """Return the seconds left: by this batch's own pace, else by earlier batches, else None."""
    under_way = [job for job in jobs if job.state not in TERMINAL]
    paces = [_pace(job, now) for job in under_way]
    known = [pace for pace in paces if pace is not None]
    if known and len(known) == len(paces):
        left = max(known)
    elif history and not any(job.mode is Mode.REALTIME for job in under_way):
        left = median(history) - elapsed
    else:
        return None
    return left if left > 0 and math.isfinite(left) else None


def _pace(job: Job, now: float) -> float | None:
    """Return the seconds that one job needs from now on if it goes on as it did."""
    if job.state is JobState.COLLECTING:
        return 0.0
    if job.counts is None or not job.counts.total or job.submitted_at is None:
        return None
    share = (job.counts.done + job.counts.failed) / job.counts.total
    if share < _ENOUGH:
        return None
    return (now - job.submitted_at) * (1 - share) / share


def _job_line(job: Job) -> JobLine:
    state: str = job.state.value
    return JobLine(
        id=job.id,
        model=f"{job.provider}:{job.model}",
        rows=job.rows,
        state=f"{state} ({job.remote_state})" if job.remote_state else state,
        remote_id=job.remote_id or "",
        error=job.error or "",
    )
