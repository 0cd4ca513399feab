"""One step of one job: the call to the provider, and its outcome in the journal.

Each method does what `lifecycle.next_action` named, once, and records what came of it. A step that
fails for a passing reason says when to try again; nothing here loops or sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from . import adopting, lease, lookup, payloads, rowlog, schemas, spending
from .collecting import Reconciler
from .errors import (
    Busy,
    Incomplete,
    KeyRefused,
    LLMBatchError,
    ProviderError,
    Refused,
    Unclear,
    Undecided,
    UsageProblem,
    Vanished,
    redact,
)
from .lifecycle import Action, Event, Policy
from .models import Account, Batch, Job, Mode, Outcome, Phase, Remote
from .providers.base import Adapter
from .realtime import RealTime, without_line
from .store import Lease, Store

#: A job that is younger than this and not found may just not be visible yet (seconds).
YOUNG = 600.0

#: How often an incomplete download is fetched again before rows count as missing.
FETCHES = 6

#: Seconds that deleting a job's files at the provider may take before they are left there.
TIDYING = 30.0

#: A create that waits in a frozen process goes out when that wakes up, whoever drives the job now.
_FROZEN = (
    "a process that was to send this is frozen or hangs, and may yet send it: end that kernel, "
    "or `%llm_batch resolve NAME` decides"
)

#: How often in a row the provider must not know a job or a file before it counts as gone: with the
#: waits in between some ten minutes, since proxies and gateways in trouble answer 404 as well.
ABSENCES = 8

#: Seconds that deleting what a running job needed may take before it is left to expire.
RELEASING = 30.0

#: Lines decoded between two pauses that let a running cell go on.
SLICE = 200


class Driver:
    """Carries jobs over the wire for whoever holds their batch's lease.

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
        realtime: RealTime,
        rules: Callable[[], spending.Rules],
    ) -> None:
        self._rules = rules
        self._store = store
        self._policy = policy
        self._clock = clock
        self._breathe = breathe
        #: What was created but could not be written down yet, for lack of room.
        self._created: dict[str, Remote] = {}
        #: Since when (monotonic) this process has looked for a create in vain, by its label.
        self._looked: dict[str, float] = {}
        self._realtime = realtime

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
                await self._collect(held, batch, job, adapter)
            case Action.WITHDRAW:
                self._withdraw(held, job)
            case Action.START:
                self._store.apply(
                    held, job, Event.STARTED, submitted_at=self._clock(), account=who,
                    failures=0, error=None, not_before=0.0,
                )  # fmt: skip
            case Action.ASK:
                await self._ask(held, job, adapter, who)

    def payload(self, job: Job) -> Path:
        """Return where the request lines of a job lie."""
        return self._store.folder_of(job.batch_id) / job.payload

    def part(self, job: Job, name: str) -> Path:
        """Return where one part of a job's results lies."""
        return self._store.folder_of(job.batch_id) / f"{Path(job.payload).stem}.{name}.jsonl"

    # -- sending -----------------------------------------------------------------------------------

    async def _upload(self, held: Lease, job: Job, adapter: Adapter, who: Account) -> None:
        if job.upload_id is not None and job.account == who:
            self._store.apply(held, job, Event.UPLOADED, detail="already there")
            return
        path, known = self.payload(job), job.sums.get("request", "")
        harm = await asyncio.to_thread(payloads.harm, path, known, job.bytes)
        if harm:
            reason = (
                f"not sent, because {path.name} {harm}; running the cell again sends these rows"
            )
            self._fail(held, job, Event.REJECTED, reason, damaged=True)
            return
        try:
            upload_id = await adapter.upload(job, self.payload(job))
        except (KeyRefused, Busy, Unclear, Incomplete) as error:
            # An upload buys nothing: it may be repeated whatever became of it.
            self.again(held, job, error)
        except Refused as error:
            self._reject(held, job, error)
        else:
            # Where nothing is uploaded nothing has succeeded: the wait goes on growing.
            done: dict[str, Any] = {"failures": 0, "error": None} if upload_id is not None else {}
            self._store.apply(
                held,
                job,
                Event.UPLOADED,
                upload_id=upload_id,
                sums={"request": known or await asyncio.to_thread(payloads.checksum, path)},
                account=who,
                not_before=0.0,
                **done,
            )

    async def _submit(self, held: Lease, job: Job, adapter: Adapter, who: Account) -> None:
        # The intent is durable before the call, and the fence is checked with it.
        job = self._store.apply(
            held,
            job,
            Event.INTENT,
            attempts=job.attempts + 1,
            submitted_at=self._clock(),
            sender=lease.write(lease.me()),
            account=who,
        )
        try:
            remote = await adapter.create(job, self.payload(job), job.upload_id, _label(job))
        except Vanished as error:
            # The upload is gone, or the model: upload again, but not for ever.
            if job.upload_id is None or job.failures >= FETCHES:
                self._reject(held, job, error)
            else:
                self._not_created(held, job, error, upload_id=None)
        except (KeyRefused, Busy) as error:
            self._not_created(held, job, error)
        except Refused as error:
            self._reject(held, job, error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the job may exist
            self._lose(held, job, redact(str(error)))
        except asyncio.CancelledError:
            self._lose(held, job, "given up while it was sent")
            raise
        else:
            self._created[job.id] = remote
            self._accepted(held, job, Event.ACCEPTED, remote)
            del self._created[job.id]

    def _lose(self, held: Lease, job: Job, detail: str) -> None:
        """Record that our own call has ended without an outcome."""
        self._store.apply(
            held, job, Event.LOST, detail=detail, sender="", error=None, not_before=0.0
        )

    async def _look_up(self, held: Lease, job: Job, adapter: Adapter) -> None:
        if job.id in self._created:
            self._accepted(held, job, Event.FOUND, self._created[job.id])
            del self._created[job.id]
            return
        limits = adapter.limits(job.endpoint)
        sent = job.submitted_at or job.created_at
        others = self._store.remote_ids(job.provider)
        rows = self._store.job_rows(job.id)
        try:
            remote = await lookup.find(adapter, job, rows, others, _label(job), sent)
        except (ProviderError, Incomplete) as error:
            self.again(held, job, error)
            return
        settle = limits.settle if self._policy.settle is None else self._policy.settle
        if remote is not None:
            self._accepted(held, job, Event.FOUND, remote)
        elif lease.may_act(job.sender):
            now = self._clock()
            self._store.note(
                held, job, error=_FROZEN, sender_seen=now, not_before=now + self._policy.poll
            )
        elif self._has_settled(job, settle):
            self._store.apply(held, job, Event.ABSENT, not_before=0.0, error=None, failures=0)
        else:
            wait = min(self._policy.poll, max(settle / 4, 0.05))
            self._store.note(held, job, error=None, not_before=self._clock() + wait)

    def _has_settled(self, job: Job, settle: float) -> bool:
        """Whether a create that is not listed was never made: time has passed by both clocks.

        The clock on the wall may be set, and then a listing had no time at all.
        """
        lost = max(self._lost_at(job), job.sender_seen)
        looked = self._looked.setdefault(_label(job), time.monotonic())
        return self._clock() - lost >= settle and time.monotonic() - looked >= settle

    async def candidates(self, job: Job, adapter: Adapter) -> list[Remote]:
        """Return the remote jobs that a lost create may have made, for the user to decide."""
        sent = job.submitted_at or job.created_at
        others = self._store.remote_ids(job.provider)
        rows = self._store.job_rows(job.id)
        try:
            found = await lookup.find(adapter, job, rows, others, _label(job), sent)
        except Undecided as doubt:
            return list(doubt.candidates)
        return [found] if found else []

    async def decide(self, held: Lease, job: Job, adapter: Adapter, remote_id: str) -> None:
        """Record what the user knows about a lost create: its remote id, or none was made."""
        if not remote_id:
            self._store.apply(
                held, job, Event.ABSENT, detail="the user says so", not_before=0.0, error=None,
                failures=0,
            )  # fmt: skip
            return
        remote = await adapter.retrieve(remote_id)
        if remote_id in self._store.remote_ids(job.provider):
            raise UsageProblem(f"{remote_id} is known already as another job's")
        if remote.size not in {0, job.rows}:
            raise UsageProblem(
                f"{remote_id} has {remote.size:,} rows and this job has {job.rows:,}: it cannot "
                "be what was sent"
            )
        self._accepted(held, job, Event.FOUND, remote)

    def _lost_at(self, job: Job) -> float:
        """Return when the outcome of the last create was lost: a long upload settles nothing."""
        events = self._store.events(job.batch_id)
        return max(
            float(event["at"])
            for event in events
            if event["job_id"] == job.id and event["event"] == Event.LOST
        )

    def _accepted(self, held: Lease, job: Job, event: Event, remote: Remote) -> None:
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
            failures=0,
            error=None,
            not_before=self._clock() + self._policy.poll_wait(0.0, remote.poll_after),
        )

    def _not_created(self, held: Lease, job: Job, error: ProviderError, **changes: Any) -> None:
        self._store.apply(
            held,
            job,
            Event.NOT_CREATED,
            detail=str(error),
            **self._waiting(job, error),
            **changes,
        )

    # -- while it runs -----------------------------------------------------------------------------

    async def _ask(self, held: Lease, job: Job, adapter: Adapter, who: Account) -> None:
        try:
            job, trouble = await self._realtime.run(held, job, adapter, who, self.payload(job))
        except Refused as error:
            self._fail(held, job, Event.INVALID, str(error))
        else:
            if trouble is not None:
                self.again(held, job, trouble)

    async def _poll(self, held: Lease, job: Job, adapter: Adapter) -> None:
        assert job.remote_id is not None
        try:
            remote = await adapter.retrieve(job.remote_id)
        except Vanished as error:
            young = self._clock() - (job.submitted_at or 0.0) < YOUNG
            if young or job.absences + 1 < ABSENCES:
                self.again(held, job, error, absences=job.absences + 1)
            else:
                self._vanish(held, job, error)
        except (ProviderError, Incomplete) as error:
            self.again(held, job, error)
        else:
            self.saw(held, job, remote)

    def saw(self, held: Lease, job: Job, remote: Remote) -> None:
        """Record what the provider says about a running job."""
        now = self._clock()
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
                    ended_at=now,
                    not_before=0.0,
                    **seen,
                )
            case Phase.FAILED:
                self._fail(held, job, Event.INVALID, remote.error or remote.state, **seen)
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
                wait = self._policy.poll_wait(age, remote.poll_after)
                self._store.note(held, job, not_before=now + wait, **seen)

    async def _cancel(self, held: Lease, job: Job, adapter: Adapter) -> None:
        assert job.remote_id is not None
        try:
            await adapter.cancel(job.remote_id)
        except (KeyRefused, Busy, Unclear) as error:
            self.again(held, job, error)
            return
        except Refused:
            pass  # too late to cancel, or gone: the next poll says which
        self._store.note(held, job, cancel_sent=True, failures=0, not_before=0.0)

    def _withdraw(self, held: Lease, job: Job) -> None:
        self._settle(held, job, Event.WITHDRAWN, Outcome.CANCELLED, "cancelled before it was sent")

    # -- the end -----------------------------------------------------------------------------------

    async def _collect(self, held: Lease, batch: Batch, job: Job, adapter: Adapter) -> None:
        if job.mode is Mode.REALTIME:
            await self._collect_here(held, batch, job, adapter)
            return
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
                return
        for name, ref in job.parts.items():
            path = self.part(job, name)
            if path.exists():
                continue  # complete, since files get their name only when they are whole
            try:
                with payloads.writing(path) as writer:
                    await adapter.fetch(remote_id, name, ref, writer)
                    self._store.renew(held)  # else what another process has would be replaced
            except Vanished as error:
                gone = error
            except (ProviderError, Incomplete) as error:
                self.again(held, job, error)
                return
        if gone is not None and job.absences + 1 < ABSENCES:
            self.again(held, job, gone, absences=job.absences + 1)
            return
        try:
            if batch.adopted:
                job = await self._find_rows(held, batch, job, adapter)
            reconciler = await self._reconcile(batch, job, adapter)
        except Incomplete as error:
            self._fetch_again(held, job, error)
            return
        counts = job.counts
        short = counts is not None and reconciler.seen < counts.done + counts.failed
        if short and gone is None and job.fetches < FETCHES:
            self._fetch_again(held, job, Incomplete("fewer lines than the provider counted"))
            return
        reconciler.close(None if short else job.rest, str(gone or job.error or ""))
        event = Event.COLLECTED if gone is None else Event.VANISHED
        sums = dict(job.sums)
        for name in job.parts:
            if self.part(job, name).exists():
                sums[name] = await asyncio.to_thread(payloads.checksum, self.part(job, name))
        self._record(held, job, event, reconciler, adapter, sums=sums)

    async def _collect_here(self, held: Lease, batch: Batch, job: Job, adapter: Adapter) -> None:
        """Collect what was asked in real time: everything there is lies here already."""
        reconciler = await self._reconcile(batch, job, adapter)
        for result in without_line(self.payload(job).parent, job):
            reconciler.take(result)
        reconciler.close(job.rest)
        sums = dict(job.sums)
        for name in job.parts:
            sums[name] = await asyncio.to_thread(payloads.checksum, self.part(job, name))
        self._record(held, job, Event.COLLECTED, reconciler, adapter, sums=sums)
        rowlog.tidy(self.payload(job).parent, job)

    def _refreshed(self, held: Lease, job: Job, remote: Remote) -> Job:
        """Take up what the provider says now about a job that is being collected."""
        return self._store.note(
            held,
            job,
            parts=remote.parts,
            rest=remote.rest,
            counts=remote.counts or job.counts,
            error=remote.error,
        )

    async def _reconcile(self, batch: Batch, job: Job, adapter: Adapter) -> Reconciler:
        rows = self._store.job_rows(job.id)
        keys = adopting.read_keys(self._store.pack(batch.id, adopting.KEYS))
        reconciler = Reconciler(
            job,
            rows,
            user_cancelled=batch.cancel_requested,
            keys=keys if batch.adopted else None,
            book=self._rules().book,
        )
        parse = schemas.checked(adapter.parse, batch.recipe.schema)
        broken = 0
        for name in job.parts:
            path = self.part(job, name)
            if not path.exists():
                continue
            payloads.check_whole(path)
            for number, line in enumerate(payloads.lines(path)):
                if number % SLICE == SLICE - 1:
                    await self._breathe()
                result = parse(line, job.endpoint)
                broken += result.outcome is Outcome.FAILED and not payloads.is_json(line)
                reconciler.take(result)
        if broken and job.fetches < FETCHES:
            raise Incomplete(f"{broken} lines arrived garbled")
        return reconciler

    async def _find_rows(self, held: Lease, batch: Batch, job: Job, adapter: Adapter) -> Job:
        """Learn which rows a batch that was created elsewhere has."""
        if job.round or self._store.pack(batch.id, adopting.KEYS):
            return job
        requests = self.payload(job)
        if job.upload_id and job.remote_id and not requests.exists():
            # Some providers hand the requests out again; without them the answers suffice.
            with contextlib.suppress(Refused):
                with payloads.writing(requests) as writer:
                    await adapter.fetch(job.remote_id, "requests", job.upload_id, writer)
                adopting.check_requests(requests)
        paths = [path for name in job.parts if (path := self.part(job, name)).exists()]
        for path in paths:
            payloads.check_whole(path)
        try:
            keys, rows = adopting.find_rows(
                requests, paths, lambda line: adapter.parse(line, job.endpoint)
            )
        except UnicodeDecodeError as error:
            raise Incomplete("the results arrived garbled") from error
        adopting.write_keys(keys, self._store.folder_of(batch.id))
        packs = adopting.packs(len(keys)) | {adopting.KEYS: msgspec.json.encode(keys)}
        return self._store.know_rows(held, job, rows, packs)

    def _fetch_again(self, held: Lease, job: Job, error: Incomplete) -> None:
        self._store.renew(held)  # else the good files of another process would be moved away
        for name in job.parts:
            path = self.part(job, name)
            if path.exists():  # kept, since what is in it was paid for
                path.replace(path.with_suffix(f".incomplete{job.fetches}"))
        # Counted apart from failures: an outage must not use up the patience for short downloads.
        self.again(held, self._store.note(held, job, fetches=job.fetches + 1), error)

    def _vanish(self, held: Lease, job: Job, error: Vanished) -> None:
        self._settle(held, job, Event.VANISHED, None, str(error))

    def _reject(self, held: Lease, job: Job, error: Refused) -> None:
        self._fail(held, job, Event.REJECTED, str(error))

    def _fail(self, held: Lease, job: Job, event: Event, reason: str, **changes: Any) -> None:
        self._settle(held, job, event, Outcome.FAILED, reason, **{**changes, "error": reason})

    def _settle(
        self,
        held: Lease,
        job: Job,
        event: Event,
        outcome: Outcome | None,
        reason: str,
        **changes: Any,
    ) -> None:
        """End a job whose rows all have the same outcome (None: missing)."""
        reconciler = Reconciler(
            job, self._store.job_rows(job.id), user_cancelled=True, book=self._rules().book
        )
        if outcome is None:
            reconciler.close(None, reason)
        else:
            reconciler.fail(outcome, reason)
        changes.setdefault("error", reason)
        self._record(held, job, event, reconciler, None, **changes)

    def _record(
        self,
        held: Lease,
        job: Job,
        event: Event,
        reconciler: Reconciler,
        adapter: Adapter | None,
        **changes: Any,
    ) -> None:
        """Write the job's end and its rows' outcomes in one transaction."""
        outcomes = bytearray(self._store.pack(job.batch_id, "outcomes"))
        owners = bytearray(self._store.pack(job.batch_id, "owners"))
        for row, code in reconciler.codes.items():
            outcomes[row] = code
            struct.pack_into("<I", owners, 4 * row, job.number)
        cost = reconciler.total_cost()
        batch = self._store.batch(job.batch_id)
        spends = (
            spending.of_job(batch, job, reconciler, self._rules(), self._clock()) if batch else []
        )
        detail = f"{reconciler.seen} rows"
        if reconciler.strange:
            detail += f", {reconciler.strange} lines of unknown or repeated rows"
        self._store.apply(
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
            for row, line in zip(rows, payloads.lines(self.payload(job)), strict=False):
                if row in wanted:
                    found[row] = adapter.prompt_of(line)
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
                async with asyncio.timeout(TIDYING):
                    await adapter.forget(job)
                tidied = "deleted"
            except Exception as error:  # noqa: BLE001 - the answers are here, whatever it is
                tidied = f"kept: {redact(str(error)) or type(error).__name__}"
        self._store.note(held, job, tidied=tidied)

    async def release(self, held: Lease, job: Job, adapter: Adapter) -> None:
        """Have the provider drop what only a running job needs; once, since it expires anyway."""
        cost = None
        with contextlib.suppress(Exception):
            async with asyncio.timeout(RELEASING):
                cost = await adapter.release(job)
        changes: dict[str, Any] = {"released": True}
        if cost is not None and job.cost is not None and job.saved is not None:
            changes["cost"] = str(Decimal(job.cost) + cost)
            changes["saved"] = str(Decimal(job.saved) - cost)
        self._store.note(held, job, **changes)

    # -- waits -------------------------------------------------------------------------------------

    def _waiting(self, job: Job, error: LLMBatchError) -> dict[str, Any]:
        failures = job.failures + 1
        asked = error.retry_after if isinstance(error, ProviderError) else None
        return {
            "failures": failures,
            "error": str(error),
            "not_before": self._clock() + self._policy.retry_wait(failures, asked),
        }

    def again(self, held: Lease, job: Job, error: LLMBatchError, **changes: Any) -> None:
        """Record a step that failed for a passing reason, and when to repeat it."""
        self._store.note(held, job, **self._waiting(job, error), **changes)


def _label(job: Job) -> str:
    """Return the mark under which this attempt to create can be found again."""
    return f"{job.id}-a{job.attempts}"


async def no_pause() -> None:
    """Let other tasks of the loop run, nothing more."""
    await asyncio.sleep(0)
