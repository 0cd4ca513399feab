"""The journal in use: batches, jobs, leases, events. How it is opened is `journal`'s.

Every write that concerns a driven batch is fenced: it names the lease's token, and fails with
`LeaseLost` when another process has taken over meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from . import forks, journal, lease
from .errors import ForkedProcess, LeaseLost, StoreProblem, UsageProblem
from .lifecycle import TERMINAL, Event, advance
from .models import Batch, Job, Spend
from .planning import Ranges
from .progress import money

_encode = msgspec.json.Encoder(enc_hook=str).encode
_read_job = msgspec.json.Decoder(Job).decode
_read_batch = msgspec.json.Decoder(Batch).decode
_read_spend = msgspec.json.Decoder(Spend).decode

_BATCH_COLUMNS = "record, finished_at, cancel_requested, draft, round, used_at"


#: Outside schema.sql, so that journals of before get it too without another version.
_USAGE_EVENTS = """
CREATE TABLE IF NOT EXISTS usage_event (
    id     INTEGER PRIMARY KEY,
    at     REAL NOT NULL,
    record BLOB NOT NULL
) STRICT
"""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to drive a batch, as long as `token` is the journal's."""

    batch_id: str
    token: int


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """Money that a batch may cost at most, and the budget that it has to fit into.

    Attributes
    ----------
    usd
        The ceiling.
    budget
        What may be spent and promised since `since`; None reserves without a check.
    """

    usd: float
    budget: float | None = None
    since: float = 0.0


class Store:
    """The journal of one data folder.

    Parameters
    ----------
    folder
        Holds ``journal.sqlite`` and a folder of payloads per batch; made private to the user.
    clock
        Returns Unix seconds.
    simulated
        Which kind of batches it is for; None takes either.

    Attributes
    ----------
    loss
        What could not be read when this process opened the journal.

    Raises
    ------
    StoreProblem
        The folder cannot be used, or the journal is from a newer release or of the other kind.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], float], *, simulated: bool | None = None
    ) -> None:
        opened = journal.open_journal(folder)
        self.folder = folder
        self.path = folder / "journal.sqlite"
        self.clock = clock
        self.mode = opened.mode
        self.loss = opened.loss
        self._db = opened.db
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._file = _identity(self.path)
        if simulated is not None:
            self._claim(simulated)

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that opened the journal."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Close the journal."""
        if self.forked:
            return  # the parent's: not even closing it is safe after a fork
        with self._lock:
            self._db.close()
            forks.closed(self._db)

    def _claim(self, simulated: bool) -> None:
        """Refuse a journal of the other kind: made-up answers never stand beside paid ones."""
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('simulated', ?)", [b"%d" % simulated])
            kind = db.execute("SELECT value FROM meta WHERE key = 'simulated'").fetchone()[0]
        if bytes(kind) != b"%d" % simulated:
            self.close()
            there, here = ("real", "simulated") if simulated else ("simulated", "real")
            raise StoreProblem(
                f"{self.folder} holds {there} batches, and {here} ones never go beside them: "
                "choose another folder with %config LLMBatch.data_dir = '...'"
            )

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, begun as a writer so that a check inside it stays true."""
        with self._using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                if _identity(self.path) != self._file:
                    raise StoreProblem(
                        f"the journal {self.path} was moved or deleted while it was in use: put "
                        "it back, or restart the kernel to go on with what is there"
                    )
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite ends it by itself when there is no room
                    db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        with self._using() as db:
            return db.execute(sql, args).fetchall()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Use the connection, alone, and say in one line what fails."""
        if self.forked:
            forks.check()
            raise ForkedProcess("batches cannot be used in a forked process")
        with self._lock:
            try:
                yield self._db
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                raise
            except sqlite3.DatabaseError as error:
                if journal.is_busy(error):
                    raise StoreProblem(journal.busy(self.path)) from error
                passing = isinstance(error, sqlite3.OperationalError)
                if passing and "no such" not in str(error):
                    raise StoreProblem(
                        f"the journal {self.path} cannot be used now: {error}"
                    ) from error
                with contextlib.suppress(OSError):
                    journal.doubt(self.path).touch(0o600)
                raise StoreProblem(
                    f"the journal {self.path} is damaged ({error}); nothing was sent: restart the "
                    "kernel, then it is set aside and what can be read of it is recovered"
                ) from error

    # -- small facts -------------------------------------------------------------------------------

    def salt(self) -> bytes:
        """Return this journal's salt for fingerprints of keys."""
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", [secrets.token_bytes(16)])
            return bytes(db.execute("SELECT value FROM meta WHERE key = 'salt'").fetchone()[0])

    def losses(self) -> journal.Loss | None:
        """Return what was lost of an earlier journal and not settled by the user."""
        found = self._rows("SELECT value FROM meta WHERE key = 'loss'")
        return msgspec.json.decode(found[0][0], type=journal.Loss) if found else None

    def settle_loss(self) -> None:
        """Note that the user knows of the loss: cells that are not known need not ask any more."""
        with self._write() as db:
            db.execute("DELETE FROM meta WHERE key = 'loss'")

    def schema_version(self) -> int:
        """Return the version of the journal's schema."""
        return int(self._rows("PRAGMA user_version")[0][0])

    def check(self) -> str:
        """Look at every page; return what is wrong, empty when nothing is."""
        try:
            said = str(self._rows("PRAGMA quick_check(1)")[0][0])
        except StoreProblem as problem:
            return str(problem)
        if said == "ok":
            return ""
        with contextlib.suppress(OSError):
            journal.doubt(self.path).touch(0o600)
        return " ".join(said.split())[:200]

    def servers(self) -> dict[str, str]:
        """Return the base URLs that cells gave, by the name that stands for each."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'servers'")
        return msgspec.json.decode(rows[0][0], type=dict[str, str]) if rows else {}

    def add_server(self, name: str, url: str) -> None:
        """Keep the base URL of a cell: its batch goes on after a restart."""
        servers = self.servers()
        if servers.get(name) == url:
            return
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO meta VALUES ('servers', ?)",
                [_encode({**servers, name: url})],
            )

    def folder_of(self, batch_id: str) -> Path:
        """Return the folder of a batch's payloads."""
        return self.folder / "batches" / batch_id

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
            room for it.
        """
        with self._write() as db:
            last = db.execute(
                "SELECT max(version) FROM batch WHERE notebook = ? AND name = ? AND draft = 0",
                [batch.notebook, batch.name],
            ).fetchone()[0]
            if after is not None and after != (last or 0):
                raise UsageProblem(
                    f"another kernel submitted {batch.name} at the same moment: nothing was sent "
                    "from here, run the cell again to attach to it"
                )
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
                    _encode(batch),
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

    def use_again(self, batch: Batch) -> None:
        """Note that the user ran this batch's cell again, perhaps with another shape."""
        with self._write() as db:
            db.execute(
                "UPDATE batch SET record = ?, used_at = ? WHERE id = ?",
                [_encode(batch), self.clock(), batch.id],
            )

    def decide(self, batch_id: str, **changes: Any) -> None:
        """Change what the user has decided about a batch; whoever drives it acts on it."""
        with self._write() as db:
            record = db.execute("SELECT record FROM batch WHERE id = ?", [batch_id]).fetchone()[0]
            batch = msgspec.structs.replace(_read_batch(record), **changes)
            db.execute("UPDATE batch SET record = ? WHERE id = ?", [_encode(batch), batch_id])
            self._log(db, batch_id, None, "decided", None, ", ".join(changes))

    def request_cancel(self, batch_id: str) -> None:
        """Note the user's wish; whoever drives the batch acts on it."""
        with self._write() as db:
            db.execute("UPDATE batch SET cancel_requested = 1 WHERE id = ?", [batch_id])
            self._log(db, batch_id, None, "cancel-requested", None, "")

    def forget(self, batch_id: str) -> None:
        """Delete a batch from the journal (its folder is the caller's)."""
        with self._write() as db:
            db.execute("DELETE FROM batch WHERE id = ?", [batch_id])
            db.execute("DELETE FROM event WHERE batch_id = ?", [batch_id])
            db.execute("DELETE FROM reservation WHERE batch_id = ?", [batch_id])

    def dependents(self, batch_id: str) -> list[Batch]:
        """Return the batches that use answers of this one."""
        return [each for each in self.batches() if batch_id in each.sources and each.id != batch_id]

    # -- drafts ------------------------------------------------------------------------------------

    def put_part(self, batch_id: str, key: str, record: bytes) -> int:
        """Keep what one ``--add`` cell collected; return how many cells there are."""
        with self._write() as db:
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

    # -- leases ------------------------------------------------------------------------------------

    def acquire(self, batch_id: str, owner: lease.Owner) -> Lease | None:
        """Take the lease of a batch if it is free, ours, stale, or its owner is dead."""
        now = self.clock()
        with self._write() as db:
            row = db.execute(
                "SELECT lease_owner, lease_token, lease_beat FROM batch WHERE id = ?", [batch_id]
            ).fetchone()
            if row is None:
                return None
            if row["lease_owner"]:
                holder = msgspec.json.decode(row["lease_owner"], type=lease.Owner)
                alive = abs(now - row["lease_beat"]) < lease.STALE and not holder.is_dead()
                if holder != owner and alive:
                    return None
            token = row["lease_token"] + 1
            db.execute(
                "UPDATE batch SET lease_owner = ?, lease_token = ?, lease_beat = ? WHERE id = ?",
                [_encode(owner).decode(), token, now, batch_id],
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

    def driver(self, batch_id: str) -> lease.Owner | None:
        """Return the process that drives a batch now, as far as can be known from here."""
        rows = self._rows("SELECT lease_owner, lease_beat FROM batch WHERE id = ?", batch_id)
        if not rows or not rows[0]["lease_owner"]:
            return None
        holder = msgspec.json.decode(rows[0]["lease_owner"], type=lease.Owner)
        stale = abs(self.clock() - rows[0]["lease_beat"]) >= lease.STALE
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

    def remote_ids(self, provider: str) -> set[str]:
        """Return every remote id that the journal knows."""
        rows = self._rows("SELECT record FROM job")
        jobs = (_read_job(row[0]) for row in rows)
        return {job.remote_id for job in jobs if job.provider == provider and job.remote_id}

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

    def note(self, held: Lease, job: Job, **changes: Any) -> Job:
        """Change a job's record without an event: what a poll saw, when to look again."""
        after: Job = msgspec.structs.replace(job, **changes)
        with self._write() as db:
            self._fence(db, held)
            self._put_job(db, after)
        return after

    def know_rows(self, held: Lease, job: Job, rows: Ranges, packs: Mapping[str, bytes]) -> Job:
        """Note which rows the only job of a batch has, where that was not known before."""
        after = msgspec.structs.replace(job, rows=len(rows))
        with self._write() as db:
            self._fence(db, held)
            record = db.execute("SELECT record FROM batch WHERE id = ?", [job.batch_id]).fetchone()
            batch = msgspec.structs.replace(_read_batch(record[0]), rows=len(rows))
            db.execute("UPDATE batch SET record = ? WHERE id = ?", [_encode(batch), batch.id])
            packed = b"".join(struct.pack("<II", *pair) for pair in rows.pairs)
            db.execute(
                "UPDATE job SET rows = ?, record = ? WHERE id = ?", [packed, _encode(after), job.id]
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
        reserve: Reserve | None = None,
    ) -> None:
        """Add the jobs of a retry round; an ended batch is under way again.

        Raises
        ------
        UsageProblem
            The budget has no room for `reserve`.
        """
        with self._write() as db:
            self._fence(db, held)
            if reserve is not None:
                self._reserve(db, held.batch_id, reserve)
            db.execute(
                "UPDATE batch SET round = ?, finished_at = NULL, cancel_requested = 0 WHERE id = ?",
                [round_, held.batch_id],
            )
            self._insert_jobs(db, jobs)
            self._put_packs(db, held.batch_id, packs)
            self._log(db, held.batch_id, None, "round", None, f"{round_}: {len(jobs)} jobs")

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

    # -- calls in real time ------------------------------------------------------------------------

    def add_usage_events(self, events: Sequence[tuple[float, bytes]]) -> None:
        """Keep what `tracking` saw; its table is made on first need."""
        with self._write() as db:
            db.execute(_USAGE_EVENTS)
            db.executemany("INSERT INTO usage_event (at, record) VALUES (?, ?)", events)

    def usage_events(self, since: float = 0.0) -> list[bytes]:
        """Return what `tracking` saw since a moment (Unix seconds), oldest first."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'usage_event'"):
            return []
        rows = self._rows("SELECT record FROM usage_event WHERE at >= ? ORDER BY at", since)
        return [bytes(row[0]) for row in rows]

    # -- money -------------------------------------------------------------------------------------

    def book(self, spends: Sequence[Spend]) -> None:
        """Write lines of the ledger; one that is there already is replaced."""
        with self._write() as db:
            self._put_spends(db, spends)

    def spends(
        self,
        *,
        since: float = 0.0,
        batch_id: str | None = None,
        model: tuple[str, str] | None = None,
        last: int | None = None,
    ) -> list[Spend]:
        """Return lines of the ledger, oldest first; with `last`, only so many of the latest."""
        where, args = ["at >= ?"], [since, *([batch_id] if batch_id else []), *(model or ())]
        if batch_id:
            where.append("batch_id = ?")
        if model:
            where.append("provider = ? AND model = ?")
        rows = self._rows(
            f"SELECT record FROM spend WHERE {' AND '.join(where)}"  # noqa: S608
            " ORDER BY at DESC LIMIT ?",
            *args,
            -1 if last is None else last,
        )
        return [_read_spend(row[0]) for row in reversed(rows)]

    def reserve(self, batch_id: str, usd: float) -> None:
        """Note what a batch under way may cost, if that is not noted yet."""
        with self._write() as db:
            db.execute(
                "INSERT OR IGNORE INTO reservation SELECT id, ?, ? FROM batch"
                " WHERE id = ? AND finished_at IS NULL",
                [usd, self.clock(), batch_id],
            )

    def committed(self, since: float) -> tuple[float, float]:
        """Return the USD spent since a moment, and what batches under way may cost beyond that."""
        with self._lock:
            return self._committed(self._db, since)

    def _committed(self, db: sqlite3.Connection, since: float) -> tuple[float, float]:
        spent = {
            row[0]: float(row[1] or 0.0)
            for row in db.execute(
                "SELECT batch_id, sum(usd) FROM spend WHERE at >= ? GROUP BY batch_id", [since]
            )
        }
        promised = {
            row[0]: float(row[1]) for row in db.execute("SELECT batch_id, usd FROM reservation")
        }
        rest = sum(max(0.0, usd - spent.get(batch, 0.0)) for batch, usd in promised.items())
        return sum(spent.values()), rest

    def _reserve(self, db: sqlite3.Connection, batch_id: str, reserve: Reserve) -> None:
        if reserve.budget is not None:
            spent, promised = self._committed(db, reserve.since)
            if spent + promised + reserve.usd > reserve.budget + 1e-9:
                raise UsageProblem(
                    f"over the monthly budget: this may cost up to {money(reserve.usd)}, and of "
                    f"{money(reserve.budget)} {money(spent)} are spent and {money(promised)} are "
                    f"promised to batches under way{self._promised(db)}; nothing was sent. Send "
                    "fewer rows, lower "
                    "--max-tokens, or raise %config LLMBatch.monthly_budget"
                )
        # What an ended batch has paid before stays paid: a retry is promised on top of it.
        db.execute(
            "INSERT INTO reservation VALUES (?1, ?2 + (SELECT coalesce(sum(usd), 0) FROM spend"
            " WHERE batch_id = ?1 AND at >= ?4), ?3) ON CONFLICT DO UPDATE SET usd = usd + ?2",
            [batch_id, reserve.usd, self.clock(), reserve.since],
        )

    def _promised(self, db: sqlite3.Connection) -> str:
        """Return the names of the batches that are promised most, in brackets."""
        rows = db.execute(
            "SELECT batch.name, batch.version FROM reservation JOIN batch ON batch.id = batch_id"
            " WHERE usd > (SELECT coalesce(sum(usd), 0) FROM spend"
            " WHERE spend.batch_id = reservation.batch_id) ORDER BY usd DESC, created_at"
        ).fetchall()
        names = [name if version == 1 else f"{name}#{version}" for name, version in rows[:3]]
        more = ["…"] if len(rows) > 3 else []
        return f" ({', '.join(names + more)})" if names else ""

    def _put_spends(self, db: sqlite3.Connection, spends: Sequence[Spend]) -> None:
        db.executemany(
            "INSERT OR REPLACE INTO spend VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    each.id, each.batch_id, each.provider, each.model, each.at,
                    None if each.paid is None else float(each.paid) + each.doubt,
                    _encode(each),
                )
                for each in spends
            ],
        )  # fmt: skip

    # -- inside a transaction ----------------------------------------------------------------------

    def _insert_jobs(self, db: sqlite3.Connection, jobs: Sequence[tuple[Job, Ranges]]) -> None:
        for job, rows in jobs:
            packed = b"".join(struct.pack("<II", *pair) for pair in rows.pairs)
            db.execute(
                "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?)",
                [job.id, job.batch_id, job.number, job.state.value, packed, _encode(job)],
            )

    def _put_job(self, db: sqlite3.Connection, job: Job) -> None:
        db.execute(
            "UPDATE job SET state = ?, record = ? WHERE id = ?",
            [job.state.value, _encode(job), job.id],
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


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another under the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
