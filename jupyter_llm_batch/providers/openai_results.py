"""OpenAI's result lines, without I/O: one raw line in, one `Result` out, never an exception.

A line is ``{"custom_id", "response": {"status_code", "body"} | null, "error": {…} | null}``. It is
a success when a response is present with status 200; "error is null" says nothing, since a
request that the endpoint refused has a null error too and its reason inside the response's body.
"""

from __future__ import annotations

import base64
import re
from array import array
from typing import Any, Generic, TypeVar

import msgspec

from ..models import Outcome, Result, Usage
from .decoding import mended, one_line, unreadable
from .openai_wire import kind

#: Codes by which the endpoint refuses the content itself.
_CONTENT_CODES = {"content_filter", "content_policy_violation"}
#: Codes of rows that never ran or broke on OpenAI's side.
_TRANSIENT_CODES = {"batch_expired", "request_timeout", "server_error", "rate_limit_exceeded"}
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')


# -- what is read of a line; everything else is skipped by the decoder --------------------------


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    message: str | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    usage: _Tokens | None = None
    error: _Error | str | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chat(_Body):
    choices: list[_Choice] | None = None


class _Item(msgspec.Struct):
    type: str = ""
    call_id: str | None = None
    content: list[_Part] | str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(_Body):
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    output: list[_Item] | None = None


class _Vector(msgspec.Struct):
    embedding: list[float] | str


class _Embeddings(_Body):
    data: list[_Vector] | None = None


class _Moderations(_Body):
    results: list[Any] | None = None


_B = TypeVar("_B")


class _Answer(msgspec.Struct, Generic[_B]):
    status_code: int = 0
    body: _B | str | None = None


class _Line(msgspec.Struct, Generic[_B]):
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
    if not body.choices:
        return unreadable(line, _CUSTOM_ID)
    choice = body.choices[0]
    reason = choice.finish_reason
    message = choice.message
    if message is None:  # the old completions endpoint
        if choice.text is None:
            return unreadable(line, _CUSTOM_ID)
        return _ok(custom_id, body, choice.text, reason)
    content = message.content
    text = content if isinstance(content, str) or content is None else _joined(content)
    if message.refusal:
        return _refused(custom_id, body, message.refusal, "refusal", reason)
    if reason == "content_filter" and not text:
        return _refused(custom_id, body, "the content filter removed the answer", reason, reason)
    if not text and message.tool_calls:
        text = _as_json(message.tool_calls)
    return _answered(custom_id, body, text, reason)


def _from_response(custom_id: str, body: _Response, line: bytes) -> Result:
    parts: list[_Part] = []
    called = False
    for item in body.output or ():
        if item.type == "message" and isinstance(item.content, list):
            parts += item.content
        called = called or item.call_id is not None
    refusal = next((part.refusal for part in parts if part.refusal), None)
    text = _joined(parts) if parts else None
    reason = "stop"
    if not text and called:
        calls = [item for item in _body_of(line)["output"] if item.get("call_id")]
        text, reason = _as_json(calls), "tool_calls"
    if body.status == "incomplete":
        why = body.incomplete_details and body.incomplete_details.reason
        # One word for one thing: a cut answer is called "length" on every endpoint.
        reason = "length" if why == "max_output_tokens" else why or "incomplete"
        if why == "content_filter" and not text:
            told = "the content filter removed the answer"
            return _refused(custom_id, body, told, "content_filter", reason)
    elif body.status != "completed":
        return _unfinished(custom_id, body, line)
    if refusal:
        return _refused(custom_id, body, refusal, "refusal", reason)
    return _answered(custom_id, body, text, reason)


def _from_embeddings(custom_id: str, body: _Embeddings, line: bytes) -> Result:
    if not body.data:
        return unreadable(line, _CUSTOM_ID)
    vector = body.data[0].embedding
    if isinstance(vector, str):
        try:
            vector = array("f", base64.b64decode(vector, validate=True)).tolist()
        except ValueError:
            return unreadable(line, _CUSTOM_ID)
    return Result(
        custom_id=custom_id,
        outcome=Outcome.OK,
        vector=vector,
        usage=_usage(body.usage),
        model=body.model,
        billed=True,
    )


def _ok(custom_id: str, body: _Body, text: str, reason: str | None) -> Result:
    return Result(
        custom_id=custom_id,
        outcome=Outcome.OK,
        text=text,
        finish_reason=reason,
        usage=_usage(body.usage),
        model=body.model,
        billed=True,
    )


def _answered(custom_id: str, body: _Body, text: str | None, reason: str | None) -> Result:
    if text is None and reason != "length":  # all tokens spent on reasoning is still "length"
        return Result(
            custom_id=custom_id,
            outcome=Outcome.FAILED,
            finish_reason=reason,
            error="the answer holds no text",
            code="no_text",
            usage=_usage(body.usage),
            model=body.model,
            billed=True,
        )
    return _ok(custom_id, body, text or "", reason)


def _refused(custom_id: str, body: _Body, told: str, code: str, reason: str | None) -> Result:
    return Result(
        custom_id=custom_id,
        outcome=Outcome.REFUSED,
        finish_reason=reason,
        error=one_line(told),
        code=code,
        usage=_usage(body.usage),
        model=body.model,
        billed=True,
    )


def _unfinished(custom_id: str, body: _Response, line: bytes) -> Result:
    """Read a response object that ended as failed or cancelled, or did not end at all."""
    if body.status is None:
        return unreadable(line, _CUSTOM_ID)
    code, message = _reason(body.error)
    usage = _usage(body.usage)
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


def _usage(tokens: _Tokens | None) -> Usage:
    if tokens is None:
        return Usage()
    read = tokens.prompt_tokens_details or tokens.input_tokens_details
    written = tokens.completion_tokens_details or tokens.output_tokens_details
    return Usage(
        input=tokens.prompt_tokens or tokens.input_tokens or 0,
        output=tokens.completion_tokens or tokens.output_tokens or 0,
        cached=(read and read.cached_tokens) or 0,
        reasoning=(written and written.reasoning_tokens) or 0,
    )


def _joined(parts: list[_Part]) -> str:
    return "".join(part.text for part in parts if part.text)


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _body_of(line: bytes) -> Any:
    return msgspec.json.decode(line)["response"]["body"]
