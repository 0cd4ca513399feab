"""Opening the journal: private, whole, up to date, in the mode that its file system allows.

What cannot be read is set aside, never overwritten, and what can be read of it is copied into a
new journal (`salvage`). Migrations are data, each is one transaction, with a copy made before.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import msgspec

from . import filesystems, forks, payloads, permissions, policy, salvage
from .errors import StoreProblem
from .identity import storable
from .payloads import private_folder, private_opener, sync_folder

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

#: Names the fact in `meta` that lists folders of batches that were forgotten, or given up as lost.
GONE = "gone"

T = TypeVar("T")

#: Up to this size every page is checked at each start; beyond, when something is suspicious.
SMALL = 2_000_000

_CHOOSE = "choose another folder with %config LLMBatch.data_dir = '...'"


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


class Opened(msgspec.Struct, frozen=True):
    """A journal that can be used, and what was lost on the way."""

    db: sqlite3.Connection
    mode: str
    loss: Loss | None


def open_journal(folder: Path) -> Opened:
    """Open the journal in `folder`, making it where there is none.

    Raises
    ------
    StoreProblem
        It cannot be used here, or belongs to a newer release; nothing was changed.
    """
    forks.check()
    path = private_folder(folder) / "journal.sqlite"
    try:
        permissions.secure(folder)
        place = filesystems.place_of(folder)
        if place.lockless:
            raise StoreProblem(
                f"{folder} lies on {place.kind}, where two machines cannot lock a file against "
                f"each other: {_CHOOSE}, on a local disk"
            )
        with locked(folder / "journal.lock"):
            reason = damage(path)
            kept = _set_aside(path) if reason else None
            fresh = _create(path)
            db = _connect(path)
            try:
                mode = _set_mode(db, remote=place.remote, kind=place.kind)
                made = _migrate(db, path)
                if made and not reason and _has_batches(folder):
                    reason = "is missing" if fresh else "is empty"
                loss = _assess(db, folder, reason, kept) if reason else _compare(db, folder)
            except BaseException:
                forks.closed(db)
                db.close()
                raise
        return Opened(db, mode, loss)
    except (OSError, sqlite3.Error) as error:
        if is_busy(error):
            raise StoreProblem(busy(path)) from error
        raise StoreProblem(
            f"the journal {path} cannot be used ({error}); nothing was sent: check the disk and "
            f"its rights, or {_CHOOSE}"
        ) from error


def is_busy(error: Exception) -> bool:
    """Whether another process kept this one out for all its patience."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def busy(path: Path) -> str:
    """Say so, and what helps."""
    return (
        f"the journal {path} has been in another process's hands for {policy.JOURNAL_WAIT:g} s, "
        "which may be frozen: wake or end that one (a stopped kernel), then try again; nothing "
        "is lost"
    )


def _create(path: Path) -> bool:
    """Make an empty journal, readable by this user only, where there is none.

    Whatever is there is left to SQLite: a descriptor of it that is closed here would take every
    lock of this process along. A file that did not exist before has none yet.
    """
    try:
        os.close(private_opener(str(path), os.O_CREAT | os.O_EXCL | os.O_RDWR))
    except FileExistsError:
        return False
    return True


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path,
        policy.JOURNAL_WAIT,
        isolation_level=None,
        check_same_thread=False,
        factory=forks.Connection,
    )
    forks.opened(db)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _set_mode(db: sqlite3.Connection, *, remote: bool, kind: str) -> str:
    """Use a write-ahead log on a local disk, a rollback journal elsewhere; return which."""
    wanted = "delete" if remote else "wal"
    mode = str(db.execute("PRAGMA journal_mode").fetchone()[0])
    if mode != wanted:
        # Another process that reads just now keeps the mode as it is: that is an answer, no error.
        with contextlib.suppress(sqlite3.OperationalError):
            mode = str(db.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0])
    if remote and mode == "wal":
        raise StoreProblem(
            f"the journal is in use in a mode that {kind} cannot share: close the other notebooks "
            f"that use it once, or {_CHOOSE}, on a local disk"
        )
    return mode


# -- versions --------------------------------------------------------------------------------------


def _migrate(db: sqlite3.Connection, path: Path) -> bool:
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
    _create(temporary)
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


# -- damage ----------------------------------------------------------------------------------------


def _has_batches(folder: Path) -> bool:
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


def _set_aside(path: Path) -> Path:
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


def _assess(db: sqlite3.Connection, folder: Path, reason: str, kept: Path | None) -> Loss:
    """Copy what can be read of the old journal, and note what cannot."""
    recovered = salvage.copy((kept / "journal.sqlite").absolute(), db) if kept else 0
    known = {row[0] for row in db.execute("SELECT id FROM batch")}
    batches = folder / "batches"
    there = sorted(each.name for each in batches.iterdir()) if batches.is_dir() else []
    loss = Loss(
        at=time.time(),
        reason=reason,
        kept=storable(str(kept or "")),
        recovered=recovered,
        folders=[name for name in there if name not in known],
    )
    db.execute("INSERT OR REPLACE INTO meta VALUES ('loss', ?)", [msgspec.json.encode(loss)])
    return loss


def _compare(db: sqlite3.Connection, folder: Path) -> Loss | None:
    """Note batches that were sent and that the journal does not know: it is an older copy."""
    batches = folder / "batches"
    there = sorted(each.name for each in batches.iterdir()) if batches.is_dir() else []
    known = {
        row[0] for row in db.execute("SELECT id FROM batch")
    }  # after the folders: there are more
    unknown = [name for name in there if name not in known and payloads.was_sent(batches / name)]
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


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes; it goes with the process that holds it.

    Raises
    ------
    StoreProblem
        Another process has held it for all our patience.
    """
    descriptor = private_opener(str(path), os.O_RDWR | os.O_CREAT)
    free = True
    try:
        with contextlib.suppress(OSError):  # no locks here: then only the database's own count
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            else:
                free = _wait_for(descriptor)
        if not free:
            raise StoreProblem(busy(path))
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int) -> bool:
    """Take the lock when it is free; False when somebody, perhaps frozen, keeps it too long."""
    import fcntl

    end = time.monotonic() + policy.JOURNAL_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        else:
            return True
