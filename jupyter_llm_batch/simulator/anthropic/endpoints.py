"""Anthropic's endpoints: message batches, models, messages and their token count."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from ..server import streams
from ..server.wire import Call, Refused, Reply, Route
from ..world import answers, life
from ..world.behaviour import parse_outcome
from ..world.engine import Engine
from ..world.fates import SHAPES, Fate
from ..world.files import Files
from ..world.ledger import Entry, body_sha
from ..world.life import Batch, Phase
from .batches import COUNTS, ENDPOINT, NAME, RESULTS, RETENTION, AnthropicDialect
from .bodies import MODELS, ApiError, Bodies, ask, error_for, identifier
from .checks import json_body, let_in, page_of, refused, spool_requests

_REALTIME_FATES = frozenset(
    {Fate.REFUSE, Fate.LENGTH, Fate.FILTER, Fate.FAIL_400, Fate.FAIL_429, Fate.FAIL_500, *SHAPES}
)


class Anthropic:
    """Everything below ``/anthropic``."""

    prefix = "/anthropic"

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._files = files
        self._bodies = Bodies()
        engine.register(AnthropicDialect(engine, files, self._bodies))
        batches, batch = "/v1/messages/batches", "/v1/messages/batches/(?P<id>[^/]+)"
        self.routes = [
            Route("POST", re.compile(batches), self._create, spool=True),
            Route("GET", re.compile(batches), self._list),
            Route("GET", re.compile(batch), self._retrieve),
            Route("DELETE", re.compile(batch), self._delete),
            Route("POST", re.compile(f"{batch}/cancel"), self._cancel),
            Route("GET", re.compile(f"{batch}/results"), self._results),
            Route("POST", re.compile(ENDPOINT), self._message),
            Route("POST", re.compile(f"{ENDPOINT}/count_tokens"), self._count_tokens),
            Route("GET", re.compile("/v1/models"), self._models),
            Route("GET", re.compile("/v1/models/(?P<id>.+)"), self._model),
        ]

    def authenticate(self, headers: Mapping[str, str]) -> str:
        """Return the account of the key, in either of its headers."""
        return let_in(headers)

    def no_route(self, method: str, path: str) -> Reply:  # noqa: ARG002
        """Return Anthropic's 404 for an address."""
        return refused("Not found", 404, "not_found_error").reply

    def too_large(self) -> Reply:
        """Return the reply for a body over the limit."""
        return refused("Request exceeds the maximum size", 413, "request_too_large").reply

    def headers(self, _seconds: float) -> dict[str, str]:
        """Return what Anthropic sends with each reply."""
        return {
            "request-id": f"req_{identifier(secrets.token_bytes(32))}",
            "Date": formatdate(self._engine.clock.now(), usegmt=True),
        }

    # Batches

    async def _create(self, call: Call) -> Reply:
        assert call.form is not None
        assert call.form.file is not None
        behaviour = self._engine.behaviour
        if parse_outcome(behaviour.next_outcome)[0] == "failed":
            # A batch cannot fail as a whole once it is there.
            code, behaviour.next_outcome = behaviour.next_outcome, ""
            raise refused(f"Simulated: {code}")
        batch_id = f"msgbatch_{identifier(secrets.token_bytes(32))}"
        rows = spool_requests(call.form.file, self._engine.input_path(batch_id), behaviour.max_rows)
        host = call.headers.get("Host", "127.0.0.1")
        spec = {
            "rows": rows,
            "version": call.headers["anthropic-version"],
            "origin": f"http://{host}{self.prefix}",
        }
        batch = self._engine.create(NAME, call.account, batch_id, spec)
        return Reply(self._object(batch, new=True))

    async def _list(self, call: Call) -> Reply:
        batches = self._engine.listing(NAME, call.account)
        await self._engine.settle(batches)
        return page_of([self._object(batch) for batch in batches], call.query)

    async def _retrieve(self, call: Call) -> Reply:
        batch = await self._get(call)
        headers = {}
        most = self._engine.behaviour.anthropic_retry_after
        if most and self._engine.phase(batch) not in life.OVER:
            # Recorded as 10 always; a batch that lives a second would be waited for in vain.
            headers["retry-after"] = str(min(most, max(1, math.ceil(batch.seconds))))
        return Reply(self._object(batch), headers=headers)

    async def _cancel(self, call: Call) -> Reply:
        batch = await self._get(call)
        phase = self._engine.phase(batch)
        if phase in life.OVER:
            # unrecorded: what the cancel of an ended batch says
            raise refused(f"Batch {batch.id} cannot be canceled because it has ended.")
        if phase is not Phase.CANCELLING:
            await self._engine.read(batch)
            await self._engine.cancel(batch)
        return Reply(self._object(batch))

    async def _delete(self, call: Call) -> Reply:
        batch = await self._get(call)
        if self._engine.phase(batch) not in life.OVER:
            # unrecorded: what the deletion of an unfinished batch says
            raise refused(f"Batch {batch.id} cannot be deleted while it is in progress.")
        file_id = batch.results.get(RESULTS)
        if file_id is not None:
            self._files.delete(file_id)
        self._engine.delete(batch)
        return Reply({"id": batch.id, "type": "message_batch_deleted"})

    async def _results(self, call: Call) -> Reply:
        batch = await self._get(call)
        now = self._engine.clock.now()
        if self._engine.phase(batch) not in life.OVER or self._archived(batch):
            # unrecorded: what the results of an unfinished or an archived batch say
            raise refused(f"No results for batch {batch.id}.", 404, "not_found_error")
        file = self._files.get(NAME, call.account, batch.results.get(RESULTS, ""), now)
        name = f"{batch.id}_results.jsonl"
        headers = {
            "Content-Type": "application/x-jsonl",
            "Content-Disposition": f"attachment; filename*=utf-8''{name}",
        }
        return Reply(b"" if file is None else self._files.path(file.id), headers=headers)

    async def _get(self, call: Call) -> Batch:
        batch = self._engine.get(NAME, call.account, call.names["id"])
        if batch is None:
            raise refused(f"Batch {call.names['id']} not found.", 404, "not_found_error")
        await self._engine.settle([batch])
        return batch

    def _archived(self, batch: Batch) -> bool:
        return self._engine.clock.now() >= batch.created_at + RETENTION

    def _object(self, batch: Batch, *, new: bool = False) -> dict[str, Any]:
        """Return the batch on the wire; a new one shows as such even if it is due to be over."""
        phase = Phase.RUNNING if new else self._engine.phase(batch)
        over = phase in life.OVER
        state = "ended" if over else "canceling" if phase is Phase.CANCELLING else "in_progress"
        archived = self._archived(batch)
        counts = dict.fromkeys(COUNTS, 0) | (batch.spec.get("counts", {}) if over else {})
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": state if over else self._engine.behaviour.unknown_state or state,
            "request_counts": {"processing": 0 if over else batch.spec["rows"], **counts},
            "ended_at": _timestamp(batch.ended_at if over else None),
            "created_at": _timestamp(batch.created_at),
            "expires_at": _timestamp(batch.expires_at),
            "archived_at": _timestamp(batch.created_at + RETENTION if archived else None),
            "cancel_initiated_at": _timestamp(batch.cancelling_at),
            "results_url": f"{batch.spec['origin']}/v1/messages/batches/{batch.id}/results"
            if over and not archived
            else None,
        }

    # Models and answers at once

    async def _models(self, call: Call) -> Reply:
        return page_of([_model_object(name) for name in MODELS], call.query)

    async def _model(self, call: Call) -> Reply:
        name = call.names["id"]
        if name.startswith("unknown"):
            raise refused(f"model: {name}", 404, "not_found_error")
        return Reply(_model_object(name))

    async def _count_tokens(self, call: Call) -> Reply:
        body = json_body(call)
        bounded = {"max_tokens": 1, **body} if isinstance(body, dict) else body
        try:
            asked = ask(bounded, call.headers["anthropic-version"])
        except ApiError as error:
            raise Refused(Reply(error.error, error.status)) from error
        return Reply({"input_tokens": asked.tokens})

    async def _message(self, call: Call) -> Reply:
        body, at = json_body(call), self._engine.clock.now()
        streamed = isinstance(body, dict) and bool(body.pop("stream", False))
        taken = self._engine.rate(NAME, call.account)
        headers = taken.anthropic(at) if taken else {}
        try:
            asked = ask(body, call.headers["anthropic-version"])
            if taken and not taken.passes:
                raise error_for(Fate.FAIL_429)
            fate = self._engine.fates.draw(asked.prompt, self._engine.behaviour)
            if fate not in _REALTIME_FATES:
                fate = Fate.ANSWER
            if not fate.billed:
                raise error_for(fate)
        except ApiError as error:
            raise Refused(Reply(error.error, error.status, headers)) from error
        answered = self._bodies.answer(asked, fate, secrets.token_bytes(32), "")
        self._engine.ledger.bill_realtime(
            Entry(
                provider=NAME,
                endpoint=ENDPOINT,
                model=asked.model,
                custom_id=None,
                batch_id=None,
                prompt_mark=answers.mark(asked.prompt),
                body_sha=body_sha(body),
                input_tokens=answered.usage.input_tokens,
                cached_tokens=answered.usage.cached_tokens,
                output_tokens=answered.usage.output_tokens,
                mode="realtime",
                at=at,
                cache_write_tokens=answered.usage.cache_write_tokens,
            )
        )
        await asyncio.sleep(self._engine.behaviour.realtime_seconds)
        return streams.messages(answered.body) if streamed else Reply(answered.body, 200, headers)


def _timestamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _model_object(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2025-10-01T00:00:00Z",
        "lifecycle": "active",
        "capabilities": {"batch": {"supported": True}, "structured_outputs": {"supported": True}},
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }
