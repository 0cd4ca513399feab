"""Gemini's jobs, without I/O: JSON in, `Remote` out.

A job is a long-running operation: its state, counts and output stand in ``metadata``, the output
once more in ``response``. Counts are strings and left out when they are zero. It is read from the
response's bytes, since the SDK's job knows neither counts nor the reason of a failure; the jobs of
a listing one by one, so that none holds up the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec

from ...core import loose_json
from ...core.job import Counts, Phase, Remote
from ...core.result import Outcome
from ..shared import lenient
from ..shared.decoding import one_line
from ..shared.lenient import Count
from ..shared.moments import seconds
from ..shared.reasons import plain

#: The reference of results that are in the job itself and not in a file.
INLINE = "inline"
#: Jobs that wait or run longer expire, without results.
_LIFETIME = 48 * 3600.0
_RESOURCE_EXHAUSTED = 8


class _Stats(msgspec.Struct, rename="camel"):
    request_count: Count = 0
    successful_request_count: Count = 0
    failed_request_count: Count = 0


class _Items(msgspec.Struct, rename="camel"):
    inlined_responses: Any = None


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
    state: str = ""
    display_name: str | None = None
    create_time: Any = None
    end_time: Any = None
    batch_stats: _Stats | None = None
    output: _Output | None = None


class _Operation(msgspec.Struct):
    name: str
    metadata: _Metadata = _Metadata()
    #: Where Vertex has it.
    state: str = ""
    done: bool = False
    error: Status | None = None
    response: _Output | None = None


# The same once more for inline answers, which are taken over as they are and not read.


class _RawItems(msgspec.Struct, rename="camel"):
    inlined_responses: list[msgspec.Raw] | None = None


class _RawOutput(msgspec.Struct, rename="camel"):
    responses_file: str | None = None
    inlined_responses: _RawItems | None = None
    inlined_embed_content_responses: _RawItems | None = None


class _RawMetadata(msgspec.Struct, rename="camel"):
    output: _RawOutput | None = None


class _RawOperation(msgspec.Struct):
    metadata: _RawMetadata = msgspec.field(default_factory=_RawMetadata)
    response: _RawOutput | None = None


_RAW = msgspec.json.Decoder(_RawOperation)

#: States of a job that is not over yet, without their prefix.
_UNDER_WAY = {
    "", "UNSPECIFIED", "QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING",
}  # fmt: skip


def read_remote(body: bytes) -> Remote:
    """Read a job; `ValueError` when it is none."""
    return _remote(lenient.decode(body, _Operation))


def read_page(body: bytes) -> tuple[list[Remote], str]:
    """Read one page of a listing and the token of the next; `ValueError` when it is none."""
    page = loose_json.loads(body)
    if not isinstance(page, dict):
        raise ValueError("this is no page of a listing")  # noqa: TRY004 - of another server
    held = page.get("operations", [])
    found = []
    for each in held if isinstance(held, list) else ():
        try:
            found.append(_remote(lenient.fit(each, _Operation)))
        except ValueError:
            continue  # without a name it is nobody's
    token = page.get("nextPageToken")
    return found, token if isinstance(token, str) else ""


def _remote(operation: _Operation) -> Remote:
    metadata = operation.metadata
    said = metadata.state or operation.state or "BATCH_STATE_UNSPECIFIED"
    state = said.upper().removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    counts = _counts(metadata.batch_stats)
    output = metadata.output or operation.response
    # A word never seen before: what the job has tells whether it is over.
    unknown = state not in _UNDER_WAY and state != "FAILED"
    over = operation.done or (unknown and bool(output or seconds(metadata.end_time)))
    phase = _phase(state, over, output, operation.error, counts)
    created = seconds(metadata.create_time)
    return Remote(
        remote_id=operation.name,
        state=said,
        phase=phase,
        counts=counts,
        label=metadata.display_name,
        created_at=created,
        expires_at=created + _LIFETIME if created else None,
        ended_at=seconds(metadata.end_time),
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
    return plain(error.message or "") or one_line(error.status or f"code {error.code}")


def inline_lines(body: bytes | bytearray) -> tuple[str | None, Iterator[bytes]]:
    """Return the result file a job names, or none, and its inline answers as lines.

    Each line is ``{"key", …}`` with what the answer holds beside its metadata.
    """
    operation: Any
    try:
        operation = _RAW.decode(body)
    except (ValueError, RecursionError):
        operation = lenient.decode(body, _Operation)
    outputs = [each for each in (operation.metadata.output, operation.response) if each]
    file = next((each.responses_file for each in outputs if each.responses_file), None)
    held = (
        items.inlined_responses
        for each in outputs
        for items in (each.inlined_responses, each.inlined_embed_content_responses)
        if items is not None and items.inlined_responses
    )
    found: Any = next(held, [])
    return file, map(_line, count(), found if isinstance(found, list) else [found])


def _line(position: int, item: Any) -> bytes:
    if not isinstance(item, msgspec.Raw):
        item = loose_json.dumps(item)
    try:
        # Google's answers are indented, and a line must be one.
        flat = msgspec.json.format(bytes(item), indent=-1)
        read: dict[str, Any] = msgspec.json.decode(flat, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(read.get("metadata", b"{}"))
    except (ValueError, TypeError, RecursionError):
        return _odd_line(position, bytes(item))
    named = metadata if isinstance(metadata, dict) else {}
    if named.keys() <= {"key"}:
        read.pop("metadata", None)
    return msgspec.json.encode({"key": _key(named, position)} | read) + b"\n"


def _odd_line(position: int, item: bytes) -> bytes:
    """Return an item with something in it that only the loose decoder reads, as a line."""
    read = loose_json.loads(item)
    if not isinstance(read, dict):
        return loose_json.dumps(read) + b"\n"  # a shape never seen before is kept as it is
    metadata = read.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return loose_json.dumps({"key": _key(named, position)} | read) + b"\n"


def _key(metadata: dict[str, Any], position: int) -> Any:
    # Jobs of other tools have their own name for it, or none: the order is that of the requests.
    return metadata.get("key", metadata.get("custom_id", str(position)))
