"""Finished answers as server-sent events, in the form of each provider's streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .wire import Reply

Body = dict[str, Any]

_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8"}


def _pieces(text: str) -> list[str]:
    half = len(text) // 2
    return [piece for piece in (text[:half], text[half:]) if piece]


def _reply(events: Iterable[tuple[str, Body]], *, done: bool = False) -> Reply:
    lines = [
        (f"event: {name}\n" if name else "").encode() + b"data: " + msgspec.json.encode(body)
        for name, body in events
    ]
    if done:
        lines.append(b"data: [DONE]")
    return Reply(b"\n\n".join([*lines, b""]), headers=_HEADERS)


def chat(body: Body, *, usage: bool) -> Reply:
    """Stream a chat completion; tokens come last, and only to those who asked for them."""
    shared = {key: body[key] for key in ("id", "created", "model", "system_fingerprint")}
    shared["object"] = "chat.completion.chunk"
    choice = body["choices"][0]
    deltas: list[tuple[Body, str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in _pieces(choice["message"]["content"] or "")]
    deltas.append(({}, choice["finish_reason"]))
    chunks = [
        {**shared, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    if usage:
        chunks.append({**shared, "choices": [], "usage": body["usage"]})
    return _reply((("", chunk) for chunk in chunks), done=True)


def completions(body: Body) -> Reply:
    """Stream a continued text; a chunk has the form of the whole."""
    (choice, *_) = body["choices"]
    last = {**choice, "text": ""}
    pieces = [{**choice, "text": piece, "finish_reason": None} for piece in _pieces(choice["text"])]
    chunks = [{**body, "choices": [each], "usage": None} for each in [*pieces, last]]
    return _reply((("", chunk) for chunk in chunks), done=True)


def responses(body: Body) -> Reply:
    """Stream a response object."""
    begun = {**body, "status": "in_progress", "output": [], "usage": None}
    item = body["output"][0]
    text = item["content"][0].get("text", "")
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0, "logprobs": []}
    events: list[tuple[str, Body]] = [("response.created", {"response": begun})]
    events += [("response.output_text.delta", {**place, "delta": each}) for each in _pieces(text)]
    events.append(("response.completed", {"response": body}))
    return _reply(
        (name, {"type": name, "sequence_number": number, **event})
        for number, (name, event) in enumerate(events)
    )


def messages(body: Body) -> Reply:
    """Stream a message of Anthropic's; input tokens come first, output tokens last."""
    begun = {**body, "content": [], "stop_reason": None}
    begun["usage"] = {**body["usage"], "output_tokens": 1}
    text = "".join(block.get("text", "") for block in body["content"])
    block = {"type": "text", "text": ""}
    events: list[Body] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": block},
    ]
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}}
        for each in _pieces(text)
    ]
    events += [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": body["stop_reason"], "stop_sequence": None},
            "usage": {"output_tokens": body["usage"]["output_tokens"]},
        },
        {"type": "message_stop"},
    ]
    return _reply((event["type"], event) for event in events)


def contents(body: Body) -> Reply:
    """Stream Gemini's answer; every chunk has the tokens so far, the last one all of them."""
    candidate = body["candidates"][0]
    parts = candidate["content"].get("parts", [])
    first = {**candidate, "content": {"role": "model", "parts": parts[:1]}}
    first.pop("finishReason", None)
    counted = {"promptTokenCount": body["usageMetadata"]["promptTokenCount"]}
    last = {**candidate, "content": {"role": "model", "parts": parts[1:] or [{"text": ""}]}}
    return _reply(
        [
            ("", {**body, "candidates": [first], "usageMetadata": counted}),
            ("", {**body, "candidates": [last]}),
        ]
    )
