"""One queue of requests per model, with the provider's limits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import msgspec

from ..core.errors import UsageProblem
from ..core.request import Content, Limits, Recipe
from ..costs import tokens
from ..costs.estimate import Meter
from ..providers import registry
from ..providers.base import Adapter, Encoder, check_realtime
from . import splitter

#: Shared prefixes shorter than this are cached by no provider (about 1,024 tokens of English).
#: Sources: OpenAI's prompt-caching guide, Anthropic's "Cache limitations", Gemini's context
#: caching; some models want more.
CACHED_FROM = 4_000


class Lane:
    """How the rows of one model are asked.

    Parameters
    ----------
    adapter
        The model's provider.
    recipe
        What all rows share; parameters written as ``provider:name`` go to that provider only.
    model
        ``provider:model``.
    instant
        The option that needs real time; empty for none.

    Raises
    ------
    UsageProblem
        The provider cannot take the recipe, or has no key.
    """

    def __init__(
        self, adapter: Adapter, recipe: Recipe, model: str, hash_size: int, instant: str = ""
    ) -> None:
        self.name = model
        self.provider, _, self.model = model.partition(":")
        if instant:
            check_realtime(adapter, instant)
        adapter.check_key()
        recipe = msgspec.structs.replace(recipe, params=_own(recipe.params, self.provider))
        adapter.validate(recipe, self.model)
        self.prompt_of = adapter.prompt_of
        self.limits: Limits = adapter.limits(recipe.endpoint)
        self.encode: Encoder = adapter.encoder(recipe, self.model)
        self.meaning = hashlib.blake2b(adapter.meaning(recipe, self.model), digest_size=hash_size)
        #: The first row goes ahead alone, to fill the cache.
        self.primes = self.limits.primed and recipe.cache is not None and _is_long(recipe)
        self.recipe = recipe
        self.url = adapter.account(b"").base_url
        self.meter = Meter()
        self.bounds: Bounds | None = None
        if recipe.raw:
            self.encode = self.bounds = Bounds(self.encode)
        self.sampled = 0  # rows of the sample, which go out in real time
        self.draft: splitter.Draft | None = None
        self.put: Callable[[bytes], object] = len


class Bounds:
    """Encodes complete request bodies and notes how many output tokens each allows."""

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._most = 0
        self._open = False

    def __call__(self, custom_id: str, content: Content) -> bytes:
        """Return the request line."""
        line = self._encode(custom_id, content)
        bound = tokens.output_bound(tokens.request_body(msgspec.json.decode(line)))
        self._open = self._open or bound is None
        self._most = max(self._most, bound or 0)
        return line

    def most(self) -> int | None:
        """Return the largest bound, None when a request has none."""
        return None if self._open else self._most


def _own(params: Mapping[str, object], provider: str) -> dict[str, object]:
    own = {}
    for name, value in params.items():
        owner, colon, rest = name.partition(":")
        if not colon or owner not in registry.names():
            own[name] = value
        elif owner == provider:
            own[rest] = value
    return own


def _is_long(recipe: Recipe) -> bool:
    return len(recipe.system or "") + len(recipe.prefix) >= CACHED_FROM


class Lanes:
    """The lanes of a plan, made when a row first names their model.

    Parameters
    ----------
    adapters
        Returns the adapter of a provider.
    qualify
        Returns ``provider:model`` for what a user calls a model.
    instant
        The option that needs real time; empty for none.
    """

    def __init__(
        self,
        adapters: Callable[[str], Adapter],
        qualify: Callable[[str], str],
        recipe: Recipe,
        hash_size: int,
        instant: str = "",
    ) -> None:
        self._adapters = adapters
        self._qualify = qualify
        self._recipe = recipe
        self._hash_size = hash_size
        self._instant = instant
        self._known: dict[str, tuple[int, Lane]] = {}
        self.lanes: list[Lane] = []

    @property
    def models(self) -> list[str]:
        """Every model so far, ``provider:model``."""
        return [lane.name for lane in self.lanes]

    def of(self, model: str) -> tuple[int, Lane]:
        """Return the lane of a model and its number."""
        if model not in self._known:
            name = self._qualify(model)
            number = next((i for i, lane in enumerate(self.lanes) if lane.name == name), -1)
            if number < 0:
                number = len(self.lanes)
                if number >= 0xFFFF:
                    raise UsageProblem("the rows name more than 65,535 models")
                self.lanes.append(self._make(name))
            self._known[model] = number, self.lanes[number]
        return self._known[model]

    def _make(self, name: str) -> Lane:
        adapter = self._adapters(name.partition(":")[0])
        return Lane(adapter, self._recipe, name, self._hash_size, self._instant)
