"""Anthropic's result lines, without I/O: one raw line in, one `Result` out, never an exception.

A line is ``{"custom_id", "result": {"type", …}}``. The type is an open string: one that was never
seen before may stand for work that was done, so its row counts as perhaps billed and is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ..models import TRUNCATED, Outcome, Result, ToolCall, Usage
from . import encoding
from .decoding import arguments, as_json, mended, no_text, one_line, unreadable

#: Types of errors that passed on Anthropic's side; an errored row is never billed.
_TRANSIENT = frozenset({"api_error", "overloaded_error", "rate_limit_error", "timeout_error"})
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')


# -- what is read of a line; everything else is skipped by the decoder --------------------------
# Short-lived and without cycles: not the garbage collector's business (gc=False).


class _Written(msgspec.Struct, gc=False):
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class Tokens(msgspec.Struct, gc=False):
    """Token counts as the API tells them."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _Written | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: Any = None
    thinking: Any = None
    name: Any = None
    id: Any = None
    input: Any = None


class _StopDetails(msgspec.Struct, gc=False):
    explanation: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]
    model: str | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: Tokens | None = None


class _Details(msgspec.Struct, gc=False):
    error_code: str | None = None


class _Error(msgspec.Struct, gc=False):
    """An error, or the envelope of one: the real one lies a level deeper."""

    type: str | None = None
    message: str | None = None
    details: _Details | None = None
    error: _Error | None = None


class _Outcome(msgspec.Struct, gc=False):
    type: str
    message: _Message | None = None
    error: _Error | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    result: _Outcome


_LINE = msgspec.json.Decoder(_Line)


# -- reading -----------------------------------------------------------------------------------


def line(custom_id: str, status: int, body: bytes) -> bytes:
    """Return the result line of one HTTP answer, as a batch's results would hold it."""
    read = as_json(body)
    result: dict[str, Any] = {"type": "succeeded", "message": read}
    if status != 200:
        error = read if isinstance(read, msgspec.Raw) else {"type": str(status), "message": read}
        result = {"type": "errored", "error": error}
    return encoding.fast({"custom_id": custom_id, "result": result}) + b"\n"


def parse(line: bytes) -> Result:
    """Read one result line; unknown shapes become ``failed``."""
    try:
        read = _LINE.decode(line)
    except (ValueError, RecursionError):
        try:
            read = _LINE.decode(mended(line))
        except (ValueError, RecursionError):
            return unreadable(line, _CUSTOM_ID)
    custom_id, result = read.custom_id, read.result
    match result.type:
        case "succeeded" if result.message is not None:
            return _answered(custom_id, result.message)
        case "errored":
            return _errored(custom_id, result.error)
        case "canceled":
            return Result(
                custom_id=custom_id,
                outcome=Outcome.CANCELLED,
                error="the batch was cancelled before this request ran",
                code="canceled",
            )
        case "expired":
            return Result(
                custom_id=custom_id,
                outcome=Outcome.EXPIRED,
                error="the batch expired before this request ran",
                code="expired",
                transient=True,
            )
    return Result(
        custom_id=custom_id,
        outcome=Outcome.FAILED,
        error=one_line(f"a result of type {result.type!r} cannot be read; the raw line is kept"),
        code=result.type,
        billed=True,
    )


def _answered(custom_id: str, message: _Message) -> Result:
    reason, content = message.stop_reason, message.content
    if len(content) == 1 and reason != "refusal":  # the common case
        only = content[0]
        if only.type == "text" and isinstance(only.text, str) and only.text:
            return _billed(custom_id, message, Outcome.OK, text=only.text)
    texts = _strings(block.text for block in content if block.type == "text")
    text = "".join(texts) if texts else None
    thoughts = _strings(block.thinking for block in content if block.type == "thinking")
    reasoning = "\n\n".join(thoughts) or None
    if reason == "refusal":
        why = message.stop_details.explanation if message.stop_details is not None else None
        told = one_line(why or text or "the model declined to answer")
        return _billed(
            custom_id, message, Outcome.REFUSED, error=told, code=reason, text=text or None,
            reasoning=reasoning,
        )  # fmt: skip
    # Tools of the server's own were called already; what they gave is in the text and in `raw`.
    calls = tuple(
        ToolCall(
            name=block.name if isinstance(block.name, str) else "?",
            id=block.id if isinstance(block.id, str) else None,
            arguments=arguments(block.input),
        )
        for block in content
        if block.type == "tool_use"
    )
    if not text and not calls and reason in TRUNCATED:
        text = ""  # all tokens spent on thinking is still an answer that was cut
    elif not text and not calls:
        told = no_text(block.type for block in content)
        return _billed(
            custom_id, message, Outcome.FAILED, error=told, code="no_text", reasoning=reasoning
        )
    return _billed(
        custom_id, message, Outcome.OK, text=(text or None) if calls else text, tool_calls=calls,
        reasoning=reasoning,
    )  # fmt: skip


def _strings(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _billed(custom_id: str, message: _Message, outcome: Outcome, **more: Any) -> Result:
    return Result(
        custom_id=custom_id,
        outcome=outcome,
        finish_reason=message.stop_reason,
        usage=usage_of(message.usage),
        model=message.model,
        billed=True,
        **more,
    )


def _errored(custom_id: str, error: _Error | None) -> Result:
    while error is not None and error.error is not None:
        error = error.error
    kind = error.type if error is not None else None
    code = error.details.error_code if error is not None and error.details is not None else None
    message = error.message if error is not None else None
    return Result(
        custom_id=custom_id,
        outcome=Outcome.FAILED,
        error=one_line(message or kind or "the request failed"),
        code=code or kind or "errored",
        transient=kind in _TRANSIENT,
    )


def usage_of(tokens: Tokens | None) -> Usage:
    """Return the tokens in our own words."""
    if tokens is None:
        return Usage()
    read = tokens.cache_read_input_tokens or 0
    written = tokens.cache_creation_input_tokens or 0
    by_life, details = tokens.cache_creation, tokens.output_tokens_details
    return Usage(
        # Anthropic counts the three kinds of input apart.
        input=(tokens.input_tokens or 0) + read + written,
        output=tokens.output_tokens or 0,
        cached=read,
        reasoning=(details and details.thinking_tokens) or 0,
        cache_write=written,
        cache_write_1h=(by_life and by_life.ephemeral_1h_input_tokens) or 0,
    )
