"""OpenAI's endpoints: files, batches, models, and those that answer at once."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any

from ..server import streams as streams_of
from ..server.wire import KEY_PREFIX, Call, Refused, Reply, Route, account_of
from ..world import answers, life
from ..world.engine import Engine
from ..world.fates import SHAPES, Fate
from ..world.files import Files, StoredFile, base62, share_or_copy
from ..world.ledger import Entry, body_sha
from ..world.life import Batch, Phase
from .batches import MONTH, OpenAIDialect, new_batch_id
from .bodies import MODELS, error_for
from .checks import check_metadata, json_body, lifetime, page_of, refused
from .errors import ApiError
from .plain import ASK, COMPLETIONS, Bodies

_WINDOW = "24h"
_NAME = "openai"
#: OpenAI's word for a phase where it is not ours.
_STATUS = {Phase.RUNNING: "in_progress"}
_REALTIME_FATES = frozenset(
    {Fate.REFUSE, Fate.LENGTH, Fate.FILTER, Fate.FAIL_400, Fate.FAIL_429, Fate.FAIL_500, *SHAPES}
)


class OpenAI:
    """Everything below ``/openai``."""

    prefix = "/openai"

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._files = files
        self._bodies = Bodies()
        engine.register(OpenAIDialect(engine, files, self._bodies))
        self.routes = [
            Route("POST", re.compile("/v1/files"), self._upload, upload=True),
            Route("GET", re.compile("/v1/files"), self._list_files),
            Route("GET", re.compile("/v1/files/(?P<id>[^/]+)"), self._file),
            Route("DELETE", re.compile("/v1/files/(?P<id>[^/]+)"), self._delete_file),
            Route("GET", re.compile("/v1/files/(?P<id>[^/]+)/content"), self._content),
            Route("POST", re.compile("/v1/batches"), self._create_batch),
            Route("GET", re.compile("/v1/batches"), self._list_batches),
            Route("GET", re.compile("/v1/batches/(?P<id>[^/]+)"), self._batch),
            Route("POST", re.compile("/v1/batches/(?P<id>[^/]+)/cancel"), self._cancel_batch),
            Route("GET", re.compile("/v1/models"), self._models),
            Route("GET", re.compile("/v1/models/(?P<id>.+)"), self._model),
            Route("POST", re.compile("/v1/responses/input_tokens"), self._count),
            *(Route("POST", re.compile(path), self._realtime) for path in ASK),
        ]

    def authenticate(self, headers: Mapping[str, str]) -> str:
        """Return the account of the bearer key."""
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            raise refused(
                "You didn't provide an API key. You need to provide your API key in an "
                "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                401,
            )
        if not key.startswith(KEY_PREFIX):
            raise refused(
                f"Incorrect API key provided: {key[:5]}***{key[-2:]}. You can find your API key "
                "at https://platform.openai.com/account/api-keys.",
                401,
                code="invalid_api_key",
            )
        return account_of(key)

    def no_route(self, method: str, path: str) -> Reply:
        """Return OpenAI's 404 for an address."""
        return refused(f"Invalid URL ({method} {path})", 404).reply

    def too_large(self) -> Reply:
        """Return the reply for a body over 512 MB."""
        return refused("Maximum content size limit (536870912) exceeded.", 413).reply

    def headers(self, seconds: float) -> dict[str, str]:
        """Return what OpenAI sends with each reply."""
        return {
            "x-request-id": f"req_{secrets.token_hex(16)}",
            "openai-processing-ms": str(int(seconds * 1000)),
            "openai-version": "2020-10-01",
        }

    # Files

    async def _upload(self, call: Call) -> Reply:
        form = call.form
        if form is None or form.file is None or not form.complete:
            raise refused("'file' is a required property", 400)
        purpose = form.fields.get("purpose", "")
        if purpose != "batch":
            raise refused(f"The simulator takes files for batches, not {purpose!r}.", 400)
        if not form.filename.endswith(".jsonl"):
            raise refused("Invalid file format for Batch API. Must be .jsonl", 400)
        if form.size > self._engine.behaviour.max_file_bytes:
            raise refused("File is too large for the Batch API.", 413)
        now = self._engine.clock.now()
        seconds = MONTH
        if "expires_after[seconds]" in form.fields:
            anchor = form.fields.get("expires_after[anchor]")
            seconds = lifetime("expires_after", anchor, form.fields["expires_after[seconds]"])
        record = StoredFile(
            id=f"file-{base62(22)}",
            provider=_NAME,
            account=call.account,
            filename=form.filename,
            purpose=purpose,
            bytes=form.size,
            created_at=now,
            expires_at=now + seconds,
        )
        self._files.add(record, form.file)
        return Reply(_file_object(record))

    async def _list_files(self, call: Call) -> Reply:
        await self._settle(call)
        now = self._engine.clock.now()
        files = self._files.listing(_NAME, call.account, now)
        if "purpose" in call.query:
            files = [file for file in files if file.purpose == call.query["purpose"]]
        if call.query.get("order") == "asc":
            files.reverse()
        return page_of([_file_object(file) for file in files], call.query, 10_000, 10_000)

    async def _file(self, call: Call) -> Reply:
        return Reply(_file_object(self._get_file(call)))

    async def _delete_file(self, call: Call) -> Reply:
        file = self._get_file(call)
        self._files.delete(file.id)
        return Reply({"object": "file", "id": file.id, "deleted": True})

    async def _content(self, call: Call) -> Reply:
        file = self._get_file(call)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{file.filename}"',
        }
        return Reply(self._files.path(file.id), headers=headers)

    def _get_file(self, call: Call) -> StoredFile:
        file_id, now = call.names["id"], self._engine.clock.now()
        file = self._files.get(_NAME, call.account, file_id, now)
        if file is None:
            raise refused(f"No such File object: {file_id}", 404, param="id")
        return file

    # Batches

    async def _create_batch(self, call: Call) -> Reply:
        body = json_body(call)
        spec = {
            "endpoint": body.get("endpoint"),
            "input_file_id": body.get("input_file_id"),
            "metadata": body.get("metadata"),
            "output_expires_after": body.get("output_expires_after"),
        }
        file = self._check_spec(spec, body.get("completion_window"), call.account)
        batch_id = new_batch_id(self._engine.clock.now())
        # Under a name of the batch's own, so that it outlives the deletion of the file.
        share_or_copy(self._files.path(file.id), self._engine.input_path(batch_id))
        batch = self._engine.create(_NAME, call.account, batch_id, spec)
        return Reply(self._batch_object(batch, new=True))

    def _check_spec(self, spec: dict[str, Any], window: Any, account: str) -> StoredFile:
        for name in ("input_file_id", "endpoint"):
            if not isinstance(spec[name], str):
                raise refused(
                    f"Missing required parameter: '{name}'.",
                    400,
                    param=name,
                    code="missing_required_parameter",
                )
        if spec["endpoint"] not in ASK:
            raise refused(
                f"Invalid value: '{spec['endpoint']}'. The simulator supports: {', '.join(ASK)}.",
                400,
                param="endpoint",
                code="invalid_value",
            )
        if window != _WINDOW:
            raise refused(
                f"Invalid value: '{window}'. Supported values are: '{_WINDOW}'.",
                400,
                param="completion_window",
                code="invalid_value",
            )
        check_metadata(spec["metadata"])
        after = spec["output_expires_after"]
        if after is not None:
            lifetime("output_expires_after", after.get("anchor"), after.get("seconds"))
        file_id = spec["input_file_id"]
        file = self._files.get(_NAME, account, file_id, self._engine.clock.now())
        if file is None or file.purpose != "batch":
            raise refused(f"No such File object: {file_id}", 400, param="input_file_id")
        return file

    async def _list_batches(self, call: Call) -> Reply:
        await self._settle(call)
        batches = self._engine.listing(_NAME, call.account)
        return page_of([self._batch_object(batch) for batch in batches], call.query, 20, 100)

    async def _batch(self, call: Call) -> Reply:
        return Reply(self._batch_object(await self._get_batch(call)))

    async def _cancel_batch(self, call: Call) -> Reply:
        batch = await self._get_batch(call)
        phase = self._engine.phase(batch)
        if phase in life.OVER:
            raise refused(f"Cannot cancel a batch with status '{phase}'.", 409)
        if phase is not Phase.CANCELLING:
            await self._engine.cancel(batch)
        return Reply(self._batch_object(batch))

    async def _get_batch(self, call: Call) -> Batch:
        batch_id = call.names["id"]
        batch = self._engine.get(_NAME, call.account, batch_id)
        if batch is None:
            raise refused(f"No batch found with id '{batch_id}'.", 404)
        await self._engine.settle([batch])
        return batch

    async def _settle(self, call: Call) -> None:
        await self._engine.settle(self._engine.listing(_NAME, call.account))

    def _batch_object(self, batch: Batch, *, new: bool = False) -> dict[str, Any]:
        """Return the batch on the wire; a new one shows as such even if it is due to be over."""
        phase = Phase.VALIDATING if new else self._engine.phase(batch)
        completed, failed = self._engine.counts(batch)
        worked = phase is Phase.FINALIZING or phase is Phase.COMPLETED

        def at(moment: float | None, when: bool = True) -> int | None:
            return int(moment) if when and moment is not None else None

        usage = batch.usage
        unknown = self._engine.behaviour.unknown_state if phase not in life.OVER else ""
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.spec["endpoint"],
            "model": batch.model,
            "errors": {"object": "list", "data": batch.problems} if batch.problems else None,
            "input_file_id": batch.spec["input_file_id"],
            "completion_window": _WINDOW,
            "status": unknown or _STATUS.get(phase, phase),
            "output_file_id": batch.results.get("output"),
            "error_file_id": batch.results.get("error"),
            "created_at": int(batch.created_at),
            "in_progress_at": at(batch.moment(life.VALIDATED), batch.validated),
            "expires_at": int(batch.expires_at),
            "finalizing_at": at(batch.moment(life.WORKED), worked),
            "completed_at": at(batch.ended_at, phase is Phase.COMPLETED),
            "failed_at": at(batch.ended_at, phase is Phase.FAILED),
            "expired_at": at(batch.ended_at, phase is Phase.EXPIRED),
            "cancelling_at": at(batch.cancelling_at),
            "cancelled_at": at(batch.ended_at, phase is Phase.CANCELLED),
            "request_counts": {"total": batch.total, "completed": completed, "failed": failed},
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.input_tokens + usage.output_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
            "metadata": batch.spec["metadata"],
        }

    # Models and answers at once

    async def _models(self, _call: Call) -> Reply:
        return Reply({"object": "list", "data": [_model_object(name) for name in MODELS]})

    async def _model(self, call: Call) -> Reply:
        name = call.names["id"]
        if name.startswith("unknown"):
            raise refused(f"The model '{name}' does not exist", 404, code="model_not_found")
        return Reply(_model_object(name))

    async def _count(self, call: Call) -> Reply:
        try:
            asked = ASK["/v1/responses"](json_body(call))
        except ApiError as error:
            raise Refused(Reply(error.body, error.status)) from error
        return Reply({"object": "response.input_tokens", "input_tokens": asked.tokens})

    async def _realtime(self, call: Call) -> Reply:
        endpoint = call.path.removeprefix(self.prefix)
        body, at = json_body(call), self._engine.clock.now()
        streams = isinstance(body, dict) and bool(body.pop("stream", False))
        taken = self._engine.rate(_NAME, call.account)
        headers = taken.openai() if taken else {}
        try:
            asked = ASK[endpoint](body)
            if taken and not taken.passes:
                raise error_for(Fate.FAIL_429, asked.model)
            fate = self._engine.fates.draw(asked.prompt, self._engine.behaviour)
            if fate not in _REALTIME_FATES:
                fate = Fate.ANSWER
            if not fate.billed:
                raise error_for(fate, asked.model)
        except ApiError as error:
            raise Refused(Reply(error.body, error.status, headers)) from error
        answered = self._bodies.answer(endpoint, asked, fate, secrets.token_bytes(32), at)
        self._engine.ledger.bill_realtime(
            Entry(
                provider=_NAME,
                endpoint=endpoint,
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
            )
        )
        await asyncio.sleep(self._engine.behaviour.realtime_seconds)
        if not streams:
            return Reply(answered.body, headers=headers)
        if endpoint == "/v1/responses":
            return streams_of.responses(answered.body)
        if endpoint == COMPLETIONS:
            return streams_of.completions(answered.body)
        if endpoint != "/v1/chat/completions":
            return Reply(answered.body, headers=headers)  # what nobody streams
        usage = (body.get("stream_options") or {}).get("include_usage", False)
        return streams_of.chat(answered.body, usage=usage)


def _file_object(file: StoredFile) -> dict[str, Any]:
    return {
        "object": "file",
        "id": file.id,
        "purpose": file.purpose,
        "filename": file.filename,
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "status": "processed",
        "status_details": None,
    }


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"}
