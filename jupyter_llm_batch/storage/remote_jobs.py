"""What the journal knows of jobs at their providers."""

from __future__ import annotations

from ..core.errors import UsageProblem
from ..core.job import Account, Job
from . import records
from .database import Database


class RemoteJobs:
    """The jobs of one journal by their ids at the providers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def check_unknown(self, provider: str, remote_id: str) -> None:
        """Refuse a remote job that is known here already."""
        if remote_id in self.ids(provider):
            raise UsageProblem(
                f"{provider}:{remote_id} is known here already: `%llm_batch history --all`"
            )

    def ids(self, provider: str, *, sent_here: bool = False) -> set[str]:
        """Return every remote id that the journal knows.

        Parameters
        ----------
        sent_here
            Leave out adopted batches: whose those were is not known, perhaps a lost create's.
        """
        rows = self._db.rows(
            "SELECT job.record FROM job JOIN batch ON batch.id = batch_id WHERE NOT (?"
            " AND coalesce(json_extract(CAST(batch.record AS TEXT), '$.adopted'), 0))",
            sent_here,
        )
        jobs = (records.read_job(row[0]) for row in rows)
        return {job.remote_id for job in jobs if job.provider == provider and job.remote_id}

    def created_after_loss(self, job: Job) -> set[str]:
        """Return the remote ids whose create began after the outcome of that of `job` was lost.

        By the order of the journal's events: a clock may have been set in between.
        """
        rows = self._db.rows(
            "SELECT detail FROM event AS taken WHERE event = 'accepted' AND (SELECT max(seq) FROM"
            " event WHERE event = 'intent' AND job_id = taken.job_id AND seq < taken.seq) >"
            " (SELECT max(seq) FROM event WHERE (event = 'lost' AND job_id = ?1) OR (event ="
            " 'call-ended' AND batch_id = ?2)) AND at > ?3",
            job.id,
            job.batch_id,
            job.sender_seen,
        )
        return {row[0] for row in rows}

    def latest_of_account(self, provider: str, account: Account) -> str | None:
        """Return the remote id of the latest job that was sent with an account."""
        rows = self._db.rows("SELECT record FROM job ORDER BY rowid DESC")
        jobs = (records.read_job(row[0]) for row in rows)
        mine = (job for job in jobs if job.provider == provider and job.account == account)
        return next((job.remote_id for job in mine if job.remote_id), None)

    def durations(self, provider: str, *, last: int = 20) -> list[float]:
        """Return how long the latest jobs of a provider took from acceptance to their end."""
        rows = self._db.rows(
            "SELECT record FROM job WHERE state = 'done' ORDER BY rowid DESC LIMIT ?", last * 3
        )
        jobs = (records.read_job(row[0]) for row in rows)
        return [
            job.ended_at - job.submitted_at
            for job in jobs
            if job.provider == provider and job.ended_at and job.submitted_at and job.remote_id
        ][:last]
