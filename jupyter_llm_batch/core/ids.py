"""Identifiers: batch ids, custom ids of rows, and ranges of row numbers."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable, Iterator

#: Index of the model of a row that was skipped.
LEFT_OUT = 0xFFFF


#: Length of a request hash (bytes).
HASH = 16


_ALPHABET = string.ascii_lowercase + string.digits


def new_batch_id() -> str:
    """Return a fresh id, short enough that every custom_id stays within 64 characters."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def custom_id(batch_id: str, row: int) -> str:
    """Return the id under which row `row` goes to the provider and comes back."""
    return f"{batch_id}-{row}"


def row_of(custom_id: str, batch_id: str) -> int | None:
    """Return the row that a custom_id names, or None when it is not one of this batch."""
    if not custom_id.startswith(batch_id):
        return None
    row = custom_id[len(batch_id) :]
    ours = row[:1] == "-" and row.isascii() and row[1:].isdigit() and len(row) < 13
    return int(row[1:]) if ours and (row[1] != "0" or len(row) == 2) else None


class Ranges:
    """Row numbers in the order of a payload's lines, kept as [start, stop) pairs."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self.pairs: list[tuple[int, int]] = [*pairs]

    def add(self, row: int) -> None:
        """Append `row`."""
        if self.pairs and self.pairs[-1][1] == row:
            self.pairs[-1] = (self.pairs[-1][0], row + 1)
        else:
            self.pairs.append((row, row + 1))

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.pairs:
            yield from range(start, stop)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.pairs)
