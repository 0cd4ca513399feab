"""OpenAI's request lines, without I/O; `openai_results` reads what comes back.

A request line is ``{"custom_id", "method": "POST", "url", "body"}`` and all lines of a file go to
one endpoint and one model. What all lines of a batch share is encoded once; a line then costs the
encoding of its own content and one join.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ...core.errors import UsageProblem
from ...core.request import Content, Recipe
from ...data import schema_forms
from ..base import Encoder
from ..shared import encoding
from .media import messages

PROVIDER = "openai"

#: Our names of endpoints and OpenAI's paths.
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "completions": "/v1/completions",
    "moderations": "/v1/moderations",
}
_NAMES = {path: name for name, path in PATHS.items()}

#: Where an endpoint takes the content, the system prompt and the bound of output tokens.
_CONTENT = {
    "chat": "messages",
    "responses": "input",
    "embeddings": "input",
    "completions": "prompt",
    "moderations": "input",
}
_SYSTEM = {"chat", "responses"}
_MAX_TOKENS = {
    "chat": "max_completion_tokens",
    "responses": "max_output_tokens",
    "completions": "max_tokens",
}
_TOKEN_BOUNDS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})

#: Parameters that change what a request costs but not what it means.
_CACHE_HINTS = frozenset({"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"})


def kind(endpoint: str) -> str:
    """Return our name of `endpoint`, or the path itself when we have none."""
    return _NAMES.get(endpoint, endpoint)


def named(endpoint: str) -> str:
    """Return our name of an endpoint as any server spells it: a whole address, or without /v1."""
    place = urlsplit(endpoint).path.rstrip("/")
    found = (name for path, name in _NAMES.items() if place.endswith(path.removeprefix("/v1")))
    return next(found, endpoint)


def path(endpoint: str) -> str:
    """Return OpenAI's path of `endpoint`."""
    if endpoint in PATHS:
        return PATHS[endpoint]
    if endpoint.startswith("/v1/"):
        return endpoint
    known = ", ".join(PATHS)
    raise UsageProblem(f"OpenAI has no endpoint {endpoint!r}: use {known}, or a path like /v1/…")


# -- requests ----------------------------------------------------------------------------------


def validate(recipe: Recipe) -> None:
    """Raise `UsageProblem` for a recipe that no OpenAI batch can take."""
    path(recipe.endpoint)
    name = kind(recipe.endpoint)
    if name not in PATHS and not recipe.raw:
        raise UsageProblem(f"{recipe.endpoint} takes complete request bodies only: use --raw")
    if recipe.params.get("stream"):
        raise UsageProblem("batch jobs cannot stream: remove the parameter 'stream'")
    if recipe.system is not None and recipe.raw:
        raise UsageProblem("with --raw the system prompt belongs into the request bodies")
    if recipe.system is not None and name not in _SYSTEM:
        raise UsageProblem(f"the endpoint {recipe.endpoint!r} takes no system prompt")
    if recipe.schema is not None and (recipe.raw or name not in _SYSTEM):
        raise UsageProblem("--schema goes with the endpoints chat and responses, without --raw")
    if recipe.max_tokens is not None and name not in _MAX_TOKENS:
        raise UsageProblem(f"the endpoint {recipe.endpoint!r} takes no --max-tokens")
    ours = {"model", _CONTENT[name]} if name in PATHS else {"model"}
    if recipe.system is not None:
        ours.add("instructions")
    if recipe.schema is not None:
        ours |= {"response_format", "text"}
    taken = sorted(ours & recipe.params.keys())
    if taken:
        raise UsageProblem(f"the parameter {taken[0]!r} is set by the batch itself: remove it")
    encoding.checked(recipe.params, "the parameters")


def encoder(recipe: Recipe, model: str, *, bounds: bool = True) -> Encoder:
    """Return the function that makes one request line; `recipe` has been validated.

    Parameters
    ----------
    bounds
        See `schema_forms.for_openai`.
    """
    url = path(recipe.endpoint)
    name = kind(recipe.endpoint)
    shared = _shared(recipe, model, name, bounds=bounds)
    encode = encoding.fast
    head = b'{"custom_id":"'
    middle = b'","method":"POST","url":' + encode(url) + b',"body":{'
    constant = encode(shared)[1:-1]

    if recipe.raw:

        def encode_raw(custom_id: str, content: Content) -> bytes:
            body = encode(_raw_body(content, shared))
            return b"".join((head, custom_id.encode(), middle, body[1:], b"}\n"))

        return encoding.guarded(encode_raw)

    before, after, opening = _around(recipe, name)
    text_head = middle + constant + b',"' + _CONTENT[name].encode() + b'":' + before
    list_head = middle + constant + b',"' + _CONTENT[name].encode() + b'":' + opening
    text_tail = after + b"}}\n"

    def encode_line(custom_id: str, content: Content) -> bytes:
        if type(content) is str:
            return b"".join((head, custom_id.encode(), text_head, encode(content), text_tail))
        if isinstance(content, str):
            return encode_line(custom_id, str.__str__(content))
        items = _items(content, name)
        return b"".join((head, custom_id.encode(), list_head, encode(items)[1:], b"}}\n"))

    return encoding.guarded(encode_line)


def _shared(recipe: Recipe, model: str, name: str, *, bounds: bool) -> dict[str, Any]:
    shared: dict[str, Any] = {"model": model}
    if recipe.system is not None and name == "responses":
        shared["instructions"] = recipe.system
    if recipe.max_tokens is not None and not _TOKEN_BOUNDS & recipe.params.keys():
        shared[_MAX_TOKENS[name]] = recipe.max_tokens
    if recipe.schema is not None:
        shared.update(_structured(recipe, name, bounds=bounds))
    if recipe.cache is not None and name in _SYSTEM:
        shared["prompt_cache_key"] = _cache_key(recipe, model)
    shared.update(recipe.params)
    return shared


def _cache_key(recipe: Recipe, model: str) -> str:
    """Return what requests with the same beginning share, so that they meet the same cache."""
    beginning = encoding.checked([model, recipe.system, recipe.prefix], "the system prompt")
    return f"llm-batch-{hashlib.blake2b(beginning, digest_size=8).hexdigest()}"


def _structured(recipe: Recipe, name: str, *, bounds: bool) -> dict[str, Any]:
    assert recipe.schema is not None
    schema, strict = schema_forms.for_openai(recipe.schema, bounds=bounds)
    form = {"name": recipe.schema_name or "answer", "schema": schema, "strict": strict}
    if name == "chat":
        return {"response_format": {"type": "json_schema", "json_schema": form}}
    return {"text": {"format": {"type": "json_schema", **form}}}


def _around(recipe: Recipe, name: str) -> tuple[bytes, bytes, bytes]:
    """Return what stands before and after a text, and what opens a list of items."""
    if name != "chat":
        return b"", b"", b"["
    opening = b"["
    if recipe.system is not None:
        opening += encoding.fast({"role": "system", "content": recipe.system}) + b","
    return opening + b'{"role":"user","content":', b"}]", opening


def _items(content: Content, name: str) -> list[Any]:
    if isinstance(content, dict):
        raise UsageProblem(
            "a request body needs --raw; without it give a text or a list of messages"
        )
    if name not in _SYSTEM:
        raise UsageProblem(f"the endpoint {name!r} takes one text per row, not a list")
    if not isinstance(content, list) or not content:
        raise UsageProblem("the content must be a text or a non-empty list of messages")
    return messages(content, responses=name == "responses")


def _raw_body(content: Content, shared: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise UsageProblem("with --raw every row must be a request body, a non-empty dict")
    if content.get("stream"):
        raise UsageProblem("batch jobs cannot stream: remove 'stream' from the request body")
    if _TOKEN_BOUNDS & content.keys():
        shared = {key: value for key, value in shared.items() if key not in _TOKEN_BOUNDS}
    return {**shared, **content}


class _Inputs(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b'""')


class _InputLine(msgspec.Struct):
    body: _Inputs


_INPUT_LINE = msgspec.json.Decoder(_InputLine)


def inputs(line: bytes) -> int:
    """Return how many inputs the line of an embeddings request holds."""
    given = bytes(_INPUT_LINE.decode(line).body.input)
    if not given.startswith(b"["):
        return 1
    items = msgspec.json.decode(given)
    # A list of numbers is one text, in tokens.
    return len(items) if items and not isinstance(items[0], int) else 1


def meaning(recipe: Recipe, model: str, provider: str = PROVIDER) -> bytes:
    """Return the record of what is meant; ``v1`` never changes for the same meaning."""
    params = {key: value for key, value in recipe.params.items() if key not in _CACHE_HINTS}
    record: dict[str, Any] = {
        "provider": provider,
        "endpoint": kind(recipe.endpoint),
        "model": model,
        "system": recipe.system,
        "max_tokens": recipe.max_tokens,
        "params": params,
        "raw": recipe.raw,
    }
    if recipe.schema is not None:
        record["schema"] = recipe.schema
    return encoding.canonical(record)


class _Line(msgspec.Struct):
    custom_id: str
    url: str
    body: msgspec.Raw


_READ = msgspec.json.Decoder(_Line)


def read_line(line: bytes) -> tuple[str, str, bytes]:
    """Return a request line's custom_id, its path below the base URL, and its body."""
    read = _READ.decode(line)
    return read.custom_id, read.url.removeprefix("/v1"), bytes(read.body)


def prompt_of(line: bytes) -> str:
    """Return the prompt of one request line as text for people."""
    try:
        body = msgspec.json.decode(line)["body"]
        for key in ("messages", "input", "prompt"):
            if key in body:
                return encoding.readable(body[key])
    except (ValueError, KeyError, TypeError):
        pass
    return line.decode(errors="replace").strip()
