"""What tokens cost, from the offline price data of genai-prices. Unknown prices stay unknown."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import msgspec

from .models import Usage


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """USD paid as a batch, and what the same tokens would have cost in real time."""

    batch: Decimal = Decimal(0)
    realtime: Decimal = Decimal(0)

    def __add__(self, other: Cost) -> Cost:
        return Cost(batch=self.batch + other.batch, realtime=self.realtime + other.realtime)

    @property
    def saved(self) -> Decimal:
        """What the batch saved."""
        return self.realtime - self.batch


#: Requests up to this many input tokens are below every model's long-context tier.
LINEAR = 100_000


#: The providers whose names are also those of the price data.
_PRICED = frozenset({"anthropic", "azure", "google", "openai"})


def cost(
    provider: str, model: str, usage: Usage, long: Sequence[Usage] = (), *, url: str = ""
) -> Cost | None:
    """Return the cost of requests, or None when the model's batch price is not known.

    genai-prices silently charges the full price for a model without a batch variant; that would
    read as "nothing saved", so it counts as unknown here.

    Parameters
    ----------
    usage
        Sum over requests of at most `LINEAR` input tokens each. Their price is linear; priced as
        one sum by genai-prices they would land in a long-context tier.
    long
        The longer requests, one by one.
    url
        The server's base URL, by which the prices of a provider are found that is none of ours:
        its name says nothing, since a user chose it.
    """
    if provider not in _PRICED:
        provider = _owner(url)
        if not provider:
            return None
    batch = _total(provider, model, usage, long, "batch")
    realtime = _total(provider, model, usage, long, None)
    fallback = _rates(provider, model, "batch") == _rates(provider, model, None)
    if batch is None or realtime is None or fallback:
        return None
    return Cost(batch=batch, realtime=realtime)


@lru_cache(maxsize=64)
def _owner(url: str) -> str:
    """Return the price data's name of the provider whose API is at `url`; empty when unknown."""
    from genai_prices import data_snapshot

    try:
        return str(data_snapshot.get_snapshot().find_provider(None, None, url).id) if url else ""
    except LookupError:
        return ""


def input_rates(
    provider: str, model: str, processing: str | None
) -> tuple[Decimal, Decimal] | None:
    """Return USD per token of fresh input and of input read from a cache, where known."""
    rates = _rates(provider, model, processing)
    return None if rates is None else (rates[0], rates[1])


def _total(
    provider: str, model: str, usage: Usage, long: Sequence[Usage], processing: str | None
) -> Decimal | None:
    rates = _rates(provider, model, processing)
    if rates is None:
        return None
    fresh = usage.input - usage.cached - usage.cache_write
    counts = (
        fresh,
        usage.cached,
        usage.cache_write - usage.cache_write_1h,
        usage.cache_write_1h,
        usage.output,
    )
    total = sum((rate * count for rate, count in zip(rates, counts, strict=True)), Decimal(0))
    for each in long:
        total += _price(provider, model, each, processing) or Decimal(0)
    return total


@lru_cache(maxsize=256)
def _rates(provider: str, model: str, processing: str | None) -> tuple[Decimal, ...] | None:
    """Return USD per token: fresh input, read from cache, written for 5 m and 1 h, output."""
    prices = [
        _price(provider, model, usage, processing)
        for usage in (
            Usage(input=1000),
            Usage(input=1000, cached=1000),
            Usage(input=1000, cache_write=1000),
            Usage(input=1000, cache_write=1000, cache_write_1h=1000),
            Usage(output=1000),
        )
    ]
    known = tuple(price / 1000 for price in prices if price is not None)
    return known if len(known) == len(prices) else None


def _price(provider: str, model: str, usage: Usage, processing: str | None) -> Decimal | None:
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    try:
        found = calc_price(
            PricedUsage(
                input_tokens=usage.input,
                output_tokens=usage.output,
                cache_read_tokens=usage.cached,
                cache_write_tokens=usage.cache_write,
                cache_write_1h_tokens=usage.cache_write_1h,
            ),
            model_ref=model,
            provider_id=provider,
            price_context={"processing": processing} if processing else None,
        )
    except (LookupError, ValueError):
        return None
    return Decimal(found.total_price)
