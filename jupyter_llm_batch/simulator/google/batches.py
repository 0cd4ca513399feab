"""Gemini's batch jobs: validation of the requests, lines of results, the job on the wire."""

from __future__ import annotations

import hashlib
import secrets
import string
from pathlib import Path
from typing import Any

import msgspec

from ..world import answers, life
from ..world.dialect import Result, Row
from ..world.engine import Engine
from ..world.fates import Fate
from ..world.files import Files, StoredFile, private_open
from ..world.ledger import Entry, body_sha
from ..world.life import Batch, Phase
from .bodies import Bodies
from .caches import Caches
from .checks import CODES, ApiError, UnknownField
from .times import timestamp

NAME = "google"
DAY = 86_400.0
#: Purposes of stored files that are no uploads.
OUTPUT, INLINE_OUTPUT = "batch_output", "inline_output"

_BASE36 = string.ascii_lowercase + string.digits
_TYPES = "type.googleapis.com/google.ai.generativelanguage.v1main."

#: Errors of rows; the codes but 1, which is documented, are unrecorded.
_FAILURES = {
    Fate.FAIL_400: (3, "Request contains an invalid argument."),
    Fate.FAIL_429: (8, "Resource has been exhausted (e.g. check quota)."),
    Fate.FAIL_500: (13, "An internal error has occurred."),
    Fate.TIMEOUT: (4, "Deadline expired before operation could complete."),
    Fate.EXPIRE: (1, "The operation was cancelled."),
}


class Line(msgspec.Struct):
    """One request: a line of a file, or an item of an inline job."""

    request: Any = None
    key: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def custom_id(self) -> str | None:
        """What binds the answer to the request."""
        found = self.key or (self.metadata or {}).get("key")
        return found if isinstance(found, str) else None


_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.encode


def new_name() -> str:
    """Return the id of a batch: with "batch-" before it, it is too long for the File API."""
    return "".join(secrets.choice(_BASE36) for _ in range(36))


def problem(code: int, message: str) -> dict[str, object]:
    """Return the error of a failed job."""
    return {"code": code, "message": message}


class Validator:
    """Finds what makes a job fail as a whole; how such errors look is unrecorded."""

    def __init__(self, engine: Engine, batch: Batch, caches: Caches) -> None:
        self._engine = engine
        self._batch = batch
        self._caches = caches
        self._rows = 0
        self.model: str | None = batch.spec["model"]
        self.problems: list[dict[str, object]] = []

    def take(self, number: int, line: bytes) -> Row | None:
        """Read one request."""
        self._rows += 1
        try:
            read = _decode(line)
            asked = self._caches.ask(
                self._batch.account, self._batch.spec["method"], self.model or "", read.request
            )
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._found(f"Failed to parse line {number} of the input file as JSON.")
            return None
        except UnknownField as error:
            self._found(f"Failed to parse line {number} of the input file: {error.message}")
            return None
        except ApiError:
            return Row("", 0, valid=False)
        return Row(asked.prompt, asked.tokens)

    def close(self, tokens: int) -> None:
        """Check the limits."""
        behaviour = self._engine.behaviour
        if not self._rows:
            self._found("The input file holds no requests.")
        if behaviour.max_rows is not None and self._rows > behaviour.max_rows:
            self._found(f"The job holds more than {behaviour.max_rows:,} requests.")
        limit = behaviour.enqueued_token_limit
        if limit is not None and not self.problems:
            queued = self._engine.enqueued_tokens(self._batch, self.model)
            if queued + tokens > limit:
                self._found(f"More than {limit:,} tokens are enqueued for this model.", 8)

    def _found(self, message: str, code: int = 3) -> None:
        if not self.problems:
            self.problems.append(problem(code, message))


class GoogleDialect:
    """What the engine asks about Gemini."""

    name = NAME
    keeps_order = True
    lifetime = 2 * DAY
    #: Six weeks, by third-party reports.
    retention = 42 * DAY

    def __init__(self, engine: Engine, files: Files, bodies: Bodies, caches: Caches) -> None:
        self._engine = engine
        self._files = files
        self._caches = caches
        self._bodies = bodies

    def validator(self, batch: Batch) -> Validator:
        """Return a new validator."""
        return Validator(self._engine, batch, self._caches)

    def problem(self, code: str) -> dict[str, object]:
        """Return the error of a job that was told to fail with a status such as INTERNAL."""
        return problem(CODES.get(code, 13), f"Simulated: the job failed ({code}).")

    def result(self, batch: Batch, index: int, line: bytes, fate: Fate) -> Result:
        """Return the answer to one request, or its error."""
        expired = life.due(batch, self._engine.clock.now()) is Phase.EXPIRED
        if expired or fate is Fate.CANCEL:
            # A job that expires has no results. What a cancelled one says of rows that it did not
            # reach is unrecorded: here it says nothing.
            return Result("nothing", b"")
        read = _decode(line)
        if fate in _FAILURES:
            code, message = _FAILURES[fate]
            return Result("output", _line(read, index, {"error": problem(code, message)}))
        method, model = batch.spec["method"], batch.spec["model"]
        try:
            asked = self._caches.ask(batch.account, method, model, read.request)
        except ApiError as error:
            told = problem(error.code, error.message)
            return Result("output", _line(read, index, {"error": told}))
        seed = hashlib.sha256(f"{batch.id}:{index}".encode()).digest()
        answered = self._bodies.answer(asked, fate, seed)
        entry = Entry(
            provider=NAME,
            endpoint=method,
            model=model,
            custom_id=read.custom_id,
            batch_id=batch.id,
            prompt_mark=answers.mark(asked.prompt),
            body_sha=body_sha(read.request),
            input_tokens=answered.usage.input_tokens,
            cached_tokens=answered.usage.cached_tokens,
            output_tokens=answered.usage.output_tokens,
            mode="batch",
            at=batch.created_at + batch.seconds / 2,
        )
        if fate is Fate.ODD:  # unrecorded, as its name says
            return Result("output", _line(read, index, {"neverSeenBefore": answered.body}), entry)
        return Result("output", _line(read, index, {"response": answered.body}), entry)

    def stranger(self, batch: Batch, index: int) -> Result:
        """Return a line with a key that nobody sent."""
        key = f"stranger-{index}"
        line = Line(metadata={"key": key}) if batch.spec["inline"] else Line(key=key)
        return Result("output", _line(line, index, {"response": {"candidates": []}}))

    def deliver(self, batch: Batch, kind: str, content: Path) -> str:
        """Turn the result lines into a file to download, or into the output of an inline job."""
        if kind != "output":
            content.unlink()
            return ""
        inline = batch.spec["inline"]
        if inline:
            content = self._joined(batch, content)
        record = StoredFile(
            id=f"{'inline' if inline else 'batch'}-{batch.id}",
            provider=NAME,
            account=batch.account,
            filename="",
            purpose=INLINE_OUTPUT if inline else OUTPUT,
            bytes=content.stat().st_size,
            created_at=self._engine.clock.now(),
            expires_at=None,
        )
        self._files.add(record, content)
        return record.id

    def _joined(self, batch: Batch, content: Path) -> Path:
        embeds = batch.spec["method"] == "embedContent"
        field = "inlinedEmbedContentResponses" if embeds else "inlinedResponses"
        target = self._files.scratch()
        with content.open("rb") as lines, private_open(target, "wb") as file:
            file.write(f'{{"{field}":{{"inlinedResponses":['.encode())
            for number, line in enumerate(lines):
                file.write((b"," if number else b"") + _whole(line))
            file.write(b"]}}")
        content.unlink()
        return target

    def job(self, batch: Batch, *, new: bool = False, listed: bool = False) -> dict[str, Any]:
        """Return the job on the wire; a new one shows as such even if it is due to be over."""
        phase = Phase.VALIDATING if new else self._engine.phase(batch)
        metadata: dict[str, Any] = {
            "@type": _TYPES + batch.spec["type"],
            "model": f"models/{batch.spec['model']}",
            "displayName": batch.spec["displayName"],
            "createTime": timestamp(batch.created_at),
            "updateTime": timestamp(batch.ended_at or batch.created_at),
            "batchStats": self._stats(batch, phase),
            "state": self._state(batch, phase),
            "name": f"batches/{batch.id}",
        }
        job: dict[str, Any] = {"name": f"batches/{batch.id}", "metadata": metadata}
        if phase not in life.OVER:
            return job
        metadata["endTime"] = timestamp(batch.ended_at or batch.created_at)
        job["done"] = True
        if batch.problems:
            job["error"] = batch.problems[0]
        elif (output := self._output(batch, listed=listed)) is not None:
            # Both places, as recorded.
            metadata["output"] = output
            kind = {"@type": f"{_TYPES}{batch.spec['type']}Output"}
            job["response"] = kind | output
        return job

    def _output(self, batch: Batch, *, listed: bool) -> dict[str, Any] | None:
        name = batch.results.get("output")
        if not name or (listed and batch.spec["inline"]):
            return None
        if not batch.spec["inline"]:
            return {"responsesFile": f"files/{name}"}
        return msgspec.json.decode(self._files.path(name).read_bytes(), type=dict[str, msgspec.Raw])

    def _state(self, batch: Batch, phase: Phase) -> str:
        unknown = self._engine.behaviour.unknown_state
        if unknown and phase not in life.OVER:
            return f"BATCH_STATE_{unknown.upper()}"
        if phase is Phase.COMPLETED:
            partial = self._engine.behaviour.partial_state and batch.failed
            return "BATCH_STATE_PARTIALLY_SUCCEEDED" if partial else "BATCH_STATE_SUCCEEDED"
        if phase is Phase.VALIDATING:
            return "BATCH_STATE_PENDING"
        return f"BATCH_STATE_{phase.upper()}" if phase in life.OVER else "BATCH_STATE_RUNNING"

    def _stats(self, batch: Batch, phase: Phase) -> dict[str, str]:
        """Return the counts: strings, and none that is zero."""
        total = batch.total or batch.spec["rows"]
        # No results, so none are counted; what the real job counts then is unrecorded.
        none = phase is Phase.EXPIRED or phase is Phase.VALIDATING
        completed, failed = (0, 0) if none else self._engine.counts(batch)
        counts = {
            "requestCount": total,
            "pendingRequestCount": total - completed - failed,
            "successfulRequestCount": completed,
            "failedRequestCount": failed,
        }
        return {name: str(count) for name, count in counts.items() if count}


def _line(read: Line, index: int, answer: dict[str, Any]) -> bytes:
    if read.key is None:
        return _encode({"metadata": read.metadata or {}} | answer) + b"\n"
    # The order of the names varies from line to line.
    key = {"key": read.key}
    return _encode(answer | key if index % 2 else key | answer) + b"\n"


def _whole(line: bytes) -> bytes:
    """Return an inline answer; one that was cut keeps nothing but its metadata."""
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        found = line.find(b"}")
        return line[: found + 1] + b"}" if found > 0 else b"{}"
    return line.rstrip(b"\n")
