"""Listings page by page, with an end in any case."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from ...core.errors import Unclear

T = TypeVar("T")

#: Pages of one listing: at 100 objects a page more than any account has in a month.
MAX_PAGES = 1_000
#: Pages in a row that hold nothing and still name another.
MAX_EMPTY = 20


async def read(
    who: str,
    page: Callable[[str], Awaitable[tuple[Sequence[T], str]]],
    name: Callable[[T], str],
) -> AsyncIterator[T]:
    """Yield the objects of all pages.

    Parameters
    ----------
    who
        The provider, for messages.
    page
        Returns the objects of the page behind a cursor (empty for the first), and the next cursor,
        empty behind the last page.
    name
        Returns what tells an object from others.

    Raises
    ------
    Unclear
        The listing repeats itself, or has no end: what it does not show may exist all the same.
    """
    cursor = ""
    cursors = {cursor}
    seen: set[str] = set()
    empty = 0
    for _ in range(MAX_PAGES):
        found, following = await page(cursor)
        fresh = [each for each in found if name(each) not in seen]
        seen.update(map(name, fresh))
        for each in fresh:
            yield each
        if not following:
            return
        empty = 0 if fresh else empty + 1
        if following in cursors or empty > MAX_EMPTY:
            raise Unclear(f"{who}: the listing of batches repeats itself; it is read again later")
        cursors.add(following)
        cursor = following
    raise Unclear(f"{who}: the listing of batches has no end after {MAX_PAGES:,} pages")
