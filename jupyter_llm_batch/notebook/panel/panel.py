"""The live panel: one widget, one trait, a few messages from its buttons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import msgspec
import traitlets

from ...core.snapshot import Snapshot

#: What a button may ask for; anything else that a page sends is ignored.
ACTIONS = frozenset({"cancel", "retry", "unbilled", "refresh", "details", "send", "finish", "keep"})

_HERE = Path(__file__).parent


class Panel(anywidget.AnyWidget):
    """Draws the latest snapshot of one batch.

    Parameters
    ----------
    snapshot
        What is drawn first.
    on_action
        Called as ``on_action(batch_id, action)`` when a button was pressed, in whatever thread
        the kernel handles its messages: it only hands over to the background, and never raises.
        None for a panel without buttons that act.
    """

    _esm = _HERE / "panel.js"
    _css = _HERE / "panel.css"

    snapshot = traitlets.Dict().tag(sync=True)
    read_only = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(self, snapshot: Snapshot, on_action: Callable[[str, str], object] | None) -> None:
        self._line = snapshot.line
        super().__init__(snapshot=msgspec.to_builtins(snapshot), read_only=on_action is None)
        self._on_action = on_action
        self.on_msg(self._receive)

    def update(self, snapshot: Snapshot) -> None:
        """Draw `snapshot`; called by one background thread at most a few times a second."""
        self._line = snapshot.line
        self.snapshot = msgspec.to_builtins(snapshot)

    def _receive(self, _widget: object, content: Any, _buffers: object) -> None:
        action = content.get("action") if isinstance(content, dict) else None
        if action in ACTIONS and self._on_action is not None:
            self._on_action(self.snapshot["batch_id"], action)

    def __repr__(self) -> str:
        return self._line
