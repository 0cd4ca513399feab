"""What the rate-limit headers of an answer say. Providers write the same facts differently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from ...core.job import Room

_OPENAI = ("requests", "tokens")
_ANTHROPIC = ("requests", "tokens", "input-tokens", "output-tokens")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
#: A limit that is full again later than this is no rate limit but a mistake.
_LONGEST = 86_400.0


def openai(headers: Mapping[str, str]) -> list[Room]:
    """Read ``x-ratelimit-remaining-…`` and ``x-ratelimit-reset-…`` (``6m0s``, ``20ms``)."""
    return [
        Room(left=left, reset=_span(headers.get(f"x-ratelimit-reset-{what}", "")))
        for what in _OPENAI
        if (left := _whole(headers.get(f"x-ratelimit-remaining-{what}"))) is not None
    ]


def anthropic(headers: Mapping[str, str], now: float) -> list[Room]:
    """Read ``anthropic-ratelimit-…-remaining`` and ``…-reset`` (a moment, RFC 3339)."""
    return [
        Room(left=left, reset=_until(headers.get(f"anthropic-ratelimit-{what}-reset", ""), now))
        for what in _ANTHROPIC
        if (left := _whole(headers.get(f"anthropic-ratelimit-{what}-remaining"))) is not None
    ]


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _span(text: str) -> float:
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(text))
    return min(seconds, _LONGEST)


def _until(text: str, now: float) -> float:
    try:
        moment = datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
    return min(max(moment - now, 0.0), _LONGEST)
