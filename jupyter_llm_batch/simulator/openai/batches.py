"""OpenAI's batch files: validation of the input, lines of output and error file."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

import msgspec

from ..world import answers
from ..world.dialect import Result, Row
from ..world.engine import Engine
from ..world.fates import Fate
from ..world.files import Files, StoredFile, base62
from ..world.ledger import Entry, body_sha
from ..world.life import Batch
from .bodies import MODELS, error_for
from .errors import ApiError
from .plain import ASK, Bodies

DAY = 86_400.0
MONTH = 30 * DAY

_MAX_ROWS = 50_000
#: Problems that a failed batch lists at most.
_MAX_PROBLEMS = 100

_MESSAGES = {
    "invalid_json_line": "This line is not parseable as valid JSON.",
    "duplicate_custom_id": (
        "The custom_id for this request is a duplicate of another request. The custom_id "
        "parameter must be unique for each request in a batch."
    ),
    "url_mismatch": "The URL provided for this request does not match the batch endpoint.",
    "model_mismatch": "The model provided for this request does not match the rest of the batch.",
    "empty_file": "The batch input file is empty.",
    "too_many_tasks": "The batch input file contains too many requests. The maximum is {limit:,}.",
    "token_limit_exceeded": (
        "Enqueued token limit reached for {model} in organization org-simulated. Limit: {limit:,} "
        "enqueued tokens. Please try again once some in_progress batches have been completed."
    ),
}

_UNREACHED = {
    Fate.EXPIRE: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    Fate.CANCEL: (
        "batch_cancelled",
        "This request was not executed because the batch was cancelled.",
    ),
    Fate.TIMEOUT: ("request_timeout", "This request timed out."),
}


class Line(msgspec.Struct):
    """One line of an input file."""

    custom_id: str
    url: str
    body: Any = None
    method: str = "POST"


_decode = msgspec.json.Decoder(Line).decode


def problem(code: str, line: int | None = None, **values: object) -> dict[str, object]:
    """Return one entry of a failed batch's errors."""
    message = _MESSAGES.get(code, "Simulated: the batch failed.").format(**values)
    return {"code": code, "message": message, "param": None, "line": line}


class Validator:
    """Finds what makes a batch fail as a whole."""

    def __init__(self, engine: Engine, batch: Batch) -> None:
        self._engine = engine
        self._batch = batch
        self._endpoint: str = batch.spec["endpoint"]
        self._ids: set[str] = set()
        self._inputs = 0
        self._asked_model: str | None = None
        self.model: str | None = None
        self.problems: list[dict[str, object]] = []

    def take(self, number: int, line: bytes) -> Row | None:
        """Read one request."""
        try:
            read = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._found("invalid_json_line", number)
            return None
        if read.custom_id in self._ids:
            self._found("duplicate_custom_id", number)
        self._ids.add(read.custom_id)
        if read.url != self._endpoint:
            self._found("url_mismatch", number)
            return None
        model = read.body.get("model") if isinstance(read.body, dict) else None
        if self._asked_model is None:
            self._asked_model = model
            self.model = MODELS.get(model, model) if model else None
        elif model != self._asked_model:
            self._found("model_mismatch", number)
        try:
            asked = ASK[self._endpoint](read.body)
        except ApiError:
            return Row("", 0, valid=False)
        self._inputs += len(asked.inputs)
        return Row(asked.prompt, asked.tokens)

    def close(self, tokens: int) -> None:
        """Check the limits."""
        behaviour = self._engine.behaviour
        rows = behaviour.max_rows or _MAX_ROWS
        if not self._ids and not self.problems:
            self._found("empty_file")
        if len(self._ids) > rows:
            self._found("too_many_tasks", limit=rows)
        elif self._inputs > behaviour.max_inputs:
            self._found("too_many_tasks", limit=behaviour.max_inputs)
        limit = behaviour.enqueued_token_limit
        if limit is not None and not self.problems:
            queued = self._engine.enqueued_tokens(self._batch, self.model)
            if queued + tokens > limit:
                self._found("token_limit_exceeded", model=self._asked_model, limit=limit)

    def _found(self, code: str, line: int | None = None, **values: object) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem(code, line, **values))


class OpenAIDialect:
    """What the engine asks about OpenAI."""

    name = "openai"
    keeps_order = False
    lifetime = DAY
    retention = MONTH

    def __init__(self, engine: Engine, files: Files, bodies: Bodies) -> None:
        self._engine = engine
        self._files = files
        self._bodies = bodies

    def validator(self, batch: Batch) -> Validator:
        """Return a new validator."""
        return Validator(self._engine, batch)

    def problem(self, code: str) -> dict[str, object]:
        """Return the error of a batch that was told to fail."""
        return problem(code, limit=2_000_000, model="this model")

    def result(self, batch: Batch, index: int, line: bytes, fate: Fate) -> Result:
        """Return the output or error line of one request."""
        read = _decode(line)
        seed = hashlib.sha256(f"{batch.id}:{index}".encode()).digest()
        if fate in _UNREACHED:
            code, message = _UNREACHED[fate]
            error = {"code": code, "message": message}
            return Result("error", _line(batch, seed, read.custom_id, None, error))
        endpoint = batch.spec["endpoint"]
        try:
            asked = ASK[endpoint](read.body)
            if not fate.billed:
                raise error_for(fate, asked.model)
        except ApiError as refused:
            response = _response(seed, refused.status, refused.body)
            return Result("error", _line(batch, seed, read.custom_id, response, None))
        at = batch.created_at + batch.seconds / 2
        answered = self._bodies.answer(endpoint, asked, fate, seed, at)
        entry = Entry(
            provider=self.name,
            endpoint=endpoint,
            model=asked.model,
            custom_id=read.custom_id,
            batch_id=batch.id,
            prompt_mark=answers.mark(asked.prompt),
            body_sha=body_sha(read.body),
            input_tokens=answered.usage.input_tokens,
            cached_tokens=answered.usage.cached_tokens,
            output_tokens=answered.usage.output_tokens,
            mode="batch",
            at=at,
        )
        response = _response(seed, 200, answered.body)
        if fate is Fate.ODD:  # unrecorded, as its name says
            odd = {"code": "never_seen_before", "message": "Simulated: an error nobody knows."}
            return Result("error", _line(batch, seed, read.custom_id, None, odd), entry)
        return Result("output", _line(batch, seed, read.custom_id, response, None), entry)

    def stranger(self, batch: Batch, index: int) -> Result:
        """Return an output line with an id that nobody sent."""
        seed = hashlib.sha256(f"{batch.id}:stranger:{index}".encode()).digest()
        response = _response(seed, 200, {"object": "simulated.stranger"})
        return Result("output", _line(batch, seed, f"stranger-{index}", response, None))

    def deliver(self, batch: Batch, kind: str, content: Path) -> str:
        """Turn a result file into one that can be downloaded."""
        now = self._engine.clock.now()
        after = batch.spec.get("output_expires_after")
        record = StoredFile(
            id=f"file-{base62(22)}",
            provider=self.name,
            account=batch.account,
            filename=f"{batch.id}_{kind}.jsonl",
            purpose="batch_output",
            bytes=content.stat().st_size,
            created_at=now,
            expires_at=now + (after["seconds"] if after else MONTH),
        )
        self._files.add(record, content)
        return record.id


def new_batch_id(now: float) -> str:
    """Return an id such as OpenAI makes them, the time first."""
    return f"batch_{int(now):08x}{secrets.token_hex(12)}"


def _response(seed: bytes, status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": seed.hex()[32:], "body": body}


def _line(batch: Batch, seed: bytes, custom_id: str, response: Any, error: Any) -> bytes:
    record = {
        "id": f"batch_req_{int(batch.created_at):08x}{seed.hex()[:24]}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    # The real files have blanks after colons and commas.
    return msgspec.json.format(msgspec.json.encode(record), indent=0) + b"\n"
