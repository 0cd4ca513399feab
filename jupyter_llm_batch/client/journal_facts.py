"""What there is to know about a journal, for ``doctor``."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ..storage import damage, files, location
from ..storage.store import Store


class JournalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One journal.

    Attributes
    ----------
    size
        Bytes on disk, answers included.
    mode
        How SQLite writes: ``wal`` or ``delete``.
    place
        Kind of the file system, and whether it is a network's.
    wrong
        What is damaged; empty for nothing.
    loss
        What was lost of an earlier journal and not settled by the user.
    """

    folder: Path
    path: Path
    size: int
    schema_version: int
    mode: str
    place: location.Place
    wrong: str
    writable: bool
    loss: damage.Loss | None


def of(store: Store) -> JournalFacts:
    """Look at every page of a journal, and return what there is to know."""
    return JournalFacts(
        folder=store.folder,
        path=store.path,
        size=files.size_of(store.folder),
        schema_version=store.schema_version(),
        mode=store.mode,
        place=location.place_of(store.folder),
        wrong=store.check(),
        writable=os.access(store.folder, os.W_OK),
        loss=store.losses(),
    )
