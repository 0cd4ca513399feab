"""Gemini's jobs, without I/O: JSON in, `Remote` out.

A job is a long-running operation: its state, counts and output stand in ``metadata``, the output
once more in ``response``. Counts are strings and left out when they are zero. It is read from the
response's bytes, since the SDK's job knows neither counts nor the reason of a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any

import msgspec

from ..models import Counts, Outcome, Phase, Remote
from .decoding import one_line

#: The reference of results that are in the job itself and not in a file.
INLINE = "inline"
#: Jobs that wait or run longer expire, without results.
_LIFETIME = 48 * 3600.0
_RESOURCE_EXHAUSTED = 8


class _Stats(msgspec.Struct, rename="camel"):
    request_count: int = 0
    successful_request_count: int = 0
    failed_request_count: int = 0


class _Items(msgspec.Struct, rename="camel"):
    inlined_responses: list[msgspec.Raw] | None = None


class _Output(msgspec.Struct, rename="camel"):
    responses_file: str | None = None
    inlined_responses: _Items | None = None
    inlined_embed_content_responses: _Items | None = None


class Status(msgspec.Struct):
    """A google.rpc.Status, or what an HTTP error holds."""

    code: int | None = None
    message: str | None = None
    status: str | None = None


class _Metadata(msgspec.Struct, rename="camel", frozen=True):
    type: str = msgspec.field(name="@type", default="")
    model: str | None = None
    state: str = "BATCH_STATE_UNSPECIFIED"
    display_name: str | None = None
    create_time: str | None = None
    batch_stats: _Stats | None = None
    output: _Output | None = None


class _Operation(msgspec.Struct):
    name: str
    metadata: _Metadata = _Metadata()
    done: bool = False
    error: Status | None = None
    response: _Output | None = None


class _Page(msgspec.Struct, rename="camel"):
    operations: list[_Operation] = []
    next_page_token: str = ""


_OPERATION = msgspec.json.Decoder(_Operation, strict=False)
_PAGE = msgspec.json.Decoder(_Page, strict=False)


def read_remote(body: bytes) -> Remote:
    """Read a job; `ValueError` when it is none."""
    return _remote(_OPERATION.decode(body))


def read_page(body: bytes) -> tuple[list[Remote], str]:
    """Read one page of a listing and the token of the next; `ValueError` when it is none."""
    page = _PAGE.decode(body)
    return [_remote(operation) for operation in page.operations], page.next_page_token


def _remote(operation: _Operation) -> Remote:
    metadata = operation.metadata
    state = metadata.state.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    counts = _counts(metadata.batch_stats)
    output = metadata.output or operation.response
    phase = _phase(state, operation.done, output, operation.error, counts)
    created = _moment(metadata.create_time)
    return Remote(
        remote_id=operation.name,
        state=metadata.state,
        phase=phase,
        counts=counts,
        label=metadata.display_name,
        created_at=created,
        expires_at=created + _LIFETIME if created else None,
        parts={"output": _where(output)} if phase is Phase.ENDED else {},
        error=explain(operation.error),
        # Uploads are kept for 48 hours, and uploaded again when they are gone. How long results
        # are kept, inline ones or files, Google does not say; six weeks are third-party reports.
        keep_until=None,
        rest={"CANCELLED": Outcome.CANCELLED, "EXPIRED": Outcome.EXPIRED}.get(state),
        endpoint="embeddings" if "Embed" in metadata.type else "chat",
        model=metadata.model and metadata.model.removeprefix("models/"),
    )


def _phase(
    state: str, done: bool, output: _Output | None, error: Status | None, counts: Counts | None
) -> Phase:
    if state in {"SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED"}:
        return Phase.ENDED
    if state != "FAILED" and not (done and error):
        # An operation that is done is over, whatever the state is called.
        return Phase.ENDED if done else Phase.ACTIVE
    if output is not None or (counts is not None and counts.done):
        return Phase.ENDED  # whatever failed, these answers were paid for
    return Phase.LATER if error and error.code == _RESOURCE_EXHAUSTED else Phase.FAILED


def _where(output: _Output | None) -> str:
    # Listings leave the answers of inline jobs out, so their absence says nothing: the job
    # itself is asked when they are fetched.
    return (output and output.responses_file) or INLINE


def _counts(stats: _Stats | None) -> Counts | None:
    if stats is None:
        return None
    return Counts(
        total=stats.request_count,
        done=stats.successful_request_count,
        failed=stats.failed_request_count,
    )


def explain(error: Status | None) -> str | None:
    """Return an error for people."""
    if error is None:
        return None
    return one_line(error.message or error.status or f"code {error.code}")


def inline_lines(body: bytes | bytearray) -> tuple[str | None, Iterator[bytes]]:
    """Return the result file a job names, or none, and its inline answers as lines.

    Each line is ``{"key", …}`` with what the answer holds beside its metadata.
    """
    operation = _OPERATION.decode(body)
    outputs = [each for each in (operation.metadata.output, operation.response) if each]
    file = next((each.responses_file for each in outputs if each.responses_file), None)
    held = (
        items.inlined_responses
        for each in outputs
        for items in (each.inlined_responses, each.inlined_embed_content_responses)
        if items is not None and items.inlined_responses
    )
    return file, map(_line, count(), next(held, []))


def _line(position: int, item: msgspec.Raw) -> bytes:
    # Google's answers are indented, and a line must be one.
    flat = msgspec.json.format(bytes(item), indent=-1)
    try:
        read = msgspec.json.decode(flat, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(read.get("metadata", b"{}"), type=dict[str, Any])
    except msgspec.DecodeError:
        return flat + b"\n"  # a shape never seen before is kept as it is
    # Jobs of other tools have their own name for it, or none: the order is that of the requests.
    key = metadata.get("key", metadata.get("custom_id", str(position)))
    if metadata.keys() <= {"key"}:
        read.pop("metadata", None)
    return msgspec.json.encode({"key": key} | read) + b"\n"


def _moment(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
