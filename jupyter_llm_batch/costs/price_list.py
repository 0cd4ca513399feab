"""List prices from the offline data of genai-prices."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

from ..core.job import Job
from ..core.result import Usage
from .rates import Rates

#: The providers whose names are also those of the price data.
_PRICED = frozenset({"anthropic", "azure", "google", "openai"})


#: Providers that document half the real-time price for embeddings in a batch. The price data has
#: no batch price of any embedding model.
#: https://developers.openai.com/api/docs/guides/batch, https://ai.google.dev/gemini-api/docs/batch-api
HALF_FOR_EMBEDDINGS = frozenset({"azure", "google", "openai"})


#: What stands behind a model's name in an answer and says which snapshot of it answered:
#: ``gpt-5-mini-2025-08-07``, ``claude-haiku-4-5-20251001``, ``gemini-2.5-flash-001``.
_SNAPSHOT = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3})$")


def price_keys(provider: str, model: str, asked: str) -> list[str]:
    """Return under which names a user may have given the price of a model, the nearest first."""
    names = [model, asked, _SNAPSHOT.sub("", model)]
    names += [name.removeprefix("models/") for name in names]  # Gemini's resource names
    return [f"{provider}:{name}" for name in dict.fromkeys(names) if name]


def longest_match(model: str, names: Iterable[str]) -> str:
    """Return the name of which `model` is a snapshot; the longest that fits, empty if none does."""
    fitting = [name for name in names if name and model.startswith(name)]
    return max(fitting, key=len, default="")


def requested_name(job: Job, model: str) -> str:
    """Return the name under which `job` requested a model that answered as `model`."""
    several = len(job.models) > 1
    return longest_match(model, job.models) if several else job.model


def find_listed(provider: str, url: str) -> str:
    """Return the price data's name of a provider; empty when it has none."""
    return provider if provider in _PRICED else _owner(url)


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
    rates = rates_of(provider, model, processing)
    return None if rates is None else (rates.input, rates.cached)


@lru_cache(maxsize=8)
def price_data(provider: str) -> str:
    """Return which price data is in use: its version, and the latest change of this provider."""
    from importlib.metadata import version

    from genai_prices import data_snapshot

    today = dt.datetime.now(tz=dt.UTC).date()
    days = [
        constraint.start_date
        for each in data_snapshot.get_snapshot().providers
        if each.id == provider
        for model in each.models
        for priced in (
            *(model.prices if isinstance(model.prices, list) else ()),
            *(model.price_variants or ()),
        )
        if (constraint := priced.constraint) is not None and hasattr(constraint, "start_date")
    ]
    latest = max((day for day in days if day <= today), default=None)
    words = f"genai-prices {version('genai-prices')}"
    return f"{words}, prices of {latest:%Y-%m-%d}" if latest else words


@lru_cache(maxsize=1)
def listed_models() -> list[tuple[str, str]]:
    """Return the models of the price list that have a batch price, without outdated ones."""
    from genai_prices import data_snapshot

    return [
        (provider.id, model.id)
        for provider in data_snapshot.get_snapshot().providers
        for model in provider.models
        if not model.deprecated
        and any(variant.when == {"processing": "batch"} for variant in model.price_variants or ())
    ]


@lru_cache(maxsize=512)
def rates_of(provider: str, model: str, processing: str | None) -> Rates | None:
    """Return the rates of a model in the price list; None where it has none."""
    prices = {
        kind: price_usage(provider, model, usage, processing)
        for kind, usage in (
            ("input", Usage(input=1000)),
            ("cached", Usage(input=1000, cached=1000)),
            ("cache_write", Usage(input=1000, cache_write=1000)),
            ("cache_write_1h", Usage(input=1000, cache_write=1000, cache_write_1h=1000)),
            ("output", Usage(output=1000)),
        )
    }
    known = {kind: price / 1000 for kind, price in prices.items() if price is not None}
    return Rates(**known) if len(known) == len(prices) else None


def price_usage(provider: str, model: str, usage: Usage, processing: str | None) -> Decimal | None:
    """Return what tokens cost by the price list (USD); None where that is not known."""
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    if not provider:
        return None
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
