"""Helpers to compare batches over the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from ..core.batch import Batch

_Row = TypeVar("_Row")


#: Rows whose prompts are looked at when two batches are compared.
_COMPARED = 20


def _where(asked: Sequence[bool], found: Sequence[_Row | None]) -> list[_Row | None]:
    """Return what was found for the rows that were asked, None for the others."""
    return [each if wanted else None for wanted, each in zip(asked, found, strict=False)]


def _samples(batches: Iterable[Batch], waits: Iterable[bool], rows: int) -> Iterator[str]:
    """Yield which of two batches wait for the user's word on their sample."""
    for batch, held in zip(batches, waits, strict=True):
        if held:
            yield (
                f"{batch.title} waits for your word: the {rows:,} rows of its sample are compared"
            )
