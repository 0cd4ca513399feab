"""What the engine needs from a provider: its validator, its result lines, its times."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import msgspec

from .fates import Fate
from .ledger import Entry
from .life import Batch


class Clock:
    """The time, which can be put forward."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def now(self) -> float:
        """Return the virtual time as Unix seconds."""
        return time.time() + self.ahead


class Row(msgspec.Struct):
    """What the engine must know of one request of a batch."""

    prompt: str
    tokens: int
    #: False when the endpoint will refuse it for what it says.
    valid: bool = True


class Result(msgspec.Struct):
    """One line of a result file, and what it cost."""

    kind: str
    line: bytes
    entry: Entry | None = None


class Validator(Protocol):
    """Reads the requests of one batch in order and collects what is wrong with them."""

    model: str | None
    problems: list[dict[str, object]]

    def take(self, number: int, line: bytes) -> Row | None:
        """Read line ``number`` (from 1); ``None`` if it can not be read."""

    def close(self, tokens: int) -> None:
        """Check what only the whole shows; ``tokens`` is the sum over the rows."""


class Dialect(Protocol):
    """What the engine needs from a provider."""

    name: str
    keeps_order: bool
    lifetime: float
    retention: float

    def validator(self, batch: Batch) -> Validator:
        """Return a new validator for a batch."""

    def problem(self, code: str) -> dict[str, object]:
        """Return the batch error for a code, for a batch that was told to fail."""

    def result(self, batch: Batch, index: int, line: bytes, fate: Fate) -> Result:
        """Return the result of one request."""

    def stranger(self, batch: Batch, index: int) -> Result:
        """Return a result line for a request that nobody sent."""

    def deliver(self, batch: Batch, kind: str, content: Path) -> str:
        """Take over a result file and return its name."""
