"""The state of a batch at one moment, as panels show it."""

from __future__ import annotations

import msgspec

from .result import ErrorKind, Sample


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
