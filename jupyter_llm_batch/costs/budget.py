"""Budget checks and reservations, estimates from past usage, and cost of running batches."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from ..core.batch import Batch
from ..core.errors import UsageProblem
from ..core.job import Job
from ..core.lifecycle import TERMINAL
from ..core.money import Estimate, Spend
from ..core.request import Mode
from ..core.row_codes import rows_to_finish
from ..core.text import money
from ..storage.spending import Reserve
from ..storage.store import Store
from . import estimate, estimate_price, remaining
from .prices import PriceBook

#: Most earlier jobs of a model that an estimate uses.
LOOK_BACK = 40


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The user's prices and monthly budget."""

    book: PriceBook
    monthly_budget: float | None = None


def prompt_key(meaning: bytes, notebook: str, name: str, template: str) -> str:
    """Return a key that identifies the same prompt in later batches.

    It is a hash of the settings, the notebook, the batch's name and the cell's text: how long the
    answers to another text were says nothing about the answers to this one.
    """
    parts = (meaning, *(part.encode(errors="surrogatepass") for part in (notebook, name, template)))
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def past_usage(store: Store, provider: str, model: str, prompt: str) -> estimate.Past:
    """Return past usage of a model from the ledger, for the estimate of its next batch."""
    priors = [
        estimate.Prior(
            prompt=each.prompt, rows=each.answered, usage=each.usage, counted=each.counted
        )
        for each in store.spending.spends(model=(provider, model), last=LOOK_BACK)
        if each.mode in ("batch", "realtime")
    ]
    return estimate.past_usage(prompt, priors)


# -- before ----------------------------------------------------------------------------------------


def check_cap(cost: estimate_price.Money, max_cost: float | None, *, before: float = 0.0) -> None:
    """Raise `UsageProblem` unless a batch surely stays within ``--max-cost``.

    Parameters
    ----------
    before
        What the batch has cost already.
    """
    if max_cost is None:
        return
    ceiling = _ceiling(cost, f"--max-cost {max_cost:g}")
    if before + ceiling > max_cost + 1e-9:
        spent = f" after {money(before)} that it has cost already" if before else ""
        expected = "" if cost.expected is None else f" (expected: {money(float(cost.expected))})"
        raise UsageProblem(
            f"over --max-cost {money(max_cost)}: this may cost up to {money(ceiling)}{spent}"
            f"{expected}; nothing was sent. Send fewer rows, lower --max-tokens, or allow more"
        )


def reserve_for(cost: estimate_price.Money, rules: Rules, now: float) -> Reserve | None:
    """Return the amount to reserve for a batch; None if unbounded and no budget is set.

    Raises
    ------
    UsageProblem
        There is a budget, and nothing bounds what the batch may cost.
    """
    if rules.monthly_budget is None:
        return None if cost.ceiling is None else Reserve(usd=float(cost.ceiling))
    ceiling = _ceiling(cost, f"the monthly budget of {money(rules.monthly_budget)}")
    return Reserve(usd=ceiling, budget=rules.monthly_budget, since=month_start(now))


def _ceiling(cost: estimate_price.Money, limit: str) -> float:
    if cost.ceiling is None:
        why = "the price is not known" if cost.expected is None else "nothing bounds the cost"
        raise UsageProblem(
            f"{limit} cannot be kept, since {why}; nothing was sent. {_sentence(cost.remedy)}"
        )
    return float(cost.ceiling)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def month_start(now: float) -> float:
    """Return when this month began, in local time (Unix seconds)."""
    today = time.localtime(now)
    return time.mktime((today.tm_year, today.tm_mon, 1, 0, 0, 0, 0, 0, -1))


def check_finish(store: Store, batch: Batch, rules: Rules) -> Reserve | None:
    """Check unfinished rows, sent in real time, against cap and budget; return their reservation.

    Raises
    ------
    UsageProblem
        It may cost more than allowed; nothing was changed.
    """
    jobs = store.jobs(batch.id)
    out = remaining.rows_to_ask(jobs)
    back = len(rows_to_finish(store.pack(batch.id, "outcomes")))
    size = sum(job.bytes * rows / max(1, job.rows) for job, rows in out)
    size += back * sum(job.bytes for job in jobs) / max(1, sum(job.rows for job in jobs))
    rows = sum(rows for _, rows in out) + back
    return check_sending(store, batch, rows, round(size), rules, in_full=True)


def check_sending(
    store: Store, batch: Batch, rows: int, size: int, rules: Rules, *, in_full: bool
) -> Reserve | None:
    """Check rows that are sent later against cap and budget; return their reservation.

    Parameters
    ----------
    rows, size
        The requests that are sent, and their bytes.
    in_full
        In real time.

    Raises
    ------
    UsageProblem
        It may cost more than allowed; nothing was sent.
    """
    whole = sum(job.bytes for job in store.jobs(batch.id) if job.round == 0)
    if not batch.estimates or not whole:
        if batch.max_cost is None and rules.monthly_budget is None:
            return None
        raise UsageProblem(
            f"{batch.title} has no estimate of its own, so what it sends later cannot be held to a "
            "budget; nothing was sent. Lift it meanwhile: %config LLMBatch.monthly_budget = None"
        )
    # Which model the rows are of does not show in their number: the dearest is assumed.
    costs = [
        estimate_price.price_estimates(
            [_of_rows(each, rows, size / whole, in_full=in_full)], rules.book
        )
        for each in batch.estimates
    ]
    cost = next(
        (each for each in costs if each.ceiling is None),
        max(costs, key=lambda each: each.ceiling or Decimal(0)),
    )
    spent = sum(
        float(each.paid or 0) + each.doubt for each in store.spending.spends(batch_id=batch.id)
    )
    check_cap(cost, batch.max_cost, before=spent)
    return reserve_for(cost, rules, store.clock())


def expected_for_rows(batch: Batch, rows: int, rules: Rules) -> Decimal | None:
    """Return the expected cost of a number of rows of a batch; None where not known."""
    costs = [
        estimate_price.price_estimates(
            [_of_rows(each, rows, rows / each.rows, in_full=False)], rules.book
        ).expected
        for each in batch.estimates
        if each.rows
    ]
    known = [each for each in costs if each is not None]
    return max(known) if known and len(known) == len(costs) else None


def _of_rows(whole: Estimate, rows: int, part: float, *, in_full: bool) -> Estimate:
    """Return an estimate for a number of rows that hold `part` of the batch's bytes."""
    share = rows / whole.rows if whole.rows else 0.0
    bound = whole.output_ceiling
    return msgspec.structs.replace(
        whole,
        rows=rows,
        low=int(whole.low * part),
        input=round(whole.input * part),
        ceiling=-int(-whole.ceiling * part // 1),
        output=round(whole.output * share),
        output_ceiling=None if bound is None else -(-bound * rows // max(1, whole.rows)),
        long_rows=0,
        long_input=0,
        cached=0,
        cache_write=0,
        reasks=0,
        full=rows if in_full else 0,
    )


# -- under way -------------------------------------------------------------------------------------


def expected_total(batch: Batch, jobs: Sequence[Job], book: PriceBook) -> Decimal | None:
    """Return the expected total cost of a running batch; None where not known or not running.

    Unfinished rows are priced by the batch's own answers, or by the estimate before there are any.
    """
    if batch.cancel_requested:
        return None
    measured = remaining.measured_tokens(jobs)
    total = Decimal(0)
    for job in jobs:
        if job.cost is not None:
            total += Decimal(job.cost)
        elif job.usage.input or job.usage.output:
            return None
        elif job.state not in TERMINAL:
            mode = Mode.REALTIME if batch.cut else job.mode
            tokens = measured.get((job.provider, job.model))
            row = (
                remaining.row_price(job, tokens, mode, book)
                if tokens
                else _estimated_row(batch, job, mode, book)
            )
            if row is None:
                return None
            total += row * job.rows
    return total


def _estimated_row(batch: Batch, job: Job, mode: Mode, book: PriceBook) -> Decimal | None:
    models = job.models or [job.model]
    lanes = [
        msgspec.structs.replace(each, full=each.rows if mode is Mode.REALTIME else 0)
        for each in batch.estimates
        if each.provider == job.provider and each.model in models
    ]
    rows = sum(each.rows for each in lanes)
    cost = estimate_price.price_estimates(lanes, book).expected
    return cost / rows if cost is not None and rows else None


def price_late(lines: Iterable[Spend], book: PriceBook) -> list[Spend]:
    """Return ledger lines recorded without a price that the user's own prices now cover.

    Own prices have no tiers, so that sums of tokens are priced exactly.
    """
    found = []
    for line in lines:
        if line.paid is not None or not book.is_own(line.provider, line.model):
            continue
        full = line.mode == Mode.REALTIME
        if cost := book.cost(line.provider, line.model, line.usage, full=full):
            found.append(
                msgspec.structs.replace(
                    line,
                    paid=str(cost.batch),
                    realtime=str(cost.realtime),
                    cache=str(cost.cache),
                )
            )
    return found


def saved_by_reuse(
    store: Store, batch: Batch, taken: Mapping[int, tuple[str, int]], now: float
) -> list[Spend]:
    """Return what a batch saved by reusing answers: what those rows cost on average."""
    found = []
    for source, rows in Counter(source for source, _ in taken.values()).items():
        lines = [each for each in store.spending.spends(batch_id=source) if each.answered]
        answered = sum(each.answered for each in lines)
        if not answered:
            continue
        paid = sum((Decimal(each.paid or 0) for each in lines), Decimal(0))
        first = lines[0]
        found.append(
            Spend(
                id=f"{batch.id}:{source}",
                batch_id=batch.id,
                notebook=batch.notebook,
                title=batch.title,
                provider=first.provider,
                model=first.model,
                at=now,
                mode="reuse",
                rows=rows,
                paid="0",
                realtime="0",
                reused=str(paid * rows / answered),
            )
        )
    return found
