"""One batch as the journal keeps it."""

from __future__ import annotations

from typing import Any

import msgspec

from .money import Estimate
from .request import Recipe, Shape


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one named cell submitted. Packed per-row data lives beside it in the store.

    Attributes
    ----------
    models
        Every model that it uses, as ``provider:model``.
    routed
        Each row names its model. The pack ``models`` holds an index into `models`, two bytes a row.
    adopted
        It was created outside this package. The pack ``keys`` holds the custom_ids of its rows.
    written, made_with
        A hash of the cell as the user wrote it, and the versions that turned it into requests; see
        `fingerprint`.
    realtime
        All of it is sent in real time.
    held
        Only the sample is sent. The other rows wait for the user's OK.
    deadline, deadline_cost
        When unfinished rows are sent in real time instead (Unix seconds), and the most that this
        may cost (USD).
    cut
        Unfinished rows are cancelled at the provider and sent in real time.
    line
        The first line of its cell, as last typed by the user.
    options
        The options that people are shown, by flag: ``{"--retry": 3}``.
    """

    id: str
    notebook: str
    name: str
    version: int
    created_at: float
    rows: int
    recipe: Recipe
    models: list[str]
    shape: Shape
    plan_hash: str
    simulated: bool = False
    max_retries: int = 2
    max_reasks: int = 0
    round: int = 0
    used_at: float = 0.0
    cancel_requested: bool = False
    finished_at: float | None = None
    reused: int = 0
    skipped: int = 0
    sources: list[str] = msgspec.field(default_factory=list)
    draft: bool = False
    notice: str = ""
    routed: bool = False
    adopted: bool = False
    notify: str = ""
    delete_uploads: bool = False
    written: str = ""
    made_with: dict[str, str] = msgspec.field(default_factory=dict)
    realtime: bool = False
    held: bool = False
    deadline: float | None = None
    deadline_cost: float | None = None
    cut: bool = False
    estimates: list[Estimate] = msgspec.field(default_factory=list)
    max_cost: float | None = None
    line: str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name as people see it: ``sentiment``, later versions ``sentiment#2``."""
        return self.name if self.version < 2 else f"{self.name}#{self.version}"

    @property
    def exact(self) -> str:
        """The name with its version, unique even if later versions exist: ``sentiment#1``."""
        return f"{self.name}#{self.version}"
