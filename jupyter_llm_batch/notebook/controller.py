"""One notebook's side of the batches: its variables, its panels, its clients."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from IPython.core.interactiveshell import InteractiveShell

from ..client.client import Client
from ..client.handle import BatchHandle
from ..core.batch import Batch
from ..core.errors import Halted, LLMBatchError, NotReady, UsageProblem
from ..core.identity import Identity
from ..core.snapshot import Snapshot
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..submission.options import Options
from .bound_answers import BoundAnswers
from .buttons import Buttons
from .clients import Clients
from .config import LLMBatch
from .options import names_in
from .panel.panels import Panels
from .scope import Scope
from .tables import show
from .variables import Binder, kernel_scheduler


class Controller:
    """What the magics act on.

    Parameters
    ----------
    shell
        The running IPython.
    config
        The user's defaults.
    identity
        The notebook, as it was known on load.
    """

    def __init__(self, shell: InteractiveShell, config: LLMBatch, identity: Identity) -> None:
        self.shell = shell
        self.identity = identity
        self.config = config
        #: Where the present magic was run.
        self.scope = Scope(shell.user_ns)
        self.binder = Binder(lambda: shell.user_ns, kernel_scheduler())
        self.panels = Panels(shell, self._pressed)
        self.clients = Clients(shell, config, identity, self.listen, self._take_up)
        self.answers = BoundAnswers(shell, self.binder, self.panels, self.clients)
        self.buttons = Buttons(self.panels, self.clients, self.answers)

    # -- the client --------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The client in use, made on first need."""
        return self.clients.current

    @property
    def notebook(self) -> str:
        """What tells this notebook from others."""
        return self.identity.name

    def use(self, client: Client) -> None:
        """Work with `client` from now on; go on with what it has unfinished."""
        self.clients.use(client)

    def _take_up(self, handle: BatchHandle) -> None:
        """Show a batch that is unfinished, and expect its answers."""
        with contextlib.suppress(LLMBatchError):
            self.answers.expect(handle)
            self.panels.show(handle.snapshot())

    # -- batches -----------------------------------------------------------------------------------

    def submit(
        self, name: str, text: str | None, options: Options, over: str, line: str = ""
    ) -> BatchHandle:
        """Submit from a cell: placeholder, panel, and the batch under way."""
        self.check_name(name, over)
        free = functools.partial(self.binder.check_free, name)
        handle = self.client.begin(text, name, options, new=free)
        self.client.library.remember_line(handle.record, line)
        return self.started(handle)

    def submit_draft(
        self, name: str, *, resubmit: bool, confirm: bool, max_cost: float | None
    ) -> BatchHandle:
        """Submit what cells have collected, as `submit` does."""
        self.check_name(name)
        free = functools.partial(self.binder.check_free, name)
        return self.started(
            self.client.submit_draft(
                name, resubmit=resubmit, confirm=confirm, max_cost=max_cost, new=free
            )
        )

    def started(self, handle: BatchHandle) -> BatchHandle:
        """Show a batch that was submitted or attached to, and bind what is there."""
        self.panels.notices.pop(handle.id, None)
        kept = ""
        if handle.done:
            kept = self.answers.bind_ended(handle, self.scope.module)
        else:
            self.answers.expect(handle)
        where = ""
        if self.scope.in_function:
            name = handle.record.name
            where = f"the answers go to the notebook's variable {name}, not into the function"
        notice = "; ".join(filter(None, (handle.lasting, kept, where)))
        self.panels.show(handle.snapshot(), notice=notice, passing=handle.passing)
        return handle

    def panel(self, batch: Batch, snapshot: Snapshot) -> None:
        """Show a batch that is under way; one of another notebook is only looked at."""
        if batch.notebook == self.notebook:
            self.panels.show(snapshot)
            return
        notice = f"of {batch.notebook}, only shown here"
        self.panels.show(snapshot, notice=notice, read_only=True)
        self.client.watching.watch(batch.id)

    @contextlib.contextmanager
    def run_in(self, scope: Scope | None) -> Iterator[None]:
        """Work with the names of `scope`, the notebook's by default; they are not kept."""
        before, self.scope = self.scope, scope or Scope(self.shell.user_ns)
        try:
            yield
        finally:
            self.scope = before

    def check_name(self, name: str, over: str = "") -> None:
        """Raise `UsageProblem` unless the answers may be bound to `name`, or were.

        Answers that the user has changed since stand in the way of others only.
        """
        self.binder.settle(name, self.scope.module)
        if name in names_in(over):
            raise UsageProblem(
                f"Choose another name: {name!r} is your input and would be overwritten"
            )
        if not self.binder.holds(name):
            self.binder.check_free(name)

    def wait(self, handle: BatchHandle) -> None:
        """Block until a batch is done, then bind its answers; an interrupt stops the waiting."""
        self.answers.waiting.add(handle.id)
        try:
            watching = self.client.watching
            watching.take_up(handle.id)
            while not handle.done and "send" not in handle.snapshot().choices:
                # Looking up now and then costs nothing and lets a terminal say what is new.
                try:
                    watching.wait(handle.record, 1.0)
                except Halted:
                    if "send" not in handle.snapshot().choices:
                        raise
                except NotReady:
                    pass
                self.panels.speak()
        finally:
            self.answers.waiting.discard(handle.id)
            if handle.done:
                # By this cell itself: nbclient hears only what the running cell publishes.
                self.panels.listen(handle.snapshot())
                self.panels.speak()
        kept = self.answers.bind_ended(handle, self.scope.module) if handle.done else ""
        if kept and not handle.attached:  # else its panel says so
            print(kept)

    def wait_in_cell(self, handle: BatchHandle, *, panel: bool = False) -> None:
        """Wait as `wait` does; an interrupt is one line that says how the batch goes on.

        Parameters
        ----------
        panel
            Show the batch first.
        """
        try:
            if panel:
                self.panels.show(handle.snapshot())
            self.wait(handle)
        except KeyboardInterrupt:
            raise NotReady(f"stopped waiting; {show.goes_on(handle)}") from None

    def bind(self, handle: BatchHandle, *, partial: bool = False) -> None:
        """Bind the answers now, in the cell that asks for them; see `BoundAnswers.bind`."""
        self.answers.bind(handle, self.scope.module, partial=partial)

    # -- told by the background --------------------------------------------------------------------

    def listen(self, snapshot: Snapshot) -> None:
        """Draw a snapshot; bind the answers of a batch that ended. Called on the loop."""
        if self.answers.takes_over(snapshot):
            return
        if not (snapshot.finished and snapshot.batch_id in self.answers.waiting):
            self.panels.listen(snapshot)

    # -- told by the user --------------------------------------------------------------------------

    def _pressed(self, batch_id: str, action: str) -> None:
        """Hand a button over to the background; never raises, never waits."""
        self.buttons.press(batch_id, action)

    def cell_begins(self) -> None:
        """Bind what is ready; from here on the namespace is the cell's."""
        self.binder.cell_begins()
        if (client := self.clients.in_use) is not None:
            client.watching.cell_begins()

    def cell_ended(self) -> None:
        """Bind what became ready during the cell."""
        if (client := self.clients.in_use) is not None:
            client.watching.cell_ended()
        self.binder.cell_ended()
        self.panels.speak(news=True)

    def retry(self, handle: BatchHandle, *, unbilled: bool) -> int:
        """Send rows without an answer again, and expect new answers; see `BatchHandle.retry`."""
        count = handle.retry(confirm=True, unbilled=unbilled)
        if count or not handle.done:  # it may also wait for what an earlier batch asks again
            self.answers.awaited.add(handle.id)
        return count
