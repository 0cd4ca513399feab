"""OpenAI's result lines, without I/O: one raw line in, one `Result` out, never an exception.

A line is ``{"custom_id", "response": {"status_code", "body"} | null, "error": {…} | null}``. It is
an answer when the body holds one, whatever the status says; "error is null" says nothing, since a
request that the endpoint refused has a null error too and its reason inside the response's body.
What the fast decoder refuses is read once more, field by field (`lenient`).
"""

from __future__ import annotations

from typing import Any

from ...core import loose_json
from ...core.result import Outcome, Result, Usage
from ..shared import encoding, lenient
from ..shared.decoding import as_json, unreadable
from ..shared.reasons import why
from . import result_shapes as shapes
from .answers import (
    TRANSIENT_CODES,
    answered_ok,
    from_chat,
    from_embeddings,
    from_response,
    reason_of,
    usage_of,
    written,
)
from .requests import kind

#: Codes by which the endpoint refuses the content itself.
_CONTENT_CODES = {"content_filter", "content_policy_violation"}

#: Codes in the body of a success by which a server in between says that it sent nothing on.
_TURNED_AWAY = {"408", "429", "rate_limit_exceeded"}
#: The name of a line's id.
_ID = "custom_id"


# -- reading -----------------------------------------------------------------------------------


def line(custom_id: str, status: int, body: bytes) -> bytes:
    """Return the result line of one HTTP answer, as a batch's output file would hold it."""
    response = {"status_code": status, "body": as_json(body)}
    return encoding.fast({"custom_id": custom_id, "response": response, "error": None}) + b"\n"


def parse(line: bytes, endpoint: str) -> Result:
    """Read one line of an output or error file; unknown shapes become ``failed``."""
    name = kind(endpoint)
    decoder = shapes.DECODERS.get(name, shapes.OTHER)
    try:
        read = decoder.decode(line)
    except (ValueError, RecursionError):
        return _parse_loosely(line, name)
    answer = read.response
    if answer is None:
        return _failure(read, line)
    body = answer.body
    if isinstance(body, shapes.AnyBody) and (shape := _shape(body.choices, body.output, body.data)):
        return parse(line, shape)
    if isinstance(body, shapes.Body):
        found = _answer(read.custom_id, body, answer.status_code)
        if found is not None:
            return found
    if body is None or isinstance(body, shapes.AnyBody) or _is_success(answer.status_code):
        # Another endpoint's form, or one that a server in between has made of it.
        return _parse_loosely(line, name)
    return _failure(read, line)


def _parse_loosely(line: bytes, name: str) -> Result:
    """Read a line that has not quite the form it should have."""
    try:
        value = loose_json.loads(line)
        read: shapes.Line[Any] = lenient.fit(
            {**value, "response": None}, shapes.Line[shapes.AnyBody]
        )
    except (ValueError, TypeError):
        return unreadable(line, _ID)
    response = value.get("response")
    if response is None:
        response = value if "body" in value else None
    if not isinstance(response, dict):
        return _failure(read, line)
    body = _opened(response.get("body", response))
    status = lenient.fit(response, shapes.Answer[Any]).status_code
    if isinstance(body, dict):
        _write_out(body.get("choices"))
        shape = _shape(body.get("choices"), body.get("output"), body.get("data")) or name
        typed = lenient.fit(body, shapes.BODIES.get(shape, shapes.AnyBody))
        found = _answer(read.custom_id, typed, status, body)
        if found is not None:
            return found
    elif name not in shapes.BODIES and _is_success(status) and isinstance(body, list):
        return answered_ok(read.custom_id, shapes.Body(), written(body), "stop")
    read.response = shapes.Answer(status_code=status)
    return _failure(read, line, body)


def _write_out(choices: Any) -> None:
    """Turn contents that are objects, or lists of bare texts, into what messages usually hold."""
    for choice in choices if isinstance(choices, list) else [choices]:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        if isinstance(content, dict) and "text" not in content:
            message["content"] = written(content)
        elif isinstance(content, list):
            texts = [{"text": each} if isinstance(each, str) else each for each in content]
            message["content"] = texts


def _opened(body: Any) -> Any:
    """Return a body that was put into a line as the text of its JSON."""
    if isinstance(body, str) and body.lstrip().startswith("{"):
        try:
            return loose_json.loads(body)
        except ValueError:
            return body
    return body


def _shape(choices: Any, output: Any, data: Any) -> str | None:
    """Return the endpoint whose form a body has, whatever the job calls it; None for none."""
    if _holds(choices, "message"):
        return "chat"
    if _holds(choices, "text"):
        return "completions"
    if _holds(output, "type"):
        return "responses"
    if _holds(data, "embedding"):
        return "embeddings"
    return None


def _holds(values: Any, name: str) -> bool:
    first = values[0] if isinstance(values, list) and values else values
    return isinstance(first, dict) and name in first


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300


def _answer(
    custom_id: str, body: shapes.Body, status: int | None, whole: Any = None
) -> Result | None:
    """Return the answer that a body holds, and None where it holds none."""
    match body:
        case shapes.Chat():
            return from_chat(custom_id, body)
        case shapes.ResponseBody():
            return from_response(custom_id, body)
        case shapes.Embeddings():
            return from_embeddings(custom_id, body)
        case shapes.Moderations() if body.results:
            verdict = body.results[0] if len(body.results) == 1 else body.results
            return answered_ok(custom_id, body, written(verdict), "stop")
        case shapes.AnyBody() if whole is not None and body.error is None and _is_success(status):
            return answered_ok(custom_id, body, written(whole), "stop")
    return None


def _failure(read: shapes.Line[Any], line: bytes, body: Any = None) -> Result:
    """Read a line without an answer.

    Parameters
    ----------
    body
        The body as it is, where the line has been read loosely.
    """
    answer = read.response
    if answer is None:
        return _never_ran(read, line)
    typed = answer.body if answer.body is not None else body
    code, message = reason_of(typed.error) if isinstance(typed, shapes.Body) else why(typed)
    if code is None and message is None and isinstance(typed, shapes.Body):
        # Its words stand under another name, or in the form of another server.
        code, message = why(_body_of(line))
    if code is None and message is None:
        code, message = reason_of(read.error)
    status = answer.status_code
    usage = usage_of(typed.usage if isinstance(typed, shapes.Body) else _tokens(body))
    if status is None or _is_success(status):
        if code is None:
            return unreadable(line, _ID, message, usage)
        # What is told under a success was perhaps worked on, unless nobody took it in.
        billed = usage != Usage() or code not in _TURNED_AWAY
    else:
        billed = usage != Usage()
    # 0 was seen in the wild: the request was never answered.
    passing = status in {0, 408, 429} or (status or 0) >= 500 or code in _TURNED_AWAY
    return Result(
        custom_id=read.custom_id,
        outcome=Outcome.REFUSED if code in _CONTENT_CODES else Outcome.FAILED,
        error=message or code or f"the request failed with HTTP status {status}",
        code=code or str(status),
        usage=usage,
        billed=billed,
        transient=passing and not billed,
    )


def _never_ran(read: shapes.Line[Any], line: bytes) -> Result:
    """Read a line without a response: its error says why there is none."""
    code, message = reason_of(read.error)
    if code is None and message is None:
        return unreadable(line, _ID)
    outcome = {"batch_expired": Outcome.EXPIRED, "batch_cancelled": Outcome.CANCELLED}.get(
        code or "", Outcome.FAILED
    )
    transient = code in TRANSIENT_CODES
    return Result(
        custom_id=read.custom_id,
        outcome=outcome,
        error=message or code or "the request was not executed",
        code=code,
        # A code never seen before may stand for work that was done.
        billed=not transient and outcome is Outcome.FAILED,
        transient=transient,
    )


def _tokens(body: Any) -> shapes.Tokens | None:
    usage = body.get("usage") if isinstance(body, dict) else None
    return lenient.fit(usage, shapes.Tokens) if isinstance(usage, dict) else None


def _body_of(line: bytes) -> Any:
    try:
        return loose_json.loads(line)["response"]["body"]
    except (ValueError, LookupError, TypeError):
        return None
