"""Find damage in a journal, set it aside, and record what was lost."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from ..core import policy
from ..core.identity import storable_name
from . import salvage, sent_marks
from .files import private_folder, sync_folder
from .migrations import SCHEMA_VERSION, TABLES

#: Names the fact in `meta` that lists folders of batches that were forgotten, or given up as lost.
GONE = "gone"


T = TypeVar("T")


#: Up to this size every page is checked at each start; beyond, when something is suspicious.
SMALL = 2_000_000


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a journal that could not be read.

    Attributes
    ----------
    at
        Unix seconds.
    reason
        What was wrong with it.
    kept
        Where it lies now, empty when it was simply not there.
    recovered
        Batches that could be read whole.
    folders
        Payload folders that no journal knows any more.
    """

    at: float
    reason: str
    kept: str = ""
    recovered: int = 0
    folders: list[str] = msgspec.field(default_factory=list)

    @property
    def words(self) -> str:
        """One line for the user."""
        kept = f" and is kept as {self.kept}" if self.kept else ""
        counts = f"; {self.recovered} batches were recovered from it" if self.kept else ""
        lost = ""
        if self.folders:
            lost = (
                f"; {len(self.folders)} folders of requests and answers have lost their entries: "
                "put a copy of the journal back if you have one; until then a cell that is not "
                "known asks before it pays (`%llm_batch doctor`)"
            )
        return f"the journal {self.reason}{kept}{counts}{lost}"


def has_batches(folder: Path) -> bool:
    """Whether a data folder has payloads of batches."""
    batches = folder / "batches"
    return batches.is_dir() and any(batches.iterdir())


def damage(path: Path, *, thorough: bool = False) -> str:
    """Return what is wrong with the journal at `path`, empty when nothing is.

    Parameters
    ----------
    thorough
        Check every page, whatever the size.
    """
    if not path.exists() or not path.stat().st_size:
        return ""
    try:
        with contextlib.closing(sqlite3.connect(path, policy.JOURNAL_WAIT)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            names = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
            if version > SCHEMA_VERSION or not (version or names):
                return ""  # not ours to judge, or nothing yet
            missing = [table for table in TABLES if table not in names]
            if missing:
                return f"has no table {missing[0]!r}"
            if thorough or path.stat().st_size <= SMALL or doubt(path).exists():
                said = db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if said != "ok":
                    return f"is damaged ({' '.join(str(said).split())[:100]})"
                doubt(path).unlink(missing_ok=True)
    except sqlite3.OperationalError:
        raise  # locked, no room, no rights: the file may be sound
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error})"
    return ""


def doubt(path: Path) -> Path:
    """Return the file that says: look at every page at the next start."""
    return path.with_name("journal.check")


def set_aside(path: Path) -> Path:
    """Move the journal, with what belongs to it, into a folder of its own."""
    base = private_folder(path.parent / "damaged")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = next(
        each
        for number in range(1000)
        if not (each := base / (f"{stamp}-{number}" if number else stamp)).exists()
    )
    private_folder(folder)
    # The database last: without it the rest is not looked at, and the next start goes on here.
    for ending in ("-wal", "-shm", "-journal", ""):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.replace(folder / part.name)
    doubt(path).unlink(missing_ok=True)
    sync_folder(folder)
    sync_folder(path.parent)
    return folder


def assess(db: sqlite3.Connection, folder: Path, reason: str, kept: Path | None) -> Loss:
    """Copy what can be read of the old journal, and note what cannot."""
    recovered = salvage.copy((kept / "journal.sqlite").absolute(), db) if kept else 0
    known = {row[0] for row in db.execute("SELECT id FROM batch")}
    batches = folder / "batches"
    there = sorted(each.name for each in batches.iterdir()) if batches.is_dir() else []
    loss = Loss(
        at=time.time(),
        reason=reason,
        kept=storable_name(str(kept or "")),
        recovered=recovered,
        folders=[name for name in there if name not in known],
    )
    db.execute("INSERT OR REPLACE INTO meta VALUES ('loss', ?)", [msgspec.json.encode(loss)])
    return loss


def compare(db: sqlite3.Connection, folder: Path) -> Loss | None:
    """Note batches that were sent and that the journal does not know: it is an older copy."""
    batches = folder / "batches"
    there = sorted(each.name for each in batches.iterdir()) if batches.is_dir() else []
    known = {
        row[0] for row in db.execute("SELECT id FROM batch")
    }  # after the folders: there are more
    unknown = [name for name in there if name not in known and sent_marks.was_sent(batches / name)]
    before = _read(db, "loss", Loss)
    told = {*(before.folders if before else ()), *(_read(db, GONE, list[str]) or ())}
    new = [name for name in unknown if name not in told]
    if not new:
        return None
    loss = Loss(
        at=time.time(),
        reason="is older than what lies beside it",
        folders=[*(before.folders if before else ()), *new],
    )
    db.execute("INSERT OR REPLACE INTO meta VALUES ('loss', ?)", [msgspec.json.encode(loss)])
    return loss


def forget_folders(db: sqlite3.Connection, folder: Path, names: Sequence[str]) -> None:
    """Note, in a transaction of the caller's, folders that the journal need not know any more."""
    earlier = _read(db, GONE, list[str]) or []
    left = [name for name in earlier if (folder / "batches" / name).exists()]
    db.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)", [GONE, msgspec.json.encode([*left, *names])]
    )


def _read(db: sqlite3.Connection, key: str, kind: type[T]) -> T | None:
    found = db.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
    return msgspec.json.decode(found[0], type=kind) if found else None
