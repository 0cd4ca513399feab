"""Carries every unfinished batch through its life: asks what is due, has it done, waits.

One task on the background loop. It starts at most one step per job at a time, and leaves the rest
to its parts: leases, polls, ends of rounds, keys, and what the user asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ..core import trouble
from ..core.batch import Batch
from ..core.errors import Damaged, LeaseLost, StoreProblem
from ..core.job import Job, JobState
from ..core.lifecycle import (
    TERMINAL,
    Action,
    has_stopped,
    is_cancelled,
    next_action,
    waits_for_sample,
    waits_for_user,
    waits_until,
)
from ..core.policy import Policy
from ..costs import budget
from ..costs.prices import PriceBook
from ..providers.base import Adapter
from ..storage import process
from ..storage.records import Lease
from ..storage.store import Store, is_over
from ..submission import inherit
from .cleanup import Cleanup
from .collect import Collector, no_pause
from .control import Control
from .drive import Drive
from .job_end import JobEnd
from .key_questions import KeyQuestions
from .key_rotation import Rotation
from .leasing import Leasing
from .notices import Notices
from .polling import Poll, Polling
from .realtime import RealTime
from .reporting import Reporter
from .round_end import RoundEnd
from .status.views import Listener, Views
from .steps import Driver
from .tasks import Tasks
from .waiters import Waiters
from .waits import Waits


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
        self.policy = policy
        self._store = store
        self._clock = clock
        self._notebook = notebook
        self._waits = Waits(policy)
        self._waiters = Waiters()
        self._followed: set[str] = set()
        self._watched: set[str] = set()
        self._watched_at = float("-inf")
        self._woken = asyncio.Event()
        self._stopping = False
        leases: dict[str, Lease] = {}
        rotation = Rotation(store, policy)
        self._views = Views(store, adapters, clock, rules, leases, listen, rotation)
        #: What a panel may know about a batch now.
        self.snapshot = self._views.snapshot
        self._realtime = RealTime(store, policy, clock, self._views.publish_id)
        end = JobEnd(store, policy, clock, rules)
        collector = Collector(store, policy, clock, end, breathe, rules)
        self._leasing = Leasing(store, leases, self._followed, self._views.publish)
        self._reporter = Reporter(
            store,
            policy,
            views=self._views,
            waits=self._waits,
            end=end,
            leasing=self._leasing,
            waiters=self._waiters,
        )
        self._tasks = Tasks(store, self._views, self._leasing, self._reporter, self.wake)
        drive = Drive(
            store=store,
            adapters=adapters,
            policy=policy,
            clock=clock,
            rules=rules,
            salt=store.salt(),
            views=self._views,
            waits=self._waits,
            rotation=rotation,
            end=end,
            cleanup=Cleanup(store, policy, clock),
            driver=Driver(store, policy, clock, end, collector, self._realtime),
            leasing=self._leasing,
            waiters=self._waiters,
            reporter=self._reporter,
            tasks=self._tasks,
            followed=self._followed,
            wake=self.wake,
        )
        self._polling = Polling(drive)
        self.notices = Notices(drive)
        self._round_end = RoundEnd(drive, self.notices)
        self.keys = KeyQuestions(drive)
        #: What a user asks of batches under way.
        self.control = Control(drive, self._round_end, follow=self.follow, take_up=self.take_up)

    @property
    def owner(self) -> process.Owner:
        """Who holds the leases of this poller."""
        return self._leasing.owner

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
        self._waiters.check()
        batch = self._store.batch(batch_id)
        if batch is None or batch.finished_at is not None:
            return
        if self._waits_for_user(batch, self._store.jobs(batch_id)):
            return
        self.follow(batch_id)
        await self._waiters.wait(batch_id)

    async def once(self, batch_ids: Sequence[str]) -> None:
        """Do what is due for these batches, ask about running jobs, and return when it is done."""
        for batch_id in batch_ids:
            self.follow(batch_id)
        self._look_around()
        for batch_id in batch_ids:
            held = self._leasing.leases.get(batch_id)
            for job in self._store.jobs(batch_id) if held else []:
                if (
                    job.state is JobState.RUNNING
                    and not job.failures
                    and job.id not in self._tasks.steps
                ):
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
        if batch is None or batch.finished_at is not None or batch_id not in self._leasing.leases:
            return False
        now, jobs = self._clock(), self._store.jobs(batch_id)
        for job in jobs:
            if job.id in self._tasks.steps:
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
        self._stopping = self._realtime.stopping = self._tasks.stopping = True
        self.wake()
        if under_way := [*self._tasks.steps.values(), *self.notices.running, *self.keys.running]:
            await asyncio.wait(under_way, timeout=3.0)
        left = [*self._tasks.steps.values(), *self.keys.running]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
        self._leasing.give_all_back()

    async def run(self) -> None:
        """Drive until `stop`."""
        try:
            for batch_id in self._store.events.unnotified(self._clock() - self.policy.remember):
                self.notices.start(batch_id)  # whoever ended these died before telling it
        except Exception as error:  # noqa: BLE001 - a notice is no reason not to drive
            self._reporter.report_journal(error)
        while not self._stopping:
            self._woken.clear()
            try:
                wake_at = self._look_around()
                self._views.journal_works()
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever it meets
                self._reporter.report_journal(error)
                wake_at = self._clock() + min(self.policy.sleep, self.policy.retry_longest)
            pause = min(max(wake_at - self._clock(), 0.01), self.policy.sleep)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)

    def _look_around(self) -> float:
        """Start everything that is due; return when the next thing will be (Unix seconds)."""
        wake_at = self._clock() + self.policy.sleep
        polls: dict[str, list[Poll]] = {}
        for batch in self._unfinished():
            if left := self._waits.resting(batch.id):
                wake_at = min(wake_at, self._clock() + left)
                if self._waits.has_given_up(batch.id):
                    self._waiters.wake(batch.id)
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
                    self._reporter.report_defect(
                        error, f"looking at batch {batch.id}", batch.id, batch.id
                    )
                self._views.trouble(batch.id, error)
        for provider, entries in polls.items():
            wake_at = min(wake_at, self._polling.start(provider, entries))
        return min(wake_at, self._watch_others(self._clock()))

    def _is_failing(self, batch: Batch) -> bool:
        """Whether the last step of a job failed here, and that may not be in the journal."""
        jobs = self._store.jobs(batch.id)
        return any(self._waits.is_failing(job.id) for job in jobs if job.state not in TERMINAL)

    def _look_at(self, batch: Batch, polls: dict[str, list[Poll]]) -> float:
        """Start what is due for a batch; return when the next thing will be (Unix seconds)."""
        now = self._clock()
        wake_at = now + self.policy.sleep
        free = batch.id not in self._leasing.leases
        held = None
        if not (free and self.keys.all_wait_for_key(batch, self._store.jobs(batch.id))):
            held, batch = self._leasing.hold(batch)
        if held is not None and batch.finished_at is not None:
            self._leasing.give_back(batch.id)
            self._followed.add(batch.id)  # whoever waits for it here is told
            return now
        jobs = self._store.jobs(batch.id)
        if self._waits_for_user(batch, jobs):
            self._waiters.wake(batch.id)
        if held is None:
            self._views.publish(batch)  # somebody else drives it, or may have its key: watch
            return wake_at
        try:
            if self.keys.all_wait_for_key(batch, jobs):
                self._leasing.give_back(batch.id)
                self._views.publish(batch)
                self._waiters.wake(batch.id)
                return wake_at
            jobs = [self.keys.with_present_key(held, job) for job in jobs]
            self._round_end.release_caches(held, batch, jobs)
            batch = self._round_end.apply_deadline(batch, jobs)
            if is_over(jobs) and not self._tasks.is_busy(jobs):
                self._round_end.close(held, batch, jobs)
                return wake_at
            for job in jobs:
                waits = waits_until(job, jobs) > now or waits_for_sample(batch, job)
                if waits and not is_cancelled(batch, job):
                    continue
                wake_at = min(wake_at, self._start(held, batch, job, polls))
            if self._stands_still(jobs):
                self._waiters.wake(batch.id)
        except LeaseLost:
            self._leasing.lose(held)
        return wake_at

    def _stands_still(self, jobs: Iterable[Job]) -> bool:
        """Whether nothing goes on before somebody has changed or asked for something."""
        under_way = [job for job in jobs if job.state not in TERMINAL]
        return bool(under_way) and all(
            job.id not in self._tasks.steps
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
                self._waiters.wake(batch_id)
                if batch_or_none is not None and batch_id not in self._leasing.leases:
                    self._views.publish(batch_or_none)
            elif batch_id not in seen and not batch_or_none.draft:
                yield batch_or_none

    def _start(
        self,
        held: Lease,
        batch: Batch,
        job: Job,
        polls: dict[str, list[Poll]],
    ) -> float:
        """Start what is due for `job`; return when something will be."""
        todo = next_action(job, cancel=is_cancelled(batch, job))
        now = self._clock()
        far = now + self.policy.sleep
        if todo is None or job.id in self._tasks.steps:
            return far
        action, due = todo
        left = self._left(job, due)
        if self._views.pause(job, cancel=is_cancelled(batch, job)):
            return now + left if left else far
        if action is Action.POLL:
            polls.setdefault(job.provider, []).append(Poll(now + left, held, batch, job))
            return far  # `_start_polls` knows when
        if left:
            return now + left
        self._tasks.launch(job.id, batch.id, self._polling.step(action, held, batch, job))
        return far
