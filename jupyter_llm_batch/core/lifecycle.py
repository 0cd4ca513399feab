"""State machine of a job: transitions, next action, and waits. No I/O here.

Two rules. Every transition is in `TRANSITIONS`; an event that is not there raises and changes
nothing. And a request that may have been accepted is never resent: SUBMITTING leads to RUNNING
(accepted), back (surely not created), to FAILED (refused), or to UNKNOWN, which only a look-up or
the user can resolve.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from .batch import Batch
from .errors import IllegalEvent
from .job import Job, JobState
from .policy import CACHE_PATIENCE
from .request import Mode

S = JobState


class Event(StrEnum):
    """What can happen to a job."""

    UPLOADED = "uploaded"  # the payload is at the provider (or needs no upload)
    INTENT = "intent"  # about to create; committed before the call
    ACCEPTED = "accepted"  # the provider answered with its id
    NOT_CREATED = "not-created"  # surely nothing was created; retry later
    REJECTED = "rejected"  # refused for good; nothing was created
    LOST = "lost"  # the outcome of the create is not known
    FOUND = "found"  # the look-up found it
    ABSENT = "absent"  # not in a listing that is complete by now
    ENDED = "ended"  # the provider has finished it, wholly or in part
    INVALID = "invalid"  # the provider refused the whole job after accepting it
    NO_ROOM = "no-room"  # over the limit of enqueued tokens; retry later
    VANISHED = "vanished"  # 404: deleted or past retention
    COLLECTED = "collected"  # every row has its outcome
    WITHDRAWN = "withdrawn"  # cancelled before it was sent
    STARTED = "started"  # in real time: its rows are sent one by one from here on


TRANSITIONS: dict[tuple[JobState, Event], JobState] = {
    (S.PLANNED, Event.UPLOADED): S.UPLOADED,
    (S.PLANNED, Event.REJECTED): S.FAILED,
    (S.PLANNED, Event.WITHDRAWN): S.DONE,
    (S.PLANNED, Event.STARTED): S.RUNNING,
    (S.UPLOADED, Event.INTENT): S.SUBMITTING,
    (S.UPLOADED, Event.WITHDRAWN): S.DONE,
    (S.SUBMITTING, Event.ACCEPTED): S.RUNNING,
    (S.SUBMITTING, Event.NOT_CREATED): S.PLANNED,
    (S.SUBMITTING, Event.REJECTED): S.FAILED,
    (S.SUBMITTING, Event.LOST): S.UNKNOWN,
    (S.UNKNOWN, Event.FOUND): S.RUNNING,
    (S.UNKNOWN, Event.ABSENT): S.PLANNED,
    (S.RUNNING, Event.ENDED): S.COLLECTING,
    (S.RUNNING, Event.INVALID): S.FAILED,
    (S.RUNNING, Event.NO_ROOM): S.PLANNED,
    (S.RUNNING, Event.VANISHED): S.GONE,
    (S.COLLECTING, Event.COLLECTED): S.DONE,
    (S.COLLECTING, Event.VANISHED): S.GONE,
}

TERMINAL = frozenset({S.DONE, S.FAILED, S.GONE})

#: States in which the provider has (or may have) the job; the computer may be switched off.
ACCEPTED = frozenset({S.RUNNING, S.COLLECTING, *TERMINAL})


def advance(state: JobState, event: Event) -> JobState:
    """Return the state after `event`.

    Raises
    ------
    IllegalEvent
        The event is not allowed in this state.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalEvent(f"{event!r} cannot happen to a job that is {state!r}") from None


class Action(StrEnum):
    """The next step of the poller for a job."""

    UPLOAD = "upload"
    SUBMIT = "submit"
    DECLARE_LOST = "declare-lost"
    LOOK_UP = "look-up"
    CANCEL = "cancel"
    POLL = "poll"
    COLLECT = "collect"
    WITHDRAW = "withdraw"
    START = "start"
    ASK = "ask"


def next_action(job: Job, *, cancel: bool) -> tuple[Action, float] | None:
    """Return the next action for `job` and its earliest time (Unix seconds); None once it ended.

    A job that is read from the journal in SUBMITTING has no call under way: its process is dead.
    """
    match job.state:
        case S.PLANNED | S.UPLOADED if cancel:
            return Action.WITHDRAW, 0.0
        case S.PLANNED if job.mode is Mode.REALTIME:
            return Action.START, job.not_before
        case S.RUNNING if job.mode is Mode.REALTIME:
            # A cancelled job sends nothing more, so it need not wait.
            return Action.ASK, 0.0 if cancel else _not_asked_before(job)
        case S.PLANNED:
            return Action.UPLOAD, job.not_before
        case S.UPLOADED:
            return Action.SUBMIT, job.not_before
        case S.SUBMITTING:
            return Action.DECLARE_LOST, 0.0
        case S.UNKNOWN:
            return Action.LOOK_UP, job.not_before
        case S.RUNNING if cancel and not job.cancel_sent:
            # The first cancel is sent at once; a refused one backs off like everything else.
            return Action.CANCEL, _not_asked_before(job) if job.failures else 0.0
        case S.RUNNING:
            return Action.POLL, _not_asked_before(job)
        case S.COLLECTING:
            return Action.COLLECT, job.not_before
    return None


def _not_asked_before(job: Job) -> float:
    """Return when a running job may be polled: our waits can be shortened, the provider's not."""
    return max(job.not_before, job.asked_until)


def grouped_poll_time(dues: Iterable[float], patience: float) -> float:
    """Return a common poll time for jobs that are due soon; never before a job's own due time."""
    first, *others = sorted(dues)
    return max((due for due in others if due <= first + patience), default=first)


def waits_until(job: Job, jobs: Iterable[Job]) -> float:
    """Return until when `job` waits for jobs that go first (Unix seconds); 0 when it need not.

    The wait is bounded, since a provider may take a day.
    """
    if not job.after or job.state is not S.PLANNED:
        return 0.0
    ahead = [each for each in jobs if each.number in job.after and each.state not in TERMINAL]
    return max((each.created_at + CACHE_PATIENCE for each in ahead), default=0.0)


def waits_for_sample(batch: Batch, job: Job) -> bool:
    """Whether `job` waits until the user has approved the sample."""
    first = job.round == 0  # a later round is approved already
    return batch.held and first and job.mode is Mode.BATCH and job.state is S.PLANNED


def waits_for_user(batch: Batch, jobs: Iterable[Job]) -> bool:
    """Whether a sample has ended and the batch waits for the user's OK."""
    return (
        batch.held
        and not batch.cancel_requested
        and all(job.state in TERMINAL or waits_for_sample(batch, job) for job in jobs)
    )


def is_failing(job: Job) -> bool:
    """Whether the last call for `job` failed and is retried later."""
    return job.failures > 0 and bool(job.error) and job.state not in TERMINAL


def has_stopped(job: Job) -> bool:
    """Whether `job` failed for a reason that stays until the user changes something."""
    return job.stopped and is_failing(job)


def is_cancelled(batch: Batch, job: Job) -> bool:
    """Whether `job` is to end early: the user's wish, or what comes after a deadline."""
    return batch.cancel_requested or (batch.cut and job.mode is Mode.BATCH)
