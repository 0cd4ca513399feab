"""What ``--dry-run`` shows: a plan that was neither written nor sent, with what it would cost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import msgspec

from ..core.errors import UsageProblem
from ..core.money import Estimate
from ..costs import budget as spending
from ..costs import estimate_price, tokens
from ..costs.budget import Rules
from ..providers.base import Adapter, Counting
from ..storage.store import Store
from .spec import Ask, Plan

#: Request lines by model.
Samples = dict[str, list[bytes]]


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--dry-run`` shows: prompts, split and cost. Nothing was written or sent.

    Attributes
    ----------
    media, encoded
        Images and files, and their characters of base64.
    estimates
        The tokens that it would use, one estimate per model.
    cost
        What that costs; None where nothing would be sent.
    budget
        USD of the month's budget that are spent and promised, and the budget; None without one.
    refused
        Why it would not be sent: a cap or a budget.
    samples
        By model, some of its request lines; see `count`.
    deadline
        What is not back in time is asked in real time.
    reusing
        Answers of other batches may be taken.
    version
        Which version of its name it would be.
    counted
        What `count` found, where that was wanted.
    """

    name: str
    model: str
    rows: int
    reused: int
    repeats: int
    skipped: int
    jobs: list[tuple[int, int]]
    bytes: int
    prompts: list[str]
    system: str | None = None
    media: int = 0
    encoded: int = 0
    estimates: list[Estimate] = msgspec.field(default_factory=list)
    cost: estimate_price.Money | None = None
    budget: tuple[float, float, float] | None = None
    refused: str = ""
    samples: Samples = msgspec.field(default_factory=dict)
    note: str = ""
    same_as: str = ""
    deadline: bool = False
    reusing: bool = False
    version: int = 1
    counted: dict[str, tuple[int, int, int]] = msgspec.field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Input tokens, as expected."""
        return sum(each.input for each in self.estimates)


def of(plan: Plan, ask: Ask, store: Store, rules: Rules, *, note: str, reusing: bool) -> Preview:
    """Return what `plan` would send and cost."""
    batch = plan.batch
    cost = estimate_price.price_estimates(batch.estimates, rules.book) if batch.estimates else None
    budget = None
    if rules.monthly_budget is not None:
        since = spending.month_start(store.clock())
        budget = (*store.spending.committed(since), rules.monthly_budget)
    return Preview(
        name=batch.name,
        model=" + ".join(batch.models),
        rows=batch.rows,
        reused=batch.reused,
        repeats=plan.repeats,
        skipped=batch.skipped,
        jobs=[(job.rows, job.bytes) for job, _ in plan.jobs],
        bytes=sum(job.bytes for job, _ in plan.jobs),
        prompts=plan.first,
        system=ask.recipe.system,
        media=plan.media,
        encoded=sum(plan.encoded.values()),
        estimates=batch.estimates,
        cost=cost,
        budget=budget,
        refused=_refusal(cost, ask.max_cost, budget, rules, store.clock()) if cost else "",
        samples=plan.samples,
        note=note,
        same_as=plan.same_as.title if plan.same_as else "",
        deadline=ask.deadline is not None,
        reusing=reusing,
        version=batch.version,
    )


def _refusal(
    cost: estimate_price.Money,
    max_cost: float | None,
    budget: tuple[float, float, float] | None,
    rules: Rules,
    now: float,
) -> str:
    """Return why a batch of this cost would not be sent, empty when it would."""
    try:
        spending.check_cap(cost, max_cost)
        promise = spending.reserve_for(cost, rules, now)
    except UsageProblem as problem:
        return str(problem)
    if budget and promise and budget[0] + budget[1] + promise.usd > budget[2]:
        return "over the monthly budget"
    return ""


def count(
    plan: Preview,
    rows: int,
    adapters: Callable[[str], Adapter],
    call: Callable[[Coroutine[Any, Any, int]], Future[int]],
) -> dict[str, tuple[int, int, int]]:
    """Count the tokens of some requests of `plan` at their providers, which costs nothing.

    Returns
    -------
    dict
        By model: requests counted, their tokens, and what was estimated for these requests.

    Raises
    ------
    ProviderError
        A provider did not count.
    """
    found = {}
    for name, lines in plan.samples.items():
        provider, _, model = name.partition(":")
        adapter = adapters(provider)
        if not isinstance(adapter, Counting):
            raise UsageProblem(f"{provider} has no counter of tokens: leave out --count")
        chosen = lines[:: max(1, len(lines) // rows)][:rows]
        work = [call(adapter.count(line, model)) for line in chosen]
        exact = sum(each.result() for each in work)
        guessed = sum(tokens.measure_request(line, provider, model).expected for line in chosen)
        found[name] = len(chosen), exact, guessed
    return found
