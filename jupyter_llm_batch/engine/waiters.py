"""Wake those who wait for a batch."""

from __future__ import annotations

import asyncio


class Waiters:
    """Events by batch, on the background loop.

    Attributes
    ----------
    fatal
        A defect that ends all waiting; under tests only.
    """

    def __init__(self) -> None:
        self.fatal: BaseException | None = None
        self._events: dict[str, asyncio.Event] = {}

    def check(self) -> None:
        """Raise the defect that ended all waiting, if there is one."""
        if self.fatal is not None:
            raise self.fatal

    async def wait(self, batch_id: str) -> None:
        """Wait until `wake` is called for a batch."""
        await self._events.setdefault(batch_id, asyncio.Event()).wait()
        self.check()

    def wake(self, batch_id: str) -> None:
        """Wake whoever waits for a batch."""
        if event := self._events.pop(batch_id, None):
            event.set()

    def fail(self, error: BaseException) -> None:
        """End all waiting with an error."""
        self.fatal = error
        for batch_id in [*self._events]:
            self.wake(batch_id)
