"""The leases on batches: which process drives which batch."""

from __future__ import annotations

import msgspec

from . import process, records
from .database import Database, encode
from .records import Lease


class Leases:
    """Takes, proves and gives back the leases of one journal."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def acquire(self, batch_id: str, owner: process.Owner) -> Lease | None:
        """Take the lease of a batch if it is free, ours, stale, or its owner is dead."""
        now = self._db.clock()
        with self._db.write() as db:
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
        with self._db.write() as db:
            records.fence(db, held, self._db.clock())

    def holds(self, held: Lease) -> bool:
        """Whether the lease is still ours, by a mere look."""
        found = self._db.rows("SELECT lease_token FROM batch WHERE id = ?", held.batch_id)
        return bool(found) and found[0][0] == held.token

    def release(self, held: Lease) -> None:
        """Give the lease back; silently nothing when it is not ours any more."""
        with self._db.write() as db:
            db.execute(
                "UPDATE batch SET lease_owner = NULL, lease_beat = 0"
                " WHERE id = ? AND lease_token = ?",
                [held.batch_id, held.token],
            )

    def driver(self, batch_id: str) -> process.Owner | None:
        """Return the process that drives a batch now, as far as can be known from here."""
        rows = self._db.rows("SELECT lease_owner, lease_beat FROM batch WHERE id = ?", batch_id)
        if not rows or not rows[0]["lease_owner"]:
            return None
        holder = msgspec.json.decode(rows[0]["lease_owner"], type=process.Owner)
        stale = abs(self._db.clock() - rows[0]["lease_beat"]) >= process.STALE
        return None if stale or holder.is_dead() else holder
