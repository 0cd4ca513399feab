"""A job in real time: its rows one by one through the ordinary endpoints, durably.

Before a request goes out its intent is on disk and the lease is known to be ours, in this order;
its answer is on disk before anything else happens to it. Whatever dies, a row is then known to be
untouched, answered, or *maybe billed*: of the last kind none is sent again by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import Busy, KeyRefused, LeaseLost, OutOfQuota, ProviderError
from ..core.ids import custom_id
from ..core.job import Account, Counts, Job
from ..core.lifecycle import Event
from ..core.policy import Policy
from ..core.result import Outcome, Result
from ..providers.base import Adapter, realtime_of
from ..storage import files
from ..storage.realtime_log import NO_ANSWER, Past, Record, RowLog
from ..storage.records import Lease
from ..storage.store import Store
from .window import Window

#: The one part of a real-time job's results.
PART = "output"


class RealTime:
    """Runs real-time jobs; all those of one account share one window.

    Parameters
    ----------
    tell
        Called with the id of a batch whose counts have changed.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        clock: Callable[[], float],
        tell: Callable[[str], object],
    ) -> None:
        self.store = store
        self.policy = policy
        self._clock = clock
        self.tell = tell
        self._windows: dict[Account, Window] = {}
        #: What came back and could not be written down yet, for lack of room, by job.
        self._left: dict[str, list[Record]] = {}
        self.stopping = False

    async def run(
        self,
        held: Lease,
        job: Job,
        adapter: Adapter,
        who: Account,
        payload: Path,
        harm: str = "",
    ) -> tuple[Job, Exception | None]:
        """Ask what has not been asked, until the job is over, cancelled or has to wait.

        Parameters
        ----------
        harm
            Why its request lines must not be sent; what was asked before is kept.

        Returns
        -------
        tuple
            The job as the journal has it now, and why it has to wait, if it has to.

        Raises
        ------
        Refused
            The provider does not know the model, or has no real time: nothing was asked.
        LeaseLost
            Another process drives the batch now.
        """
        left = self._left.setdefault(job.id, [])
        run = _Run(self, held, job, adapter, self._window(who), payload, left)
        try:
            if not harm:
                realtime_of(adapter)
                asks = run.untouched and not run.unwanted()
                for model in (job.models or [job.model]) if asks else ():
                    await adapter.check_model(model)
                await run.until_over()
        except Exception:
            await run.settle()
            raise
        finally:
            await run.close()
        if harm:
            return self._finish(held, run, harm, Outcome.FAILED, error=harm, damaged=True), None
        if run.trouble is None and (run.cancelled or not self.stopping):
            rest = Outcome.CANCELLED if run.cancelled else None
            return self._finish(held, run, "cancelled" if rest else "asked", rest), None
        return run.job, run.trouble

    def _window(self, who: Account) -> Window:
        if who not in self._windows:
            self._windows[who] = Window(self.policy.at_once)
        return self._windows[who]

    def _finish(
        self, held: Lease, run: _Run, detail: str, rest: Outcome | None, **changes: Any
    ) -> Job:
        """Hand the job over to collecting: all that came back is in its log."""
        del self._left[run.job.id]
        return self.store.apply(
            held,
            run.job,
            Event.ENDED,
            detail=detail,
            parts={PART: "realtime"},
            rest=rest,
            remote_state=None,
            ended_at=self._clock(),
            not_before=0.0,
            failures=0,
            **{"error": None, **changes},
        )


class _Run:
    """One owner's work on one job."""

    def __init__(
        self,
        room: RealTime,
        held: Lease,
        job: Job,
        adapter: Adapter,
        window: Window,
        payload: Path,
        left: list[Record],
    ) -> None:
        self.job = job
        self.cancelled = False
        self.trouble: Exception | None = None
        self._room = room
        self._held = held
        self._adapter = adapter
        self._window = window
        if left:  # it counts as came, or else what it is about would be asked again
            RowLog(payload.parent, job, held.token, left).close()
        past = Past(payload.parent, job)
        self.untouched = past.untouched
        self._ok = sum(past.answered.values())
        self._failed = len(past.answered) - self._ok + len(past.open) + len(past.given_up)
        self._todo = _todo(room.store, job, payload, past)
        self._again: deque[tuple[int, bytes]] = deque()
        self._turned_away: Counter[int] = Counter()
        self._unclear = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._looked = float("-inf")
        self._log = RowLog(payload.parent, job, held.token, left)

    async def until_over(self) -> None:
        """Send while there is something to send and room for it, and await what was sent."""
        while True:
            self._look()
            if not self._over():
                self._send()
            if not self._tasks and (self._over() or not self._more()):
                self._look(now=True)
                return
            self._woken.clear()
            closed = self._window.open_at - time.monotonic()
            look = self._room.policy.look
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._woken.wait(), min(closed, look) if closed > 0 else look
                )

    def unwanted(self) -> bool:
        """Whether nothing more is to be asked."""
        self._look()
        return self.cancelled

    async def settle(self) -> None:
        """Await what was sent: it may be paid for."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Close the log; what is still under way is cut off and stays unclear."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._log.close()

    # -- sending -----------------------------------------------------------------------------------

    def _over(self) -> bool:
        return self.cancelled or self.trouble is not None or self._room.stopping

    def _more(self) -> bool:
        if not self._again:
            following = next(self._todo, None)
            if following is not None:
                self._again.append(following)
        return bool(self._again)

    def _send(self) -> None:
        """Send as much as there is room for: first intents, then the fence, then the requests."""
        rows: list[tuple[int, bytes]] = []
        for _ in range(self._window.free(time.monotonic())):
            if not self._more():
                break
            rows.append(self._again.popleft())
        if not rows:
            return
        self._log.asking([row for row, _ in rows])
        if not self._room.store.leases.holds(self._held):
            for row, _ in rows:
                self._log.not_executed(row)
            raise LeaseLost(f"another process drives batch {self._held.batch_id} now")
        for row, line in rows:
            self._window.sent()
            task = asyncio.ensure_future(self._ask(row, line))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _ask(self, row: int, line: bytes) -> None:
        job, sent_at = self.job, time.monotonic()
        try:
            reply = await realtime_of(self._adapter).ask(line, job.endpoint, job.model)
        except Busy as error:
            self._busy(row, line, sent_at, error)
        except KeyRefused as error:
            # This concerns every row: wait until the user has mended it.
            self._back(row, line)
            self.trouble = error
        except ProviderError as error:
            self._window.trouble(sent_at, time.monotonic(), error.retry_after, self._wait)
            self._log.unclear(row, str(error))
            self._failed += 1
            self._unclear += 1
            if self._unclear >= self._room.policy.unclear:
                self.trouble = error
        else:
            result = self._adapter.parse(reply.line, job.endpoint)
            ok = result.outcome is Outcome.OK
            self._log.answered(row, reply.line, ok=ok)
            self._window.well(reply.rooms, time.monotonic())
            self._unclear = 0
            self._ok += ok
            self._failed += not ok

    def _busy(self, row: int, line: bytes, sent_at: float, error: Busy) -> None:
        """Take back a request that surely was not executed."""
        spent = isinstance(error, OutOfQuota) and error.retry_after is None
        if error.status is None or spent:
            # Nobody to be reached, or nothing left to spend: so it is for every row.
            self._back(row, line)
            self.trouble = error
            return
        self._window.trouble(sent_at, time.monotonic(), error.retry_after, self._wait)
        self._turned_away[row] += 1
        if self._turned_away[row] < self._room.policy.turned_away:
            self._back(row, line)
        else:
            self._log.given_up(row, str(error))
            self._failed += 1

    def _back(self, row: int, line: bytes) -> None:
        self._log.not_executed(row)
        self._again.append((row, line))

    @property
    def _wait(self) -> float:
        return self._room.policy.retry_wait(1)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._window.over()
        self._woken.set()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            # A full disk, for instance: what comes back cannot be kept, so nothing more is asked.
            self.trouble = self.trouble or error

    # -- looking -----------------------------------------------------------------------------------

    def _look(self, *, now: bool = False) -> None:
        """Now and then, see what the user wishes, and journal the counts; both check the fence."""
        if self._room.stopping or (
            not now and time.monotonic() - self._looked < self._room.policy.look
        ):
            return  # at the end of a session the journal is about to close
        self._looked = time.monotonic()
        store = self._room.store
        batch = store.batch(self._held.batch_id)
        self.cancelled = batch is None or batch.cancel_requested
        counts = Counts(total=self.job.rows, done=self._ok, failed=self._failed)
        if counts == self.job.counts and not now:
            return
        changes: dict[str, Any] = {"counts": counts, "remote_state": self._words()}
        if self._ok + self._failed and self.trouble is None:
            changes |= {"failures": 0, "error": None}
        self.job = store.note(self._held, self.job, **changes)
        self._room.tell(self._held.batch_id)

    def _words(self) -> str:
        if self._window.open_at - time.monotonic() > 1:
            return "waits for the rate limit"
        return f"{len(self._tasks)} at once"


def _todo(store: Store, job: Job, payload: Path, past: Past) -> Iterator[tuple[int, bytes]]:
    """Yield the rows that were never asked, or surely not executed, with their request lines."""
    over = {*past.answered, *past.open, *past.given_up}
    for row, line in zip(store.job_rows(job.id), files.lines(payload), strict=True):
        if row not in over:
            yield row, line


def without_line(past: Past, job: Job) -> Iterator[Result]:
    """Yield the results of rows that were asked and have no result line."""
    for row, why in past.open.items():
        yield Result(
            custom_id=custom_id(job.batch_id, row),
            outcome=Outcome.MISSING,
            error=why or NO_ANSWER,
            code="no_answer",
            billed=True,
        )
    for row, why in past.given_up.items():
        yield Result(
            custom_id=custom_id(job.batch_id, row),
            outcome=Outcome.FAILED,
            error=why,
            code="turned_away",
            transient=True,
        )
