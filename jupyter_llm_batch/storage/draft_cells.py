"""What ``--add`` cells have collected under a name and not sent."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.batch import Batch
from . import records
from .database import Database


class DraftCells:
    """The drafts of one journal, and the cells in them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def find(self, notebook: str, name: str) -> Batch | None:
        """Return what a notebook collects under a name."""
        found = self._db.rows(
            f"SELECT {records.BATCH_COLUMNS} FROM batch"  # noqa: S608
            " WHERE notebook = ? AND name = ? AND draft = 1",
            notebook,
            name,
        )
        return records.batch_of(found[0]) if found else None

    def put(self, batch_id: str, key: str, record: bytes) -> int:
        """Keep what one ``--add`` cell collected; return how many cells there are.

        0 says that nothing was kept: the draft was sent or dropped meanwhile.
        """
        with self._db.write() as db:
            if not db.execute("SELECT 1 FROM batch WHERE id = ?", [batch_id]).fetchone():
                return 0
            db.execute(
                "INSERT INTO part VALUES (?1, ?2, (SELECT coalesce(max(position), 0) + 1 FROM part"
                " WHERE batch_id = ?1), ?3) ON CONFLICT DO UPDATE SET record = excluded.record",
                [batch_id, key, record],
            )
            count = db.execute("SELECT count(*) FROM part WHERE batch_id = ?", [batch_id])
            return int(count.fetchone()[0])

    def records(self, batch_id: str) -> list[bytes]:
        """Return what was collected, in the order of the cells' first runs."""
        rows = self._db.rows(
            "SELECT record FROM part WHERE batch_id = ? ORDER BY position", batch_id
        )
        return [bytes(row[0]) for row in rows]

    def take(self, batch_id: str, taken: Sequence[bytes]) -> bool:
        """Remove cells as they were read, and the draft with the last; return whether it went.

        What was collected since stays.
        """
        with self._db.write() as db:
            for record in taken:
                db.execute("DELETE FROM part WHERE batch_id = ? AND record = ?", [batch_id, record])
            if db.execute("SELECT 1 FROM part WHERE batch_id = ?", [batch_id]).fetchone():
                return False
            records.remove_batch(db, self._db.folder, batch_id)
            return True
