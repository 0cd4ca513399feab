"""One job at a provider: its state, what the provider says of it, and the account it belongs to."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from .request import Mode
from .result import ErrorKind, Outcome, Sample, Usage


class JobState(StrEnum):
    """Where a job is in its life; `lifecycle.TRANSITIONS` says what may follow."""

    PLANNED = "planned"
    UPLOADED = "uploaded"
    SUBMITTING = "submitting"
    UNKNOWN = "unknown"
    RUNNING = "running"
    COLLECTING = "collecting"
    DONE = "done"
    FAILED = "failed"
    GONE = "gone"


class Phase(StrEnum):
    """What a provider's own state means for us; unknown states count as `ACTIVE`."""

    ACTIVE = "active"
    ENDED = "ended"  # completed, expired, cancelled: there may be results to collect
    FAILED = "failed"  # refused as a whole: no row ran
    LATER = "later"  # refused as a whole for lack of room (enqueued tokens): send again later


#: More rows than any job has.
MOST_ROWS = 10_000_000


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says about the rows of a job; `total` is 0 before it has looked at them."""

    total: int = 0
    done: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        """Bring what no job can have into bounds: servers count strangely, too."""
        for name in ("total", "done", "failed"):
            value = getattr(self, name)
            if not 0 <= value <= MOST_ROWS:
                msgspec.structs.force_setattr(self, name, min(max(value, 0), MOST_ROWS))


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its provider describes it.

    Attributes
    ----------
    remote_id
        The provider's id.
    state
        The provider's word, kept as it is.
    phase
        What that word means for us.
    label
        Our own mark, where the provider keeps one.
    created_at, expires_at
        Unix seconds.
    parts
        Results that can be fetched now: ``{"output": ref, "errors": ref}``.
    ended_at
        When it ended (Unix seconds), where the provider says so.
    poll_after
        Seconds before which the provider does not want to be asked again.
    keep_until
        Unix seconds until which the provider keeps the results.
    rest
        What became of rows that no part mentions; None when they are simply *missing*.
    endpoint, model, input
        What is asked, of which model, and the provider's id of the uploaded requests, where it
        says so.
    rows
        How many requests it has, where the counts do not say so; else 0.
    """

    remote_id: str
    state: str
    phase: Phase
    counts: Counts | None = None
    label: str | None = None
    created_at: float | None = None
    expires_at: float | None = None
    parts: dict[str, str] = msgspec.field(default_factory=dict)
    error: str | None = None
    ended_at: float | None = None
    poll_after: float | None = None
    keep_until: float | None = None
    rest: Outcome | None = None
    endpoint: str = "chat"
    model: str | None = None
    input: str | None = None
    rows: int = 0

    @property
    def size(self) -> int:
        """How many requests it has; 0 where nobody says so yet."""
        return self.rows or (self.counts.total if self.counts else 0)


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a rate limit leaves: requests or tokens, and the seconds until it is full again."""

    left: int
    reset: float = 0.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request in real time.

    Attributes
    ----------
    line
        A raw result line in the form of the provider's batch results, newline included.
    rooms
        What the provider's rate limits leave, as its headers say.
    """

    line: bytes
    rooms: list[Room] = msgspec.field(default_factory=list)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Whose batch it is, without the key: a job seen from another account looks vanished."""

    base_url: str
    organisation: str = ""
    fingerprint: str = ""


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """A second batch of a job at its provider, paid beside its own unless it was cancelled."""

    remote_id: str
    cancelled: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a batch that goes to a provider as one piece, or in real time row by row.

    Attributes
    ----------
    model, models
        The model of its rows; ``mixed`` where there are several, which `models` then names.
    after
        Numbers of jobs of this batch that are to be over before this one is sent.
    sums
        Checksums of its files: ``request`` and the parts of its results.
    damaged
        Its request lines are not on disk any more as they were written.
    unassigned
        How many of its answers name no row.
    progress_at
        When the provider last counted more rows as finished than before.
    asked_until
        Until when the provider asked to be left alone about it.
    cache
        What its rows share is to be cached; None in later rounds, which ask for what failed.
    released
        The provider stores nothing any more that was only needed while the job ran.
    unasked
        Why its request lines are not here although it was sent: it was created elsewhere.
    duplicates, repeated
        Second batches of it that were seen, and whether its create may have made some.
    resent
        How often it was sent again by itself since a lost create was found to be absent.
    failing_since
        When the first of the present `failures` in a row happened.
    stopped
        The last failure lasts until somebody changes something: a key, an address.
    distrusted
        The journal has lost what was done with it last, perhaps later creates too: before it is
        sent, a job of any of its attempts is looked for.
    """

    id: str
    batch_id: str
    round: int
    number: int
    provider: str
    model: str
    endpoint: str
    rows: int
    bytes: int
    payload: str
    models: list[str] = msgspec.field(default_factory=list)
    after: list[int] = msgspec.field(default_factory=list)
    cache: str | None = None
    released: bool = False
    state: JobState = JobState.PLANNED
    account: Account | None = None
    upload_id: str | None = None
    remote_id: str | None = None
    remote_state: str | None = None
    counts: Counts | None = None
    created_at: float = 0.0
    submitted_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None
    keep_until: float | None = None
    parts: dict[str, str] = msgspec.field(default_factory=dict)
    rest: Outcome | None = None
    attempts: int = 0
    distrusted: bool = False
    resent: int = 0
    unasked: str = ""
    duplicates: list[Duplicate] = msgspec.field(default_factory=list)
    repeated: bool = False
    #: The process that began to create it and has not said how that went; see `lease.write`.
    sender: str = ""
    #: When that process was last known to live after another one had taken over.
    sender_seen: float = 0.0
    failures: int = 0
    failing_since: float = 0.0
    stopped: bool = False
    fetches: int = 0
    #: How often in a row the provider did not know it, its upload, or its results.
    absences: int = 0
    not_before: float = 0.0
    cancel_sent: bool = False
    error: str | None = None
    usage: Usage = Usage()
    cost: str | None = None
    saved: str | None = None
    tally: dict[str, int] = msgspec.field(default_factory=dict)
    kinds: list[ErrorKind] = msgspec.field(default_factory=list)
    samples: list[Sample] = msgspec.field(default_factory=list)
    tidied: str = ""  # what became of its files at the provider, once that was asked for
    sums: dict[str, str] = msgspec.field(default_factory=dict)
    damaged: bool = False
    unassigned: int = 0
    mode: Mode = Mode.BATCH
    progress_at: float = 0.0
    asked_until: float = 0.0
