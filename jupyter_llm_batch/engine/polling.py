"""Do one step of a job, and ask about many running jobs with one listing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..core.batch import Batch
from ..core.errors import Busy, LeaseLost, ProviderError, StoreProblem, UsageProblem
from ..core.job import Job, Remote
from ..core.lifecycle import Action, grouped_poll_time
from ..storage.records import Lease
from . import duplicates, lookup
from .drive import Drive

#: From this many running jobs of a provider on, one listing is asked instead of each job.
LISTING_FROM = 2


class Poll(NamedTuple):
    """A running job, and from when on it is to be asked about (Unix seconds)."""

    due: float
    held: Lease
    batch: Batch
    job: Job


class Polling:
    """Runs the steps of jobs."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._store = drive.store
        self._adapters = drive.adapters
        self._policy = drive.policy
        self._clock = drive.clock
        self._views = drive.views
        self._waits = drive.waits
        self._end = drive.end
        self._driver = drive.driver
        self._leasing = drive.leasing
        self._tasks = drive.tasks
        self._reporter = drive.reporter
        self._creates: dict[str, asyncio.Lock] = {}

    def start(self, provider: str, polls: list[Poll]) -> float:
        """Ask about running jobs, together where that is possible; return when to look again."""
        now = self._clock()
        at = grouped_poll_time([each.due for each in polls], self._policy.poll / 2)
        if at > now:
            return at
        entries = [(each.held, each.batch, each.job) for each in polls if each.due <= now]
        later = min(
            (each.due for each in polls if each.due > now), default=now + self._policy.sleep
        )
        if len(entries) < LISTING_FROM:
            held, batch, job = entries[0]
            self._tasks.launch(job.id, batch.id, self.step(Action.POLL, held, batch, job))
            return later
        jobs, batches = [job.id for _, _, job in entries], {batch.id for _, batch, _ in entries}
        self._tasks.launch_many(jobs, batches, self._poll_many(provider, entries))
        return later

    async def step(self, action: Action, held: Lease, batch: Batch, job: Job) -> None:
        """Do one step of a job; what fails is reported and tried again later."""
        try:
            adapter = self._adapters(job.provider)
            who = adapter.account(self._drive.salt)
            self._waits.tries(job, who)
            if action is Action.SUBMIT and not adapter.limits(job.endpoint).labelled:
                # Without a label a lost create is found by time and count: one at a time.
                async with self._creates.setdefault(job.provider, asyncio.Lock()):
                    await self._driver.step(action, held, batch, job, adapter, who)
            else:
                await self._driver.step(action, held, batch, job, adapter, who)
        except LeaseLost:
            self._leasing.lose(held)
        except Exception as error:  # noqa: BLE001 - shown on the panel, and tried again later
            self._reporter.report_trouble(held, job, error)
        else:
            self._waits.went_well(job.id)

    def _saw(self, held: Lease, _: Batch, job: Job, remote: Remote) -> None:
        try:
            self._driver.saw(held, job, remote)
        except LeaseLost:
            pass
        except StoreProblem as problem:
            self._reporter.report_trouble(held, job, problem)

    async def _poll_many(self, provider: str, entries: list[tuple[Lease, Batch, Job]]) -> None:
        """Ask for many jobs with one listing; those it does not show are asked for singly."""
        left = {job.remote_id: (held, batch, job) for held, batch, job in entries}
        who = self._views.present(entries[0][2])
        for _, _, job in entries:
            self._waits.tries(job, who)
        since = min(job.submitted_at or job.created_at for _, _, job in entries) - 600
        asked = {job.id: (held, batch, job) for held, batch, job in entries}
        second: list[tuple[str, Remote]] = []
        beyond = 0
        try:
            async for remote in self._adapters(provider).list(since):
                entry = left.pop(remote.remote_id, None)
                if entry is not None:
                    self._saw(*entry, remote)
                elif (job_id := lookup.owner(remote.label)) in asked:
                    second.append((job_id, remote))
                beyond += not left
                if beyond > duplicates.BEYOND:
                    break
            await self._note_duplicates(provider, asked, second)
        except (ProviderError, UsageProblem) as error:
            busy = error if isinstance(error, ProviderError) else Busy(str(error))
            for held, batch, job in left.values():
                try:
                    self._end.again(held, self._store.now(job), busy)
                    self._views.publish(batch)
                except LeaseLost:
                    pass
                except StoreProblem as problem:
                    self._reporter.report_trouble(held, job, problem)
            return
        except Exception as error:  # noqa: BLE001 - shown on the panels, and tried again later
            for held, _, job in left.values():
                self._reporter.report_trouble(held, job, error)
            return
        for held, batch, job in left.values():
            # Its duplicates may have been noted meanwhile.
            await self.step(Action.POLL, held, batch, self._store.now(job))

    async def _note_duplicates(
        self,
        provider: str,
        asked: Mapping[str, tuple[Lease, Batch, Job]],
        found: Iterable[tuple[str, Remote]],
    ) -> None:
        """Note the second batches of jobs that a listing has shown."""
        for job_id, remote in found:
            held, _, job = asked[job_id]
            job = self._store.now(job)
            if duplicates.is_one(remote, job):
                with contextlib.suppress(LeaseLost):
                    await self._driver.note_duplicates(
                        held, job, self._adapters(provider), [remote]
                    )
