"""The displayed panels: every view of a batch is drawn from the snapshots of the background."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

import msgspec
from IPython.core.interactiveshell import InteractiveShell

from ...core.snapshot import Snapshot
from .display import PanelView, TextView

#: A view, the notice that is its own, and what it says besides until the batch is over.
_View = tuple[PanelView | TextView, str, str]


class Panels:
    """Views by batch. `show` runs in the user's cell, `listen` on the background loop.

    The end of a batch may also be drawn by the cell that waits for it.
    """

    def __init__(self, shell: InteractiveShell, on_action: Callable[[str, str], object]) -> None:
        self._shell = shell
        self._on_action = on_action
        self._views: dict[str, list[_View]] = {}
        self._texts: list[TextView] = []
        self._ended: list[PanelView] = []
        self._over: dict[str, tuple[Snapshot, Snapshot, list[_View]]] = {}
        self._lock = threading.Lock()  # a cell that waits draws the end itself
        self._drawing = threading.Lock()
        self.notices: dict[str, str] = {}

    def show(
        self,
        snapshot: Snapshot,
        *,
        notice: str = "",
        passing: str = "",
        read_only: bool = False,
    ) -> None:
        """Display a batch in the current cell, live until it is over.

        Parameters
        ----------
        notice
            What only this panel says; `notices` are said by all panels of a batch.
        passing
            What it says besides until the batch is over.
        read_only
            Without buttons that act: another notebook's kernel drives it.
        """
        view: PanelView | TextView
        if getattr(self._shell, "kernel", None) is None:
            view = TextView()
            self._texts.append(view)
        else:
            view = PanelView(None if read_only else self._on_action)
        view.show(_noted(self._told(snapshot), notice, passing))
        if not snapshot.finished:
            self._views.setdefault(snapshot.batch_id, []).append((view, notice, passing))

    def speak(self, *, news: bool = False) -> None:
        """Say what is new in the user's thread: while a cell waits, and between two cells.

        Parameters
        ----------
        news
            Between two cells: a terminal prints a line only if a batch is over or needs the user.
        """
        for view in self._texts:
            view.speak(news=news)
        with self._lock:
            ended, self._ended = self._ended, []
        for panel in ended:
            with contextlib.suppress(Exception):  # a front end that went away
                panel.confirm()

    def listen(self, snapshot: Snapshot, *, open_end: bool = False) -> None:
        """Draw a new snapshot in every view of its batch.

        Parameters
        ----------
        open_end
            There may be a last notice; `amend` adds it.
        """
        with self._drawing:
            self._listen(snapshot, open_end=open_end)

    def _listen(self, snapshot: Snapshot, *, open_end: bool) -> None:
        with self._lock:
            told = self._told(snapshot)
            if snapshot.finished:
                views = self._views.pop(snapshot.batch_id, [])
                if open_end:
                    self._over[snapshot.batch_id] = (snapshot, told, views)
            else:
                views = [*self._views.get(snapshot.batch_id, [])]
        for view, notice, passing in views:
            drawn = _noted(told, notice, passing)
            # A front end that went away must not stop the batches.
            with contextlib.suppress(Exception):
                if snapshot.finished:
                    view.finish(drawn)
                    self._remember(view)
                else:
                    self._draw(view.update(drawn, time.monotonic()), view)

    def amend(self, batch_id: str) -> None:
        """Draw the end of a batch once more, with the notice that has come since."""
        with self._drawing:  # after the end itself, which the background may be drawing now
            over = self._over.pop(batch_id, None)
            if over is None:
                return
            snapshot, before, views = over
            told = self._told(snapshot)
            for view, notice, _ in views if told != before else ():
                with contextlib.suppress(Exception):  # a front end that went away
                    view.amend(_noted(told, notice))

    def _remember(self, view: PanelView | TextView) -> None:
        if isinstance(view, PanelView):
            with self._lock:
                self._ended.append(view)

    def _draw(self, wait: float, view: PanelView | TextView) -> None:
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._flush, view)

    def _flush(self, view: PanelView | TextView) -> None:
        with contextlib.suppress(Exception):
            self._draw(view.flush(time.monotonic()), view)

    def _told(self, snapshot: Snapshot) -> Snapshot:
        return _noted(snapshot, self.notices.get(snapshot.batch_id, ""))


def _noted(snapshot: Snapshot, notice: str, passing: str = "") -> Snapshot:
    if passing and not snapshot.finished:
        notice = "; ".join(filter(None, (notice, passing)))
    if not notice:
        return snapshot
    both = " · ".join(filter(None, (snapshot.notice, notice)))
    return msgspec.structs.replace(snapshot, notice=both, line=f"{snapshot.line} · {notice}")
