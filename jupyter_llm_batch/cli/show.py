"""Displays for watched batches: progress bars, log lines or JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ..core.snapshot import Snapshot
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..engine.status.line import tally
from .report import Seen, as_json, batch_record, clean_text, log_line, time_left


class Show(Protocol):
    """Shows batches while they are watched."""

    def update(self, found: Sequence[Seen]) -> None:
        """Show the current state of the batches."""
        ...

    def close(self) -> None:
        """Restore the terminal."""
        ...


class Lines:
    """Prints a line for each change of state, never twice.

    Parameters
    ----------
    quiet
        For logs and cron: print only that a batch ended, and problems that stop it.
    """

    def __init__(self, console: Console, *, json: bool = False, quiet: bool = False) -> None:
        self._console = console
        self._json = json
        self._quiet = quiet and not json
        self._said: dict[str, object] = {}

    def update(self, found: Sequence[Seen]) -> None:
        """Print what has changed."""
        for seen in found:
            about = self._about(seen.shot)
            if self._said.get(seen.batch.id) != about:
                self._said[seen.batch.id] = about
                if about or not self._quiet:
                    text = as_json(batch_record(seen)) if self._json else log_line(seen)
                    print(text, file=self._console.file, flush=True)

    def _about(self, shot: Snapshot) -> object:
        """Return the state that a line would report; None if no line is needed."""
        if self._json:
            rows = (shot.words, shot.ok, shot.failed, shot.progress)
            return shot.state, shot.finished, shot.notice, len(shot.jobs), rows
        if not self._quiet:
            return shot.state, shot.finished, shot.notice, len(shot.jobs)
        if shot.finished:
            return "ended"
        # Passing trouble repeats with ever new messages.
        stuck = shot.state if shot.needs_user else ""
        trouble = any(job.error for job in shot.jobs)
        return (stuck, shot.notice, trouble) if stuck or shot.notice or trouble else None

    def close(self) -> None:
        """Nothing to do."""


class Bars:
    """A live bar for each batch."""

    def __init__(self, console: Console) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rows]}", markup=False),
            TextColumn("{task.fields[words]}", markup=False, style="dim"),
            console=console,
            refresh_per_second=4,
        )
        self._progress.start()

    def update(self, found: Sequence[Seen]) -> None:
        """Draw how the batches stand now."""
        for seen in found:
            shot = seen.shot
            if seen.batch.id not in self._tasks:
                self._tasks[seen.batch.id] = self._progress.add_task(
                    clean_text(seen.batch.title), total=max(shot.rows, 1), rows="", words=""
                )
            words = " · ".join(filter(None, (shot.words, time_left(shot), shot.notice)))
            self._progress.update(
                self._tasks[seen.batch.id],
                completed=shot.ok + shot.failed + (shot.progress or 0),
                rows=tally(shot),
                words=clean_text(words),
            )

    def close(self) -> None:
        """Leave the last bars on the screen."""
        self._progress.stop()
