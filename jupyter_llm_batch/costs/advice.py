"""Cost-saving advice from the user's own figures. No I/O here.

Each piece of advice has the amount it would have saved and the line that follows it. Savings under
a cent are left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from ..core import magic_line
from ..core.result import Usage
from ..core.text import count, money
from .prices import PriceBook
from .rates import Rates

#: Shortest prefix that any provider caches (tokens).
CACHED_FROM = 1024

#: Smallest saving that is worth advice (USD).
LEAST = Decimal("0.01")

#: Share of cache hits, of those possible, below which advice is given.
_POOR = 0.5

#: Least real-time calls from one place that count as a loop.
_LOOP = 10

#: Rows of a trial of another model.
_TRIAL = 50

#: Largest share of the cost at which a smaller model is suggested.
_CHEAPER = Decimal("0.6")


_VERSION = re.compile(r"\d+")
#: Models that do not answer in text.
_OTHER_TRADE = re.compile(r"tts|audio|image|live|realtime|embed|transcribe|search|codex|^ft:|\.ft-")


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about one batch that advice is based on.

    Attributes
    ----------
    shared
        Length of the prefix that all its prompts share, with the system prompt (tokens).
    cache
        Caching was requested.
    repeats
        Rows that were paid although another row of the batch has the same prompt.
    elsewhere, source
        Rows that were paid although an earlier batch, `source`, has their answers.
    line
        The first line of its cell.
    routed
        Its rows name their models; this covers the rows of one model.
    """

    title: str
    provider: str
    model: str
    rows: int
    usage: Usage
    paid: Decimal
    shared: int = 0
    cache: bool = False
    repeats: int = 0
    elsewhere: int = 0
    source: str = ""
    line: str = ""
    routed: bool = False

    @property
    def asked(self) -> str:
        """The batch in words, or its rows of this model."""
        return f"the {self.model} rows of {self.title}" if self.routed else self.title

    def again(self, **options: str | None) -> str:
        """Return the first line of its cell with these options."""
        changes = {f"--{name}": value for name, value in options.items()}
        return magic_line.amend_line(
            self.line or f"%%llm_batch {self.name}", magic_line.ONCE | changes
        )

    @property
    def name(self) -> str:
        """The name in its own notebook, which a cell takes."""
        return self.title.rpartition("::")[2].partition("#")[0]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call in real time that the user's own code made; `where` names the cell.

    Attributes
    ----------
    known
        The provider reported its tokens; streams report them only on request.
    """

    provider: str
    model: str
    usage: Usage
    where: str = ""
    known: bool = True


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do.

    A ``%%llm_batch`` line is the whole first line of the cell, to be put in its place.

    Attributes
    ----------
    kind
        ``batch``, ``caching``, ``model`` or ``reuse``.
    what, why
        The advice and its reason, with figures.
    saves
        USD that it would have saved so far; None where that is not known.
    command
        The line, or lines, that follow the advice.
    """

    kind: str
    what: str
    why: str
    saves: Decimal | None
    command: str


def advise(
    habits: Iterable[Habit],
    book: PriceBook,
    *,
    calls: Iterable[Call] = (),
    models: Sequence[tuple[str, str]] = (),
) -> list[Advice]:
    """Return advice, largest saving first.

    Parameters
    ----------
    calls
        Calls in real time.
    models
        Models that might do as well, ``(provider, model)``.
    """
    found = [*_batches(calls, book)]
    for habit in habits:
        found += _caching(habit, book)
        found += _smaller(habit, book, models)
        found += _reuse(habit)
    worth = [each for each in found if each.saves is None or each.saves >= LEAST]
    return sorted(worth, key=lambda each: -1 if each.saves is None else each.saves, reverse=True)


def _batches(calls: Iterable[Call], book: PriceBook) -> Iterable[Advice]:
    """Yield advice for loops of real-time calls that could be batches."""
    places: dict[tuple[str, str, str], list[Call]] = {}
    for call in calls:
        places.setdefault((call.where, call.provider, call.model), []).append(call)
    for (where, provider, model), made in places.items():
        if len(made) < _LOOP:
            continue
        costs = [book.cost(provider, model, call.usage) for call in made if call.known]
        known = [cost for cost in costs if cost is not None]
        realtime = sum((cost.realtime for cost in known), Decimal(0))
        saves = sum((cost.saved for cost in known), Decimal(0))
        asked = f"{provider}:{model or 'MODEL'}"
        told = f"{count(len(made))} calls of {asked}"
        if len(known) == len(made):
            why = f"{told} cost"
        else:
            why = f"{told}, {_unknown(made, costs)}; the other {count(len(known))} cost"
        figures = f"{_usd(realtime)} in real time, {_usd(realtime - saves)} as a batch"
        is_known = saves >= LEAST or len(known) == len(made)
        yield Advice(
            kind="batch",
            what=f"Send the calls of {where or 'your own code'} as a batch",
            why=f"{why} {figures}" if known else f"{told}, {_unknown(made, costs)}",
            saves=saves if is_known else None,
            command=f"%%llm_batch NAME -m {asked} --over ROWS",
        )


def _unknown(calls: Sequence[Call], costs: Sequence[object]) -> str:
    """Return how many calls have no known cost, and why."""
    silent = sum(not call.known for call in calls)
    parts = []
    if silent:
        parts.append(
            f"{count(silent)} of them without token counts, so what they cost is not known (OpenAI "
            'tells them of a stream with stream_options={"include_usage": True})'
        )
    if costs.count(None):
        parts.append(f"{count(costs.count(None))} of them at a price that is not known")
    return " and ".join(parts)


def _caching(habit: Habit, book: PriceBook) -> Iterable[Advice]:
    rates = book.quote(habit.provider, habit.model).batch
    if rates is None or habit.shared < CACHED_FROM or habit.rows < 2:
        return
    could = habit.shared * (habit.rows - 1)
    left = max(0, could - habit.usage.cached)
    saves = left * (rates.input - rates.cached)
    hit = habit.usage.cached / could
    told = (
        f"its {count(habit.rows)} prompts share their first {count(habit.shared)} tokens, "
        f"and {100 * hit:.0f} % of them came from a cache"
    )
    if not habit.cache:
        saves -= habit.shared * _written(rates)
        yield Advice(
            kind="caching",
            what=f"Cache the shared beginning of {habit.asked}",
            why=f"{told}; it cost {_usd(habit.paid)}",
            saves=saves,
            command=habit.again(cache=""),
        )
    elif hit < _POOR:
        yield Advice(
            kind="caching",
            what=f"Caching hardly helped {habit.asked}",
            why=f"{told}: keep it for an hour, and put what all rows share first",
            saves=saves,
            command=habit.again(cache="1h"),
        )


def _written(rates: Rates) -> Decimal:
    return max(Decimal(0), rates.cache_write_1h - rates.input)


def _smaller(habit: Habit, book: PriceBook, models: Sequence[tuple[str, str]]) -> Iterable[Advice]:
    """Yield the next cheaper model of the same generation, or else the one most alike by name."""
    own = book.cost(habit.provider, habit.model, habit.usage)
    if own is None or not own.batch:
        return
    rivals = []
    for provider, model in models:
        if provider != habit.provider or _OTHER_TRADE.search(model):
            continue
        other = book.cost(provider, model, habit.usage)
        if other is not None and 0 < other.batch <= own.batch * _CHEAPER:
            kin = _VERSION.findall(model) == _VERSION.findall(habit.model)
            nearness = difflib.SequenceMatcher(None, habit.model, model).ratio()
            rivals.append((kin, other.batch if kin else Decimal(str(nearness)), model, other.batch))
    if not rivals:
        return
    _, _, model, price = max(rivals)
    trial = {**magic_line.TRIAL, "--model": f"{habit.provider}:{model}"}
    if habit.rows > 1:
        trial["--sample"] = str(min(_TRIAL, habit.rows - 1))
    name = f"{habit.name}_small"
    line = magic_line.amend_line(habit.line or f"%%llm_batch {habit.name}", trial, name)
    yield Advice(
        kind="model",
        what=f"Try {habit.asked} on {model}",
        why=f"its tokens cost {_usd(own.batch)} on {habit.model} and {_usd(price)} on {model}; "
        "whether the answers are as good, a sample shows",
        saves=own.batch - price,
        command=f"{line}\n%llm_batch compare {magic_line.quote_word(habit.title)} {name}",
    )


def _reuse(habit: Habit) -> Iterable[Advice]:
    if not habit.rows:
        return
    each = habit.paid / habit.rows
    if habit.repeats:
        yield Advice(
            kind="reuse",
            what=f"Ask equal prompts of {habit.asked} once",
            why=f"{count(habit.repeats)} of its {count(habit.rows)} rows repeat another row's "
            "prompt and were paid again",
            saves=each * habit.repeats,
            command=habit.again(dedupe=""),
        )
    if habit.elsewhere:
        yield Advice(
            kind="reuse",
            what=f"Take answers of {habit.source} into {habit.asked}",
            why=f"{count(habit.elsewhere)} of its {count(habit.rows)} rows were answered by "
            f"{habit.source} before",
            saves=each * habit.elsewhere,
            command=f"{habit.again()} --reuse {magic_line.quote_word(habit.source)}",
        )


def _usd(amount: Decimal) -> str:
    return money(float(amount))
