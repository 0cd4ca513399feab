"""Download one part of the results, and tell a cut download from one that never began."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from ...core.errors import Incomplete, Unclear

#: Bytes that are read at a time.
PIECE = 1 << 20


async def stream(
    what: str,
    answer: AbstractAsyncContextManager[AsyncIterator[bytes]],
    write: Callable[[bytes], object],
) -> None:
    """Write the pieces of an answer as they come.

    Parameters
    ----------
    what
        What is downloaded, for messages.
    answer
        Opens the answer and translates errors; httpx2 holds what arrives against content-length,
        or the end of the chunks.

    Raises
    ------
    Incomplete
        The download began and was cut short.
    """
    started = False
    try:
        async with answer as pieces:
            started = True
            async for piece in pieces:
                write(piece)
    except Unclear as exc:
        if started:
            raise Incomplete(f"{what} was cut short: {exc}") from exc
        raise
