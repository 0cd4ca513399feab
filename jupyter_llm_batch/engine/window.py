"""How many real-time requests may be under way at once. No I/O and no clock of its own.

Additive increase, multiplicative decrease: the window grows while answers come, is halved when the
provider is overloaded, and what its rate-limit headers and ``Retry-After`` say comes before both.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..core.job import Room

#: Requests under way at first.
FIRST = 4


class Window:
    """The room for requests to one account; times are seconds of any clock that only rises.

    Parameters
    ----------
    most
        Never more than this many at once.
    first
        How many before anything is known.
    """

    def __init__(self, most: int, first: int = FIRST) -> None:
        self.most = most
        self.size = float(min(first, most))
        self.under_way = 0
        self.open_at = 0.0
        self._left: int | None = None
        self._slow = False  # after the first trouble it grows by one per round, no longer doubling
        self._halved_at = -1.0
        self._troubles = 0

    def free(self, now: float) -> int:
        """Return how many more requests may go out now."""
        if now < self.open_at:
            return 0
        room = int(self.size)
        if self._left is not None:
            room = min(room, max(self._left, 1))
        return max(0, room - self.under_way)

    def sent(self) -> None:
        """Count a request that goes out."""
        self.under_way += 1

    def over(self) -> None:
        """Count a request that is over, whatever came of it."""
        self.under_way -= 1

    def well(self, rooms: Iterable[Room], now: float) -> None:
        """Grow, since an answer came, within what the provider's headers leave."""
        self._troubles = 0
        self.size = min(self.most, self.size + (1 / self.size if self._slow else 1))
        self._left = None
        for room in rooms:
            if room.left <= 0:
                self.open_at = max(self.open_at, now + room.reset)
            self._left = room.left if self._left is None else min(self._left, room.left)

    def trouble(self, sent_at: float, now: float, wait: float | None, first_wait: float) -> None:
        """Halve and wait, since the provider was overloaded or in trouble.

        Parameters
        ----------
        sent_at
            When the request went out; those of one burst halve the window once.
        wait
            Seconds that the provider asks for, if it does.
        first_wait
            Seconds to wait at the first trouble where it asks for none; doubled with each further
            one in a row.
        """
        self._slow = True
        if sent_at > self._halved_at:
            self._halved_at = now
            self._troubles += 1
            self.size = max(1.0, self.size / 2)
        if wait is None:
            wait = first_wait * 2 ** min(self._troubles - 1, 6)
        self.open_at = max(self.open_at, now + wait)
