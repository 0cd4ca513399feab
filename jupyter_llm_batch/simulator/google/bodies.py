"""Gemini's request and response bodies: generated content and embeddings."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from ..server.seen import Seen
from ..world import answers, schemas, shapes
from ..world.fates import Fate
from ..world.life import Usage
from .checks import CONFIG_FIELDS, EMBED_FIELDS, REQUEST_FIELDS, ApiError, camel_case, check_fields
from .parts import read_content

Body = dict[str, Any]

#: Some model names, with the methods of each.
_GENERATES = ["generateContent", "countTokens", "batchGenerateContent"]
_EMBEDS = ["embedContent", "countTextTokens", "asyncBatchEmbedContent"]
MODELS = {
    "gemini-2.5-flash": _GENERATES,
    "gemini-2.5-flash-lite": _GENERATES,
    "gemini-2.5-pro": _GENERATES,
    "gemini-3.8-flash": _GENERATES,
    "gemini-embedding-001": _EMBEDS,
}

_DIMENSIONS = 3072
_FILE_TOKENS = 258
#: A shared prefix is cached from this length on.
_CACHED_FROM = 1024


class Asked(msgspec.Struct):
    """What a request asks."""

    model: str
    #: The text of the last content.
    prompt: str
    tokens: int
    #: All before it.
    context: str = ""
    limit: int | None = None
    schema: Body | None = None
    thinks: bool = False
    shows_thoughts: bool = False
    candidates: int = 1
    tools: Any = None
    #: It must call a tool.
    forced: bool = False
    dimensions: int = 0
    #: What the answer says of images and files.
    seen: str = ""
    #: Tokens that are read out of an explicit cache.
    stored: int = 0


class Answered(msgspec.Struct):
    """The body of an answer and its tokens."""

    body: Body
    usage: Usage


def ask(method: str, model: str, request: Any) -> Asked:
    """Read a request for ``generateContent`` or ``embedContent``."""
    return _ask_embedding(model, request) if method == "embedContent" else _ask(model, request)


def check_model(model: str, version: str, method: str) -> None:
    """Refuse a model whose name begins with "unknown"."""
    if model.startswith("unknown"):
        raise ApiError(
            f"models/{model} is not found for API version {version}, or is not supported for "
            f"{method}. Call ListModels to see the list of available models and their supported "
            "methods.",
            5,
        )


def _ask(model: str, given: Any) -> Asked:
    request = check_fields(given, REQUEST_FIELDS)
    config = check_fields(request.get("generationConfig") or {}, CONFIG_FIELDS)
    contents = request.get("contents")
    if not isinstance(contents, list) or not contents:
        raise ApiError("* GenerateContentRequest.contents: contents is not specified\n")
    seen = Seen()
    texts = [read_content(content, seen) for content in contents]
    before = read_content(request.get("systemInstruction") or {"parts": []}, seen)
    context = before + "".join(texts[:-1])
    thinking = camel_case(config.get("thinkingConfig") or {})
    return Asked(
        model=model,
        prompt=texts[-1],
        context=context,
        tokens=answers.count_tokens(context) + answers.count_tokens(texts[-1]) + 1
        + (seen.images + seen.files) * _FILE_TOKENS,
        limit=config.get("maxOutputTokens"),
        schema=_schema(config),
        thinks=bool(thinking) and thinking.get("thinkingBudget") != 0,
        shows_thoughts=bool(thinking.get("includeThoughts")),
        seen=str(seen),
        candidates=shapes.many(config.get("candidateCount")),
        tools=request.get("tools"),
        forced=shapes.is_forced(camel_case(request.get("toolConfig"))),
    )  # fmt: skip


def _ask_embedding(model: str, given: Any) -> Asked:
    request = check_fields(given, EMBED_FIELDS)
    text = read_content(request.get("content"), Seen())
    if not text:
        raise ApiError("* EmbedContentRequest.content: empty content\n")
    return Asked(
        model=model,
        prompt=text,
        tokens=answers.count_tokens(text),
        dimensions=request.get("outputDimensionality") or _DIMENSIONS,
    )


def _schema(config: Body) -> Body | None:
    """Return the schema that the settings ask for; any object for plain JSON."""
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema is not None:
        if config.get("responseMimeType") != "application/json":
            raise ApiError("Schema is only supported when responseMimeType is application/json.")
        return _lowered(schema) if "responseSchema" in config else dict(schema)
    if config.get("responseMimeType") == "application/json":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return None


def _lowered(schema: Any) -> Any:
    """Return an OpenAPI schema, whose types are in capitals, as a JSON schema."""
    if isinstance(schema, dict):
        return {
            key: value.lower() if key == "type" and isinstance(value, str) else _lowered(value)
            for key, value in schema.items()
        }
    return [_lowered(item) for item in schema] if isinstance(schema, list) else schema


class Bodies:
    """Makes answers; remembers which prefixes were seen, for the implicit cache."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, bytes]] = set()

    def answer(self, asked: Asked, fate: Fate, seed: bytes) -> Answered:
        """Return the answer; ``seed`` gives its id."""
        if asked.dimensions:
            values = answers.embedding(asked.prompt, asked.dimensions)
            # How a batch tells the tokens of an embedding is unrecorded; so the SDK reads it.
            body: Body = {"embedding": {"values": values}, "tokenCount": str(asked.tokens)}
            return Answered(body, Usage(asked.tokens, 0, 0))
        return self._content(asked, fate, seed)

    def cached_tokens(self, asked: Asked) -> int:
        """Return how much of the prompt is a prefix that was sent before."""
        if asked.stored:
            return asked.stored
        tokens = answers.count_tokens(asked.context)
        if tokens < _CACHED_FROM:
            return 0
        key = (asked.model, answers.digest(asked.context))
        seen = key in self._seen
        self._seen.add(key)
        return tokens if seen else 0

    def _content(self, asked: Asked, fate: Fate, seed: bytes) -> Answered:
        text, tokens, finish = _text(asked, fate)
        thinks = asked.thinks or fate is Fate.THINK
        thoughts = shapes.thought_tokens() if thinks else 0
        tokens *= asked.candidates
        cached = self.cached_tokens(asked)
        counts: Body = {
            "promptTokenCount": asked.tokens,
            "candidatesTokenCount": tokens,
            "totalTokenCount": asked.tokens + tokens + thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked.tokens}],
            "thoughtsTokenCount": thoughts,
            "cachedContentTokenCount": cached,
        }
        body: Body = {
            # Counts that are zero are left out; the tier says "standard" in batches too.
            "usageMetadata": {name: count for name, count in counts.items() if count}
            | {"serviceTier": "standard"},
            "modelVersion": asked.model,
            "responseId": base64.urlsafe_b64encode(seed[:16]).decode().rstrip("="),
        }
        usage = Usage(asked.tokens, cached, tokens + thoughts)
        if fate is Fate.FILTER:
            body["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
            return Answered(body, usage)
        candidates = []
        for index in range(asked.candidates):
            parts = _parts(asked, fate, shapes.variant(text, index) if text else "")
            candidate: Body = {"finishReason": finish, "index": index}
            candidate["content"] = {"role": "model"} | ({"parts": parts} if parts else {})
            if fate is Fate.CITE:
                source = {"endIndex": len(text), "uri": shapes.PAGE, "title": shapes.TITLE}
                candidate["citationMetadata"] = {"citationSources": [source]}
            candidates.append(candidate)
        return Answered({"candidates": candidates, **body}, usage)


def _calls(asked: Asked, fate: Fate) -> bool:
    return fate is Fate.TOOL or (fate is Fate.ANSWER and asked.forced)


def _parts(asked: Asked, fate: Fate, text: str) -> list[Body]:
    """Return the parts of a candidate."""
    parts: list[Body] = [{"text": text}] if text else []
    if _calls(asked, fate):
        name, arguments = shapes.call(asked.tools, asked.prompt)
        parts.append({"functionCall": {"name": name, "args": arguments}})
    if asked.shows_thoughts or fate is Fate.THINK:
        parts.insert(0, {"text": shapes.THOUGHT, "thought": True})
    return parts


def _text(asked: Asked, fate: Fate) -> tuple[str, int, str]:
    """Return text, tokens and finish reason; the mark is free and survives a cut."""
    if _calls(asked, fate):
        called = shapes.call(asked.tools, asked.prompt)
        return "", answers.count_tokens(json.dumps(called)), "STOP"
    if fate is Fate.EMPTY:
        return "", 0, "STOP"
    if fate in (Fate.REFUSE, Fate.FILTER):
        return "", 0, "SAFETY"
    if asked.schema is not None:
        text = json.dumps(
            schemas.sample(asked.schema, asked.prompt + asked.seen), ensure_ascii=False
        )
    else:
        text = answers.reply(asked.prompt + asked.seen, asked.context)
    whole = answers.count_tokens(text)
    tokens = min(asked.limit, whole) if isinstance(asked.limit, int) else whole
    if fate is Fate.LENGTH:
        tokens = min(tokens, whole // 2)
    finish = "STOP"
    if tokens < whole:
        text, finish = text[: len(text) * tokens // whole], "MAX_TOKENS"
    if asked.schema is None:
        text = answers.marked(text, asked.prompt, asked.seen)
    return text, tokens, finish


def model_object(name: str) -> Body:
    """Return a model on the wire."""
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": f"{name} (simulated)",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": MODELS.get(name, _GENERATES),
    }
