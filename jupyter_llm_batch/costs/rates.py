"""Rates per token, the user's own prices, and the parts of a cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from ..core.errors import UsageProblem
from ..core.result import Usage

#: Requests up to this many input tokens are below every model's long-context tier.
LINEAR = 100_000


#: Default share of the real-time price that a batch costs, the rule of all three providers.
HALF = Decimal("0.5")


_PER_MILLION = Decimal(1_000_000)


#: The kinds of tokens that have prices, as a user names them.
_KINDS = ("input", "cached", "cache_write", "cache_write_1h", "output")


#: Anthropic's multiples of the input price for reading from and writing to the prompt cache.
#: https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing
_CACHE_RULES = {
    "anthropic": {
        "cached": Decimal("0.1"), "cache_write": Decimal("1.25"), "cache_write_1h": Decimal(2),
    }
}  # fmt: skip


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """USD paid as a batch, and what the same tokens would have cost otherwise.

    Attributes
    ----------
    batch
        What is paid.
    realtime
        The same tokens at the real-time price with caching.
    cache
        What caching saved of the batch price; negative where writing cost more than reading saved.
    """

    batch: Decimal = Decimal(0)
    realtime: Decimal = Decimal(0)
    cache: Decimal = Decimal(0)

    @property
    def saved(self) -> Decimal:
        """What the batch saved."""
        return self.realtime - self.batch

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            batch=self.batch + other.batch,
            realtime=self.realtime + other.realtime,
            cache=self.cache + other.cache,
        )


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """USD per token of a request below any long-context tier."""

    input: Decimal
    cached: Decimal
    cache_write: Decimal
    cache_write_1h: Decimal
    output: Decimal

    def price(self, usage: Usage) -> Decimal:
        """Return what `usage` costs."""
        return (
            self.input * (usage.input - usage.cached - usage.cache_write)
            + self.cached * usage.cached
            + self.cache_write * (usage.cache_write - usage.cache_write_1h)
            + self.cache_write_1h * usage.cache_write_1h
            + self.output * usage.output
        )

    def scaled(self, factor: Decimal) -> Rates:
        """Return the rates times `factor`."""
        return Rates(**{kind: getattr(self, kind) * factor for kind in _KINDS})


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of a model, and their source.

    Attributes
    ----------
    batch, realtime
        None where the price is not known.
    source
        Source and date of the prices.
    note
        What the user should know: a price that is missing, or the remedy.
    """

    batch: Rates | None = None
    realtime: Rates | None = None
    source: str = ""
    note: str = ""


def without_cache(usage: Usage) -> Usage:
    """Return the same tokens as if there were no prompt cache."""
    return Usage(input=usage.input, output=usage.output)


def read_own_rates(key: str, prices: Mapping[str, Any]) -> tuple[Rates, Rates]:
    """Return the rates in real time and as a batch."""
    provider = key.partition(":")[0]
    if ":" not in key or not isinstance(prices, Mapping):
        raise UsageProblem(
            f"LLMBatch.prices: {key!r} must be 'PROVIDER:MODEL', with "
            "{'input': USD, 'output': USD} per million tokens"
        )
    known = {*_KINDS, *(f"batch_{kind}" for kind in _KINDS)}
    if unknown := sorted(prices.keys() - known):
        raise UsageProblem(
            f"LLMBatch.prices[{key!r}]: unknown {unknown[0]!r}; use {', '.join(sorted(known))}"
        )
    given = {
        kind: _number(f"LLMBatch.prices[{key!r}][{kind!r}]", value) / _PER_MILLION
        for kind, value in prices.items()
    }
    if "input" not in given:
        raise UsageProblem(f"LLMBatch.prices[{key!r}] lacks 'input', in USD per million tokens")
    realtime = _completed(provider, given, "")
    halves = {
        f"batch_{kind}": given.get(f"batch_{kind}", getattr(realtime, kind) * HALF)
        for kind in ("input", "output")
    }
    rest = {kind: value for kind, value in given.items() if kind.startswith("batch_")}
    factor = halves["batch_input"] / realtime.input if realtime.input else HALF
    for kind in _KINDS[1:4]:  # cached ones follow the input, as far as the user says nothing else
        rest.setdefault(f"batch_{kind}", getattr(realtime, kind) * factor)
    return realtime, _completed(provider, rest | halves, "batch_")


def _completed(provider: str, given: Mapping[str, Decimal], prefix: str) -> Rates:
    fresh = given[f"{prefix}input"]
    rules = _CACHE_RULES.get(provider, {})
    return Rates(
        input=fresh,
        output=given.get(f"{prefix}output", Decimal(0)),
        **{
            kind: given.get(f"{prefix}{kind}", fresh * rules.get(kind, Decimal(1)))
            for kind in _KINDS[1:4]
        },
    )


def _number(where: str, value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0 or isinstance(value, bool):
        raise UsageProblem(f"{where}: {value!r} is no price")
    return number


def read_discount(where: str, value: Any) -> Decimal:
    """Return a discount of the settings as a share, 0 to 1."""
    share = _number(f"LLMBatch.{where}", value)
    if share > 1:
        raise UsageProblem(f"LLMBatch.{where}: a discount is a share, such as 0.1 for 10 %")
    return share
