"""What was asked before: answers that were paid for, or are on their way, are never asked twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from ..core.batch import Batch
from ..core.ids import HASH
from ..core.result import Outcome
from ..core.row_codes import SKIPPED, WAITING, inherited_code, may_be_billed, outcome_of
from ..storage import inherited_rows
from ..storage.store import Store

#: How many of a batch's requests are looked for under other names.
_PROBES = 64


class Earlier:
    """Requests of earlier batches whose answers may be taken.

    Found by (request hash, occurrence), so that equal prompts stay separate requests.

    Parameters
    ----------
    batches
        Where to look, oldest first.
    """

    def __init__(self, store: Store, batches: Sequence[Batch]) -> None:
        self._places: dict[bytes, deque[tuple[str, int]]] = {}
        self.hashes: dict[str, bytes] = {}
        #: Batches with requests that cannot be sent from disk any more: nothing attaches to them.
        self.broken: set[str] = set()
        seen: set[tuple[str, int]] = set()
        dead: set[tuple[str, int]] = set()
        for batch in batches:
            damaged = {job.number for job in store.jobs(batch.id) if job.damaged}
            if damaged:
                self.broken.add(batch.id)
            hashes = self.hashes[batch.id] = store.pack(batch.id, "hashes")
            outcomes = store.pack(batch.id, "outcomes")
            owners = memoryview(store.pack(batch.id, "owners")).cast("I")
            inherited = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
            for row, code in enumerate(outcomes):
                place = (batch.id, row) if owners[row] else inherited.get(row, (batch.id, row))
                if owners[row] in damaged and not _is_kept(code, finished=True):
                    dead.add(place)
                    continue
                if place in dead:
                    self.broken.add(batch.id)
                    continue
                if not _is_kept(code, finished=batch.finished_at is not None):
                    continue
                if place not in seen:
                    seen.add(place)
                    digest = hashes[row * HASH : (row + 1) * HASH]
                    self._places.setdefault(digest, deque()).append(place)

    def take(self, digest: bytes) -> tuple[str, int] | None:
        """Return where the next occurrence of a request was asked before, or None."""
        places = self._places.get(digest)
        return places.popleft() if places else None


def _is_kept(code: int, *, finished: bool) -> bool:
    """Whether a row must not be asked again by itself: answered, under way, or maybe billed."""
    if code == SKIPPED:
        return False
    if inherited_code(code, finished=finished) == WAITING:
        return True  # it may yet be sent again where it is
    return outcome_of(code) is Outcome.OK or may_be_billed(code)


def same(versions: Sequence[Batch], earlier: Earlier, hashes: bytes) -> Batch | None:
    """Return the latest earlier batch that asked for exactly these rows in this order."""
    for batch in reversed(versions):
        if earlier.hashes.get(batch.id) == hashes and batch.id not in earlier.broken:
            return batch
    return None


def known(store: Store, outcomes: bytearray, taken: Mapping[int, tuple[str, int]]) -> bytes:
    """Fill in the outcomes that inherited rows have already."""
    packs: dict[str, tuple[bytes, bool]] = {}
    for row, (source, there) in taken.items():
        if source not in packs:
            batch = store.batch(source)
            finished = batch is not None and batch.finished_at is not None
            packs[source] = store.pack(source, "outcomes"), finished
        theirs, finished = packs[source]
        outcomes[row] = inherited_code(theirs[there], finished=finished) if theirs else WAITING
    return bytes(outcomes)


def elsewhere(
    store: Store, batches: Sequence[Batch], hashes: bytes, fresh: Sequence[int]
) -> list[tuple[Batch, bool]]:
    """Return the batches that ask, or have asked, for some of the rows `fresh`, by a sample.

    Parameters
    ----------
    batches
        Batches of other names or notebooks.
    hashes
        The request hashes of a planned batch.
    fresh
        Its rows that are going to be paid for.

    Returns
    -------
    list of tuple
        Each with whether it has paid answers; else its requests are under way.
    """
    step = max(1, len(fresh) // _PROBES)
    probes = [hashes[row * HASH : (row + 1) * HASH] for row in fresh[::step]]
    found = ((batch, _answers(store, batch, probes)) for batch in batches)
    return [(batch, answers) for batch, answers in found if answers is not None]


def _answers(store: Store, batch: Batch, probes: Sequence[bytes]) -> bool | None:
    """Return whether a batch has an answer to a probe; None where it does not even ask for one."""
    theirs = store.pack(batch.id, "hashes")
    outcomes = b""
    waits = False
    for probe in probes:
        at = theirs.find(probe)
        while at % HASH and at >= 0:  # across two hashes: chance
            at = theirs.find(probe, at + 1)
        if at >= 0:
            outcomes = outcomes or store.pack(batch.id, "outcomes")
            if outcome_of(outcomes[at // HASH]) is Outcome.OK:
                return True
            waits |= outcomes[at // HASH] == WAITING and not batch.cancel_requested
    return False if waits else None
