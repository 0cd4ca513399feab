"""The life of a job: every transition, what to do next, and how long to wait. No I/O here.

Two rules. Every transition stands in `TRANSITIONS`; an event that is not there raises and changes
nothing. And a request that may have been accepted is never sent again: SUBMITTING leads to RUNNING
(accepted), back (surely not created), to FAILED (refused), or to UNKNOWN, which only a look-up or
the user can leave.
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
    NOT_CREATED = "not-created"  # surely nothing was created; again later
    REJECTED = "rejected"  # refused for good; nothing was created
    LOST = "lost"  # the outcome of the create is not known
    FOUND = "found"  # the look-up has it
    ABSENT = "absent"  # the look-up, after settling, has it not
    ENDED = "ended"  # the provider is through with it, wholly or in part
    INVALID = "invalid"  # the provider refused the whole job after accepting it
    NO_ROOM = "no-room"  # refused for lack of enqueued-token room; again later
    VANISHED = "vanished"  # 404: deleted or past retention
    COLLECTED = "collected"  # every row has its outcome
    WITHDRAWN = "withdrawn"  # cancelled before it was sent
    STARTED = "started"  # in real time: from here on its rows are asked one by one


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
    """What the poller does with a job next."""

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
    """Return what to do with `job` and from when on (Unix seconds); None when it is at its end.

    A job *found* in SUBMITTING has no call under way any more: whoever made it is dead.
    """
    match job.state:
        case S.PLANNED | S.UPLOADED if cancel:
            return Action.WITHDRAW, 0.0
        case S.PLANNED if job.mode is Mode.REALTIME:
            return Action.START, job.not_before
        case S.RUNNING if job.mode is Mode.REALTIME:
            # Cancelled, nothing more is asked: then it need not wait either.
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
            # A refused cancel waits like everything else; a first one goes out at once.
            return Action.CANCEL, _not_asked_before(job) if job.failures else 0.0
        case S.RUNNING:
            return Action.POLL, _not_asked_before(job)
        case S.COLLECTING:
            return Action.COLLECT, job.not_before
    return None


def _not_asked_before(job: Job) -> float:
    """Return when a running job may be asked about: a wait of ours may be cut short, theirs not."""
    return max(job.not_before, job.asked_until)


def together(dues: Iterable[float], patience: float) -> float:
    """Return when to ask about jobs with one request: the first one due waits a little for others.

    Late for some and early for none, since an interval is the shortest that was allowed.
    """
    first, *others = sorted(dues)
    return max((due for due in others if due <= first + patience), default=first)


def waits_until(job: Job, jobs: Iterable[Job]) -> float:
    """Return until when `job` waits for jobs that go ahead of it (Unix seconds); else 0.

    What goes ahead is worth waiting for, not worth waiting for ever: a provider may take a day.
    """
    if not job.after or job.state is not S.PLANNED:
        return 0.0
    ahead = [each for each in jobs if each.number in job.after and each.state not in TERMINAL]
    return max((each.created_at + CACHE_PATIENCE for each in ahead), default=0.0)


def is_held(batch: Batch, job: Job) -> bool:
    """Whether `job` waits until the user has looked at the sample."""
    first = job.round == 0  # a later round is the user's word already
    return batch.held and first and job.mode is Mode.BATCH and job.state is S.PLANNED


def waits_for_user(batch: Batch, jobs: Iterable[Job]) -> bool:
    """Whether a sample is over and nothing goes on before the user has looked at it."""
    return (
        batch.held
        and not batch.cancel_requested
        and all(job.state in TERMINAL or is_held(batch, job) for job in jobs)
    )


def is_failing(job: Job) -> bool:
    """Whether the last call for `job` failed, so that it is tried again later."""
    return job.failures > 0 and bool(job.error) and job.state not in TERMINAL


def has_stopped(job: Job) -> bool:
    """Whether `job` failed for a reason that lasts until somebody changes something."""
    return job.stopped and is_failing(job)


def is_cancelled(batch: Batch, job: Job) -> bool:
    """Whether `job` is to end early: the user's wish, or what comes after a deadline."""
    return batch.cancel_requested or (batch.cut and job.mode is Mode.BATCH)
