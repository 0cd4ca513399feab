"""Estimates of what a batch will use, and records of what was spent."""

from __future__ import annotations

import msgspec

from .result import Usage


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Estimate of the tokens that a batch's requests of one model will use.

    Attributes
    ----------
    rows
        Requests; rows reused from earlier batches do not count.
    low, input, ceiling
        Input tokens; `counted` is `input` before it was corrected by earlier batches.
    output, output_ceiling
        Output tokens; the ceiling is None where the requests name no bound.
    guessed
        `output` is a guess: this prompt was never answered before.
    long_rows, long_input
        Requests in a long-context price tier, and their input tokens.
    steep
        The longest request may reach that tier.
    cached, cache_write
        Parts of `input` expected to be read from, and written to, a prompt cache.
    writes
        The requests may write to a cache, at its price.
    reasks
        Rounds of `--reask`, in each of which every row may be paid once more.
    full, late
        Requests that are sent in real time at full price, and whether any may be, after a
        deadline.
    sampled, media, method, basis, corrected
        How it was made: lines measured, images or files, counter, source of the output length.
    prompt
        Key of the prompt, the same in later batches; see `budget.prompt_key`.
    url
        The server's base URL, by which prices of an OpenAI-compatible server are found.
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
    """What one job paid for one model: a line of the ledger. It stays when the batch is deleted.

    Attributes
    ----------
    id
        Of the job and model, so that nothing is recorded twice.
    mode
        ``"batch"``, ``"realtime"``, ``"cache"`` (one that was stored), ``"reuse"`` (nothing paid,
        `reused` saved) or ``"tracked"``.
    rows, answered, doubtful
        Requests sent; those with usage; those that may have been billed without usage.
    paid, realtime, cache, reused
        USD as decimal text: paid, the same in real time, saved by caching and by reuse; None where
        a price is not known.
    doubt
        USD that the doubtful rows may have cost at most.
    prompt
        Key of the prompt, the same in later batches; see `budget.prompt_key`.
    counted
        Input tokens estimated beforehand for the answered rows.
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
