"""Grammar of messages: numbers with their nouns, types with their articles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any


def many(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: ``1 row``, ``2,000 rows``; `several` where no *s* will do."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def spans(numbers: Sequence[int], most: int = 12) -> str:
    """Return rising numbers with what follows each other as one: ``0, 3-5, 9 and 40 more``.

    Parameters
    ----------
    most
        How many numbers and ranges are named.
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    named = [str(first) if first == last else f"{first}-{last}" for first, last in found[:most]]
    left = sum(last - first + 1 for first, last in found[most:])
    return ", ".join(named) + (f" and {left:,} more" if left else "")


def a_type(value: Any) -> str:
    """Return the type of a value with its article: ``an int``."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def local_time(at: float | None, form: str = "%d %b %H:%M") -> str:
    """Return a moment in Unix seconds in local time; one that no calendar has is unknown.

    A day of another year has its year, where `form` names a month.
    """
    try:
        then = time.localtime(at)
        if then.tm_year != time.localtime().tm_year and "%Y" not in form:
            form = form.replace("%b", "%b %Y")
        return time.strftime(form, then) if at is not None else "unknown"
    except (ValueError, OverflowError, OSError):
        return "unknown"


def moment(at: float, now: float) -> str:
    """Return a moment for people: ``12:03``, with its day where that is not today's."""
    if local_time(at, "%d %b %Y") == local_time(now, "%d %b %Y"):
        return local_time(at, "%H:%M")
    return local_time(at).lstrip("0")
