"""How Google writes moments."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(moment: float) -> str:
    """Return a moment as Google writes it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
