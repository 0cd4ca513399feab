"""Anthropic's request lines, without I/O; `anthropic_results` reads what comes back.

A line is ``{"custom_id", "params"}``, an element of the ``requests`` that one create carries. The
params are those of the Messages API, so every line names its model and models may be mixed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import UsageProblem
from ...core.request import Content, Recipe
from ...data import schema_forms
from ..base import Encoder
from ..shared import encoding
from ..shared.media import check
from .media import TAKES, block

PROVIDER = "anthropic"

#: Our names of the one endpoint that has batches.
ENDPOINTS = ("chat", "messages")

#: The API demands a bound of output tokens; this one stands where the user gave none. It bounds an
#: answer and is never billed by itself.
MAX_TOKENS = 4096

#: The header that chooses an API version, and the last one with sampling parameters.
VERSION = "anthropic-version"
SAMPLING_VERSION = "2023-06-01"
_SAMPLING = ("temperature", "top_p", "top_k")

_SYSTEM_ROLES = frozenset({"system", "developer"})
_LIFETIMES = ("5m", "1h")

#: Parameters that change what a request costs but not what it means.
_CACHE_HINTS = frozenset({"cache_control"})


def validate(recipe: Recipe, *, sampling: bool = False) -> None:
    """Raise `UsageProblem` for a recipe that no Anthropic batch can take.

    Parameters
    ----------
    sampling
        The API version in use still has sampling parameters.
    """
    if recipe.endpoint == "embeddings":
        raise UsageProblem(
            "Anthropic has no embeddings: use a model of OpenAI or Google, such as "
            "openai:text-embedding-3-small or google:gemini-embedding-001"
        )
    if recipe.endpoint not in ENDPOINTS:
        raise UsageProblem(f"Anthropic batches have no endpoint {recipe.endpoint!r}: use 'chat'")
    if recipe.max_tokens is not None and recipe.max_tokens < 1:
        raise UsageProblem("--max-tokens must be at least 1 in a batch")
    _check_params(recipe.params, sampling=sampling)
    for given, option in ((recipe.system, "the system prompt"), (recipe.schema, "the schema")):
        if given is not None and recipe.raw:
            raise UsageProblem(f"with --raw {option} belongs into the request bodies")
    if recipe.cache is not None:
        _check_cache(recipe)
    ours = {"model", "messages"}
    if recipe.system is not None:
        ours.add("system")
    taken = sorted(ours & recipe.params.keys())
    if taken:
        raise UsageProblem(f"the parameter {taken[0]!r} is set by the batch itself: remove it")
    config = recipe.params.get("output_config", {})
    if not isinstance(config, dict):
        raise UsageProblem("the parameter 'output_config' must be an object")
    if recipe.schema is not None and "format" in config:
        raise UsageProblem("the schema is given twice: remove 'format' from 'output_config'")
    encoding.checked(_shared(recipe, ""), "the parameters")


def _check_cache(recipe: Recipe) -> None:
    if recipe.cache not in _LIFETIMES:
        raise UsageProblem(f"--cache {recipe.cache!r} is none of {', '.join(_LIFETIMES)}")
    if recipe.raw:
        raise UsageProblem("with --raw 'cache_control' belongs into the request bodies")
    if recipe.system is None and not recipe.prefix.strip():
        raise UsageProblem(
            "--cache keeps what all rows share, and they share nothing: begin the prompt with the "
            "common part, or put it into --system"
        )


def _check_params(params: dict[str, Any], *, sampling: bool) -> None:
    """Refuse what the API takes in real time only, or takes no longer."""
    if params.get("stream"):
        raise UsageProblem("batch jobs cannot stream: remove the parameter 'stream'")
    if params.get("speed") is not None:
        raise UsageProblem("batch jobs have no fast mode: remove the parameter 'speed'")
    if "max_tokens" in params and params["max_tokens"] == 0:
        raise UsageProblem("batch jobs take no 'max_tokens' of 0: give at least 1")
    removed = [name for name in _SAMPLING if name in params]
    if removed and not sampling:
        raise UsageProblem(
            f"Anthropic's API has no parameter {removed[0]!r} since version 2026-10-21: remove it, "
            f"or ask for the old version with ANTHROPIC_CUSTOM_HEADERS='{VERSION}: "
            f"{SAMPLING_VERSION}'"
        )


# -- requests ----------------------------------------------------------------------------------


def encoder(recipe: Recipe, model: str, *, sampling: bool = False) -> Encoder:
    """Return the function that makes one request line; `recipe` has been validated."""
    shared = _shared(recipe, model)
    head, middle = b'{"custom_id":"', b'","params":{'

    if recipe.raw:

        def encode_raw(custom_id: str, content: Content) -> bytes:
            params = _raw_params(content, shared, sampling=sampling)
            body = encoding.fast(params)
            return b"".join((head, custom_id.encode(), middle, body[1:], b"}\n"))

        return encoding.guarded(encode_raw)

    constant = encoding.fast(shared)[1:-1]
    common = _common_system(recipe)
    system = b',"system":' + encoding.fast(common) if common else b""
    text_head = middle + constant + system + b',"messages":[{"role":"user","content":'
    list_head = middle + constant
    encode = encoding.fast
    prefix = recipe.prefix if recipe.cache and recipe.prefix.strip() else ""
    opening = _prefix_block(recipe)

    def encode_line(custom_id: str, content: Content) -> bytes:
        if type(content) is str:
            said = encode(content)
            # A block of blanks alone is refused.
            if prefix and content.startswith(prefix) and content[len(prefix) :].strip():
                rest = encode({"type": "text", "text": content[len(prefix) :]})
                said = b"".join((b"[", opening, b",", rest, b"]"))
            return b"".join((head, custom_id.encode(), text_head, said, b"}]}}\n"))
        if isinstance(content, str):
            return encode_line(custom_id, str.__str__(content))
        own, messages = _divided(content)
        before = b',"system":' + encode([*_blocks(common), *own]) if own else system
        parts = (head, custom_id.encode(), list_head, before, b',"messages":')
        return b"".join((*parts, encode(messages), b"}}\n"))

    return encoding.guarded(encode_line)


def _shared(recipe: Recipe, model: str) -> dict[str, Any]:
    shared: dict[str, Any] = {"model": model, "max_tokens": recipe.max_tokens or MAX_TOKENS}
    shared.update(recipe.params)
    if recipe.schema is not None:
        form = {"type": "json_schema", "schema": schema_forms.for_anthropic(recipe.schema)}
        shared["output_config"] = {**recipe.params.get("output_config", {}), "format": form}
    return shared


def _prefix_block(recipe: Recipe) -> bytes:
    """Return what all prompts begin with as a block of its own, marked to be cached."""
    hint = {"type": "ephemeral", "ttl": recipe.cache}
    return encoding.fast({"type": "text", "text": recipe.prefix, "cache_control": hint})


def _common_system(recipe: Recipe) -> str | list[dict[str, Any]]:
    """Return the system prompt of all rows, with the mark up to which it is to be cached."""
    if recipe.system is None or recipe.cache is None:
        return recipe.system or ""
    hint = {"type": "ephemeral", "ttl": recipe.cache}
    return [{"type": "text", "text": recipe.system, "cache_control": hint}]


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)


def _divided(content: Content) -> tuple[list[Any], list[Any]]:
    """Return the system blocks among a row's messages, and the messages of the conversation."""
    if isinstance(content, dict):
        raise UsageProblem(
            "a request body needs --raw; without it give a text or a list of messages"
        )
    if not isinstance(content, list) or not content:
        raise UsageProblem("the content must be a text or a non-empty list of messages")
    check(content, TAKES)
    system: list[Any] = []
    messages = []
    for message in content:
        if not isinstance(message, dict) or "role" not in message:
            raise UsageProblem("each message must be an object with 'role' and 'content'")
        said = message.get("content")
        if message["role"] in _SYSTEM_ROLES:
            system += _blocks(said)
        elif isinstance(said, list):
            messages.append({**message, "content": [block(part) for part in said]})
        else:
            messages.append(message)
    if not messages:
        raise UsageProblem("the list of messages holds no message of the user")
    return system, messages


def _raw_params(content: Content, shared: dict[str, Any], *, sampling: bool) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise UsageProblem("with --raw every row must be a request body, a non-empty dict")
    _check_params(content, sampling=sampling)
    return {**shared, **content}


# -- for hashes and for people -----------------------------------------------------------------


def meaning(recipe: Recipe, model: str) -> bytes:
    """Return the record of what is meant; ``v1`` never changes for the same meaning."""
    record: dict[str, Any] = {
        "provider": PROVIDER,
        "endpoint": "chat",
        "model": model,
        "system": recipe.system,
        "max_tokens": recipe.max_tokens,
        "params": {key: val for key, val in recipe.params.items() if key not in _CACHE_HINTS},
        "raw": recipe.raw,
    }
    if recipe.schema is not None:
        record["schema"] = recipe.schema
    return encoding.canonical(record)


class _Line(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


_READ = msgspec.json.Decoder(_Line)


def read_line(line: bytes) -> tuple[str, bytes]:
    """Return a request line's custom_id and the body of its request."""
    read = _READ.decode(line)
    return read.custom_id, bytes(read.params)


def prompt_of(line: bytes) -> str:
    """Return the prompt of one request line as text for people."""
    try:
        return encoding.readable(msgspec.json.decode(line)["params"]["messages"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return line.decode(errors="replace").strip()


#: Bytes of a payload that are read at a time.
_PIECE = 1 << 20


def create_body(payload: Path) -> tuple[int, AsyncIterator[bytes]]:
    """Return length and pieces of a create's body: the payload's lines as one JSON list."""
    opening, closing = b'{"requests":[', b"]}"
    # JSON keeps line breaks inside of texts escaped, so those of the file stand between requests;
    # the last one ends the file and becomes the closing bracket.
    size = payload.stat().st_size - 1

    async def pieces() -> AsyncIterator[bytes]:
        yield opening
        left = size
        with payload.open("rb") as file:
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece.replace(b"\n", b",")
        yield closing

    return len(opening) + size + len(closing), pieces()
