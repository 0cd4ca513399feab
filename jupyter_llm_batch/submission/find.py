"""Batches by the names that people use for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

from ..core.batch import Batch
from ..core.errors import NotFound, UsageProblem
from ..core.identity import Identity
from ..core.ids import HASH
from ..core.magic_line import quote_word
from ..core.text import many
from ..storage.store import Store
from . import fingerprint, reuse

#: How many batches of other names are searched for answers to a new batch's prompts.
_SEARCHED = 200

#: How many names a message lists.
_LISTED = 5


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


def resolve(store: Store, name: str, identity: Identity, asked: Iterable[str]) -> Batch:
    """Return the batch that a name means: this kernel's, else this notebook's.

    Parameters
    ----------
    name
        ``name``, ``name#2`` for one version, or ``NOTEBOOK::name``.
    asked
        The ids of batches that this kernel has asked for, the latest last.

    Raises
    ------
    NotFound
        There is none here; the message names those of other notebooks.
    UsageProblem
        Several notebooks are meant by ``NOTEBOOK``.
    """
    book, divided, rest = name.rpartition("::")
    base, _, version = rest.partition("#")
    called = [
        batch
        for batch in store.batches(name=base)
        if not batch.draft and version in {"", str(batch.version)}
    ]
    if divided:
        there = [batch for batch in called if is_of(batch.notebook, book)]
        if len({batch.notebook for batch in there}) > 1:
            raise UsageProblem(
                f"{name!r} may be a batch of several notebooks: {_choices(there, identity)}"
            )
        if there:
            return max(there, key=lambda batch: batch.used_at)
    else:
        known = {batch.id: batch for batch in called}
        own = [known[each] for each in asked if each in known]
        if own:
            return own[-1]
        for notebook in (identity.name, *identity.former):
            here = [batch for batch in called if batch.notebook == notebook]
            if here:
                return max(here, key=lambda batch: batch.used_at)
    raise NotFound(f"no batch {name!r} in this notebook{_instead(store, base, called, identity)}")


def _instead(store: Store, name: str, called: Sequence[Batch], identity: Identity) -> str:
    """Return what may have been meant by a name that means nothing here."""
    if called:
        return f"; another notebook has one: {_choices(called, identity)}"
    batches = store.batches(notebook=identity.name)
    if any(batch.draft and batch.name == name for batch in batches):
        return f"; it is only collected: `%llm_batch submit {name}` sends it"
    # The latest first.
    names = [*dict.fromkeys(batch.name for batch in reversed(batches) if not batch.draft)]
    return hint(name, names, "`%llm_batch history` lists them")


def hint(name: str, names: Sequence[str], where: str) -> str:
    """Return what an unknown name may have meant: the nearest of `names`, or the first few.

    Parameters
    ----------
    where
        What lists all of them.
    """
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f": did you mean {near[0]!r}?"
    if not names:
        return "; there is none yet"
    left = len(names) - _LISTED
    more = f" and {many(left, 'other')}: {where}" if left > 0 else ""
    return f"; there {'are' if names[1:] else 'is'} {', '.join(names[:_LISTED])}{more}"


def _choices(batches: Sequence[Batch], identity: Identity) -> str:
    """Return names by which each of some batches is found."""
    names = [*dict.fromkeys(quote_word(name_of(each, identity.name)) for each in reversed(batches))]
    left = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {many(left, 'other')}" if left > 0 else "")


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
    found = reversed(reuse.elsewhere(store, others, hashes, fresh))
    wanted = [hashes[row * HASH : (row + 1) * HASH] for row in fresh]
    return sorted(
        (
            Alike(quote_word(name_of(each, batch.notebook)), _shared(store, each, wanted), answered)
            for each, answered in found
        ),
        key=lambda each: not each.answered,
    )


def _shared(store: Store, batch: Batch, wanted: Sequence[bytes]) -> int:
    theirs = fingerprint.parts(store.pack(batch.id, "hashes"), HASH)
    return sum(each in theirs for each in wanted)
