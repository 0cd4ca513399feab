"""The connection to the journal: transactions, errors in one line, small facts."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import ForkedProcess, StoreProblem
from . import connection, damage, fork_guard, opening
from .parsed_cache import Recent

encode = msgspec.json.Encoder(enc_hook=str).encode


class Database:
    """The journal of one data folder: its transactions, and the small facts in it.

    Parameters
    ----------
    folder
        Holds ``journal.sqlite`` and a folder of payloads per batch; made private to the user.
    clock
        Returns Unix seconds.
    simulated
        Which kind of batches it is for; None takes either.

    Attributes
    ----------
    loss
        What could not be read when this process opened the journal.

    Raises
    ------
    StoreProblem
        The folder cannot be used, or the journal is from a newer release or of the other kind.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], float], *, simulated: bool | None = None
    ) -> None:
        folder = folder.absolute()  # the working folder may change
        self._shared, self.loss = connection.share(folder)
        self.folder = folder
        self.path = folder / "journal.sqlite"
        self.clock = clock
        self.mode = self._shared.mode
        self.recent = Recent()
        self._pid = os.getpid()
        self._closed = False
        self._closing = threading.Lock()
        if simulated is not None:
            self._claim(simulated)

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that opened the journal."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Stop using the journal; its connection is closed when nobody here uses it any more."""
        if self.forked:
            return  # the parent's: not even closing it is safe after a fork
        with self._closing:
            if self._closed:
                return
            with self._shared.lock:  # whoever is at it comes to an end
                self._closed = True
        self._shared.release()

    @property
    def _db(self) -> sqlite3.Connection:
        return self._shared.db

    def _claim(self, simulated: bool) -> None:
        """Refuse a journal of the other kind: made-up answers never stand beside paid ones."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('simulated', ?)", [b"%d" % simulated])
            kind = db.execute("SELECT value FROM meta WHERE key = 'simulated'").fetchone()[0]
        if bytes(kind) != b"%d" % simulated:
            self.close()
            there, here = ("real", "simulated") if simulated else ("simulated", "real")
            raise StoreProblem(
                f"{self.folder} holds {there} batches, and {here} ones never go beside them: "
                "choose another folder with %config LLMBatch.data_dir = '...'"
            )

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, begun as a writer so that a check inside it stays true."""
        with self.using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                self._shared.check_files()
                yield db
                db.execute("COMMIT")
                self._shared.check_files()  # the moment between the look and the commit
            except BaseException:
                if db.in_transaction:  # SQLite ends it by itself when there is no room
                    db.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        """Return what a query finds."""
        with self.using() as db:
            return db.execute(sql, args).fetchall()

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """Use the connection, alone, and say in one line what fails."""
        if self.forked:
            fork_guard.check()
            raise ForkedProcess("batches cannot be used in a forked process")
        with self._shared.lock:
            if self._closed:
                raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
            try:
                yield self._shared.db
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                raise
            except sqlite3.DatabaseError as error:
                if opening.is_busy(error):
                    raise StoreProblem(opening.busy(self.path)) from error
                passing = isinstance(error, sqlite3.OperationalError)
                if passing and "no such" not in str(error):
                    remedy = "; make room on the disk" if "full" in str(error) else ""
                    raise StoreProblem(
                        f"the journal {self.path} cannot be used now: {error}{remedy}"
                    ) from error
                with contextlib.suppress(OSError):
                    damage.doubt(self.path).touch(0o600)
                raise StoreProblem(
                    f"the journal {self.path} is damaged ({error}); nothing was sent: restart the "
                    "kernel, then it is set aside and what can be read of it is recovered"
                ) from error

    # -- small facts -------------------------------------------------------------------------------

    def salt(self) -> bytes:
        """Return this journal's salt for fingerprints of keys."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", [secrets.token_bytes(16)])
            return bytes(db.execute("SELECT value FROM meta WHERE key = 'salt'").fetchone()[0])

    def losses(self) -> damage.Loss | None:
        """Return what was lost of an earlier journal and not settled by the user."""
        found = self.rows("SELECT value FROM meta WHERE key = 'loss'")
        return msgspec.json.decode(found[0][0], type=damage.Loss) if found else None

    def settle_loss(self) -> None:
        """Note that the user knows of the loss: cells that are not known need not ask any more."""
        loss = self.losses()
        with self.write() as db:
            db.execute("DELETE FROM meta WHERE key = 'loss'")
            damage.forget_folders(db, self.folder, loss.folders if loss else [])

    def schema_version(self) -> int:
        """Return the version of the journal's schema."""
        return int(self.rows("PRAGMA user_version")[0][0])

    def check(self) -> str:
        """Look at every page; return what is wrong, empty when nothing is."""
        try:
            said = str(self.rows("PRAGMA quick_check(1)")[0][0])
        except StoreProblem as problem:
            return str(problem)
        if said == "ok":
            return ""
        with contextlib.suppress(OSError):
            damage.doubt(self.path).touch(0o600)
        return " ".join(said.split())[:200]

    def servers(self) -> dict[str, str]:
        """Return the base URLs that cells gave, by the name that stands for each."""
        rows = self.rows("SELECT value FROM meta WHERE key = 'servers'")
        return msgspec.json.decode(rows[0][0], type=dict[str, str]) if rows else {}

    def add_server(self, name: str, url: str) -> None:
        """Keep the base URL of a cell: its batch goes on after a restart."""
        servers = self.servers()
        if servers.get(name) == url:
            return
        with self.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO meta VALUES ('servers', ?)",
                [encode({**servers, name: url})],
            )

    def prices(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return ``prices`` and ``discounts`` as of the latest submission of each notebook."""
        rows = self.rows("SELECT value FROM meta WHERE key = 'prices'")
        kind = dict[str, dict[str, dict[str, Any]]]
        return msgspec.json.decode(rows[0][0], type=kind) if rows else {}

    def keep_prices(
        self, notebook: str, prices: Mapping[str, Any], discounts: Mapping[str, Any]
    ) -> None:
        """Keep them for whoever books what is under way: a kernel of tomorrow, the terminal."""
        kept = self.prices()
        now = msgspec.json.decode(encode({"prices": prices, "discounts": discounts}))
        if kept.get(notebook, {"prices": {}, "discounts": {}}) == now:
            return
        with self.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO meta VALUES ('prices', ?)",
                [encode({**kept, notebook: now})],
            )

    def folder_of(self, batch_id: str) -> Path:
        """Return the folder of a batch's payloads."""
        return self.folder / "batches" / batch_id
