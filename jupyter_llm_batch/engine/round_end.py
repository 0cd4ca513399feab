"""The end of a round: another one, what is left at the provider, or the end of the batch."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..core.batch import Batch
from ..core.errors import Damaged
from ..core.job import Job
from ..core.request import Limits, Mode
from ..core.row_codes import WAITING, rows_to_finish, rows_to_reask, rows_to_repeat
from ..costs import remaining
from ..storage.records import Lease
from ..storage.store import is_over
from ..submission import inherit
from ..submission import retry as rounds
from .drive import Drive
from .notices import Notices


class RoundEnd:
    """Decides what follows when the jobs of a batch are over."""

    def __init__(self, drive: Drive, notices: Notices) -> None:
        self._drive = drive
        self._store = drive.store
        self._adapters = drive.adapters
        self._clock = drive.clock
        self._views = drive.views
        self._waits = drive.waits
        self._cleanup = drive.cleanup
        self._leasing = drive.leasing
        self._tasks = drive.tasks
        self._followed = drive.followed
        self._notices = notices

    def apply_deadline(self, batch: Batch, jobs: list[Job]) -> Batch:
        """Cut off what is not back by the deadline, unless the user has to be asked first."""
        now = self._clock()
        if not remaining.is_due(batch, jobs, now):
            return batch
        pack = self._store.pack
        back = remaining.rows_back(pack(batch.id, "outcomes"), pack(batch.id, "owners"))
        if remaining.deadline_doubt(batch, jobs, now, self._drive.rules().book, back):
            return batch
        self._store.decide(batch.id, cut=True)
        return msgspec.structs.replace(batch, cut=True)

    def close(self, held: Lease, batch: Batch, jobs: list[Job]) -> None:
        """Begin another round of a batch whose jobs are over, or end it."""
        outcomes = self._store.pack(batch.id, "outcomes")
        if batch.sources and WAITING in outcomes:
            outcomes = inherit.inherit(self._store, held, batch, outcomes)
            if WAITING in outcomes and batch.cancel_requested:
                outcomes = inherit.give_up(self._store, held, batch, outcomes)
            if WAITING in outcomes:
                # Earlier batches still work on these rows; of another notebook, driven from here.
                behind = {each.id for each, _ in inherit.waits_on(self._store, batch)}
                if behind - self._followed:
                    self._followed.update(behind)
                    self._drive.wake()
                self._views.publish(batch)
                return
        if not batch.cancel_requested:
            again = rows_to_repeat(outcomes) if batch.round < batch.max_retries else []
            if batch.round < batch.max_reasks:
                cut = rounds.cut_rows(self._store, batch, outcomes)
                again = sorted({*again, *rows_to_reask(outcomes), *cut})
            if batch.cut and not any(job.round and job.mode is Mode.REALTIME for job in jobs):
                again = sorted({*again, *rows_to_finish(outcomes)})
            if again and self._can_start_round(held, batch, again):
                self._drive.wake()
                return
        if batch.delete_uploads and self._tidy(held, batch):
            return
        self._store.finish(held, inherit.reused(self._store, batch, self._clock()))
        try:
            self._leasing.leases.pop(batch.id, None)
            self._followed.discard(batch.id)
            self._store.leases.release(held)
            self._notices.start(batch.id)
            self._views.publish_id(batch.id)
        finally:
            self._drive.waiters.wake(batch.id)

    def release_caches(self, held: Lease, batch: Batch, jobs: Iterable[Job]) -> None:
        """Start deleting what the provider stores for jobs that are over."""
        for job in jobs:
            stored = job.cache is not None and job.upload_id is not None and not job.released
            busy = job.id in self._tasks.steps or self._waits.resting(job.id) > 0
            if stored and is_over([job]) and not busy and not self._views.pause(job):
                adapter = self._adapters(job.provider)
                step = self._cleanup.release(held, job, adapter)
                self._tasks.launch(job.id, batch.id, self._tasks.guarded(held, job, step))

    def _tidy(self, held: Lease, batch: Batch) -> bool:
        """Start deleting what the provider still holds; False when there is nothing to wait for."""
        jobs = [
            job
            for job in self._store.jobs(batch.id)
            if not job.tidied
            and (job.upload_id or job.remote_id)
            and not self._views.pause(job)
            and not self._waits.resting(job.id)
        ]
        for job in jobs:
            adapter = self._adapters(job.provider)
            step = self._cleanup.tidy(held, job, adapter)
            self._tasks.launch(job.id, batch.id, self._tasks.guarded(held, job, step))
        return bool(jobs)

    def _limits(self, job: Job) -> Limits:
        return self._adapters(job.provider).limits(job.endpoint)

    def retry(self, held: Lease, batch: Batch, *, unbilled: bool) -> int:
        """Begin the round that the user asked for; return how many rows it sends."""
        now, rules = self._clock(), self._drive.rules()
        return rounds.retry(self._store, held, batch, self._limits, now, rules, unbilled=unbilled)

    def _can_start_round(self, held: Lease, batch: Batch, rows: list[int]) -> bool:
        """Send rows again by themselves; `UsageProblem` when that cannot be done now."""
        try:
            return bool(rounds.again(self._store, held, batch, rows, self._limits, self._clock()))
        except (Damaged, rounds.NotHere):
            return False  # the rows keep the outcome that they have
