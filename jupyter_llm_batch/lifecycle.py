"""The life of a job: every transition, what to do next, and how long to wait. No I/O here.

Two rules. Every transition stands in `TRANSITIONS`; an event that is not there raises and changes
nothing. And a request that may have been accepted is never sent again: SUBMITTING leads to RUNNING
(accepted), back (surely not created), to FAILED (refused), or to UNKNOWN, which only a look-up or
the user can leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from .errors import IllegalEvent
from .models import Batch, Job, JobState, Mode, Outcome, Result
from .policy import CACHE_PATIENCE

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


# -- outcomes of rows, one byte each ---------------------------------------------------------------

WAITING, SKIPPED = 0, 15
_KINDS = {outcome: number for number, outcome in enumerate(Outcome, start=1)}
_OUTCOMES = {number: outcome for outcome, number in _KINDS.items()}
BILLED, _TRANSIENT, CUT = 0x10, 0x20, 0x40


def row_code(
    outcome: Outcome, *, billed: bool = False, transient: bool = False, cut: bool = False
) -> int:
    """Pack the outcome of a row into a byte; `cut`: its answer stops before its end."""
    flags = (BILLED if billed else 0) | (_TRANSIENT if transient else 0) | (CUT if cut else 0)
    return _KINDS[outcome] | flags


def result_code(result: Result, *, user_cancelled: bool) -> int:
    """Pack a result; a row that the provider cancelled by itself is worth sending again."""
    transient = result.transient or (result.outcome is Outcome.CANCELLED and not user_cancelled)
    return row_code(result.outcome, billed=result.billed, transient=transient, cut=result.cut)


def outcome_of(code: int) -> Outcome | None:
    """Return the outcome in a row's byte; None when there is none yet, or the row was skipped."""
    return _OUTCOMES.get(code & 0x0F)


def may_be_billed(code: int) -> bool:
    """Whether the provider may have charged for the row."""
    return bool(code & BILLED)


def is_cut(code: int) -> bool:
    """Whether the row has an answer that stops before its end."""
    return bool(code & CUT) and outcome_of(code) is Outcome.OK


def rows_cut(codes: bytes) -> list[int]:
    """Return the rows whose answers stop before their end."""
    wanted = {code for code in set(codes) if is_cut(code)}
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def inherited(code: int, *, finished: bool) -> int:
    """Return the outcome that a row takes from a row of another batch.

    Until that batch is over only an answer is final: what it may still send again by itself must
    not be sent by both.
    """
    return code if finished or outcome_of(code) is Outcome.OK else WAITING


def tally(codes: bytes) -> dict[str, int]:
    """Count rows by outcome; ``waiting`` and ``skipped`` included, zeros left out."""
    counts: dict[str, int] = {}
    for code in set(codes):
        kind = code & 0x0F
        name = "waiting" if kind == WAITING else "skipped" if kind == SKIPPED else _OUTCOMES[kind]
        counts[str(name)] = counts.get(str(name), 0) + codes.count(code)
    return counts


def rows_to_repeat(codes: bytes) -> list[int]:
    """Return the rows that are sent again by themselves: ended, unbilled, for a passing reason."""
    wanted = {code for code in set(codes) if code & _TRANSIENT and not code & BILLED}
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def rows_to_reask(codes: bytes) -> list[int]:
    """Return the rows that were maybe paid for and gave nothing usable; refusals stay refusals.

    Those that were asked again, and ended for a passing reason, are among them.
    """
    kinds = {_KINDS[Outcome.FAILED] | BILLED, _KINDS[Outcome.MISSING] | BILLED}
    wanted = {
        code for code in set(codes) if code & 0x1F in kinds or (code & BILLED and code & _TRANSIENT)
    }
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def rows_to_finish(codes: bytes) -> list[int]:
    """Return the rows that a deadline cut off: cancelled, expired or broken, and not billed."""
    kinds = {_KINDS[Outcome.CANCELLED], _KINDS[Outcome.EXPIRED]}
    wanted = {
        code
        for code in set(codes)
        if not code & BILLED and (code & _TRANSIENT or (code & 0x0F) in kinds)
    }
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def never_sent(job: Job) -> bool:
    """Whether `job` ended before anything of it was sent."""
    return job.state in TERMINAL and job.submitted_at is None and job.remote_id is None


def rows_unsent(codes: bytes, owners: bytes, jobs: Iterable[Job]) -> int:
    """Return how many rows were cancelled before they were ever sent.

    Parameters
    ----------
    owners
        The pack of the number of the job that decided each row.
    """
    numbers = {job.number for job in jobs if never_sent(job)}
    if not numbers:
        return 0
    cancelled = _KINDS[Outcome.CANCELLED]
    return sum(
        owner in numbers and code & (0x0F | BILLED) == cancelled
        for code, owner in zip(codes, memoryview(owners).cast("I"), strict=True)
    )


def rows_without_answer(codes: bytes) -> list[int]:
    """Return the rows that ended without an answer, whatever the reason."""
    ok = _KINDS[Outcome.OK]
    wanted = {code for code in set(codes) if (code & 0x0F) not in (ok, WAITING, SKIPPED)}
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []
