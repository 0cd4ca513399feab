"""Carries every unfinished batch through its life: asks what is due, has it done, waits.

One task on the background loop. It holds the leases, starts at most one step per job at a time,
asks for many running jobs with one listing, opens retry rounds, and tells listeners what changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from typing import NamedTuple

import msgspec

from ..core import trouble
from ..core.batch import Batch
from ..core.errors import (
    Busy,
    Damaged,
    LeaseLost,
    LLMBatchError,
    ProviderError,
    StoreProblem,
    UsageProblem,
)
from ..core.job import Job, JobState, Remote
from ..core.lifecycle import (
    TERMINAL,
    Action,
    grouped_poll_time,
    has_stopped,
    is_cancelled,
    next_action,
    waits_for_sample,
    waits_for_user,
    waits_until,
)
from ..core.policy import Policy
from ..core.request import Limits, Mode
from ..core.row_codes import WAITING, rows_to_finish, rows_to_reask, rows_to_repeat
from ..costs import budget, remaining
from ..costs.prices import PriceBook
from ..providers.base import Adapter
from ..storage import process
from ..storage.records import Lease
from ..storage.store import Store, is_over
from ..submission import inherit, notify_target
from ..submission import retry as rounds
from . import duplicates, lookup, notify
from .collect import Ends, no_pause
from .key_rotation import Rotation
from .realtime import RealTime
from .status.views import Listener, Views
from .steps import Driver
from .waits import Waits

#: From this many running jobs of a provider on, one listing is asked instead of each job.
LISTING_FROM = 2
_log = logging.getLogger(__name__)


class _Poll(NamedTuple):
    """A running job, and from when on it is to be asked about (Unix seconds)."""

    due: float
    held: Lease
    batch: Batch
    job: Job


class Poller:
    """Drives the unfinished batches of one notebook.

    Parameters
    ----------
    adapters
        Returns the adapter of a provider under the present keys; `UsageProblem` without a key.
    notebook
        Whose batches are driven; others are driven after `follow`.
    listen
        Called on the background thread with every new snapshot; must return at once.
    """

    def __init__(
        self,
        store: Store,
        adapters: Callable[[str], Adapter],
        *,
        policy: Policy,
        clock: Callable[[], float],
        notebook: str,
        listen: Listener,
        breathe: Callable[[], Awaitable[None]] = no_pause,
        rules: Callable[[], budget.Rules] = lambda: budget.Rules(book=PriceBook()),
    ) -> None:
        self._store = store
        self._adapters = adapters
        self.policy = policy
        self._clock = clock
        self._notebook = notebook
        self._rules = rules
        self._leases: dict[str, Lease] = {}
        self._rotation = Rotation(store, policy)
        self._views = Views(store, adapters, clock, rules, self._leases, listen, self._rotation)
        #: What a panel may know about a batch now.
        self.snapshot = self._views.snapshot
        self._realtime = RealTime(store, policy, clock, self._views.publish_id)
        self._ends = Ends(store, policy, clock, breathe, rules)
        self._driver = Driver(store, policy, clock, self._ends, self._realtime)
        self._salt = store.salt()
        #: One kernel may hold two clients of a journal; they are as separate as two kernels.
        self.owner = msgspec.structs.replace(process.me(), nonce=secrets.token_hex(4))
        self._beats: dict[str, float] = {}
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._waits = Waits(policy)
        self._fatal: BaseException | None = None
        self._followed: set[str] = set()
        self._watched: set[str] = set()
        self._watched_at = float("-inf")
        self._waiters: dict[str, asyncio.Event] = {}
        self._woken = asyncio.Event()
        self._creates: dict[str, asyncio.Lock] = {}
        self._notices: set[asyncio.Task[None]] = set()
        self._questions: set[asyncio.Task[None]] = set()
        self._stopping = False

    # -- asked from outside, on the loop -----------------------------------------------------------

    def wake(self) -> None:
        """Look at everything now."""
        self._woken.set()

    def follow(self, batch_id: str) -> None:
        """Drive this batch too, whatever notebook it is of."""
        self._followed.add(batch_id)
        self.wake()

    def take_up(self, batch_id: str) -> None:
        """Drive this batch, and try at once what has stopped: the user has asked for it."""
        self._waits.take_up(batch_id, *(job.id for job in self._store.jobs(batch_id)))
        self._views.troubles.pop(batch_id, None)
        self.follow(batch_id)

    def watch(self, batch_id: str) -> None:
        """Tell listeners how this batch stands without ever driving it: somebody else may."""
        self._watched.add(batch_id)
        self.wake()

    async def finished(self, batch_id: str) -> None:
        """Return when every row of the batch has its outcome, or waits for the user."""
        if self._fatal is not None:
            raise self._fatal
        batch = self._store.batch(batch_id)
        if batch is None or batch.finished_at is not None:
            return
        if self._waits_for_user(batch, self._store.jobs(batch_id)):
            return
        self.follow(batch_id)
        await self._waiters.setdefault(batch_id, asyncio.Event()).wait()
        if self._fatal is not None:
            raise self._fatal

    async def refresh(self, batch_id: str) -> None:
        """Ask the provider about the batch's running jobs now.

        A job whose provider asked to be left alone for a while is asked about after that.
        """
        held = self._leases.get(batch_id)
        if held is not None:
            for job in self._store.jobs(batch_id):
                if job.state is JobState.RUNNING and job.id not in self._steps:
                    self._store.note(held, job, not_before=0.0)
        self.take_up(batch_id)
        self._views.publish_id(batch_id)

    async def retry(self, batch_id: str, *, unbilled: bool = False) -> int:
        """Send the rows of an ended batch that have no answer again; return how many.

        With `unbilled` only those that were certainly not billed.
        """
        batch = self._ended_batch(batch_id)
        # Known before the batch is unfinished again, so that nobody here takes it a second time.
        held = self._acquire(batch_id)
        if held is None:
            raise UsageProblem(f"{batch.title} is driven by another process: retry it there")
        count = 0
        try:
            batch = self._ended_batch(batch_id)  # another process may have done it meanwhile
            count = await asyncio.to_thread(self._retry, held, batch, unbilled=unbilled)
        finally:
            if not count:
                self._give_back(batch_id)
        self.follow(batch_id)
        return count

    def _ended_batch(self, batch_id: str) -> Batch:
        batch = self._store.batch(batch_id)
        if batch is None:
            raise UsageProblem("the batch was forgotten meanwhile")
        if batch.finished_at is None:
            raise UsageProblem(f"{batch.title} is still under way: wait, or cancel it first")
        return batch

    async def lost(self, batch_id: str) -> list[tuple[Job, list[Remote]]]:
        """Return the jobs whose creation is not decided, with the remote jobs each may be."""
        return [
            (job, await self._driver.candidates(job, self._adapters(job.provider)))
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
        async with self._driving(batch_id, "decide") as held:
            for job in self._store.jobs(batch_id):
                job = await self._idle(job)  # noqa: PLW2901 - as it stands once nothing goes on
                if job.state is not JobState.UNKNOWN:
                    continue
                adapter = self._adapters(job.provider)
                # A step like every other: no look-up begins meanwhile and writes over it.
                deed = self._driver.decide(held, job, adapter, remote_id)
                await self._launch(job.id, batch_id, deed)
                self.follow(batch_id)
                return job
        raise UsageProblem("nothing is undecided: every submission has a known outcome")

    async def once(self, batch_ids: Sequence[str]) -> None:
        """Do what is due for these batches, ask about running jobs, and return when it is done."""
        for batch_id in batch_ids:
            self.follow(batch_id)
        self._look_around()
        for batch_id in batch_ids:
            held = self._leases.get(batch_id)
            for job in self._store.jobs(batch_id) if held else []:
                if job.state is JobState.RUNNING and not job.failures and job.id not in self._steps:
                    assert held is not None
                    self._store.note(held, job, not_before=0.0)
        while not self._stopping:
            self._look_around()
            if not any(self._moving(batch_id) for batch_id in batch_ids):
                return
            await asyncio.sleep(0.02)

    def _moving(self, batch_id: str) -> bool:
        """Whether something of a batch is under way here or due now."""
        batch = self._store.batch(batch_id)
        if batch is None or batch.finished_at is not None or batch_id not in self._leases:
            return False
        now, jobs = self._clock(), self._store.jobs(batch_id)
        for job in jobs:
            if job.id in self._steps:
                return True
            cancel = is_cancelled(batch, job)
            todo = next_action(job, cancel=cancel)
            held_back = waits_until(job, jobs) > now or waits_for_sample(batch, job)
            due = todo is not None and not self._left(job, todo[1]) and (cancel or not held_back)
            if due and not self._views.pause(job, cancel=cancel):
                return True
        return False

    async def stop(self) -> None:
        """End politely: calls under way get a moment, leases are given back, batches go on."""
        self._stopping = self._realtime.stopping = True
        self.wake()
        if under_way := [*self._steps.values(), *self._notices, *self._questions]:
            await asyncio.wait(under_way, timeout=3.0)
        left = [*self._steps.values(), *self._questions]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
        for held in self._leases.values():
            with contextlib.suppress(LLMBatchError):
                self._store.leases.release(held)
        self._leases.clear()

    # -- the loop ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive until `stop`."""
        try:
            for batch_id in self._store.events.unnotified(self._clock() - self.policy.remember):
                self._notify(batch_id)  # whoever ended these died before telling it
        except Exception as error:  # noqa: BLE001 - a notice is no reason not to drive
            self._journal_failed(error)
        while not self._stopping:
            self._woken.clear()
            try:
                wake_at = self._look_around()
                self._views.journal_works()
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever it meets
                self._journal_failed(error)
                wake_at = self._clock() + min(self.policy.sleep, self.policy.retry_longest)
            pause = min(max(wake_at - self._clock(), 0.01), self.policy.sleep)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)

    def _look_around(self) -> float:
        """Start everything that is due; return when the next thing will be (Unix seconds)."""
        wake_at = self._clock() + self.policy.sleep
        polls: dict[str, list[_Poll]] = {}
        for batch in self._unfinished():
            if left := self._waits.resting(batch.id):
                wake_at = min(wake_at, self._clock() + left)
                if self._waits.has_given_up(batch.id):
                    self._wake_waiters(batch.id)
                continue
            try:
                wake_at = min(wake_at, self._look_at(batch, polls))
                self._waits.went_well(batch.id)
                if not self._is_failing(batch):
                    self._views.troubles.pop(batch.id, None)
            except StoreProblem as problem:
                if not isinstance(problem, Damaged):
                    raise  # the journal cannot be used, for no batch
                self._views.trouble(batch.id, problem)
            except Exception as error:  # noqa: BLE001 - the others go on, and this is tried again
                if trouble.is_defect(error):
                    self._met_defect(error, f"looking at batch {batch.id}", batch.id, batch.id)
                self._views.trouble(batch.id, error)
        for provider, entries in polls.items():
            wake_at = min(wake_at, self._start_polls(provider, entries))
        return min(wake_at, self._watch_others(self._clock()))

    def _is_failing(self, batch: Batch) -> bool:
        """Whether the last step of a job failed here, and that may not be in the journal."""
        jobs = self._store.jobs(batch.id)
        return any(self._waits.is_failing(job.id) for job in jobs if job.state not in TERMINAL)

    def _look_at(self, batch: Batch, polls: dict[str, list[_Poll]]) -> float:
        """Start what is due for a batch; return when the next thing will be (Unix seconds)."""
        now = self._clock()
        wake_at = now + self.policy.sleep
        free = batch.id not in self._leases
        held = None
        if not (free and self._stuck(batch, self._store.jobs(batch.id))):
            held, batch = self._hold(batch)
        if held is not None and batch.finished_at is not None:
            self._give_back(batch.id)
            self._followed.add(batch.id)  # whoever waits for it here is told
            return now
        jobs = self._store.jobs(batch.id)
        if self._waits_for_user(batch, jobs):
            self._wake_waiters(batch.id)
        if held is None:
            self._views.publish(batch)  # somebody else drives it, or may have its key: watch
            return wake_at
        try:
            if self._stuck(batch, jobs):
                self._give_back(batch.id)
                self._views.publish(batch)
                self._wake_waiters(batch.id)
                return wake_at
            jobs = [self._renewed(held, job) for job in jobs]
            self._release(held, batch, jobs)
            batch = self._deadline(batch, jobs)
            if is_over(jobs) and not self._busy(jobs):
                self._close_round(held, batch, jobs)
                return wake_at
            for job in jobs:
                waits = waits_until(job, jobs) > now or waits_for_sample(batch, job)
                if waits and not is_cancelled(batch, job):
                    continue
                wake_at = min(wake_at, self._start(held, batch, job, polls))
            if self._stands_still(jobs):
                self._wake_waiters(batch.id)
        except LeaseLost:
            self._lose(held)
        return wake_at

    def _stands_still(self, jobs: Iterable[Job]) -> bool:
        """Whether nothing goes on before somebody has changed or asked for something."""
        under_way = [job for job in jobs if job.state not in TERMINAL]
        return bool(under_way) and all(
            job.id not in self._steps
            and (
                self._waits.has_given_up(job.id)
                or (has_stopped(job) and self._left(job, job.not_before) > 0)
            )
            for job in under_way
        )

    def _left(self, job: Job, due: float) -> float:
        """Return the seconds until `job` is due."""
        if has_stopped(job) and self._waits.may_have_changed(job, self._views.present(job)):
            return self._waits.resting(job.id)
        return self._waits.left(job, due, self._clock())

    def _watch_others(self, now: float) -> float:
        """Tell how the batches stand that are only looked at; return when to look again."""
        if not self._watched:
            return now + self.policy.sleep
        since = time.monotonic() - self._watched_at
        if since < self.policy.watch:
            return now + self.policy.watch - since
        self._watched_at = time.monotonic()
        for batch_id in [*self._watched]:
            batch = self._store.batch(batch_id)
            if batch is None or batch.finished_at is not None:
                self._watched.discard(batch_id)
            if batch is not None:
                self._views.show(batch)
        return now + self.policy.watch

    def _waits_for_user(self, batch: Batch, jobs: Sequence[Job]) -> bool:
        """Whether nothing goes on before the user has looked at a sample, of whichever batch."""
        if waits_for_user(batch, jobs):
            return True
        if batch.cancel_requested or not is_over(jobs):
            return False
        behind = inherit.waits_on(self._store, batch)
        return bool(behind) and all(waits_for_user(*each) for each in behind)

    def _unfinished(self) -> Iterable[Batch]:
        seen = set()
        for batch in self._store.batches(notebook=self._notebook, unfinished=True):
            seen.add(batch.id)
            yield batch
        for batch_id in [*self._followed]:
            batch_or_none = self._store.batch(batch_id)
            if batch_or_none is None or batch_or_none.finished_at is not None:
                self._followed.discard(batch_id)
                self._wake_waiters(batch_id)
                if batch_or_none is not None and batch_id not in self._leases:
                    self._views.publish(batch_or_none)
            elif batch_id not in seen and not batch_or_none.draft:
                yield batch_or_none

    def _hold(self, batch: Batch) -> tuple[Lease | None, Batch]:
        """Return the lease of a batch, if it is ours, and the batch as it stands under it."""
        held = self._leases.get(batch.id)
        now = time.monotonic()
        if held is None:
            held = self._acquire(batch.id)
            if held is not None:
                # Since it was read, the last owner may have gone on with it, and ended it.
                batch = self._store.batch(batch.id) or batch
                self._views.publish(batch)
            return held, batch
        if now - self._beats[batch.id] >= process.BEAT:
            try:
                self._store.leases.renew(held)
            except LeaseLost:
                self._lose(held)
                return None, batch
            self._beats[batch.id] = now
        return held, batch

    def _acquire(self, batch_id: str) -> Lease | None:
        """Take the lease of a batch; None when another process has it."""
        held = self._store.leases.acquire(batch_id, self.owner)
        if held is not None:
            self._leases[batch_id] = held
            self._beats[batch_id] = time.monotonic()
        return held

    @contextlib.asynccontextmanager
    async def _driving(self, batch_id: str, deed: str) -> AsyncIterator[Lease]:
        """Hold the lease of a batch for a wish of the user; `UsageProblem` when another has it."""
        driven = batch_id in self._leases
        held = self._leases.get(batch_id) or self._acquire(batch_id)
        if held is None:
            raise UsageProblem(f"another process drives this batch: {deed} there")
        try:
            yield held
        finally:
            if not driven and batch_id not in self._followed:
                self._give_back(batch_id)

    async def _idle(self, job: Job) -> Job:
        """Return a job as it stands once no step of it is under way."""
        while job.id in self._steps:
            await asyncio.wait([self._steps[job.id]])
        return self._store.now(job)

    def _stuck(self, batch: Batch, jobs: Sequence[Job]) -> bool:
        """Whether every job that is not at its end has to wait for another key."""
        left = [job for job in jobs if next_action(job, cancel=False)]
        if not left or self._busy(left):
            return False
        waiting = [job for job in left if self._views.pause(job, cancel=is_cancelled(batch, job))]
        for job in waiting:
            self._ask_whose(job)
        return len(waiting) == len(left)

    def _ask_whose(self, job: Job) -> None:
        """Have it asked whether a job that waits for its key is seen with the present one too."""
        who = self._views.present(job)
        if who is not None and self._rotation.is_open(job, who):
            asking = self._rotation.ask(job, who, self._adapters(job.provider))
            task = asyncio.get_running_loop().create_task(asking)
            self._questions.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._questions.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._met_defect(error, "asking whether a new key is of the same account")
        self.wake()

    def _renewed(self, held: Lease, job: Job) -> Job:
        """Journal the key that a job goes on with, where it was replaced."""
        sent = job.state not in {JobState.PLANNED, JobState.UPLOADED, *TERMINAL}
        if not sent or job.id in self._steps or job.account is None:
            return job
        who = self._views.present(job)
        if who in {None, job.account} or self._views.pause(job):
            return job
        return self._store.note(held, job, account=who)

    def _give_back(self, batch_id: str) -> None:
        held = self._leases.pop(batch_id, None)
        if held is not None:
            self._store.leases.release(held)

    def _lose(self, held: Lease) -> None:
        """Forget a lease that is not ours any more; a newer one of the same batch may be."""
        if self._leases.get(held.batch_id) == held:
            self._leases.pop(held.batch_id)
            self._beats.pop(held.batch_id, None)
        self._followed.add(held.batch_id)

    def _busy(self, jobs: Iterable[Job]) -> bool:
        return any(job.id in self._steps for job in jobs)

    def _start(
        self,
        held: Lease,
        batch: Batch,
        job: Job,
        polls: dict[str, list[_Poll]],
    ) -> float:
        """Start what is due for `job`; return when something will be."""
        todo = next_action(job, cancel=is_cancelled(batch, job))
        now = self._clock()
        far = now + self.policy.sleep
        if todo is None or job.id in self._steps:
            return far
        action, due = todo
        left = self._left(job, due)
        if self._views.pause(job, cancel=is_cancelled(batch, job)):
            return now + left if left else far
        if action is Action.POLL:
            polls.setdefault(job.provider, []).append(_Poll(now + left, held, batch, job))
            return far  # `_start_polls` knows when
        if left:
            return now + left
        self._launch(job.id, batch.id, self._step(action, held, batch, job))
        return far

    def _release(self, held: Lease, batch: Batch, jobs: Iterable[Job]) -> None:
        """Start deleting what the provider stores for jobs that are over."""
        for job in jobs:
            stored = job.cache is not None and job.upload_id is not None and not job.released
            busy = job.id in self._steps or self._waits.resting(job.id) > 0
            if stored and is_over([job]) and not busy and not self._views.pause(job):
                adapter = self._adapters(job.provider)
                step = self._ends.release(held, job, adapter)
                self._launch(job.id, batch.id, self._guarded(held, job, step))

    def _start_polls(self, provider: str, polls: list[_Poll]) -> float:
        """Ask about running jobs, together where that is possible; return when to look again."""
        now = self._clock()
        at = grouped_poll_time([each.due for each in polls], self.policy.poll / 2)
        if at > now:
            return at
        entries = [(each.held, each.batch, each.job) for each in polls if each.due <= now]
        later = min((each.due for each in polls if each.due > now), default=now + self.policy.sleep)
        if len(entries) < LISTING_FROM:
            held, batch, job = entries[0]
            self._launch(job.id, batch.id, self._step(Action.POLL, held, batch, job))
            return later
        task = asyncio.get_running_loop().create_task(self._poll_many(provider, entries))
        for _, _, job in entries:
            self._steps[job.id] = task
        batch_ids = {batch.id for _, batch, _ in entries}
        task.add_done_callback(lambda _: self._ended([job.id for _, _, job in entries], batch_ids))
        return later

    def _launch(
        self, job_id: str, batch_id: str, step: Coroutine[None, None, None]
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(step)
        self._steps[job_id] = task
        task.add_done_callback(lambda _: self._ended([job_id], {batch_id}))
        return task

    def _ended(self, job_ids: Iterable[str], batch_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self._steps.pop(job_id, None)
        if self._stopping:
            return  # nobody looks any more, and the journal is about to close
        for batch_id in batch_ids:
            self._views.publish_id(batch_id)
        self.wake()

    async def _step(self, action: Action, held: Lease, batch: Batch, job: Job) -> None:
        try:
            adapter = self._adapters(job.provider)
            who = adapter.account(self._salt)
            self._waits.tries(job, who)
            if action is Action.SUBMIT and not adapter.limits(job.endpoint).labelled:
                # Without a label a lost create is found by time and count: one at a time.
                async with self._creates.setdefault(job.provider, asyncio.Lock()):
                    await self._driver.step(action, held, batch, job, adapter, who)
            else:
                await self._driver.step(action, held, batch, job, adapter, who)
        except LeaseLost:
            self._lose(held)
        except Exception as error:  # noqa: BLE001 - shown on the panel, and tried again later
            self._stumble(held, job, error)
        else:
            self._waits.went_well(job.id)

    def _stumble(self, held: Lease, job: Job, error: Exception) -> None:
        """Something failed here (disk full, a defect of ours): say so and try again later."""
        if trouble.is_leaving(error):
            return  # the next session goes on
        if trouble.is_defect(error):
            self._met_defect(error, f"a step of job {job.id} ({job.state})", job.id, job.batch_id)
            self._views.trouble(job.batch_id, error)
            return
        _log.debug("step of %s failed", job.id, exc_info=error)
        self._waits.rest(job.id, self.policy.retry_wait(1))
        try:
            self._ends.again(held, self._store.now(job), error)
        except LeaseLost:
            self._lose(held)
        except (LLMBatchError, OSError):  # the disk is full, perhaps: the panel says it at least
            self._views.trouble(job.batch_id, error)

    def _met_defect(
        self, error: BaseException, where: str, key: str = "", batch_id: str = ""
    ) -> None:
        """Report a defect of ours; what met it is tried a few more times and then rests."""
        if not trouble.is_defect(error):
            _log.debug("%s failed", where, exc_info=error)
            return
        defect = trouble.report_defect(error, where)
        if key:
            self._waits.defect(key)
        if batch_id:
            with contextlib.suppress(LLMBatchError, OSError):
                self._store.events.log(batch_id, "defect", f"{where}: {defect.traceback[-2000:]}")
        if trouble.is_strict():
            self._fatal = error
            for waiting in [*self._waiters]:
                self._wake_waiters(waiting)

    def _saw(self, held: Lease, _: Batch, job: Job, remote: Remote) -> None:
        try:
            self._driver.saw(held, job, remote)
        except LeaseLost:
            pass
        except StoreProblem as problem:
            self._stumble(held, job, problem)

    def _journal_failed(self, error: Exception) -> None:
        """Say on the panels what keeps the journal from being used; it is tried again."""
        self._met_defect(error, "looking at the journal")
        self._views.journal_failed(error)

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
            await self._know_duplicates(provider, asked, second)
        except (ProviderError, UsageProblem) as error:
            busy = error if isinstance(error, ProviderError) else Busy(str(error))
            for held, batch, job in left.values():
                try:
                    self._ends.again(held, self._store.now(job), busy)
                    self._views.publish(batch)
                except LeaseLost:
                    pass
                except StoreProblem as problem:
                    self._stumble(held, job, problem)
            return
        except Exception as error:  # noqa: BLE001 - shown on the panels, and tried again later
            for held, _, job in left.values():
                self._stumble(held, job, error)
            return
        for held, batch, job in left.values():
            # Its duplicates may have been noted meanwhile.
            await self._step(Action.POLL, held, batch, self._store.now(job))

    async def _know_duplicates(
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
                    await self._driver.know_duplicates(
                        held, job, self._adapters(provider), [remote]
                    )

    async def cancel_duplicates(self, batch_id: str) -> list[str]:
        """Cancel the second batches of a batch's jobs at their provider; return their ids.

        Raises
        ------
        UsageProblem
            Another process drives the batch.
        """
        done: list[str] = []
        async with self._driving(batch_id, "cancel them") as held:
            for job in self._store.jobs(batch_id):
                job = await self._idle(job)  # noqa: PLW2901 - as it stands once nothing goes on
                if left := [each.remote_id for each in job.duplicates if not each.cancelled]:
                    adapter = self._adapters(job.provider)
                    deed = self._driver.cancel_duplicates(held, job, adapter)
                    await self._launch(job.id, batch_id, deed)
                    done += left
        return done

    # -- the end of a round ------------------------------------------------------------------------

    def _deadline(self, batch: Batch, jobs: list[Job]) -> Batch:
        """Cut off what is not back by the deadline, unless the user has to be asked first."""
        now = self._clock()
        if not remaining.is_due(batch, jobs, now):
            return batch
        pack = self._store.pack
        back = remaining.rows_back(pack(batch.id, "outcomes"), pack(batch.id, "owners"))
        if remaining.deadline_doubt(batch, jobs, now, self._rules().book, back):
            return batch
        self._store.decide(batch.id, cut=True)
        return msgspec.structs.replace(batch, cut=True)

    def _close_round(self, held: Lease, batch: Batch, jobs: list[Job]) -> None:
        outcomes = self._store.pack(batch.id, "outcomes")
        if batch.sources and WAITING in outcomes:
            outcomes = inherit.inherit(self._store, held, batch, outcomes)
            if WAITING in outcomes and batch.cancel_requested:
                outcomes = inherit.give_up(self._store, held, batch, outcomes)
            if WAITING in outcomes:
                # Earlier batches still work on these rows; of another notebook, driven from here.
                behind = {each.id for each, _ in inherit.waits_on(self._store, batch)}
                if behind - self._followed:
                    self._followed |= behind
                    self.wake()
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
                self.wake()
                return
        if batch.delete_uploads and self._tidy(held, batch):
            return
        self._store.finish(held, inherit.reused(self._store, batch, self._clock()))
        try:
            self._leases.pop(batch.id, None)
            self._followed.discard(batch.id)
            self._store.leases.release(held)
            self._notify(batch.id)
            self._views.publish_id(batch.id)
        finally:
            self._wake_waiters(batch.id)

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
            step = self._ends.tidy(held, job, adapter)
            self._launch(job.id, batch.id, self._guarded(held, job, step))
        return bool(jobs)

    async def _guarded(self, held: Lease, job: Job, step: Awaitable[None]) -> None:
        try:
            await step
        except LeaseLost:
            self._lose(held)
        except Exception as error:  # noqa: BLE001 - what is left at the provider expires there
            self._stumble(held, job, error)

    def _notify(self, batch_id: str) -> None:
        """Tell the end of a batch, if that is wanted and nobody else has taken it on."""
        batch = self._store.batch(batch_id)
        if batch is None or not batch.notify or batch.finished_at is None:
            return
        if self._store.events.claim_notice(batch_id):
            if notify_target.is_foreign(batch.notify):
                words = "; ".join(filter(None, (batch.notice, notify_target.FOREIGN)))
                self._store.decide(batch_id, notice=words)
                return
            told = notify.facts(self._views.snapshot(batch))
            task = asyncio.get_running_loop().create_task(self._tell(batch, told))
            self._notices.add(task)
            task.add_done_callback(self._notices.discard)

    async def _tell(self, batch: Batch, told: notify.Facts) -> None:
        came = await notify.send(batch.notify, told)
        try:
            self._store.events.log(batch.id, "notice", came)
        except Exception as error:  # noqa: BLE001 - the journal may be closed by now
            self._met_defect(error, "noting that an end was told")

    async def all_told(self) -> None:
        """Return when every notice that was begun has ended."""
        if self._notices:
            await asyncio.wait([*self._notices])

    def _wake_waiters(self, batch_id: str) -> None:
        if waiter := self._waiters.pop(batch_id, None):
            waiter.set()

    def _limits(self, job: Job) -> Limits:
        return self._adapters(job.provider).limits(job.endpoint)

    def _retry(self, held: Lease, batch: Batch, *, unbilled: bool) -> int:
        now, rules = self._clock(), self._rules()
        return rounds.retry(self._store, held, batch, self._limits, now, rules, unbilled=unbilled)

    def _can_start_round(self, held: Lease, batch: Batch, rows: list[int]) -> bool:
        """Send rows again by themselves; `UsageProblem` when that cannot be done now."""
        try:
            return bool(rounds.again(self._store, held, batch, rows, self._limits, self._clock()))
        except (Damaged, rounds.NotHere):
            return False  # the rows keep the outcome that they have

    async def why_not_fetched(self, job: Job) -> str:
        """Return why files of `job` cannot be fetched under the present key; empty if they can."""
        who = self._views.present(job)
        if who is not None and self._rotation.is_open(job, who):
            await self._rotation.ask(job, who, self._adapters(job.provider))
        return self._views.pause(job)
