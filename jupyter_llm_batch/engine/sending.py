"""Send a job: upload its request lines, then create it. A create is never repeated blindly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ..core import trouble
from ..core.errors import (
    Busy,
    Incomplete,
    KeyRefused,
    LeaseLost,
    ProviderError,
    Refused,
    Unclear,
    Vanished,
)
from ..core.job import Account, Job, JobState, Phase
from ..core.lifecycle import Event
from ..core.policy import Policy
from ..providers.base import Adapter
from ..storage import files, process, sent_marks
from ..storage.records import Lease
from ..storage.store import Store
from . import duplicates, lookup
from .job_end import JobEnd
from .job_updates import JobUpdates

#: Said of a create, by its label, whose process has lost the batch to another one meanwhile.
CALL_ENDED = "call-ended"


class Sender:
    """Sends jobs, for whoever holds the lease."""

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
        #: The attempts that this process has marked as sent, by job.
        self._marked: dict[str, int] = {}

    async def upload(self, held: Lease, job: Job, adapter: Adapter, who: Account) -> None:
        """Upload the request lines of a job; this buys nothing, so it may be repeated."""
        if job.upload_id is not None and job.account == who:
            self._store.apply(held, job, Event.UPLOADED, detail="already there")
            return
        if harm := await self.harm_of(job):
            self._end.fail(held, job, Event.REJECTED, harm, damaged=True)
            return
        try:
            upload_id = await adapter.upload(job, self._end.payload(job))
        except (KeyRefused, Busy, Unclear, Incomplete) as error:
            # An upload buys nothing: it may be repeated whatever became of it.
            self._end.again(held, job, error)
        except Refused as error:
            self._end.fail(held, job, Event.REJECTED, str(error))
        else:
            # Where nothing is uploaded nothing has succeeded: the wait goes on growing.
            done: dict[str, Any] = {"failures": 0, "error": None} if upload_id is not None else {}
            self._store.apply(
                held,
                job,
                Event.UPLOADED,
                upload_id=upload_id,
                sums=await self.sums_of(job),
                account=who,
                not_before=0.0,
                **done,
            )

    async def harm_of(self, job: Job) -> str:
        """Return why the request lines of a job must not be sent, empty when they are whole."""
        path, known = self._end.payload(job), job.sums.get("request", "")
        harm = await asyncio.to_thread(files.harm, path, known, job.bytes)
        if not harm:
            return ""
        return f"not sent, because {path.name} {harm}; running the cell again sends these rows"

    async def sums_of(self, job: Job) -> dict[str, str]:
        """Return by what the request lines of a job are known from now on."""
        path, known = self._end.payload(job), job.sums.get("request", "")
        return {"request": known or await asyncio.to_thread(files.checksum, path)}

    async def submit(self, held: Lease, job: Job, adapter: Adapter, who: Account) -> None:
        """Create the job at the provider, after mark and intent are durable."""
        path, number = self._end.payload(job), job.attempts + 1
        marked = await asyncio.to_thread(sent_marks.marked, path)
        doubt = ""
        if job.distrusted or (marked >= number and self._marked.get(job.id) != number):
            # The disk knows of a create that the journal does not: this is an older copy of it.
            doubt = "it may have been sent before: the journal has lost that"
        elif job.attempts and adapter.limits(job.endpoint).labelled:
            try:
                made = await lookup.attempts(adapter, job, job.created_at, lookup.CLOCKS)
            except (ProviderError, Incomplete) as error:
                self._end.again(held, job, error)
                return
            # A gateway may pass a create on and then answer for itself that nothing was made.
            if any(remote.phase is not Phase.LATER for remote in made.values()):
                doubt = "it was answered with an error, and was created all the same"
        if doubt:
            job = self._store.apply(
                held, job, Event.INTENT, attempts=max(number, marked), distrusted=True,
                submitted_at=job.submitted_at or job.created_at, account=who,
            )  # fmt: skip
            self._updates.lose(held, job, doubt)
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
                job, self._end.payload(job), job.upload_id, lookup.label(job)
            )
        except Vanished as error:
            # The upload is gone, or the model: upload again, but not for ever.
            if job.upload_id is None or job.absences >= self._policy.uploads:
                self._end.fail(held, job, Event.REJECTED, str(error))
            else:
                absences = job.absences + 1  # an upload that succeeds takes the failures off
                self._updates.not_created(held, job, error, upload_id=None, absences=absences)
        except (KeyRefused, Busy) as error:
            self._updates.not_created(held, job, error)
        except Refused as error:
            self._end.fail(held, job, Event.REJECTED, str(error))
        except Exception as error:  # whatever it was, the job may exist
            self._updates.lose(held, job, trouble.describe_error(error))
            if trouble.is_defect(error):
                raise
        except asyncio.CancelledError:
            self._updates.lose(held, job, "given up while it was sent")
            raise
        else:
            self._updates.created[lookup.label(job)] = remote
            slow = time.monotonic() - began > duplicates.SLOW
            self._updates.accept(held, job, Event.ACCEPTED, remote, repeated=slow or job.repeated)
            del self._updates.created[lookup.label(job)]
