"""The versions of the journal's schema and how to migrate between them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ..core.errors import StoreProblem
from .files import private_folder, private_opener, sync_folder

#: What brings a journal from the version before to this one. `schema.sql` is all of it at once.
MIGRATIONS: dict[int, Sequence[str]] = {
    2: (
        # Simulated and real batches never share a journal: which kind it is stands in it.
        """
        INSERT OR IGNORE INTO meta
        SELECT 'simulated', CAST(json_extract(CAST(record AS TEXT), '$.simulated') AS BLOB)
        FROM batch LIMIT 1
        """,
        # Money, apart from the batches so that it outlives them.
        """
        CREATE TABLE IF NOT EXISTS spend (
            id       TEXT PRIMARY KEY,
            batch_id TEXT NOT NULL,
            provider TEXT NOT NULL,
            model    TEXT NOT NULL,
            at       REAL NOT NULL,
            usd      REAL,                                -- NULL: the price is not known
            record   BLOB NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE INDEX IF NOT EXISTS spend_at ON spend (at)
        """,
        """
        CREATE INDEX IF NOT EXISTS spend_model ON spend (provider, model, at)
        """,
        """
        CREATE TABLE IF NOT EXISTS reservation (
            batch_id TEXT PRIMARY KEY,
            usd      REAL NOT NULL,
            at       REAL NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
    ),
}


SCHEMA_VERSION = max(MIGRATIONS)


#: Every release since the first has these.
TABLES = ("meta", "batch", "job", "pack", "part", "event")


def create_schema(path: Path) -> bool:
    """Make an empty journal, readable by this user only, where there is none.

    Whatever is there is left to SQLite: a descriptor of it that is closed here would take every
    lock of this process along. A file that did not exist before has none yet.
    """
    try:
        os.close(private_opener(str(path), os.O_CREAT | os.O_EXCL | os.O_RDWR))
    except FileExistsError:
        return False
    return True


def migrate(db: sqlite3.Connection, path: Path) -> bool:
    """Bring the journal up to date; return whether there was nothing in it at all.

    That is found out inside a transaction: what its size on disk tells is not what another
    process has written.
    """
    made = False
    while True:
        db.execute("BEGIN IMMEDIATE")
        try:
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found > SCHEMA_VERSION:
                raise StoreProblem(
                    f"the journal {path} was written by a newer jupyter_llm_batch: upgrade it"
                )
            if found == SCHEMA_VERSION:
                db.execute("ROLLBACK")
                return made
            made = not found
            if found:
                _back_up(path, found)
                statements = MIGRATIONS[found + 1]
            else:
                text = files(__package__).joinpath("schema.sql").read_text()
                statements = [each for each in text.split(";\n") if each.strip()]
            for statement in statements:
                db.execute(statement)
            version = found + 1 if found else SCHEMA_VERSION
            db.execute(f"PRAGMA user_version = {version}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _back_up(path: Path, version: int) -> None:
    """Copy the journal as it is; the caller keeps writers out."""
    folder = private_folder(path.parent / "backups")
    final = folder / f"journal-schema{version}-{time.strftime('%Y%m%d-%H%M%S')}.sqlite"
    temporary = final.with_suffix(".part")
    create_schema(temporary)
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(temporary)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(final)
    sync_folder(folder)
