"""What tokens cost, from the offline price data of genai-prices. Unknown prices stay unknown."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import msgspec

from .models import Usage


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """USD paid as a batch, and what the same tokens would have cost in real time."""

    batch: Decimal
    realtime: Decimal

    @property
    def saved(self) -> Decimal:
        """What the batch saved."""
        return self.realtime - self.batch


#: Requests up to this many input tokens are below every model's long-context tier.
LINEAR = 100_000


def cost(provider: str, model: str, usage: Usage, long: Sequence[Usage] = ()) -> Cost | None:
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
    """
    batch = _total(provider, model, usage, long, "batch")
    realtime = _total(provider, model, usage, long, None)
    if batch is None or realtime is None or (batch == realtime and realtime > 0):
        return None
    return Cost(batch=batch, realtime=realtime)


def _total(
    provider: str, model: str, usage: Usage, long: Sequence[Usage], processing: str | None
) -> Decimal | None:
    rates = _rates(provider, model, processing)
    if rates is None:
        return None
    fresh, cached, output = rates
    total = fresh * (usage.input - usage.cached) + cached * usage.cached + output * usage.output
    for each in long:
        total += _price(provider, model, each, processing) or Decimal(0)
    return total


@lru_cache(maxsize=256)
def _rates(
    provider: str, model: str, processing: str | None
) -> tuple[Decimal, Decimal, Decimal] | None:
    """Return USD per fresh input, cached input and output token."""
    prices = [
        _price(provider, model, Usage(**tokens), processing)
        for tokens in ({"input": 1000}, {"input": 1000, "cached": 1000}, {"output": 1000})
    ]
    fresh, cached, output = (None if price is None else price / 1000 for price in prices)
    if fresh is None or cached is None or output is None:
        return None
    return fresh, cached, output


def _price(provider: str, model: str, usage: Usage, processing: str | None) -> Decimal | None:
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    try:
        found = calc_price(
            PricedUsage(
                input_tokens=usage.input,
                output_tokens=usage.output,
                cache_read_tokens=usage.cached,
            ),
            model_ref=model,
            provider_id=provider,
            price_context={"processing": processing} if processing else None,
        )
    except (LookupError, ValueError):
        return None
    return Decimal(found.total_price)
