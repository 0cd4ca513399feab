"""Price an estimate: expected cost and ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import msgspec

from ..core.money import Estimate
from ..core.result import Usage
from .estimate import SHORTER
from .prices import PriceBook
from .rates import LINEAR


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """The price of an estimate in USD; `ceiling` is None where nothing bounds it.

    Attributes
    ----------
    guessed
        `low` and `expected` rest on a guess of how long the answers are.
    expected
        None when the model's batch price is not known; `realtime` may be known even so.
    notes
        What the user should know before it is paid for.
    """

    low: Decimal | None = None
    expected: Decimal | None = None
    ceiling: Decimal | None = None
    realtime: Decimal | None = None
    guessed: bool = False
    source: str = ""
    notes: list[str] = msgspec.field(default_factory=list)
    remedy: str = ""


def price_estimates(estimates: Iterable[Estimate], book: PriceBook) -> Money:
    """Return what estimates cost at the present prices, all together."""
    total = Money(low=Decimal(0), expected=Decimal(0), ceiling=Decimal(0), realtime=Decimal(0))
    for each in estimates:
        total = _sum(total, _one(each, book))
    return total


#: Returns the price of short requests in sum, and of long ones one by one; None if unknown.
_Price = Callable[[Usage, Sequence[Usage]], Decimal | None]


def _one(estimate: Estimate, book: PriceBook) -> Money:
    provider, model = estimate.provider, estimate.model
    quote = book.quote(provider, model, url=estimate.url)
    notes, remedy = ([quote.note] if quote.note else []), quote.note

    def in_full(usage: Usage, long: Sequence[Usage] = ()) -> Decimal | None:
        return book.realtime(provider, model, usage, long, url=estimate.url)

    def as_batch(usage: Usage, long: Sequence[Usage] = ()) -> Decimal | None:
        found = book.cost(provider, model, usage, long, url=estimate.url)
        return found.batch if found else None

    share = Decimal(estimate.full) / estimate.rows if estimate.rows else Decimal(0)
    parts = [(price, part) for price, part in ((as_batch, 1 - share), (in_full, share)) if part]
    shortest = estimate.output if estimate.guessed else round(SHORTER * estimate.output)
    least = Usage(input=estimate.low, output=shortest)
    realtime = _expected(estimate, in_full)
    expected = _mixed(parts, lambda price: _expected(estimate, price))
    low = _mixed(parts, lambda price: price(least, ()))
    if expected is None or low is None:
        if realtime is not None:
            notes.append("price lists charge it in full; whether a batch is cheaper is not known")
        return Money(realtime=realtime, source=quote.source, notes=notes, remedy=remedy)
    ceiling = None
    if estimate.output_ceiling is None:
        remedy = "add --max-tokens N: without it nothing bounds an answer"
        notes.append(f"the cost has no ceiling: {remedy}")
    else:
        # After a deadline any row may be asked in real time.
        most = [(in_full, Decimal(1))] if estimate.late else parts
        bound = estimate.output_ceiling
        found = _mixed(most, lambda price: _ceiling(estimate, bound, price))
        ceiling = None if found is None else max(expected, found)
    return Money(
        low=min(low, expected),
        expected=expected,
        ceiling=ceiling,
        realtime=realtime,
        guessed=estimate.guessed,
        source=quote.source,
        notes=notes,
        remedy=remedy,
    )


def _mixed(
    parts: Sequence[tuple[_Price, Decimal]], cost: Callable[[_Price], Decimal | None]
) -> Decimal | None:
    """Return a cost of which each part has its own price."""
    total = Decimal(0)
    for price, part in parts:
        found = cost(price)
        if found is None:
            return None
        total += part * found
    return total


def _expected(estimate: Estimate, price: _Price) -> Decimal | None:
    fresh = estimate.input - estimate.long_input
    cached = min(estimate.cached, fresh)
    short = Usage(
        input=fresh,
        output=estimate.output,
        cached=cached,
        cache_write=min(estimate.cache_write, fresh - cached),
    )
    total = price(short, ())
    if total is not None and estimate.long_rows:
        # A long request is priced as one; all of them cost the same.
        one = price(Usage(), [Usage(input=estimate.long_input // estimate.long_rows)])
        total += (one or Decimal(0)) * estimate.long_rows
    return total


def _ceiling(estimate: Estimate, output: int, price: _Price) -> Decimal:
    """Return the most it can cost: every doubt against the user, every round of re-asking."""
    tokens_in = estimate.ceiling
    written = tokens_in if estimate.writes else 0
    usage = Usage(input=tokens_in, output=output, cache_write=written, cache_write_1h=written)
    most = price(usage, ()) or Decimal(0)
    if estimate.steep:
        # One request of the size of the tier, scaled up: the rate that its tokens would have.
        both, alone = Usage(input=10 * LINEAR, output=10 * LINEAR), Usage(input=10 * LINEAR)
        most *= max(Decimal(1), _step(both, price), _step(alone, price))
    return most * (1 + estimate.reasks)


def _step(big: Usage, price: _Price) -> Decimal:
    plain, tiered = price(big, ()), price(Usage(), [big])
    return tiered / plain if plain and tiered else Decimal(1)


def _sum(one: Money, other: Money) -> Money:
    def both(name: str) -> Decimal | None:
        left, right = getattr(one, name), getattr(other, name)
        return None if left is None or right is None else left + right

    return Money(
        **{name: both(name) for name in ("low", "expected", "ceiling", "realtime")},
        guessed=one.guessed or other.guessed,
        source=one.source if one.source == other.source else
        ", ".join(dict.fromkeys([*_parts(one.source), *_parts(other.source)])),
        notes=[*one.notes, *(note for note in other.notes if note not in one.notes)],
        remedy=one.remedy or other.remedy,
    )  # fmt: skip


def _parts(source: str) -> list[str]:
    return source.split(", ") if source else []
