"""What a user asks of batches under way: refresh, retry, resolve, cancel duplicates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.batch import Batch
from ..core.errors import UsageProblem
from ..core.job import Job, JobState, Remote
from .drive import Drive
from .round_end import RoundEnd


class Control:
    """Does what a user asks for, on the background loop.

    Parameters
    ----------
    follow, take_up
        Of the poller.
    """

    def __init__(
        self,
        drive: Drive,
        round_end: RoundEnd,
        *,
        follow: Callable[[str], None],
        take_up: Callable[[str], None],
    ) -> None:
        self._store = drive.store
        self._adapters = drive.adapters
        self._views = drive.views
        self._leasing = drive.leasing
        self._tasks = drive.tasks
        self._driver = drive.driver
        self._round_end = round_end
        self._follow = follow
        self._take_up = take_up

    async def refresh(self, batch_id: str) -> None:
        """Ask the provider about the batch's running jobs now.

        A job whose provider asked to be left alone for a while is asked about after that.
        """
        held = self._leasing.leases.get(batch_id)
        if held is not None:
            for job in self._store.jobs(batch_id):
                if job.state is JobState.RUNNING and job.id not in self._tasks.steps:
                    self._store.note(held, job, not_before=0.0)
        self._take_up(batch_id)
        self._views.publish_id(batch_id)

    async def retry(self, batch_id: str, *, unbilled: bool = False) -> int:
        """Send the rows of an ended batch that have no answer again; return how many.

        With `unbilled` only those that were certainly not billed.
        """
        batch = self._ended_batch(batch_id)
        # Known before the batch is unfinished again, so that nobody here takes it a second time.
        held = self._leasing.acquire(batch_id)
        if held is None:
            raise UsageProblem(f"{batch.title} is driven by another process: retry it there")
        count = 0
        try:
            batch = self._ended_batch(batch_id)  # another process may have done it meanwhile
            count = await asyncio.to_thread(self._round_end.retry, held, batch, unbilled=unbilled)
        finally:
            if not count:
                self._leasing.give_back(batch_id)
        self._follow(batch_id)
        return count

    def _ended_batch(self, batch_id: str) -> Batch:
        batch = self._store.batch(batch_id)
        if batch is None:
            raise UsageProblem("the batch was forgotten meanwhile")
        if batch.finished_at is None:
            raise UsageProblem(f"{batch.title} is still under way: wait, or cancel it first")
        return batch

    async def undecided(self, batch_id: str) -> list[tuple[Job, list[Remote]]]:
        """Return the jobs whose creation is not decided, with the remote jobs each may be."""
        return [
            (job, await self._driver.lost.candidates(job, self._adapters(job.provider)))
            for job in self._store.jobs(batch_id)
            if job.state is JobState.UNKNOWN
        ]

    async def resolve(self, batch_id: str, remote_id: str = "") -> Job:
        """Decide the first undecided job: it is `remote_id`, or it was never created.

        Raises
        ------
        UsageProblem
            Nothing is undecided, the id is another job's, or another process drives the batch.
        """
        async with self._leasing.driving(batch_id, "decide") as held:
            for job in self._store.jobs(batch_id):
                job = await self._tasks.idle(job)  # noqa: PLW2901 - as it stands once nothing goes on
                if job.state is not JobState.UNKNOWN:
                    continue
                adapter = self._adapters(job.provider)
                # A step like every other: no look-up begins meanwhile and writes over it.
                step = self._driver.lost.decide(held, job, adapter, remote_id)
                await self._tasks.launch(job.id, batch_id, step)
                self._follow(batch_id)
                return job
        raise UsageProblem("nothing to resolve: every submission has a known outcome")

    async def cancel_duplicates(self, batch_id: str) -> list[str]:
        """Cancel the second batches of a batch's jobs at their provider; return their ids.

        Raises
        ------
        UsageProblem
            Another process drives the batch.
        """
        done: list[str] = []
        async with self._leasing.driving(batch_id, "cancel them") as held:
            for job in self._store.jobs(batch_id):
                job = await self._tasks.idle(job)  # noqa: PLW2901 - as it stands once nothing goes on
                if left := [each.remote_id for each in job.duplicates if not each.cancelled]:
                    adapter = self._adapters(job.provider)
                    step = self._driver.cancel_duplicates(held, job, adapter)
                    await self._tasks.launch(job.id, batch_id, step)
                    done += left
        return done
