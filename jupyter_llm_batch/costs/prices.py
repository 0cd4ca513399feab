"""Token prices: the user's own first, else the offline data of genai-prices.

Unknown prices stay unknown. genai-prices silently charges the full price for a model without a
batch variant; that would look like "nothing saved", so such a batch price counts as unknown here.
Embeddings are the exception: their batch price is derived, and marked so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from ..core.result import Usage
from .price_list import (
    HALF_FOR_EMBEDDINGS,
    find_listed,
    price_data,
    price_keys,
    price_usage,
    rates_of,
)
from .rates import HALF, Cost, Quote, Rates, read_discount, read_own_rates, without_cache


class PriceBook:
    """The prices in use.

    Parameters
    ----------
    own
        The user's own prices, ``{"openai:my-model": {"input": 0.3, "output": 1.0}}`` in USD per
        million tokens; further keys are ``cached``, ``cache_write``, ``cache_write_1h`` and each of
        them with ``batch_`` before it. A batch costs half where only the real-time price is given.
    discounts
        Shares that are taken off, ``{"openai": 0.1}`` or ``{"openai:gpt-5-mini": 0.25}``.

    Raises
    ------
    UsageProblem
        A price cannot be read.
    """

    def __init__(
        self,
        own: Mapping[str, Mapping[str, Any]] | None = None,
        discounts: Mapping[str, Any] | None = None,
    ) -> None:
        self._own = {key: read_own_rates(key, prices) for key, prices in (own or {}).items()}
        self._discounts = {
            key: read_discount(f"discounts[{key!r}]", value)
            for key, value in (discounts or {}).items()
        }
        self._quotes: dict[tuple[str, str, str, str], Quote] = {}

    def quote(self, provider: str, model: str, asked: str = "", url: str = "") -> Quote:
        """Return the prices of a model.

        Parameters
        ----------
        asked
            The name under which it was asked for, where the provider names a dated snapshot.
        url
            The server's base URL, by which the prices of a provider are found that is none of
            ours: its name says nothing, since a user chose it.
        """
        key = (provider, model, asked, url)
        if key not in self._quotes:
            self._quotes[key] = self._quote(*key)
        return self._quotes[key]

    def cost(
        self,
        provider: str,
        model: str,
        usage: Usage,
        long: Sequence[Usage] = (),
        *,
        asked: str = "",
        url: str = "",
        full: bool = False,
    ) -> Cost | None:
        """Return the cost of requests, or None when the model's batch price is not known.

        Parameters
        ----------
        usage
            Sum over requests of at most `LINEAR` input tokens each. Their price is linear; priced
            as one sum by genai-prices they would land in a long-context tier.
        long
            The longer requests, one by one.
        asked, url
            As for `quote`.
        full
            They went out in real time, and are paid so.
        """
        if full:
            named = {"asked": asked, "url": url}
            paid = self.realtime(provider, model, usage, long, **named)
            whole = self.realtime(
                provider, model, without_cache(usage), [*map(without_cache, long)], **named
            )
            if paid is None or whole is None:
                return None
            return Cost(batch=paid, realtime=paid, cache=whole - paid)
        quote = self.quote(provider, model, asked, url)
        if quote.batch is None or quote.realtime is None:
            return None
        batch, realtime = quote.batch.price(usage), quote.realtime.price(usage)
        fresh = quote.batch.price(without_cache(usage))
        for each in long:
            batch += self._long(provider, model, asked, each, "batch", url)
            realtime += self._long(provider, model, asked, each, None, url)
            fresh += self._long(provider, model, asked, without_cache(each), "batch", url)
        return Cost(batch=batch, realtime=realtime, cache=fresh - batch)

    def realtime(
        self,
        provider: str,
        model: str,
        usage: Usage,
        long: Sequence[Usage] = (),
        *,
        asked: str = "",
        url: str = "",
    ) -> Decimal | None:
        """Return what requests cost in real time, None when that price is not known."""
        rates = self.quote(provider, model, asked, url).realtime
        if rates is None:
            return None
        more = (self._long(provider, model, asked, each, None, url) for each in long)
        return rates.price(usage) + sum(more, Decimal(0))

    # -- beneath -----------------------------------------------------------------------------------

    def _long(
        self,
        provider: str,
        model: str,
        asked: str,
        usage: Usage,
        processing: str | None,
        url: str,
    ) -> Decimal:
        quote = self.quote(provider, model, asked, url)
        if self._own_of(provider, model, asked) is None:
            for name in (model, asked) if asked and model.startswith(asked) else (model,):
                price = price_usage(find_listed(provider, url), name, usage, processing)
                if price is not None:
                    return price * self._paid_share(provider, model, asked)
        rates = quote.batch if processing else quote.realtime
        return rates.price(usage) if rates else Decimal(0)

    def is_own(self, provider: str, model: str) -> bool:
        """Whether the user named this model's price."""
        return self._own_of(provider, model, "") is not None

    def _own_of(self, provider: str, model: str, asked: str) -> tuple[Rates, Rates] | None:
        keys = price_keys(provider, model, asked)
        return next((self._own[key] for key in keys if key in self._own), None)

    def _paid_share(self, provider: str, model: str, asked: str) -> Decimal:
        for key in (*price_keys(provider, model, asked), provider):
            if key in self._discounts:
                return 1 - self._discounts[key]
        return Decimal(1)

    def _quote(self, provider: str, model: str, asked: str, url: str) -> Quote:
        share = self._paid_share(provider, model, asked)
        less = "" if share == 1 else f", {100 * (1 - share):g} % discount"
        if (own := self._own_of(provider, model, asked)) is not None:
            return Quote(
                realtime=own[0].scaled(share), batch=own[1].scaled(share),
                source=f"your own prices{less}",
            )  # fmt: skip
        # Another model than the asked one has its own price; a snapshot of it has the same.
        names = [model, asked] if asked and model.startswith(asked) else [model]
        listed = find_listed(provider, url)
        found = next((n for n in names if rates_of(listed, n, None) is not None), None)
        remedy = (
            f"%config LLMBatch.prices = {{'{provider}:{asked or model}': "
            "{'input': USD_PER_MILLION, 'output': USD_PER_MILLION}}"
        )
        if found is None:
            return Quote(note=f"the price of {provider}:{asked or model} is not known: {remedy}")
        realtime, batch = rates_of(listed, found, None), rates_of(listed, found, "batch")
        assert realtime is not None
        source = f"{price_data(listed)}{less}"
        # Only embeddings have an output that costs nothing.
        if batch == realtime and not realtime.output and listed in HALF_FOR_EMBEDDINGS:
            batch = realtime.scaled(HALF)
            source += "; derived: half of the list price, as the provider documents for batches"
        if batch is None or batch == realtime:
            return Quote(
                realtime=realtime.scaled(share),
                source=source,
                note=f"no batch price of {provider}:{found} is known: {remedy}",
            )
        return Quote(realtime=realtime.scaled(share), batch=batch.scaled(share), source=source)


def list_cost(
    provider: str, model: str, usage: Usage, long: Sequence[Usage] = (), *, url: str = ""
) -> Cost | None:
    """Return the cost at genai-prices' rates; see `PriceBook.cost`."""
    return _LISTED.cost(provider, model, usage, long, url=url)


def list_realtime(
    provider: str, model: str, usage: Usage, long: Sequence[Usage] = (), *, url: str = ""
) -> Decimal | None:
    """Return the full price at genai-prices' rates; see `PriceBook.realtime`."""
    return _LISTED.realtime(provider, model, usage, long, url=url)


_LISTED = PriceBook()
