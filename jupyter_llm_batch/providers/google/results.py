"""Gemini's result lines, without I/O: one raw line in, one `Result` out, never an exception.

A line is ``{"key", "response"}`` or ``{"key", "error"}``, where the error is a google.rpc.Status;
the answers of inline jobs are brought into the same form when they are fetched. Where there is an
answer, it counts. What the fast decoder refuses is read once more, field by field (`lenient`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...core import loose_json
from ...core.result import TRUNCATED, Outcome, Result, ToolCall, Usage
from ..shared import encoding, lenient
from ..shared.decoding import as_json, no_text, one_line, unreadable
from ..shared.lenient import Count
from ..shared.reasons import plain, why
from .cache import blamed
from .objects import Status, explain

#: The name of a line's id.
_ID = "key"

#: Why an answer was withheld.
_WITHHELD = frozenset(
    {
        "SAFETY",
        "PROHIBITED_CONTENT",
        "BLOCKLIST",
        "RECITATION",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
    }
)
#: What a part may hold instead of text.
_HELD = ("inline_data", "file_data", "executable_code", "code_execution_result")
#: The names of google.rpc codes.
_NAMES = {
    1: "CANCELLED",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}
#: google.rpc codes and HTTP statuses of rows that never ran or broke on Google's side.
_CANCELLED = frozenset({1, 499})
_PASSING = frozenset({4, 8, 13, 14, 429, 500, 502, 503, 504})
#: Those of requests that were read and refused: 3, 5, 7, 9, 11, 12 and 16, and HTTP's 4xx.
_REFUSED = frozenset({3, 5, 7, 9, 11, 12, 16, 400, 401, 403, 404, 413})


# -- what is read of a line; everything else is skipped by the decoder --------------------------
# Short-lived and without cycles: not the garbage collector's business (gc=False).


class Tokens(msgspec.Struct, rename="camel", gc=False):
    """Token counts as the API tells them; those that are zero are left out."""

    prompt_token_count: Count | None = None
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None


class _Part(msgspec.Struct, rename="camel", gc=False):
    text: str | None = None
    thought: bool = False
    function_call: dict[str, Any] | None = None
    inline_data: Any = None
    file_data: Any = None
    executable_code: Any = None
    code_execution_result: Any = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel", gc=False):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(msgspec.Struct, rename="camel", gc=False):
    block_reason: str | None = None


class _Embedding(msgspec.Struct, gc=False):
    values: list[float]


class _Response(msgspec.Struct, rename="camel", gc=False):
    candidates: list[_Candidate] | None = None
    error: Any = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Tokens | None = None
    model_version: str | None = None
    embedding: _Embedding | None = None
    token_count: Count | None = None


class _Line(msgspec.Struct, gc=False):
    #: Empty where there is none: an answer that nobody can say the row of.
    key: str = ""
    response: _Response | None = None
    error: Status | None = None
    code: int | None = None
    message: str | None = None
    status: str | None = None


_LINE = msgspec.json.Decoder(_Line, strict=False)


def line(key: str, status: int, body: bytes) -> bytes:
    """Return the result line of one HTTP answer, as a batch's results would hold it."""
    if status == 200:
        return encoding.fast({"key": key, "response": as_json(body)}) + b"\n"
    try:
        said = loose_json.loads(body)
    except ValueError:
        said = body.decode(errors="replace")
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict):
        code, message = why(said)
        told = message or f"the request failed with HTTP status {status}"
        error = {"code": status, "message": told} | ({"status": code} if code else {})
    return loose_json.dumps({"key": key, "error": error}) + b"\n"


def parse(line: bytes) -> Result:
    """Read one result line; unknown shapes become ``failed``."""
    try:
        read = _LINE.decode(line)
    except (ValueError, RecursionError):
        try:
            read = _read_loosely(line)
        except ValueError:
            return unreadable(line, _ID)
    response = read.response
    if response is None:
        return _without_response(read, line)
    if response.embedding is not None and not response.candidates:
        return _ok(read.key, response, None, None)
    if not response.candidates:
        blocked = response.prompt_feedback and response.prompt_feedback.block_reason
        if blocked:
            return _refused(read.key, response, blocked, "the prompt was blocked")
        return _without_response(read, line, response)
    answers = [_from_candidate(read.key, response, each) for each in response.candidates]
    if len(answers) == 1:
        return answers[0]
    # One answer is enough for the row; the others stand beside it.
    first = next((each for each in answers if each.outcome is Outcome.OK), answers[0])
    return msgspec.structs.replace(first, choices=[each.text for each in answers])


def _read_loosely(line: bytes) -> _Line:
    """Read a line that has not quite the form it should have; `ValueError` when it is none."""
    value = loose_json.loads(line)
    read = lenient.fit(value, _Line)
    response = value.get("response")
    vector = response.get("embedding") if isinstance(response, dict) else None
    if vector is not None and read.response is not None and read.response.embedding is None:
        raise ValueError("the embedding holds something else than numbers")
    return read


def _without_response(read: _Line, line: bytes, response: _Response | None = None) -> Result:
    """Read a line without an answer: "a status object", in its field, or bare."""
    usage = Usage() if response is None else _usage(response)
    error = read.error or Status(read.code, read.message, read.status)
    if error.code is not None or error.message is not None:
        result = _failure(read.key, error)
        return result if usage == Usage() else _worked_on(result, usage)
    code, message = _reason(line)
    if code is None or message is None:
        return unreadable(line, _ID, message, usage)
    return Result(
        custom_id=read.key,
        outcome=Outcome.FAILED,
        error=message,
        code=code,
        usage=usage,
        billed=True,
    )


def _worked_on(result: Result, usage: Usage) -> Result:
    return msgspec.structs.replace(result, usage=usage, billed=True, transient=False)


def _reason(line: bytes) -> tuple[str | None, str | None]:
    try:
        value = loose_json.loads(line)
        code, message = why(value.get("error"))
        return (code, message) if message else why(value.get("response"))
    except (ValueError, AttributeError):
        return None, None


def _from_candidate(key: str, response: _Response, candidate: _Candidate) -> Result:
    reason = candidate.finish_reason
    parts = (candidate.content and candidate.content.parts) or []
    if len(parts) == 1 and reason not in _WITHHELD:  # the common case
        only = parts[0]
        if only.text and not only.thought and not only.function_call:
            return _ok(key, response, only.text, reason)
    said = [part.text for part in parts if part.text is not None and not part.thought]
    text = "".join(said) if said else None
    thoughts = [part.text for part in parts if part.text and part.thought]
    more: dict[str, Any] = {"reasoning": "".join(thoughts) or None}
    if reason in _WITHHELD:
        told = plain(candidate.finish_message or "") or "the answer was withheld"
        return _refused(key, response, reason, told, text=text or None, **more)
    more["tool_calls"] = tuple(_call(part.function_call) for part in parts if part.function_call)
    if more["tool_calls"]:
        return _ok(key, response, text or None, reason, **more)
    if text is not None or reason in TRUNCATED:  # all tokens spent on thinking is a cut answer
        return _ok(key, response, text or "", reason, **more)
    kinds = (name for part in parts for name in _HELD if getattr(part, name) is not None)
    return Result(
        custom_id=key,
        outcome=Outcome.FAILED,
        finish_reason=reason,
        error=one_line(candidate.finish_message or no_text(kinds)),
        code="no_text",
        usage=_usage(response),
        model=response.model_version,
        billed=True,
        **more,
    )


def _call(call: dict[str, Any]) -> ToolCall:
    return ToolCall(
        name=str(call.get("name") or "?"),
        id=call["id"] if isinstance(call.get("id"), str) else None,
        arguments=call.get("args"),
    )


def _ok(key: str, response: _Response, text: str | None, reason: str | None, **more: Any) -> Result:
    return Result(
        custom_id=key,
        outcome=Outcome.OK,
        text=text,
        vector=response.embedding.values if response.embedding else None,
        finish_reason=reason,
        usage=_usage(response),
        model=response.model_version,
        billed=True,
        **more,
    )


def _refused(key: str, response: _Response, reason: str, told: str, **more: Any) -> Result:
    usage = _usage(response)
    return Result(
        custom_id=key,
        outcome=Outcome.REFUSED,
        finish_reason=reason,
        error=one_line(f"{told} ({reason})"),
        code=reason,
        usage=usage,
        model=response.model_version,
        billed=usage != Usage(),
        **more,
    )


def _failure(key: str, error: Status) -> Result:
    code = error.code
    cancelled = code in _CANCELLED
    # Later rounds go without a cache, so that one that is gone or refused heals by itself.
    transient = cancelled or code in _PASSING or (code in _REFUSED and blamed(error.message))
    return Result(
        custom_id=key,
        outcome=Outcome.CANCELLED if cancelled else Outcome.FAILED,
        error=explain(error),
        code=error.status or (None if code is None else _NAMES.get(code, str(code))),
        # A code never seen before may stand for work that was done.
        billed=not transient and code not in _REFUSED,
        transient=transient,
    )


def _usage(response: _Response) -> Usage:
    tokens = response.usage_metadata
    if tokens is None:
        return Usage(input=response.token_count or 0)
    return usage_of(tokens)


def usage_of(tokens: Tokens) -> Usage:
    """Return the tokens in our own words."""
    thoughts = tokens.thoughts_token_count or 0
    return Usage(
        input=(tokens.prompt_token_count or 0) + (tokens.tool_use_prompt_token_count or 0),
        output=(tokens.candidates_token_count or 0) + thoughts,
        cached=tokens.cached_content_token_count or 0,
        reasoning=thoughts,
    )
