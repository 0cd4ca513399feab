"""The journal as front ends see it: where it is, what it holds, what was lost."""

from __future__ import annotations

from pathlib import Path

from ..storage.store import Store
from . import defect_report, journal_facts
from .journal_facts import JournalFacts


class Journal:
    """The journal of one client."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def folder(self) -> Path:
        """The folder of the journal."""
        return self._store.folder

    @property
    def loss(self) -> str:
        """What could not be read when this process opened the journal; empty for nothing."""
        return "" if self._store.loss is None else self._store.loss.words

    def facts(self) -> JournalFacts:
        """Look at every page of the journal, and return what there is to know."""
        return journal_facts.of(self._store)

    def settle_loss(self) -> None:
        """Note that the user knows what was lost of an earlier journal."""
        self._store.settle_loss()

    def committed(self, since: float) -> tuple[float, float]:
        """Return the USD spent since a moment, and what batches under way may cost beyond that."""
        return self._store.spending.committed(since)

    def write_report(self) -> Path:
        """Write a report about defects, and return its path."""
        return defect_report.write(self._store)

    def has_defects(self) -> bool:
        """Whether batches have met defects in the last day."""
        return bool(defect_report.journaled(self._store))
