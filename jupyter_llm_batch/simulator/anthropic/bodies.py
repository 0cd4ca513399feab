"""Anthropic's request and response bodies: messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from ..server.seen import Seen
from ..world import answers, schemas, shapes
from ..world.fates import Fate
from ..world.life import Usage
from .parts import media_fault

Body = dict[str, Any]

#: Some model names and the dated snapshot that answers to them; others answer to their own name.
MODELS = {
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-opus-5-5": "claude-opus-5-5",
    "claude-sonnet-5-5": "claude-sonnet-5-5",
}

#: The API version from which on there are no sampling parameters, and the one before it.
VERSION, OLD_VERSION = "2026-10-21", "2023-06-01"
_SAMPLING = ("temperature", "top_p", "top_k")

_IMAGE_TOKENS = 1600
_MESSAGE_TOKENS = 4
#: A prefix that is marked for the cache is kept from this length on.
_CACHED_FROM = 1024

_REFUSAL = "I can't help with that."


class ApiError(Exception):
    """A refusal of one request, as the endpoint words it."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error: Body = {"type": "error", "error": {"type": kind, "message": message}}


class Asked(msgspec.Struct):
    """What the params of a request ask."""

    body: Body
    model: str
    #: The last user message.
    prompt: str
    #: All before it.
    context: str
    tokens: int
    limit: int
    schema: Body | None
    #: What is to be kept in the cache, and for how long; nothing when empty.
    prefix: str = ""
    ttl: str = "5m"
    #: What the answer says of images and documents.
    seen: str = ""


class Answered(msgspec.Struct):
    """The message of an answer and its tokens."""

    body: Body
    usage: Usage


def ask(body: Any, version: str) -> Asked:
    """Read the params of a request under a version of the API."""
    model, limit, messages = _common(body, version)
    system, tokens = _system(body.get("system"))
    texts = [system]
    last = len(messages)
    seen = Seen()
    for number, message in enumerate(messages):
        text = _message(message, number, seen)
        texts.append(text)
        tokens += answers.count_tokens(text) + _MESSAGE_TOKENS
        if message["role"] == "user":
            last = number + 1
    asked = Asked(
        body=body,
        model=model,
        prompt=texts[last],
        context="".join(texts[:last]),
        tokens=tokens + 3 + (seen.images + seen.files) * _IMAGE_TOKENS,
        limit=limit,
        schema=_schema(body.get("output_config")),
        seen=str(seen),
    )
    _mark_prefix(asked)
    return asked


def _common(body: Any, version: str) -> tuple[str, int, list[Any]]:
    if not isinstance(body, dict):
        raise ApiError("params: Input should be a valid dictionary")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            raise ApiError(f"{name}: Field required")
    model, limit, messages = body["model"], body["max_tokens"], body["messages"]
    if not isinstance(model, str) or model.startswith("unknown"):
        raise ApiError(f"model: {model}", status=404, kind="not_found_error")
    if not isinstance(limit, int) or limit < 1:
        raise ApiError("max_tokens: Input should be greater than or equal to 1")
    if body.get("stream"):
        raise ApiError("stream: The simulator does not stream")
    # unrecorded: the words of this refusal
    sampling = [name for name in _SAMPLING if name in body]
    if sampling and version != OLD_VERSION:
        raise ApiError(f"{sampling[0]}: Extra inputs are not permitted")
    if not isinstance(messages, list) or not messages:
        raise ApiError("messages: at least one message is required")
    return model, limit, messages


def _system(system: Any) -> tuple[str, int]:
    text = _joined(system)
    return text, answers.count_tokens(text) + _MESSAGE_TOKENS if text else 0


def _message(message: Any, number: int, seen: Seen) -> str:
    """Return the joined text of a message, and note the images and documents in it."""
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
        role = message.get("role") if isinstance(message, dict) else None
        raise ApiError(
            f'messages.{number}: Unexpected role "{role}". Allowed roles are "user" or "assistant".'
        )
    content = message.get("content")
    if not content:
        raise ApiError(f"messages.{number}: all messages must have non-empty content")
    for place, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image", "document"):
            if wrong := media_fault(part, seen):
                raise ApiError(f"messages.{number}.content.{place}{wrong}")
        elif kind in (None, "file", "image_url", "input_image", "input_text"):
            raise ApiError(f"messages.{number}.content.{place}: Input tag '{kind}' is not known")
    return _joined(content)


def _joined(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))


def _schema(config: Any) -> Body | None:
    form = config.get("format") if isinstance(config, dict) else None
    if form is None:
        return None
    schema = form.get("schema") if form.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        raise ApiError("output_config.format.schema: Field required")
    for part in _objects(schema):
        if part.get("additionalProperties") is not False:
            raise ApiError(
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be "
                "explicitly set to false"
            )
    return schema


def _objects(value: Any) -> Iterator[Body]:
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield value
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


def _mark_prefix(asked: Asked) -> None:
    """Find the last mark of the cache; all before it is the prefix that is kept."""
    body = asked.body
    hint = body.get("cache_control")
    texts: list[str] = []
    prefix = ""
    contents = [body.get("system"), *(message.get("content") for message in body["messages"])]
    for content in contents:
        parts: list[Body] = content if isinstance(content, list) else [{"text": content or ""}]
        for part in parts:
            texts.append(str(part.get("text", "")))
            if part.get("cache_control"):
                prefix, asked.ttl = "".join(texts), part["cache_control"].get("ttl", "5m")
    if hint:  # an automatic mark on the last block
        prefix, asked.ttl = "".join(texts), hint.get("ttl", "5m")
    asked.prefix = prefix


class Bodies:
    """Makes answers; remembers which prefixes were kept, for the prompt cache."""

    def __init__(self) -> None:
        #: Who wrote a prefix, by kind of call, model and prefix.
        self._kept: dict[tuple[bool, str, bytes], str] = {}
        self._calls = 0

    def answer(self, asked: Asked, fate: Fate, seed: bytes, batch_id: str) -> Answered:
        """Return the answer; ``seed`` gives its id, ``batch_id`` is empty for an ordinary call."""
        text, tokens, reason = _text(asked, fate)
        usage = self._usage(asked, batch_id)
        thoughts = shapes.thought_tokens() if fate is Fate.THINK else 0
        usage.output_tokens = tokens = tokens + thoughts
        fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        hour = usage.cache_write_tokens if asked.ttl == "1h" else 0
        # unrecorded: what a refusal looks like
        details = {"type": "refusal", "category": None, "explanation": None}
        body = {
            "model": MODELS.get(asked.model, asked.model),
            "id": f"msg_{identifier(seed)}",
            "type": "message",
            "role": "assistant",
            "content": _blocks(asked, fate, seed, text),
            "stop_reason": reason,
            "stop_sequence": None,
            "stop_details": details if reason == "refusal" else None,
            "usage": {
                "input_tokens": fresh,
                "cache_creation_input_tokens": usage.cache_write_tokens,
                "cache_read_input_tokens": usage.cached_tokens,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": usage.cache_write_tokens - hour,
                    "ephemeral_1h_input_tokens": hour,
                },
                "output_tokens": tokens,
                **({"output_tokens_details": {"thinking_tokens": thoughts}} if thoughts else {}),
                "service_tier": "batch" if batch_id else "standard",
                "inference_geo": "not_available",
            },
        }
        return Answered(body, usage)

    def _usage(self, asked: Asked, batch_id: str) -> Usage:
        """Return the input tokens: the first to keep a prefix writes it, later ones read it.

        The rows of a batch run side by side, so that none reads what another of them wrote; nor
        does a batch read what ordinary calls wrote.
        """
        usage = Usage(input_tokens=asked.tokens)
        kept = answers.count_tokens(asked.prefix)
        if kept >= _CACHED_FROM:
            key = (bool(batch_id), asked.model, answers.digest(asked.prefix))
            self._calls += 1
            here = batch_id or f"call {self._calls}"
            if self._kept.setdefault(key, here) == here:
                usage.cache_write_tokens = kept
            else:
                usage.cached_tokens = kept
        return usage


def _calls(asked: Asked, fate: Fate) -> bool:
    return fate is Fate.TOOL or (
        fate is Fate.ANSWER and shapes.is_forced(asked.body.get("tool_choice"))
    )


def _blocks(asked: Asked, fate: Fate, seed: bytes, text: str) -> list[Body]:
    """Return the content of a message."""
    if fate is Fate.EMPTY:
        return []
    if _calls(asked, fate):
        name, arguments = shapes.call(asked.body.get("tools"), asked.prompt)
        tool = f"toolu_{identifier(seed)}"
        return [{"type": "tool_use", "id": tool, "name": name, "input": arguments}]
    blocks: list[Body] = []
    if fate is Fate.THINK:
        signature = base64.b64encode(seed).decode()
        blocks.append({"type": "thinking", "thinking": shapes.THOUGHT, "signature": signature})
        blocks.append({"type": "redacted_thinking", "data": signature})
    block: Body = {"type": "text", "text": text}
    if fate is Fate.CITE:
        citation = {"type": "web_search_result_location", "url": shapes.PAGE}
        more = {"title": shapes.TITLE, "cited_text": text, "encrypted_index": ""}
        block["citations"] = [citation | more]
    return [*blocks, block]


def _text(asked: Asked, fate: Fate) -> tuple[str, int, str]:
    """Return text, tokens and stop reason; the mark is free and survives a cut."""
    prompt = asked.prompt
    if _calls(asked, fate):
        called = shapes.call(asked.body.get("tools"), prompt)
        return "", answers.count_tokens(json.dumps(called)), "tool_use"
    if fate is Fate.EMPTY:
        return "", 0, "end_turn"
    if fate in (Fate.REFUSE, Fate.FILTER):
        return answers.marked(_REFUSAL, prompt), answers.count_tokens(_REFUSAL), "refusal"
    if asked.schema is not None:
        text = json.dumps(schemas.sample(asked.schema, prompt + asked.seen), ensure_ascii=False)
    else:
        text = answers.reply(prompt + asked.seen, asked.context)
    tokens = answers.count_tokens(text)
    limit = min(asked.limit, tokens // 2) if fate is Fate.LENGTH else asked.limit
    reason = "end_turn"
    if limit < tokens or fate is Fate.LENGTH:
        text, tokens, reason = text[: len(text) * limit // max(1, tokens)], limit, "max_tokens"
    return (
        text if asked.schema is not None else answers.marked(text, prompt, asked.seen),
        tokens,
        reason,
    )


def identifier(seed: bytes) -> str:
    """Return 24 letters and digits, as ids have them."""
    return "01" + base64.b64encode(seed, b"Zz").decode()[:22]


def error_for(fate: Fate) -> ApiError:
    """Return the refusal that a row was told to meet."""
    if fate is Fate.FAIL_429:
        message = "This request would exceed your organization's rate limit. (simulated)"
        return ApiError(message, status=429, kind="rate_limit_error")
    if fate is Fate.FAIL_500:
        return ApiError("Internal server error", status=500, kind="api_error")
    if fate is Fate.TIMEOUT:
        return ApiError("Request timed out", status=504, kind="timeout_error")
    return ApiError("Simulated: this request is not valid.")
