"""Output for a batch: JSON record, table and log lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.batch import Batch
from ..core.snapshot import Snapshot
from ..core.text import count, duration, local_time, money
from ..storage.process import Owner
from ..submission import find


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A batch at one moment, and the process that drives it."""

    batch: Batch
    shot: Snapshot
    driver: Owner | None = None


def batch_record(seen: Seen) -> dict[str, Any]:
    """Return the ``--json`` record of a batch; keys are added, never removed."""
    batch, shot, driver = seen.batch, seen.shot, seen.driver
    return {
        "id": batch.id,
        "notebook": batch.notebook,
        "name": batch.name,
        "version": batch.version,
        "models": batch.models,
        "simulated": batch.simulated,
        "state": shot.state,
        "words": shot.words,
        "finished": shot.finished,
        "rows": shot.rows,
        "ok": shot.ok,
        "cut": shot.cut,
        "failed": shot.failed,
        "waiting": shot.waiting,
        "retryable": shot.retryable,
        "cost_usd": shot.cost,
        "saved_usd": shot.saved,
        "submitted_at": iso(batch.created_at),
        "finished_at": iso(batch.finished_at),
        "keep_until": iso(shot.keep_until),
        "driven_by": {"host": driver.host, "pid": driver.pid} if driver else None,
        "notice": shot.notice,
        "options": batch.options,
        "jobs": [
            {
                "id": job.id,
                "model": job.model,
                "rows": job.rows,
                "state": job.state,
                "remote_id": job.remote_id or None,
                "error": job.error or None,
            }
            for job in shot.jobs
        ],
    }


def iso(at: float | None) -> str | None:
    """Return a time as text that sorts, in UTC."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None  # of a server that does not know the date


def as_json(value: object) -> str:
    """Return `value` as one line of JSON."""
    return msgspec.json.encode(value).decode()


def print_table(console: Console, found: Sequence[Seen]) -> None:
    """Print batches by notebook, the latest first."""
    titles = find.titles(seen.batch for seen in found)
    for notebook in sorted({seen.batch.notebook for seen in found}):
        console.print(Text(clean_text(notebook), style="bold"))
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for head in ("name", "id", "submitted", "answered", "cost", "kept until"):
            grid.add_column(head, no_wrap=True, justify="right" if head == "answered" else "left")
        grid.add_column("state")
        for seen in reversed([each for each in found if each.batch.notebook == notebook]):
            grid.add_row(*_cells(seen, titles[seen.batch.id]))
        console.print(grid)
        console.print()


def _cells(seen: Seen, title: str) -> list[Text]:
    shot = seen.shot
    cells = [
        title + (" (simulated)" if shot.simulated else ""),
        seen.batch.id,
        local_time(shot.started_at, "%d %b %H:%M"),
        f"{count(shot.ok)} of {count(shot.rows)}" + (f" ({shot.cut} cut)" if shot.cut else ""),
        money(shot.cost) if shot.cost is not None else "",
        local_time(shot.keep_until, "%d %b") if shot.keep_until else "",
        f"{shot.words}, {count(shot.failed)} failed" if shot.failed else shot.words,
    ]
    return [Text(clean_text(cell)) for cell in cells]


def clean_text(text: str) -> str:
    """Return text without line breaks and terminal escapes: names and errors come from outside."""
    return "".join(char if char.isprintable() else " " for char in text)


def log_line(seen: Seen) -> str:
    """Return one line about a batch, with its time of day, for logs."""
    at = time.strftime("%H:%M:%S")
    return f"{at} {clean_text(seen.batch.notebook)}::{seen.shot.line}"


def time_left(shot: Snapshot) -> str:
    """Return the estimated time left as text, empty when not known."""
    return f"about {duration(shot.remaining)} left" if shot.remaining else ""
