"""The history of batches, and whether their ends were notified and looked at."""

from __future__ import annotations

from typing import Any

from . import records
from .database import Database


class Events:
    """The events of one journal."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def of_batch(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the history of a batch, oldest first."""
        rows = self._db.rows("SELECT * FROM event WHERE batch_id = ? ORDER BY seq", batch_id)
        return [dict(row) for row in rows]

    def named(self, event: str, since: float) -> list[dict[str, Any]]:
        """Return what happened to all batches since then under one name, oldest first."""
        rows = self._db.rows(
            "SELECT * FROM event WHERE event = ? AND at > ? ORDER BY seq", event, since
        )
        return [dict(row) for row in rows]

    def claim_notice(self, batch_id: str) -> bool:
        """Take on, for this process alone, to tell that a batch ended; once for each end."""
        with self._db.write() as db:
            last = db.execute(
                "SELECT event FROM event WHERE batch_id = ? AND event IN ('finished', 'notified')"
                " ORDER BY seq DESC LIMIT 1",
                [batch_id],
            ).fetchone()
            if last is None or last["event"] != "finished":
                return False
            records.log_event(db, self._db.clock(), batch_id, "notified", "")
        return True

    def unnotified(self, since: float) -> list[str]:
        """Return the batches that ended since then and whose end nobody took on to tell."""
        rows = self._db.rows(
            "SELECT DISTINCT batch_id FROM event AS told WHERE event = 'finished' AND at > ? AND"
            " NOT EXISTS (SELECT 1 FROM event WHERE batch_id = told.batch_id AND"
            " event = 'notified' AND seq > told.seq)",
            since,
        )
        return [row[0] for row in rows]

    def log(self, batch_id: str, event: str, detail: str) -> None:
        """Note something about a batch that changes nothing."""
        with self._db.write() as db:
            records.log_event(db, self._db.clock(), batch_id, event, detail)

    def mark_read(self, batch_id: str) -> None:
        """Note that somebody has looked at the answers of a batch that ended."""
        if self.is_unread(batch_id):
            self.log(batch_id, "read", "")

    def is_unread(self, batch_id: str) -> bool:
        """Whether a batch has got answers that nobody has looked at since."""
        last = self._db.rows(
            "SELECT event FROM event WHERE batch_id = ? AND event IN ('finished', 'read')"
            " ORDER BY seq DESC LIMIT 1",
            batch_id,
        )
        return bool(last) and last[0]["event"] == "finished"
