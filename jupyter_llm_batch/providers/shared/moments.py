"""Moments as servers write them, in Unix seconds; what is beyond any sense is not told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

#: The year 2100; nothing that concerns a batch lies beyond it.
LATEST = 4_102_444_800.0
#: From here on a number counts milliseconds (as seconds it would be in the year 5138).
_MILLISECONDS = 1e11


def seconds(value: Any) -> float | None:
    """Return a moment given as a number, as its text, or in ISO 8601; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _in_range(_of_iso(value.strip()))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return _in_range(number / 1000 if number >= _MILLISECONDS else number)


def _of_iso(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _in_range(number: float) -> float | None:
    return number if 0 < number <= LATEST else None
