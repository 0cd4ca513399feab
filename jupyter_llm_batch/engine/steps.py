"""One step of one job: the call to the provider, and its outcome in the journal.

Each method does what `lifecycle.next_action` named, once, and records what came of it. A step that
fails for a passing reason says when to try again; nothing here loops or sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from ..core import trouble
from ..core.batch import Batch
from ..core.errors import Busy, Incomplete, KeyRefused, ProviderError, Refused, Unclear, Vanished
from ..core.job import Account, Job, Phase, Remote
from ..core.lifecycle import Action, Event
from ..core.policy import Policy
from ..core.result import Outcome
from ..providers.base import Adapter
from ..storage import sent_marks
from ..storage.records import Lease
from ..storage.store import Store
from ..submission import adopt
from . import duplicates
from .collect import Collector
from .job_end import JobEnd
from .job_updates import JobUpdates
from .lost_creates import LostCreates
from .realtime import RealTime
from .sending import Sender


class Driver:
    """Carries jobs over the wire for whoever holds their batch's lease.

    Attributes
    ----------
    lost
        Finds out what became of lost creates.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        clock: Callable[[], float],
        end: JobEnd,
        collector: Collector,
        realtime: RealTime,
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._end = end
        self._collector = collector
        self._realtime = realtime
        self._updates = JobUpdates(store, policy, clock, end)
        self._sender = Sender(store, policy, clock, end, self._updates)
        self.lost = LostCreates(store, policy, clock, end, self._updates)

    async def step(
        self, action: Action, held: Lease, batch: Batch, job: Job, adapter: Adapter, who: Account
    ) -> None:
        """Do `action` for `job`."""
        match action:
            case Action.UPLOAD:
                await self._sender.upload(held, job, adapter, who)
            case Action.SUBMIT:
                await self._sender.submit(held, job, adapter, who)
            case Action.DECLARE_LOST:
                self._store.apply(held, job, Event.LOST, detail="found while submitting")
            case Action.LOOK_UP:
                await self.lost.look_up(held, job, adapter)
            case Action.CANCEL:
                await self._cancel(held, job, adapter)
            case Action.POLL:
                await self._poll(held, job, adapter)
            case Action.COLLECT:
                await self._collector.collect(held, batch, job, adapter)
            case Action.WITHDRAW:
                self._withdraw(held, job)
            case Action.START:
                await self._start(held, job, who)
            case Action.ASK:
                await self._ask(held, batch, job, adapter, who)

    async def _start(self, held: Lease, job: Job, who: Account) -> None:
        if harm := await self._sender.harm_of(job):
            self._end.fail(held, job, Event.REJECTED, harm, damaged=True)
            return
        await asyncio.to_thread(sent_marks.mark, self._end.payload(job), 0)
        self._store.apply(
            held,
            job,
            Event.STARTED,
            submitted_at=self._clock(),
            sums=await self._sender.sums_of(job),
            account=who,
            failures=0,
            error=None,
            not_before=0.0,
        )

    async def _ask(
        self, held: Lease, batch: Batch, job: Job, adapter: Adapter, who: Account
    ) -> None:
        # After a cancel nothing is sent that could be wrong.
        harm = "" if batch.cancel_requested else await self._sender.harm_of(job)
        try:
            job, wrong = await self._realtime.run(
                held, job, adapter, who, self._end.payload(job), harm
            )
        except Refused as error:
            self._end.fail(held, job, Event.INVALID, str(error))
        else:
            if wrong is not None and (trouble.is_defect(wrong) or trouble.is_leaving(wrong)):
                raise wrong
            if wrong is not None:
                self._end.again(held, job, wrong)

    async def note_duplicates(
        self, held: Lease, job: Job, adapter: Adapter, found: Iterable[Remote]
    ) -> Job:
        """Note second batches of a job; of two of ours one that has not begun is cancelled."""
        for remote in found:
            known = {each.remote_id for each in job.duplicates if each.cancelled}
            if remote.remote_id in known:
                continue
            spare, changes = remote, dict[str, Any]()
            ours = duplicates.is_ours(remote, job) and job.remote_id is not None
            begun = not duplicates.is_early(remote.state)
            if ours and begun and duplicates.is_early(job.remote_state):
                # The earlier one has begun: where ours has not, its answers do as well.
                assert job.remote_id is not None
                mine = await adapter.retrieve(job.remote_id)
                if duplicates.is_early(mine.state):
                    spare = mine
                    changes = {"remote_id": remote.remote_id, "remote_state": remote.state}
            noted = duplicates.with_one(job, spare, cancelled=False)
            job = self._store.note(held, job, duplicates=noted, **changes)
            if ours and duplicates.is_early(spare.state):
                await self._call_off(held, job, adapter, spare)
                job = self._store.now(job)
        return job

    async def cancel_duplicates(self, held: Lease, job: Job, adapter: Adapter) -> None:
        """Cancel the second batches of a job."""
        for each in job.duplicates:
            if not each.cancelled:
                remote = await adapter.retrieve(each.remote_id)
                await self._call_off(held, self._store.now(job), adapter, remote)

    async def _call_off(self, held: Lease, job: Job, adapter: Adapter, remote: Remote) -> None:
        try:
            await adapter.cancel(remote.remote_id)
        except KeyRefused:
            raise  # it is still under way
        except Refused:
            pass  # it is over
        known = duplicates.with_one(job, remote, cancelled=True)
        self._store.note(held, self._store.now(job), duplicates=known)

    async def _poll(self, held: Lease, job: Job, adapter: Adapter) -> None:
        assert job.remote_id is not None
        if job.repeated and adapter.limits(job.endpoint).labelled:
            with contextlib.suppress(ProviderError, Incomplete):  # the poll says it
                found = await duplicates.find(adapter, job)
                await self.note_duplicates(held, job, adapter, found)
            job = self._store.now(job)  # also where noting them broke off
        assert job.remote_id is not None
        try:
            remote = await adapter.retrieve(job.remote_id)
        except Vanished as error:
            young = self._clock() - (job.submitted_at or 0.0) < self._policy.young
            if young or job.absences + 1 < self._policy.absences:
                self._end.again(held, job, error, absences=job.absences + 1)
            else:
                self._end.vanish(held, job, error)
        except (ProviderError, Incomplete) as error:
            self._end.again(held, job, error)
        else:
            self.saw(held, job, remote)

    def saw(self, held: Lease, job: Job, remote: Remote) -> None:
        """Record what the provider says about a running job."""
        now = self._clock()
        ended_at: float | None = now
        if self._end.is_read_only(job):
            # What was created elsewhere is read; only a retry sends it.
            remote = adopt.as_read(remote)
            job = self._end.know_size(held, job, remote)
            ended_at = remote.ended_at
        moved = remote.counts is not None and remote.counts != job.counts
        seen: dict[str, Any] = {
            "progress_at": now if moved else job.progress_at,
            "remote_state": remote.state,
            "counts": remote.counts or job.counts,
            "expires_at": remote.expires_at or job.expires_at,
            "keep_until": remote.keep_until or job.keep_until,
            "absences": 0,
            "failures": 0,
            "error": remote.error,
        }
        match remote.phase:
            case Phase.ENDED:
                self._store.apply(
                    held,
                    job,
                    Event.ENDED,
                    detail=remote.state,
                    parts=remote.parts,
                    rest=remote.rest,
                    ended_at=ended_at,
                    not_before=0.0,
                    **seen,
                )
            case Phase.FAILED:
                self._end.fail(held, job, Event.INVALID, remote.error or remote.state, **seen)
            case Phase.LATER:
                self._store.apply(
                    held,
                    job,
                    Event.NO_ROOM,
                    detail=remote.error or remote.state,
                    remote_id=None,
                    not_before=now + self._policy.room_wait(),
                    **seen,
                )
            case Phase.ACTIVE:
                age = now - (job.submitted_at or now)
                self._store.note(held, job, **self._updates.next_look(age, remote), **seen)

    async def _cancel(self, held: Lease, job: Job, adapter: Adapter) -> None:
        assert job.remote_id is not None
        try:
            await adapter.cancel(job.remote_id)
        except (KeyRefused, Busy, Unclear) as error:
            self._end.again(held, job, error)
            return
        except Refused:
            pass  # too late to cancel, or gone: the next poll says which
        self._store.note(held, job, cancel_sent=True, failures=0, not_before=0.0)

    def _withdraw(self, held: Lease, job: Job) -> None:
        self._end.settle(
            held, job, Event.WITHDRAWN, Outcome.CANCELLED, "cancelled before it was sent"
        )
