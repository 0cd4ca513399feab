"""Decisions of the user about a batch: journaled, and acted on by whoever drives it."""

from __future__ import annotations

from typing import Any

from ..core.batch import Batch
from ..core.errors import UsageProblem
from ..costs import budget
from .context import Context


def check_ended(batch: Batch) -> None:
    """Raise `UsageProblem` unless rows of it may be sent again."""
    if batch.finished_at is not None:
        return
    if batch.cancel_requested:
        raise UsageProblem(
            f"{batch.title} is being cancelled: a retry is possible when that is over; "
            "running its cell with --resubmit pays again at once"
        )
    raise UsageProblem(f"{batch.title} is still under way: wait, or cancel it first")


def check_prompts(batch: Batch) -> None:
    """Raise `UsageProblem` unless the prompts of a batch are here."""
    if batch.adopted:
        raise UsageProblem(
            f"{batch.title} was created elsewhere: its prompts are not here to be asked again"
        )


def decide(context: Context, batch: Batch, *, in_full: bool = False, **changes: Any) -> None:
    """Note a decision; with `in_full` it may ask what is not back in real time."""
    reserve = None
    if in_full and batch.finished_at is None:
        reserve = budget.check_finish(context.store, batch, context.accounts.rules())
    context.store.decide(batch.id, reserve=reserve, **changes)
    context.background.soon(context.poller().take_up, batch.id)
