"""Anthropic's batches: reading of the requests, lines of the results.

The lines of answers are as recorded. No recording shows rows that errored, expired or were
canceled: those lines follow the SDK's types.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from ..world import answers
from ..world.dialect import Result, Row
from ..world.engine import Engine
from ..world.fates import Fate
from ..world.files import Files, StoredFile
from ..world.ledger import Entry, body_sha
from ..world.life import Batch
from .bodies import ApiError, Bodies, ask, error_for, identifier

NAME = "anthropic"
ENDPOINT = "/v1/messages"
RESULTS = "results"
DAY = 86_400.0
#: Results can be had for 29 days from the creation; the batch itself stays.
RETENTION = 29 * DAY

_UNREACHED = {Fate.EXPIRE: "expired", Fate.CANCEL: "canceled"}
COUNTS = ("succeeded", "errored", "canceled", "expired")


class Line(msgspec.Struct):
    """One request of a batch."""

    custom_id: str
    params: Any = None


_decode = msgspec.json.Decoder(Line).decode


class Validator:
    """Reads the requests; what is wrong with one shows in its result alone."""

    def __init__(self, batch: Batch) -> None:
        self._version: str = batch.spec["version"]
        self.model: str | None = None
        self.problems: list[dict[str, object]] = []

    def take(self, number: int, line: bytes) -> Row:  # noqa: ARG002
        """Read one request."""
        try:
            asked = ask(_decode(line).params, self._version)
        except ApiError:
            return Row("", 0, valid=False)
        return Row(asked.prompt, asked.tokens)

    def close(self, tokens: int) -> None:
        """Find nothing: the limits were checked when the batch was created."""


class AnthropicDialect:
    """What the engine asks about Anthropic."""

    name = NAME
    keeps_order = False
    lifetime = DAY
    retention = float("inf")

    def __init__(self, engine: Engine, files: Files, bodies: Bodies) -> None:
        self._engine = engine
        self._files = files
        self._bodies = bodies

    def validator(self, batch: Batch) -> Validator:
        """Return a new validator."""
        return Validator(batch)

    def problem(self, code: str) -> dict[str, object]:
        """Return the error of a batch that was told to fail, which none can."""
        return {"code": code}

    def result(self, batch: Batch, index: int, line: bytes, fate: Fate) -> Result:
        """Return the result of one request, and count it."""
        read = _decode(line)
        seed = hashlib.sha256(f"{batch.id}:{index}".encode()).digest()
        entry = None
        if fate in _UNREACHED:
            outcome: dict[str, Any] = {"type": _UNREACHED[fate]}
        else:
            try:
                outcome, entry = self._executed(batch, read, seed, fate)
            except ApiError as refused:
                error = {**refused.error, "request_id": f"req_{identifier(seed)}"}
                outcome = {"type": "errored", "error": error}
        counts = batch.spec.setdefault("counts", dict.fromkeys(COUNTS, 0))
        counts[outcome["type"] if outcome["type"] in counts else "succeeded"] += 1
        return Result(RESULTS, _line(read.custom_id, outcome), entry)

    def _executed(
        self, batch: Batch, read: Line, seed: bytes, fate: Fate
    ) -> tuple[dict[str, Any], Entry]:
        asked = ask(read.params, batch.spec["version"])
        if not fate.billed:
            raise error_for(fate)
        answered = self._bodies.answer(asked, fate, seed, batch.id)
        entry = Entry(
            provider=NAME,
            endpoint=ENDPOINT,
            model=asked.model,
            custom_id=read.custom_id,
            batch_id=batch.id,
            prompt_mark=answers.mark(asked.prompt),
            body_sha=body_sha(read.params),
            input_tokens=answered.usage.input_tokens,
            cached_tokens=answered.usage.cached_tokens,
            output_tokens=answered.usage.output_tokens,
            mode="batch",
            at=batch.created_at + batch.seconds / 2,
            cache_write_tokens=answered.usage.cache_write_tokens,
        )
        if fate is Fate.ODD:  # unrecorded, as its name says; it counts as succeeded
            return {"type": "never_seen_before", "message": answered.body}, entry
        return {"type": "succeeded", "message": answered.body}, entry

    def stranger(self, batch: Batch, index: int) -> Result:  # noqa: ARG002
        """Return a result line with an id that nobody sent."""
        return Result(RESULTS, _line(f"stranger-{index}", {"type": "canceled"}))

    def deliver(self, batch: Batch, kind: str, content: Path) -> str:
        """Turn the results into a file that can be downloaded."""
        record = StoredFile(
            id=f"{batch.id}_{kind}",
            provider=NAME,
            account=batch.account,
            filename=f"{batch.id}_{kind}.jsonl",
            purpose=RESULTS,
            bytes=content.stat().st_size,
            created_at=self._engine.clock.now(),
            expires_at=batch.created_at + RETENTION,
        )
        self._files.add(record, content)
        return record.id


def _line(custom_id: str, outcome: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"custom_id": custom_id, "result": outcome}) + b"\n"
