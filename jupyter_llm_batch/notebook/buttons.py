"""The buttons of the panels, handed over to the background."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future

from ..client.handle import BatchHandle
from ..core.errors import LLMBatchError
from .bound_answers import BoundAnswers
from .clients import Clients
from .panel.panels import Panels


class Buttons:
    """Does what a button of a panel says, without making anybody wait."""

    def __init__(self, panels: Panels, clients: Clients, answers: BoundAnswers) -> None:
        self._panels = panels
        self._clients = clients
        self._answers = answers

    def press(self, batch_id: str, action: str) -> None:
        """Hand a button over to the background; never raises, never waits."""
        with contextlib.suppress(LLMBatchError, RuntimeError):
            client = self._clients.knowing(batch_id)
            if client is None:
                return
            handle = client.library.handle(batch_id)
            if action == "cancel":
                handle.cancel(confirm=True)  # the panel has asked
            elif action in {"retry", "unbilled"}:  # the panel has asked
                self._answers.awaited.add(batch_id)
                only = action == "unbilled"
                asked = client.watching.retry(batch_id, unbilled=only)
                asked.add_done_callback(lambda done: self._retried(handle, done))
            elif action == "send":
                handle.send_rest()
            elif action == "finish":
                try:
                    handle.finish()
                except LLMBatchError as problem:
                    self._refused(handle, problem)
            elif action == "keep":
                handle.set_deadline(None)
            elif action == "refresh":
                client.watching.refresh(batch_id)

    def _retried(self, handle: BatchHandle, done: Future[int]) -> None:
        """Say on the panel why a retry was refused, for instance by a budget; on the loop."""
        error = None if done.cancelled() else done.exception()
        if isinstance(error, LLMBatchError):
            self._refused(handle, error)

    def _refused(self, handle: BatchHandle, error: LLMBatchError) -> None:
        self._panels.notices[handle.id] = f"not sent again: {error}"
        with contextlib.suppress(LLMBatchError):
            self._panels.listen(handle.snapshot())
