"""The nouns: frozen records and enums. Imports nothing of the package but `errors`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import msgspec

from . import loosejson

#: What is asked in one request: a prompt, a list of messages, or (with ``raw``) a request body.
Content: TypeAlias = "str | list[Any] | dict[str, Any]"

#: Tells how many requests a request line counts for.
Weigh: TypeAlias = "Callable[[bytes], int]"


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    MISSING = "missing"


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


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests of a batch share.

    Attributes
    ----------
    endpoint
        ``"chat"``, ``"responses"``, ``"embeddings"`` or a provider's own path.
    system
        System prompt.
    max_tokens
        Upper bound of output tokens per answer.
    params
        Further request parameters, passed to the provider as they are.
    raw
        Contents are complete request bodies.
    schema
        JSON schema that every answer has to follow.
    schema_name
        Its name, for providers that want one.
    cache
        ``"5m"`` or ``"1h"``: have the shared prefix cached. A hint, not part of what is meant.
    prefix
        Text that all prompts begin with, where caching is wanted; a hint as well.
    """

    endpoint: str = "chat"
    system: str | None = None
    max_tokens: int | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    raw: bool = False
    schema: dict[str, Any] | None = None
    schema_name: str = ""
    cache: str | None = None
    prefix: str = ""


# Usages, tool calls and results come by the hundred thousand and hold no cycles: without gc=False
# the garbage collector would look at all of them again and again.


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one request or a sum of them.

    `input` includes `cached` (read from a prompt cache) and `cache_write` (written to one), which
    includes `cache_write_1h`; `output` includes `reasoning`.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cached=self.cached + other.cached,
            reasoning=self.reasoning + other.reasoning,
            cache_write=self.cache_write + other.cache_write,
            cache_write_1h=self.cache_write_1h + other.cache_write_1h,
        )


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A function that the model wants the user to call.

    Attributes
    ----------
    id
        The provider's id of the call, which the function's result has to name; some give none.
    arguments
        As an object; as text where it is no JSON.
    """

    name: str
    id: str | None = None
    arguments: Any = None

    def __str__(self) -> str:
        given = self.arguments
        shown = given if isinstance(given, str) else loosejson.dumps(given).decode()
        return f"{self.name}({'' if given is None else shown})"


#: The providers' words for an answer that ended at its bound of tokens.
TRUNCATED = frozenset(
    {
        "length",  # OpenAI, chat
        "max_output_tokens",  # OpenAI, responses
        "max_tokens",  # Anthropic
        "model_context_window_exceeded",  # Anthropic
        "MAX_TOKENS",  # Gemini
        "model_length",  # Mistral
        "max_length",  # some servers of open models
    }
)

#: Their words for an answer that broke off for another reason, in small letters.
BROKEN_OFF = frozenset(
    {"error", "failed", "cancelled", "canceled", "in_progress", "queued", "content_filter"}
)


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of one request, read from one raw line of a provider.

    Attributes
    ----------
    custom_id
        Ours; the only thing that ties a result to its request.
    text
        What the model said, or None; of a refusal, what was said before it.
    choices
        The texts of all answers to one request, when more than one was asked for (``n``,
        ``candidateCount``); `text` is the first that there is.
    tool_calls
        Functions that the model wants to be called, in its order.
    reasoning
        What the model thought, where the provider tells. Left out where answers are bound.
    parsed
        The answer as an object, when a schema was asked for and it follows that.
    vector
        The embedding, for embedding endpoints.
    vectors
        All embeddings of a row that asked for more than one; `vector` is the first.
    finish_reason
        The provider's word for why the answer ended: ``stop``, ``end_turn``, ``MAX_TOKENS``, …
    error
        One line for the user when there is no answer.
    code
        The provider's error code or type.
    billed
        Whether the provider may have charged for this row.
    transient
        Not billed and worth sending again by itself (expired, server error, rate limit).
    raw
        The line as the provider sent it; citations, annotations, log probabilities and all else
        that has no field of its own are in it. Left out where answers are bound.
    """

    custom_id: str
    outcome: Outcome
    text: str | None = None
    choices: list[str | None] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    parsed: Any = None
    vector: list[float] | None = None
    vectors: list[list[float]] | None = None
    finish_reason: str | None = None
    error: str | None = None
    code: str | None = None
    usage: Usage = Usage()
    model: str | None = None
    billed: bool = False
    transient: bool = False
    raw: bytes | None = None

    @property
    def truncated(self) -> bool:
        """Whether the answer ended because its tokens did."""
        return self.finish_reason in TRUNCATED

    @property
    def cut(self) -> bool:
        """Whether there is an answer that stops before its end, for whatever reason."""
        reason = self.finish_reason
        if reason is None or self.outcome is not Outcome.OK:
            return False
        return reason in TRUNCATED or reason.lower() in BROKEN_OFF

    @property
    def said(self) -> str:
        """The answer for people: its text, and each tool call as a call."""
        parts = [self.text] if self.text else []
        return "\n".join([*parts, *map(str, self.tool_calls)])


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


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what a provider takes in one job, our margin included.

    Attributes
    ----------
    requests
        Rows per job.
    bytes
        Bytes per job.
    line_bytes
        Bytes of one row.
    weigh
        How many of `requests` a request line counts for; None where every line counts once.
    one_model
        A job may hold only one model.
    labelled
        The provider keeps a label of ours on the job, so that a lost create can be found.
    settle
        Seconds that a listing is given to show an accepted create.
    documented
        The provider documents that time: after it, silence proves that nothing was created. Else
        only a listing that shows a later create of ours does.
    primed
        Caching needs one answered request before the others find something in the cache.
    """

    requests: int
    bytes: int
    line_bytes: int
    weigh: Weigh | None = None
    one_model: bool = True
    labelled: bool = True
    settle: float = 120.0
    documented: bool = False
    primed: bool = False


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Whose batch it is, without the key: a job seen from another account looks vanished."""

    base_url: str
    organisation: str = ""
    fingerprint: str = ""


class ErrorKind(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that failed for the same reason, and what to do about it; `code` is their byte."""

    kind: str
    rows: int
    code: int = 0
    example: str = ""
    remedy: str = ""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One answered row for the panel's details."""

    row: int
    prompt: str
    answer: str


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """A second batch of a job at its provider, paid beside its own unless it was cancelled."""

    remote_id: str
    cancelled: bool = False


class Mode(StrEnum):
    """How a job's requests reach the provider."""

    BATCH = "batch"
    REALTIME = "realtime"  # one by one through the ordinary endpoints, by this machine


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


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens that a batch's requests of one model are going to use, said before they are sent.

    Attributes
    ----------
    rows
        Requests; rows that are taken from earlier batches are none.
    low, input, ceiling
        Input tokens; `counted` is `input` before it was corrected by earlier batches.
    output, output_ceiling
        Output tokens; the ceiling is None where the requests name no bound.
    guessed
        `output` is a guess: this prompt was never answered before.
    long_rows, long_input
        Requests so long that they may cost more per token, and their input tokens.
    steep
        The longest request may be so long.
    cached, cache_write
        Parts of `input` that a prompt cache is expected to give, and to be given.
    writes
        The requests may write to a cache, at its price.
    reasks
        Rounds in which every row may be paid again.
    full, late
        Requests that go out in real time, at full price; any of them may, after a deadline.
    sampled, media, method, basis, corrected
        How it was found: lines measured, with images or files, counter, source of the output.
    prompt
        Tells the same prompt in later batches; see `spending.prompt_key`.
    url
        The server's base URL, which names the prices of a provider that is none of ours.
    """

    provider: str
    model: str
    rows: int
    low: int = 0
    input: int = 0
    ceiling: int = 0
    counted: int = 0
    output: int = 0
    output_ceiling: int | None = 0
    guessed: bool = False
    long_rows: int = 0
    long_input: int = 0
    steep: bool = False
    cached: int = 0
    cache_write: int = 0
    writes: bool = False
    reasks: int = 0
    full: int = 0
    late: bool = False
    sampled: int = 0
    media: bool = False
    method: str = ""
    basis: str = ""
    corrected: float = 1.0
    prompt: str = ""
    url: str = ""


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What one job paid for one model: a line of the ledger, which outlives the batch.

    Attributes
    ----------
    id
        Of the job and model, so that nothing is booked twice.
    mode
        ``"batch"``, ``"realtime"``, ``"cache"`` (one that was stored), ``"reuse"`` (nothing paid,
        `reused` saved) or ``"tracked"``.
    rows, answered, doubtful
        Requests sent; those with usage; those that may have been billed without telling usage.
    paid, realtime, cache, reused
        USD as decimal text: paid, the same in real time, saved by caching and by reuse; None where
        a price is not known.
    doubt
        USD that the doubtful rows may have cost at most.
    prompt
        Tells the same prompt in later batches; see `spending.prompt_key`.
    counted
        Input tokens that had been counted beforehand for the answered rows.
    """

    id: str
    batch_id: str
    notebook: str
    title: str
    provider: str
    model: str
    at: float
    mode: str = "batch"
    rows: int = 0
    answered: int = 0
    doubtful: int = 0
    usage: Usage = Usage()
    paid: str | None = None
    realtime: str | None = None
    cache: str = "0"
    reused: str = "0"
    doubt: float = 0.0
    prompt: str = ""
    counted: int = 0
    expected: float | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The form of the input, which is the form of the answers.

    Attributes
    ----------
    kind
        ``"one"``, ``"list"``, ``"dict"``, ``"series"`` or ``"frame"``.
    library
        ``"pandas"``, ``"polars"`` or ``"pyarrow"`` for frames and series.
    columns
        Columns of the input frame, in order.
    column
        Name of the answer column (``--as``).
    """

    kind: str
    library: str = ""
    columns: list[str] = msgspec.field(default_factory=list)
    column: str = "answer"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one named cell submitted. Packed per-row data lives beside it in the store.

    Attributes
    ----------
    models
        Every model it asks, ``provider:model``.
    routed
        Each row names its model: the pack ``models`` says which of `models`, two bytes a row.
    adopted
        It was created elsewhere: the pack ``keys`` holds the custom_ids of its rows.
    written, made_with
        A hash of the cell as the user wrote it, and the versions that turned it into requests; see
        `fingerprint`.
    realtime
        All of it is asked in real time.
    held
        Only the sample goes out: the rest waits for the user's word.
    deadline, deadline_cost
        When what is not back is to be finished in real time (Unix seconds), for USD at most.
    cut
        What is not back is cancelled at the provider and finished in real time.
    line
        The first line of its cell, as the user typed it last.
    """

    id: str
    notebook: str
    name: str
    version: int
    created_at: float
    rows: int
    recipe: Recipe
    models: list[str]
    shape: Shape
    plan_hash: str
    simulated: bool = False
    max_retries: int = 2
    max_reasks: int = 0
    round: int = 0
    used_at: float = 0.0
    cancel_requested: bool = False
    finished_at: float | None = None
    reused: int = 0
    skipped: int = 0
    sources: list[str] = msgspec.field(default_factory=list)
    draft: bool = False
    notice: str = ""
    routed: bool = False
    adopted: bool = False
    notify: str = ""
    delete_uploads: bool = False
    written: str = ""
    made_with: dict[str, str] = msgspec.field(default_factory=dict)
    realtime: bool = False
    held: bool = False
    deadline: float | None = None
    deadline_cost: float | None = None
    cut: bool = False
    estimates: list[Estimate] = msgspec.field(default_factory=list)
    max_cost: float | None = None
    line: str = ""

    @property
    def title(self) -> str:
        """The name as people see it: ``sentiment``, later versions ``sentiment#2``."""
        return self.name if self.version < 2 else f"{self.name}#{self.version}"

    @property
    def exact(self) -> str:
        """What names this version where there are later ones: ``sentiment#1``."""
        return f"{self.name}#{self.version}"


class JobLine(msgspec.Struct, frozen=True, kw_only=True):
    """One job in a panel's details."""

    id: str
    model: str
    rows: int
    state: str
    remote_id: str = ""
    error: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a panel may know about a batch at one moment. Times in seconds, costs in USD.

    Attributes
    ----------
    state
        One of ``draft, preparing, submitting, running, collecting, paused, attention, stopped,
        done, partial, failed, cancelled``: it chooses the colour.
    words
        The same in words a person uses, with what is being waited for.
    ok, failed, waiting
        Rows; with `unsent` their sum is `rows`. `failed` is what ended without an answer.
    unsent
        Rows that were never sent, since the user stopped the batch before.
    cut
        Those of `ok` whose answers stop before their end.
    progress
        Rows that the provider says it has finished but that are not collected yet (part of
        `waiting`); None when the provider does not tell.
    progress_failed
        Those of `progress` that the provider counts as failed.
    outcomes
        Rows by outcome, for instance ``{"ok": 9, "expired": 1}``.
    safe_to_close
        Every job was accepted: the computer may be switched off.
    keep_until
        Until when the provider keeps answers; once all are collected None if it keeps none.
    alone
        What becomes of it when this kernel is lost; empty when it is over.
    realtime
        This kernel does the work: when it ends, the batch stops until another goes on with it.
    deadline
        Seconds until what is not back is finished in real time.
    question, choices
        What the user has to decide, or may; and the panel's buttons for it: ``send``, ``stop``,
        ``finish`` and ``keep``.
    retryable
        Rows that ``%llm_batch retry`` would send again.
    doubtful
        Those of them that may have been billed, so that they would be paid again.
    cached
        Share of the input tokens that came out of a prompt cache, 0 to 1; None when caching was
        not asked for and did not happen.
    cost, saved
        What the answers that are there cost, and what the same tokens cost more in real time.
    saved_cache, saved_reuse
        What the prompt cache, and answers of earlier batches, saved besides.
    guessed
        `expected` rests on a guess of how long the answers are.
    expected, ceiling
        The whole batch while it is under way: what is spent, and what the rest will cost by its own
        answers, else as estimated; no ceiling where nothing bounds it.
    unpriced
        The price of a model is not known.
    line
        The whole snapshot as one line of text.
    """

    batch_id: str
    title: str
    model: str
    state: str
    words: str
    rows: int
    ok: int = 0
    failed: int = 0
    waiting: int = 0
    unsent: int = 0
    cut: int = 0
    progress: int | None = None
    progress_failed: int = 0
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    simulated: bool = False
    safe_to_close: bool = False
    finished: bool = False
    cancelling: bool = False
    retryable: int = 0
    doubtful: int = 0
    started_at: float = 0.0
    elapsed: float = 0.0
    remaining: float | None = None
    cost: float | None = None
    saved: float | None = None
    cached: float | None = None
    saved_cache: float | None = None
    saved_reuse: float | None = None
    expected: float | None = None
    ceiling: float | None = None
    guessed: bool = False
    unpriced: bool = False
    keep_until: float | None = None
    notice: str = ""
    jobs: list[JobLine] = msgspec.field(default_factory=list)
    errors: list[ErrorKind] = msgspec.field(default_factory=list)
    samples: list[Sample] = msgspec.field(default_factory=list)
    line: str = ""
    realtime: bool = False
    deadline: float | None = None
    question: str = ""
    choices: list[str] = msgspec.field(default_factory=list)
    alone: str = ""

    @property
    def halted(self) -> bool:
        """Whether nothing goes on until somebody changes something, such as a key."""
        return self.state in {"paused", "stopped"}

    @property
    def needs_user(self) -> bool:
        """Whether the batch is halted, or waits for a decision."""
        return self.halted or self.state == "attention"


class Rows(Protocol):
    """The input of a batch, read once; `frames.read` makes one of whatever the user has.

    Attributes
    ----------
    shape
        The form in which the answers go back.
    fields
        Field names when all rows are known to have the same ones (frames), else None.
    """

    shape: Shape
    fields: Sequence[str] | None

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def columns(self, names: Sequence[str], step: int = 1024) -> Iterator[tuple[Any, ...]]:
        """Yield the values of the fields `names`, a tuple per row (frames only).

        `step` rows are held as Python objects at a time.
        """
        ...

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield ``(key, item)`` per row; the key of a list item is its position."""
        ...

    def key(self, number: int) -> Any:
        """Return the key of row `number` alone."""
        ...

    def first(self) -> Any:
        """Return the first item, which stays to be read (where `fields` is None)."""
        ...


class Sink(Protocol):
    """Anything bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Take `data`."""
        ...
