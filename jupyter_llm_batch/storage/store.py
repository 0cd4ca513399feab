"""The journal in use: batches, drafts, leases, jobs, events.

Every write that concerns a driven batch is fenced: it names the lease's token, and fails with
`LeaseLost` when another process has taken over meanwhile.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..core.batch import Batch
from ..core.errors import LeaseLost, UsageProblem
from ..core.ids import Ranges
from ..core.job import Account, Job
from ..core.lifecycle import TERMINAL, Event, advance
from ..core.money import Spend
from ..core.request import Shape
from . import damage, process
from .database import encode
from .leases import Lease
from .spending import Books, Reserve

_read_job = msgspec.json.Decoder(Job).decode

_read_batch = msgspec.json.Decoder(Batch).decode

_BATCH_COLUMNS = "record, finished_at, cancel_requested, draft, round, used_at"


class Store(Books):
    """The journal in use; made like a `Database`."""

    # -- batches -----------------------------------------------------------------------------------

    def add_batch(
        self,
        batch: Batch,
        jobs: Sequence[tuple[Job, Ranges]],
        packs: Mapping[str, bytes],
        *,
        after: int | None = None,
        reserve: Reserve | None = None,
    ) -> Batch:
        """Write a planned batch whole, under the next free version of its name.

        Parameters
        ----------
        after
            The latest version that the plan was compared with.
        reserve
            What it may cost; checked and written in the same transaction.

        Raises
        ------
        UsageProblem
            There is a later version by now: it may ask for the same rows. Or the budget has no
            room for it, or a batch whose answers it takes was forgotten meanwhile, or the remote
            job that it takes over is known already.
        """
        with self._write() as db:
            for job, _ in jobs:
                if job.remote_id:  # adopted
                    self.check_unknown(job.provider, job.remote_id)
            last = db.execute(
                "SELECT max(version) FROM batch WHERE notebook = ? AND name = ? AND draft = 0",
                [batch.notebook, batch.name],
            ).fetchone()[0]
            if after is not None and after != (last or 0):
                raise UsageProblem(
                    f"another kernel submitted {batch.name} at the same moment: nothing was sent "
                    "from here, run the cell again to attach to it"
                )
            for source in batch.sources:
                known = db.execute("SELECT 1 FROM batch WHERE id = ?", [source]).fetchone()
                if source != batch.id and known is None:
                    raise UsageProblem(
                        f"a batch whose answers {batch.name} takes was forgotten meanwhile: "
                        "nothing was sent, run the cell again"
                    )
            if batch.draft and (draft := self.draft(batch.notebook, batch.name)) is not None:
                return draft  # another kernel began it at the same moment
            if reserve is not None:
                self._reserve(db, batch.id, reserve)
            version = 0 if batch.draft else (last or 0) + 1
            batch = msgspec.structs.replace(batch, version=version, used_at=batch.created_at)
            db.execute(
                "INSERT INTO batch (id, notebook, name, version, created_at, used_at, draft,"
                " record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    batch.id,
                    batch.notebook,
                    batch.name,
                    batch.version,
                    batch.created_at,
                    batch.created_at,
                    batch.draft,
                    encode(batch),
                ],
            )
            self._insert_jobs(db, jobs)
            self._put_packs(db, batch.id, packs)
            self._log(db, batch.id, None, "planned", None, f"{len(jobs)} jobs, {batch.rows} rows")
        return batch

    def batch(self, batch_id: str) -> Batch | None:
        """Return a batch by id."""
        found = self._rows(f"SELECT {_BATCH_COLUMNS} FROM batch WHERE id = ?", batch_id)  # noqa: S608
        return _batch(found[0]) if found else None

    def batches(
        self,
        *,
        notebook: str | None = None,
        name: str | None = None,
        unfinished: bool = False,
    ) -> list[Batch]:
        """Return batches, oldest first."""
        where, args = ["1 = 1"], []
        if notebook is not None:
            where.append("notebook = ?")
            args.append(notebook)
        if name is not None:
            where.append("name = ?")
            args.append(name)
        if unfinished:
            where.append("finished_at IS NULL AND draft = 0")
        rows = self._rows(
            f"SELECT {_BATCH_COLUMNS} FROM batch WHERE {' AND '.join(where)}"  # noqa: S608
            " ORDER BY created_at, version",
            *args,
        )
        return [_batch(row) for row in rows]

    def use_again(self, batch_id: str, *, shape: Shape, **changes: Any) -> None:
        """Note that the user ran this batch's cell again, perhaps with another shape."""
        with self._write() as db:
            self._change(db, batch_id, shape=shape, **changes)
            db.execute("UPDATE batch SET used_at = ? WHERE id = ?", [self.clock(), batch_id])

    def decide(self, batch_id: str, *, reserve: Reserve | None = None, **changes: Any) -> None:
        """Change what the user has decided about a batch; whoever drives it acts on it.

        Raises
        ------
        UsageProblem
            The budget has no room for `reserve`, which the decision may cost.
        """
        with self._write() as db:
            if reserve is not None:
                self._reserve(db, batch_id, reserve)
            self._change(db, batch_id, **changes)
            self._log(db, batch_id, None, "decided", None, ", ".join(changes))

    def request_cancel(self, batch_id: str) -> None:
        """Note the user's wish; whoever drives the batch acts on it."""
        with self._write() as db:
            db.execute("UPDATE batch SET cancel_requested = 1 WHERE id = ?", [batch_id])
            self._log(db, batch_id, None, "cancel-requested", None, "")

    def forget(self, batch_id: str) -> None:
        """Delete a batch from the journal (its folder is the caller's).

        Raises
        ------
        UsageProblem
            It is still under way, or another batch uses its answers.
        """
        with self._write() as db:
            found = db.execute(f"SELECT {_BATCH_COLUMNS} FROM batch WHERE id = ?", [batch_id])  # noqa: S608
            batch = next(map(_batch, found), None)
            if batch is not None and batch.finished_at is None and not batch.draft:
                raise UsageProblem(f"{batch.title} is still under way: cancel it first")
            users = [each.title for each in self.dependents(batch_id)]
            if batch is not None and users:
                raise UsageProblem(
                    f"{', '.join(users)} use answers of {batch.title}: forget them first"
                )
            self._remove(db, batch_id)

    def _remove(self, db: sqlite3.Connection, batch_id: str) -> None:
        damage.forget_folders(db, self.folder, [batch_id])
        db.execute("DELETE FROM batch WHERE id = ?", [batch_id])
        db.execute("DELETE FROM event WHERE batch_id = ?", [batch_id])
        db.execute("DELETE FROM reservation WHERE batch_id = ?", [batch_id])

    def dependents(self, batch_id: str) -> list[Batch]:
        """Return the batches that use answers of this one."""
        return [each for each in self.batches() if batch_id in each.sources and each.id != batch_id]

    # -- drafts ------------------------------------------------------------------------------------

    def draft(self, notebook: str, name: str) -> Batch | None:
        """Return what a notebook collects under a name."""
        found = self._rows(
            f"SELECT {_BATCH_COLUMNS} FROM batch WHERE notebook = ? AND name = ? AND draft = 1",  # noqa: S608
            notebook,
            name,
        )
        return _batch(found[0]) if found else None

    def put_part(self, batch_id: str, key: str, record: bytes) -> int:
        """Keep what one ``--add`` cell collected; return how many cells there are.

        0 says that nothing was kept: the draft was sent or dropped meanwhile.
        """
        with self._write() as db:
            if not db.execute("SELECT 1 FROM batch WHERE id = ?", [batch_id]).fetchone():
                return 0
            db.execute(
                "INSERT INTO part VALUES (?1, ?2, (SELECT coalesce(max(position), 0) + 1 FROM part"
                " WHERE batch_id = ?1), ?3) ON CONFLICT DO UPDATE SET record = excluded.record",
                [batch_id, key, record],
            )
            count = db.execute("SELECT count(*) FROM part WHERE batch_id = ?", [batch_id])
            return int(count.fetchone()[0])

    def parts(self, batch_id: str) -> list[bytes]:
        """Return what was collected, in the order of the cells' first runs."""
        rows = self._rows("SELECT record FROM part WHERE batch_id = ? ORDER BY position", batch_id)
        return [bytes(row[0]) for row in rows]

    def take_parts(self, batch_id: str, records: Sequence[bytes]) -> bool:
        """Remove parts as they were read, and the draft with the last; return whether it went.

        What was collected since stays.
        """
        with self._write() as db:
            for record in records:
                db.execute("DELETE FROM part WHERE batch_id = ? AND record = ?", [batch_id, record])
            if db.execute("SELECT 1 FROM part WHERE batch_id = ?", [batch_id]).fetchone():
                return False
            self._remove(db, batch_id)
            return True

    # -- leases ------------------------------------------------------------------------------------

    def acquire(self, batch_id: str, owner: process.Owner) -> Lease | None:
        """Take the lease of a batch if it is free, ours, stale, or its owner is dead."""
        now = self.clock()
        with self._write() as db:
            row = db.execute(
                "SELECT lease_owner, lease_token, lease_beat FROM batch WHERE id = ?", [batch_id]
            ).fetchone()
            if row is None:
                return None
            if row["lease_owner"]:
                holder = msgspec.json.decode(row["lease_owner"], type=process.Owner)
                alive = abs(now - row["lease_beat"]) < process.STALE and not holder.is_dead()
                if holder != owner and alive:
                    return None
            token = row["lease_token"] + 1
            db.execute(
                "UPDATE batch SET lease_owner = ?, lease_token = ?, lease_beat = ? WHERE id = ?",
                [encode(owner).decode(), token, now, batch_id],
            )
        return Lease(batch_id=batch_id, token=token)

    def renew(self, held: Lease) -> None:
        """Prove that we are alive; `LeaseLost` when somebody took over."""
        with self._write() as db:
            self._fence(db, held)

    def holds(self, held: Lease) -> bool:
        """Whether the lease is still ours, by a mere look."""
        found = self._rows("SELECT lease_token FROM batch WHERE id = ?", held.batch_id)
        return bool(found) and found[0][0] == held.token

    def release(self, held: Lease) -> None:
        """Give the lease back; silently nothing when it is not ours any more."""
        with self._write() as db:
            db.execute(
                "UPDATE batch SET lease_owner = NULL, lease_beat = 0"
                " WHERE id = ? AND lease_token = ?",
                [held.batch_id, held.token],
            )

    def driver(self, batch_id: str) -> process.Owner | None:
        """Return the process that drives a batch now, as far as can be known from here."""
        rows = self._rows("SELECT lease_owner, lease_beat FROM batch WHERE id = ?", batch_id)
        if not rows or not rows[0]["lease_owner"]:
            return None
        holder = msgspec.json.decode(rows[0]["lease_owner"], type=process.Owner)
        stale = abs(self.clock() - rows[0]["lease_beat"]) >= process.STALE
        return None if stale or holder.is_dead() else holder

    def _fence(self, db: sqlite3.Connection, held: Lease) -> None:
        changed = db.execute(
            "UPDATE batch SET lease_beat = ?"
            " WHERE id = ? AND lease_token = ? AND lease_owner IS NOT NULL",
            [self.clock(), held.batch_id, held.token],
        )
        if changed.rowcount != 1:
            raise LeaseLost(f"another process drives batch {held.batch_id} now")

    # -- jobs --------------------------------------------------------------------------------------

    def jobs(self, batch_id: str) -> list[Job]:
        """Return the jobs of a batch, in order."""
        rows = self._rows("SELECT record FROM job WHERE batch_id = ? ORDER BY number", batch_id)
        return [_read_job(row[0]) for row in rows]

    def job_rows(self, job_id: str) -> Ranges:
        """Return which rows of the batch a job asks for, in the order of its payload's lines."""
        packed = self._rows("SELECT rows FROM job WHERE id = ?", job_id)[0][0]
        return Ranges(struct.iter_unpack("<II", packed))

    def check_unknown(self, provider: str, remote_id: str) -> None:
        """Refuse a remote job that is known here already."""
        if remote_id in self.remote_ids(provider):
            raise UsageProblem(
                f"{provider}:{remote_id} is known here already: `%llm_batch history --all`"
            )

    def remote_ids(self, provider: str, *, sent_here: bool = False) -> set[str]:
        """Return every remote id that the journal knows.

        Parameters
        ----------
        sent_here
            Leave out adopted batches: whose those were is not known, perhaps a lost create's.
        """
        rows = self._rows(
            "SELECT job.record FROM job JOIN batch ON batch.id = batch_id WHERE NOT (?"
            " AND coalesce(json_extract(CAST(batch.record AS TEXT), '$.adopted'), 0))",
            sent_here,
        )
        jobs = (_read_job(row[0]) for row in rows)
        return {job.remote_id for job in jobs if job.provider == provider and job.remote_id}

    def created_after_loss(self, job: Job) -> set[str]:
        """Return the remote ids whose create began after the outcome of that of `job` was lost.

        By the order of the journal's events: a clock may have been set in between.
        """
        rows = self._rows(
            "SELECT detail FROM event AS taken WHERE event = 'accepted' AND (SELECT max(seq) FROM"
            " event WHERE event = 'intent' AND job_id = taken.job_id AND seq < taken.seq) >"
            " (SELECT max(seq) FROM event WHERE (event = 'lost' AND job_id = ?1) OR (event ="
            " 'call-ended' AND batch_id = ?2)) AND at > ?3",
            job.id,
            job.batch_id,
            job.sender_seen,
        )
        return {row[0] for row in rows}

    def remote_of(self, provider: str, account: Account) -> str | None:
        """Return the remote id of the latest job that was sent with an account."""
        rows = self._rows("SELECT record FROM job ORDER BY rowid DESC")
        jobs = (_read_job(row[0]) for row in rows)
        mine = (job for job in jobs if job.provider == provider and job.account == account)
        return next((job.remote_id for job in mine if job.remote_id), None)

    def now(self, job: Job) -> Job:
        """Return a job as it stands in the journal now."""
        return next(each for each in self.jobs(job.batch_id) if each.id == job.id)

    def batch_of(self, job_id: str) -> Batch | None:
        """Return the batch that has this job."""
        found = self._rows("SELECT batch_id FROM job WHERE id = ?", job_id)
        return self.batch(found[0][0]) if found else None

    def apply(
        self,
        held: Lease,
        job: Job,
        event: Event,
        *,
        detail: str = "",
        packs: Mapping[str, bytes] | None = None,
        spends: Sequence[Spend] = (),
        **changes: Any,
    ) -> Job:
        """Move `job` by `event`, with `changes` to its record, in one fenced transaction.

        Returns
        -------
        Job
            The job as it stands in the journal now.
        """
        after: Job = msgspec.structs.replace(job, state=advance(job.state, event), **changes)
        with self._write() as db:
            self._fence(db, held)
            self._put_job(db, after)
            if packs:
                self._put_packs(db, job.batch_id, packs)
            self._put_spends(db, spends)
            self._log(db, job.batch_id, job.id, event.value, after.state.value, detail)
        return after

    def note(self, held: Lease, job: Job, *, spends: Sequence[Spend] = (), **changes: Any) -> Job:
        """Change a job's record without an event: what a poll saw, when to look again."""
        after: Job = msgspec.structs.replace(job, **changes)
        with self._write() as db:
            self._fence(db, held)
            self._put_job(db, after)
            self._put_spends(db, spends)
        return after

    def know_sum(self, job_id: str, part: str, checksum: str) -> None:
        """Note by what a file that came anew is known; its job is over, so nobody drives it."""
        with self._write() as db:
            record = db.execute("SELECT record FROM job WHERE id = ?", [job_id]).fetchone()
            if record is not None:
                job = _read_job(record[0])
                sums = {**job.sums, part: checksum}
                self._put_job(db, msgspec.structs.replace(job, sums=sums))

    def know_rows(
        self,
        held: Lease,
        job: Job,
        rows: Ranges,
        packs: Mapping[str, bytes],
        of_batch: Mapping[str, Any],
        **changes: Any,
    ) -> Job:
        """Note which rows the only job of a batch has, where that was not known before.

        Parameters
        ----------
        of_batch, **changes
            What else is known now of the batch, and of the job.
        """
        after: Job = msgspec.structs.replace(job, rows=len(rows), **changes)
        with self._write() as db:
            self._fence(db, held)
            self._change(db, job.batch_id, rows=len(rows), **of_batch)
            packed = b"".join(struct.pack("<II", *pair) for pair in rows.pairs)
            db.execute(
                "UPDATE job SET rows = ?, record = ? WHERE id = ?", [packed, encode(after), job.id]
            )
            self._put_packs(db, job.batch_id, packs)
        return after

    def add_round(
        self,
        held: Lease,
        round_: int,
        jobs: Sequence[tuple[Job, Ranges]],
        packs: Mapping[str, bytes],
        *,
        sources: Sequence[str] = (),
        reserve: Reserve | None = None,
        by_user: bool = False,
    ) -> bool:
        """Add the jobs of a retry round; an ended batch is under way again.

        Parameters
        ----------
        sources
            The batches that the pack ``sources`` numbers, where there is one.
        by_user
            The user asked for it, and so has changed his mind about an earlier cancel.

        Returns
        -------
        bool
            False when the user has cancelled meanwhile: nothing was added.

        Raises
        ------
        UsageProblem
            The budget has no room for `reserve`.
        """
        with self._write() as db:
            self._fence(db, held)
            cancelled = db.execute(
                "SELECT cancel_requested FROM batch WHERE id = ?", [held.batch_id]
            ).fetchone()[0]
            if cancelled and not by_user:
                return False
            if reserve is not None:
                self._reserve(db, held.batch_id, reserve)
            db.execute(
                "UPDATE batch SET round = ?, finished_at = NULL, cancel_requested = 0 WHERE id = ?",
                [round_, held.batch_id],
            )
            if sources:
                self._change(db, held.batch_id, sources=[*sources])
            self._insert_jobs(db, jobs)
            self._put_packs(db, held.batch_id, packs)
            self._log(db, held.batch_id, None, "round", None, f"{round_}: {len(jobs)} jobs")
        return True

    def finish(self, held: Lease, spends: Sequence[Spend] = ()) -> None:
        """Note that every row has its outcome; what was paid takes the place of the promise."""
        with self._write() as db:
            self._fence(db, held)
            self._put_spends(db, spends)
            db.execute("DELETE FROM reservation WHERE batch_id = ?", [held.batch_id])
            db.execute(
                "UPDATE batch SET finished_at = ? WHERE id = ?", [self.clock(), held.batch_id]
            )
            self._log(db, held.batch_id, None, "finished", None, "")

    def claim_notice(self, batch_id: str) -> bool:
        """Take on, for this process alone, to tell that a batch ended; once for each end."""
        with self._write() as db:
            last = db.execute(
                "SELECT event FROM event WHERE batch_id = ? AND event IN ('finished', 'notified')"
                " ORDER BY seq DESC LIMIT 1",
                [batch_id],
            ).fetchone()
            if last is None or last["event"] != "finished":
                return False
            self._log(db, batch_id, None, "notified", None, "")
        return True

    def untold(self, since: float) -> list[str]:
        """Return the batches that ended since then and whose end nobody took on to tell."""
        rows = self._rows(
            "SELECT DISTINCT batch_id FROM event AS told WHERE event = 'finished' AND at > ? AND"
            " NOT EXISTS (SELECT 1 FROM event WHERE batch_id = told.batch_id AND"
            " event = 'notified' AND seq > told.seq)",
            since,
        )
        return [row[0] for row in rows]

    def log(self, batch_id: str, event: str, detail: str) -> None:
        """Note something about a batch that changes nothing."""
        with self._write() as db:
            self._log(db, batch_id, None, event, None, detail)

    def mark_read(self, batch_id: str) -> None:
        """Note that somebody has looked at the answers of a batch that ended."""
        if self.is_unread(batch_id):
            self.log(batch_id, "read", "")

    def is_unread(self, batch_id: str) -> bool:
        """Whether a batch has got answers that nobody has looked at since."""
        last = self._rows(
            "SELECT event FROM event WHERE batch_id = ? AND event IN ('finished', 'read')"
            " ORDER BY seq DESC LIMIT 1",
            batch_id,
        )
        return bool(last) and last[0]["event"] == "finished"

    def put_packs(self, held: Lease, packs: Mapping[str, bytes]) -> None:
        """Write packed per-row data."""
        with self._write() as db:
            self._fence(db, held)
            self._put_packs(db, held.batch_id, packs)

    def pack(self, batch_id: str, kind: str) -> bytes:
        """Return packed per-row data, empty when there is none."""
        rows = self._rows("SELECT data FROM pack WHERE batch_id = ? AND kind = ?", batch_id, kind)
        return bytes(rows[0][0]) if rows else b""

    def durations(self, provider: str, *, last: int = 20) -> list[float]:
        """Return how long the latest jobs of a provider took from acceptance to their end."""
        rows = self._rows(
            "SELECT record FROM job WHERE state = 'done' ORDER BY rowid DESC LIMIT ?", last * 3
        )
        jobs = (_read_job(row[0]) for row in rows)
        return [
            job.ended_at - job.submitted_at
            for job in jobs
            if job.provider == provider and job.ended_at and job.submitted_at and job.remote_id
        ][:last]

    def events(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the history of a batch, oldest first."""
        rows = self._rows("SELECT * FROM event WHERE batch_id = ? ORDER BY seq", batch_id)
        return [dict(row) for row in rows]

    def events_of(self, event: str, since: float) -> list[dict[str, Any]]:
        """Return what happened to all batches since then under one name, oldest first."""
        rows = self._rows(
            "SELECT * FROM event WHERE event = ? AND at > ? ORDER BY seq", event, since
        )
        return [dict(row) for row in rows]

    # -- inside a transaction ----------------------------------------------------------------------

    def _change(self, db: sqlite3.Connection, batch_id: str, **changes: Any) -> None:
        """Change a batch's record as it stands now, whoever wrote to it meanwhile."""
        record = db.execute("SELECT record FROM batch WHERE id = ?", [batch_id]).fetchone()[0]
        batch = msgspec.structs.replace(_read_batch(record), **changes)
        db.execute("UPDATE batch SET record = ? WHERE id = ?", [encode(batch), batch_id])

    def _insert_jobs(self, db: sqlite3.Connection, jobs: Sequence[tuple[Job, Ranges]]) -> None:
        for job, rows in jobs:
            packed = b"".join(struct.pack("<II", *pair) for pair in rows.pairs)
            db.execute(
                "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?)",
                [job.id, job.batch_id, job.number, job.state.value, packed, encode(job)],
            )

    def _put_job(self, db: sqlite3.Connection, job: Job) -> None:
        db.execute(
            "UPDATE job SET state = ?, record = ? WHERE id = ?",
            [job.state.value, encode(job), job.id],
        )

    def _put_packs(self, db: sqlite3.Connection, batch_id: str, packs: Mapping[str, bytes]) -> None:
        db.executemany(
            "INSERT OR REPLACE INTO pack VALUES (?, ?, ?)",
            [(batch_id, kind, data) for kind, data in packs.items()],
        )

    def _log(
        self,
        db: sqlite3.Connection,
        batch_id: str,
        job_id: str | None,
        event: str,
        state: str | None,
        detail: str,
    ) -> None:
        db.execute(
            "INSERT INTO event (batch_id, job_id, at, event, state, detail)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [batch_id, job_id, self.clock(), event, state, detail],
        )


def _batch(row: sqlite3.Row) -> Batch:
    return msgspec.structs.replace(
        _read_batch(row["record"]),
        finished_at=row["finished_at"],
        cancel_requested=bool(row["cancel_requested"]),
        draft=bool(row["draft"]),
        round=row["round"],
        used_at=row["used_at"],
    )


def is_over(jobs: Sequence[Job]) -> bool:
    """Whether every job is at its end."""
    return all(job.state in TERMINAL for job in jobs)
