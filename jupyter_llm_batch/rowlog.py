"""The log of a real-time job: what was asked and what came back, row by row, as it happens.

Each owner of a job's lease writes two files of its own beside the payload, named by its token:
``r0-j1.asked.7`` with a record per request before it goes out, and ``r0-j1.answers.7`` with the
result lines. A process that was frozen and woken can so neither tear nor undo what its successor
writes. When the job is over the answers become ``r0-j1.output.jsonl``, like those of a batch.

Records of an ``asked`` file: ``+12`` row 12 goes out, ``-12`` it surely was not executed,
``?12 why`` it may have been, ``!12 why`` it was turned away for good. A row with more ``+`` than
``-`` and no result line may have been billed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from . import payloads
from .models import Job


class RowLog:
    """The files of one owner, open for appending.

    Parameters
    ----------
    folder
        The batch's folder.
    token
        That of the lease under which they are written.
    """

    def __init__(self, folder: Path, job: Job, token: int) -> None:
        payloads.private_folder(folder)
        stem = Path(job.payload).stem
        self._asked = _open(folder / f"{stem}.asked.{token}")
        self._answers = _open(folder / f"{stem}.answers.{token}")
        payloads.sync_folder(folder)

    def asking(self, rows: list[int]) -> None:
        """Record that `rows` go out, durably, and with it all answers up to now."""
        os.write(self._asked, b"".join(b"+%d\n" % row for row in rows))
        self.sync()

    def not_executed(self, row: int) -> None:
        """Record that a request surely was not executed: it may be sent again."""
        os.write(self._asked, b"-%d\n" % row)

    def given_up(self, row: int, why: str) -> None:
        """Record that a request was turned away too often and ends so, unbilled."""
        os.write(self._asked, f"!{row} {' '.join(why.split())}\n".encode())

    def unclear(self, row: int, why: str) -> None:
        """Record why nobody knows whether a request was executed."""
        os.write(self._asked, f"?{row} {' '.join(why.split())}\n".encode())

    def answered(self, row: int, line: bytes, *, ok: bool) -> None:
        """Keep a result line; it survives this process at once, and the machine after `sync`."""
        left = memoryview(b"%d %s %s" % (row, b"ok" if ok else b"no", line))
        while left:
            left = left[os.write(self._answers, left) :]

    def sync(self) -> None:
        """Make everything durable."""
        os.fsync(self._answers)
        os.fsync(self._asked)

    def close(self) -> None:
        """Make everything durable and close the files."""
        try:
            self.sync()
        finally:
            os.close(self._asked)
            os.close(self._answers)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Past:
    """What all owners of a job have written so far.

    Attributes
    ----------
    answered
        Rows with a result line, and whether that is an answer.
    open
        Rows that were asked, were not surely without effect, and have no result line, each with
        the reason, where one is known: they may have been billed.
    given_up
        Rows that were turned away too often, each with the reason.
    untouched
        Nothing was ever asked.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self._files = _files(folder, job, "answers")
        self.answered: dict[int, bool] = {}
        for row, ok, _ in self._lines():
            self.answered.setdefault(row, ok)
        asked: Counter[int] = Counter()
        given_up: dict[int, str] = {}
        reasons: dict[int, str] = {}
        for path in _files(folder, job, "asked"):
            for record in _whole_lines(path):
                number, _, why = record[1:].decode(errors="replace").partition(" ")
                if record[:1] == b"?":
                    reasons[int(number)] = why.strip()
                elif record[:1] == b"!":
                    given_up[int(number)] = why.strip()
                else:
                    asked[int(number)] += 1 if record[:1] == b"+" else -1
        self.open = {
            row: reasons.get(row, "")
            for row, times in asked.items()
            if times > 0 and row not in self.answered and row not in given_up
        }
        self.given_up = {row: why for row, why in given_up.items() if row not in self.answered}
        self.untouched = not asked

    def lines(self) -> Iterator[bytes]:
        """Yield the first result line of every answered row."""
        seen: set[int] = set()
        for row, _, line in self._lines():
            if row not in seen:
                seen.add(row)
                yield line

    def _lines(self) -> Iterator[tuple[int, bool, bytes]]:
        for path in self._files:
            for record in _whole_lines(path):
                number, _, rest = record.partition(b" ")
                word, _, line = rest.partition(b" ")
                yield int(number), word == b"ok", line


def tidy(folder: Path, job: Job) -> None:
    """Delete the log of a job that was collected, unless an answer may still be under way."""
    if not Past(folder, job).open:
        for kind in ("asked", "answers"):
            for path in _files(folder, job, kind):
                path.unlink(missing_ok=True)


def _files(folder: Path, job: Job, kind: str) -> list[Path]:
    """Return the files of one kind, the oldest owner's first."""
    found = folder.glob(f"{Path(job.payload).stem}.{kind}.*")
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield lines; a last one without its end was being written when its writer died."""
    for line in payloads.lines(path):
        if line.endswith(b"\n"):
            yield line
