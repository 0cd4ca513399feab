"""The money in the journal: lines of the ledger, what is promised, calls in real time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from ..core.errors import UsageProblem
from ..core.money import Spend
from ..core.text import money
from .database import Database, encode

_read_spend = msgspec.json.Decoder(Spend).decode

#: Outside schema.sql, so that journals of before get it too without another version.
_USAGE_EVENTS = """
CREATE TABLE IF NOT EXISTS usage_event (
    id     INTEGER PRIMARY KEY,
    at     REAL NOT NULL,
    record BLOB NOT NULL
) STRICT
"""


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


class Spending:
    """What was paid and what is promised, with the budget checked where the promise is written."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def book(self, spends: Sequence[Spend]) -> None:
        """Write lines of the ledger; one that is there already is replaced."""
        with self._db.write() as db:
            self.put(db, spends)

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
        rows = self._db.rows(
            f"SELECT record FROM spend WHERE {' AND '.join(where)}"  # noqa: S608
            " ORDER BY at DESC LIMIT ?",
            *args,
            -1 if last is None else last,
        )
        return [_read_spend(row[0]) for row in reversed(rows)]

    def reserve(self, batch_id: str, usd: float) -> None:
        """Note what a batch under way may cost, if that is not noted yet."""
        with self._db.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO reservation SELECT id, ?, ? FROM batch"
                " WHERE id = ? AND finished_at IS NULL",
                [usd, self._db.clock(), batch_id],
            )

    def committed(self, since: float) -> tuple[float, float]:
        """Return the USD spent since a moment, and what batches under way may cost beyond that."""
        with self._db.using() as db:
            return self._committed(db, since)

    def _committed(
        self, db: sqlite3.Connection, since: float, *, but: str = ""
    ) -> tuple[float, float]:
        """Return what is spent and what is promised, `but` for the promise to one batch."""
        spent = {
            row[0]: float(row[1] or 0.0)
            for row in db.execute(
                "SELECT batch_id, sum(usd) FROM spend WHERE at >= ? GROUP BY batch_id", [since]
            )
        }
        promised = {
            row[0]: float(row[1])
            for row in db.execute("SELECT batch_id, usd FROM reservation")
            if row[0] != but
        }
        rest = sum(max(0.0, usd - spent.get(batch, 0.0)) for batch, usd in promised.items())
        return sum(spent.values()), rest

    def promise(self, db: sqlite3.Connection, batch_id: str, reserve: Reserve) -> None:
        """Promise a batch so much beyond what it has cost; an older promise may cover that."""
        if reserve.budget is not None:
            spent, promised = self._committed(db, reserve.since, but=batch_id)
            if spent + promised + reserve.usd > reserve.budget + 1e-9:
                raise UsageProblem(
                    f"over the monthly budget: this may cost up to {money(reserve.usd)}, and of "
                    f"{money(reserve.budget)} {money(spent)} are spent and {money(promised)} are "
                    f"promised to batches under way{self._promised(db, but=batch_id)}; nothing was "
                    "sent. Send fewer rows, lower --max-tokens, or raise "
                    "%config LLMBatch.monthly_budget"
                )
        db.execute(
            "INSERT INTO reservation VALUES (?1, ?2 + (SELECT coalesce(sum(usd), 0) FROM spend"
            " WHERE batch_id = ?1 AND at >= ?4), ?3)"
            " ON CONFLICT DO UPDATE SET usd = max(usd, excluded.usd)",
            [batch_id, reserve.usd, self._db.clock(), reserve.since],
        )

    def _promised(self, db: sqlite3.Connection, *, but: str) -> str:
        """Return the names of the batches that are promised most, in brackets."""
        rows = db.execute(
            "SELECT batch.name, batch.version FROM reservation JOIN batch ON batch.id = batch_id"
            " WHERE batch_id != ? AND usd > (SELECT coalesce(sum(usd), 0) FROM spend"
            " WHERE spend.batch_id = reservation.batch_id) ORDER BY usd DESC, created_at",
            [but],
        ).fetchall()
        names = [name if version == 1 else f"{name}#{version}" for name, version in rows[:3]]
        more = ["…"] if len(rows) > 3 else []
        return f" ({', '.join(names + more)})" if names else ""

    def put(self, db: sqlite3.Connection, spends: Sequence[Spend]) -> None:
        """Write lines of the ledger inside a transaction."""
        db.executemany(
            "INSERT OR REPLACE INTO spend VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    each.id, each.batch_id, each.provider, each.model, each.at,
                    None if each.paid is None else float(each.paid) + each.doubt,
                    encode(each),
                )
                for each in spends
            ],
        )  # fmt: skip

    # -- calls in real time ------------------------------------------------------------------------

    def add_usage_events(self, events: Sequence[tuple[float, bytes]]) -> None:
        """Keep what `tracking` saw; its table is made on first need."""
        with self._db.write() as db:
            db.execute(_USAGE_EVENTS)
            db.executemany("INSERT INTO usage_event (at, record) VALUES (?, ?)", events)

    def usage_events(self, since: float = 0.0) -> list[bytes]:
        """Return what `tracking` saw since a moment (Unix seconds), oldest first."""
        if not self._db.rows("SELECT 1 FROM sqlite_master WHERE name = 'usage_event'"):
            return []
        rows = self._db.rows("SELECT record FROM usage_event WHERE at >= ? ORDER BY at", since)
        return [bytes(row[0]) for row in rows]
