"""The steps that are under way: at most one of each job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

from ..core.errors import LeaseLost
from ..core.job import Job
from ..storage.records import Lease
from ..storage.store import Store
from .leasing import Leasing
from .reporting import Reporter
from .status.views import Views


class Tasks:
    """Starts steps, and tells listeners when they have ended.

    Parameters
    ----------
    wake
        Has everything looked at again.

    Attributes
    ----------
    steps
        The running step of each job, by the job's id.
    stopping
        Nobody looks any more, and the journal is about to close.
    """

    def __init__(
        self,
        store: Store,
        views: Views,
        leasing: Leasing,
        reporter: Reporter,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._views = views
        self._leasing = leasing
        self._reporter = reporter
        self._wake = wake
        self.steps: dict[str, asyncio.Task[None]] = {}
        self.stopping = False

    def launch(
        self, job_id: str, batch_id: str, step: Coroutine[None, None, None]
    ) -> asyncio.Task[None]:
        """Start a step of one job."""
        return self.launch_many([job_id], {batch_id}, step)

    def launch_many(
        self, job_ids: Sequence[str], batch_ids: Iterable[str], step: Coroutine[None, None, None]
    ) -> asyncio.Task[None]:
        """Start one step of several jobs."""
        task = asyncio.get_running_loop().create_task(step)
        for job_id in job_ids:
            self.steps[job_id] = task
        task.add_done_callback(lambda _: self._ended(job_ids, batch_ids))
        return task

    def _ended(self, job_ids: Iterable[str], batch_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self.steps.pop(job_id, None)
        if self.stopping:
            return  # nobody looks any more, and the journal is about to close
        for batch_id in batch_ids:
            self._views.publish_id(batch_id)
        self._wake()

    async def idle(self, job: Job) -> Job:
        """Return a job as it stands once no step of it is under way."""
        while job.id in self.steps:
            await asyncio.wait([self.steps[job.id]])
        return self._store.now(job)

    def is_busy(self, jobs: Iterable[Job]) -> bool:
        """Whether a step of one of the jobs is under way."""
        return any(job.id in self.steps for job in jobs)

    async def guarded(self, held: Lease, job: Job, step: Awaitable[None]) -> None:
        """Run a step that may fail without harm: what is left at the provider expires there."""
        try:
            await step
        except LeaseLost:
            self._leasing.lose(held)
        except Exception as error:  # noqa: BLE001 - it is reported, and tried again later
            self._reporter.report_trouble(held, job, error)
