"""Anthropic's Message Batch objects, without I/O: JSON in, `Remote` out.

They are read from the response's bytes, not through the SDK's models: an unknown state or a
missing field must not be an error, and a text page from a proxy must not pass for a batch.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from ..models import Counts, Phase, Remote

#: Results can be had for 29 days from the creation of the batch.
RETENTION = 29 * 86400.0

#: The one part of the results; its file is named by the batch alone.
RESULTS = "results"


class _RequestCounts(msgspec.Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class _BatchObject(msgspec.Struct):
    id: str
    processing_status: str
    request_counts: _RequestCounts | None = None
    created_at: str | None = None
    expires_at: str | None = None
    results_url: str | None = None


class _Page(msgspec.Struct):
    data: list[_BatchObject]
    has_more: bool = False


class _Support(msgspec.Struct):
    supported: bool = True


class _Capabilities(msgspec.Struct):
    batch: _Support | None = None


class _Model(msgspec.Struct):
    id: str
    capabilities: _Capabilities | None = None


_BATCH = msgspec.json.Decoder(_BatchObject)
_PAGE = msgspec.json.Decoder(_Page)
_MODEL = msgspec.json.Decoder(_Model)


class Listed(NamedTuple):
    """A batch with the number of its rows, known from the moment of its creation."""

    remote: Remote
    rows: int


def read_remote(body: bytes, poll_after: float | None = None) -> Remote:
    """Read a batch object; `ValueError` when it is none."""
    remote = _listed(_BATCH.decode(body)).remote
    return msgspec.structs.replace(remote, poll_after=poll_after)


def read_page(body: bytes) -> tuple[list[Listed], bool]:
    """Read one page of a listing, and whether there are more; `ValueError` when it is none."""
    page = _PAGE.decode(body)
    return [_listed(batch) for batch in page.data], page.has_more


def takes_batches(body: bytes) -> bool:
    """Read a model object: whether it may be used in a batch; `ValueError` when it is none."""
    capabilities = _MODEL.decode(body).capabilities
    return capabilities is None or capabilities.batch is None or capabilities.batch.supported


def _listed(batch: _BatchObject) -> Listed:
    ended = batch.processing_status == "ended"
    counts = batch.request_counts or _RequestCounts()
    failed = counts.errored + counts.canceled + counts.expired
    rows = counts.processing + counts.succeeded + failed
    created_at = _seconds(batch.created_at)
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
        expires_at=_seconds(batch.expires_at),
        # The address itself is not followed: it may name any host, and the key would go there.
        parts={RESULTS: batch.id} if ended and batch.results_url else {},
        keep_until=None if created_at is None else created_at + RETENTION,
    )
    return Listed(remote, rows)


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
