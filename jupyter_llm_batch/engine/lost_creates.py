"""Find out what became of a create whose outcome was lost; see `lookup` for how."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from ..core.errors import Incomplete, ProviderError, Undecided, UsageProblem
from ..core.job import Job, Phase, Remote
from ..core.lifecycle import Event
from ..core.policy import Policy
from ..providers.base import Adapter
from ..storage import process, sent_marks
from ..storage.records import Lease
from ..storage.store import Store
from . import lookup
from .job_end import JobEnd
from .job_updates import JobUpdates
from .sending import CALL_ENDED

#: A create that waits in a frozen process goes out when that wakes up, whoever drives the job now.
_FROZEN = (
    "a process that was to send this is frozen or hangs, and may yet send it: end that kernel, "
    "or `%llm_batch resolve NAME` decides"
)


class LostCreates:
    """Looks for lost creates, for whoever holds the lease."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        clock: Callable[[], float],
        end: JobEnd,
        updates: JobUpdates,
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._end = end
        self._updates = updates
        #: Since when (monotonic) this process has looked for a create in vain, by its label.
        self._looked: dict[str, float] = {}
        #: Remote ids that turned out to be another's while a job was looked for, by that job.
        self._strangers: dict[str, set[str]] = {}

    async def look_up(self, held: Lease, job: Job, adapter: Adapter) -> None:
        """Look for what a lost create made; where nothing is proved, look again later."""
        if created := self._updates.created.get(lookup.label(job)):
            self._updates.accept(held, job, Event.FOUND, created)
            del self._updates.created[lookup.label(job)]
            return
        limits = adapter.limits(job.endpoint)
        try:
            job, remote = await self._find(job, adapter)
        except (ProviderError, Incomplete) as error:
            self._end.again(held, job, error)
            return
        own = self._policy.settle
        settle, documented = (limits.settle, limits.documented) if own is None else (own, True)
        if remote is not None:
            self._updates.accept(held, job, Event.FOUND, remote)
        elif process.may_act(job.sender) and not self._call_ended(job):
            now = self._clock()
            self._store.note(
                held, job, error=_FROZEN, sender_seen=now, not_before=now + self._policy.poll
            )
        elif not self._has_settled(job, settle):
            wait = min(self._policy.poll, max(settle / 4, 0.05))
            self._store.note(held, job, error=None, not_before=self._clock() + wait)
        else:
            await self._resend_or_wait(held, job, adapter, documented=documented)

    async def candidates(self, job: Job, adapter: Adapter) -> list[Remote]:
        """Return the remote jobs that a lost create may have made, for the user to decide."""
        try:
            _, found = await self._find(job, adapter)
        except Undecided as doubt:
            return list(doubt.candidates)
        return [found] if found else []

    async def decide(self, held: Lease, job: Job, adapter: Adapter, remote_id: str) -> None:
        """Record what the user knows about a lost create: its remote id, or none was made."""
        if not remote_id:
            self._store.apply(
                held, job, Event.ABSENT, detail="the user says so", not_before=0.0, error=None,
                failures=0, distrusted=False, resent=0, repeated=True,
            )  # fmt: skip
            return
        remote = await adapter.retrieve(remote_id)
        if remote_id in self._store.remote_jobs.ids(job.provider, sent_here=True):
            raise UsageProblem(f"{remote_id} is known already as another job's")
        if remote.size not in {0, job.rows}:
            raise UsageProblem(
                f"{remote_id} has {remote.size:,} rows and this job has {job.rows:,}: it cannot "
                "be what was sent"
            )
        self._updates.accept(held, job, Event.FOUND, remote)

    async def _resend_or_wait(
        self, held: Lease, job: Job, adapter: Adapter, *, documented: bool
    ) -> None:
        """Send a job again whose lost create made nothing, if that is proved; else ask."""
        since = job.submitted_at or job.created_at
        others = self._store.remote_jobs.ids(job.provider, sent_here=True)
        others |= self._strangers.get(job.id, set())
        try:
            absent = job.resent < lookup.RESENDS and (
                documented
                or await lookup.is_absent(
                    adapter, job, since, others, self._store.remote_jobs.created_after_loss(job)
                )
            )
        except (ProviderError, Incomplete) as error:
            self._end.again(held, job, error)
            return
        if absent:
            self._store.apply(
                held, job, Event.ABSENT, not_before=0.0, error=None, failures=0, distrusted=False,
                resent=job.resent + 1, repeated=True,
            )  # fmt: skip
            return
        now = self._clock()
        wait = self._policy.poll_wait(now - self._lost_at(job))
        self._store.note(held, job, error=lookup.not_listed(job), not_before=now + wait)

    async def _find(self, job: Job, adapter: Adapter) -> tuple[Job, Remote | None]:
        """Return the remote job that a lost create made; and `job`, perhaps with more attempts."""
        if job.distrusted and adapter.limits(job.endpoint).labelled:
            return await self._find_any(job, adapter)
        return job, await lookup.find(
            adapter,
            job,
            self._store.job_rows(job.id),
            self._store.remote_jobs.ids(job.provider, sent_here=True),
            lookup.label(job),
            job.submitted_at or job.created_at,
            self._strangers.setdefault(job.id, set()),
        )

    async def _find_any(self, job: Job, adapter: Adapter) -> tuple[Job, Remote | None]:
        """Return what the latest attempt made, of those too that the journal has lost."""
        made = await lookup.attempts(adapter, job, job.created_at)
        marked = await asyncio.to_thread(sent_marks.marked, self._end.payload(job))
        job = msgspec.structs.replace(job, attempts=max([*made, job.attempts, marked]))
        remote = made[max(made)] if made else None
        # Refused for lack of room, it holds nothing: it is to be sent again.
        return job, None if remote is None or remote.phase is Phase.LATER else remote

    def _call_ended(self, job: Job) -> bool:
        """Whether the process that began to create a job has said that its call is over."""
        label = lookup.label(job)
        return any(
            event["event"] == CALL_ENDED and event["detail"] == label
            for event in self._store.events.of_batch(job.batch_id)
        )

    def _has_settled(self, job: Job, settle: float) -> bool:
        """Whether a create that is not listed was never made: time has passed by both clocks.

        The clock on the wall may be set, and then a listing had no time at all.
        """
        lost = max(self._lost_at(job), job.sender_seen)
        looked = self._looked.setdefault(lookup.label(job), time.monotonic())
        return self._clock() - lost >= settle and time.monotonic() - looked >= settle

    def _lost_at(self, job: Job) -> float:
        """Return when the outcome of the last create was lost: a long upload settles nothing."""
        events = self._store.events.of_batch(job.batch_id)
        return max(
            float(event["at"])
            for event in events
            if (event["job_id"] == job.id and event["event"] == Event.LOST)
            or (event["event"] == CALL_ENDED and event["detail"] == lookup.label(job))
        )
