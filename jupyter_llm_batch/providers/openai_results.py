"""OpenAI's result lines, without I/O: one raw line in, one `Result` out, never an exception.

A line is ``{"custom_id", "response": {"status_code", "body"} | null, "error": {…} | null}``. It is
a success when a response is present with status 200; "error is null" says nothing, since a
request that the endpoint refused has a null error too and its reason inside the response's body.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from ..models import TRUNCATED, Outcome, Result, ToolCall, Usage
from . import encoding
from .decoding import arguments, as_json, mended, no_text, one_line, unreadable
from .openai_wire import kind

#: Codes by which the endpoint refuses the content itself.
_CONTENT_CODES = {"content_filter", "content_policy_violation"}
#: Codes of rows that never ran or broke on OpenAI's side.
_TRANSIENT_CODES = {"batch_expired", "request_timeout", "server_error", "rate_limit_exceeded"}
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')


# -- what is read of a line; everything else is skipped by the decoder --------------------------
# Short-lived and without cycles: not the garbage collector's business (gc=False).


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class Tokens(msgspec.Struct, gc=False):
    """Token counts as the API tells them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Error(msgspec.Struct, gc=False):
    code: str | int | None = None
    type: str | None = None
    message: str | None = None


class _Body(msgspec.Struct, gc=False):
    model: str | None = None
    usage: Tokens | None = None
    error: _Error | str | None = None


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    #: What compatible servers call the model's thoughts.
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chat(_Body, gc=False):
    choices: list[_Choice] | None = None


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    call_id: str | None = None
    name: Any = None
    arguments: Any = None
    input: Any = None
    action: Any = None
    summary: Any = None
    content: list[_Part] | str | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(_Body, gc=False):
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    output: list[_Item] | None = None


class _Vector(msgspec.Struct, gc=False):
    embedding: list[float] | str
    index: int | None = None


class _Embeddings(_Body, gc=False):
    data: list[_Vector] | None = None


class _Moderations(_Body, gc=False):
    results: list[Any] | None = None


_B = TypeVar("_B")


class _Answer(msgspec.Struct, Generic[_B], gc=False):
    status_code: int = 0
    body: _B | str | None = None


class _Line(msgspec.Struct, Generic[_B], gc=False):
    custom_id: str
    response: _Answer[_B] | None = None
    error: _Error | str | None = None


_CHAT = msgspec.json.Decoder(_Line[_Chat])
_RESPONSES = msgspec.json.Decoder(_Line[_Response])
_EMBEDDINGS = msgspec.json.Decoder(_Line[_Embeddings])
_MODERATIONS = msgspec.json.Decoder(_Line[_Moderations])
_OTHER = msgspec.json.Decoder(_Line[_Body])
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "chat": _CHAT,
    "completions": _CHAT,
    "responses": _RESPONSES,
    "embeddings": _EMBEDDINGS,
    "moderations": _MODERATIONS,
}


# -- reading -----------------------------------------------------------------------------------


def line(custom_id: str, status: int, body: bytes) -> bytes:
    """Return the result line of one HTTP answer, as a batch's output file would hold it."""
    response = {"status_code": status, "body": as_json(body)}
    return encoding.fast({"custom_id": custom_id, "response": response, "error": None}) + b"\n"


def parse(line: bytes, endpoint: str) -> Result:
    """Read one line of an output or error file; unknown shapes become ``failed``."""
    name = kind(endpoint)
    decoder = _DECODERS.get(name, _OTHER)
    try:
        read = decoder.decode(line)
    except (ValueError, RecursionError):
        try:
            line = mended(line)
            read = decoder.decode(line)
        except (ValueError, RecursionError):
            return unreadable(line, _CUSTOM_ID)
    answer = read.response
    if answer is None or answer.status_code != 200:
        return _failure(read, line)
    body = answer.body
    if isinstance(body, _Chat):
        return _from_chat(read.custom_id, body, line)
    if isinstance(body, _Response):
        return _from_response(read.custom_id, body, line)
    if isinstance(body, _Embeddings):
        return _from_embeddings(read.custom_id, body, line)
    if isinstance(body, _Moderations):
        results = body.results or []
        verdict = results[0] if len(results) == 1 else results
        return _ok(read.custom_id, body, _as_json(verdict), "stop")
    if isinstance(body, _Body):
        return _ok(read.custom_id, body, _as_json(_body_of(line)), "stop")
    return unreadable(line, _CUSTOM_ID)


def _from_chat(custom_id: str, body: _Chat, line: bytes) -> Result:
    choices = body.choices
    if not choices:
        return unreadable(line, _CUSTOM_ID)
    if len(choices) == 1:
        return _from_choice(custom_id, body, choices[0]) or unreadable(line, _CUSTOM_ID)
    read = [_from_choice(custom_id, body, choice) for choice in choices]
    results = [each for each in read if each is not None]
    if len(results) < len(read):
        return unreadable(line, _CUSTOM_ID)
    # One answer is enough for the row; the others stand beside it.
    first = next((each for each in results if each.outcome is Outcome.OK), results[0])
    return replace(first, choices=[each.text for each in results])


def _from_choice(custom_id: str, body: _Chat, choice: _Choice) -> Result | None:
    reason, message = choice.finish_reason, choice.message
    if message is None:  # the old completions endpoint
        return None if choice.text is None else _ok(custom_id, body, choice.text, reason)
    content = message.content
    text = content if isinstance(content, str) or content is None else _joined(content)
    thoughts = message.reasoning_content or message.reasoning
    calls = message.tool_calls or message.function_call
    if text and not (thoughts or calls or message.refusal):  # the common case
        return _ok(custom_id, body, text, reason)
    more: dict[str, Any] = {"reasoning": thoughts if isinstance(thoughts, str) else None}
    if message.refusal:
        return _refused(
            custom_id, body, message.refusal, "refusal", reason, text=text or None, **more
        )
    if reason == "content_filter" and not text:
        told = "the content filter removed the answer"
        return _refused(custom_id, body, told, reason, reason, **more)
    calls = message.tool_calls if isinstance(message.tool_calls, list) else []
    if isinstance(message.function_call, dict):
        calls = [*calls, {"function": message.function_call}]
    more["tool_calls"] = tuple(_call(call) for call in calls if isinstance(call, dict))
    return _answered(custom_id, body, text, reason, **more)


def _call(call: dict[str, Any]) -> ToolCall:
    kind = call.get("type")
    named = call.get("function", call.get(kind) if isinstance(kind, str) else None)
    named = named if isinstance(named, dict) else {}
    return ToolCall(
        name=str(named.get("name") or kind or "?"),
        id=call["id"] if isinstance(call.get("id"), str) else None,
        arguments=arguments(named.get("arguments", named.get("input"))),
    )


def _from_response(custom_id: str, body: _Response, line: bytes) -> Result:
    items = body.output or []
    parts: list[_Part] = []
    plain = body.status == "completed"
    for item in items:
        if item.type == "message" and isinstance(item.content, list):
            parts += item.content
        elif item.type != "reasoning" or item.summary or item.content:
            plain = False
    refusal = next((part.refusal for part in parts if part.refusal), None)
    text = _joined(parts) or None
    if plain and text and not refusal:
        return _ok(custom_id, body, text, body.status)  # the common case
    more: dict[str, Any] = {"reasoning": _thoughts(items)}
    reason = body.status
    if body.status == "incomplete":
        reason = (body.incomplete_details and body.incomplete_details.reason) or "incomplete"
        if reason == "content_filter" and not text:
            told = "the content filter removed the answer"
            return _refused(custom_id, body, told, "content_filter", reason, **more)
    elif body.status != "completed":
        return _unfinished(custom_id, body, line)
    if refusal:
        return _refused(custom_id, body, refusal, "refusal", reason, text=text, **more)
    more["tool_calls"] = tuple(
        ToolCall(
            name=item.name if isinstance(item.name, str) else item.type,
            id=item.call_id,
            arguments=arguments(_first(item.arguments, item.input, item.action)),
        )
        for item in items
        if item.call_id is not None and not item.type.endswith("_output")
    )
    if parts and text is None and not more["tool_calls"] and reason == "completed":
        text = ""  # a message was given, and it is empty
    kinds = [item.type for item in items]
    return _answered(custom_id, body, text, reason, kinds=kinds, **more)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _thoughts(items: list[_Item]) -> str | None:
    """Return what the model thought: its own words, or else their summary."""
    found = []
    for item in items:
        if item.type != "reasoning":
            continue
        said = _joined(item.content) if isinstance(item.content, list) else ""
        summary = item.summary if isinstance(item.summary, list) else []
        told = [each.get("text") for each in summary if isinstance(each, dict)]
        found.append(said or "\n\n".join(each for each in told if isinstance(each, str)))
    return "\n\n".join(filter(None, found)) or None


def _from_embeddings(custom_id: str, body: _Embeddings, line: bytes) -> Result:
    if not body.data:
        return unreadable(line, _CUSTOM_ID)
    places = [each.index for each in body.data]
    data = body.data
    if None not in places:
        data = sorted(data, key=lambda each: each.index or 0)
    try:
        vectors = [_floats(each.embedding) for each in data]
    except ValueError:
        return unreadable(line, _CUSTOM_ID)
    return Result(
        custom_id=custom_id,
        outcome=Outcome.OK,
        vector=vectors[0],
        vectors=vectors if len(vectors) > 1 else None,
        usage=usage_of(body.usage),
        model=body.model,
        billed=True,
    )


def _floats(vector: list[float] | str) -> list[float]:
    """Return a vector; ``encoding_format: base64`` gives the bytes of its 32-bit floats."""
    if not isinstance(vector, str):
        return vector
    packed = base64.b64decode(vector, validate=True)
    count, rest = divmod(len(packed), 4)
    if rest:
        raise ValueError("the vector ends inside a number")
    return [*struct.unpack(f"<{count}f", packed)]


def _ok(custom_id: str, body: _Body, text: str | None, reason: str | None) -> Result:
    return Result(
        custom_id=custom_id,
        outcome=Outcome.OK,
        text=text,
        finish_reason=reason,
        usage=usage_of(body.usage),
        model=body.model,
        billed=True,
    )


def _answered(
    custom_id: str,
    body: _Body,
    text: str | None,
    reason: str | None,
    *,
    kinds: Iterable[str] = (),
    **more: Any,
) -> Result:
    if text is not None or more["tool_calls"]:
        text = text or None if more["tool_calls"] else text
        return replace(_ok(custom_id, body, text, reason), **more)
    if reason in TRUNCATED:  # all tokens spent on reasoning is still an answer that was cut
        return replace(_ok(custom_id, body, "", reason), **more)
    return Result(
        custom_id=custom_id,
        outcome=Outcome.FAILED,
        finish_reason=reason,
        error=no_text(kinds),
        code="no_text",
        usage=usage_of(body.usage),
        model=body.model,
        billed=True,
        **more,
    )


def _refused(
    custom_id: str, body: _Body, told: str, code: str, reason: str | None, **more: Any
) -> Result:
    return Result(
        custom_id=custom_id,
        outcome=Outcome.REFUSED,
        finish_reason=reason,
        error=one_line(told),
        code=code,
        usage=usage_of(body.usage),
        model=body.model,
        billed=True,
        **more,
    )


def _unfinished(custom_id: str, body: _Response, line: bytes) -> Result:
    """Read a response object that ended as failed or cancelled, or did not end at all."""
    if body.status is None:
        return unreadable(line, _CUSTOM_ID)
    code, message = _reason(body.error)
    usage = usage_of(body.usage)
    billed = usage != Usage() or body.status not in {"failed", "cancelled"}
    return Result(
        custom_id=custom_id,
        outcome=Outcome.CANCELLED if body.status == "cancelled" else Outcome.FAILED,
        error=message or f"the response ended as {body.status!r}",
        code=code or body.status,
        usage=usage,
        model=body.model,
        billed=billed,
        transient=not billed and code in _TRANSIENT_CODES,
    )


def _failure(read: _Line[Any], line: bytes) -> Result:
    answer = read.response
    if answer is None:
        if read.error is None:
            return unreadable(line, _CUSTOM_ID)
        code, message = _reason(read.error)
        outcome = {"batch_expired": Outcome.EXPIRED, "batch_cancelled": Outcome.CANCELLED}.get(
            code or "", Outcome.FAILED
        )
        transient = code in _TRANSIENT_CODES
        return Result(
            custom_id=read.custom_id,
            outcome=outcome,
            error=message or code or "the request was not executed",
            code=code,
            # A code never seen before may stand for work that was done.
            billed=not transient and outcome is Outcome.FAILED,
            transient=transient,
        )
    status = answer.status_code
    body = answer.body
    code, message = _reason(body.error if isinstance(body, _Body) else body)
    if code is None and message is None:
        code, message = _reason(read.error)
    return Result(
        custom_id=read.custom_id,
        outcome=Outcome.REFUSED if code in _CONTENT_CODES else Outcome.FAILED,
        error=message or f"the request failed with HTTP status {status}",
        code=code or str(status),
        # 0 was seen in the wild: the request was never answered.
        transient=status in {0, 408, 429} or status >= 500,
    )


def _reason(error: _Error | str | None) -> tuple[str | None, str | None]:
    """Return the code and the one-line message of an error object."""
    if error is None:
        return None, None
    if isinstance(error, str):
        return None, one_line(error)
    code = error.type if error.code is None else str(error.code)
    return code, one_line(error.message) if error.message else None


def usage_of(tokens: Tokens | None) -> Usage:
    """Return the tokens in our own words."""
    if tokens is None:
        return Usage()
    read = tokens.prompt_tokens_details or tokens.input_tokens_details
    written = tokens.completion_tokens_details or tokens.output_tokens_details
    return Usage(
        input=tokens.prompt_tokens or tokens.input_tokens or 0,
        output=tokens.completion_tokens or tokens.output_tokens or 0,
        cached=(read and read.cached_tokens) or 0,
        reasoning=(written and written.reasoning_tokens) or 0,
        cache_write=(read and read.cache_write_tokens) or 0,
    )


def _joined(parts: list[_Part]) -> str:
    return "".join(part.text for part in parts if part.text)


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _body_of(line: bytes) -> Any:
    return msgspec.json.decode(line)["response"]["body"]
