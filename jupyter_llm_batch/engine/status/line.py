"""The one-line summary of a batch: cost, counts, how long answers are kept."""

from __future__ import annotations

import msgspec

from ...core.result import Outcome
from ...core.snapshot import Snapshot
from ...core.terminal import visible
from ...core.text import about_money, cache_words, count, duration, local_time, money


def without_kernel(shot: Snapshot) -> str:
    """Return what becomes of a batch when the kernel that drives it is lost."""
    if shot.finished or shot.state == "draft":
        return ""
    if shot.realtime:
        return "rows sent in real time need a running kernel"
    if "send" in shot.choices:
        return "the sample is answered; nothing more is sent without your OK"
    if shot.safe_to_close:
        return "the batch is still running at the provider"
    return "rows that are not sent yet need a running kernel"


def kept_words(shot: Snapshot) -> str:
    """Return until when the provider has the answers; empty where that is not known."""
    if shot.keep_until is None:
        return ""
    day = local_time(shot.keep_until, "%d %b").lstrip("0")
    return f"available until {day}"


def with_line(shot: Snapshot, *, warned: bool) -> Snapshot:
    """Return a snapshot with its line of text; `warned` leaves out until when answers are kept."""
    parts = [shot.title, shot.model]
    if shot.simulated:
        parts.append("simulated")
    parts += [shot.words, tally(shot)]
    if shot.state != "draft":
        left = "" if shot.remaining is None else f", about {duration(shot.remaining)} left"
        parts.append(duration(shot.elapsed) + left)
    if shot.deadline is not None:
        parts.append(f"deadline in {duration(shot.deadline)}")
    parts.append(", ".join(spent(shot)))
    if shot.cached is not None:
        parts.append(cache_words(shot.cached))
    if shot.safe_to_close and not shot.finished:
        parts.append("safe to close")
    parts += ["" if warned else kept_words(shot), shot.question, shot.notice]
    line = " · ".join(part for part in parts if part)
    # Names and errors come from outside: no line breaks, no terminal escapes.
    clean = "".join(char if char.isprintable() else " " for char in line)
    return msgspec.structs.replace(shot, line=visible(" ".join(clean.split())))


def outlook_words(shot: Snapshot) -> str:
    """Return what a batch is expected to cost: ``about $1.20, at most $4.00``.

    Without earlier answers to its prompt that is a span from a guess to the ceiling, called so.
    """
    assert shot.expected is not None
    expected = money(shot.expected)
    if not shot.guessed:
        return about_money(shot.expected) + (
            "" if shot.ceiling is None else f", at most {money(shot.ceiling)}"
        )
    if shot.ceiling is None:
        return f"{expected} is a guess, no upper bound"
    return f"between {expected} (a guess) and {money(shot.ceiling)}"


def spent(shot: Snapshot) -> list[str]:
    """Return what a snapshot says about money: ``about $1.20, at most $4.00``, ``saved $0.60``."""
    parts = []
    if shot.cost is not None:
        of = (
            ""
            if shot.expected is None or shot.waiting == 0
            else f" of {about_money(shot.expected)}"
        )
        parts.append(money(shot.cost) + of)
    elif shot.expected is not None:
        parts.append(outlook_words(shot))
    elif shot.unpriced:
        parts.append("price not known")
    if shot.saved:
        parts.append(f"saved {money(shot.saved)}")
    if shot.saved_cache and shot.saved_cache > 0:
        parts.append(f"caching saved {money(shot.saved_cache)}")
    if shot.saved_reuse:
        parts.append(f"reuse saved {money(shot.saved_reuse)}")
    return parts


def tally(shot: Snapshot) -> str:
    """Return the rows of a snapshot in words: ``412 of 1,000 done, 3 failed, 5 cancelled``."""
    noun = "row" if shot.rows == 1 else "rows"
    if not shot.rows:  # created elsewhere, and nobody has counted them
        return "" if shot.finished else "rows not counted yet"
    if (
        not shot.finished
        and shot.progress is None
        and not shot.ok
        and not shot.failed
        and not shot.unsent
    ):
        return f"{count(shot.rows)} {noun}"
    done = shot.ok + (shot.progress or 0) - shot.progress_failed
    cancelled = min(shot.outcomes.get(Outcome.CANCELLED.value, 0), shot.failed)
    failed = shot.failed + shot.progress_failed - cancelled
    words = f"{count(done)} of {count(shot.rows)} {'answered' if shot.finished else 'done'}"
    words = f"{words} ({count(shot.cut)} cut)" if shot.cut else words
    words = f"{words}, {count(failed)} failed" if failed else words
    words = f"{words}, {count(cancelled)} cancelled" if cancelled else words
    return f"{words}, {count(shot.unsent)} not sent" if shot.unsent else words
