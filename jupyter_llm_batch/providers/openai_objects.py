"""OpenAI's batch and file objects, without I/O: JSON in, `Remote` out.

They are read from the response's bytes, not through the SDK's models: an unknown state or a
missing field must not be an error, and a text page from a proxy must not pass for a batch.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import redact
from ..models import Counts, Outcome, Phase, Remote
from .openai_wire import kind

#: The metadata key that carries our label.
LABEL = "llm_batch"
#: Output files live 30 days (batch guide).
RETENTION = 30 * 86400.0
_SHOWN_ERRORS = 5


class _RowError(msgspec.Struct):
    code: str | None = None
    message: str | None = None
    line: int | None = None


class _Errors(msgspec.Struct):
    data: list[_RowError] | None = None


class _RequestCounts(msgspec.Struct):
    total: int | None = 0
    completed: int | None = 0
    failed: int | None = 0


class _BatchObject(msgspec.Struct):
    id: str
    status: str
    endpoint: str | None = None  # null in some of Azure's answers
    model: str | None = None
    input_file_id: str | None = None
    errors: _Errors | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: float | None = None
    expires_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelled_at: float | None = None
    request_counts: _RequestCounts | None = None
    metadata: dict[str, Any] | None = None


class _Page(msgspec.Struct):
    data: list[_BatchObject]
    has_more: bool = False


class _FileObject(msgspec.Struct):
    id: str


_BATCH = msgspec.json.Decoder(_BatchObject, strict=False)
_PAGE = msgspec.json.Decoder(_Page, strict=False)
_FILE = msgspec.json.Decoder(_FileObject)


def read_remote(body: bytes) -> Remote:
    """Read a Batch object; `ValueError` when it is none."""
    return _remote(_BATCH.decode(body))


def read_page(body: bytes) -> tuple[list[Remote], bool]:
    """Read one page of a listing, and whether there are more; `ValueError` when it is none."""
    page = _PAGE.decode(body)
    return [_remote(batch) for batch in page.data], page.has_more


def read_file_id(body: bytes) -> str:
    """Read the id of a File object; `ValueError` when it is none."""
    return _FILE.decode(body).id


def _remote(batch: _BatchObject) -> Remote:
    ended = batch.completed_at or batch.expired_at or batch.cancelled_at or batch.failed_at
    since = ended or batch.created_at
    counts = batch.request_counts
    parts = {"output": batch.output_file_id, "errors": batch.error_file_id}
    return Remote(
        remote_id=batch.id,
        state=batch.status,
        phase=_phase(batch),
        counts=None if counts is None else _counts(counts),
        label=_label(batch.metadata),
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        parts={part: ref for part, ref in parts.items() if ref},
        error=_explain(batch.errors),
        # While it runs nobody knows its end: its creation gives the earliest possible date.
        keep_until=since + RETENTION if since else None,
        rest=_rest(batch),
        endpoint=kind(batch.endpoint or "") or "chat",
        model=batch.model,
        input=batch.input_file_id,
    )


def _counts(counts: _RequestCounts) -> Counts:
    # Azure has null for what it does not know yet.
    return Counts(total=counts.total or 0, done=counts.completed or 0, failed=counts.failed or 0)


def _label(metadata: dict[str, Any] | None) -> str | None:
    label = (metadata or {}).get(LABEL)
    return label if isinstance(label, str) else None


def _phase(batch: _BatchObject) -> Phase:
    if batch.status in {"completed", "expired", "cancelled"}:
        return Phase.ENDED
    if batch.status != "failed":
        return Phase.ACTIVE
    if batch.output_file_id:
        return Phase.ENDED  # whatever failed, these answers were paid for
    rows = (batch.errors and batch.errors.data) or []
    if any(row.code == "token_limit_exceeded" for row in rows):
        return Phase.LATER
    # The error file may say why, row by row; Azure's is always there and may be empty.
    return Phase.ENDED if batch.error_file_id else Phase.FAILED


def _rest(batch: _BatchObject) -> Outcome | None:
    # A batch that was refused as a whole has run no row, whatever its error file lists.
    if batch.status == "failed" and not batch.output_file_id:
        return Outcome.FAILED
    # Rows that were not reached are listed in the error file; only without one (a batch cancelled
    # while it was validated has no files at all) does the state speak for them.
    if batch.error_file_id:
        return None
    return {"cancelled": Outcome.CANCELLED, "expired": Outcome.EXPIRED}.get(batch.status)


def _explain(errors: _Errors | None) -> str | None:
    rows = (errors and errors.data) or []
    if not rows:
        return None
    told = [
        (f"line {row.line}: " if row.line is not None else "") + (row.message or row.code or "?")
        for row in rows[:_SHOWN_ERRORS]
    ]
    if len(rows) > _SHOWN_ERRORS:
        told.append(f"and {len(rows) - _SHOWN_ERRORS} more")
    return redact(" ".join("; ".join(told).split()))
