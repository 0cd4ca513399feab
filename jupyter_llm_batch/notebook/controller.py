"""One notebook's side of the batches: its variables, its panels, its client."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from concurrent.futures import Future

from IPython.core.interactiveshell import InteractiveShell

from ..client import session
from ..client.client import Client
from ..client.handle import BatchHandle
from ..core import trouble
from ..core.batch import Batch
from ..core.errors import Halted, LLMBatchError, NotReady, UsageProblem
from ..core.identity import Identity, variable
from ..core.snapshot import Snapshot
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..data import structured
from ..storage.input_file import ROWS_FILE
from ..submission.options import Options
from .config import LLMBatch
from .options import names_in
from .panel.panels import Panels
from .scope import Scope
from .variables import Binder, Placeholder, kernel_scheduler

#: What a cell without ``--model`` asks for after ``%llm_batch simulator``.
SIMULATED_MODEL = "openai:gpt-5-mini"

_ALONE = "your variable was left alone"


class Book:
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
        self.binder = Binder(lambda: shell.user_ns, kernel_scheduler())
        #: Where the present magic was run.
        self.scope = Scope(shell.user_ns)
        self.panels = Panels(shell, self._pressed)
        self._client: Client | None = None
        self._opened: list[Client] = []  # all that this notebook used; each drives its batches
        self._awaited: set[str] = set()
        self._waiting: set[str] = set()
        self._binding: set[str] = set()  # answers that wait for the end of a cell

    # -- the client --------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The client in use, made on first need; a simulation that was begun elsewhere is kept."""
        simulation = session.simulation()
        if simulation is not None and simulation is not self._client:
            self._simulated(simulation)
        elif self._client is None:
            self.use(self._real())
        assert self._client is not None
        # A path that came after the batches had begun is another name of the same notebook.
        self._client.identity = self._client.identity.also(variable(self.shell.user_ns))
        # %config takes effect with the next cell.
        self._client.settings = self.config.settings()
        return self._client

    @property
    def notebook(self) -> str:
        """What tells this notebook from others."""
        return self.identity.name

    def use(self, client: Client) -> None:
        """Work with `client` from now on; go on with what it has unfinished."""
        if client is self._client:
            return
        self._client = session.use(client)
        self._take_up(client)

    def _take_up(self, client: Client) -> None:
        """Show what a client has unfinished, and have it go on with that."""
        if client not in self._opened:
            self._opened.append(client)
            client.listen(self.listen)
            if client.store.loss is not None:
                print(f"llm_batch: {client.store.loss.words}")
        for handle in client.resume():
            with contextlib.suppress(LLMBatchError):
                self._expect(handle)
                self.panels.show(handle.snapshot())

    def resume(self) -> None:
        """Go on with the unfinished batches of this notebook, real ones also while simulating."""
        if self.client.simulated and (self.config.settings().folder() / "journal.sqlite").exists():
            self._take_up(self._real())

    def _real(self) -> Client:
        """Return the client of the real providers: the one that is there, else a new one."""
        settings = self.config.settings()
        for client in reversed(self._opened):
            if not (client.simulated or client.closed) and client.store.folder == settings.folder():
                return client
        return Client(notebook=self.identity, settings=settings)

    def _has(self, batch_id: str) -> Client | None:
        """Return the client that knows a batch: perhaps not the one in use."""
        clients = [each for each in reversed(self._opened) if not each.closed]
        return next((each for each in clients if each.store.batch(batch_id)), None)

    def simulate(self, *, seconds: float) -> Client:
        """Switch to the embedded simulator."""
        client = session.simulate(
            settings=self.config.settings(), notebook=self.identity, seconds=seconds
        )
        self._simulated(client)
        return client

    def _simulated(self, client: Client) -> None:
        if not self.config.model:
            self.config.model = SIMULATED_MODEL
        self.use(client)

    def end_simulation(self) -> None:
        """Go back to the real providers; simulated batches are kept for the next time."""
        if self.client.simulated:
            if self.config.model == SIMULATED_MODEL:
                self.config.model = ""
            self.use(self._real())

    def close(self) -> None:
        """Stop driving; batches go on at their providers."""
        for client in self._opened:
            client.close()
        self._opened.clear()
        self._client = None

    # -- batches -----------------------------------------------------------------------------------

    def submit(
        self, name: str, text: str | None, options: Options, over: str, line: str = ""
    ) -> BatchHandle:
        """Submit from a cell: placeholder, panel, and the batch under way."""
        self.check_name(name, over)
        free = functools.partial(self.binder.check_free, name)
        handle = self.client.begin(text, name, options, new=free)
        if line != handle.record.line:
            self.client.store.decide(handle.id, line=line)
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
            kept = self.settle(handle)
        else:
            self._expect(handle)
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
        self.client.background.soon(self.client.poller().watch, batch.id)

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
        self._waiting.add(handle.id)
        try:
            handle.take_up()
            while not handle.done and "send" not in handle.snapshot().choices:
                # Looking up now and then costs nothing and lets a terminal say what is new.
                try:
                    handle.wait_on(1.0)
                except Halted:
                    if "send" not in handle.snapshot().choices:
                        raise
                except NotReady:
                    pass
                self.panels.speak()
        finally:
            self._waiting.discard(handle.id)
            if handle.done:
                # By this cell itself: nbclient hears only what the running cell publishes.
                self.panels.listen(handle.snapshot())
                self.panels.speak()
        kept = self.settle(handle) if handle.done else ""
        if kept and not handle.attached:  # else its panel says so
            print(kept)

    def settle(self, handle: BatchHandle) -> str:
        """Bind the answers of an ended batch unless they are there; return what to tell.

        Answers that the user has changed since they were bound stay as they are.

        Raises
        ------
        UsageProblem
            The variable holds something else of the user's.
        """
        name = handle.record.name
        bound = self.binder.holds(name, self._edition(handle))
        if self.binder.holds(name) and not self.binder.is_ours(name):
            self._awaited.discard(handle.id)
            return (
                f"{name} has changes of yours and was left alone; after `del {name}`, "
                f"`%llm_batch results {handle.name}` binds the answers as they came"
            )
        if not bound:
            self.bind(handle)
        return ""

    def _edition(self, handle: BatchHandle) -> object:
        """Return what changes when there are more answers, or they take another shape."""
        batch, client = handle.record, self._has(handle.id) or self.client
        store = client.store
        try:
            found = (store.folder_of(batch.id) / ROWS_FILE).stat()
            rows = found.st_mtime_ns, found.st_ino, found.st_size
        except OSError:
            rows = 0, 0, 0
        packs = [hash(store.pack(batch.id, each)) for each in ("outcomes", "owners")]
        return batch.id, batch.shape, rows, client.kind_of(batch), packs

    def bind(self, handle: BatchHandle, *, partial: bool = False) -> None:
        """Bind the answers now, in the cell that asks for them.

        Raises
        ------
        UsageProblem
            The variable holds something of the user's.
        """
        name = handle.record.name
        self.binder.settle(name, self.scope.module)
        edition = self._edition(handle)
        answers = handle.answers(partial=partial)
        if handle.done:
            self._awaited.discard(handle.id)  # else they are bound again when all are there
        if not self.binder.bind_now(name, answers, edition):
            raise UsageProblem(
                f"the variable {name!r} holds something of yours and was left alone: "
                f"`del {name}` and run this again, or take the answers with "
                f"jupyter_llm_batch.get({handle.name!r}).answers()"
            )

    def _expect(self, handle: BatchHandle) -> None:
        """Put the placeholder in place and remember to bind the answers."""
        name = handle.record.name
        self._awaited.add(handle.id)
        kind = self.shell.user_ns.get(handle.record.recipe.schema_name)
        if isinstance(kind, type):
            self.client.know_kind(handle.record, kind)
        if self.binder.is_free(name):
            self.binder.reserve(name, Placeholder(name, handle.__repr__, lambda: handle.done))

    # -- told by the background --------------------------------------------------------------------

    def listen(self, snapshot: Snapshot) -> None:
        """Draw a snapshot; bind the answers of a batch that ended. Called on the loop."""
        if snapshot.finished and snapshot.batch_id in self._awaited:
            self._awaited.discard(snapshot.batch_id)
            asyncio.get_running_loop().create_task(self._bind_later(snapshot))
        elif not (snapshot.finished and snapshot.batch_id in self._waiting):
            self.panels.listen(snapshot)

    async def _bind_later(self, snapshot: Snapshot) -> None:
        client = self._has(snapshot.batch_id)
        if client is None:
            return
        handle = BatchHandle(client, snapshot.batch_id)
        try:
            await asyncio.to_thread(self._offer, handle)
        except (LLMBatchError, OSError) as error:
            self.panels.notices[snapshot.batch_id] = f"answers could not be read: {error}"
        except Exception as error:  # noqa: BLE001 - else the panel would say nothing of it
            trouble.report(error, f"binding the answers of {handle.name}")
            self.panels.notices[snapshot.batch_id] = (
                f"the answers are here, and an internal error ({type(error).__name__}) kept them "
                f"from being bound: `%llm_batch export {handle.name} FILE` writes them to a file"
            )
        if snapshot.batch_id not in self._waiting:
            self.panels.listen(snapshot, open_end=snapshot.batch_id in self._binding)

    def _offer(self, handle: BatchHandle) -> None:
        """Have the answers bound at the next chance, unless the name is not this batch's."""
        batch, edition = handle.record, self._edition(handle)
        if self.binder.holds(batch.name, edition):
            return  # a cell that waited was first
        value = handle.answers()
        if (why := structured.problem(batch.recipe.schema)) is not None:
            self.panels.notices[handle.id] = (
                f"the answers were bound as they came, since the schema cannot be used ({why})"
            )
        client = self._has(handle.id) or self.client
        if client.get(batch.name).id != handle.id:
            # Its bare name means the later one.
            later = f"a later version has the name {batch.name}"
            self._left_alone(handle, later, name=batch.exact)
            return
        if not self.binder.is_free(batch.name):
            self._left_alone(handle, _ALONE)
        self._binding.add(handle.id)
        self.binder.bind_soon(
            batch.name,
            value,
            edition,
            functools.partial(self._told, handle),
            lambda: self._is_latest(handle, edition),
        )

    def _is_latest(self, handle: BatchHandle, edition: object) -> bool:
        """Whether answers that were read a while ago are not bound yet, and no cell has newer."""
        with contextlib.suppress(LLMBatchError):  # it was forgotten meanwhile
            batch, client = handle.record, self._has(handle.id) or self.client
            last = client.get(batch.name).id
            held = self.binder.holds(batch.name, edition)
            return not held and last == batch.id and edition == self._edition(handle)
        return False

    def _told(self, handle: BatchHandle, bound: bool) -> None:
        """Have the panel say whether the answers were bound after all; in the user's thread."""
        self._binding.discard(handle.id)
        with contextlib.suppress(LLMBatchError):  # it was forgotten meanwhile
            if not bound:
                self._left_alone(handle, _ALONE)
            elif self.panels.notices.get(handle.id, "").startswith(_ALONE):
                del self.panels.notices[handle.id]
        self.panels.amend(handle.id)

    def _left_alone(self, handle: BatchHandle, why: str, *, name: str = "") -> None:
        self.panels.notices[handle.id] = (
            f"{why}; `%llm_batch results {name or handle.name}` binds the answers"
        )

    # -- told by the user --------------------------------------------------------------------------

    def cell_begins(self) -> None:
        """Bind what is ready; from here on the namespace is the cell's."""
        self.binder.cell_begins()
        if self._client is not None:
            self._client.start_again()
            self._client.background.user_is_busy = True

    def cell_ended(self) -> None:
        """Bind what became ready during the cell."""
        if self._client is not None:
            self._client.background.user_is_busy = False
        self.binder.cell_ended()
        self.panels.speak(news=True)

    def retry(self, handle: BatchHandle, *, unbilled: bool) -> int:
        """Send rows without an answer again, and expect new answers; see `BatchHandle.retry`."""
        count = handle.retry(confirm=True, unbilled=unbilled)
        if count or not handle.done:  # it may also wait for what an earlier batch asks again
            self._awaited.add(handle.id)
        return count

    def _pressed(self, batch_id: str, action: str) -> None:
        """Hand a button over to the background; never raises, never waits."""
        with contextlib.suppress(LLMBatchError, RuntimeError):
            client = self._has(batch_id)
            if client is None:
                return
            handle = BatchHandle(client, batch_id)
            if action == "cancel":
                handle.cancel(confirm=True)  # the panel has asked
            elif action in {"retry", "unbilled"}:  # the panel has asked
                self._awaited.add(batch_id)
                only = action == "unbilled"
                asked = client.background.call(client.poller().retry(batch_id, unbilled=only))
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
                client.background.call(client.poller().refresh(batch_id))

    def _retried(self, handle: BatchHandle, done: Future[int]) -> None:
        """Say on the panel why a retry was refused, for instance by a budget; on the loop."""
        error = None if done.cancelled() else done.exception()
        if isinstance(error, LLMBatchError):
            self._refused(handle, error)

    def _refused(self, handle: BatchHandle, error: LLMBatchError) -> None:
        self.panels.notices[handle.id] = f"not sent again: {error}"
        with contextlib.suppress(LLMBatchError):
            self.panels.listen(handle.snapshot())
