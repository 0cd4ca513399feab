"""Collect the results of a job: fetched, counted off against its rows, and written down.

What is incomplete is fetched again, what was paid for is kept whatever it looks like, and the end
and the outcomes of all rows stand in the journal in one transaction.
"""

from __future__ import annotations

import asyncio
import filecmp
from collections.abc import Awaitable, Callable
from functools import partial

from ..core.batch import Batch
from ..core.errors import Incomplete, ProviderError, Refused, Vanished
from ..core.job import Job, Remote
from ..core.lifecycle import Event
from ..core.policy import Policy
from ..core.request import Mode
from ..core.result import Outcome
from ..costs import budget
from ..data import structured
from ..providers.base import Adapter
from ..providers.shared import foreign_lines
from ..storage import files, partial_downloads, realtime_log
from ..storage.download_limit import Limited
from ..storage.parsed_cache import Parsed
from ..storage.records import Lease
from ..storage.store import Store
from ..submission import adopt
from .job_end import JobEnd
from .realtime import PART, without_line
from .reconcile import Reconciler

#: How often the requests of what was created elsewhere are tried again before answers go ahead.
REQUESTS = 2

#: Lines decoded between two pauses that let a running cell go on.
SLICE = 200


class Collector:
    """Collects the results of jobs, for whoever holds the lease.

    Parameters
    ----------
    breathe
        Awaited between slices of decoding; sleeps longer while a cell runs.
    rules
        Returns the prices in use.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        clock: Callable[[], float],
        end: JobEnd,
        breathe: Callable[[], Awaitable[None]],
        rules: Callable[[], budget.Rules],
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._end = end
        self._breathe = breathe
        self._rules = rules

    async def collect(self, held: Lease, batch: Batch, job: Job, adapter: Adapter) -> None:
        """Fetch what a provider has of an ended job, and end it here once it is whole.

        Raises
        ------
        LeaseLost
            Another process drives the batch now: nothing of what it has was touched.
        """
        if job.mode is Mode.REALTIME:
            await self._collect_here(held, batch, job, adapter)
            return
        downloaded = await self._download(held, job, adapter)
        if downloaded is None:
            return
        job, gone = downloaded
        if gone is not None and job.absences + 1 < self._policy.absences:
            self._end.again(held, job, gone, absences=job.absences + 1)
            return
        if gone is not None or job.fetches >= self._policy.fetches:
            job = await self._join(held, job, adapter)
        try:
            if batch.adopted:
                job, hitch = await self._fetch_requests(held, job, adapter)
                if hitch is not None:
                    self._end.again(held, job, hitch)
                    return
                job = await self._find_rows(held, batch, job, adapter)
            reconciler, parsed = await self._reconcile(batch, job, adapter)
        except Incomplete as error:
            self._fetch_again(held, job, error)
            return
        counts = job.counts
        refused = job.rest is Outcome.FAILED  # as a whole: there will never be lines
        short = counts is not None and not refused and reconciler.came < counts.done + counts.failed
        if counts and short and gone is None and job.fetches < self._policy.fetches:
            if await asyncio.to_thread(self._is_all, job):
                # The last look joins what every download brought, and ends the job.
                job = self._store.note(held, job, fetches=self._policy.fetches)
                await self.collect(held, batch, job, adapter)
                return
            came, all_ = f"{reconciler.came:,}", f"{counts.done + counts.failed:,}"
            words = f"only {came} of {all_} results have arrived, and the others are fetched again"
            partial = f"`%llm_batch results {batch.title} --partial` binds what is there"
            self._fetch_again(held, job, Incomplete(f"{words}; {partial}"))
            return
        reconciler.close(None if short else job.rest, str(gone or job.error or ""))
        event = Event.COLLECTED if gone is None else Event.VANISHED
        sums = await self._sums(job)
        job = self._end.record(held, job, event, reconciler, adapter, sums=sums)
        self._store.recent.keep(job, parsed)

    async def _sums(self, job: Job) -> dict[str, str]:
        """Return by what the files of a job are known from now on."""
        there = (name for name in job.parts if self._end.part(job, name).exists())
        known = {
            name: await asyncio.to_thread(files.checksum, self._end.part(job, name))
            for name in there
        }
        return job.sums | known

    async def _download(
        self, held: Lease, job: Job, adapter: Adapter
    ) -> tuple[Job, Vanished | None] | None:
        """Fetch the parts that are not here; None when one has to be fetched later.

        Returns
        -------
        tuple
            The job, and what the provider said of a part that it has no longer.
        """
        assert job.remote_id is not None
        remote_id = job.remote_id
        gone: Vanished | None = None
        if job.failures:
            # Something did not agree: the provider may know of more parts by now.
            try:
                job = self._refreshed(held, job, await adapter.retrieve(remote_id))
            except Vanished as error:
                gone = error
            except (ProviderError, Incomplete) as error:
                self._end.again(held, job, error)
                return None
        for name, ref in job.parts.items():
            path = self._end.part(job, name)
            if path.exists():
                continue  # complete, since files get their name only when they are whole
            try:
                with files.writing(path) as writer:
                    sink = Limited(writer, path.parent, job.rows)
                    await adapter.fetch(remote_id, name, ref, sink)
                    # Else what another process has would be replaced.
                    self._store.leases.renew(held)
            except Vanished as error:
                gone = error
            except (ProviderError, Incomplete) as error:
                self._end.again(held, job, error)
                return None
        return job, gone

    async def _collect_here(self, held: Lease, batch: Batch, job: Job, adapter: Adapter) -> None:
        """Collect what was asked in real time: everything there is lies here already."""
        folder = self._end.payload(job).parent
        while True:
            past = realtime_log.Past(folder, job)
            self._write_answers(held, job, past)
            reconciler, parsed = await self._reconcile(batch, job, adapter)
            for result in without_line(past, job):
                reconciler.take(result)
            # A process that was frozen and woken may have written an answer meanwhile.
            if realtime_log.Past(folder, job).answered.keys() <= past.answered.keys():
                break
        reconciler.close(job.rest, job.error or "")
        sums = await self._sums(job)
        job = self._end.record(held, job, Event.COLLECTED, reconciler, adapter, sums=sums)
        self._store.recent.keep(job, parsed)
        realtime_log.tidy(folder, job, past.answered)

    def _write_answers(self, held: Lease, job: Job, past: realtime_log.Past) -> None:
        """Make the result lines of a log a file like a batch's."""
        path = self._end.part(job, PART)
        if past.untouched and path.exists():
            return  # the log was lost, the answers were not
        with files.writing(path) as writer:
            for line in past.lines():
                writer.write(line)
            self._store.leases.renew(held)  # else what another process has would be replaced

    async def _join(self, held: Lease, job: Job, adapter: Adapter) -> Job:
        """Make the best of all downloads, since no more is to be had."""
        batch = self._store.batch(job.batch_id)
        elsewhere = batch is not None and batch.adopted
        legible = structured.never_raising(adapter.parse)
        parse = partial(foreign_lines.leniently, legible) if elsewhere else legible
        kept = partial_downloads.names(self._end.payload(job))
        for name in kept:
            await asyncio.to_thread(
                partial_downloads.join,
                self._end.part(job, name),
                lambda line: parse(line, job.endpoint),
                # Else what another process has would be replaced.
                lambda: self._store.leases.renew(held),
            )
        if job.parts.keys() >= {*kept}:
            return job
        return self._store.note(held, job, parts={**dict.fromkeys(kept, ""), **job.parts})

    def _refreshed(self, held: Lease, job: Job, remote: Remote) -> Job:
        """Take up what the provider says now about a job that is being collected."""
        if self._end.is_read_only(job):
            remote = adopt.as_read(remote)
        return self._store.note(
            held,
            job,
            parts=remote.parts,
            rest=remote.rest,
            counts=remote.counts or job.counts,
            error=remote.error,
        )

    async def _reconcile(
        self, batch: Batch, job: Job, adapter: Adapter
    ) -> tuple[Reconciler, Parsed]:
        rows = self._store.job_rows(job.id)
        keys = adopt.read_keys(self._store.pack(batch.id, adopt.KEYS))
        reconciler = Reconciler(
            job,
            rows,
            user_cancelled=batch.cancel_requested,
            keys=keys if batch.adopted else None,
            book=self._rules().book,
            billed=self._end.billed(job),
            here=job.round > 0 or not job.unasked,
        )
        parse = structured.with_schema_check(adapter.parse, batch.recipe.schema)
        if batch.adopted:
            parse = foreign_lines.Lines(parse, job.provider)
        parsed = Parsed()
        broken = 0
        for name in job.parts:
            path = self._end.part(job, name)
            if not path.exists():
                continue
            if job.mode is Mode.BATCH:
                files.check_whole(path)
            for number, line in enumerate(files.lines(path)):
                if number % SLICE == SLICE - 1:
                    await self._breathe()
                result = parse(line, job.endpoint)
                broken += result.outcome is Outcome.FAILED and not files.is_json(line)
                reconciler.take(result)
                parsed.add(result, len(line))
        if broken and job.fetches < self._policy.fetches and job.mode is Mode.BATCH:
            raise Incomplete(f"{broken} lines arrived garbled")
        return reconciler, parsed

    async def _fetch_requests(
        self, held: Lease, job: Job, adapter: Adapter
    ) -> tuple[Job, Exception | None]:
        """Fetch the request lines of what was created elsewhere, where its provider has them.

        Some hand them out again. Without them the answers suffice: they are tried for a moment
        only, and the trouble is returned while another try is worth its wait.
        """
        path = self._end.payload(job)
        if job.round or job.unasked or path.exists():
            return job, None
        if not (job.upload_id and job.remote_id):
            return self._store.note(held, job, unasked=adopt.NOT_HANDED_OUT), None
        given = path.with_suffix(".given")
        hitch: Exception | None = None
        try:
            with files.writing(given) as writer:
                await adapter.fetch(job.remote_id, "requests", job.upload_id, writer)
                self._store.leases.renew(held)
            files.check_whole(given)
        except (ProviderError, Incomplete) as error:
            hitch = error
        if hitch is not None and not isinstance(hitch, Refused) and job.failures < REQUESTS:
            return job, hitch
        if given.exists():
            await asyncio.to_thread(foreign_lines.keep_requests, given, path)
            given.unlink()
            return job, None
        reason = f"its input file could not be read at the provider ({hitch})"
        return self._store.note(held, job, unasked=reason), None

    async def _find_rows(self, held: Lease, batch: Batch, job: Job, adapter: Adapter) -> Job:
        """Learn which rows a batch that was created elsewhere has; more may come to be known."""
        if job.round:
            return job
        paths = [path for name in job.parts if (path := self._end.part(job, name)).exists()]
        for path in paths:
            files.check_whole(path)
        parse = structured.never_raising(adapter.parse)
        find = adopt.find_rows
        return self._end.know_rows(
            held,
            batch,
            job,
            await asyncio.to_thread(find, self._end.payload(job), paths, job, parse),
        )

    def _is_all(self, job: Job) -> bool:
        """Whether an incomplete download brought, byte for byte, what the one before it did."""
        paths = [path for name in job.parts if (path := self._end.part(job, name)).exists()]
        kept = [partial_downloads.of(path)[-1:] for path in paths]
        if not job.failures or self._clock() - job.failing_since < self._policy.same_fetch:
            return False
        return bool(paths) and all(
            before and filecmp.cmp(path, before[0], shallow=False)
            for path, before in zip(paths, kept, strict=True)
        )

    def _fetch_again(self, held: Lease, job: Job, error: Incomplete) -> None:
        self._store.leases.renew(held)  # else the good files of another process would be moved away
        for name in job.parts:
            path = self._end.part(job, name)
            if path.exists():
                partial_downloads.put_aside(path)
        # Counted apart from failures: an outage must not use up the patience for short downloads.
        self._end.again(held, job, error, fetches=job.fetches + 1)


async def no_pause() -> None:
    """Let other tasks of the loop run, nothing more."""
    await asyncio.sleep(0)
