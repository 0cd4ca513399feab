"""The log of a real-time job: what was asked and what came back, row by row, as it happens.

Each owner of a job's lease writes two files of its own beside the payload, named by its token:
``r0-j1.asked.7`` with a record per request before it goes out, and ``r0-j1.answers.7`` with the
result lines. A process that was frozen and woken can so neither tear nor undo what its successor
writes. When the job is over the answers become ``r0-j1.output.jsonl``, like those of a batch.

Records of an ``asked`` file: ``+12`` row 12 goes out, ``-12`` it surely was not executed,
``?12 why`` it may have been, ``!12 why`` it was turned away for good. A row with more ``+`` than
``-`` and no result line may have been billed.

A record is written whole or not at all, and what there is no room for waits in memory. Records that
were torn all the same are read with doubt: each ``+`` in them counts, no ``-`` does.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from ..core import loose_json
from ..core.ids import custom_id
from ..core.job import Job
from . import files

#: A record that is not on disk yet: the kind of its file, and its bytes.
Record = tuple[str, bytes]

ASKED, ANSWERS = "asked", "answers"

#: What is said of a row of which nothing came back and nothing else is known.
NO_ANSWER = "asked in real time, and the answer never arrived"


class RowLog:
    """The files of one owner, open for appending.

    Parameters
    ----------
    folder
        The batch's folder.
    token
        That of the lease under which they are written.
    left
        Records that are not durable yet: those for which an earlier log had no room are written
        before all others. It outlives this log; what it then holds belongs into the next.
    """

    def __init__(self, folder: Path, job: Job, token: int, left: list[Record]) -> None:
        files.private_folder(folder)
        stem = Path(job.payload).stem
        self._left = left
        self._written = 0
        self._files = {ASKED: _File(folder / f"{stem}.asked.{token}")}
        try:
            self._files[ANSWERS] = _File(folder / f"{stem}.answers.{token}")
            files.sync_folder(folder)
        except OSError:
            self._end()
            raise

    def asking(self, rows: list[int]) -> None:
        """Record that `rows` go out, durably, and with it all answers up to now.

        Raises
        ------
        OSError
            There is no room: the record is taken back, and nothing may go out.
        """
        self._write()
        self._files[ASKED].append(b"".join(b"+%d\n" % row for row in rows))
        self.sync()

    def not_executed(self, row: int) -> None:
        """Record that a request surely was not executed: it may be sent again."""
        self._put(ASKED, b"-%d\n" % row)

    def given_up(self, row: int, why: str) -> None:
        """Record that a request was turned away too often and ends so, unbilled."""
        self._put(ASKED, f"!{row} {' '.join(why.split())}\n".encode())

    def unclear(self, row: int, why: str) -> None:
        """Record why nobody knows whether a request was executed."""
        self._put(ASKED, f"?{row} {' '.join(why.split())}\n".encode())

    def answered(self, row: int, line: bytes, *, ok: bool) -> None:
        """Keep a result line; it survives this process at once, and the machine after `sync`."""
        self._put(ANSWERS, b"%d %s %s" % (row, b"ok" if ok else b"no", line))

    def sync(self) -> None:
        """Make everything durable; what cannot be made so is to be written anew."""
        self._write()
        try:
            for file in (self._files[ANSWERS], self._files[ASKED]):
                file.sync()
        except OSError:
            self._written = 0  # whatever was written twice in the end counts once
            for file in self._files.values():
                file.take_back()
            raise
        del self._left[: self._written]
        self._written = 0

    def close(self) -> None:
        """Make everything durable and close the files."""
        try:
            self.sync()
        finally:
            self._end()

    def _put(self, kind: str, record: bytes) -> None:
        self._left.append((kind, record))
        self._write()

    def _write(self) -> None:
        while self._written < len(self._left):
            kind, record = self._left[self._written]
            self._files[kind].append(record)
            self._written += 1

    def _end(self) -> None:
        for file in self._files.values():
            file.close()


class _File:
    """A file that ends after a whole record whatever happens to the last one."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._end = self._durable = sum(map(len, _whole_lines(path)))

    def append(self, record: bytes) -> None:
        """Write a record to its end, or take it back and raise."""
        if os.fstat(self._handle).st_size != self._end:
            os.ftruncate(self._handle, self._end)
        left = memoryview(record)
        try:
            while left:
                left = left[os.write(self._handle, left) :]
        except OSError:
            with contextlib.suppress(OSError):  # else before the next record
                os.ftruncate(self._handle, self._end)
            raise
        self._end += len(record)

    def sync(self) -> None:
        """Make the records durable."""
        os.fsync(self._handle)
        self._durable = self._end

    def take_back(self) -> None:
        """Forget the records that are not durable."""
        self._end = self._durable
        with contextlib.suppress(OSError):  # else before the next record
            os.ftruncate(self._handle, self._end)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


class Past:
    """What all owners of a job have written up to one moment.

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
        self._job = job
        asked: Counter[int] = Counter()
        given_up: dict[int, str] = {}
        reasons: dict[int, str] = {}
        for path in _files(folder, job, ASKED):
            here: Counter[int] = Counter()
            for record in files.lines(path):
                _read_asked(record, here, given_up, reasons)
            asked += here
        # The answers after the intents: what is answered meanwhile is then not taken for open.
        self._files = _files(folder, job, ANSWERS)
        self.answered: dict[int, bool] = {}
        for row, ok, _ in self._lines():
            self.answered.setdefault(row, ok)
        self.open = {
            row: reasons.get(row, "")
            for row in asked
            if row not in self.answered and row not in given_up
        }
        self.given_up = {row: why for row, why in given_up.items() if row not in self.answered}
        self.untouched = not (asked or reasons or given_up or self.answered)

    def lines(self) -> Iterator[bytes]:
        """Yield the first result line of every answered row."""
        seen: set[int] = set()
        for row, _, line in self._lines():
            if row not in seen and row in self.answered:
                seen.add(row)
                yield line

    def _lines(self) -> Iterator[tuple[int, bool, bytes]]:
        for path in self._files:
            for record in files.lines(path):
                if (found := _read_answer(record, self._job.batch_id)) is not None:
                    yield found


_ASKED = re.compile(rb"([+-])([0-9]+)\n|([?!])([0-9]+) (.*)\n", re.DOTALL)
_INTENTS = re.compile(rb"\+([0-9]+)")
_ANSWER = re.compile(rb"([0-9]+) (ok|no) (?=\{)")


def _read_asked(
    record: bytes, asked: Counter[int], given_up: dict[int, str], reasons: dict[int, str]
) -> None:
    """Take up one record of an owner's file, of which those before it were read."""
    found = _ASKED.fullmatch(record)
    if found is None:  # torn, and what came next stands in its line: nothing in it is a relief
        asked.update(map(int, _INTENTS.findall(record)))
        return
    sign, row, mark, other, why = found.groups()
    if sign == b"+":
        asked[int(row)] += 1
    elif sign == b"-":
        if asked[int(row)] <= 1:
            del asked[int(row)]
        else:
            asked[int(row)] -= 1
    else:
        words = given_up if mark == b"!" else reasons
        words[int(other)] = why.decode(errors="replace").strip()
        if torn := re.search(rb"\+([0-9]+)$", why):
            asked[int(torn[1])] += 1


def _read_answer(record: bytes, batch_id: str) -> tuple[int, bool, bytes] | None:
    """Return row, kind and line of a record; of a torn one and the next in a line, the next."""
    for found in _ANSWER.finditer(record):
        line = record[found.end() :]
        if not _is_json(line):
            continue
        line = line.rstrip(b"\r\n") + b"\n"
        for start in range(len(found[1])):  # a torn one may have ended in digits
            row = int(found[1][start:])
            if b'"%s"' % custom_id(batch_id, row).encode() in line:
                return row, found[2] == b"ok", line
        if found.start() == 0:  # rows of a batch that was created elsewhere have other ids
            return int(found[1]), found[2] == b"ok", line
    return None


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return loose_json.is_json(line)  # NaN, for one, is no reason to lose an answer
    return True


def tidy(folder: Path, job: Job, collected: Collection[int]) -> None:
    """Delete the log of a job that was collected, unless an answer may still be under way.

    Parameters
    ----------
    collected
        The rows whose result lines were collected; one that came later is kept with its log.
    """
    past = Past(folder, job)
    if not past.open and past.answered.keys() <= set(collected):
        for kind in (ASKED, ANSWERS):
            for path in _files(folder, job, kind):
                path.unlink(missing_ok=True)


def _files(folder: Path, job: Job, kind: str) -> list[Path]:
    """Return the files of one kind, the oldest owner's first."""
    found = folder.glob(f"{Path(job.payload).stem}.{kind}.*")
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield lines; a last one without its end was being written when its writer died."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
