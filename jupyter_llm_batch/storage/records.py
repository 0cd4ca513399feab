"""Read and write the journal's records, inside a transaction that the caller has begun."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..core.batch import Batch
from ..core.errors import LeaseLost
from ..core.ids import Ranges
from ..core.job import Job
from . import damage
from .database import encode

read_job = msgspec.json.Decoder(Job).decode

_read_batch = msgspec.json.Decoder(Batch).decode

#: What `batch_of` reads.
BATCH_COLUMNS = "record, finished_at, cancel_requested, draft, round, used_at"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to drive a batch, as long as `token` is the journal's."""

    batch_id: str
    token: int


def batch_of(row: sqlite3.Row) -> Batch:
    """Return the batch of a row of `BATCH_COLUMNS`."""
    return msgspec.structs.replace(
        _read_batch(row["record"]),
        finished_at=row["finished_at"],
        cancel_requested=bool(row["cancel_requested"]),
        draft=bool(row["draft"]),
        round=row["round"],
        used_at=row["used_at"],
    )


def fence(db: sqlite3.Connection, lease: Lease, now: float) -> None:
    """Prove that the lease is still ours.

    Raises
    ------
    LeaseLost
        Another process has taken over.
    """
    changed = db.execute(
        "UPDATE batch SET lease_beat = ?"
        " WHERE id = ? AND lease_token = ? AND lease_owner IS NOT NULL",
        [now, lease.batch_id, lease.token],
    )
    if changed.rowcount != 1:
        raise LeaseLost(f"another process drives batch {lease.batch_id} now")


def change_batch(db: sqlite3.Connection, batch_id: str, **changes: Any) -> None:
    """Change a batch's record as it stands now, whoever wrote to it meanwhile."""
    record = db.execute("SELECT record FROM batch WHERE id = ?", [batch_id]).fetchone()[0]
    batch = msgspec.structs.replace(_read_batch(record), **changes)
    db.execute("UPDATE batch SET record = ? WHERE id = ?", [encode(batch), batch_id])


def remove_batch(db: sqlite3.Connection, folder: Path, batch_id: str) -> None:
    """Delete all that the journal knows of a batch, except what it cost."""
    damage.forget_folders(db, folder, [batch_id])
    db.execute("DELETE FROM batch WHERE id = ?", [batch_id])
    db.execute("DELETE FROM event WHERE batch_id = ?", [batch_id])
    db.execute("DELETE FROM reservation WHERE batch_id = ?", [batch_id])


def insert_jobs(db: sqlite3.Connection, jobs: Sequence[tuple[Job, Ranges]]) -> None:
    """Write new jobs with their rows."""
    for job, rows in jobs:
        db.execute(
            "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?)",
            [job.id, job.batch_id, job.number, job.state.value, pack_rows(rows), encode(job)],
        )


def put_job(db: sqlite3.Connection, job: Job) -> None:
    """Write the record of a job."""
    db.execute(
        "UPDATE job SET state = ?, record = ? WHERE id = ?",
        [job.state.value, encode(job), job.id],
    )


def pack_rows(rows: Ranges) -> bytes:
    """Pack the rows of a job: pairs of uint32, [start, stop)."""
    return b"".join(struct.pack("<II", *pair) for pair in rows.pairs)


def put_packs(db: sqlite3.Connection, batch_id: str, packs: Mapping[str, bytes]) -> None:
    """Write packed per-row data."""
    db.executemany(
        "INSERT OR REPLACE INTO pack VALUES (?, ?, ?)",
        [(batch_id, kind, data) for kind, data in packs.items()],
    )


def log_event(
    db: sqlite3.Connection,
    now: float,
    batch_id: str,
    event: str,
    detail: str,
    job: Job | None = None,
) -> None:
    """Append an event; of a job, with the state that it has now."""
    db.execute(
        "INSERT INTO event (batch_id, job_id, at, event, state, detail) VALUES (?, ?, ?, ?, ?, ?)",
        [batch_id, job and job.id, now, event, job and job.state.value, detail],
    )
