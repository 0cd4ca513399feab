"""Compare two batches over the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from ..core import lifecycle
from ..core.batch import Batch
from ..core.errors import LLMBatchError, UsageProblem
from ..costs import comparison
from ..costs.comparison import Comparison
from ..storage.store import Store
from . import rows as rows_
from .context import Context
from .handle import BatchHandle

_Row = TypeVar("_Row")


#: Rows whose prompts are looked at when two batches are compared.
_COMPARED = 20


def _where(asked: Sequence[bool], found: Sequence[_Row | None]) -> list[_Row | None]:
    """Return what was found for the rows that were asked, None for the others."""
    return [each if wanted else None for wanted, each in zip(asked, found, strict=False)]


def _samples(batches: Iterable[Batch], waits: Iterable[bool], rows: int) -> Iterator[str]:
    """Yield which of two batches wait for the user's word on their sample."""
    for batch, held in zip(batches, waits, strict=True):
        if held:
            yield (
                f"{batch.title} is waiting for your OK: the {rows:,} rows of its sample are "
                "compared"
            )


def compare(context: Context, one: BatchHandle, other: BatchHandle) -> Comparison:
    """Compare two batches over the same rows; see `Client.compare`."""
    kinds = [each.record.recipe.endpoint == "embeddings" for each in (one, other)]
    if any(kinds) and (not all(kinds) or one.record.models != other.record.models):
        raise UsageProblem("vectors of different models cannot be compared, only answers can")
    waits = [
        lifecycle.waits_for_user(each.record, context.store.jobs(each.id)) for each in (one, other)
    ]
    ours, theirs = (
        each.results(partial=held) for each, held in zip((one, other), waits, strict=True)
    )
    rows = min(len(ours), len(theirs))
    # Of a sample only what it asked is compared, on both sides.
    asked = [
        not (waits[0] and ours[row] is None) and not (waits[1] and theirs[row] is None)
        for row in range(rows)
    ]
    ours, theirs = _where(asked, ours), _where(asked, theirs)
    return comparison.compare_sides(
        comparison.summarize_side(one.record, ours, _where(asked, one.costs())),
        comparison.summarize_side(other.record, theirs, _where(asked, other.costs())),
        ours,
        theirs,
        simulated=context.simulated,
        notes=[
            *_unlike(context.store, one.record, other.record),
            *_samples([one.record, other.record], waits, sum(asked)),
        ],
    )


def _unlike(store: Store, one: Batch, other: Batch) -> Iterator[str]:
    """Yield how the inputs of two batches differ."""
    if one.rows != other.rows:
        yield (
            f"{one.title} has {one.rows:,} rows and {other.title} {other.rows:,}: "
            f"the first {min(one.rows, other.rows):,} are compared"
        )
    rows = range(min(one.rows, other.rows, _COMPARED))
    unlike = [row for row in rows if _prompt(store, one, row) != _prompt(store, other, row)]
    if unlike:
        yield f"the prompts differ (for example row {unlike[0]})"


def _prompt(store: Store, batch: Batch, row: int) -> str | None:
    try:
        line, job = rows_.request_line(store, batch, row)
    except (LLMBatchError, OSError):
        return None
    return rows_.prompt_text(job, line)
