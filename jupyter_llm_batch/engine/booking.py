"""Ledger entries for a finished job and for a cache."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from ..core.batch import Batch
from ..core.job import Job
from ..core.money import Estimate, Spend
from ..costs import estimate_price
from ..costs.budget import Rules
from ..costs.price_list import longest_match
from ..costs.prices import PriceBook
from .reconcile import Reconciler


def of_job(batch: Batch, job: Job, reconciler: Reconciler, rules: Rules, now: float) -> list[Spend]:
    """Return the lines of the ledger for a job that ended, one per model that it used."""
    found = []
    doubtful = reconciler.doubtful
    for model in reconciler.models() or ([job.model] if doubtful else []):
        usage, answered = reconciler.usage_of(model)
        name = _asked_for(batch, job, model)
        lane = (job.provider, name)
        estimated = next(
            (each for each in batch.estimates if (each.provider, each.model) == lane), None
        )
        cost = reconciler.cost_of(model)
        found.append(
            Spend(
                id=f"{job.id}:{model}",
                batch_id=batch.id,
                notebook=batch.notebook,
                title=batch.title,
                provider=job.provider,
                model=name,
                at=now,
                mode=job.mode.value,
                rows=job.rows,
                answered=answered,
                doubtful=doubtful,
                usage=usage,
                paid=str(cost.batch) if cost else None,
                realtime=str(cost.realtime) if cost else None,
                cache=str(cost.cache) if cost else "0",
                doubt=_row_ceiling(estimated, rules.book) * doubtful if doubtful else 0.0,
                prompt=estimated.prompt if estimated else "",
                counted=round(estimated.counted * answered / estimated.rows)
                if estimated and estimated.rows
                else 0,
            )
        )
        doubtful = 0  # told once, not with every model
    return found


def of_cache(batch: Batch, job: Job, cost: Decimal, now: float) -> Spend:
    """Return what writing and storing a job's cache cost: it is taken off what caching saved."""
    return Spend(
        id=f"{job.id}:cache",
        batch_id=batch.id,
        notebook=batch.notebook,
        title=batch.title,
        provider=job.provider,
        model=job.model,
        at=now,
        mode="cache",
        paid=str(cost),
        realtime=str(cost),
        cache=str(-cost),
    )


def _asked_for(batch: Batch, job: Job, model: str) -> str:
    """Return the name a model was asked for; the provider answers with a dated snapshot's."""
    named = (name.split(":", 1) for name in batch.models if ":" in name)
    names = [name for provider, name in named if provider == job.provider]
    return longest_match(model, [job.model, *job.models, *names]) or model


def _row_ceiling(estimated: Estimate | None, book: PriceBook) -> float:
    if estimated is None or not estimated.rows:
        return 0.0
    ceiling = estimate_price.price_estimates(
        [msgspec.structs.replace(estimated, reasks=0)], book
    ).ceiling
    return float(ceiling) / estimated.rows if ceiling else 0.0
