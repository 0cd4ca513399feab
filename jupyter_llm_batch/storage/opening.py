"""Opening the journal: private, whole, up to date, in the mode that its file system allows.

What cannot be read is set aside, never overwritten, and what can be read of it is copied into a
new journal (`salvage`). Migrations are data, each is one transaction, with a copy made before.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..core import policy
from ..core.errors import StoreProblem
from . import fork_guard, location, migrations, permissions
from .damage import Loss, assess, compare, damage, has_batches, set_aside
from .files import private_folder, private_opener
from .migrations import create_schema

_CHOOSE = "choose another folder with %config LLMBatch.data_dir = '...'"


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
    fork_guard.check()
    path = private_folder(folder) / "journal.sqlite"
    try:
        permissions.secure(folder)
        place = location.place_of(folder)
        if place.lockless:
            raise StoreProblem(
                f"{folder} lies on {place.kind}, where two machines cannot lock a file against "
                f"each other: {_CHOOSE}, on a local disk"
            )
        with locked(folder / "journal.lock"):
            reason = damage(path)
            kept = set_aside(path) if reason else None
            fresh = create_schema(path)
            db = _connect(path)
            try:
                mode = _set_mode(db, remote=place.remote, kind=place.kind)
                made = migrations.migrate(db, path)
                if made and not reason and has_batches(folder):
                    reason = "is missing" if fresh else "is empty"
                loss = assess(db, folder, reason, kept) if reason else compare(db, folder)
            except BaseException:
                fork_guard.closed(db)
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


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path,
        policy.JOURNAL_WAIT,
        isolation_level=None,
        check_same_thread=False,
        factory=fork_guard.Connection,
    )
    fork_guard.opened(db)
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
