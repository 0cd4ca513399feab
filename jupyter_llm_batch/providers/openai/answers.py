"""Answers in OpenAI's bodies, one reader per endpoint: chat, responses, embeddings.

Each reader takes a typed body and returns a `Result`; None where the body holds no answer.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from ...core import loose_json
from ...core.result import TRUNCATED, Outcome, Result, ToolCall, Usage
from ..shared.decoding import arguments, no_text, one_line
from ..shared.reasons import plain, why
from . import result_shapes as shapes

#: Codes of rows that never ran or broke on OpenAI's side.
TRANSIENT_CODES = {"batch_expired", "request_timeout", "server_error", "rate_limit_exceeded"}


#: The word of compatible servers for an answer that broke.
_BROKEN = "error"


def from_chat(custom_id: str, body: shapes.Chat) -> Result | None:
    """Read a chat completion, or an old completion."""
    choices = body.choices
    if not choices:
        return None
    if len(choices) == 1:
        return _from_choice(custom_id, body, choices[0])
    read = [_from_choice(custom_id, body, choice) for choice in choices]
    results = [each for each in read if each is not None]
    if not results:
        return None
    # One answer is enough for the row; the others stand beside it.
    first = next((each for each in results if each.outcome is Outcome.OK), results[0])
    return replace(first, choices=[None if each is None else each.text for each in read])


def _from_choice(custom_id: str, body: shapes.Chat, choice: shapes.Choice) -> Result | None:
    reason, message = choice.finish_reason, choice.message
    if message is None:  # the old completions endpoint
        return None if choice.text is None else answered_ok(custom_id, body, choice.text, reason)
    content = message.content
    text = content if isinstance(content, str) or content is None else _joined(content)
    thoughts = message.reasoning_content or message.reasoning
    calls = message.tool_calls or message.function_call
    if text and not (thoughts or calls or message.refusal):  # the common case
        return answered_ok(custom_id, body, text, reason)
    more: dict[str, Any] = {"reasoning": thoughts if isinstance(thoughts, str) else None}
    if message.refusal:
        return _refused(
            custom_id, body, message.refusal, "refusal", reason, text=text or None, **more
        )
    if reason == "content_filter" and not text:
        told = "the content filter removed the answer"
        return _refused(custom_id, body, told, reason, reason, **more)
    if not text and not calls and (reason == _BROKEN or choice.error or body.error):
        return None if body.error and not choice.error else _broken(custom_id, body, choice)
    calls = message.tool_calls if isinstance(message.tool_calls, list) else []
    if isinstance(message.function_call, dict):
        calls = [*calls, {"function": message.function_call}]
    more["tool_calls"] = tuple(_call(call) for call in calls if isinstance(call, dict))
    return _answered(custom_id, body, text, reason, **more)


def _broken(custom_id: str, body: shapes.Chat, choice: shapes.Choice) -> Result:
    """Read a choice that broke before it held anything."""
    code, message = why(choice.error)
    return Result(
        custom_id=custom_id,
        outcome=Outcome.FAILED,
        finish_reason=choice.finish_reason,
        error=message or "the model or its server broke off before an answer",
        code=code or _BROKEN,
        usage=usage_of(body.usage),
        model=body.model,
        billed=True,
    )


def _call(call: dict[str, Any]) -> ToolCall:
    kind = call.get("type")
    named = call.get("function", call.get(kind) if isinstance(kind, str) else None)
    named = named if isinstance(named, dict) else {}
    return ToolCall(
        name=str(named.get("name") or kind or "?"),
        id=call["id"] if isinstance(call.get("id"), str) else None,
        arguments=arguments(named.get("arguments", named.get("input"))),
    )


def from_response(custom_id: str, body: shapes.ResponseBody) -> Result | None:
    """Read a response object."""
    if body.output is None and body.status is None:
        return None
    items = body.output or []
    parts: list[shapes.Part] = []
    state = body.status.lower() if body.status else "completed"
    usual = state == "completed"
    for item in items:
        if item.type == "message" and isinstance(item.content, list):
            parts += item.content
        elif item.type != "reasoning" or item.summary or item.content:
            usual = False
            parts += _said_by(item)
    refusal = next((part.refusal for part in parts if part.refusal), None)
    text = _joined(parts) or None
    if usual and text and not refusal:
        return answered_ok(custom_id, body, text, body.status)  # the common case
    more: dict[str, Any] = {"reasoning": _thoughts(items)}
    reason = body.status
    if state == "incomplete":
        reason = (body.incomplete_details and body.incomplete_details.reason) or "incomplete"
        if reason == "content_filter" and not text:
            told = "the content filter removed the answer"
            return _refused(custom_id, body, told, "content_filter", reason, **more)
    elif state != "completed" and not text and not refusal:
        return _unfinished(custom_id, body, state)
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
    if parts and text is None and not more["tool_calls"] and state == "completed":
        text = ""  # a message was given, and it is empty
    kinds = [item.type for item in items]
    return _answered(custom_id, body, text, reason, kinds=kinds, **more)


def _said_by(item: shapes.Item) -> list[shapes.Part]:
    """Return what an item of the output says that has not quite a message's form."""
    if item.type == "reasoning" or item.type.endswith(("_call", "_output")):
        return []
    if isinstance(item.content, str):
        return [shapes.Part(text=item.content)]
    return item.content or []


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _thoughts(items: list[shapes.Item]) -> str | None:
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


def from_embeddings(custom_id: str, body: shapes.Embeddings) -> Result | None:
    """Read one vector or several."""
    if not body.data:
        return None
    places = [each.index for each in body.data]
    data = body.data
    if None not in places:
        data = sorted(data, key=lambda each: each.index or 0)
    try:
        vectors = [_floats(each.embedding) for each in data]
    except ValueError:
        return None
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


def answered_ok(custom_id: str, body: shapes.Body, text: str | None, reason: str | None) -> Result:
    """Return an answer with this text and nothing else."""
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
    body: shapes.Body,
    text: str | None,
    reason: str | None,
    *,
    kinds: Iterable[str] = (),
    **more: Any,
) -> Result:
    if text is not None or more["tool_calls"]:
        text = text or None if more["tool_calls"] else text
        return replace(answered_ok(custom_id, body, text, reason), **more)
    if reason in TRUNCATED:  # all tokens spent on reasoning is still an answer that was cut
        return replace(answered_ok(custom_id, body, "", reason), **more)
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
    custom_id: str, body: shapes.Body, told: str, code: str, reason: str | None, **more: Any
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


def _unfinished(custom_id: str, body: shapes.ResponseBody, state: str) -> Result:
    """Read a response object that ended as failed or cancelled, or did not end at all."""
    code, message = reason_of(body.error)
    usage = usage_of(body.usage)
    billed = usage != Usage() or state not in {"failed", "cancelled"}
    return Result(
        custom_id=custom_id,
        outcome=Outcome.CANCELLED if state == "cancelled" else Outcome.FAILED,
        error=message or f"the response ended as {state!r}",
        code=code or state,
        usage=usage,
        model=body.model,
        billed=billed,
        transient=not billed and code in TRANSIENT_CODES,
    )


def reason_of(error: shapes.Error | str | None) -> tuple[str | None, str | None]:
    """Return the code and the one-line message of an error object."""
    if error is None:
        return None, None
    if isinstance(error, str):
        return None, plain(error) or None
    code = error.type if error.code is None else str(error.code)
    return code or None, plain(error.message) if error.message else None


def usage_of(tokens: shapes.Tokens | None) -> Usage:
    """Return the tokens in our own words."""
    if tokens is None:
        return Usage()
    read = tokens.prompt_tokens_details or tokens.input_tokens_details
    made = tokens.completion_tokens_details or tokens.output_tokens_details
    return Usage(
        input=tokens.prompt_tokens or tokens.input_tokens or 0,
        output=tokens.completion_tokens or tokens.output_tokens or 0,
        cached=(read and read.cached_tokens) or 0,
        reasoning=(made and made.reasoning_tokens) or 0,
        cache_write=(read and read.cache_write_tokens) or 0,
    )


def _joined(parts: list[shapes.Part]) -> str:
    return "".join(part.text for part in parts if part.text)


def written(value: Any) -> str:
    """Return a value as JSON text."""
    return loose_json.dumps(value).decode()
