"""The end of a job: its results are fetched, counted off against its rows, and written down.

What is incomplete is fetched again, what was paid for is kept whatever it looks like, and the end
and the outcomes of all rows stand in the journal in one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import struct
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..core import trouble
from ..core.batch import Batch
from ..core.errors import Incomplete, ProviderError, Refused, Vanished
from ..core.ids import Ranges
from ..core.job import Job, Remote
from ..core.lifecycle import Event
from ..core.policy import Policy
from ..core.request import Mode
from ..core.result import Outcome
from ..core.row_codes import outcome_of, row_code
from ..costs import budget
from ..data import structured
from ..providers.base import Adapter
from ..providers.shared import foreign_lines
from ..storage import files, partial_downloads, realtime_log
from ..storage.download_limit import Limited
from ..storage.parsed_cache import Parsed
from ..storage.records import Lease
from ..storage.store import Store
from ..submission import adopt, retry
from . import booking
from .realtime import PART, without_line
from .reconcile import Reconciler

#: How often the requests of what was created elsewhere are tried again before answers go ahead.
REQUESTS = 2

#: Lines decoded between two pauses that let a running cell go on.
SLICE = 200


class Ends:
    """Brings jobs to their end for whoever holds their batch's lease.

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
        breathe: Callable[[], Awaitable[None]],
        rules: Callable[[], budget.Rules],
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._breathe = breathe
        self._rules = rules

    def payload(self, job: Job) -> Path:
        """Return where the request lines of a job lie."""
        return self._store.folder_of(job.batch_id) / job.payload

    def part(self, job: Job, name: str) -> Path:
        """Return where one part of a job's results lies."""
        return self._store.folder_of(job.batch_id) / f"{Path(job.payload).stem}.{name}.jsonl"

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
            self.again(held, job, gone, absences=job.absences + 1)
            return
        if gone is not None or job.fetches >= self._policy.fetches:
            job = await self._join(held, job, adapter)
        try:
            if batch.adopted:
                job, hitch = await self._fetch_requests(held, job, adapter)
                if hitch is not None:
                    self.again(held, job, hitch)
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
        job = self._record(held, job, event, reconciler, adapter, sums=sums)
        self._store.recent.keep(job, parsed)

    async def _sums(self, job: Job) -> dict[str, str]:
        """Return by what the files of a job are known from now on."""
        there = (name for name in job.parts if self.part(job, name).exists())
        known = {
            name: await asyncio.to_thread(files.checksum, self.part(job, name)) for name in there
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
                self.again(held, job, error)
                return None
        for name, ref in job.parts.items():
            path = self.part(job, name)
            if path.exists():
                continue  # complete, since files get their name only when they are whole
            try:
                with files.writing(path) as writer:
                    sink = Limited(writer, path.parent, job.rows)
                    await adapter.fetch(remote_id, name, ref, sink)
                    self._store.leases.renew(
                        held
                    )  # else what another process has would be replaced
            except Vanished as error:
                gone = error
            except (ProviderError, Incomplete) as error:
                self.again(held, job, error)
                return None
        return job, gone

    async def _collect_here(self, held: Lease, batch: Batch, job: Job, adapter: Adapter) -> None:
        """Collect what was asked in real time: everything there is lies here already."""
        folder = self.payload(job).parent
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
        job = self._record(held, job, Event.COLLECTED, reconciler, adapter, sums=sums)
        self._store.recent.keep(job, parsed)
        realtime_log.tidy(folder, job, past.answered)

    def _write_answers(self, held: Lease, job: Job, past: realtime_log.Past) -> None:
        """Make the result lines of a log a file like a batch's."""
        path = self.part(job, PART)
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
        kept = partial_downloads.names(self.payload(job))
        for name in kept:
            await asyncio.to_thread(
                partial_downloads.join,
                self.part(job, name),
                lambda line: parse(line, job.endpoint),
                lambda: self._store.leases.renew(
                    held
                ),  # else what another process has would be replaced
            )
        if job.parts.keys() >= {*kept}:
            return job
        return self._store.note(held, job, parts={**dict.fromkeys(kept, ""), **job.parts})

    def _refreshed(self, held: Lease, job: Job, remote: Remote) -> Job:
        """Take up what the provider says now about a job that is being collected."""
        if self.is_read_only(job):
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
            billed=self._billed(job),
            here=job.round > 0 or not job.unasked,
        )
        parse = structured.with_schema_check(adapter.parse, batch.recipe.schema)
        if batch.adopted:
            parse = foreign_lines.Lines(parse, job.provider)
        parsed = Parsed()
        broken = 0
        for name in job.parts:
            path = self.part(job, name)
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
        path = self.payload(job)
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
        paths = [path for name in job.parts if (path := self.part(job, name)).exists()]
        for path in paths:
            files.check_whole(path)
        parse = structured.never_raising(adapter.parse)
        find = adopt.find_rows
        return self._know_rows(
            held, batch, job, await asyncio.to_thread(find, self.payload(job), paths, job, parse)
        )

    def _know_rows(self, held: Lease, batch: Batch, job: Job, found: adopt.Rows) -> Job:
        adopt.write_keys(found.keys, self._store.folder_of(batch.id))
        packs = adopt.packs(len(found.keys)) | {adopt.KEYS: msgspec.json.encode(found.keys)}
        of_job, of_batch = adopt.about(batch, job, found)
        return self._store.know_rows(held, job, found.rows, packs, of_batch, **of_job)

    def _is_all(self, job: Job) -> bool:
        """Whether an incomplete download brought, byte for byte, what the one before it did."""
        paths = [path for name in job.parts if (path := self.part(job, name)).exists()]
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
            path = self.part(job, name)
            if path.exists():
                partial_downloads.put_aside(path)
        # Counted apart from failures: an outage must not use up the patience for short downloads.
        self.again(held, job, error, fetches=job.fetches + 1)

    def vanish(self, held: Lease, job: Job, error: Vanished) -> None:
        """End a job that the provider does not know any more."""
        self.settle(held, job, Event.VANISHED, None, str(error))

    def fail(self, held: Lease, job: Job, event: Event, reason: str, **changes: Any) -> None:
        """End a job that was refused or went wrong as a whole: all its rows failed."""
        self.settle(held, job, event, Outcome.FAILED, reason, **{**changes, "error": reason})

    def settle(
        self,
        held: Lease,
        job: Job,
        event: Event,
        outcome: Outcome | None,
        reason: str,
        **changes: Any,
    ) -> None:
        """End a job whose rows all have the same outcome (None: missing)."""
        batch = self._store.batch(job.batch_id)
        if batch is not None and batch.adopted and not job.round:
            job = self._know_rows(held, batch, job, adopt.find_rows(self.payload(job), (), job))
        reconciler = Reconciler(
            job,
            self._store.job_rows(job.id),
            user_cancelled=True,
            book=self._rules().book,
            billed=self._billed(job),
            here=job.round > 0 or not job.unasked,
        )
        if outcome is None:
            reconciler.close(None, reason)
        else:
            reconciler.fail(outcome, reason)
        changes.setdefault("error", reason)
        self._record(held, job, event, reconciler, None, **changes)

    def is_read_only(self, job: Job) -> bool:
        """Whether a job was created elsewhere; what a retry sent of it was not."""
        batch = self._store.batch(job.batch_id) if job.round == 0 else None
        return batch is not None and batch.adopted

    def know_size(self, held: Lease, job: Job, remote: Remote) -> Job:
        """Note how many rows a job that was created elsewhere has, once they are counted."""
        if remote.size in {0, job.rows}:
            return job
        rows, packs = Ranges([(0, remote.size)]), adopt.packs(remote.size)
        return self._store.know_rows(held, job, rows, packs, {})

    def _billed(self, job: Job) -> set[int]:
        """Return the rows of a job of which an earlier attempt may have been billed."""
        packed = self._store.pack(job.batch_id, retry.BILLED)
        return {row for row in self._store.job_rows(job.id) if packed[row]} if packed else set()

    def _record(
        self,
        held: Lease,
        job: Job,
        event: Event,
        reconciler: Reconciler,
        adapter: Adapter | None,
        **changes: Any,
    ) -> Job:
        """Write the job's end and its rows' outcomes in one transaction."""
        outcomes = bytearray(self._store.pack(job.batch_id, "outcomes"))
        owners = bytearray(self._store.pack(job.batch_id, "owners"))
        kept = self._store.pack(job.batch_id, retry.BILLED) or bytes(len(outcomes))
        for row, code in reconciler.codes.items():
            if outcome_of(code) is not Outcome.OK and kept[row] & retry.CUT_BEFORE:
                # It was sent again since its answer was cut; that is still better than none.
                outcomes[row] = row_code(Outcome.OK, billed=True, cut=True)
                continue
            outcomes[row] = code
            struct.pack_into("<I", owners, 4 * row, job.number)
        cost = reconciler.total_cost()
        batch = self._store.batch(job.batch_id)
        spends = (
            booking.of_job(batch, job, reconciler, self._rules(), self._clock()) if batch else []
        )
        detail = f"{reconciler.seen} rows"
        if reconciler.strange:
            detail += f", {reconciler.strange} lines of unknown or repeated rows"
        return self._store.apply(
            held,
            job,
            event,
            detail=detail,
            packs={"outcomes": bytes(outcomes), "owners": bytes(owners)},
            spends=spends,
            tally=reconciler.tally(),
            usage=reconciler.total_usage(),
            cost=str(cost.batch) if cost else None,
            saved=str(cost.saved) if cost else None,
            kinds=reconciler.kinds(),
            unassigned=reconciler.unassigned,
            samples=reconciler.sample_rows(self._prompts(job, reconciler, adapter)),
            **changes,
        )

    def _prompts(self, job: Job, reconciler: Reconciler, adapter: Adapter | None) -> dict[int, str]:
        wanted = {row for row, _ in reconciler.samples}
        if adapter is None or not wanted or not self.payload(job).exists():
            return {}
        found: dict[int, str] = {}
        rows = iter(self._store.job_rows(job.id))
        with contextlib.suppress(OSError):  # samples are a courtesy, answers are not
            for row, line in zip(rows, files.lines(self.payload(job)), strict=False):
                if row in wanted:
                    try:
                        found[row] = adapter.prompt_of(line)
                    except Exception:  # noqa: BLE001 - a request of others may be anything
                        found[row] = line[:1000].decode(errors="replace")
                    if len(found) == len(wanted):
                        break
        return found

    async def tidy(self, held: Lease, job: Job, adapter: Adapter) -> None:
        """Have the provider delete a job's files; only after all its rows came back, and once.

        What cannot be deleted stays there until it expires, which harms nothing but is noted.
        """
        tidied = "kept: some of its rows never came back"
        if not {Outcome.MISSING.value} & job.tally.keys():
            try:
                async with asyncio.timeout(self._policy.tidying):
                    await adapter.forget(job)
                tidied = "deleted"
            except Exception as error:  # noqa: BLE001 - the answers are here, whatever it is
                if trouble.is_defect(error):
                    trouble.report_defect(
                        error, f"deleting the files of job {job.id} at the provider"
                    )
                tidied = f"kept: {trouble.describe_error(error)}"
        self._store.note(held, job, tidied=tidied)

    async def release(self, held: Lease, job: Job, adapter: Adapter) -> None:
        """Have the provider drop what only a running job needs; once, since it expires anyway."""
        cost = None
        try:
            async with asyncio.timeout(self._policy.tidying):
                cost = await adapter.release(job)
        except Exception as error:  # noqa: BLE001 - it expires anyway
            if trouble.is_defect(error):
                trouble.report_defect(
                    error, f"releasing what job {job.id} has stored at the provider"
                )
        changes: dict[str, Any] = {"released": True}
        if cost is not None and job.cost is not None:
            changes["cost"] = str(Decimal(job.cost) + cost)
        batch = self._store.batch(job.batch_id)
        spends = []
        if cost is not None and batch is not None:
            spends = [booking.of_cache(batch, job, cost, self._clock())]
        self._store.note(held, job, spends=spends, **changes)

    # -- waits -------------------------------------------------------------------------------------

    def waiting(self, job: Job, error: Exception) -> dict[str, Any]:
        """Return what a job's record says after a step that failed and is to be repeated."""
        failures = job.failures + 1
        asked = error.retry_after if isinstance(error, ProviderError) else None
        stopped = trouble.is_lasting(error)
        wait = self._policy.retry_wait(failures, asked)
        if stopped:
            wait = max(self._policy.recheck_wait(failures), asked or 0.0)
        now = self._clock()
        return {
            "failures": failures,
            "failing_since": job.failing_since if job.failures else now,
            "stopped": stopped,
            "error": trouble.describe_error(error),
            "not_before": now + wait,
            "asked_until": now + asked if asked else job.asked_until,
        }

    def again(self, held: Lease, job: Job, error: Exception, **changes: Any) -> None:
        """Record a step that failed, why, and when to repeat it."""
        self._store.note(held, job, **self.waiting(job, error), **changes)


async def no_pause() -> None:
    """Let other tasks of the loop run, nothing more."""
    await asyncio.sleep(0)
