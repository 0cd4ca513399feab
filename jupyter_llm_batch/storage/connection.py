"""One connection to the journal of a folder in this process, whoever asks for it.

The system forgets all locks that a process has on a file as soon as the process closes any
descriptor of it. Another process then takes the journal for free, and deletes the write-ahead log
that this one writes to. So nothing in this package opens the journal's files but SQLite, which
knows of this, and a folder's journal is opened once and shared.
Source: https://www.sqlite.org/howtocorrupt.html section 2.2.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

from ..core.errors import StoreProblem
from . import damage, fork_guard, opening

#: A file as the system knows it, whatever its name: device and number.
Identity = tuple[int, int]


class Shared:
    """The connection to a journal, for all who use it in this process.

    Attributes
    ----------
    db
        The connection; used by whoever holds `lock`.
    mode
        SQLite's journal mode.
    """

    def __init__(self, path: Path, opened: opening.Opened) -> None:
        self.path = path
        self.db: sqlite3.Connection = opened.db
        self.mode = opened.mode
        self.lock = threading.RLock()
        self.users = 0
        self._log = Path(f"{path.resolve()}-wal")
        self.file = identity(path)
        self._log_file = identity(self._log) if self.mode == "wal" else None

    def check_files(self) -> None:
        """Check that what is written here is what others read.

        Raises
        ------
        StoreProblem
            The journal or its log was moved, replaced or deleted: what is written now is lost.
        """
        if self._is_cut_off():
            raise StoreProblem(
                f"the journal {self.path} was moved or deleted while it was in use: put it back, "
                "or restart the kernel to go on with what is there; nothing was sent"
            )

    def _is_cut_off(self) -> bool:
        if identity(self.path) != self.file:
            return True
        return self._log_file is not None and identity(self._log) != self._log_file

    def release(self) -> None:
        """Close the connection when nobody here uses it any more."""
        with _guard:
            self.users -= 1
            if self.users:
                return
            if self.file is not None:
                _open.pop(self.file, None)
            with self.lock:
                if self._is_cut_off():
                    # SQLite would delete a log by its name: that of whoever uses the name now.
                    fork_guard.keep(self.db)
                else:
                    self.db.close()
                fork_guard.closed(self.db)


_open: dict[Identity, Shared] = {}
_guard = threading.Lock()


def share(folder: Path) -> tuple[Shared, damage.Loss | None]:
    """Return this process's connection to the journal in `folder`, opening it on first need.

    Whoever gets it calls `Shared.release` once.

    Returns
    -------
    tuple
        The connection, and what could not be read of the journal as it was opened just now.
    """
    fork_guard.check()
    path = folder / "journal.sqlite"
    with _guard:
        file = identity(path)
        known = _open.get(file) if file is not None else None
        if known is not None:
            known.users += 1
            return known, None
        opened = opening.open_journal(folder)
        shared = Shared(path, opened)
        shared.users = 1
        if shared.file is not None:
            _open[shared.file] = shared
        return shared, opened.loss


def identity(path: Path) -> Identity | None:
    """Return what tells this file from another under the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _new_guard() -> None:
    """Let a child open journals of its own, though another thread held the guard at the fork."""
    global _guard  # noqa: PLW0603 - a fork copies a lock, and not the thread that holds it
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_guard)
