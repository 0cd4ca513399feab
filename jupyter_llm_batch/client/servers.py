"""OpenAI-compatible servers by name: of the settings, of the journal, and those that cells name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.settings import Settings
from ..providers import registry
from ..providers.shared.addresses import is_loopback
from ..storage import trust
from ..storage.store import Store


class Servers:
    """The servers that models may be named at.

    Parameters
    ----------
    settings
        Returns the user's settings as they are now.
    """

    def __init__(self, store: Store, settings: Callable[[], Settings]) -> None:
        self._store = store
        self._settings = settings
        self._journaled: dict[str, str] | None = None
        self._named: dict[str, str] = {}  # of this session's cells, not journaled yet

    def all(self) -> dict[str, str]:
        """Return base URLs by name."""
        if self._journaled is None:
            found = self._store.servers().items()
            self._journaled = {name: url for name, url in found if _is_own(name, url)}
        return {**self._journaled, **self._named, **self._settings().servers}

    def name(self, url: str) -> str:
        """Return the name of the server that a cell gives by its URL."""
        server = registry.server_name(url)
        self._named[server] = url
        return server

    def keep(self, models: Iterable[str]) -> None:
        """Journal the servers that are used: their batches go on after a restart, and in a shell.

        Neither runs the cells, and a shell does not read the profile that named them.
        """
        named = {**self._named, **self._settings().servers}
        for server in {model.partition(":")[0] for model in models} & named.keys():
            self._store.add_server(server, named[server])
            if not is_loopback(named[server]):
                trust.remember(_server(server, named[server]))


def _server(name: str, url: str) -> str:
    return f"server {name} {url}"


def _is_own(name: str, url: str) -> bool:
    """Whether a server of the journal may get a key: it is of this machine, or was set on it."""
    return is_loopback(url) or trust.knows(_server(name, url))
