"""Providers by name: built in, configured servers, and entry points of other packages."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from urllib.parse import urlsplit

from ..core.errors import UsageProblem, conceal
from ..core.secret import HiddenDict
from .base import Adapter, completed
from .shared.addresses import is_loopback, key_variables
from .shared.bounds import origin

GROUP = "jupyter_llm_batch.providers"


_BUILT_IN = {
    "anthropic": ".anthropic.adapter:Anthropic",
    "azure": ".openai.azure:Azure",
    "google": ".google.adapter:Google",
    "openai": ".openai.adapter:OpenAI",
}


#: Variables that hold a base URL.
_ADDRESSES = {
    "anthropic": "ANTHROPIC_BASE_URL",
    "azure": "AZURE_OPENAI_ENDPOINT",
    "google": "GOOGLE_GEMINI_BASE_URL",
    "openai": "OPENAI_BASE_URL",
}


#: Model names that everybody knows, so that the provider need not be typed.
_WELL_KNOWN = {
    "openai": re.compile(r"(gpt-|chatgpt-|o[1-9](-|$)|text-embedding-|codex-|ft:gpt-)"),
    "anthropic": re.compile(r"claude-"),
    "google": re.compile(r"(gemini-|gemma-|models/gemini-)"),
}


#: No server is configured.
_NONE: Mapping[str, str] = {}


def names(servers: Mapping[str, str] = _NONE) -> list[str]:
    """Return the names of all providers that can be used here."""
    return sorted({*_BUILT_IN, *_entry_points(), *servers})


def address_of(name: str, servers: Mapping[str, str] = _NONE) -> str:
    """Return where a provider's base URL is set, for people; empty where nobody knows."""
    return "%config LLMBatch.servers" if name in servers else _ADDRESSES.get(name, "")


def make(
    name: str,
    environ: Mapping[str, str],
    servers: Mapping[str, str] = _NONE,
    *,
    simulated: bool = False,
) -> Adapter:
    """Return the adapter of provider `name` for the keys and base URLs in `environ`.

    Parameters
    ----------
    servers
        OpenAI-compatible servers by name, see `Settings.servers`.
    simulated
        Only a simulated provider may be reached.

    Raises
    ------
    UsageProblem
        Nobody knows the provider, or it is a real one and this is a simulation.
    """
    environ = HiddenDict(environ)
    adapter = _make(name, environ, servers)
    if simulated and not _is_simulated(name, adapter, environ, servers):
        raise UsageProblem(
            f"{name} is not simulated, and a simulation asks no real provider: nothing was sent. "
            "`%llm_batch simulator --off` goes back to real providers"
        )
    return adapter


def _is_simulated(
    name: str, adapter: Adapter, environ: Mapping[str, str], servers: Mapping[str, str]
) -> bool:
    """Whether nothing but a simulator on this machine can be reached.

    Its address is among the base URLs of a simulation's variables; a simulation that has none of
    them, as in tests, has its simulators on loopback.
    """
    if name not in _BUILT_IN and name not in servers:
        return False  # who knows what somebody else's adapter reaches
    account = adapter.account(b"")
    url = account.base_url
    if not url or (name in _BUILT_IN and not account.fingerprint):
        return True  # without address or key it reaches nothing, and says so itself
    known = {origin(environ[each]) for each in _ADDRESSES.values() if environ.get(each)}
    return is_loopback(url) and (not known or origin(url) in known)


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _make(name: str, environ: Mapping[str, str], servers: Mapping[str, str]) -> Adapter:
    for variable in key_variables(name):
        conceal(environ.get(variable, "").strip())
    if name in _BUILT_IN:
        if name in servers:
            raise UsageProblem(f"LLMBatch.servers: {name!r} is a provider of its own: rename it")
        module, _, attribute = _BUILT_IN[name].partition(":")
        factory = getattr(importlib.import_module(module, __package__), attribute)
    elif name in servers:
        from .openai.compatible import Compatible

        server: Adapter = Compatible(environ, name, servers[name])
        return server
    else:
        found = _entry_points().get(name)
        if found is None:
            raise UsageProblem(_unknown(name, servers))
        factory = found.load()
    missing = sorted(getattr(factory, "__abstractmethods__", ()))
    if missing:
        raise UsageProblem(
            f"the adapter of {name!r} has no {', '.join(missing)}: update its package"
        )
    return completed(name, factory(environ))


def server_name(url: str) -> str:
    """Return the name that stands for a server of which only the base URL was given."""
    parts = urlsplit(url.strip())
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise UsageProblem("--base-url is no address: write http://HOST:PORT/v1")
    if "@" in parts.netloc or parts.query:
        raise UsageProblem("--base-url holds more than an address: keys go into variables")
    words = f"{host}_{port}" if port else host
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    # Its key is looked for in a variable of that name, and none begins with a digit.
    return f"server_{name}" if name[:1].isdigit() else name


def reader(name: str) -> Adapter:
    """Return an adapter for its pure half, which needs no key.

    A name that nobody knows any more was a server of the settings: its results are OpenAI's.
    """
    if name in names():
        return make(name, {})
    from .openai.compatible import Compatible

    forgotten: Adapter = Compatible({}, name, "")
    return forgotten


def qualify(model: str, servers: Mapping[str, str] = _NONE) -> str:
    """Return `model` as ``provider:model``; a bare well-known name finds its provider.

    Raises
    ------
    UsageProblem
        The provider is unknown, or a bare name that nobody knows.
    """
    model = model.strip()
    provider, colon, rest = model.partition(":")
    # Entry points are read only for names that are not ours: it means a look at every package.
    if colon and rest and (provider in _BUILT_IN or provider in names(servers)):
        return model
    for owner, pattern in _WELL_KNOWN.items():
        if pattern.match(model):
            return f"{owner}:{model}"
    if colon and rest:
        raise UsageProblem(_unknown(provider, servers))
    known = ", ".join(f"{name}:MODEL" for name in names(servers))
    raise UsageProblem(f"unknown model {model!r}: write it with its provider ({known})")


def _unknown(name: str, servers: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name.lower(), names(servers), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return (
        f"unknown provider {name!r}{hint}: known are {', '.join(names(servers))}; "
        f"%config LLMBatch.servers = {{{name!r}: 'https://…/v1'}} adds an OpenAI-compatible server"
    )
