"""What a request line becomes when its provider only counts its tokens. No I/O here."""

from __future__ import annotations

from typing import Any

import msgspec

from ...core.errors import UsageProblem

#: What OpenAI's and Anthropic's counters take of a request.
_OPENAI = ("model", "input", "instructions", "tools", "tool_choice", "reasoning", "text")
_ANTHROPIC = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
#: OpenAI's chat parts under the names that its counter, which is of the other endpoint, has.
_PARTS = {"text": "input_text", "image_url": "input_image", "file": "input_file"}


def openai(line: bytes) -> dict[str, Any]:
    """Return the body for ``/v1/responses/input_tokens``."""
    body = msgspec.json.decode(line)["body"]
    if "messages" in body:
        body["input"] = [_item(message) for message in body.pop("messages")]
    if "input" not in body or not isinstance(body["input"], (str, list)):
        raise UsageProblem("OpenAI counts requests of chat and responses only")
    if isinstance(body["input"], list) and all(isinstance(each, str) for each in body["input"]):
        body["input"] = "\n".join(body["input"])
    return {name: body[name] for name in _OPENAI if name in body}


def anthropic(line: bytes) -> dict[str, Any]:
    """Return the body for ``/v1/messages/count_tokens``."""
    params = msgspec.json.decode(line)["params"]
    return {name: params[name] for name in _ANTHROPIC if name in params}


def google(line: bytes, model: str) -> dict[str, Any]:
    """Return the body for ``:countTokens``."""
    request = msgspec.json.decode(line)["request"]
    if "content" in request:
        return {"contents": [request["content"]]}
    return {"generateContentRequest": {"model": f"models/{model}", **request}}


def _item(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return {"role": message.get("role", "user"), "content": content or ""}
    return {"role": message.get("role", "user"), "content": [_part(part) for part in content]}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type", "text")
    if kind == "image_url" and isinstance(part.get("image_url"), dict):
        return {"type": "input_image", **part["image_url"], "image_url": part["image_url"]["url"]}
    if kind == "file":
        return {"type": "input_file", **part.get("file", {})}
    return {**part, "type": _PARTS.get(kind, kind)}
