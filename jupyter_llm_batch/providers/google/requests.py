"""Gemini's request lines, without I/O; `google_results` reads what comes back.

A line is ``{"key", "request"}`` with a GenerateContentRequest or EmbedContentRequest in its REST
form, the form of an uploaded file. A small job goes inline instead: `inline` makes the body of
its create from the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ...core.errors import UsageProblem
from ...core.request import Content, Recipe
from ...data import schema_forms
from ..base import Encoder
from ..shared import encoding
from ..shared.media import check, mark
from .media import TAKES, to_part

PROVIDER = "google"

#: Our names of endpoints and the method that starts such a batch.
METHODS = {"chat": "batchGenerateContent", "embeddings": "asyncBatchEmbedContent"}
#: The same for a single request.
SINGLE = {"chat": "generateContent", "embeddings": "embedContent"}

#: Parameters that belong into ``generationConfig``; all others stay beside it.
_SETTINGS = frozenset(
    {
        "audioTimestamp",
        "candidateCount",
        "enableEnhancedCivicAnswers",
        "frequencyPenalty",
        "logprobs",
        "maxOutputTokens",
        "mediaResolution",
        "presencePenalty",
        "responseFormat",
        "responseJsonSchema",
        "responseLogprobs",
        "responseMimeType",
        "responseModalities",
        "responseSchema",
        "seed",
        "speechConfig",
        "stopSequences",
        "temperature",
        "thinkingConfig",
        "topK",
        "topP",
    }
)
#: Names beside ``generationConfig`` that are known to be spelled in camel case.
_BESIDE = frozenset(
    {
        "cachedContent",
        "generationConfig",
        "outputDimensionality",
        "safetySettings",
        "serviceTier",
        "systemInstruction",
        "taskType",
        "toolConfig",
    }
)
_SCHEMAS = frozenset({"responseSchema", "responseJsonSchema", "responseMimeType"})
_SYSTEM_ROLES = frozenset({"system", "developer"})
_UNDERSCORE = re.compile(r"_([a-z0-9])")


def path(model: str) -> str:
    """Return the resource name of a model."""
    return model if "/" in model else f"models/{model}"


# -- requests ----------------------------------------------------------------------------------


def validate(recipe: Recipe) -> None:
    """Raise `UsageProblem` for a recipe that no Gemini batch can take."""
    embeds = recipe.endpoint == "embeddings"
    if recipe.endpoint not in METHODS:
        known = ", ".join(METHODS)
        raise UsageProblem(f"Gemini has no endpoint {recipe.endpoint!r}: use {known}")
    if recipe.cache is not None and embeds:
        raise UsageProblem("the endpoint 'embeddings' takes no --cache")
    if recipe.params.get("stream"):
        raise UsageProblem("batch jobs cannot stream: remove the parameter 'stream'")
    for given, what, option in (
        (recipe.system, "system prompt", "the system prompt"),
        (recipe.schema, "--schema", "the schema"),
    ):
        if given is not None and embeds:
            raise UsageProblem(f"the endpoint 'embeddings' takes no {what}")
        if given is not None and recipe.raw:
            raise UsageProblem(f"with --raw {option} belongs into the request bodies")
    if recipe.max_tokens is not None and embeds:
        raise UsageProblem("the endpoint 'embeddings' takes no --max-tokens")
    ours = {"model", "contents", "content"}
    if recipe.system is not None:
        ours.add("systemInstruction")
    if recipe.schema is not None:
        ours |= _SCHEMAS
    taken = sorted(name for name in recipe.params if _spelled(name) in ours)
    if taken:
        raise UsageProblem(f"the parameter {taken[0]!r} is set by the batch itself: remove it")
    config = recipe.params.get("generationConfig", recipe.params.get("generation_config", {}))
    if not isinstance(config, dict):
        raise UsageProblem("the parameter 'generationConfig' must be an object")
    encoding.checked(_shared(recipe), "the parameters")


def encoder(recipe: Recipe) -> Encoder:
    """Return the function that makes one request line; `recipe` has been validated."""
    shared = _shared(recipe)
    embeds = recipe.endpoint == "embeddings"
    head, middle = b'{"key":"', b'","request":{'
    constant = encoding.fast(shared)[1:-1] + (b"," if shared else b"")
    encode = encoding.fast

    if recipe.raw:

        def encode_raw(custom_id: str, content: Content) -> bytes:
            body = encode(_raw_body(content, shared))
            return b"".join((head, custom_id.encode(), b'","request":', body, b"}\n"))

        return encoding.guarded(encode_raw)

    before, after = b'"contents":[{"role":"user","parts":[{"text":', b"}]}]}}\n"
    if embeds:
        before, after = b'"content":{"parts":[{"text":', b"}]}}}\n"
    text_head = middle + constant + before

    def encode_line(custom_id: str, content: Content) -> bytes:
        if isinstance(content, str):
            text = content if type(content) is str else str.__str__(content)
            return b"".join((head, custom_id.encode(), text_head, encode(text), after))
        if embeds:
            raise UsageProblem("the endpoint 'embeddings' takes one text per row, not a list")
        body = encode(_conversation(content, shared))
        return b"".join((head, custom_id.encode(), b'","request":', body, b"}\n"))

    return encoding.guarded(encode_line)


class _Line(msgspec.Struct):
    key: str
    request: msgspec.Raw


class _Metadata(msgspec.Struct):
    key: str


class _Inlined(msgspec.Struct):
    request: msgspec.Raw
    metadata: _Metadata


_READ = msgspec.json.Decoder(_Line)


def inline(lines: Iterable[bytes], label: str) -> bytes:
    """Return the body that creates a job with its requests in it."""
    requests = [_READ.decode(line) for line in lines]
    items = [_Inlined(line.request, _Metadata(line.key)) for line in requests]
    config = {"requests": {"requests": items}}
    return encoding.fast({"batch": {"displayName": label, "inputConfig": config}})


def read_line(line: bytes) -> tuple[str, bytes]:
    """Return a request line's key and its request."""
    read = _READ.decode(line)
    return read.key, bytes(read.request)


def by_file(name: str, label: str) -> bytes:
    """Return the body that creates a job of an uploaded file."""
    return encoding.fast({"batch": {"displayName": label, "inputConfig": {"fileName": name}}})


def _spelled(name: str) -> str:
    """Return a known name in camel case; one that nobody knows stays as it is."""
    camel = _UNDERSCORE.sub(lambda found: found[1].upper(), name)
    return camel if camel in _SETTINGS or camel in _BESIDE else name


def _shared(recipe: Recipe) -> dict[str, Any]:
    """Return the parts of a request that all rows share."""
    shared: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if recipe.system is not None:
        shared["systemInstruction"] = {"parts": [{"text": recipe.system}]}
    if recipe.max_tokens is not None:
        settings["maxOutputTokens"] = recipe.max_tokens
    if recipe.schema is not None:
        settings["responseMimeType"] = "application/json"
        settings["responseJsonSchema"] = schema_forms.for_google(recipe.schema)
    for name, value in recipe.params.items():
        spelled = _spelled(name)
        if spelled == "generationConfig":
            settings.update({_spelled(each): value[each] for each in value})
        elif spelled in _SETTINGS and recipe.endpoint != "embeddings":
            settings[spelled] = value
        else:
            shared[spelled] = value
    if settings:
        shared["generationConfig"] = settings
    return shared


def _raw_body(content: Content, shared: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise UsageProblem("with --raw every row must be a request body, a non-empty dict")
    own = {_spelled(name): value for name, value in content.items()}
    settings, defaults = own.get("generationConfig"), shared.get("generationConfig")
    if isinstance(settings, dict) and defaults:
        spelled = {_spelled(name): value for name, value in settings.items()}
        own["generationConfig"] = {**defaults, **spelled}
    return {**shared, **own}


# -- messages ----------------------------------------------------------------------------------


def _conversation(content: Content, shared: dict[str, Any]) -> dict[str, Any]:
    """Return the request for a list of messages; what the system says is kept apart."""
    if isinstance(content, dict):
        raise UsageProblem(
            "a request body needs --raw; without it give a text or a list of messages"
        )
    if not isinstance(content, list) or not content:
        raise UsageProblem("the content must be a text or a non-empty list of messages")
    check(content, TAKES)
    contents: list[dict[str, Any]] = []
    instructions: list[Any] = []
    for message in content:
        if not isinstance(message, dict):
            raise UsageProblem("each message must be a dict with 'role' and 'content'")
        role, parts = message.get("role", "user"), _parts(message)
        if role in _SYSTEM_ROLES:
            instructions += parts
        else:
            contents.append({"role": "model" if role == "assistant" else role, "parts": parts})
    if not contents:
        raise UsageProblem("the messages hold a system prompt only: add one of the user")
    request = {**shared, "contents": contents}
    if instructions:
        given = shared.get("systemInstruction", {}).get("parts", [])
        request["systemInstruction"] = {"parts": [*given, *instructions]}
    return request


def _parts(message: dict[str, Any]) -> list[Any]:
    said = message.get("content", message.get("parts"))
    if isinstance(said, str):
        return [{"text": said}]
    if not isinstance(said, list) or not said:
        raise UsageProblem("a message needs 'content', a text or a list of parts")
    return [to_part(part) for part in said]


def meaning(recipe: Recipe, model: str) -> bytes:
    """Return the record of what is meant; ``v1`` never changes for the same meaning."""
    record = {
        "provider": PROVIDER,
        "endpoint": recipe.endpoint,
        "model": model.removeprefix("models/"),
        "system": recipe.system,
        "max_tokens": recipe.max_tokens,
        "params": recipe.params,
        "raw": recipe.raw,
    }
    if recipe.schema is not None:
        record["schema"] = recipe.schema
    return encoding.canonical(record)


# -- for people --------------------------------------------------------------------------------


def prompt_of(line: bytes) -> str:
    """Return the prompt of one request line as text for people."""
    try:
        request = msgspec.json.decode(line)["request"]
        said = request["contents"] if "contents" in request else [request["content"]]
        shown = [(str(each.get("role", "user")), _shown(each)) for each in said]
        if len(shown) == 1:
            return shown[0][1]
        return "\n\n".join(f"{role}: {text}" for role, text in shown)
    except (ValueError, KeyError, TypeError, AttributeError):
        return line.decode(errors="replace").strip()


def _shown(content: dict[str, Any]) -> str:
    return "\n".join(
        str(part["text"]) if "text" in part else mark(part) for part in content["parts"]
    )
