"""One step of one job: the call to the provider, and its outcome in the journal (ends: `ending`).

Each method does what `lifecycle.next_action` named, once, and records what came of it. A step that
fails for a passing reason says when to try again; nothing here loops or sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ..core import trouble
from ..core.batch import Batch
from ..core.errors import (
    Busy,
    Incomplete,
    KeyRefused,
    LeaseLost,
    ProviderError,
    Refused,
    Unclear,
    Undecided,
    UsageProblem,
    Vanished,
)
from ..core.job import Account, Job, JobState, Phase, Remote
from ..core.lifecycle import Action, Event
from ..core.policy import Policy
from ..core.result import Outcome
from ..providers.base import Adapter
from ..storage import files, process, sent_marks
from ..storage.records import Lease
from ..storage.store import Store
from ..submission import adopt
from . import duplicates, lookup
from .collect import Ends
from .realtime import RealTime

#: Said of a create, by its label, whose process has lost the batch to another one meanwhile.
CALL_ENDED = "call-ended"

#: A create that waits in a frozen process goes out when that wakes up, whoever drives the job now.
_FROZEN = (
    "a process that was to send this is frozen or hangs, and may yet send it: end that kernel, "
    "or `%llm_batch resolve NAME` decides"
)


class Driver:
    """Carries jobs over the wire for whoever holds their batch's lease."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        clock: Callable[[], float],
        ends: Ends,
        realtime: RealTime,
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._ends = ends
        self._realtime = realtime
        #: The attempts that this process has marked as sent, by job.
        self._marked: dict[str, int] = {}
        #: What was created but could not be written down yet, for lack of room; by its label.
        self._created: dict[str, Remote] = {}
        #: Since when (monotonic) this process has looked for a create in vain, by its label.
        self._looked: dict[str, float] = {}
        #: Remote ids that turned out to be another's while a job was looked for, by that job.
        self._strangers: dict[str, set[str]] = {}

    async def step(
        self, action: Action, held: Lease, batch: Batch, job: Job, adapter: Adapter, who: Account
    ) -> None:
        """Do `action` for `job`."""
        match action:
            case Action.UPLOAD:
                await self._upload(held, job, adapter, who)
            case Action.SUBMIT:
                await self._submit(held, job, adapter, who)
            case Action.DECLARE_LOST:
                self._store.apply(held, job, Event.LOST, detail="found while submitting")
            case Action.LOOK_UP:
                await self._look_up(held, job, adapter)
            case Action.CANCEL:
                await self._cancel(held, job, adapter)
            case Action.POLL:
                await self._poll(held, job, adapter)
            case Action.COLLECT:
                await self._ends.collect(held, batch, job, adapter)
            case Action.WITHDRAW:
                self._withdraw(held, job)
            case Action.START:
                await self._start(held, job, who)
            case Action.ASK:
                await self._ask(held, batch, job, adapter, who)

    # -- sending -----------------------------------------------------------------------------------

    async def _upload(self, held: Lease, job: Job, adapter: Adapter, who: Account) -> None:
        if job.upload_id is not None and job.account == who:
            self._store.apply(held, job, Event.UPLOADED, detail="already there")
            return
        if harm := await self._harm(job):
            self._ends.fail(held, job, Event.REJECTED, harm, damaged=True)
            return
        try:
            upload_id = await adapter.upload(job, self._ends.payload(job))
        except (KeyRefused, Busy, Unclear, Incomplete) as error:
            # An upload buys nothing: it may be repeated whatever became of it.
            self._ends.again(held, job, error)
        except Refused as error:
            self._ends.fail(held, job, Event.REJECTED, str(error))
        else:
            # Where nothing is uploaded nothing has succeeded: the wait goes on growing.
            done: dict[str, Any] = {"failures": 0, "error": None} if upload_id is not None else {}
            self._store.apply(
                held,
                job,
                Event.UPLOADED,
                upload_id=upload_id,
                sums=await self._sums(job),
                account=who,
                not_before=0.0,
                **done,
            )

    async def _harm(self, job: Job) -> str:
        """Return why the request lines of a job must not be sent, empty when they are whole."""
        path, known = self._ends.payload(job), job.sums.get("request", "")
        harm = await asyncio.to_thread(files.harm, path, known, job.bytes)
        if not harm:
            return ""
        return f"not sent, because {path.name} {harm}; running the cell again sends these rows"

    async def _sums(self, job: Job) -> dict[str, str]:
        """Return by what the request lines of a job are known from now on."""
        path, known = self._ends.payload(job), job.sums.get("request", "")
        return {"request": known or await asyncio.to_thread(files.checksum, path)}

    async def _submit(self, held: Lease, job: Job, adapter: Adapter, who: Account) -> None:
        path, number = self._ends.payload(job), job.attempts + 1
        marked = await asyncio.to_thread(sent_marks.marked, path)
        doubt = ""
        if job.distrusted or (marked >= number and self._marked.get(job.id) != number):
            # The disk knows of a create that the journal does not: this is an older copy of it.
            doubt = "it may have been sent before: the journal has lost that"
        elif job.attempts and adapter.limits(job.endpoint).labelled:
            try:
                made = await lookup.attempts(adapter, job, job.created_at, lookup.CLOCKS)
            except (ProviderError, Incomplete) as error:
                self._ends.again(held, job, error)
                return
            # A gateway may pass a create on and then answer for itself that nothing was made.
            if any(remote.phase is not Phase.LATER for remote in made.values()):
                doubt = "it was answered with an error, and was created all the same"
        if doubt:
            job = self._store.apply(
                held, job, Event.INTENT, attempts=max(number, marked), distrusted=True,
                submitted_at=job.submitted_at or job.created_at, account=who,
            )  # fmt: skip
            self._lose(held, job, doubt)
            return
        await asyncio.to_thread(sent_marks.mark, path, number)
        self._marked[job.id] = number
        # The intent is durable before the call, and the fence is checked with it.
        job = self._store.apply(
            held,
            job,
            Event.INTENT,
            attempts=number,
            submitted_at=self._clock(),
            sender=process.write(process.me()),
            account=who,
        )
        try:
            await self._create(held, job, adapter)
        except LeaseLost:
            # Another process drives the job: let it know that nothing goes out from here any more.
            if self._is_undecided(job):
                self._store.events.log(job.batch_id, CALL_ENDED, lookup.label(job))
            raise

    def _is_undecided(self, job: Job) -> bool:
        """Whether another process may be waiting for our call to end."""
        undecided = {JobState.SUBMITTING, JobState.UNKNOWN}
        jobs = self._store.jobs(job.batch_id)
        return any(each.id == job.id and each.state in undecided for each in jobs)

    async def _create(self, held: Lease, job: Job, adapter: Adapter) -> None:
        began = time.monotonic()
        try:
            remote = await adapter.create(
                job, self._ends.payload(job), job.upload_id, lookup.label(job)
            )
        except Vanished as error:
            # The upload is gone, or the model: upload again, but not for ever.
            if job.upload_id is None or job.absences >= self._policy.uploads:
                self._ends.fail(held, job, Event.REJECTED, str(error))
            else:
                absences = job.absences + 1  # an upload that succeeds takes the failures off
                self._not_created(held, job, error, upload_id=None, absences=absences)
        except (KeyRefused, Busy) as error:
            self._not_created(held, job, error)
        except Refused as error:
            self._ends.fail(held, job, Event.REJECTED, str(error))
        except Exception as error:  # whatever it was, the job may exist
            self._lose(held, job, trouble.describe_error(error))
            if trouble.is_defect(error):
                raise
        except asyncio.CancelledError:
            self._lose(held, job, "given up while it was sent")
            raise
        else:
            self._created[lookup.label(job)] = remote
            slow = time.monotonic() - began > duplicates.SLOW
            self._accepted(held, job, Event.ACCEPTED, remote, repeated=slow or job.repeated)
            del self._created[lookup.label(job)]

    def _lose(self, held: Lease, job: Job, detail: str) -> None:
        """Record that our own call has ended without an outcome."""
        self._store.apply(
            held, job, Event.LOST, detail=detail, sender="", error=None, not_before=0.0
        )

    async def _look_up(self, held: Lease, job: Job, adapter: Adapter) -> None:
        if created := self._created.get(lookup.label(job)):
            self._accepted(held, job, Event.FOUND, created)
            del self._created[lookup.label(job)]
            return
        limits = adapter.limits(job.endpoint)
        try:
            job, remote = await self._find(job, adapter)
        except (ProviderError, Incomplete) as error:
            self._ends.again(held, job, error)
            return
        own = self._policy.settle
        settle, documented = (limits.settle, limits.documented) if own is None else (own, True)
        if remote is not None:
            self._accepted(held, job, Event.FOUND, remote)
        elif process.may_act(job.sender) and not self._call_ended(job):
            now = self._clock()
            self._store.note(
                held, job, error=_FROZEN, sender_seen=now, not_before=now + self._policy.poll
            )
        elif not self._has_settled(job, settle):
            wait = min(self._policy.poll, max(settle / 4, 0.05))
            self._store.note(held, job, error=None, not_before=self._clock() + wait)
        else:
            await self._settle(held, job, adapter, documented=documented)

    async def _settle(self, held: Lease, job: Job, adapter: Adapter, *, documented: bool) -> None:
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
            self._ends.again(held, job, error)
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
        marked = await asyncio.to_thread(sent_marks.marked, self._ends.payload(job))
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
        self._accepted(held, job, Event.FOUND, remote)

    def _lost_at(self, job: Job) -> float:
        """Return when the outcome of the last create was lost: a long upload settles nothing."""
        events = self._store.events.of_batch(job.batch_id)
        return max(
            float(event["at"])
            for event in events
            if (event["job_id"] == job.id and event["event"] == Event.LOST)
            or (event["event"] == CALL_ENDED and event["detail"] == lookup.label(job))
        )

    def _accepted(
        self, held: Lease, job: Job, event: Event, remote: Remote, *, repeated: bool = True
    ) -> None:
        self._store.apply(
            held,
            job,
            event,
            detail=remote.remote_id,
            remote_id=remote.remote_id,
            remote_state=remote.state,
            counts=remote.counts,
            expires_at=remote.expires_at,
            keep_until=remote.keep_until,
            cancel_sent=False,
            distrusted=False,
            repeated=repeated,
            failures=0,
            absences=0,
            error=None,
            **self._next_look(0.0, remote),
        )

    def _not_created(self, held: Lease, job: Job, error: ProviderError, **changes: Any) -> None:
        self._store.apply(
            held,
            job,
            Event.NOT_CREATED,
            detail=str(error),
            **self._ends.waiting(job, error),
            **changes,
        )

    # -- while it runs -----------------------------------------------------------------------------

    async def _start(self, held: Lease, job: Job, who: Account) -> None:
        if harm := await self._harm(job):
            self._ends.fail(held, job, Event.REJECTED, harm, damaged=True)
            return
        await asyncio.to_thread(sent_marks.mark, self._ends.payload(job), 0)
        self._store.apply(
            held,
            job,
            Event.STARTED,
            submitted_at=self._clock(),
            sums=await self._sums(job),
            account=who,
            failures=0,
            error=None,
            not_before=0.0,
        )

    async def _ask(
        self, held: Lease, batch: Batch, job: Job, adapter: Adapter, who: Account
    ) -> None:
        # After a cancel nothing is sent that could be wrong.
        harm = "" if batch.cancel_requested else await self._harm(job)
        try:
            job, wrong = await self._realtime.run(
                held, job, adapter, who, self._ends.payload(job), harm
            )
        except Refused as error:
            self._ends.fail(held, job, Event.INVALID, str(error))
        else:
            if wrong is not None and (trouble.is_defect(wrong) or trouble.is_leaving(wrong)):
                raise wrong
            if wrong is not None:
                self._ends.again(held, job, wrong)

    async def know_duplicates(
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
                await self.know_duplicates(held, job, adapter, found)
            job = self._store.now(job)  # also where noting them broke off
        assert job.remote_id is not None
        try:
            remote = await adapter.retrieve(job.remote_id)
        except Vanished as error:
            young = self._clock() - (job.submitted_at or 0.0) < self._policy.young
            if young or job.absences + 1 < self._policy.absences:
                self._ends.again(held, job, error, absences=job.absences + 1)
            else:
                self._ends.vanish(held, job, error)
        except (ProviderError, Incomplete) as error:
            self._ends.again(held, job, error)
        else:
            self.saw(held, job, remote)

    def saw(self, held: Lease, job: Job, remote: Remote) -> None:
        """Record what the provider says about a running job."""
        now = self._clock()
        ended_at: float | None = now
        if self._ends.is_read_only(job):
            # What was created elsewhere is read; only a retry sends it.
            remote = adopt.as_read(remote)
            job = self._ends.know_size(held, job, remote)
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
                self._ends.fail(held, job, Event.INVALID, remote.error or remote.state, **seen)
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
                self._store.note(held, job, **self._next_look(age, remote), **seen)

    def _next_look(self, age: float, remote: Remote) -> dict[str, Any]:
        """Return what a job's record says after a look: when the next one is due."""
        now = self._clock()
        return {
            "asked_until": now + remote.poll_after if remote.poll_after else 0.0,
            "not_before": now + self._policy.poll_wait(age, remote.poll_after),
        }

    async def _cancel(self, held: Lease, job: Job, adapter: Adapter) -> None:
        assert job.remote_id is not None
        try:
            await adapter.cancel(job.remote_id)
        except (KeyRefused, Busy, Unclear) as error:
            self._ends.again(held, job, error)
            return
        except Refused:
            pass  # too late to cancel, or gone: the next poll says which
        self._store.note(held, job, cancel_sent=True, failures=0, not_before=0.0)

    def _withdraw(self, held: Lease, job: Job) -> None:
        self._ends.settle(
            held, job, Event.WITHDRAWN, Outcome.CANCELLED, "cancelled before it was sent"
        )
