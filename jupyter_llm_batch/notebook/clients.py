"""The clients that a notebook works with: the real providers' and the simulator's."""

from __future__ import annotations

from collections.abc import Callable

from IPython.core.interactiveshell import InteractiveShell

from ..client import session
from ..client.client import Client
from ..client.handle import BatchHandle
from ..core.identity import Identity, notebook_variable
from ..core.snapshot import Snapshot
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from .config import LLMBatch

#: What a cell without ``--model`` asks for after ``%llm_batch simulator``.
SIMULATED_MODEL = "openai:gpt-5-mini"


class Clients:
    """Opens clients, switches between them, and finds the one that knows a batch.

    Parameters
    ----------
    shell
        The running IPython.
    config
        The user's defaults.
    identity
        The notebook, as it was known on load.
    listen
        Called on the background loop with every snapshot.
    unfinished
        Called with each batch that a client has unfinished when it is opened.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        config: LLMBatch,
        identity: Identity,
        listen: Callable[[Snapshot], None],
        unfinished: Callable[[BatchHandle], None],
    ) -> None:
        self._shell = shell
        self._config = config
        self._identity = identity
        self._listen = listen
        self._unfinished = unfinished
        self._client: Client | None = None
        self._opened: list[Client] = []  # all that this notebook used; each drives its batches

    @property
    def current(self) -> Client:
        """The client in use, made on first need; a simulation that was begun elsewhere is kept."""
        simulation = session.simulation()
        if simulation is not None and simulation is not self._client:
            self._simulated(simulation)
        elif self._client is None:
            self.use(self._real())
        assert self._client is not None
        # A path that came after the batches had begun is another name of the same notebook.
        self._client.library.also_known_as(notebook_variable(self._shell.user_ns))
        # %config takes effect with the next cell.
        self._client.settings = self._config.settings()
        return self._client

    @property
    def in_use(self) -> Client | None:
        """The client in use, None before the first need of one."""
        return self._client

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
            client.watching.listen(self._listen)
            if client.journal.loss:
                print(f"llm_batch: {client.journal.loss}")
        for handle in client.resume():
            self._unfinished(handle)

    def resume(self) -> None:
        """Go on with the unfinished batches of this notebook, real ones also while simulating."""
        if (
            self.current.simulated
            and (self._config.settings().folder() / "journal.sqlite").exists()
        ):
            self._take_up(self._real())

    def _real(self) -> Client:
        """Return the client of the real providers: the one that is there, else a new one."""
        settings = self._config.settings()
        for client in reversed(self._opened):
            if (
                not (client.simulated or client.closed)
                and client.journal.folder == settings.folder()
            ):
                return client
        return Client(notebook=self._identity, settings=settings)

    def knowing(self, batch_id: str) -> Client | None:
        """Return the client that knows a batch: perhaps not the one in use."""
        clients = [each for each in reversed(self._opened) if not each.closed]
        return next((each for each in clients if each.library.record(batch_id)), None)

    def simulate(self, *, seconds: float) -> Client:
        """Switch to the embedded simulator."""
        client = session.simulate(
            settings=self._config.settings(), notebook=self._identity, seconds=seconds
        )
        self._simulated(client)
        return client

    def _simulated(self, client: Client) -> None:
        if not self._config.model:
            self._config.model = SIMULATED_MODEL
        self.use(client)

    def end_simulation(self) -> None:
        """Go back to the real providers; simulated batches are kept for the next time."""
        if self.current.simulated:
            if self._config.model == SIMULATED_MODEL:
                self._config.model = ""
            self.use(self._real())

    def close(self) -> None:
        """Stop driving; batches go on at their providers."""
        for client in self._opened:
            client.close()
        self._opened.clear()
        self._client = None
