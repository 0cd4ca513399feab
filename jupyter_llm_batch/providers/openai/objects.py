"""OpenAI's batch and file objects, without I/O: JSON in, `Remote` out.

They are read from the response's bytes, not through the SDK's models: an unknown state or a
missing field must not be an error, and a text page from a proxy must not pass for a batch. Other
servers put them into an envelope, write states in capitals and times in ISO 8601, and leave a text
where an object is due: whatever has an id is read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ...core import loose_json
from ...core.errors import redact
from ...core.job import Counts, Phase, Remote
from ...core.result import Outcome
from ..shared import envelopes, lenient
from ..shared.lenient import Count
from ..shared.moments import seconds
from ..shared.reasons import why
from .requests import named

#: The metadata key that carries our label.
LABEL = "llm_batch"
#: Output files live 30 days (batch guide).
RETENTION = 30 * 86400.0
_SHOWN_ERRORS = 5

_ENDED = {
    "completed", "complete", "succeeded", "success", "successful", "done", "finished", "ended",
    "partially_completed", "partially_succeeded", "archived", "deleted",
}  # fmt: skip
_EXPIRED = {"expired", "timeout", "timed_out", "timeout_exceeded"}
_CANCELLED = {"cancelled", "canceled", "aborted", "stopped", "terminated"}
_FAILED = {"failed", "failure", "error", "errored", "rejected", "invalid", "validation_failed"}
_ACTIVE = {
    "", "validating", "created", "pending", "queued", "in_queue", "scheduled", "submitted",
    "accepted", "not_started", "preparing", "starting", "started", "running", "in_progress",
    "processing", "executing", "finalizing", "completing", "cancelling", "canceling",
    "cancel_requested", "cancellation_requested", "paused",
}  # fmt: skip
_PREFIXES = ("batch_status_", "batch_state_", "job_status_", "job_state_", "status_", "state_")

#: What a file is called before it can be used.
_FILE_PENDING = {"pending", "uploading", "running", "processing", "queued", "notrunning"}
_FILE_BROKEN = {"error", "failed"}


class _RequestCounts(msgspec.Struct):
    total: Count | None = None
    completed: Count | None = None
    succeeded: Count | None = None
    failed: Count | None = None


class _BatchObject(msgspec.Struct):
    id: str
    status: str = ""
    state: str = ""
    endpoint: str | None = None  # null in some of Azure's answers
    model: str | None = None
    input_file_id: str | None = None
    errors: Any = None
    error: Any = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: Any = None
    expires_at: Any = None
    completed_at: Any = None
    failed_at: Any = None
    expired_at: Any = None
    cancelled_at: Any = None
    ended_at: Any = None
    request_counts: _RequestCounts | None = None
    metadata: Any = None


class File(NamedTuple):
    """An uploaded file, and whether a batch can be made of it: True, not yet (None), or never."""

    id: str
    usable: bool | None
    reason: str = ""


def read_remote(body: bytes) -> Remote:
    """Read a Batch object; `ValueError` when it is none."""
    return _remote(lenient.fit(envelopes.opened(body), _BatchObject))


def read_page(body: bytes) -> tuple[list[Remote], bool]:
    """Read one page of a listing, and whether there are more; `ValueError` when it is none."""
    page = loose_json.loads(body)
    found = [_remote(lenient.fit(each, _BatchObject)) for each in envelopes.items(page)]
    return found, envelopes.has_more(page)


def read_file(body: bytes) -> File:
    """Read a File object; `ValueError` when it is none."""
    found = envelopes.opened(body)
    status = found.get("status")
    word = status.lower() if isinstance(status, str) else ""
    usable = None if word in _FILE_PENDING else word not in _FILE_BROKEN
    return File(found["id"], usable, why(found.get("status_details"))[1] or word)


def _remote(batch: _BatchObject) -> Remote:
    ends = (batch.completed_at, batch.expired_at, batch.cancelled_at, batch.failed_at)
    ended = next(filter(None, map(seconds, (*ends, batch.ended_at))), None)
    created = seconds(batch.created_at)
    since = ended or created
    counts = batch.request_counts
    parts = {"output": batch.output_file_id, "errors": batch.error_file_id}
    state = batch.status or batch.state
    word = _word(batch, ended)
    errors = _rows(batch.errors) or (_rows(batch.error) if word == "failed" else [])
    return Remote(
        remote_id=batch.id,
        state=state,
        phase=_phase(batch, word, errors),
        counts=None if counts is None else _counts(counts),
        label=_label(batch.metadata),
        created_at=created,
        expires_at=seconds(batch.expires_at),
        parts={part: ref for part, ref in parts.items() if ref},
        error=_explain(errors),
        # While it runs nobody knows its end: its creation gives the earliest possible date.
        keep_until=since + RETENTION if since else None,
        rest=_rest(batch, word),
        endpoint=named(batch.endpoint or "") or "chat",
        ended_at=ended,
        model=batch.model,
        input=batch.input_file_id,
    )


def _word(batch: _BatchObject, ended: float | None) -> str:
    """Return OpenAI's word for a batch's state, whatever this server's is."""
    word = (batch.status or batch.state).strip().lower().replace("-", "_").replace(" ", "_")
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    for known, words in (
        ("completed", _ENDED),
        ("expired", _EXPIRED),
        ("cancelled", _CANCELLED),
        ("failed", _FAILED),
        ("in_progress", _ACTIVE),
    ):
        if word in words:
            return known
    # A word never seen before: what the batch has tells whether it is over.
    return "completed" if ended or batch.output_file_id or batch.error_file_id else "in_progress"


def _counts(counts: _RequestCounts) -> Counts:
    # Azure has null for what it does not know yet.
    done = counts.completed if counts.completed is not None else counts.succeeded
    return Counts(total=counts.total or 0, done=done or 0, failed=counts.failed or 0)


def _label(metadata: Any) -> str | None:
    if isinstance(metadata, str) and metadata.lstrip().startswith("{"):
        try:
            metadata = loose_json.loads(metadata)
        except ValueError:
            return None
    label = metadata.get(LABEL) if isinstance(metadata, dict) else None
    return label if isinstance(label, str) else None


def _phase(batch: _BatchObject, word: str, errors: list[Any]) -> Phase:
    if word in {"completed", "expired", "cancelled"}:
        return Phase.ENDED
    if word != "failed":
        return Phase.ACTIVE
    if batch.output_file_id:
        return Phase.ENDED  # whatever failed, these answers were paid for
    if any(why(row)[0] == "token_limit_exceeded" for row in errors):
        return Phase.LATER
    # The error file may say why, row by row; Azure's is always there and may be empty.
    return Phase.ENDED if batch.error_file_id else Phase.FAILED


def _rest(batch: _BatchObject, word: str) -> Outcome | None:
    # A batch that was refused as a whole has run no row, whatever its error file lists.
    if word == "failed" and not batch.output_file_id:
        return Outcome.FAILED
    # Rows that were not reached are listed in the error file; only without one (a batch cancelled
    # while it was validated has no files at all) does the state speak for them.
    if batch.error_file_id:
        return None
    return {"cancelled": Outcome.CANCELLED, "expired": Outcome.EXPIRED}.get(word)


def _rows(errors: Any) -> list[Any]:
    """Return the single errors of a batch, in whatever form they come."""
    if isinstance(errors, dict):
        held = errors.get("data", errors)
        errors = held if isinstance(held, list) else [held]
    if not isinstance(errors, list):
        errors = [errors]
    return [each for each in errors if any(why(each))]


def _explain(rows: list[Any]) -> str | None:
    if not rows:
        return None
    told = []
    for row in rows[:_SHOWN_ERRORS]:
        code, message = why(row)
        line = row.get("line") if isinstance(row, dict) else None
        told.append((f"line {line}: " if isinstance(line, int) else "") + (message or code or "?"))
    if len(rows) > _SHOWN_ERRORS:
        told.append(f"and {len(rows) - _SHOWN_ERRORS} more")
    return redact(" ".join("; ".join(told).split()))
