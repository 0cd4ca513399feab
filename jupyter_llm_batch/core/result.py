"""One answer: its outcome, usage, tool calls, and the kinds of errors."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from . import loose_json


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    MISSING = "missing"


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
        The provider's id of the call, to be repeated with the function's result; may be empty.
    arguments
        As an object; as text where it is not JSON.
    """

    name: str
    id: str | None = None
    arguments: Any = None

    def __str__(self) -> str:
        given = self.arguments
        shown = given if isinstance(given, str) else loose_json.dumps(given).decode()
        return f"{self.name}({'' if given is None else shown})"


#: Finish reasons of an answer that reached its limit of tokens.
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


#: Finish reasons of an answer that was cut for another reason, in lower case.
BROKEN_OFF = frozenset(
    {"error", "failed", "cancelled", "canceled", "in_progress", "queued", "content_filter"}
)


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of one request, read from one raw line of a provider.

    Attributes
    ----------
    custom_id
        Our id, the only link from a result to its request.
    text
        The answer, or None; for a refusal, the text before it.
    choices
        The texts of all answers to one request, when more than one was asked for (``n``,
        ``candidateCount``); `text` is the first that there is.
    tool_calls
        Functions that the model wants to be called, in its order.
    reasoning
        The model's reasoning, where the provider returns it. Not kept when answers are bound.
    parsed
        The answer as an object, when it follows a requested schema.
    vector
        The embedding, for embedding endpoints.
    vectors
        All embeddings of a row that asked for more than one; `vector` is the first.
    finish_reason
        The provider's finish reason: ``stop``, ``end_turn``, ``MAX_TOKENS``, …
    error
        One line for the user when there is no answer.
    code
        The provider's error code or type.
    billed
        Whether the provider may have charged for this row.
    transient
        Not billed and resent automatically (expired, server error, rate limit).
    raw
        The line as the provider sent it, with citations, annotations, log probabilities and all
        that has no field here. Not kept when answers are bound.
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
        """Whether the answer reached its limit of tokens."""
        return self.finish_reason in TRUNCATED

    @property
    def cut(self) -> bool:
        """Whether there is an answer that was cut, for whatever reason."""
        reason = self.finish_reason
        if reason is None or self.outcome is not Outcome.OK:
            return False
        return reason in TRUNCATED or reason.lower() in BROKEN_OFF

    @property
    def said(self) -> str:
        """The answer as readable text, with tool calls written as calls."""
        parts = [self.text] if self.text else []
        return "\n".join([*parts, *map(str, self.tool_calls)])


class ErrorKind(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that failed for the same reason, and the remedy; `code` is their byte."""

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
