"""The providers: one module each, found by name; third parties register by entry point."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from importlib.metadata import entry_points

from ..errors import UsageProblem
from .base import Adapter, Encoder, Limits

__all__ = ["Adapter", "Encoder", "Limits", "make", "names", "qualify"]

GROUP = "jupyter_llm_batch.providers"

_BUILT_IN = {
    "anthropic": ".anthropic:Anthropic",
    "google": ".google:Google",
    "openai": ".openai:OpenAI",
}

#: Model names that everybody knows, so that the provider need not be typed.
_WELL_KNOWN = {
    "openai": re.compile(r"(gpt-|chatgpt-|o[1-9](-|$)|text-embedding-|codex-|ft:gpt-)"),
    "anthropic": re.compile(r"claude-"),
    "google": re.compile(r"(gemini-|gemma-|models/gemini-)"),
}


def names() -> list[str]:
    """Return the names of all providers that can be used here."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def make(name: str, environ: Mapping[str, str]) -> Adapter:
    """Return the adapter of provider `name` for the keys and base URLs in `environ`."""
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        factory = getattr(importlib.import_module(module, __name__), attribute)
    else:
        found = [point for point in entry_points(group=GROUP) if point.name == name]
        if not found:
            raise UsageProblem(_unknown(name))
        factory = found[0].load()
    adapter: Adapter = factory(environ)
    return adapter


def qualify(model: str) -> str:
    """Return `model` as ``provider:model``; a bare well-known name finds its provider.

    Raises
    ------
    UsageProblem
        The provider is unknown, or a bare name that nobody knows.
    """
    model = model.strip()
    provider, colon, rest = model.partition(":")
    if colon and provider in names() and rest:
        return model
    for owner, pattern in _WELL_KNOWN.items():
        if pattern.match(model):
            if owner not in names():
                raise UsageProblem(_unknown(owner))
            return f"{owner}:{model}"
    if colon and rest:
        raise UsageProblem(_unknown(provider))
    known = ", ".join(f"{name}:MODEL" for name in names())
    raise UsageProblem(f"unknown model {model!r}: write it with its provider ({known})")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), names(), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown provider {name!r}{hint}: known are {', '.join(names())}"
