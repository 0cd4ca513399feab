"""What a client and its batches share: journal, settings, keys, adapters, poller."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..core.batch import Batch
from ..core.errors import LLMBatchError
from ..core.identity import Identity
from ..core.policy import Policy
from ..core.secret import HiddenDict
from ..core.settings import Settings
from ..core.snapshot import Snapshot
from ..engine.background import Background, NoThread
from ..engine.poller import Poller
from ..providers import registry
from ..providers.base import Adapter
from ..providers.shared import addresses
from ..storage.store import Store
from .keys import Chain
from .money import Accounts
from .servers import Servers

#: One background thread serves every client of the process.
BACKGROUND = Background()

#: Variables that choose account and server; when one changes, adapters are made anew.
_SDKS = ("OPENAI_", "AZURE_", "ANTHROPIC_", "GEMINI_", "GOOGLE_")

_T = TypeVar("_T")


class Context:
    """What a client and its batches share.

    Attributes
    ----------
    asked
        Batches that this kernel has asked for, by id, the latest last.
    kinds
        The classes that schemas were given as, by name of the batch and of the schema.
    """

    def __init__(
        self,
        store: Store,
        keys: Chain,
        *,
        settings: Settings,
        identity: Identity,
        simulated: bool,
        policy: Policy | None,
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.keys = keys
        self.settings = settings
        self.identity = identity
        self.notebook = identity.name
        self.simulated = simulated
        self.policy = policy
        self.clock = clock
        self.background = BACKGROUND
        self.closed = False
        self.asked: dict[str, None] = {}
        self.kinds: dict[tuple[str, str], Any] = {}
        self.servers = Servers(store, lambda: self.settings)
        self.accounts = Accounts(store, lambda: self.settings, self.notebook, simulated=simulated)
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._adapters: dict[str, tuple[int, Adapter]] = {}
        self._poller: Poller | None = None
        self._running: concurrent.futures.Future[None] | None = None
        self._lock = threading.Lock()

    # -- classes of schemas ------------------------------------------------------------------------

    def kind_of(self, batch: Batch) -> Any:
        """Return the class that a batch's schema was given as, if this process knows it."""
        return self.kinds.get((batch.name, batch.recipe.schema_name))

    def remember_kind(self, batch: Batch, kind: Any) -> None:
        """Remember the class of a batch's schema, found again after a restart."""
        self.kinds.setdefault((batch.name, batch.recipe.schema_name), kind)

    # -- providers ---------------------------------------------------------------------------------

    def adapter(self, name: str, *, ask: bool = False) -> Adapter:
        """Return the adapter of a provider under the present keys and base URLs.

        Parameters
        ----------
        ask
            The user has just asked for this provider; see `Keys.find`.
        """
        environ = self.keys.variables(addresses.key_variables(name), ask=ask)
        servers = self.servers.all()
        own = addresses.key_variables(name)[0].removesuffix("API_KEY")
        account = HiddenDict({k: environ[k] for k in environ if k.startswith((*_SDKS, own))})
        present = hash((tuple(account.items()), servers.get(name)))
        known = self._adapters.get(name)
        if known is None or known[0] != present:
            made = registry.make(name, environ, servers, simulated=self.simulated)
            known = (present, made)
            self._adapters[name] = known
        return known[1]

    # -- the background ----------------------------------------------------------------------------

    def listen(self, listener: Callable[[Snapshot], None]) -> None:
        """Have `listener` called, on the background thread, with every new snapshot."""
        self._listeners.append(listener)

    def _tell(self, snapshot: Snapshot) -> None:
        for listener in self._listeners:
            listener(snapshot)

    def poller(self) -> Poller:
        """Return the poller, starting it when it is needed for the first time."""
        with self._lock:
            if self._poller is None:
                policy = self.policy or Policy(
                    poll=self.settings.poll_seconds, at_once=self.settings.at_once
                )
                self._poller = Poller(
                    self.store,
                    self.adapter,
                    policy=policy,
                    clock=self.clock,
                    notebook=self.notebook,
                    listen=self._tell,
                    breathe=self.background.breathe,
                    rules=self.accounts.rules_in_use,
                )
            if self._running is None:
                with contextlib.suppress(NoThread):  # tried again whenever somebody comes by
                    self._running = self.background.call(self._poller.run())
            return self._poller

    def start_again(self) -> None:
        """Have batches driven for which no thread could be started before."""
        if self._poller is not None and self._running is None:
            self.poller()

    def wake(self) -> None:
        """Have everything looked at now, if anything is driven at all."""
        if self._poller is not None:
            self.background.soon(self._poller.wake)

    @property
    def is_driving(self) -> bool:
        """Whether the poller was needed so far."""
        return self._poller is not None

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` in the background and return its result."""
        return self.background.call(work).result()

    def close(self) -> None:
        """Stop driving; batches go on at the provider and are taken up again later."""
        self.closed = True
        if self.store.forked:
            return  # a child leaves to its parent what is its parent's
        poller, self._poller = self._poller, None
        if poller is not None:
            with contextlib.suppress(LLMBatchError, concurrent.futures.TimeoutError, RuntimeError):
                self.background.call(poller.stop()).result(5.0)
            if self._running is not None:
                with contextlib.suppress(Exception):
                    self._running.result(2.0)
        for _, adapter in self._adapters.values():
            with contextlib.suppress(Exception):
                self.background.call(adapter.close()).result(2.0)
        self._adapters.clear()
        self.store.close()
