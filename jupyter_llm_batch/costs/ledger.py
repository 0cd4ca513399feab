"""Ledger: what was spent and saved, summed by group. No I/O here."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from ..core.batch import Batch
from ..core.errors import UsageProblem
from ..core.job import Job
from ..core.money import Spend
from ..core.request import Mode
from ..core.result import Result, Usage
from ..core.text import local_time, money
from ..data import tables
from .price_list import requested_name
from .prices import PriceBook
from .rates import LINEAR, Cost

#: What sums can be grouped by.
GROUPS = ("day", "month", "provider", "model", "batch", "notebook")

_ZERO = Decimal(0)

_UNKNOWN = "for an amount that is not known"


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of some lines in USD.

    Attributes
    ----------
    paid
        What was paid, as far as prices are known.
    realtime
        What the same tokens would have cost in real time.
    cache, reuse
        Further savings by caching and by reused answers.
    unpriced
        Requests whose price is not known; they are in no sum.
    doubtful, doubt
        Requests that may have been billed without usage, and the most that they cost (USD).
    """

    key: str
    paid: Decimal = _ZERO
    realtime: Decimal = _ZERO
    cache: Decimal = _ZERO
    reuse: Decimal = _ZERO
    rows: int = 0
    unpriced: int = 0
    doubtful: int = 0
    doubt: Decimal = _ZERO
    usage: Usage = Usage()

    @property
    def batch(self) -> Decimal:
        """What the batch price saved against real time."""
        return self.realtime - self.paid

    @property
    def saved(self) -> Decimal:
        """All that was saved."""
        return self.batch + self.cache + self.reuse


class Ledger:
    """Lines of the ledger of one journal, and their sums.

    Parameters
    ----------
    lines
        Oldest first.
    simulated
        The amounts come from a simulator's journal and are never mixed with real ones.
    """

    def __init__(self, lines: Iterable[Spend], *, simulated: bool = False) -> None:
        self.lines = [*lines]
        self.simulated = simulated

    @property
    def total(self) -> Total:
        """The sum of all lines."""
        return _total("total", self.lines)

    def by(self, group: str = "day") -> list[Total]:
        """Return sums by `group`, one of `GROUPS`: days in order, else the dearest first.

        Batches whose name several notebooks have are named with theirs, ``NOTEBOOK::name``.
        """
        if group not in GROUPS:
            raise UsageProblem(f"costs cannot be grouped by {group!r}: use {', '.join(GROUPS)}")
        books: dict[str, set[str]] = {}
        for line in self.lines:
            books.setdefault(line.title, set()).add(line.notebook)
        found: dict[str, list[Spend]] = {}
        for line in self.lines:
            key = _KEYS[group](line)
            if group == "batch" and len(books[key]) > 1:
                key = f"{line.notebook}::{key}"
            found.setdefault(key, []).append(line)
        totals = [_total(key, lines) for key, lines in found.items()]
        if group in ("day", "month"):
            return sorted(totals, key=lambda total: total.key)
        return sorted(totals, key=lambda total: (-total.paid, total.key))

    def records(self) -> list[dict[str, Any]]:
        """Return one plain mapping per line, with USD as floats and None for unknown ones."""
        return [_record(line, simulated=self.simulated) for line in self.lines]

    def frame(self) -> Any:
        """Return the lines as a frame: pandas where it is installed, else a pyarrow Table."""
        return tables.frame_of_records(self.records(), prefer_pandas=True)

    def csv(self) -> str:
        """Return the lines as CSV."""
        text = io.StringIO()
        names = [*_record(_EMPTY, simulated=False)]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records())
        return text.getvalue()

    def cumulative(self) -> list[tuple[str, Decimal, Decimal]]:
        """Return per day what was spent and saved up to its end."""
        paid, saved = _ZERO, _ZERO
        found = []
        for total in self.by("day"):
            paid, saved = paid + total.paid, saved + total.saved
            found.append((total.key, paid, saved))
        return found

    def __repr__(self) -> str:
        return describe_total(self.total, simulated=self.simulated)


def describe_total(total: Total, *, simulated: bool = False) -> str:
    """Return a sum in one line."""
    parts = [f"{money(float(total.paid))} spent", f"{money(float(total.saved))} saved"]
    shares = [("batch", total.batch), ("caching", total.cache), ("reuse", total.reuse)]
    told = [f"{money(float(amount))} by {name}" for name, amount in shares if amount]
    if len(told) > 1:
        parts[-1] += f" ({', '.join(told)})"
    if total.unpriced:
        parts.append(f"{total.unpriced:,} requests without a known price are not in it")
    if total.doubtful:
        parts.append(
            f"{total.doubtful:,} {'request' if total.doubtful == 1 else 'requests'} may have been "
            f"billed besides, {f'at most {money(float(total.doubt))}' if total.doubt else _UNKNOWN}"
        )
    return ("simulated, no real money: " if simulated else "") + ", ".join(parts)


def _total(key: str, lines: Sequence[Spend]) -> Total:
    def of(name: str) -> Decimal:
        return sum((Decimal(getattr(line, name) or 0) for line in lines), _ZERO)

    priced = [line for line in lines if line.paid is not None]
    return Total(
        key=key,
        paid=of("paid"),
        realtime=sum((Decimal(line.realtime or line.paid or 0) for line in priced), _ZERO),
        cache=of("cache"),
        reuse=of("reused"),
        rows=sum(line.answered for line in lines),
        unpriced=sum(line.answered for line in lines if line.paid is None),
        doubtful=sum(line.doubtful for line in lines),
        doubt=sum((Decimal(str(line.doubt)) for line in lines), _ZERO),
        usage=sum((line.usage for line in lines), Usage()),
    )


def _date(form: str) -> Callable[[Spend], str]:
    return lambda line: local_time(line.at, form)


_KEYS: Mapping[str, Callable[[Spend], str]] = {
    "day": _date("%Y-%m-%d"),
    "month": _date("%Y-%m"),
    "provider": lambda line: line.provider,
    "model": lambda line: f"{line.provider}:{line.model}",
    "batch": lambda line: line.title,
    "notebook": lambda line: line.notebook,
}

_EMPTY = Spend(id="", batch_id="", notebook="", title="", provider="", model="", at=0.0)


def _record(line: Spend, *, simulated: bool) -> dict[str, Any]:
    def usd(text: str | None) -> float | None:
        return None if text is None else float(text)

    saved = None
    if line.paid is not None and line.realtime is not None:
        saved = float(Decimal(line.realtime) - Decimal(line.paid))
    return {
        "at": local_time(line.at, "%Y-%m-%d %H:%M:%S"),
        "notebook": line.notebook,
        "batch": line.title,
        "provider": line.provider,
        "model": line.model,
        "mode": line.mode,
        "requests": line.rows,
        "answered": line.answered,
        "input_tokens": line.usage.input,
        "cached_tokens": line.usage.cached,
        "cache_write_tokens": line.usage.cache_write,
        "output_tokens": line.usage.output,
        "reasoning_tokens": line.usage.reasoning,
        "paid_usd": usd(line.paid),
        "realtime_usd": usd(line.realtime),
        "saved_by_batch_usd": saved,
        "saved_by_caching_usd": usd(line.cache),
        "saved_by_reuse_usd": usd(line.reused),
        "maybe_billed": line.doubtful,
        "simulated": simulated,
    }


# -- what older journals know ----------------------------------------------------------------------


def spends_of_jobs(batch: Batch, jobs: Iterable[Job], booked: Iterable[Spend]) -> list[Spend]:
    """Return ledger lines for ended jobs of journals that had no ledger yet."""
    known = {line.id.rpartition(":")[0] for line in booked}
    return [
        Spend(
            id=f"{job.id}:{job.model}",
            batch_id=batch.id,
            notebook=batch.notebook,
            title=batch.title,
            provider=job.provider,
            model=job.model,
            at=job.ended_at or batch.created_at,
            rows=job.rows,
            answered=job.tally.get("ok", 0),
            usage=job.usage,
            paid=job.cost,
            realtime=str(Decimal(job.cost) + Decimal(job.saved or 0)) if job.cost else None,
        )
        for job in jobs
        if (job.usage.input or job.usage.output) and job.id not in known
    ]


def row_cost(book: PriceBook, job: Job, result: Result) -> Cost | None:
    """Return what one row cost, None when that is not known."""
    if result.billed and result.usage == Usage():
        return None  # it may have been billed, and nothing tells for how much
    model = result.model or job.model
    asked = requested_name(job, model)
    url = job.account.base_url if job.account is not None else ""
    one = result.usage.input > LINEAR
    usage, long = (Usage(), [result.usage]) if one else (result.usage, [])
    full = job.mode is Mode.REALTIME
    return book.cost(job.provider, model, usage, long, asked=asked, url=url, full=full)
