"""Read the results of a batch, and mend damaged result files first."""

from __future__ import annotations

from ..core.batch import Batch
from ..core.errors import Damaged, NotReady
from ..core.result import Result
from . import damaged_files, repair, results
from .context import Context


def read_results(
    context: Context, batch: Batch, *, partial: bool, whole: bool = False
) -> list[Result | None]:
    """Return the results of a batch; result files that are damaged are fetched again first.

    Parameters
    ----------
    partial
        Give what is there so far, None for the rest.
    whole
        With reasoning and the raw lines.

    Raises
    ------
    NotReady
        The batch is under way and `partial` is false.
    Damaged
        Some answers cannot be read, and `partial` is false.
    """
    if batch.finished_at is None and not partial:
        raise NotReady(
            f"{context.poller().snapshot(batch).line}; `%llm_batch wait {batch.title}` "
            "(or .wait()) waits, partial=True gives what is there"
        )
    wrong = damaged_files.harmed(context.store, batch)
    left: list[tuple[damaged_files.Harm, str]] = []
    if wrong:
        why_not = context.poller().keys.why_not_fetched
        work = repair.refetch(context.store, context.adapter, why_not, wrong)
        left = context.call(work)
        if left and not partial:
            raise Damaged(
                f"some answers of {batch.title} cannot be read: {left[0][1]}; "
                f"`%llm_batch results {batch.title} --partial` binds the others"
            )
    damaged = {harm.path for harm, _ in left}
    found = results.read(context.store, batch, whole=whole, damaged=damaged, early=partial)
    if batch.finished_at is not None:
        context.store.events.mark_read(batch.id)
    return found
