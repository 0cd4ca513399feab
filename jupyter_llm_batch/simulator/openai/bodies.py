"""OpenAI's request and response bodies: chat completions, responses, embeddings."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Callable

import msgspec

from ..world import answers, schemas, shapes
from ..world.fates import Fate
from ..world.life import Usage
from .errors import ApiError
from .requests import Asked, Body

#: Some model names and the dated snapshot that answers to them; others answer to their own name.
MODELS = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-6": "gpt-6",
    "text-embedding-3-small": "text-embedding-3-small",
    "text-embedding-3-large": "text-embedding-3-large",
}

_DIMENSIONS = {"text-embedding-3-large": 3072}

#: A shared prefix is cached from this length on, in steps of the second number.
_CACHED_FROM, _CACHED_STEP = 1024, 128

_REFUSAL = "I'm sorry, but I can't help with that."


class Answered(msgspec.Struct):
    """The body of an answer and its tokens."""

    body: Body
    usage: Usage


class Bodies:
    """Makes answers; remembers which prefixes were seen, for the prompt cache."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, bytes]] = set()

    def answer(self, endpoint: str, asked: Asked, fate: Fate, seed: bytes, at: float) -> Answered:
        """Return the answer; ``seed`` gives its ids."""
        return _ANSWER[endpoint](self, asked, fate, seed, int(at))

    def cached_tokens(self, asked: Asked) -> int:
        """Return how much of the prompt is a prefix that was sent before."""
        tokens = answers.count_tokens(asked.context)
        if tokens < _CACHED_FROM:
            return 0
        key = (asked.model, answers.digest(asked.context))
        seen = key in self._seen
        self._seen.add(key)
        return tokens // _CACHED_STEP * _CACHED_STEP if seen else 0

    def _chat(self, asked: Asked, fate: Fate, seed: bytes, at: int) -> Answered:
        text, tokens, finish = text_of(asked, fate)
        count = shapes.many(asked.body.get("n"))
        thoughts = shapes.thought_tokens() if fate is Fate.THINK else 0
        tokens = tokens * count + thoughts
        usage = Usage(asked.tokens, self.cached_tokens(asked), tokens)
        choices = [
            {"index": number, "message": message, "logprobs": None, "finish_reason": finish}
            for number, message in enumerate(_messages(asked, fate, seed, text, count))
        ]
        body = {
            "id": f"chatcmpl-{letters(seed)[:29]}",
            "object": "chat.completion",
            "created": at,
            "model": MODELS.get(asked.model, asked.model),
            "choices": choices,
            "usage": {
                "prompt_tokens": usage.input_tokens,
                "completion_tokens": tokens,
                "total_tokens": usage.input_tokens + tokens,
                "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": thoughts,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
            "system_fingerprint": "simulated",
        }
        return Answered(body, usage)

    def _responses(self, asked: Asked, fate: Fate, seed: bytes, at: int) -> Answered:
        text, tokens, finish = text_of(asked, fate)
        usage = Usage(asked.tokens, self.cached_tokens(asked), tokens)
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish)
        status = "incomplete" if reason else "completed"
        asked_for = asked.body
        thoughts = shapes.thought_tokens() if fate is Fate.THINK else 0
        tokens += thoughts
        usage.output_tokens = tokens
        body = {
            "id": f"resp_{seed.hex()[:50]}",
            "object": "response",
            "created_at": at,
            "status": status,
            "background": False,
            "billing": {"payer": "developer"},
            "completed_at": None if reason else at,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "instructions": asked_for.get("instructions"),
            "max_output_tokens": asked.limit,
            "max_tool_calls": None,
            "model": MODELS.get(asked.model, asked.model),
            "output": _items(asked, fate, seed, text, status),
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "prompt_cache_key": asked_for.get("prompt_cache_key"),
            "prompt_cache_retention": asked_for.get("prompt_cache_retention"),
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": None,
            "service_tier": "default",
            "store": asked_for.get("store", True),
            "temperature": asked_for.get("temperature", 1.0),
            "text": {"verbosity": "medium", "format": {"type": "text"}} | asked_for.get("text", {}),
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": 0,
            "top_p": asked_for.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": {
                "input_tokens": usage.input_tokens,
                "input_tokens_details": {
                    "cache_write_tokens": 0,
                    "cached_tokens": usage.cached_tokens,
                },
                "output_tokens": tokens,
                "output_tokens_details": {"reasoning_tokens": thoughts},
                "total_tokens": usage.input_tokens + tokens,
            },
            "user": None,
            "metadata": asked_for.get("metadata") or {},
        }
        return Answered(body, usage)

    def _embeddings(self, asked: Asked, _fate: Fate, _seed: bytes, _at: int) -> Answered:
        dimensions = asked.body.get("dimensions") or _DIMENSIONS.get(asked.model, 1536)
        data = []
        for index, text in enumerate(asked.inputs):
            vector: list[float] | str = answers.embedding(text, dimensions)
            if asked.body.get("encoding_format") == "base64":
                vector = base64.b64encode(array("f", vector).tobytes()).decode()
            data.append({"object": "embedding", "embedding": vector, "index": index})
        body = {
            "object": "list",
            "data": data,
            "model": MODELS.get(asked.model, asked.model),
            "usage": {"prompt_tokens": asked.tokens, "total_tokens": asked.tokens},
        }
        return Answered(body, Usage(asked.tokens, 0, 0))


_ANSWER: dict[str, Callable[[Bodies, Asked, Fate, bytes, int], Answered]] = {
    "/v1/chat/completions": Bodies._chat,
    "/v1/responses": Bodies._responses,
    "/v1/embeddings": Bodies._embeddings,
}


def _calls(asked: Asked, fate: Fate) -> bool:
    return fate is Fate.TOOL or (
        fate is Fate.ANSWER and shapes.is_forced(asked.body.get("tool_choice"))
    )


def _call(asked: Asked) -> Body:
    name, arguments = shapes.call(asked.body.get("tools"), asked.prompt)
    return {"name": name, "arguments": json.dumps(arguments)}


def _citation(text: str) -> Body:
    return {"start_index": 0, "end_index": len(text), "url": shapes.PAGE, "title": shapes.TITLE}


def _messages(asked: Asked, fate: Fate, seed: bytes, text: str, count: int) -> list[Body]:
    """Return the messages of a chat's choices."""
    messages: list[Body] = []
    for number in range(count):
        message: Body = {
            "role": "assistant",
            "content": shapes.variant(text, number),
            "refusal": None,
        }
        if fate is Fate.REFUSE:
            message |= {"content": None, "refusal": text}
        elif fate is Fate.EMPTY:
            message["content"] = None
        elif fate is Fate.CITE:
            citation = {"type": "url_citation", "url_citation": _citation(text)}
            message["annotations"] = [citation]
        elif _calls(asked, fate):
            call = {"id": f"call_{seed.hex()[:24]}", "type": "function", "function": _call(asked)}
            message |= {"content": None, "tool_calls": [call]}
        messages.append(message)
    return messages


def _items(asked: Asked, fate: Fate, seed: bytes, text: str, status: str) -> list[Body]:
    """Return the output of a response."""
    items: list[Body] = []
    if fate is Fate.THINK or fate is Fate.EMPTY:
        summary = [{"type": "summary_text", "text": shapes.THOUGHT}]
        items.append({"id": f"rs_{seed.hex()[:50]}", "type": "reasoning", "summary": summary})
    if _calls(asked, fate):
        call = {"id": f"fc_{seed.hex()[:50]}", "type": "function_call", "status": "completed"}
        return [*items, {**call, "call_id": f"call_{seed.hex()[:24]}", **_call(asked)}]
    if fate is Fate.EMPTY:
        return items
    part: Body = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    if fate is Fate.REFUSE:
        part = {"type": "refusal", "refusal": text}
    elif fate is Fate.CITE:
        part["annotations"] = [{"type": "url_citation", **_citation(text)}]
    message: Body = {"type": "message", "status": status, "content": [part], "role": "assistant"}
    return [*items, {"id": f"msg_{seed[::-1].hex()[:50]}", **message}]


def text_of(asked: Asked, fate: Fate) -> tuple[str, int, str]:
    """Return text, tokens and finish reason; the mark is free and survives a cut."""
    prompt = asked.prompt
    if _calls(asked, fate):
        return "", answers.count_tokens(json.dumps(_call(asked))), "tool_calls"
    if fate is Fate.EMPTY:
        return "", 0, "stop"
    if fate is Fate.REFUSE:
        return answers.marked(_REFUSAL, prompt), answers.count_tokens(_REFUSAL), "stop"
    if asked.schema is not None:
        text = json.dumps(schemas.sample(asked.schema, prompt + asked.seen), ensure_ascii=False)
    else:
        text = answers.reply(prompt + asked.seen, asked.context)
    tokens = answers.count_tokens(text)
    limit = asked.limit if isinstance(asked.limit, int) else tokens
    finish = "stop"
    if fate is Fate.FILTER:
        limit, finish = 0, "content_filter"
    elif fate is Fate.LENGTH:
        limit, finish = min(limit, tokens // 2), "length"
    elif limit < tokens:
        finish = "length"
    if finish != "stop":
        tokens = min(limit, tokens)
        text = text[: len(text) * tokens // max(1, answers.count_tokens(text))]
    return (
        text if asked.schema is not None else answers.marked(text, prompt, asked.seen),
        tokens,
        finish,
    )


def letters(seed: bytes) -> str:
    """Return the letters of an id."""
    return base64.b64encode(seed, b"Zz").decode()


def error_for(fate: Fate, model: str) -> ApiError:
    """Return the refusal that a row was told to meet."""
    if fate is Fate.FAIL_429:
        return ApiError(
            f"Rate limit reached for {model} in organization org-simulated on requests per min.",
            status=429,
            kind="requests",
            code="rate_limit_exceeded",
        )
    if fate is Fate.FAIL_500:
        return ApiError(
            "The server had an error while processing your request. Sorry about that!",
            status=500,
            kind="server_error",
        )
    return ApiError("Simulated: this request is not valid.", code="invalid_value")
