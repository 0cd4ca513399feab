"""One displayed panel: where it stands, how often it is drawn, and what remains of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol
from uuid import uuid4

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display, update_display

from ..models import Snapshot
from . import static

#: Seconds between two messages: four a second, whatever happens.
INTERVAL = 0.25


class _Live(Protocol):
    """What draws snapshots as they come."""

    def update(self, snapshot: Snapshot) -> None: ...


class PanelView:
    """A panel in the cell that was running when `show` was called.

    `show` belongs to the thread that runs the cell, `update`, `flush` and `finish` to one
    background thread. Without a kernel (IPython in a terminal) each new state is one printed line.

    Parameters
    ----------
    shell
        The running IPython.
    on_action
        Called as ``on_action(batch_id, action)`` when a button was pressed; see `panel.Panel`.
    """

    def __init__(self, shell: InteractiveShell, on_action: Callable[[str, str], object]) -> None:
        self._shell = shell
        self._on_action = on_action
        self._display_id = uuid4().hex
        self._live: _Live | None = None
        self._state = ""
        self._sent_at = float("-inf")
        self._waiting: Snapshot | None = None

    @property
    def has_kernel(self) -> bool:
        """Whether there is a front end that can draw."""
        return getattr(self._shell, "kernel", None) is not None

    def show(self, snapshot: Snapshot, *, buttons: bool = False) -> None:
        """Display the panel in the current cell.

        A finished batch is shown as its lasting summary, which survives a restart, unless
        `buttons` asks for the live panel.
        """
        if not self.has_kernel:
            self._print(snapshot)
            return
        if snapshot.finished and not buttons:
            display(static.bundle(snapshot), raw=True, display_id=self._display_id)
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
        elif not self.has_kernel:
            self._print(snapshot)
        return 0.0

    def finish(self, snapshot: Snapshot) -> None:
        """Replace the live panel by a summary that needs no kernel; at once, whatever the rate."""
        self._waiting = None
        if not self.has_kernel:
            self._print(snapshot)
            return
        if self._live is None:
            return
        # A page that was reloaded never sees the replacement: it keeps this last frame, for which
        # the widget has to stay open.
        self._live.update(snapshot)
        # The display id finds the cell. Sent in the name of the original cell instead of the
        # running one, nbclient and papermill would drop it.
        update_display(static.bundle(snapshot), raw=True, display_id=self._display_id)
        self._live = None

    def _print(self, snapshot: Snapshot) -> None:
        if snapshot.state != self._state:
            self._state = snapshot.state
            print(snapshot.line)


def _live(snapshot: Snapshot, on_action: Callable[[str, str], object]) -> _Live:
    try:
        # Colab has the core widgets built in, and others only after the user has allowed them.
        if "google.colab" not in sys.modules:
            from .panel import Panel

            return Panel(snapshot, on_action)
    except ImportError:
        pass
    from .html_panel import HTMLPanel

    return HTMLPanel(snapshot)
