"""One job at a provider: its state, the provider's report of it, and its account."""

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
    """Our reading of a provider's state; unknown states count as `ACTIVE`."""

    ACTIVE = "active"
    ENDED = "ended"  # completed, expired, cancelled: there may be results to collect
    FAILED = "failed"  # refused as a whole: no row ran
    LATER = "later"  # refused as a whole for lack of room (enqueued tokens): send again later


#: Upper bound of the rows of any job.
MOST_ROWS = 10_000_000


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Row counts of a job as its provider reports them; `total` is 0 until it has counted."""

    total: int = 0
    done: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        """Clamp impossible counts, which some servers report."""
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
        The provider's own name of the state.
    phase
        What that state means for us.
    label
        Our own label, where the provider stores one.
    created_at, expires_at
        Unix seconds.
    parts
        Result files that can be downloaded now: ``{"output": ref, "errors": ref}``.
    ended_at
        When it ended (Unix seconds), where the provider says so.
    poll_after
        Seconds that the provider wants us to wait before the next poll.
    keep_until
        Unix seconds until which the provider keeps the results.
    rest
        Outcome of rows that no result file mentions; None when they are *missing*.
    endpoint, model, input
        Endpoint, model, and the provider's id of the uploaded requests, where it reports them.
    rows
        Number of requests, where the counts do not give it; else 0.
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
        """Number of requests; 0 when it is not known yet."""
        return self.rows or (self.counts.total if self.counts else 0)


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a rate limit still allows: requests or tokens, and seconds until it is reset."""

    left: int
    reset: float = 0.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request in real time.

    Attributes
    ----------
    line
        A raw result line in the form of the provider's batch results, newline included.
    rooms
        What the provider's rate limits still allow, from the response headers.
    """

    line: bytes
    rooms: list[Room] = msgspec.field(default_factory=list)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A provider account, without its key. A job that another account asks for looks vanished."""

    base_url: str
    organisation: str = ""
    fingerprint: str = ""


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """A duplicate of a job at its provider; it is paid as well unless it was cancelled."""

    remote_id: str
    cancelled: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of a batch: sent to a provider as one job, or row by row in real time.

    Attributes
    ----------
    model, models
        The model of its rows; ``mixed`` where there are several, which `models` then names.
    after
        Numbers of jobs of this batch that must end before this one is sent.
    sums
        Checksums of its files: ``request`` and the result files.
    damaged
        Its request file on disk was changed, cut or deleted.
    unassigned
        Number of answers that belong to no row.
    progress_at
        When the provider's count of finished rows last rose (Unix seconds).
    asked_until
        Time before which the provider does not want to be polled (Unix seconds).
    cache
        Prompt caching of what its rows share; None in later rounds, which resend failed rows.
    released
        What the provider stored only for the run of the job (a cache) was deleted there.
    unasked
        Why a sent job has no request lines here: it was created outside this package.
    duplicates, repeated
        Duplicates that were found, and whether its create call may have made some.
    resent
        How often it was resent automatically after a create with a lost response had made
        nothing.
    failing_since
        When the first of the current consecutive `failures` happened (Unix seconds).
    stopped
        The last failure is permanent until the user changes something: a key, an address.
    distrusted
        The journal lost its latest entries, perhaps create calls too. Before it is sent, jobs of
        all its attempts are looked up.
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
    #: The process whose create call has no recorded outcome yet.
    sender: str = ""
    #: When that process was last seen alive after another one had taken over.
    sender_seen: float = 0.0
    failures: int = 0
    failing_since: float = 0.0
    stopped: bool = False
    fetches: int = 0
    #: Consecutive 404s for the job, its upload or its results.
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
