"""What was parsed last, for whoever reads it next: after a download that is the notebook.

Parsing costs more than all else between a download and bound answers, and would be done twice.
"""

from __future__ import annotations

import threading

from msgspec.structs import replace

from ..core.job import Job
from ..core.result import Result

#: Bytes of result lines of which the results are held.
ROOM = 64 << 20


class Parsed:
    """The results of a job in the order of their lines, as long as there is room for them."""

    def __init__(self) -> None:
        self.size = 0
        self.results: list[Result] = []

    def add(self, result: Result, size: int) -> None:
        """Take up a result that was read from a line of `size` bytes."""
        self.size += size
        if self.size > ROOM:
            self.results.clear()
        else:
            self.results.append(lean(result))


class Recent:
    """What was parsed of the jobs that were collected last; each is handed out once."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[dict[str, str], Parsed]] = {}
        self._lock = threading.Lock()

    def keep(self, job: Job, parsed: Parsed) -> None:
        """Hold what the files of a collected job gave; earlier jobs make room for it."""
        if not parsed.results:
            return
        with self._lock:
            while sum(each.size for _, each in self._kept.values()) + parsed.size > ROOM:
                del self._kept[next(iter(self._kept))]
            self._kept[job.id] = job.sums, parsed

    def take(self, job: Job) -> list[Result] | None:
        """Return what is held of a job, unless its files are others by now, and let it go."""
        with self._lock:
            sums, parsed = self._kept.pop(job.id, (None, None))
        return parsed.results if parsed is not None and sums == job.sums else None


def lean(result: Result) -> Result:
    """Return a result without what is left out where answers are bound."""
    return result if result.reasoning is None else replace(result, reasoning=None)
