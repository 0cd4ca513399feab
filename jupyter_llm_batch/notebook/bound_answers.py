"""The answers of batches in the notebook's variables: promised, bound, or left alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from ..client.client import Client
from ..client.handle import BatchHandle
from ..core import trouble
from ..core.errors import LLMBatchError, UsageProblem
from ..core.snapshot import Snapshot
from ..data import structured
from .clients import Clients
from .panel.panels import Panels
from .variables import Binder, Placeholder

_ALONE = "your variable was left alone"


class BoundAnswers:
    """Puts a batch's answers into the variable of its name, unless the user changed that.

    Parameters
    ----------
    shell
        The running IPython, whose variables they are.
    binder
        Writes the variables.
    panels
        Say where answers were not bound.
    clients
        Know the batches.
    """

    def __init__(
        self, shell: InteractiveShell, binder: Binder, panels: Panels, clients: Clients
    ) -> None:
        self._shell = shell
        self._binder = binder
        self._panels = panels
        self._clients = clients
        #: Batches whose answers are to be bound when they end.
        self.awaited: set[str] = set()
        #: Batches that a cell waits for, which binds and draws their end itself.
        self.waiting: set[str] = set()
        self._binding: set[str] = set()  # answers that wait for the end of a cell

    def _client_of(self, handle: BatchHandle) -> Client:
        """Return the client that knows a batch."""
        return self._clients.knowing(handle.id) or self._clients.current

    def expect(self, handle: BatchHandle) -> None:
        """Put the placeholder in place and remember to bind the answers."""
        name = handle.record.name
        self.awaited.add(handle.id)
        kind = self._shell.user_ns.get(handle.record.recipe.schema_name)
        if isinstance(kind, type):
            self._clients.current.library.remember_kind(handle.record, kind)
        if self._binder.is_free(name):
            self._binder.reserve(name, Placeholder(name, handle.__repr__, lambda: handle.done))

    def bind_ended(self, handle: BatchHandle, module: dict[str, Any] | None) -> str:
        """Bind the answers of an ended batch unless they are there; return what to tell.

        Answers that the user has changed since they were bound stay as they are.

        Raises
        ------
        UsageProblem
            The variable holds something else of the user's.
        """
        name = handle.record.name
        bound = self._binder.holds(name, self._edition(handle))
        if self._binder.holds(name) and not self._binder.is_ours(name):
            self.awaited.discard(handle.id)
            return (
                f"{name} has changes of yours and was left alone; after `del {name}`, "
                f"`%llm_batch results {handle.name}` binds the answers as they came"
            )
        if not bound:
            self.bind(handle, module)
        return ""

    def bind(
        self, handle: BatchHandle, module: dict[str, Any] | None, *, partial: bool = False
    ) -> None:
        """Bind the answers now, in the cell that asks for them.

        Raises
        ------
        UsageProblem
            The variable holds something of the user's.
        """
        name = handle.record.name
        self._binder.settle(name, module)
        edition = self._edition(handle)
        answers = handle.answers(partial=partial)
        if handle.done:
            self.awaited.discard(handle.id)  # else they are bound again when all are there
        if not self._binder.bind_now(name, answers, edition):
            raise UsageProblem(
                f"the variable {name!r} holds something of yours and was left alone: "
                f"`del {name}` and run this again, or take the answers with "
                f"jupyter_llm_batch.get({handle.name!r}).answers()"
            )

    def _edition(self, handle: BatchHandle) -> object:
        """Return what changes when there are more answers, or they take another shape."""
        return self._client_of(handle).library.edition(handle.record)

    def takes_over(self, snapshot: Snapshot) -> bool:
        """Begin to bind the answers of a batch that ended, if they are awaited; on the loop."""
        if not (snapshot.finished and snapshot.batch_id in self.awaited):
            return False
        self.awaited.discard(snapshot.batch_id)
        asyncio.get_running_loop().create_task(self._bind_later(snapshot))
        return True

    async def _bind_later(self, snapshot: Snapshot) -> None:
        client = self._clients.knowing(snapshot.batch_id)
        if client is None:
            return
        handle = client.library.handle(snapshot.batch_id)
        try:
            await asyncio.to_thread(self._offer, handle)
        except (LLMBatchError, OSError) as error:
            self._panels.notices[snapshot.batch_id] = f"answers could not be read: {error}"
        except Exception as error:  # noqa: BLE001 - else the panel would say nothing of it
            trouble.report_defect(error, f"binding the answers of {handle.name}")
            self._panels.notices[snapshot.batch_id] = (
                f"the answers are here, and an internal error ({type(error).__name__}) kept them "
                f"from being bound: `%llm_batch export {handle.name} FILE` writes them to a file"
            )
        if snapshot.batch_id not in self.waiting:
            self._panels.listen(snapshot, open_end=snapshot.batch_id in self._binding)

    def _offer(self, handle: BatchHandle) -> None:
        """Have the answers bound at the next chance, unless the name is not this batch's."""
        batch, edition = handle.record, self._edition(handle)
        if self._binder.holds(batch.name, edition):
            return  # a cell that waited was first
        value = handle.answers()
        if (why := structured.schema_problem(batch.recipe.schema)) is not None:
            self._panels.notices[handle.id] = (
                f"the answers were bound as they came, since the schema cannot be used ({why})"
            )
        client = self._client_of(handle)
        if client.get(batch.name).id != handle.id:
            # Its bare name means the later one.
            later = f"a later version has the name {batch.name}"
            self._left_alone(handle, later, name=batch.exact)
            return
        if not self._binder.is_free(batch.name):
            self._left_alone(handle, _ALONE)
        self._binding.add(handle.id)
        self._binder.bind_soon(
            batch.name,
            value,
            edition,
            functools.partial(self._told, handle),
            lambda: self._is_latest(handle, edition),
        )

    def _is_latest(self, handle: BatchHandle, edition: object) -> bool:
        """Whether answers that were read a while ago are not bound yet, and no cell has newer."""
        with contextlib.suppress(LLMBatchError):  # it was forgotten meanwhile
            batch, client = handle.record, self._client_of(handle)
            last = client.get(batch.name).id
            held = self._binder.holds(batch.name, edition)
            return not held and last == batch.id and edition == self._edition(handle)
        return False

    def _told(self, handle: BatchHandle, bound: bool) -> None:
        """Have the panel say whether the answers were bound after all; in the user's thread."""
        self._binding.discard(handle.id)
        with contextlib.suppress(LLMBatchError):  # it was forgotten meanwhile
            if not bound:
                self._left_alone(handle, _ALONE)
            elif self._panels.notices.get(handle.id, "").startswith(_ALONE):
                del self._panels.notices[handle.id]
        self._panels.amend(handle.id)

    def _left_alone(self, handle: BatchHandle, why: str, *, name: str = "") -> None:
        self._panels.notices[handle.id] = (
            f"{why}; `%llm_batch results {name or handle.name}` binds the answers"
        )
