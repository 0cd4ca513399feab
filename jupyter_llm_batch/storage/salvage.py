"""What can be read of a damaged journal, row by row, into a new one."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..core.batch import Batch
from ..core.job import Job, JobState
from ..core.request import Mode
from . import inherited_rows

#: Tables and the columns that order them.
_ORDER = {
    "meta": "key",
    "batch": "rowid",
    "job": "rowid",
    "pack": "batch_id, kind",
    "part": "batch_id, key",
    "event": "seq",
    "spend": "id",
    "reservation": "batch_id",
}


def copy(source: Path, target: sqlite3.Connection) -> int:
    """Copy every batch that can be read whole; return how many there are.

    Jobs that stand as not sent may have been sent all the same, when the latest pages are the lost
    ones: they are looked up before anything is sent.
    """
    target.execute("PRAGMA foreign_keys = OFF")
    target.execute("BEGIN IMMEDIATE")
    try:
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(
            sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
        ) as db:  # fmt: skip
            db.execute("PRAGMA writable_schema = ON")  # reads past a table of tables that is broken
            for table in _ORDER:
                _copy_table(db, target, table)
        whole = _drop_incomplete(target)
        _distrust(target)
        target.execute("COMMIT")
    except BaseException:
        target.execute("ROLLBACK")
        raise
    finally:
        target.execute("PRAGMA foreign_keys = ON")
    return whole


def _copy_table(db: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    known = {row[1] for row in target.execute(f"PRAGMA table_info({table})")}
    for names, values in _rows(db, table):
        pairs = [(name, value) for name, value in zip(names, values, strict=True) if name in known]
        columns = ", ".join(name for name, _ in pairs)
        marks = ", ".join("?" for _ in pairs)
        with contextlib.suppress(sqlite3.IntegrityError):  # a garbled row is no row
            target.execute(
                f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
                [value for _, value in pairs],
            )


def _rows(db: sqlite3.Connection, table: str) -> Iterator[tuple[list[str], tuple[Any, ...]]]:
    """Yield rows from both ends up to where the damage is."""
    order = _ORDER[table]
    backwards = ", ".join(f"{column.strip()} DESC" for column in order.split(","))
    for sequence in (order, backwards):
        try:
            cursor = db.execute(f"SELECT * FROM {table} ORDER BY {sequence}")  # noqa: S608
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield names, row
            return
        except sqlite3.DatabaseError:
            continue


def _drop_incomplete(db: sqlite3.Connection) -> int:
    """Delete the batches of which something is missing; return how many are whole."""
    whole = set()
    for batch_id, record in db.execute("SELECT id, record FROM batch").fetchall():
        with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError, struct.error):
            if _is_whole(db, msgspec.json.decode(record, type=Batch)):
                whole.add(batch_id)
    for table, column in (("job", "batch_id"), ("pack", "batch_id"), ("part", "batch_id"),
                          ("event", "batch_id"), ("batch", "id")):  # fmt: skip
        for (batch_id,) in db.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():  # noqa: S608
            if batch_id not in whole:
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", [batch_id])  # noqa: S608
    return len(whole)


def _is_whole(db: sqlite3.Connection, batch: Batch) -> bool:
    if batch.draft:
        return True
    packs = dict(db.execute("SELECT kind, data FROM pack WHERE batch_id = ?", [batch.id]))
    sizes = {"hashes": 16, "outcomes": 1, "owners": 4} | ({"sources": 8} if batch.sources else {})
    if any(len(packs.get(kind, b"")) != size * batch.rows for kind, size in sizes.items()):
        return False
    asked: set[int] = set()
    numbers = []
    for rows, record in db.execute("SELECT rows, record FROM job WHERE batch_id = ?", [batch.id]):
        job = msgspec.json.decode(record, type=Job)
        numbers.append(job.number)
        if job.round == 0:
            for start, stop in struct.iter_unpack("<II", rows):
                asked.update(range(start, stop))
    together = sorted(numbers) == [*range(1, len(numbers) + 1)]
    taken = inherited_rows.read(packs.get("sources", b""), batch.sources) if batch.sources else {}
    # Those that follow a row of a later round were taken from an earlier batch before.
    repeats = sum(source == batch.id and there in asked for source, there in taken.values())
    return together and len(asked) == batch.rows - batch.reused - batch.skipped - repeats


def _distrust(db: sqlite3.Connection) -> None:
    """Have every job that stands as not sent, or is to be sent once more, looked up first."""
    for job_id, record in db.execute("SELECT id, record FROM job").fetchall():
        job = msgspec.json.decode(record, type=Job)
        if job.mode is Mode.REALTIME:
            continue  # what was asked stands in files of its own
        if job.state in {JobState.PLANNED, JobState.UPLOADED}:
            job = msgspec.structs.replace(
                job, state=JobState.SUBMITTING, attempts=max(1, job.attempts)
            )
        if job.state in {JobState.SUBMITTING, JobState.UNKNOWN, JobState.RUNNING}:
            job = msgspec.structs.replace(job, distrusted=True)
            db.execute(
                "UPDATE job SET state = ?, record = ? WHERE id = ?",
                [job.state.value, msgspec.json.encode(job, order=None), job_id],
            )
