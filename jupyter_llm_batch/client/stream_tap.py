"""Answers that are read along while the user reads them: of a stream only what tells its tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

#: An answer that is larger is not kept to look for its tokens (bytes).
_MOST = 16 << 20


class Overheard:
    """What is kept of an answer that comes in pieces.

    Parameters
    ----------
    events
        It is a stream of events, of which single lines are kept.
    """

    def __init__(self, *, events: bool) -> None:
        self._events = events
        self._body = bytearray()  # the end of the stream, or all of an answer that is no stream
        self._lines: dict[str, bytes] = {}

    def see(self, piece: bytes) -> None:
        """Keep, of the lines of a stream, those that tell the model and the tokens."""
        self._body += piece
        if self._events:
            *lines, rest = self._body.split(b"\n")
            for line in lines:
                self._keep(bytes(line))
            self._body = rest
        if len(self._body) > _MOST:
            self._body.clear()

    def _keep(self, line: bytes) -> None:
        if b'"model' in line:
            self._lines.setdefault("model", line)
        if b'"usage' in line:
            self._lines.setdefault("first", line)
            self._lines["last"] = line

    def bodies(self) -> list[bytes]:
        """Return what was kept."""
        if not self._events:
            return [bytes(self._body)]
        self._keep(bytes(self._body))
        return [*self._lines.values()]


class Reader:
    """Stands before the reader of an aiohttp response and passes everything on.

    Parameters
    ----------
    see
        Called with each piece that is read.
    end
        Called at the end of the answer, more than once perhaps.
    """

    def __init__(
        self, reader: Any, see: Callable[[bytes], None], end: Callable[[], object]
    ) -> None:
        self._reader = reader
        self._see = see
        self._end = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read(self, n: int = -1) -> bytes:
        """Read as the reader behind does."""
        return self._seen(await self._reader.read(n))

    async def readany(self) -> bytes:
        """Read what there is."""
        return self._seen(await self._reader.readany())

    async def iter_any(self) -> AsyncGenerator[bytes, None]:
        """Yield pieces as they come."""
        while piece := await self.readany():
            yield piece

    def _seen(self, piece: bytes) -> bytes:
        self._see(piece)
        if self._reader.at_eof():
            self._end()
        return piece
