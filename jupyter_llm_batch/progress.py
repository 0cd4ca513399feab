"""What the journal knows about a batch, as one `Snapshot` in words that a person uses.

`snapshot` is the only place that decides what a batch's state is called. It is pure: the clock
and everything that was read from the store come in as arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from statistics import median
from typing import NamedTuple

import msgspec

from . import outlook
from .collecting import without_key
from .lifecycle import has_stopped, is_failing, is_held, waits_for_user, waits_until
from .models import (
    Batch,
    ErrorKind,
    Job,
    JobLine,
    JobState,
    Mode,
    Outcome,
    Sample,
    Snapshot,
    Usage,
)
from .pricing import PriceBook
from .terminal import visible
from .wording import local_time, moment

#: The words for a batch of which nothing moves until the user has answered its question.
WAITS_FOR_YOU = "waits for your decision"

_NAMES = {"openai": "OpenAI", "anthropic": "Anthropic", "google": "Google"}

_TERMINAL = frozenset({JobState.DONE, JobState.FAILED, JobState.GONE})
_AT_PROVIDER = frozenset({JobState.RUNNING, JobState.COLLECTING})
_ACCEPTED = _TERMINAL | _AT_PROVIDER

#: States in which a provider has a job but has not begun with it, without their prefixes.
_NOT_STARTED = frozenset({"validating", "pending", "queued"})

#: From so many seconds before a provider deletes answers on, what is not collected is warned about.
SOON = 3 * 86400.0

#: Answers that are not collected for so many seconds are not just being collected.
_UNCOLLECTED = 3600.0

#: Below this share of finished rows an extrapolation is a guess, and none is shown.
_ENOUGH = 0.05


class Trouble(NamedTuple):
    """What keeps a whole batch from going on, since when (Unix seconds), and the state to show.

    The state is ``stopped`` for a defect of ours, ``paused`` for what the user can mend, else
    ``attention``.
    """

    words: str
    since: float
    state: str = "attention"


def snapshot(
    batch: Batch,
    jobs: Sequence[Job],
    now: float,
    *,
    outcomes: Mapping[str, int],
    retryable: int = 0,
    doubtful: int = 0,
    unsent: int = 0,
    cut: int = 0,
    history: Sequence[float] = (),
    paused: str = "",
    trouble: Trouble | None = None,
    cost: float | None = None,
    saved: float | None = None,
    saved_cache: float | None = None,
    saved_reuse: float | None = None,
    expected: float | None = None,
    ceiling: float | None = None,
    guessed: bool = False,
    unpriced: bool = False,
    book: PriceBook | None = None,
    errors: Iterable[ErrorKind] = (),
    samples: Iterable[Sample] = (),
    behind: Sequence[tuple[Batch, Sequence[Job]]] = (),
    back: Mapping[int, int] | None = None,
) -> Snapshot:
    """Describe a batch at one moment.

    Parameters
    ----------
    batch, jobs
        The batch and its jobs of all rounds, as journaled.
    now
        Unix seconds.
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
        What went wrong here when the batch was to go on.
    cost, saved, saved_cache, saved_reuse
        USD, when known.
    expected, ceiling
        USD in all, while the batch is under way: what is spent and what the rest will cost.
    unpriced
        The price of a model is not known.
    book
        The prices of what the user may decide about.
    errors, samples
        For the panel's details.
    behind
        Batches under way that ask rows of this one, whose own jobs are over, with their jobs.
    back
        Rows that came back without an answer; see `outlook.ended`.
    """
    rows = batch.rows - outcomes.get("skipped", batch.skipped)
    ok = outcomes.get(Outcome.OK, 0)
    failed = sum(outcomes.get(outcome, 0) for outcome in Outcome if outcome is not Outcome.OK)
    waiting = rows - ok - failed
    failed -= unsent
    progress, progress_failed = _at_provider(jobs, waiting)
    finished = batch.finished_at is not None
    state, words = _describe(batch, jobs, now, outcomes, paused, trouble)
    if state == "cancelled" and unsent and unsent == outcomes.get(Outcome.CANCELLED, 0):
        words = "stopped"
    question, urgent = "", False
    choices: list[str] = []
    if not (finished or paused or batch.draft or batch.cancel_requested):
        book = book or PriceBook()
        question, choices, urgent = _question(batch, jobs, now, history, book, back)
    if behind and state in ("preparing", "collecting") and not batch.cancel_requested:
        words = f"waiting for {', '.join(_called(each, batch) for each, _ in behind)}"
        words += ", which asks the same rows"
        if all(waits_for_user(*each) for each in behind):
            question, urgent = _about_other(behind[0][0], batch), True
    if urgent:
        state, words = "attention", WAITS_FOR_YOU
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
        cut=cut,
        simulated=batch.simulated,
        safe_to_close=_safe_to_close(batch, jobs) and not _is_unwell(state, jobs),
        finished=finished,
        cancelling=batch.cancel_requested and not finished,
        retryable=retryable,
        doubtful=doubtful,
        started_at=batch.created_at,
        elapsed=elapsed,
        remaining=_remaining(jobs, now, elapsed, history) if moving else None,
        cost=cost,
        saved=saved,
        cached=_cached(batch, jobs),
        saved_cache=saved_cache,
        saved_reuse=saved_reuse,
        expected=expected,
        ceiling=ceiling,
        guessed=guessed,
        unpriced=unpriced,
        keep_until=_kept(jobs, now, finished=finished),
        notice=" · ".join(
            filter(
                None,
                (
                    _in_full(batch, jobs),
                    batch.notice,
                    _second(batch, jobs, expected),
                    expiring(jobs, now),
                    _left_there(jobs),
                    _without_key(batch, jobs),
                ),
            )
        ),
        jobs=[_job_line(job) for job in jobs],
        errors=list(errors),
        samples=list(samples),
        realtime=not finished and any(_is_ours(job) for job in jobs),
        deadline=_deadline(batch, jobs, now),
        question=question,
        choices=choices,
    )
    shot = msgspec.structs.replace(shot, alone=_alone(shot))
    return _with_line(shot, warned=bool(expiring(jobs, now)))


def _kept(jobs: Sequence[Job], now: float, *, finished: bool) -> float | None:
    """Return until when a provider keeps the first of the answers that it still has."""
    there = [job for job in jobs if job.state in _AT_PROVIDER]
    if finished:
        there = [job for job in jobs if job.state is JobState.DONE and job.tidied != "deleted"]
    known = [job.keep_until for job in there if job.keep_until is not None]
    return min((until for until in known if until > now or not finished), default=None)


def _alone(shot: Snapshot) -> str:
    """Return what becomes of a batch when the kernel that drives it is lost."""
    if shot.finished or shot.state == "draft":
        return ""
    if shot.realtime:
        return "what is asked in real time needs a running kernel"
    if "send" in shot.choices:
        return "the sample is answered, and nothing more is sent without your word"
    if shot.safe_to_close:
        return "the batch goes on at the provider"
    return "what is not sent yet needs a running kernel"


def _told(outcomes: Mapping[str, int], unsent: int) -> dict[str, int]:
    """Return rows by outcome, without those that have none or were never sent."""
    told = {**outcomes, Outcome.CANCELLED.value: outcomes.get(Outcome.CANCELLED, 0) - unsent}
    return {str(name): n for name, n in told.items() if n > 0 and name != "waiting"}


def expiring(jobs: Iterable[Job], now: float) -> str:
    """Return a warning when a provider soon deletes answers that are not collected, else nothing.

    What is collected lies on this machine: its expiry at the provider alarms nobody. Of a provider
    that names no date, answers that lie there are in danger at once.
    """
    there = [job for job in jobs if job.state in _AT_PROVIDER and job.mode is Mode.BATCH]
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


def _without_key(batch: Batch, jobs: Iterable[Job]) -> str:
    """Return that answers came back of which nobody knows the row."""
    number = sum(job.unassigned for job in jobs)
    return without_key(number).replace("NAME", batch.title) if number else ""


def _second(batch: Batch, jobs: Iterable[Job], expected: float | None) -> str:
    """Return that the provider has a second batch of the same rows, or nothing."""
    told = []
    for job in jobs:
        usd = float(job.cost) if job.cost else (expected or 0.0) * job.rows / (batch.rows or 1)
        for each in job.duplicates:
            if each.cancelled:
                told.append(f"a second batch of these rows ({each.remote_id}) was cancelled")
                continue
            cost = f", about {money(usd)}" if usd else ""
            told.append(
                f"{provider_name(job.provider)} has a second batch of these rows "
                f"({each.remote_id}), and you pay for both{cost}: "
                f"`%llm_batch cancel {batch.title} --duplicates` cancels it"
            )
    return "; ".join(told)


def _in_full(batch: Batch, jobs: Iterable[Job]) -> str:
    """Return how much of an ended batch was finished in real time after a deadline."""
    late = [job for job in jobs if job.mode is Mode.REALTIME and job.round]
    if not batch.cut or batch.finished_at is None or not late:
        return ""
    rows = sum(job.rows for job in late)
    costs = [Decimal(job.cost) for job in late if job.cost]
    paid = f" for {money(float(sum(costs)))}" if costs else ""
    which = "1 row was" if rows == 1 else f"{count(rows)} rows were"
    return f"after the deadline, {which} sent in real time at full price{paid}"


def _left_there(jobs: Iterable[Job]) -> str:
    """Return that files were to be deleted at the provider and were not."""
    kept = [job for job in jobs if job.tidied.startswith("kept")]
    if not kept:
        return ""
    return f"{provider_name(kept[0].provider)} still has files of it: {kept[0].tidied}"


def provider_name(provider: str) -> str:
    """Return the name under which people know a provider."""
    return _NAMES.get(provider, provider)


def count(number: int) -> str:
    """Return a number of rows for people: ``12,345``."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Return a duration for people: ``45 s``, ``2 min``, ``2 h 05 min``, ``1 d 3 h``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


def money(usd: float) -> str:
    """Return an amount for people: ``$0.0123``, ``$12.34``; tiny ones as ``< $0.0001``."""
    if usd < 0:
        return f"-{money(-usd)}"
    if 0 < usd < 0.0001:
        return "< $0.0001"
    return f"${usd:.4f}" if 0 < usd < 0.1 else f"${usd:,.2f}"


def _cached(batch: Batch, jobs: Iterable[Job]) -> float | None:
    """Return the share of the input that a prompt cache gave."""
    usage = sum((job.usage for job in jobs), Usage())
    if not usage.input or not (usage.cached or batch.recipe.cache):
        return None
    return usage.cached / usage.input


def cache_words(share: float) -> str:
    """Return the share of cached input in words."""
    return f"{100 * share:.0f} % of the input cached"


def _models(models: Sequence[str]) -> str:
    return " + ".join(models) if len(models) < 3 else f"{len(models)} models"


def _where(jobs: Iterable[Job]) -> str:
    names = list(dict.fromkeys(provider_name(job.provider) for job in jobs))
    return " and ".join(names)


def _describe(
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
        return _troubled(trouble, now)
    if stopped := _stopped(batch, jobs, now):
        return "stopped", stopped
    undecided = [job.error for job in jobs if job.state is JobState.UNKNOWN and job.error]
    if undecided:
        return "attention", f"the outcome of a submission is unknown: {undecided[0]}"
    state, words = _motion(batch, jobs, now)
    failing = [job for job in jobs if is_failing(job)]
    if failing:
        state, words = "attention", f"{words}{_failing(failing, words, now)}"
    if batch.cut and outlook.waiting(jobs):
        where = _where(outlook.waiting(jobs))
        return state, f"cutting off what is not back, waiting for {where}"
    if batch.cancel_requested:
        where = _where(job for job in jobs if job.state in _AT_PROVIDER)
        return state, f"cancelling, waiting for {where}" if where else "cancelling"
    return state, f"{words}, retry {batch.round}" if batch.round else words


def _troubled(trouble: Trouble, now: float) -> tuple[str, str]:
    if trouble.state == "stopped":
        return trouble.state, trouble.words
    what = "paused" if trouble.state == "paused" else "cannot go on"
    return trouble.state, f"{what}: {trouble.words} (since {moment(trouble.since, now)})"


def troubled(shot: Snapshot, trouble: Trouble, now: float) -> Snapshot:
    """Return an earlier snapshot as it is told while no new one can be made."""
    state, words = _troubled(trouble, now)
    shot = msgspec.structs.replace(shot, state=state, words=words, remaining=None, choices=[])
    return _with_line(shot, warned=False)


def _stopped(batch: Batch, jobs: Sequence[Job], now: float) -> str:
    """Return why a batch has stopped until somebody changes something; empty when it has not."""
    under_way = [job for job in jobs if job.state not in _TERMINAL and not is_held(batch, job)]
    if not under_way or not all(has_stopped(job) for job in under_way):
        return ""
    first = min(under_way, key=lambda job: job.failing_since)
    kept = (
        "nothing was sent" if all(job.submitted_at is None for job in jobs) else "nothing is lost"
    )
    if any(job.state in _AT_PROVIDER and not _is_ours(job) for job in under_way):
        kept = f"the batch is still at {_where(under_way)}"
    return (
        f"stopped: {first.error} (since {moment(first.failing_since, now)}; {kept}). When that "
        f"is mended, `%llm_batch status {batch.title}` goes on at once"
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
    ours = [job for job in jobs if _is_ours(job)]
    if ours:
        return _realtime(batch, ours, now)
    lost = [job for job in jobs if job.state is JobState.UNKNOWN]
    if lost:
        return "submitting", f"checking whether {_where(lost)} took the submission"
    accepted = [job for job in jobs if job.state in _ACCEPTED]
    at_provider = [job for job in jobs if job.state in _AT_PROVIDER]
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
        words += ", which counts rows at the end"
    if waiting:
        words += f", {count(len(waiting))} of {count(len(jobs))} jobs wait for room"
    return "running", words


def _question(
    batch: Batch,
    jobs: Sequence[Job],
    now: float,
    history: Sequence[float],
    book: PriceBook,
    back: Mapping[int, int] | None,
) -> tuple[str, list[str], bool]:
    """Return what the user may decide, the buttons for it, and whether everything waits for it."""
    held = [job for job in jobs if is_held(batch, job)]
    if held:
        sample = [job for job in jobs if job.mode is Mode.REALTIME]
        if any(job.state not in _TERMINAL for job in sample):
            rows = count(sum(job.rows for job in held))
            return f"{rows} rows wait for your word (%llm_batch submit {batch.title})", [], False
        return _about_sample(batch, jobs, sample, book), ["send", "stop"], True
    realtime = _about(outlook.rest(batch, jobs, Mode.REALTIME, book, back))
    name = batch.title
    if outlook.is_due(batch, jobs, now):
        doubt = outlook.doubt(batch, jobs, now, book, back)
        if doubt:
            words = (
                f"the deadline is over and {doubt}: finish {realtime} in real time, or let it run "
                f"as a batch? (%llm_batch deadline {name} --finish, --off)"
            )
            return words, ["finish", "keep"], True
    still = 0.0 if batch.cut else outlook.stuck_for(jobs, now, history)
    if still:
        usual = outlook.usual(history)
        lately = f"; batches there took {duration(usual)} lately" if usual else ""
        if batch.adopted and not batch.round:  # its requests are not ours to be asked again
            return f"no progress for {duration(still)}{lately}: wait, or cancel", [], False
        words = (
            f"no progress for {duration(still)}{lately}: wait, cancel, or finish {realtime} "
            f"in real time (%llm_batch deadline {name} --finish)"
        )
        return words, ["finish"], False
    if batch.deadline is not None and not batch.cut and outlook.waiting(jobs):
        return f"after the deadline, {realtime} in real time", [], False
    return "", [], False


def _about_sample(batch: Batch, jobs: Sequence[Job], sample: Sequence[Job], book: PriceBook) -> str:
    rows = sum(job.rows for job in sample)
    usage = sum((job.usage for job in sample), Usage())
    costs = [Decimal(job.cost) for job in sample if job.cost]
    paid = f", {money(float(sum(costs)))}" if costs else ""
    rest = _about(outlook.rest(batch, jobs, Mode.BATCH, book))
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


def _called(other: Batch, batch: Batch) -> str:
    """Return the name of another batch, as the notebook of `batch` knows it."""
    here = other.notebook == batch.notebook
    return other.title if here else f"{other.notebook}::{other.title}"


def _about_other(other: Batch, batch: Batch) -> str:
    words = f"{_called(other, batch)} asks the same rows, and waits for a look at its sample"
    if other.notebook != batch.notebook:
        return f"{words}: decide there"
    return f"{words} (%llm_batch submit {other.title}, %llm_batch cancel {other.title})"


def _about(rest: outlook.Rest) -> str:
    """Return rows and cost in words: ``the other 995 rows (about $0.12)``."""
    rows = f"{count(rest.rows)} {'row' if rest.rows == 1 else 'rows'}"
    if rest.cost is None:
        return f"{rows} (cost unknown)"
    return f"{rows} ({'about' if rest.measured else 'at most'} {money(float(rest.cost))})"


def _deadline(batch: Batch, jobs: Sequence[Job], now: float) -> float | None:
    if batch.deadline is None or batch.cut or batch.finished_at or not outlook.waiting(jobs):
        return None
    return batch.deadline - now if batch.deadline > now else None


def _is_ours(job: Job) -> bool:
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


def _safe_to_close(batch: Batch, jobs: Sequence[Job]) -> bool:
    if batch.draft:
        return False
    if not jobs:
        return batch.finished_at is not None
    return all(job.state in _ACCEPTED and not _is_ours(job) for job in jobs)


def _is_unwell(state: str, jobs: Iterable[Job]) -> bool:
    """Whether nobody should be told that all is well."""
    return state == "stopped" or any(is_failing(job) for job in jobs)


def _at_provider(jobs: Iterable[Job], waiting: int) -> tuple[int | None, int]:
    """Return the rows that the provider has finished and we have not collected, and the failed."""
    done, failed, known = 0, 0, False
    for job in jobs:
        if job.state in _AT_PROVIDER and job.counts is not None and job.counts.total:
            known = True
            done += max(0, job.counts.done + job.counts.failed - sum(job.tally.values()))
            failed += job.counts.failed
    progress = min(done, waiting)
    return (progress, min(failed, progress)) if known else (None, 0)


def _remaining(
    jobs: Sequence[Job], now: float, elapsed: float, history: Sequence[float]
) -> float | None:
    """Return the seconds left: by this batch's own pace, else by earlier batches, else None."""
    under_way = [job for job in jobs if job.state not in _TERMINAL]
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


def kept_words(shot: Snapshot) -> str:
    """Return until when a provider keeps the answers, or a copy of them; or nothing."""
    if shot.keep_until is None:
        return ""
    day = local_time(shot.keep_until, "%d %b").lstrip("0")
    return f"{'provider keeps a copy' if shot.finished else 'answers kept'} until {day}"


def _with_line(shot: Snapshot, *, warned: bool) -> Snapshot:
    parts = [shot.title, shot.model]
    if shot.simulated:
        parts.append("simulated")
    parts += [shot.words, tally(shot)]
    if shot.state != "draft":
        left = "" if shot.remaining is None else f", about {duration(shot.remaining)} left"
        parts.append(duration(shot.elapsed) + left)
    if shot.deadline is not None:
        parts.append(f"deadline in {duration(shot.deadline)}")
    parts.append(", ".join(spent(shot)))
    if shot.cached is not None:
        parts.append(cache_words(shot.cached))
    if shot.safe_to_close and not shot.finished:
        parts.append("safe to close")
    parts += ["" if warned else kept_words(shot), shot.question, shot.notice]
    line = " · ".join(part for part in parts if part)
    # Names and errors come from outside: no line breaks, no terminal escapes.
    clean = "".join(char if char.isprintable() else " " for char in line)
    return msgspec.structs.replace(shot, line=visible(" ".join(clean.split())))


def outlook_words(shot: Snapshot) -> str:
    """Return what a batch is expected to cost: ``about $1.20, at most $4.00``.

    Without earlier answers to its prompt that is a span from a guess to the ceiling, called so.
    """
    assert shot.expected is not None
    expected = money(shot.expected)
    if not shot.guessed:
        return f"about {expected}" + (
            "" if shot.ceiling is None else f", at most {money(shot.ceiling)}"
        )
    if shot.ceiling is None:
        return f"{expected} is a guess, no upper bound"
    return f"between {expected} (a guess) and {money(shot.ceiling)}"


def spent(shot: Snapshot) -> list[str]:
    """Return what a snapshot says about money: ``about $1.20, at most $4.00``, ``saved $0.60``."""
    parts = []
    if shot.cost is not None:
        of = (
            ""
            if shot.expected is None or shot.waiting == 0
            else f" of about {money(shot.expected)}"
        )
        parts.append(money(shot.cost) + of)
    elif shot.expected is not None:
        parts.append(outlook_words(shot))
    elif shot.unpriced:
        parts.append("price not known")
    if shot.saved:
        parts.append(f"saved {money(shot.saved)}")
    if shot.saved_cache and shot.saved_cache > 0:
        parts.append(f"caching saved {money(shot.saved_cache)}")
    if shot.saved_reuse:
        parts.append(f"reuse saved {money(shot.saved_reuse)}")
    return parts


def tally(shot: Snapshot) -> str:
    """Return the rows of a snapshot in words: ``412 of 1,000 done, 3 failed, 5 cancelled``."""
    noun = "row" if shot.rows == 1 else "rows"
    if not shot.rows:  # created elsewhere, and nobody has counted them
        return "" if shot.finished else "rows not counted yet"
    if (
        not shot.finished
        and shot.progress is None
        and not shot.ok
        and not shot.failed
        and not shot.unsent
    ):
        return f"{count(shot.rows)} {noun}"
    done = shot.ok + (shot.progress or 0) - shot.progress_failed
    cancelled = min(shot.outcomes.get(Outcome.CANCELLED.value, 0), shot.failed)
    failed = shot.failed + shot.progress_failed - cancelled
    words = f"{count(done)} of {count(shot.rows)} {'answered' if shot.finished else 'done'}"
    words = f"{words} ({count(shot.cut)} cut)" if shot.cut else words
    words = f"{words}, {count(failed)} failed" if failed else words
    words = f"{words}, {count(cancelled)} cancelled" if cancelled else words
    return f"{words}, {count(shot.unsent)} not sent" if shot.unsent else words
