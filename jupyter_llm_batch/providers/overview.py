"""What each provider takes, as a table for README: asked of the adapters, not written by hand.

    python -m jupyter_llm_batch.providers.overview

prints it. A test holds README against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..core.errors import UsageProblem
from ..core.request import Recipe
from .anthropic import client as anthropic_client
from .anthropic import objects as anthropic_objects
from .base import Adapter
from .google import client as google_client
from .openai import client as openai_client
from .openai import objects as openai_objects
from .registry import make

_ENDPOINTS = ("chat", "responses", "embeddings", "completions", "moderations")
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What no adapter can be asked.

    Attributes
    ----------
    retention
        Seconds for which answers are kept; None where the provider does not say.
    progress
        Whether its counts move while a job runs.
    """

    title: str
    key: str
    retention: float | None
    progress: bool


PROVIDERS = {
    "openai": Provider(
        title="OpenAI", key=openai_client.KEY, retention=openai_objects.RETENTION, progress=True
    ),
    "anthropic": Provider(
        title="Anthropic",
        key=anthropic_client.KEY,
        retention=anthropic_objects.RETENTION,
        progress=False,
    ),
    "google": Provider(title="Google Gemini", key=google_client.KEY, retention=None, progress=True),
}


def rows() -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of the table: what it says, and what each provider says to it."""
    adapters = {name: make(name, {}) for name in PROVIDERS}

    def each(say: Any) -> list[str]:
        return [say(name, adapter) for name, adapter in adapters.items()]

    yield "", [provider.title for provider in PROVIDERS.values()]
    yield "model", each(lambda name, _: f"`{name}:MODEL`")
    yield "key", [f"`{provider.key}`" for provider in PROVIDERS.values()]
    yield "rows in one job", each(lambda _, adapter: f"{adapter.limits('chat').requests:,}")
    yield (
        "bytes in one job",
        each(lambda _, adapter: f"{adapter.limits('chat').bytes // 10**6:,} MB"),
    )
    yield (
        "models in one job",
        each(lambda _, adapter: "one" if adapter.limits("chat").one_model else "any mix"),
    )
    yield "endpoints", each(lambda _, adapter: _endpoints(adapter))
    yield (
        "structured output (`--schema`)",
        each(lambda _, adapter: _yes(_takes(adapter, Recipe(schema=_SCHEMA, schema_name="a")))),
    )
    yield "embeddings (`--embed`)", each(lambda _, adapter: _embeddings(adapter))
    yield "cached prefixes", each(lambda _, adapter: _caching(adapter))
    yield "images and files in messages", each(lambda _, adapter: _media(adapter))
    yield (
        "progress while it runs",
        ["yes" if provider.progress else "at the end only" for provider in PROVIDERS.values()],
    )
    yield "found again after a lost answer", each(lambda _, adapter: _found(adapter))
    yield (
        "answers kept by the provider",
        [_kept(provider.retention) for provider in PROVIDERS.values()],
    )


def markdown() -> str:
    """Return the table as Markdown."""
    lines = [f"| {' | '.join([head, *cells])} |".replace("|  |", "| |") for head, cells in rows()]
    return "\n".join([lines[0], "| --- " * (len(PROVIDERS) + 1) + "|", *lines[1:]]) + "\n"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _takes(adapter: Adapter, recipe: Recipe) -> bool:
    try:
        adapter.validate(recipe, "m")
    except UsageProblem:
        return False
    return True


def _endpoints(adapter: Adapter) -> str:
    names = [name for name in _ENDPOINTS if _takes(adapter, Recipe(endpoint=name))]
    if _takes(adapter, Recipe(endpoint="/v1/any", raw=True)):
        names.append("any path with `--raw`")
    return ", ".join(names)


def _embeddings(adapter: Adapter) -> str:
    if not _takes(adapter, Recipe(endpoint="embeddings")):
        return "no"
    limits = adapter.limits("embeddings")
    return f"yes, {limits.requests:,} {'inputs' if limits.weigh else 'rows'} in one job"


def _line(adapter: Adapter, content: Any, **recipe: Any) -> bytes:
    return adapter.encoder(Recipe(**recipe), "m")("r-0", content)


def _caching(adapter: Adapter) -> str:
    hint = {"system": "s", "cache": "1h"}
    if not _takes(adapter, Recipe(system="s", cache="1h")):
        return "by itself"
    marked = _line(adapter, "a", **hint) != _line(adapter, "a", system="s")
    return "with `--cache`" if marked else "by itself; with `--cache` also explicitly, if it pays"


def _media(adapter: Adapter) -> str:
    """Say whether our own form of an image and a file becomes the provider's."""
    part = {"media_type": "application/pdf", "data": "aGk="}
    parts = [{"type": "image", **part, "media_type": "image/png"}, {"type": "file", **part}]
    line = _line(adapter, [{"role": "user", "content": parts}])
    ours = any(msgspec.json.encode(each) in line for each in parts)
    return "in the provider's own form" if ours else "yes"


def _found(adapter: Adapter) -> str:
    labelled = adapter.limits("chat").labelled
    return "by label" if labelled else "by time, rows and custom ids, else it waits"


def _kept(retention: float | None) -> str:
    return "not documented" if retention is None else f"{retention / 86400:.0f} days"


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201 - what the command is for
