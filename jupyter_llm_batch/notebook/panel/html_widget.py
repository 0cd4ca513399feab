"""The panel where anywidget cannot run: the static summary in a core widget, without buttons."""

from __future__ import annotations

import ipywidgets

from ...core.snapshot import Snapshot
from . import static_html


class HTMLPanel(ipywidgets.HTML):
    """Draws the latest snapshot of one batch; see `panel.Panel`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._line = snapshot.line
        super().__init__(value=static_html.render(snapshot))

    def update(self, snapshot: Snapshot) -> None:
        """Draw `snapshot`."""
        self._line = snapshot.line
        self.value = static_html.render(snapshot)

    def __repr__(self) -> str:
        return self._line
