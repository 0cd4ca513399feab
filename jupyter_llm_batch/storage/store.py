"""The journal in use: batches and jobs; with leases, drafts, events and spending beside them.

Every write that concerns a driven batch is fenced: it names the lease's token, and fails with
`LeaseLost` when another process has taken over meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..core.batch import Batch
from ..core.errors import UsageProblem
from ..core.ids import Ranges
from ..core.job import Job
from ..core.lifecycle import TERMINAL, Event, advance
from ..core.money import Spend
from ..core.request import Shape
from . import records
from .database import Database, encode
from .draft_cells import DraftCells
from .events import Events
from .leases import Leases
from .records import Lease
from .remote_jobs import RemoteJobs
from .spending import Reserve, Spending


class Store(Database):
    """The journal in use: its batches and jobs, and what is kept of them.

    Attributes
    ----------
    leases
        Which process drives a batch.
    draft_cells
        What ``--add`` has collected.
    events
        The history of batches.
    remote_jobs
        Jobs by their ids at the providers.
    spending
        What was paid and what is promised.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], float], *, simulated: bool | None = None
    ) -> None:
        super().__init__(folder, clock, simulated=simulated)
        self.leases = Leases(self)
        self.draft_cells = DraftCells(self)
        self.events = Events(self)
        self.remote_jobs = RemoteJobs(self)
        self.spending = Spending(self)

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
        with self.write() as db:
            for job, _ in jobs:
                if job.remote_id:  # adopted
                    self.remote_jobs.check_unknown(job.provider, job.remote_id)
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
            if (
                batch.draft
                and (draft := self.draft_cells.find(batch.notebook, batch.name)) is not None
            ):
                return draft  # another kernel began it at the same moment
            if reserve is not None:
                self.spending.promise(db, batch.id, reserve)
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
            records.insert_jobs(db, jobs)
            records.put_packs(db, batch.id, packs)
            records.log_event(
                db, self.clock(), batch.id, "planned", f"{len(jobs)} jobs, {batch.rows} rows"
            )
        return batch

    def batch(self, batch_id: str) -> Batch | None:
        """Return a batch by id."""
        found = self.rows(f"SELECT {records.BATCH_COLUMNS} FROM batch WHERE id = ?", batch_id)  # noqa: S608
        return records.batch_of(found[0]) if found else None

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
        rows = self.rows(
            f"SELECT {records.BATCH_COLUMNS} FROM batch WHERE {' AND '.join(where)}"  # noqa: S608
            " ORDER BY created_at, version",
            *args,
        )
        return [records.batch_of(row) for row in rows]

    def use_again(self, batch_id: str, *, shape: Shape, **changes: Any) -> None:
        """Note that the user ran this batch's cell again, perhaps with another shape."""
        with self.write() as db:
            records.change_batch(db, batch_id, shape=shape, **changes)
            db.execute("UPDATE batch SET used_at = ? WHERE id = ?", [self.clock(), batch_id])

    def decide(self, batch_id: str, *, reserve: Reserve | None = None, **changes: Any) -> None:
        """Change what the user has decided about a batch; whoever drives it acts on it.

        Raises
        ------
        UsageProblem
            The budget has no room for `reserve`, which the decision may cost.
        """
        with self.write() as db:
            if reserve is not None:
                self.spending.promise(db, batch_id, reserve)
            records.change_batch(db, batch_id, **changes)
            records.log_event(db, self.clock(), batch_id, "decided", ", ".join(changes))

    def request_cancel(self, batch_id: str) -> None:
        """Note the user's wish; whoever drives the batch acts on it."""
        with self.write() as db:
            db.execute("UPDATE batch SET cancel_requested = 1 WHERE id = ?", [batch_id])
            records.log_event(db, self.clock(), batch_id, "cancel-requested", "")

    def forget(self, batch_id: str) -> None:
        """Delete a batch from the journal (its folder is the caller's).

        Raises
        ------
        UsageProblem
            It is still under way, or another batch uses its answers.
        """
        with self.write() as db:
            found = db.execute(
                f"SELECT {records.BATCH_COLUMNS} FROM batch WHERE id = ?",  # noqa: S608
                [batch_id],
            )
            batch = next(map(records.batch_of, found), None)
            if batch is not None and batch.finished_at is None and not batch.draft:
                raise UsageProblem(f"{batch.title} is still under way: cancel it first")
            users = [each.title for each in self.dependents(batch_id)]
            if batch is not None and users:
                raise UsageProblem(
                    f"{', '.join(users)} use answers of {batch.title}: forget them first"
                )
            records.remove_batch(db, self.folder, batch_id)

    def dependents(self, batch_id: str) -> list[Batch]:
        """Return the batches that use answers of this one."""
        return [each for each in self.batches() if batch_id in each.sources and each.id != batch_id]

    # -- jobs --------------------------------------------------------------------------------------

    def jobs(self, batch_id: str) -> list[Job]:
        """Return the jobs of a batch, in order."""
        rows = self.rows("SELECT record FROM job WHERE batch_id = ? ORDER BY number", batch_id)
        return [records.read_job(row[0]) for row in rows]

    def job_rows(self, job_id: str) -> Ranges:
        """Return which rows of the batch a job asks for, in the order of its payload's lines."""
        packed = self.rows("SELECT rows FROM job WHERE id = ?", job_id)[0][0]
        return Ranges(struct.iter_unpack("<II", packed))

    def now(self, job: Job) -> Job:
        """Return a job as it stands in the journal now."""
        return next(each for each in self.jobs(job.batch_id) if each.id == job.id)

    def batch_of(self, job_id: str) -> Batch | None:
        """Return the batch that has this job."""
        found = self.rows("SELECT batch_id FROM job WHERE id = ?", job_id)
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
        with self.write() as db:
            records.fence(db, held, self.clock())
            records.put_job(db, after)
            if packs:
                records.put_packs(db, job.batch_id, packs)
            self.spending.put(db, spends)
            records.log_event(db, self.clock(), job.batch_id, event.value, detail, after)
        return after

    def note(self, held: Lease, job: Job, *, spends: Sequence[Spend] = (), **changes: Any) -> Job:
        """Change a job's record without an event: what a poll saw, when to look again."""
        after: Job = msgspec.structs.replace(job, **changes)
        with self.write() as db:
            records.fence(db, held, self.clock())
            records.put_job(db, after)
            self.spending.put(db, spends)
        return after

    def know_sum(self, job_id: str, part: str, checksum: str) -> None:
        """Note by what a file that came anew is known; its job is over, so nobody drives it."""
        with self.write() as db:
            record = db.execute("SELECT record FROM job WHERE id = ?", [job_id]).fetchone()
            if record is not None:
                job = records.read_job(record[0])
                sums = {**job.sums, part: checksum}
                records.put_job(db, msgspec.structs.replace(job, sums=sums))

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
        with self.write() as db:
            records.fence(db, held, self.clock())
            records.change_batch(db, job.batch_id, rows=len(rows), **of_batch)
            db.execute(
                "UPDATE job SET rows = ?, record = ? WHERE id = ?",
                [records.pack_rows(rows), encode(after), job.id],
            )
            records.put_packs(db, job.batch_id, packs)
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
        with self.write() as db:
            records.fence(db, held, self.clock())
            cancelled = db.execute(
                "SELECT cancel_requested FROM batch WHERE id = ?", [held.batch_id]
            ).fetchone()[0]
            if cancelled and not by_user:
                return False
            if reserve is not None:
                self.spending.promise(db, held.batch_id, reserve)
            db.execute(
                "UPDATE batch SET round = ?, finished_at = NULL, cancel_requested = 0 WHERE id = ?",
                [round_, held.batch_id],
            )
            if sources:
                records.change_batch(db, held.batch_id, sources=[*sources])
            records.insert_jobs(db, jobs)
            records.put_packs(db, held.batch_id, packs)
            records.log_event(
                db, self.clock(), held.batch_id, "round", f"{round_}: {len(jobs)} jobs"
            )
        return True

    def finish(self, held: Lease, spends: Sequence[Spend] = ()) -> None:
        """Note that every row has its outcome; what was paid takes the place of the promise."""
        with self.write() as db:
            records.fence(db, held, self.clock())
            self.spending.put(db, spends)
            db.execute("DELETE FROM reservation WHERE batch_id = ?", [held.batch_id])
            db.execute(
                "UPDATE batch SET finished_at = ? WHERE id = ?", [self.clock(), held.batch_id]
            )
            records.log_event(db, self.clock(), held.batch_id, "finished", "")

    def put_packs(self, held: Lease, packs: Mapping[str, bytes]) -> None:
        """Write packed per-row data."""
        with self.write() as db:
            records.fence(db, held, self.clock())
            records.put_packs(db, held.batch_id, packs)

    def pack(self, batch_id: str, kind: str) -> bytes:
        """Return packed per-row data, empty when there is none."""
        rows = self.rows("SELECT data FROM pack WHERE batch_id = ? AND kind = ?", batch_id, kind)
        return bytes(rows[0][0]) if rows else b""


def is_over(jobs: Sequence[Job]) -> bool:
    """Whether every job is at its end."""
    return all(job.state in TERMINAL for job in jobs)
