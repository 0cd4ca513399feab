"""What tokens cost: the user's own prices first, else the offline data of genai-prices.

Unknown prices stay unknown. genai-prices silently charges the full price for a model without a
batch variant; that would read as "nothing saved", so such a batch price counts as unknown here.
Embeddings are the exception: their batch price is derived, and marked so.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import msgspec

from .errors import UsageProblem
from .models import Job, Usage

#: Requests up to this many input tokens are below every model's long-context tier.
LINEAR = 100_000

#: What a batch costs of the real-time price where nobody says otherwise: all three providers' rule.
HALF = Decimal("0.5")

_PER_MILLION = Decimal(1_000_000)

#: The providers whose names are also those of the price data.
_PRICED = frozenset({"anthropic", "azure", "google", "openai"})

#: Providers that document half the real-time price for embeddings in a batch. The price data has
#: no batch price of any embedding model.
#: https://developers.openai.com/api/docs/guides/batch, https://ai.google.dev/gemini-api/docs/batch-api
_HALF_FOR_EMBEDDINGS = frozenset({"azure", "google", "openai"})

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
        The same tokens in real time, cached ones included.
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
    """What a model's tokens cost, and how that is known.

    Attributes
    ----------
    batch, realtime
        None where the price is not known.
    source
        Whose prices these are, and of when.
    note
        What the user should know: a price that is missing, or the remedy.
    """

    batch: Rates | None = None
    realtime: Rates | None = None
    source: str = ""
    note: str = ""


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
        self._own = {key: _read_own(key, prices) for key, prices in (own or {}).items()}
        self._discounts = {
            key: _share(f"discounts[{key!r}]", value) for key, value in (discounts or {}).items()
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
            whole = self.realtime(provider, model, uncached(usage), [*map(uncached, long)], **named)
            if paid is None or whole is None:
                return None
            return Cost(batch=paid, realtime=paid, cache=whole - paid)
        quote = self.quote(provider, model, asked, url)
        if quote.batch is None or quote.realtime is None:
            return None
        batch, realtime = quote.batch.price(usage), quote.realtime.price(usage)
        fresh = quote.batch.price(uncached(usage))
        for each in long:
            batch += self._long(provider, model, asked, each, "batch", url)
            realtime += self._long(provider, model, asked, each, None, url)
            fresh += self._long(provider, model, asked, uncached(each), "batch", url)
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
                price = _price(_listed(provider, url), name, usage, processing)
                if price is not None:
                    return price * self._paid_share(provider, model, asked)
        rates = quote.batch if processing else quote.realtime
        return rates.price(usage) if rates else Decimal(0)

    def is_own(self, provider: str, model: str) -> bool:
        """Whether the user named this model's price."""
        return self._own_of(provider, model, "") is not None

    def _own_of(self, provider: str, model: str, asked: str) -> tuple[Rates, Rates] | None:
        keys = _price_keys(provider, model, asked)
        return next((self._own[key] for key in keys if key in self._own), None)

    def _paid_share(self, provider: str, model: str, asked: str) -> Decimal:
        for key in (*_price_keys(provider, model, asked), provider):
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
        listed = _listed(provider, url)
        found = next((n for n in names if _rates(listed, n, None) is not None), None)
        remedy = (
            f"%config LLMBatch.prices = {{'{provider}:{asked or model}': "
            "{'input': USD_PER_MILLION, 'output': USD_PER_MILLION}}"
        )
        if found is None:
            return Quote(note=f"the price of {provider}:{asked or model} is not known: {remedy}")
        realtime, batch = _rates(listed, found, None), _rates(listed, found, "batch")
        assert realtime is not None
        source = f"{price_data(listed)}{less}"
        # Only embeddings have an output that costs nothing.
        if batch == realtime and not realtime.output and listed in _HALF_FOR_EMBEDDINGS:
            batch = realtime.scaled(HALF)
            source += "; derived: half of the list price, as the provider documents for batches"
        if batch is None or batch == realtime:
            return Quote(
                realtime=realtime.scaled(share),
                source=source,
                note=f"no batch price of {provider}:{found} is known: {remedy}",
            )
        return Quote(realtime=realtime.scaled(share), batch=batch.scaled(share), source=source)


def cost(
    provider: str, model: str, usage: Usage, long: Sequence[Usage] = (), *, url: str = ""
) -> Cost | None:
    """Return the cost at genai-prices' rates; see `PriceBook.cost`."""
    return _LISTED.cost(provider, model, usage, long, url=url)


def realtime(
    provider: str, model: str, usage: Usage, long: Sequence[Usage] = (), *, url: str = ""
) -> Decimal | None:
    """Return the full price at genai-prices' rates; see `PriceBook.realtime`."""
    return _LISTED.realtime(provider, model, usage, long, url=url)


_LISTED = PriceBook()


def uncached(usage: Usage) -> Usage:
    """Return the same tokens as if there were no prompt cache."""
    return Usage(input=usage.input, output=usage.output)


# -- names -----------------------------------------------------------------------------------------

#: What stands behind a model's name in an answer and says which snapshot of it answered:
#: ``gpt-5-mini-2025-08-07``, ``claude-haiku-4-5-20251001``, ``gemini-2.5-flash-001``.
_SNAPSHOT = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3})$")


def _price_keys(provider: str, model: str, asked: str) -> list[str]:
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


# -- the user's own prices -------------------------------------------------------------------------


def _read_own(key: str, prices: Mapping[str, Any]) -> tuple[Rates, Rates]:
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


def _share(where: str, value: Any) -> Decimal:
    share = _number(f"LLMBatch.{where}", value)
    if share > 1:
        raise UsageProblem(f"LLMBatch.{where}: a discount is a share, such as 0.1 for 10 %")
    return share


# -- the price list --------------------------------------------------------------------------------


def _listed(provider: str, url: str) -> str:
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
    rates = _rates(provider, model, processing)
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
def listed() -> list[tuple[str, str]]:
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
def _rates(provider: str, model: str, processing: str | None) -> Rates | None:
    prices = {
        kind: _price(provider, model, usage, processing)
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


def _price(provider: str, model: str, usage: Usage, processing: str | None) -> Decimal | None:
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
