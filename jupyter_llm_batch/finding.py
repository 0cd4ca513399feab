"""Batches by the names that people use for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

from . import earlier, fingerprint
from .celllines import word
from .earlier import HASH
from .errors import NotFound
from .models import Batch
from .store import Store

#: How many batches of other names are searched for answers to a new batch's prompts.
_SEARCHED = 200


def is_of(notebook: str, wanted: str) -> bool:
    """Whether a notebook is meant by its path or by the end of its path."""
    if notebook == wanted:
        return True
    parts, end = PurePath(notebook).parts, PurePath(wanted).parts
    return bool(end) and parts[-len(end) :] == end


def by_name(store: Store, name: str, notebook: str) -> list[Batch]:
    """Return the batches called `name`, oldest first: of this notebook, else of any.

    Parameters
    ----------
    name
        ``name``, ``name#2`` for one version, or ``NOTEBOOK::name``, where the end of the
        notebook's path is enough.

    Raises
    ------
    NotFound
        There is none.
    """
    book, divided, rest = name.rpartition("::")
    base, _, version = rest.partition("#")
    found = [
        batch
        for batch in store.batches(name=base)
        if not batch.draft
        and version in {"", str(batch.version)}
        and (not divided or is_of(batch.notebook, book))
    ]
    here = [batch for batch in found if batch.notebook == notebook]
    if not found:
        raise NotFound(f"no batch {name!r} in any notebook: `%llm_batch history --all` lists them")
    return here if here and not divided else found


def name_of(batch: Batch, notebook: str) -> str:
    """Return what `by_name` finds `batch` by, seen from `notebook`."""
    return batch.title if batch.notebook == notebook else f"{batch.notebook}::{batch.title}"


def titles(batches: Iterable[Batch]) -> dict[str, str]:
    """Return by id what names each batch beside the others: a first of several is ``x#1``."""
    batches = [*batches]
    later = {(each.notebook, each.name) for each in batches if each.version > 1}
    return {
        each.id: each.exact if each.version and (each.notebook, each.name) in later else each.title
        for each in batches
    }


class Alike(NamedTuple):
    """A batch that has some of the prompts of a new one.

    Attributes
    ----------
    name
        As a word of a cell's line.
    rows
        How many of the new one's prompts it has.
    answered
        Whether it has paid answers already.
    """

    name: str
    rows: int
    answered: bool


def alike(store: Store, batch: Batch, hashes: bytes, fresh: Sequence[int]) -> list[Alike]:
    """Return other batches that ask for rows `fresh` of a new one.

    Those with paid answers come first, the latest before older ones.
    """
    if not fresh:
        return []
    others = [
        each
        for each in store.batches()
        if not each.draft and (each.notebook, each.name) != (batch.notebook, batch.name)
    ]
    # A renamed notebook's cell is looked for however long ago it ran.
    named = [each for each in others[:-_SEARCHED] if each.name == batch.name]
    others = [*named, *others[-_SEARCHED:]]
    found = reversed(earlier.elsewhere(store, others, hashes, fresh))
    wanted = [hashes[row * HASH : (row + 1) * HASH] for row in fresh]
    return sorted(
        (
            Alike(word(name_of(each, batch.notebook)), _shared(store, each, wanted), answered)
            for each, answered in found
        ),
        key=lambda each: not each.answered,
    )


def _shared(store: Store, batch: Batch, wanted: Sequence[bytes]) -> int:
    theirs = fingerprint.parts(store.pack(batch.id, "hashes"), HASH)
    return sum(each in theirs for each in wanted)
