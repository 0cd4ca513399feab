"""Faults of the wire: which request meets one, and what then happens to it."""

from __future__ import annotations

import asyncio
import re
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

Action = Literal[
    "status",
    "drop",
    "accept_then_status",
    "accept_then_drop",
    "accept_then_freeze",
    "truncate",
    "corrupt",
    "delay",
    "freeze",
    "drip",
]


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One fault.

    ``drop`` closes the connection before the request is looked at, ``freeze`` holds it there
    until the faults are cleared. The ``accept_then_`` kinds process the request first.
    ``truncate`` sends a part of the answer, ``corrupt`` garbles some bytes of it, and ``drip``
    sends it in pieces over ``seconds``.
    """

    action: Action
    #: Method it applies to; any when empty.
    method: str = ""
    #: Glob over the path, or a regular expression when it begins with ``^``.
    path: str = "*"
    #: How many requests meet it; every one when null.
    times: int | None = 1
    #: Matching requests that pass before the first one meets it.
    after: int = 0
    status: int = 500
    body: Any = None
    headers: dict[str, str] = {}
    seconds: float = 1.0
    #: Share of the answer that ``truncate`` sends, and after which ``corrupt`` begins.
    keep: float = 0.5
    #: Whether ``truncate`` announces only the length that it sends.
    shorten_length: bool = False
    #: Whether ``truncate`` cuts between two lines.
    at_line: bool = False
    #: Counted by the simulator.
    seen: int = 0
    met: int = 0

    def meets(self, method: str, path: str) -> bool:
        """Count a request, and tell whether it meets the fault."""
        if self.method and self.method.upper() != method:
            return False
        if self.path.startswith("^"):
            matches = re.search(self.path, path) is not None
        else:
            matches = fnmatchcase(path, self.path)
        if not matches:
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.met >= self.times):
            return False
        self.met += 1
        return True


class Faults:
    """The faults that are set, oldest first; a request meets at most one."""

    def __init__(self) -> None:
        self.set: list[Fault] = []
        self._thaw = asyncio.Event()

    def add(self, values: dict[str, Any]) -> Fault:
        """Set a fault; ``ValueError`` names a wrong field."""
        try:
            fault = msgspec.convert(values, Fault)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        self.set.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults and let frozen requests go on."""
        self.set.clear()
        self._thaw.set()
        self._thaw = asyncio.Event()

    def find(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request meets."""
        for fault in self.set:
            if fault.meets(method, path):
                return fault
        return None

    async def frozen(self, fault: Fault) -> None:
        """Wait until the faults are cleared, which may have happened since the fault was met."""
        if any(fault is other for other in self.set):
            await self._thaw.wait()
