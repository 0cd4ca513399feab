"""The points of a run, and the hooks at its borders that pass them: SQLite, files, network.

Installed in a child process only. The product knows nothing of them.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import httpx2

#: Ids that differ from run to run: of files, of which one in fifty has no digit, and anything long
#: with a digit in it; and temporary names.
_LONG_ID = re.compile(r"(?<=/files/)[\w-]+|(?=[\w.-]*\d)[\w-]{12,}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.part")
_PART = re.compile(r"part-\w{10}\b")


class Points:
    """Counts the points that are passed, and acts at one of them.

    Parameters
    ----------
    at
        ``{name: signal}``: a name is a label with the number of its occurrence (``label #2``).
    folder
        Only files below it count.
    """

    def __init__(self, at: dict[str, str], folder: str) -> None:
        self.at = at
        self.folder = folder
        self.passed: list[str] = []
        self._seen: Counter[str] = Counter()
        self._lock = threading.RLock()

    def reach(self, label: str) -> None:
        """Pass a point."""
        with self._lock:
            self._seen[label] += 1
            name = f"{label} #{self._seen[label]}"
            self.passed.append(name)
            deed = self.at.pop(name, None)
            if deed:
                # To this very thread: it would run on for a while if another one took the signal.
                signal.pthread_kill(threading.get_ident(), signal.Signals[deed])

    def install(self) -> None:
        """Put the hooks in place, for the life of this process."""
        self._hook_journal()
        self._hook_files()
        self._hook_network()

    # -- the journal -------------------------------------------------------------------------------

    def _hook_journal(self) -> None:
        points = self

        class Hooked:
            def execute(self, sql, parameters=(), /):
                verb = sql.split(None, 1)[0]
                if verb == "COMMIT":
                    label = getattr(self, "what", "nothing")
                    points.reach(f"before commit {label}")
                    done = super().execute(sql, parameters)
                    points.reach(f"after commit {label}")
                    return done
                if verb == "BEGIN":
                    self.what = "nothing"
                elif verb in {"INSERT", "UPDATE", "DELETE", "CREATE"}:
                    self.what = _statement(sql, parameters, self.what)
                return super().execute(sql, parameters)

        connect = sqlite3.connect

        def hooked(*args, factory=sqlite3.Connection, **more):
            made = type(factory.__name__, (Hooked, factory), {})
            return connect(*args, factory=made, **more)

        sqlite3.connect = hooked

    # -- files -------------------------------------------------------------------------------------

    def _hook_files(self) -> None:
        for name in ("write", "fsync", "replace", "rename", "unlink", "mkdir"):
            setattr(os, name, self._around(name, getattr(os, name)))

    def _around(self, name, call):
        def hooked(*args, **more):
            label = self._file_label(name, args[0])
            if label is None:
                return call(*args, **more)
            self.reach(f"before {label}")
            done = call(*args, **more)
            self.reach(f"after {label}")
            return done

        return hooked

    def _file_label(self, name: str, target: object) -> str | None:
        if isinstance(target, int):
            target = Path(f"/proc/self/fd/{target}").readlink()
        path = os.fspath(target)
        if not path.startswith(self.folder):
            return None
        if "." not in path:
            return f"{name} folder"
        return f"{name} {_PART.sub('part-*', _TEMPORARY.sub('.part', Path(path).name[:40]))}"

    # -- the network -------------------------------------------------------------------------------

    def _hook_network(self) -> None:
        points = self
        send = httpx2.AsyncHTTPTransport.handle_async_request

        async def hooked(transport, request):
            path = _LONG_ID.sub("*", request.url.path)
            label = f"{request.method} {path}"
            points.reach(f"before {label}")
            if request.method == "POST":
                request.stream = _Pieces(points, f"sending {label}", request.stream, most=1)
            response = await send(transport, request)
            points.reach(f"after {label}")
            response.stream = _Pieces(points, f"receiving {label}", response.stream)
            return response

        httpx2.AsyncHTTPTransport.handle_async_request = hooked


class _Pieces(httpx2.AsyncByteStream):
    """A body that passes a point after each of its pieces, or the first few."""

    def __init__(
        self, points: Points, label: str, inner: httpx2.AsyncByteStream, most: int = 1000
    ) -> None:
        self._points, self._label, self._inner, self._left = points, label, inner, most

    async def __aiter__(self):
        async for piece in self._inner:
            yield piece
            if self._left:
                self._left -= 1
                self._points.reach(self._label)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _statement(sql: str, parameters: object, before: str) -> str:
    """Say what a transaction does: the event it logs, else what it changes first."""
    if sql.startswith("INSERT INTO event"):
        _, job_id, _, event, *_ = parameters
        return f"{event} {job_id.partition('-')[2]}" if job_id else event
    if before == "nothing":
        words = sql.split()
        return f"{words[0].lower()} {words[2] if words[1] in ('INTO', 'OR', 'FROM') else words[1]}"
    return before
