"""Anthropic's result lines, without I/O: one raw line in, one `Result` out, never an exception.

A line is ``{"custom_id", "result": {"type", …}}``. The type is an open string: one that was never
seen before may stand for work that was done, so its row counts as perhaps billed and is kept; where
there is a message, that is the answer. What the fast decoder refuses is read once more, field by
field (`lenient`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ...core import loose_json
from ...core.result import TRUNCATED, Outcome, Result, ToolCall, Usage
from ..shared import encoding, lenient
from ..shared.decoding import arguments, as_json, name_in, no_text, one_line, unreadable
from ..shared.lenient import Count
from ..shared.reasons import plain, why

#: Types of errors that passed on Anthropic's side; an errored row is never billed.
_TRANSIENT = frozenset({"api_error", "overloaded_error", "rate_limit_error", "timeout_error"})
#: The name of a line's id.
_ID = "custom_id"


# -- what is read of a line; everything else is skipped by the decoder --------------------------
# Short-lived and without cycles: not the garbage collector's business (gc=False).


class _Written(msgspec.Struct, gc=False):
    ephemeral_1h_input_tokens: Count | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: Count | None = None


class Tokens(msgspec.Struct, gc=False):
    """Token counts as the API tells them."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
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
    content: list[_Block] | str | None = None
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
    type: str = ""
    message: _Message | None = None
    error: _Error | None = None


class _Line(msgspec.Struct, gc=False):
    #: Empty where there is none that could be read.
    custom_id: str = ""
    result: _Outcome = msgspec.field(default_factory=_Outcome)


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
            read = _read_loosely(line)
        except ValueError:
            return unreadable(line, _ID)
    custom_id, result = read.custom_id, read.result
    message = result.message
    if message is not None and (message.content or result.type == "succeeded"):
        return _answered(custom_id, message) or _without_answer(line)
    match result.type:
        case "errored":
            return _errored(custom_id, result.error, line)
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
        case "" | "succeeded":
            return _without_answer(line)
    return Result(
        custom_id=custom_id,
        outcome=Outcome.FAILED,
        error=one_line(f"a result of type {result.type!r} cannot be read; the raw line is kept"),
        code=result.type,
        billed=True,
    )


def _read_loosely(line: bytes) -> _Line:
    """Read a line that has not quite the form it should have; `ValueError` when it is none."""
    value = loose_json.loads(line)
    result = value.get("result") if isinstance(value, dict) else None
    result = lenient.fit(result, dict[str, Any])
    message = result.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(message, dict) and not isinstance(content, str):
        bare = [
            {"type": "text", "text": each} if isinstance(each, str) else each
            for each in (content if isinstance(content, list) else ())
        ]
        result = {**result, "message": {**message, "content": bare or None}}
    return lenient.fit({**value, "result": result}, _Line)


def _without_answer(line: bytes) -> Result:
    """Read a success that holds no message, but perhaps the reason for that."""
    code, message = _reason(line, "message")
    if message is None or code is None:
        return unreadable(line, _ID, message)
    return Result(
        custom_id=name_in(line, _ID), outcome=Outcome.FAILED, error=message, code=code, billed=True
    )


def _reason(line: bytes, name: str) -> tuple[str | None, str | None]:
    """Return code and message of what a result holds under `name`, whatever its form."""
    try:
        return why(loose_json.loads(line)["result"][name])
    except (ValueError, LookupError, TypeError):
        return None, None


def _blocks(content: list[_Block] | str | None) -> list[_Block]:
    if isinstance(content, str):
        return [_Block(type="text", text=content)]
    return content or []


def _answered(custom_id: str, message: _Message) -> Result | None:
    reason, content = message.stop_reason, message.content
    if content is None and reason is None:
        return None
    content = _blocks(content)
    if len(content) == 1 and reason != "refusal":  # the common case
        only = content[0]
        if only.type == "text" and isinstance(only.text, str) and only.text:
            return _billed(custom_id, message, Outcome.OK, text=only.text)
    texts = _strings(block.text for block in content if block.type == "text")
    texts = texts or _strings(block.text for block in content)
    text = "".join(texts) if texts else None
    thoughts = _strings(block.thinking for block in content if block.type == "thinking")
    reasoning = "\n\n".join(thoughts) or None
    if reason == "refusal":
        told = message.stop_details.explanation if message.stop_details is not None else None
        told = one_line(told or text or "the model declined to answer")
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


def _errored(custom_id: str, error: _Error | None, line: bytes) -> Result:
    while error is not None and error.error is not None:
        error = error.error
    kind = error.type if error is not None else None
    code = error.details.error_code if error is not None and error.details is not None else None
    message = plain(error.message) if error is not None and error.message else None
    if message is None:  # its words stand under another name
        told, message = _reason(line, "error")
        code = code or told
    return Result(
        custom_id=custom_id,
        outcome=Outcome.FAILED,
        error=message or one_line(kind or "the request failed"),
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
