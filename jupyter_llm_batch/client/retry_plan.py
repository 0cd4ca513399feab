"""What a retry would send."""

from __future__ import annotations

import msgspec

from ..core.batch import Batch
from ..core.row_codes import WAITING, may_be_billed, rows_unsent, rows_without_answer
from ..storage.store import Store
from ..submission import inherit


class RetryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of an ended batch that a retry is about, by what happens to them.

    Attributes
    ----------
    missed
        How many rows had no answer when the batch ended.
    rows
        Those that a retry would send.
    answered, asked
        How many a retry of an earlier batch has answered, or is asking now.
    billed
        Rows of `rows` that may have been billed.
    unsent
        How many of `rows` were never sent.
    """

    missed: int
    rows: list[int]
    answered: int
    asked: int
    billed: list[int]
    unsent: int


def of(store: Store, batch: Batch) -> RetryPlan:
    """Return what a retry of an ended batch would send."""
    before = store.pack(batch.id, "outcomes")
    outcomes = inherit.caught_up(store, batch)
    rows = rows_without_answer(outcomes)
    missed = len(rows_without_answer(before))
    asked = outcomes.count(WAITING) if missed else 0
    return RetryPlan(
        missed=missed,
        rows=rows,
        answered=missed - len(rows) - asked,
        asked=asked,
        billed=[row for row in rows if may_be_billed(outcomes[row])],
        unsent=rows_unsent(outcomes, store.pack(batch.id, "owners"), store.jobs(batch.id)),
    )
