"""The variable that will hold the answers: a placeholder first, bound between two cells only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from ..core.errors import NotReady, UsageProblem
from ..core.text import a_type
from . import unchanged

_log = logging.getLogger(__name__)


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

    def __format__(self, spec: str) -> NoReturn:
        self._llm_batch_refuse()

    def __array__(self, dtype: object = None, copy: object = None) -> NoReturn:
        """Refuse: NumPy and pandas would take the placeholder for a value."""
        self._llm_batch_refuse()

    def __add__(self, other: object) -> NoReturn:
        self._llm_batch_refuse()

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
    __mod__ = __rmod__ = __and__ = __rand__ = __or__ = __ror__ = __add__
    __int__ = __float__ = __index__ = __reversed__ = __neg__ = __iter__


class Binder:
    """Binds answers in the user's namespace, never while a cell runs, never over the user's own.

    Parameters
    ----------
    namespace
        Returns the notebook's variables; an embedded shell has others in each scope.
    later
        Schedules a function on the kernel's main thread soon, or None where there is no kernel
        loop; the next cell boundary does it then.
    """

    def __init__(
        self,
        namespace: Callable[[], dict[str, Any]],
        later: Callable[[Callable[[], None]], None] | None,
    ) -> None:
        self._namespace = namespace
        self._homes: dict[str, dict[str, Any]] = {}  # where a name was asked for
        self._modules: dict[str, dict[str, Any]] = {}  # and the script that asked for it
        self._later = later
        self._ours: dict[str, _Bound] = {}
        self._queue: list[tuple[str, _Bound, Callable[[bool], object], Callable[[], bool]]] = []
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

    def settle(self, name: str, module: dict[str, Any] | None = None) -> None:
        """Bind `name` in the present namespace from now on; called in the user's cell.

        Parameters
        ----------
        module
            The names of a script that asks for it: there it is bound, too.
        """
        self._homes[name] = self._namespace()
        self._modules.pop(name, None)
        if module is not None:
            self._modules[name] = module

    def is_free(self, name: str) -> bool:
        """Whether the variable does not exist, or is what we put there, unchanged."""
        return name not in self._home(name) or self.is_ours(name)

    def _home(self, name: str) -> dict[str, Any]:
        return self._homes.get(name) or self._namespace()

    def check_free(self, name: str) -> None:
        """Raise `UsageProblem` when `name` holds something that is not ours, or not any more."""
        if self.is_free(name):
            return
        if self.holds(name):
            raise UsageProblem(
                f"{name} holds answers that you have changed: keep them under another name and "
                f"`del {name}`, or choose another name for the batch"
            )
        kind = a_type(self._home(name)[name])
        raise UsageProblem(
            f"the name {name!r} is in use ({kind}): choose another name for the batch, "
            f"or `del {name}` first"
        )

    def holds(self, name: str, edition: object = None) -> bool:
        """Whether the variable is the very object that was bound, whatever became of it.

        Parameters
        ----------
        edition
            Of these answers; of any by default.
        """
        bound = self._ours.get(name)
        if bound is None or self._home(name).get(name) is not bound.value:
            return False
        return edition is None or edition == bound.edition

    def is_ours(self, name: str) -> bool:
        """Whether the variable is what we put there, unchanged."""
        found = self._home(name).get(name)
        if isinstance(found, Placeholder) and found._llm_batch_name == name:
            return True  # perhaps from before the extension was loaded again
        return self.holds(name) and unchanged.is_untouched(found, self._ours[name].kept)

    def reserve(self, name: str, placeholder: Placeholder) -> None:
        """Put the placeholder in place; called in the user's cell."""
        self._put(name, _Bound(placeholder, unchanged.keep(placeholder), None))

    def bind_now(self, name: str, value: Any, edition: object = None) -> bool:
        """Bind in the user's cell, which asked for it; False when the name holds the user's own.

        Parameters
        ----------
        edition
            What tells these answers from others of the same name; see `holds`.
        """
        return self._put_if_ours(name, _Bound(value, unchanged.keep(value), edition))

    def bind_soon(
        self,
        name: str,
        value: Any,
        edition: object = None,
        told: Callable[[bool], object] = bool,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Bind at the next cell boundary, or at once when the kernel is idle; from any thread.

        Parameters
        ----------
        told
            Is told, in the user's thread, whether the answers were bound: they are not when the
            name holds the user's own by then.
        wanted
            Whether they are to be bound still, asked just before.
        """
        bound = _Bound(value, unchanged.keep(value), edition)
        with self._lock:
            self._queue.append((name, bound, told, wanted))
        if self._later is not None:
            with contextlib.suppress(RuntimeError):  # the kernel is shutting down
                self._later(self._when_idle)

    def _when_idle(self) -> None:
        if not self._depth:
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            queue, self._queue = self._queue, []
        for name, bound, told, wanted in queue:
            try:
                told(not wanted() or self._put_if_ours(name, bound))
            except Exception:  # noqa: BLE001 - one variable keeps no other from being bound
                _log.exception("%s could not be bound", name)

    def _put_if_ours(self, name: str, bound: _Bound) -> bool:
        if not self.is_free(name):
            return False
        self._put(name, bound)
        return True

    def _put(self, name: str, bound: _Bound) -> None:
        module, before = self._modules.get(name), self._ours.get(name)
        if module is not None:
            there = module.get(name)
            # Whatever else the script has put there is its own.
            if name not in module or (before is not None and there is before.value):
                module[name] = bound.value
        self._home(name)[name] = bound.value
        self._ours[name] = bound


class _Bound(NamedTuple):
    """What was bound, how it was then, and which answers it holds."""

    value: Any
    kept: Any
    edition: object


def kernel_scheduler() -> Callable[[Callable[[], None]], None] | None:
    """Return how to run something on the kernel's main thread, or None outside a kernel."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return lambda function: _soon(loop, function)


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(function)
