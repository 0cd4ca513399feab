"""A forked child must leave its parent's journal alone: not even closing it is safe there.

SQLite keeps locks and the file's state per process, and a fork copies them without owning them.
Source: https://www.sqlite.org/howtocorrupt.html section 2.6.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import weakref

from ..core.errors import ForkedProcess

#: The open connections, with the process that opened each.
_open: weakref.WeakKeyDictionary[sqlite3.Connection, int] = weakref.WeakKeyDictionary()
_watching = False


class Connection(sqlite3.Connection):
    """A connection that weak references can point to."""


def opened(db: sqlite3.Connection) -> None:
    """Remember that this process opened `db`."""
    global _watching  # noqa: PLW0603 - a process registers its wish about forks once
    _open[db] = os.getpid()
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_abandon)
        _watching = True


def closed(db: sqlite3.Connection) -> None:
    """Forget a connection that was closed."""
    _open.pop(db, None)


def check() -> None:
    """Raise `ForkedProcess` when this is a child that was forked while a journal was open."""
    here = os.getpid()
    if any(pid != here for pid in _open.values()):
        raise ForkedProcess(
            "batches cannot be used in a forked process: hand it the answers, use them in the "
            "parent, or start it with multiprocessing's 'spawn'"
        )


def _abandon() -> None:
    """Keep the parent's connections from ever being closed here, even as the child ends."""
    for db in _open:
        keep(db)


def keep(db: sqlite3.Connection) -> None:
    """Keep a connection from ever being closed in this process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
