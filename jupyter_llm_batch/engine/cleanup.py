"""Delete what a provider still holds of jobs that are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from ..core import trouble
from ..core.job import Job
from ..core.policy import Policy
from ..core.result import Outcome
from ..providers.base import Adapter
from ..storage.records import Lease
from ..storage.store import Store
from . import booking


class Cleanup:
    """Deletes files and caches at providers, for whoever holds the lease."""

    def __init__(self, store: Store, policy: Policy, clock: Callable[[], float]) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock

    async def tidy(self, held: Lease, job: Job, adapter: Adapter) -> None:
        """Have the provider delete a job's files; only after all its rows came back, and once.

        What cannot be deleted stays there until it expires, which harms nothing but is noted.
        """
        tidied = "kept: some of its rows never came back"
        if not {Outcome.MISSING.value} & job.tally.keys():
            try:
                async with asyncio.timeout(self._policy.tidying):
                    await adapter.forget(job)
                tidied = "deleted"
            except Exception as error:  # noqa: BLE001 - the answers are here, whatever it is
                if trouble.is_defect(error):
                    trouble.report_defect(
                        error, f"deleting the files of job {job.id} at the provider"
                    )
                tidied = f"kept: {trouble.describe_error(error)}"
        self._store.note(held, job, tidied=tidied)

    async def release(self, held: Lease, job: Job, adapter: Adapter) -> None:
        """Have the provider drop what only a running job needs; once, since it expires anyway."""
        cost = None
        try:
            async with asyncio.timeout(self._policy.tidying):
                cost = await adapter.release(job)
        except Exception as error:  # noqa: BLE001 - it expires anyway
            if trouble.is_defect(error):
                trouble.report_defect(
                    error, f"releasing what job {job.id} has stored at the provider"
                )
        changes: dict[str, Any] = {"released": True}
        if cost is not None and job.cost is not None:
            changes["cost"] = str(Decimal(job.cost) + cost)
        batch = self._store.batch(job.batch_id)
        spends = []
        if cost is not None and batch is not None:
            spends = [booking.of_cache(batch, job, cost, self._clock())]
        self._store.note(held, job, spends=spends, **changes)
