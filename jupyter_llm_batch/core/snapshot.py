"""Snapshot of a batch for panels."""

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
    """State of a batch at one moment, as panels show it. Times in seconds, costs in USD.

    Attributes
    ----------
    state
        One of ``draft, preparing, submitting, running, collecting, paused, attention, stopped,
        done, partial, failed, cancelled``. Sets the colour.
    words
        The state in plain words, with what the batch waits for.
    ok, failed, waiting
        Row counts; with `unsent` they add up to `rows`. `failed` rows ended without an answer.
    unsent
        Rows that were never sent because the user stopped the batch.
    cut
        Rows of `ok` whose answers were cut.
    progress
        Rows that the provider has finished but that are not collected yet (part of `waiting`);
        None when the provider does not report them.
    progress_failed
        Rows of `progress` that the provider counts as failed.
    outcomes
        Rows by outcome, for instance ``{"ok": 9, "expired": 1}``.
    safe_to_close
        Every job was accepted: the computer may be switched off.
    keep_until
        Until when the provider keeps the answers (Unix seconds); None if it keeps none after all
        are collected.
    alone
        What happens to the batch when this kernel is lost; empty when it has ended.
    realtime
        This kernel sends the rows. When it ends, the batch stops until another kernel continues.
    deadline
        Seconds until unfinished rows are sent in real time.
    question, choices
        A decision for the user, and the panel's buttons for it: ``send``, ``stop``,
        ``finish`` and ``keep``.
    retryable
        Rows that ``%llm_batch retry`` would resend.
    doubtful
        Rows of `retryable` that may have been billed: a retry may pay twice.
    cached
        Share of the input tokens read from a prompt cache, 0 to 1; None when caching was not
        requested and did not happen.
    cost, saved
        Cost of the answers so far, and what was saved against real time.
    saved_cache, saved_reuse
        Further savings by the prompt cache and by answers of earlier batches.
    guessed
        `expected` is based on a guess of the length of the answers.
    expected, ceiling
        Cost of the whole batch while it is running: what is spent, plus the rest priced by the
        answers so far, else by the estimate. `ceiling` is None where nothing bounds it.
    unpriced
        The price of a model is not known.
    line
        The whole snapshot as one line of text.
    options
        The options that it was sent with, as they are typed: ``--retry 3 --dedupe``.
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
    options: str = ""

    @property
    def halted(self) -> bool:
        """Whether the batch is stopped until somebody changes something, such as a key."""
        return self.state in {"paused", "stopped"}

    @property
    def needs_user(self) -> bool:
        """Whether the batch is halted or needs a decision."""
        return self.halted or self.state == "attention"
