"""Rows whose answers come from other batches or earlier rounds."""

from __future__ import annotations

from ..core.batch import Batch
from ..core.job import Job
from ..core.money import Spend
from ..core.result import Outcome
from ..core.row_codes import (
    WAITING,
    inherited_code,
    outcome_of,
    row_code,
)
from ..costs import budget
from ..storage import inherited_rows
from ..storage.records import Lease
from ..storage.store import Store


def caught_up(store: Store, batch: Batch) -> bytes:
    """Return the outcomes of an ended batch, with those that earlier ones have reached since.

    Rows that an earlier batch is asking again are waiting.
    """
    outcomes = bytearray(store.pack(batch.id, "outcomes"))
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    known = {each: _outcomes(store, each) for each in batch.sources if each != batch.id}
    for row, (source, there) in inherited_rows.read(
        store.pack(batch.id, "sources"), batch.sources
    ).items():
        theirs, finished = known.get(source, (b"", True))
        if theirs and not owners[row] and outcome_of(outcomes[row]) is not Outcome.OK:
            outcomes[row] = inherited_code(theirs[there], finished=finished)
    return bytes(outcomes)


def inherit(store: Store, held: Lease, batch: Batch, outcomes: bytes) -> bytes:
    """Copy the outcomes that earlier batches have reached meanwhile, and return all."""
    known = {source: _outcomes(store, source) for source in batch.sources}
    known[batch.id] = outcomes, True
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
    changed = bytearray(outcomes)
    for row, (source, there) in taken.items():
        theirs, finished = known[source]
        if changed[row] != WAITING:
            continue
        # A batch that a damaged journal lost never says any more.
        lost = row_code(Outcome.MISSING, billed=True)
        changed[row] = inherited_code(theirs[there], finished=finished) if theirs else lost
    if bytes(changed) != outcomes:
        store.put_packs(held, {"outcomes": bytes(changed)})
    return bytes(changed)


def give_up(store: Store, held: Lease, batch: Batch, outcomes: bytes) -> bytes:
    """Cancel the rows of a cancelled batch that others go on with; return all outcomes."""
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
    going_on = {each.id for each, _ in waits_on(store, batch) if not each.cancel_requested}
    changed = bytearray(outcomes)
    for row, (source, _) in taken.items():
        if changed[row] == WAITING and source in going_on:
            changed[row] = row_code(Outcome.CANCELLED)
    if bytes(changed) != outcomes:
        store.put_packs(held, {"outcomes": bytes(changed)})
    return bytes(changed)


def waits_on(store: Store, batch: Batch) -> list[tuple[Batch, list[Job]]]:
    """Return the batches under way that work on rows of `batch`, with their jobs."""
    if not batch.sources or batch.finished_at is not None:
        return []
    known = {each: _outcomes(store, each) for each in batch.sources if each != batch.id}
    under_way = {each for each, (_, finished) in known.items() if not finished}
    if not under_way:
        return []
    outcomes = store.pack(batch.id, "outcomes")
    behind = {
        source
        for row, (source, there) in inherited_rows.read(
            store.pack(batch.id, "sources"), batch.sources
        ).items()
        if source in under_way
        and outcomes[row] == WAITING
        and inherited_code(known[source][0][there], finished=False) == WAITING
    }
    found = [each for source in batch.sources if source in behind and (each := store.batch(source))]
    return [(each, store.jobs(each.id)) for each in found]


def _outcomes(store: Store, batch_id: str) -> tuple[bytes, bool]:
    """Return the outcomes of a batch, and whether they are final."""
    batch = store.batch(batch_id)
    return store.pack(batch_id, "outcomes"), batch is None or batch.finished_at is not None


def reused(store: Store, batch: Batch, now: float) -> list[Spend]:
    """Return what answers of earlier batches, and of equal prompts, saved this one."""
    if not batch.sources:
        return []
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    kept = {row: place for row, place in taken.items() if not owners[row]}
    return budget.saved_by_reuse(store, batch, kept, now)
