"""A simulator inside this process, on a thread of its own: for tests."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from .server.control import World
from .server.http import serve
from .world.behaviour import Behaviour

T = TypeVar("T")


def environ(url: str, key: str) -> dict[str, str]:
    """Return the variables that point the three SDKs to a simulator with this key."""
    return {
        "OPENAI_BASE_URL": f"{url}/openai/v1",
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": f"{url}/anthropic",
        "ANTHROPIC_API_KEY": key,
        "GOOGLE_GEMINI_BASE_URL": f"{url}/google",
        "GEMINI_API_KEY": key,
    }


class Simulator:
    """The simulated providers on a free port of loopback.

    Parameters
    ----------
    seconds
        Life of a batch from creation to its end; 0 means done at the first poll.
    state
        Folder that keeps files, batches and ledger beyond `stop`; a temporary one by default.
    port
        Port to listen on; any free one for 0.
    keys
        What further keys begin with that are let in beside this simulator's own.
    **switches
        Further fields of `Behaviour`.
    """

    def __init__(
        self,
        *,
        seconds: float = 1.0,
        state: Path | None = None,
        port: int = 0,
        keys: tuple[str, ...] = (),
        **switches: Any,
    ) -> None:
        self._behaviour = Behaviour().changed({"seconds": seconds, **switches})
        self._state = state
        self._keys = keys
        self.port = port

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Begin to listen."""
        self._temporary = tempfile.TemporaryDirectory(prefix="llm-simulator-")
        folder = self._state or Path(self._temporary.name)
        ready = threading.Event()
        self._failure: BaseException | None = None

        def run() -> None:
            try:
                asyncio.run(self._main(folder, ready))
            except BaseException as error:  # noqa: BLE001  raised by start()
                self._failure = error
                ready.set()

        self._thread = threading.Thread(target=run, name="llm-simulator", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop listening; what is in ``state`` stays."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._temporary.cleanup()

    async def _main(self, folder: Path, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._world = World(folder, self._behaviour, self._keys)
        server, self.port = serve(self._world, self.port)
        ready.set()
        await self._stopping.wait()
        server.stop()
        await server.close_all_connections()
        self._world.save()

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """What ``OPENAI_BASE_URL`` has to be."""
        return self.environ()["OPENAI_BASE_URL"]

    @property
    def anthropic_url(self) -> str:
        """What ``ANTHROPIC_BASE_URL`` has to be."""
        return self.environ()["ANTHROPIC_BASE_URL"]

    @property
    def google_url(self) -> str:
        """What ``GOOGLE_GEMINI_BASE_URL`` has to be."""
        return self.environ()["GOOGLE_GEMINI_BASE_URL"]

    def environ(self) -> dict[str, str]:
        """Return the environment variables that point the SDKs here."""
        return environ(self.url, self.key)

    @property
    def key(self) -> str:
        """The key of this simulator; ``KEY-more`` is a key of another account."""
        return self._world.door.key

    def ledger(self) -> list[dict[str, Any]]:
        """Return the rows that were executed and billed up to now."""
        return [msgspec.json.decode(line) for line in self._await(self._world.ledger())]

    def summary(self) -> dict[str, Any]:
        """Return the totals of the ledger, and what was billed more than once."""
        return self._await(self._world.summary())

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests seen, without those to the control API."""
        return [msgspec.structs.asdict(seen) for seen in self._do(self._world.requests)]

    def behave(self, **switches: Any) -> None:
        """Set switches of `Behaviour`."""
        self._await(self._world.behave(switches))

    def fault(self, **fault: Any) -> None:
        """Set a `Fault`."""
        self._do(lambda: self._world.fault(fault))

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults that are set, and how often each was met."""
        return [msgspec.structs.asdict(fault) for fault in self._do(lambda: self._world.faults.set)]

    def clear_faults(self) -> None:
        """Remove all faults and let frozen requests go on."""
        self._do(self._world.faults.clear)

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""
        self._await(self._world.advance(seconds))

    def reset(self) -> None:
        """Forget everything, and behave as in the beginning."""
        self._do(self._world.reset)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _do(self, call: Callable[[], T]) -> T:
        async def work() -> T:
            return call()

        return self._await(work())
