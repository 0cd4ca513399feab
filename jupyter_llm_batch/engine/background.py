"""The daemon thread that owns the event loop; everything slow happens there, nothing prints there.

A task on the kernel's own loop freezes whenever a cell blocks, so nothing of ours runs on it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..core.errors import UsageProblem

T = TypeVar("T")

#: The logs of the SDKs and of what they call with.
_SDKS = ("httpx2", "httpx", "openai._base_client", "anthropic._base_client", "google_genai.models")

#: Name of the thread.
THREAD = "llm-batch"

#: Seconds of pause after a slice of work while one of the user's cells runs: about 8 % duty.
PAUSE = 0.02


class NoThread(UsageProblem):
    """The background could not start; nothing was lost, and it may be tried again."""


class Background:
    """A lazily started thread with an asyncio loop.

    Attributes
    ----------
    user_is_busy
        True while a cell of the user runs; decoding then takes pauses.
    """

    def __init__(self) -> None:
        self.user_is_busy = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, starting the thread when there is none in this process yet."""
        with self._lock:
            # A fork copies this object but not the thread.
            if self._loop is None or self._pid != os.getpid() or not self._alive():
                ready = threading.Event()
                self._loop = asyncio.new_event_loop()
                self._pid = os.getpid()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop, ready), name=THREAD, daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError as error:  # the system gives no more threads, or no memory
                    loop, self._loop, self._thread = self._loop, None, None
                    loop.close()
                    raise NoThread(
                        f"nothing is sent yet, since the system starts no thread now ({error}): "
                        "what was submitted is on disk, and the next cell tries again"
                    ) from error
                ready.wait()
            return self._loop

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def call(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the loop; its ``result()`` can be waited for and interrupted."""
        try:
            loop = self.loop()
        except BaseException:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop)

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the loop."""
        self.loop().call_soon_threadsafe(function, *args)

    async def breathe(self) -> None:
        """Pause between slices of work, longer while a cell runs."""
        await asyncio.sleep(PAUSE if self.user_is_busy else 0)

    def stop(self, *, timeout: float = 5.0) -> None:
        """End the thread; what the provider runs goes on there."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or self._pid != os.getpid() or not thread.is_alive():
            return
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)


class _Quiet(logging.Filter):
    """Makes what the SDKs log of our own calls debug messages: each poll is one.

    Records of other threads, such as the user's own calls, are left as they are.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be handled."""
        if record.threadName != THREAD or record.levelno != logging.INFO:
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


_QUIET = _Quiet()


def _run(loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    for name in _SDKS:
        logging.getLogger(name).addFilter(_QUIET)
    loop.call_soon(ready.set)
    try:
        loop.run_forever()
    finally:
        loop.close()
