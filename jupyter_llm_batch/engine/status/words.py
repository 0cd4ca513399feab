"""The state of a batch in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from ...core.batch import Batch
from ...core.job import Job, JobState
from ...core.lifecycle import (
    ACCEPTED,
    TERMINAL,
    has_stopped,
    is_failing,
    waits_for_sample,
    waits_until,
)
from ...core.request import Mode
from ...core.result import Outcome, Usage
from ...core.text import (
    about_money,
    count,
    duration,
    local_time,
    many,
    moment,
    money,
    provider_name,
)
from ...costs import remaining
from ...costs.prices import PriceBook
from ..reconcile import without_key

#: The words for a batch of which nothing moves until the user has answered its question.
WAITS_FOR_YOU = "waiting for you"


AT_PROVIDER = frozenset({JobState.RUNNING, JobState.COLLECTING})

#: States in which a provider has a job but has not begun with it, without their prefixes.
_NOT_STARTED = frozenset({"validating", "pending", "queued"})


#: From so many seconds before a provider deletes answers on, what is not collected is warned about.
SOON = 3 * 86400.0


#: Answers that are not collected for so many seconds are not just being collected.
_UNCOLLECTED = 3600.0


class Trouble(NamedTuple):
    """What keeps a whole batch from going on, since when (Unix seconds), and the state to show.

    The state is ``stopped`` for a defect of ours, ``paused`` for what the user can mend, else
    ``attention``.
    """

    words: str
    since: float
    state: str = "attention"


def expiring(jobs: Iterable[Job], now: float) -> str:
    """Return a warning when a provider soon deletes answers that are not collected, else nothing.

    What is collected lies on this machine: its expiry at the provider alarms nobody. Of a provider
    that names no date, answers that lie there are in danger at once.
    """
    there = [job for job in jobs if job.state in AT_PROVIDER and job.mode is Mode.BATCH]
    left = [job for job in there if job.keep_until is not None]
    if not left:
        who = next((provider_name(job.provider) for job in there if _lies_there(job, now)), "")
        words = "does not say how long it keeps answers: collect them soon (a key and a connection)"
        return f"{who} {words}" if who else ""
    first = min(left, key=lambda job: job.keep_until or 0.0)
    until = first.keep_until or 0.0
    if until - now > SOON:
        return ""
    who, at = provider_name(first.provider), local_time(until, "%d %b %H:%M")
    if until <= now:
        return f"{who} kept the answers until {at} and may have deleted them: collect what is left"
    return f"{who} deletes the answers after {at}: collect them before (a key and a connection)"


def _lies_there(job: Job, now: float) -> bool:
    """Whether a job is surely over, has been for a while, and its answers are not here."""
    if job.ended_at is not None:
        return now - job.ended_at > _UNCOLLECTED
    return job.expires_at is not None and now > job.expires_at


def unassigned_words(batch: Batch, jobs: Iterable[Job]) -> str:
    """Return that answers came back of which nobody knows the row."""
    number = sum(job.unassigned for job in jobs)
    return without_key(number).replace("NAME", batch.title) if number else ""


def duplicates_words(batch: Batch, jobs: Iterable[Job], expected: float | None) -> str:
    """Return that the provider has a second batch of the same rows, or nothing."""
    told = []
    for job in jobs:
        usd = float(job.cost) if job.cost else (expected or 0.0) * job.rows / (batch.rows or 1)
        for each in job.duplicates:
            if each.cancelled:
                told.append(f"a second batch of these rows ({each.remote_id}) was cancelled")
                continue
            cost = f", {about_money(usd)}" if usd else ""
            told.append(
                f"{provider_name(job.provider)} has a second batch of these rows "
                f"({each.remote_id}), and you pay for both{cost}: "
                f"`%llm_batch cancel {batch.title} --duplicates` cancels it"
            )
    return "; ".join(told)


def real_time_words(batch: Batch, jobs: Iterable[Job]) -> str:
    """Return how much of an ended batch was finished in real time after a deadline."""
    late = [job for job in jobs if job.mode is Mode.REALTIME and job.round]
    if not batch.cut or batch.finished_at is None or not late:
        return ""
    rows = sum(job.rows for job in late)
    costs = [Decimal(job.cost) for job in late if job.cost]
    paid = f" for {money(float(sum(costs)))}" if costs else ""
    which = "1 row was" if rows == 1 else f"{count(rows)} rows were"
    return f"after the deadline, {which} sent in real time at full price{paid}"


def left_files_words(jobs: Iterable[Job]) -> str:
    """Return that files were to be deleted at the provider and were not."""
    kept = [job for job in jobs if job.tidied.startswith("kept")]
    if not kept:
        return ""
    return f"{provider_name(kept[0].provider)} still has files of it: {kept[0].tidied}"


def _where(jobs: Iterable[Job]) -> str:
    names = list(dict.fromkeys(provider_name(job.provider) for job in jobs))
    return " and ".join(names)


def describe(
    batch: Batch,
    jobs: Sequence[Job],
    now: float,
    outcomes: Mapping[str, int],
    paused: str,
    trouble: Trouble | None,
) -> tuple[str, str]:
    """Return state and words."""
    if batch.draft:
        return "draft", f"not sent yet: %llm_batch submit {batch.title}"
    if batch.finished_at is not None:
        return _ending(batch, jobs, outcomes)
    if paused:
        return "paused", f"paused: {paused}"
    if trouble is not None:
        return trouble_words(trouble, now)
    if stopped := _stopped(batch, jobs, now):
        return "stopped", stopped
    undecided = [job.error for job in jobs if job.state is JobState.UNKNOWN and job.error]
    if undecided:
        return "attention", f"the outcome of a submission is unknown: {undecided[0]}"
    state, words = _motion(batch, jobs, now)
    failing = [job for job in jobs if is_failing(job)]
    if failing:
        state, words = "attention", f"{words}{_failing(failing, words, now)}"
    if batch.cut and remaining.unfinished_jobs(jobs):
        where = _where(remaining.unfinished_jobs(jobs))
        return state, f"cutting off what is not back, waiting for {where}"
    if batch.cancel_requested:
        where = _where(job for job in jobs if job.state in AT_PROVIDER)
        return state, f"cancelling, waiting for {where}" if where else "cancelling"
    return state, f"{words}, retry {batch.round}" if batch.round else words


def trouble_words(trouble: Trouble, now: float) -> tuple[str, str]:
    """Return state and words of a batch with trouble here."""
    if trouble.state == "stopped":
        return trouble.state, trouble.words
    what = "paused" if trouble.state == "paused" else "cannot continue"
    return trouble.state, f"{what}: {trouble.words} (since {moment(trouble.since, now)})"


def _stopped(batch: Batch, jobs: Sequence[Job], now: float) -> str:
    """Return why a batch has stopped until somebody changes something; empty when it has not."""
    under_way = [
        job for job in jobs if job.state not in TERMINAL and not waits_for_sample(batch, job)
    ]
    if not under_way or not all(has_stopped(job) for job in under_way):
        return ""
    first = min(under_way, key=lambda job: job.failing_since)
    kept = (
        "nothing was sent" if all(job.submitted_at is None for job in jobs) else "nothing is lost"
    )
    if any(job.state in AT_PROVIDER and not is_sent_here(job) for job in under_way):
        kept = f"the batch is still at {_where(under_way)}"
    return (
        f"stopped: {first.error} (since {moment(first.failing_since, now)}; {kept}). When that "
        f"is fixed, run `%llm_batch status {batch.title}` to continue at once"
    )


def _failing(failing: Sequence[Job], words: str, now: float) -> str:
    """Return the last error of jobs that are tried again, since when, and when that will be."""
    first = min(failing, key=lambda job: job.failing_since)
    since = f"since {moment(first.failing_since, now)}" if first.failing_since else ""
    if first.error and first.error in words:
        return f" ({since})" if since else ""
    due = min(job.not_before for job in failing) - now
    again = f"trying again in {duration(due)}" if due >= 1 else "trying again now"
    return f"; {first.error} ({', '.join(filter(None, (since, again)))})"


def _ending(batch: Batch, jobs: Sequence[Job], outcomes: Mapping[str, int]) -> tuple[str, str]:
    answered = outcomes.get(Outcome.OK, 0)
    if batch.cancel_requested and (outcomes.get(Outcome.CANCELLED, 0) or not answered):
        return "cancelled", "cancelled"
    known = any(outcomes.get(outcome, 0) for outcome in Outcome)
    # Of what was created elsewhere and refused as a whole no row may be known.
    lost = any(job.error and not job.rows for job in jobs)
    if answered or not (known or lost):
        without = sum(outcomes.get(each, 0) for each in Outcome if each is not Outcome.OK)
        rows = "1 row" if without == 1 else f"{count(without)} rows"
        return ("partial", f"done, {rows} without an answer") if without else ("done", "done")
    reason = next((job.error for job in reversed(jobs) if job.error), "no row was answered")
    return "failed", f"failed: {reason}"


def _motion(batch: Batch, jobs: Sequence[Job], now: float) -> tuple[str, str]:
    """Return state and words of a batch that is under way."""
    if not jobs:
        return "preparing", "preparing"
    ours = [job for job in jobs if is_sent_here(job)]
    if ours:
        return _realtime(batch, ours, now)
    lost = [job for job in jobs if job.state is JobState.UNKNOWN]
    if lost:
        return "submitting", f"checking whether {_where(lost)} took the submission"
    accepted = [job for job in jobs if job.state in ACCEPTED]
    at_provider = [job for job in jobs if job.state in AT_PROVIDER]
    waiting = [job for job in jobs if job.state is JobState.PLANNED and job.not_before > now]
    held = len(waiting) == len(jobs) - len(accepted)
    behind = [job for job in jobs if waits_until(job, jobs) > now]
    if behind and len(behind) == len(jobs) - len(accepted):
        rows = sum(job.rows for job in behind)
        ahead = _where(at_provider) or _where(behind)
        return "submitting", f"filling the cache at {ahead}, {count(rows)} rows follow"
    if len(accepted) < len(jobs) and not (held and at_provider):
        return "submitting", _sending(jobs, accepted, waiting if held else [], now)
    running = [job for job in at_provider if job.state is JobState.RUNNING]
    if not running:
        return "collecting", "collecting answers"
    started = [job for job in running if not _not_started(job)]
    words = (
        f"running at {_where(running)}" if started else f"waiting for {_where(running)} to start"
    )
    if started and not any(job.counts for job in started):
        words += f" ({_where(running)} reports progress only at the end)"
    if waiting:
        words += f", {count(len(waiting))} of {count(len(jobs))} jobs wait for room"
    return "running", words


def question_for_user(
    batch: Batch,
    jobs: Sequence[Job],
    now: float,
    history: Sequence[float],
    book: PriceBook,
    back: Mapping[int, int] | None,
) -> tuple[str, list[str], bool]:
    """Return what the user may decide, the buttons for it, and whether everything waits for it."""
    held = [job for job in jobs if waits_for_sample(batch, job)]
    if held:
        sample = [job for job in jobs if job.mode is Mode.REALTIME]
        if any(job.state not in TERMINAL for job in sample):
            rows = sum(job.rows for job in held)
            wait = many(rows, "row is", "rows are")
            words = f"{wait} waiting for your OK (%llm_batch submit {batch.title})"
            return words, [], False
        return _about_sample(batch, jobs, sample, book), ["send", "stop"], True
    realtime = _about(remaining.remaining_rows(batch, jobs, Mode.REALTIME, book, back))
    name = batch.title
    if remaining.is_due(batch, jobs, now):
        doubt = remaining.deadline_doubt(batch, jobs, now, book, back)
        if doubt:
            words = (
                f"the deadline is over and {doubt}: finish {realtime} in real time, or let it run "
                f"as a batch? (%llm_batch deadline {name} --finish, --off)"
            )
            return words, ["finish", "keep"], True
    still = 0.0 if batch.cut else remaining.stuck_for(jobs, now, history)
    if still:
        usual = remaining.usual_duration(history)
        lately = f"; batches there took {duration(usual)} lately" if usual else ""
        if batch.adopted and not batch.round:  # its requests are not ours to be asked again
            return f"no progress for {duration(still)}{lately}: wait, or cancel", [], False
        words = (
            f"no progress for {duration(still)}{lately}: wait, cancel, or finish {realtime} "
            f"in real time (%llm_batch deadline {name} --finish)"
        )
        return words, ["finish"], False
    if batch.deadline is not None and not batch.cut and remaining.unfinished_jobs(jobs):
        return f"after the deadline, {realtime} in real time", [], False
    return "", [], False


def _about_sample(batch: Batch, jobs: Sequence[Job], sample: Sequence[Job], book: PriceBook) -> str:
    rows = sum(job.rows for job in sample)
    usage = sum((job.usage for job in sample), Usage())
    costs = [Decimal(job.cost) for job in sample if job.cost]
    paid = f", {money(float(sum(costs)))}" if costs else ""
    rest = _about(remaining.remaining_rows(batch, jobs, Mode.BATCH, book))
    lost = rows - sum(job.tally.get(Outcome.OK, 0) for job in sample)
    if lost == rows:
        # Nothing was measured, and what it took is not known: some may have been billed.
        took = (
            f"no row of the sample of {count(rows)} got an answer (%llm_batch errors {batch.title})"
        )
    else:
        took = (
            f"the sample of {count(rows)} took {count(usage.input)} tokens in and "
            f"{count(usage.output)} out{paid}"
        )
        if lost:
            took += f", {count(lost)} without an answer"
    return (
        f"{took}: send {rest} as a batch? "
        f"(%llm_batch submit {batch.title}, %llm_batch cancel {batch.title})"
    )


def title_beside(other: Batch, batch: Batch) -> str:
    """Return the name of another batch, as the notebook of `batch` knows it."""
    here = other.notebook == batch.notebook
    return other.title if here else f"{other.notebook}::{other.title}"


def question_of_other(other: Batch, batch: Batch) -> str:
    """Return what to do about a batch that asks the same rows and waits for the user."""
    words = f"{title_beside(other, batch)} asks the same rows, and waits for a look at its sample"
    if other.notebook != batch.notebook:
        return f"{words}: decide there"
    return f"{words} (%llm_batch submit {other.title}, %llm_batch cancel {other.title})"


def _about(rest: remaining.Rest) -> str:
    """Return rows and cost in words: ``the other 995 rows (about $0.12)``."""
    rows = f"{count(rest.rows)} {'row' if rest.rows == 1 else 'rows'}"
    if rest.cost is None:
        return f"{rows} (cost unknown)"
    return f"{rows} ({'about' if rest.measured else 'at most'} {money(float(rest.cost))})"


def is_sent_here(job: Job) -> bool:
    """Whether this machine still has to do a job's work, row by row."""
    return job.mode is Mode.REALTIME and job.state in (JobState.PLANNED, JobState.RUNNING)


def _realtime(batch: Batch, jobs: Sequence[Job], now: float) -> tuple[str, str]:
    """Return state and words while rows are asked one by one, which needs a running kernel."""
    words = f"real time at {_where(jobs)}"
    if batch.held:
        sample, rows = sum(job.rows for job in jobs), batch.rows - batch.skipped
        words = f"asking a sample of {count(sample)} of {count(rows)} rows in {words}"
    waiting = [job for job in jobs if job.not_before > now]
    if len(waiting) < len(jobs):
        return "running", f"{words}, keep this kernel running"
    first = min(waiting, key=lambda job: job.not_before)
    words = f"{words}, trying again in {duration(first.not_before - now)}"
    return "running", f"{words}: {first.error}" if first.error else words


def _sending(
    jobs: Sequence[Job], accepted: Sequence[Job], waiting: Sequence[Job], now: float
) -> str:
    if waiting:
        first = min(waiting, key=lambda job: job.not_before)
        words = f"trying again in {duration(first.not_before - now)}"
        return f"{words}: {first.error}" if first.error else words
    uploading = any(job.state is JobState.PLANNED for job in jobs)
    words = "uploading" if uploading else "submitting"
    if len(jobs) == 1:
        return words
    return f"{words}, {count(len(accepted))} of {count(len(jobs))} jobs accepted"


def _not_started(job: Job) -> bool:
    if job.remote_state is None:
        return True
    word = job.remote_state.lower().removeprefix("job_state_").removeprefix("batch_state_")
    return word in _NOT_STARTED
