"""The variable that will hold the answers: a placeholder first, bound between two cells only."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import NotReady, UsageProblem


class Placeholder:
    """Stands in the notebook until the answers are there.

    Its repr is the progress line. Anything else one does with answers raises, saying how far the
    batch is and how to wait, so that no code computes with something that is not there.
    """

    def __init__(self, name: str, line: Callable[[], str], is_done: Callable[[], bool]) -> None:
        self._llm_batch_name = name
        self._llm_batch_line = line
        self._llm_batch_is_done = is_done

    def __repr__(self) -> str:
        return self._llm_batch_line()

    def _llm_batch_refuse(self) -> NoReturn:
        name = self._llm_batch_name
        if self._llm_batch_is_done():
            raise NotReady(
                f"this was taken before the answers came: {name!r} has them, or "
                f"`%llm_batch results {name}` binds them"
            )
        raise NotReady(
            f"the answers are not there yet: {self._llm_batch_line()}; "
            f"`%llm_batch wait {self._llm_batch_name}` waits for them"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # IPython and copy ask for many of these
            raise AttributeError(name)
        self._llm_batch_refuse()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            self._llm_batch_refuse()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if not name.startswith("_"):
            self._llm_batch_refuse()
        super().__delattr__(name)

    def __iter__(self) -> NoReturn:
        self._llm_batch_refuse()

    def __len__(self) -> int:  # noqa: PLE0303 - it raises
        self._llm_batch_refuse()

    def __bool__(self) -> bool:  # noqa: PLE0304 - it raises
        self._llm_batch_refuse()

    def __getitem__(self, key: object) -> NoReturn:
        self._llm_batch_refuse()

    def __setitem__(self, key: object, value: object) -> None:
        self._llm_batch_refuse()

    def __delitem__(self, key: object) -> None:
        self._llm_batch_refuse()

    def __eq__(self, other: object) -> bool:
        self._llm_batch_refuse()

    def __lt__(self, other: object) -> bool:
        self._llm_batch_refuse()

    __le__ = __gt__ = __ge__ = __lt__
    __hash__ = object.__hash__

    def __contains__(self, item: object) -> bool:
        self._llm_batch_refuse()


class Binder:
    """Binds answers in the user's namespace, never while a cell runs, never over the user's own.

    Parameters
    ----------
    namespace
        The notebook's variables.
    later
        Schedules a function on the kernel's main thread soon, or None where there is no kernel
        loop; the next cell boundary does it then.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        later: Callable[[Callable[[], None]], None] | None,
    ) -> None:
        self._namespace = namespace
        self._later = later
        self._ours: dict[str, tuple[object, Any]] = {}
        self._queue: list[tuple[str, Any]] = []
        self._lock = threading.Lock()
        self._depth = 0  # cells may run cells

    # -- cell boundaries ---------------------------------------------------------------------------

    def cell_begins(self) -> None:
        """Bind what is ready, then leave the namespace alone."""
        if not self._depth:
            self._drain()
        self._depth += 1

    def cell_ended(self) -> None:
        """Bind what became ready meanwhile."""
        self._depth = max(self._depth - 1, 0)  # the cell that loads the extension began before it
        self._when_idle()

    # -- names -------------------------------------------------------------------------------------

    def check_free(self, name: str) -> None:
        """Raise `UsageProblem` when `name` holds something that is not ours."""
        if name in self._namespace and not self.is_ours(name):
            kind = type(self._namespace[name]).__name__
            raise UsageProblem(
                f"the name {name!r} is in use (a {kind}): choose another name for the batch, "
                f"or `del {name}` first"
            )

    def is_ours(self, name: str) -> bool:
        """Whether the variable is what we put there, unchanged as far as can be told cheaply."""
        found = self._namespace.get(name)
        if isinstance(found, Placeholder) and found._llm_batch_name == name:
            return True  # perhaps from before the extension was loaded again
        if name not in self._namespace or name not in self._ours:
            return False
        value, outline = self._ours[name]
        return self._namespace[name] is value and _outline(value) == outline

    def reserve(self, name: str, placeholder: Placeholder) -> None:
        """Put the placeholder in place; called in the user's cell."""
        self._put(name, placeholder)

    def bind_now(self, name: str, value: Any) -> bool:
        """Bind in the user's cell, which asked for it; False when the name holds the user's own."""
        if name in self._namespace and not self.is_ours(name):
            return False
        self._put(name, value)
        return True

    def bind_soon(self, name: str, value: Any) -> None:
        """Bind at the next cell boundary, or at once when the kernel is idle; from any thread."""
        with self._lock:
            self._queue.append((name, value))
        if self._later is not None:
            with contextlib.suppress(RuntimeError):  # the kernel is shutting down
                self._later(self._when_idle)

    def _when_idle(self) -> None:
        if not self._depth:
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            queue, self._queue = self._queue, []
        for name, value in queue:
            self.bind_now(name, value)

    def _put(self, name: str, value: Any) -> None:
        self._namespace[name] = value
        self._ours[name] = (value, _outline(value))


def _outline(value: Any) -> Any:
    """Return what changes when a user adds a column or an item to answers they were given."""
    if isinstance(value, Placeholder):
        return None
    columns = getattr(value, "columns", None)
    shape = getattr(value, "shape", None)
    if columns is not None and shape is not None:
        return tuple(shape), tuple(str(column) for column in columns)
    return len(value) if isinstance(value, list | dict) else None


def kernel_scheduler() -> Callable[[Callable[[], None]], None] | None:
    """Return how to run something on the kernel's main thread, or None outside a kernel."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return lambda function: _soon(loop, function)


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(function)
