"""Format numbers, times, durations and money for messages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any


def many(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: ``1 row``, ``2,000 rows``; `several` is an odd plural."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def spans(numbers: Sequence[int], most: int = 12) -> str:
    """Return ascending numbers with runs as ranges: ``0, 3-5, 9 and 40 more``.

    Parameters
    ----------
    most
        Most numbers and ranges that are listed.
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
    """Return a time (Unix seconds) as local time; ``unknown`` for None or an impossible one.

    Where `form` has a month, a time of another year gets its year.
    """
    try:
        then = time.localtime(at)
        if then.tm_year != time.localtime().tm_year and "%Y" not in form:
            form = form.replace("%b", "%b %Y")
        return time.strftime(form, then) if at is not None else "unknown"
    except (ValueError, OverflowError, OSError):
        return "unknown"


def moment(at: float, now: float) -> str:
    """Return a time as text: ``12:03``, with the day when it is not today."""
    if local_time(at, "%d %b %Y") == local_time(now, "%d %b %Y"):
        return local_time(at, "%H:%M")
    return local_time(at).lstrip("0")


_NAMES = {"openai": "OpenAI", "anthropic": "Anthropic", "google": "Google"}


def provider_name(provider: str) -> str:
    """Return the display name of a provider."""
    return _NAMES.get(provider, provider)


def count(number: int) -> str:
    """Return a number with thousands separators: ``12,345``."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Return a duration as text: ``45 s``, ``2 min``, ``2 h 05 min``, ``1 d 3 h``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


def money(usd: float) -> str:
    """Return an amount for people: ``$0.0123``, ``$12.34``; tiny ones as ``under $0.0001``."""
    if usd < 0:
        return f"-{money(-usd)}"
    if 0 < usd < 0.0001:
        return "under $0.0001"
    return f"${usd:.4f}" if 0 < usd < 0.1 else f"${usd:,.2f}"


def about_money(usd: float) -> str:
    """Return an estimate: ``about $1.20``, ``under $0.0001``."""
    text = money(usd)
    return text if text.startswith("under") else f"about {text}"


def cache_words(share: float) -> str:
    """Return the share of cached input as text."""
    return f"{100 * share:.0f} % of the input cached"
