"""Jobs that wait for another key, and whether the present one is of the same account."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..core.batch import Batch
from ..core.job import Job, JobState
from ..core.lifecycle import TERMINAL, is_cancelled, next_action
from ..storage.records import Lease
from .drive import Drive


class KeyQuestions:
    """The probes of keys that are under way."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._store = drive.store
        self._views = drive.views
        self._rotation = drive.rotation
        self._tasks = drive.tasks
        self._adapters = drive.adapters
        self._reporter = drive.reporter
        self.running: set[asyncio.Task[None]] = set()

    def all_wait_for_key(self, batch: Batch, jobs: Sequence[Job]) -> bool:
        """Whether every job that is not at its end has to wait for another key."""
        left = [job for job in jobs if next_action(job, cancel=False)]
        if not left or self._tasks.is_busy(left):
            return False
        waiting = [job for job in left if self._views.pause(job, cancel=is_cancelled(batch, job))]
        for job in waiting:
            self._probe(job)
        return len(waiting) == len(left)

    def _probe(self, job: Job) -> None:
        """Probe whether the present key can see a job that waits for its key."""
        who = self._views.present(job)
        if who is not None and self._rotation.is_open(job, who):
            asking = self._rotation.ask(job, who, self._adapters(job.provider))
            task = asyncio.get_running_loop().create_task(asking)
            self.running.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._reporter.report_defect(error, "asking whether a new key is of the same account")
        self._drive.wake()

    def with_present_key(self, held: Lease, job: Job) -> Job:
        """Journal the key that a job goes on with, where it was replaced."""
        sent = job.state not in {JobState.PLANNED, JobState.UPLOADED, *TERMINAL}
        if not sent or job.id in self._tasks.steps or job.account is None:
            return job
        who = self._views.present(job)
        if who in {None, job.account} or self._views.pause(job):
            return job
        return self._store.note(held, job, account=who)

    async def why_not_fetched(self, job: Job) -> str:
        """Return why files of `job` cannot be fetched under the present key; empty if they can."""
        who = self._views.present(job)
        if who is not None and self._rotation.is_open(job, who):
            await self._rotation.ask(job, who, self._adapters(job.provider))
        return self._views.pause(job)
