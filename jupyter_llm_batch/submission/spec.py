"""What a user asked for (`Ask`), and the plan made of it (`Plan`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..core import ids
from ..core.batch import Batch
from ..core.job import Job
from ..core.request import Content, Recipe, Rows, Shape


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wrote, checked and ready to be planned.

    Attributes
    ----------
    contents
        One content per row; None for a row that is left out (``--skip-null``).
    template
        The cell's text as it was written; empty where there is none.
    rows
        The input, for its shape and its snapshot; None for a single prompt or for ``--split``.
    model
        The model of all rows, and of those that `models` gives none.
    models
        What names the model of each row (``--route``), read in step with `contents`.
    note
        Something the user should know before it is paid for.
    dedupe
        Ask equal prompts once.
    reuse
        Names of batches whose answers may be taken.
    max_cost
        USD that it may cost at most.
    kind
        The user's class for answers that follow a schema.
    shown
        The options that people are shown, by flag; see `option_table.shown_values`.
    """

    name: str
    contents: Iterable[Content | None]
    rows: Rows | None
    shape: Shape
    template: str = ""
    note: str = ""
    recipe: Recipe
    model: str = ""
    models: Iterable[Any] | None = None
    retries: int = 2
    reasks: int = 0
    dedupe: bool = False
    reuse: list[str] = []
    max_cost: float | None = None
    kind: Any = None
    notify: str = ""
    delete_uploads: bool = False
    realtime: bool = False
    sample: int = 0
    random: bool = False
    deadline: float | None = None
    deadline_cost: float | None = None
    shown: dict[str, Any] = msgspec.field(default_factory=dict)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A planned batch, not journaled yet.

    Attributes
    ----------
    same_as
        An earlier batch that asked for exactly this; then nothing is to be sent.
    first
        The first requests as text, for people to look at.
    repeats
        Rows whose prompt another row of this batch asks already.
    media, encoded
        Images and files in the requests, and the base64 of theirs in each job, by its number.
    samples
        By model, ``provider:model``, request lines to count tokens of.
    """

    batch: Batch
    jobs: list[tuple[Job, ids.Ranges]]
    packs: dict[str, bytes]
    same_as: Batch | None
    first: list[str]
    repeats: int = 0
    media: int = 0
    encoded: dict[int, int] = msgspec.field(default_factory=dict)
    samples: dict[str, list[bytes]] = msgspec.field(default_factory=dict)

    @property
    def fresh(self) -> list[int]:
        """The rows that are going to be paid for."""
        return [row for _, rows in self.jobs for row in rows]
