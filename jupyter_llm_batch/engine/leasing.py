"""The leases that this process holds: taken, renewed, given back, lost."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from ..core.batch import Batch
from ..core.errors import LeaseLost, LLMBatchError, UsageProblem
from ..storage import process
from ..storage.records import Lease
from ..storage.store import Store


class Leasing:
    """The leases of one poller.

    Parameters
    ----------
    leases
        By batch; shared with those who only look whether there is one.
    followed
        Batches that are driven whatever notebook they are of.
    publish
        Tells listeners how a batch stands.

    Attributes
    ----------
    owner
        Who holds the leases. One kernel may hold two clients of a journal; they are as separate
        as two kernels.
    """

    def __init__(
        self,
        store: Store,
        leases: dict[str, Lease],
        followed: set[str],
        publish: Callable[[Batch], None],
    ) -> None:
        self._store = store
        self._followed = followed
        self._publish = publish
        self.leases = leases
        self.owner = msgspec.structs.replace(process.me(), nonce=secrets.token_hex(4))
        self._beats: dict[str, float] = {}

    def hold(self, batch: Batch) -> tuple[Lease | None, Batch]:
        """Return the lease of a batch, if it is ours, and the batch as it stands under it."""
        held = self.leases.get(batch.id)
        now = time.monotonic()
        if held is None:
            held = self.acquire(batch.id)
            if held is not None:
                # Since it was read, the last owner may have gone on with it, and ended it.
                batch = self._store.batch(batch.id) or batch
                self._publish(batch)
            return held, batch
        if now - self._beats[batch.id] >= process.BEAT:
            try:
                self._store.leases.renew(held)
            except LeaseLost:
                self.lose(held)
                return None, batch
            self._beats[batch.id] = now
        return held, batch

    def acquire(self, batch_id: str) -> Lease | None:
        """Take the lease of a batch; None when another process has it."""
        held = self._store.leases.acquire(batch_id, self.owner)
        if held is not None:
            self.leases[batch_id] = held
            self._beats[batch_id] = time.monotonic()
        return held

    @contextlib.asynccontextmanager
    async def driving(self, batch_id: str, action: str) -> AsyncIterator[Lease]:
        """Hold the lease of a batch for a wish of the user; `UsageProblem` when another has it."""
        driven = batch_id in self.leases
        held = self.leases.get(batch_id) or self.acquire(batch_id)
        if held is None:
            raise UsageProblem(f"another process drives this batch: {action} there")
        try:
            yield held
        finally:
            if not driven and batch_id not in self._followed:
                self.give_back(batch_id)

    def give_back(self, batch_id: str) -> None:
        """Release the lease of a batch, if it is ours."""
        held = self.leases.pop(batch_id, None)
        if held is not None:
            self._store.leases.release(held)

    def lose(self, held: Lease) -> None:
        """Forget a lease that is not ours any more; a newer one of the same batch may be."""
        if self.leases.get(held.batch_id) == held:
            self.leases.pop(held.batch_id)
            self._beats.pop(held.batch_id, None)
        self._followed.add(held.batch_id)

    def give_all_back(self) -> None:
        """Release every lease, as the poller stops."""
        for held in self.leases.values():
            with contextlib.suppress(LLMBatchError):
                self._store.leases.release(held)
        self.leases.clear()
