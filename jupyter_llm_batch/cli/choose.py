"""Find the batch that a name on the command line means, among those of all notebooks. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.batch import Batch
from ..core.errors import NotFound, UsageProblem
from ..submission.find import hint, is_of

#: Shortest accepted prefix of an id.
SHORTEST_ID = 3


def choose_batch(batches: Sequence[Batch], wanted: str, notebook: str = "") -> Batch:
    """Return the batch that the user means.

    Parameters
    ----------
    wanted
        ``NAME``, ``NAME#2``, ``NOTEBOOK::NAME``, an id or the beginning of one.
    notebook
        Its notebook: the whole path, or its end.

    Raises
    ------
    NotFound
        There is none.
    UsageProblem
        There are several; the message lists them.
    """
    where, colons, name = wanted.rpartition("::")
    where = where if colons else notebook
    base, _, version = name.partition("#")
    here = [batch for batch in batches if not where or is_of(batch.notebook, where)]
    named = [
        batch
        for batch in here
        if batch.name == base and (not version or str(batch.version) == version)
    ]
    if named:
        latest: dict[str, Batch] = {}
        for batch in named:
            known = latest.get(batch.notebook)
            if known is None or batch.used_at >= known.used_at:
                latest[batch.notebook] = batch
        return _only([*latest.values()], wanted)
    if len(name) >= SHORTEST_ID:
        found = [batch for batch in here if batch.id.startswith(name)]
        if found:
            return _only(found, wanted)
    names = [*dict.fromkeys(batch.name for batch in reversed(here))]  # the latest first
    words = hint(base, names, "`jupyter llm-batch list --all` lists them")
    raise NotFound(f"no batch {wanted!r}{f' in {where}' if where else ''}{words}")


def check_unambiguous(batches: Sequence[Batch], chosen: Batch, wanted: str) -> None:
    """Raise `UsageProblem` when a bare name may mean several running batches.

    Kernels of one folder, or runs of one notebook, may use a name at the same time; a command must
    not act on the wrong one.
    """
    if "#" in wanted or wanted.rpartition("::")[2] != chosen.name:
        return  # a version, or an id
    running = [
        batch
        for batch in batches
        if batch.finished_at is None
        and (batch.notebook, batch.name) == (chosen.notebook, chosen.name)
    ]
    if len(running) > 1:
        choices = ", ".join(f"{batch.exact} (id {batch.id})" for batch in running)
        raise UsageProblem(
            f"{wanted!r} is the name of several batches that are under way: say which, {choices}"
        )


def _only(found: Sequence[Batch], wanted: str) -> Batch:
    if len(found) == 1:
        return found[0]
    choices = ", ".join(f"{batch.notebook}::{batch.title} (id {batch.id})" for batch in found)
    raise UsageProblem(
        f"{wanted!r} is the name of several batches: say NOTEBOOK::NAME, an id, or --notebook; "
        f"there are {choices}"
    )
