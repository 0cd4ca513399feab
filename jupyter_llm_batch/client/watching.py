"""Follow batches: how they stand, what is new of them, and waiting for their end."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence

from ..core.batch import Batch
from ..core.errors import Halted, NotFound, NotReady
from ..core.job import Job, Remote
from ..core.snapshot import Snapshot
from ..storage.process import Owner
from .context import Context

#: `await batch` looks this often, so that an interrupt of the cell is seen at once (seconds).
AWAKE = 0.2


class Watching:
    """What the background does with batches, for whoever looks on or waits."""

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- looking -----------------------------------------------------------------------------------

    def snapshot(self, batch: Batch) -> Snapshot:
        """Return state, counts and cost of a batch at this moment."""
        return self._context.poller().snapshot(batch)

    def driver(self, batch_id: str) -> Owner | None:
        """Return the process that drives a batch now; None for none."""
        return self._context.store.leases.driver(batch_id)

    def listen(self, listener: Callable[[Snapshot], None]) -> None:
        """Have `listener` called, on the background thread, with every new snapshot."""
        self._context.listen(listener)

    def watch(self, batch_id: str) -> None:
        """Have snapshots made of a batch that another process drives."""
        self._context.background.soon(self._context.poller().watch, batch_id)

    def follow(self, batch_id: str) -> None:
        """Have a batch driven in the background."""
        self._context.background.soon(self._context.poller().follow, batch_id)

    # -- waiting -----------------------------------------------------------------------------------

    def take_up(self, batch_id: str) -> None:
        """Try at once what has stopped, since the user asks for it."""
        self._context.background.soon(self._context.poller().take_up, batch_id)

    def wait(self, batch: Batch, timeout: float | None) -> None:
        """Block until a batch is done; what has stopped stays as it is.

        Raises
        ------
        NotReady
            The time is over and the batch is not.
        Halted
            It goes on only when the user has done something.
        """
        future = self._finished(batch.id)
        try:
            future.result(timeout)
        except concurrent.futures.TimeoutError:
            line = self.snapshot(self._now(batch)).line
            raise NotReady(f"not done after {timeout:g} s: {line}") from None
        finally:
            future.cancel()
        self._check_done(batch)

    async def until_done(self, batch: Batch) -> None:
        """Wait as `wait` does, while the loop goes on; raises what that raises."""
        self.take_up(batch.id)
        future = self._finished(batch.id)
        try:
            while not future.done():  # noqa: ASYNC110 - waking often lets an interrupt through
                await asyncio.sleep(AWAKE)
            future.result()
        finally:
            future.cancel()
        self._check_done(batch)

    def _finished(self, batch_id: str) -> concurrent.futures.Future[None]:
        return self._context.background.call(self._context.poller().finished(batch_id))

    def _check_done(self, batch: Batch) -> None:
        now = self._now(batch)
        if now.finished_at is None:
            snapshot = self.snapshot(now)
            raise Halted(snapshot.line if snapshot.halted else f"it waits for you: {snapshot.line}")

    def _now(self, batch: Batch) -> Batch:
        found = self._context.store.batch(batch.id)
        if found is None:
            raise NotFound("this batch was forgotten")
        return found

    # -- cells and terminals -----------------------------------------------------------------------

    def cell_begins(self) -> None:
        """Leave the processor to a cell; start what could not be started before."""
        self._context.start_again()
        self._context.background.user_is_busy = True

    def cell_ended(self) -> None:
        """Work at full pace again."""
        self._context.background.user_is_busy = False

    def poll(self, batch_ids: Sequence[str]) -> concurrent.futures.Future[None]:
        """Look once at some batches."""
        return self._context.background.call(self._context.poller().once(batch_ids))

    def notified(self) -> concurrent.futures.Future[None]:
        """Wait for the notifications that are under way."""
        return self._context.background.call(self._context.poller().notices.all_sent())

    def undecided(self, batch_id: str) -> concurrent.futures.Future[list[tuple[Job, list[Remote]]]]:
        """Return the jobs whose creation is not decided, with the remote jobs each may be."""
        return self._context.background.call(self._context.poller().control.undecided(batch_id))

    def resolve(self, batch_id: str, remote_id: str) -> concurrent.futures.Future[Job]:
        """Decide about a submission whose outcome is unknown; see `BatchHandle.resolve`."""
        return self._context.background.call(
            self._context.poller().control.resolve(batch_id, remote_id)
        )

    def retry(self, batch_id: str, *, unbilled: bool) -> concurrent.futures.Future[int]:
        """Send rows without an answer again, in the background; see `BatchHandle.retry`."""
        work = self._context.poller().control.retry(batch_id, unbilled=unbilled)
        return self._context.background.call(work)

    def refresh(self, batch_id: str) -> concurrent.futures.Future[None]:
        """Ask the provider now, or as soon as it allows that."""
        return self._context.background.call(self._context.poller().control.refresh(batch_id))

    def stop(self) -> concurrent.futures.Future[None]:
        """Release every lease and stop driving."""
        return self._context.background.call(self._context.poller().stop())
