"""Anthropic's Message Batch objects, without I/O: JSON in, `Remote` out.

They are read from the response's bytes, not through the SDK's models: an unknown state or a
missing field must not be an error, and a text page from a proxy must not pass for a batch. The
objects of a listing are read one by one, so that none holds up the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ...core import loose_json
from ...core.job import Counts, Phase, Remote
from ..shared import envelopes, lenient
from ..shared.lenient import Count
from ..shared.moments import seconds

#: Results can be had for 29 days from the creation of the batch.
RETENTION = 29 * 86400.0

#: The one part of the results; its file is named by the batch alone.
RESULTS = "results"


class _RequestCounts(msgspec.Struct):
    processing: Count = 0
    succeeded: Count = 0
    errored: Count = 0
    canceled: Count = 0
    expired: Count = 0


class _BatchObject(msgspec.Struct):
    id: str
    processing_status: str = ""
    request_counts: _RequestCounts | None = None
    created_at: Any = None
    expires_at: Any = None
    ended_at: Any = None
    archived_at: Any = None
    results_url: str | None = None


class _Support(msgspec.Struct):
    supported: bool = True


class _Capabilities(msgspec.Struct):
    batch: _Support | None = None


class _Model(msgspec.Struct):
    id: str
    capabilities: _Capabilities | None = None


#: States of a batch that is not over yet.
_UNDER_WAY = {"", "in_progress", "canceling"}


class Listed(NamedTuple):
    """A batch with the number of its rows, known from the moment of its creation."""

    remote: Remote
    rows: int


def read_remote(body: bytes, poll_after: float | None = None) -> Remote:
    """Read a batch object; `ValueError` when it is none."""
    remote = _listed(lenient.fit(envelopes.opened(body), _BatchObject)).remote
    return msgspec.structs.replace(remote, poll_after=poll_after)


def read_page(body: bytes) -> tuple[list[Listed], bool]:
    """Read one page of a listing, and whether there are more; `ValueError` when it is none."""
    page = loose_json.loads(body)
    found = [_listed(lenient.fit(each, _BatchObject)) for each in envelopes.items(page)]
    return found, envelopes.has_more(page)


def takes_batches(body: bytes) -> bool:
    """Read a model object: whether it may be used in a batch; `ValueError` when it is none."""
    capabilities = lenient.decode(body, _Model).capabilities
    return capabilities is None or capabilities.batch is None or capabilities.batch.supported


def _listed(batch: _BatchObject) -> Listed:
    state = batch.processing_status.lower()
    # A word never seen before: what the batch has tells whether it is over.
    over = seconds(batch.ended_at) is not None or bool(batch.results_url)
    ended = state == "ended" or (state not in _UNDER_WAY and over)
    counts = batch.request_counts or _RequestCounts()
    failed = counts.errored + counts.canceled + counts.expired
    rows = counts.processing + counts.succeeded + failed
    created_at = seconds(batch.created_at)
    remote = Remote(
        remote_id=batch.id,
        state=batch.processing_status,
        phase=Phase.ENDED if ended else Phase.ACTIVE,
        # They are all "processing" until the whole batch ends, which says nothing about progress.
        counts=Counts(total=rows, done=counts.succeeded, failed=failed)
        if ended and batch.request_counts is not None
        else None,
        rows=rows,
        created_at=created_at,
        expires_at=seconds(batch.expires_at),
        ended_at=seconds(batch.ended_at),
        error=_gone(batch) if ended else None,
        # The address itself is not followed: it may name any host, and the key would go there.
        parts={RESULTS: batch.id} if ended and batch.results_url else {},
        keep_until=None if created_at is None else created_at + RETENTION,
    )
    return Listed(remote, rows)


def _gone(batch: _BatchObject) -> str | None:
    """Return why there are no results any more; None where there are."""
    if batch.results_url or not batch.archived_at:
        return None
    return f"Anthropic has deleted the results (archived {str(batch.archived_at)[:10]})"
