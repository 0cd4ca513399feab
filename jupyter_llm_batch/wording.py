"""Grammar of messages: numbers with their nouns, types with their articles."""

from __future__ import annotations

from typing import Any


def many(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: ``1 row``, ``2,000 rows``; `several` where no *s* will do."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def a_type(value: Any) -> str:
    """Return the type of a value with its article: ``an int``."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
