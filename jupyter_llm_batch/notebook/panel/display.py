"""One displayed panel: where it stands, how often it is drawn, and what remains of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol
from uuid import uuid4

from IPython.display import display, update_display

from ...core.snapshot import Snapshot
from ...core.terminal import print  # noqa: A004 - what is printed is cleaned
from . import static_html

#: Seconds between two messages: four a second, whatever happens.
INTERVAL = 0.25


class _Live(Protocol):
    """What draws snapshots as they come."""

    def update(self, snapshot: Snapshot) -> None: ...


class PanelView:
    """A panel in the cell that was running when `show` was called.

    `show` belongs to the thread that runs the cell, `update`, `flush` and `finish` to one
    background thread.

    Parameters
    ----------
    on_action
        Called as ``on_action(batch_id, action)`` when a button was pressed; see `panel.Panel`.
        None for a panel that is only looked at.
    """

    def __init__(self, on_action: Callable[[str, str], object] | None) -> None:
        self._on_action = on_action
        self._display_id = uuid4().hex
        self._live: _Live | None = None
        self._sent_at = float("-inf")
        self._waiting: Snapshot | None = None
        self._summary: dict[str, str] | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Display the panel in the current cell.

        A finished batch is shown as its lasting summary, which survives a restart: of a widget
        beside it a notebook that is opened again would show an error only.
        """
        if snapshot.finished:
            display(static_html.bundle(snapshot), raw=True, display_id=self._display_id)
            return
        self._live = _live(snapshot, self._on_action)
        display(self._live, display_id=self._display_id)

    def update(self, snapshot: Snapshot, now: float) -> float:
        """Draw `snapshot`, or keep it when the last one is too recent; the latest wins.

        Parameters
        ----------
        now
            Seconds of any clock that does not go back.

        Returns
        -------
        float
            Seconds after which `flush` has something to draw; 0 when nothing is left.
        """
        self._waiting = snapshot
        return self.flush(now)

    def flush(self, now: float) -> float:
        """Draw what `update` kept, if it is time; returns as `update` does."""
        if self._waiting is None:
            return 0.0
        wait = self._sent_at + INTERVAL - now
        if wait > 0:
            return wait
        snapshot, self._waiting, self._sent_at = self._waiting, None, now
        if self._live is not None:
            self._live.update(snapshot)
        return 0.0

    def finish(self, snapshot: Snapshot) -> None:
        """Replace the live panel by a summary that needs no kernel; at once, whatever the rate."""
        self._waiting = None
        if self._live is None:
            return
        # A page that was reloaded never sees the replacement: it keeps this last frame, for which
        # the widget has to stay open.
        self._live.update(snapshot)
        self._live = None
        self.amend(snapshot)

    def amend(self, snapshot: Snapshot) -> None:
        """Replace the summary by that of `snapshot`."""
        self._summary = static_html.bundle(snapshot)
        self.confirm()

    def confirm(self) -> None:
        """Say once more what remains, in the name of the running cell.

        The display id finds the cell that is meant. nbclient and papermill drop what comes in
        another name than the running cell's, as the background's own message may.
        """
        if self._summary is not None:
            update_display(self._summary, raw=True, display_id=self._display_id)


#: States that a terminal mentions after a cell that is about something else.
_NEWS = ("paused", "attention", "stopped")


class TextView:
    """A panel in a terminal: lines of text, printed in the user's thread only.

    A cell that waits for the batch gets a line for each new state. After other cells there is one
    only when the batch is over or needs the user, as a shell does with its background jobs.
    """

    def __init__(self) -> None:
        self._said = ""
        self._latest: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Print the line in the current cell."""
        self._latest = snapshot
        self.speak()

    def update(self, snapshot: Snapshot, now: float) -> float:  # noqa: ARG002 - never drawn from here
        """Keep `snapshot` until `speak`; a background thread must not print."""
        self._latest = snapshot
        return 0.0

    def flush(self, now: float) -> float:  # noqa: ARG002
        """Nothing is drawn from the background."""
        return 0.0

    def finish(self, snapshot: Snapshot) -> None:
        """Keep the end until `speak`."""
        self._latest = snapshot

    def amend(self, snapshot: Snapshot) -> None:
        """Have `speak` print the line of `snapshot`, if that of its state was printed or not."""
        self._latest, self._said = snapshot, ""

    def speak(self, *, news: bool = False) -> None:
        """Print the line if the state is new; called in the user's thread.

        Parameters
        ----------
        news
            Only if the batch is over or needs the user.
        """
        latest = self._latest
        if latest is None or latest.state == self._said:
            return
        if not news or latest.finished or latest.state in _NEWS:
            self._said = latest.state
            print(latest.line)


def _live(snapshot: Snapshot, on_action: Callable[[str, str], object] | None) -> _Live:
    try:
        # Colab has the core widgets built in, and others only after the user has allowed them.
        if "google.colab" not in sys.modules:
            from .panel import Panel

            return Panel(snapshot, on_action)
    except ImportError:
        pass
    from .html_widget import HTMLPanel

    return HTMLPanel(snapshot)
