"""Google's endpoints: files, batches, models, and those that answer at once."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from ..server import streams
from ..server.wire import KEY_PREFIX, Call, Refused, Reply, Route, account_of
from ..world import answers, life
from ..world.engine import Engine
from ..world.fates import SHAPES, Fate
from ..world.files import Files, private_open, share_or_copy
from ..world.ledger import Entry, body_sha
from ..world.life import Batch, Phase
from .batches import NAME, GoogleDialect, Line, new_name
from .bodies import MODELS, Asked, Bodies, ask, check_model, model_object
from .caches import Caches
from .checks import (
    ApiError,
    UnknownField,
    camel_case,
    check_key,
    json_body,
    page_of,
    rate_limited,
    refused,
)
from .files import FileApi, Uploads

#: Largest create with its requests in it.
_LARGEST_INLINE = 20 * 1024 * 1024
#: The method that a batch repeats, and the name of its message.
_BATCHED = {
    "batchGenerateContent": ("generateContent", "GenerateContentBatch"),
    "asyncBatchEmbedContent": ("embedContent", "EmbedContentBatch"),
}
_REALTIME_FATES = frozenset(
    {Fate.REFUSE, Fate.LENGTH, Fate.FILTER, Fate.FAIL_400, Fate.FAIL_429, Fate.FAIL_500, *SHAPES}
)


class Google:
    """Everything below ``/google``."""

    prefix = "/google"

    def __init__(self, engine: Engine, files: Files, uploads: Uploads) -> None:
        self._engine = engine
        self._files = files
        self._bodies = Bodies()
        self._caches = Caches(engine.clock)
        self._dialect = GoogleDialect(engine, files, self._bodies, self._caches)
        engine.register(self._dialect)
        self._file_api = FileApi(files, engine.clock, uploads)
        version = "/(?P<version>v1|v1beta)"
        model, batch = "/models/(?P<model>[^/:]+)", "/batches/(?P<id>[^/:]+)"
        self.routes = [
            *self._file_api.routes,
            *self._caches.routes,
            Route(
                "POST",
                re.compile(f"{version}{model}:(?P<method>{'|'.join(_BATCHED)})"),
                self._create,
            ),
            Route("GET", re.compile(f"{version}/batches"), self._list),
            Route("GET", re.compile(version + batch), self._batch),
            Route("DELETE", re.compile(version + batch), self._delete),
            Route("POST", re.compile(f"{version}{batch}:cancel"), self._cancel),
            Route("GET", re.compile(f"{version}/models"), self._models),
            Route("GET", re.compile(version + model), self._model),
            Route("POST", re.compile(f"{version}{model}:countTokens"), self._count),
            Route("POST", re.compile(f"{version}{model}:batchEmbedContents"), self._embed_many),
            Route(
                "POST",
                re.compile(f"{version}{model}:(?P<method>generateContent|embedContent)"),
                self._realtime,
            ),
            Route("POST", re.compile(f"{version}{model}:streamGenerateContent"), self._stream),
        ]

    def authenticate(self, headers: Mapping[str, str]) -> str:
        """Return the account of the key."""
        return account_of(check_key(headers, KEY_PREFIX))

    def no_route(self, method: str, path: str) -> Reply:
        """Return a 404 for an address."""
        return refused(f"Method not found: {method} {path}", 5).reply

    def too_large(self) -> Reply:
        """Return the reply for a body that is over the limit."""
        return refused("Request payload size exceeds the limit: 20971520 bytes.").reply

    def headers(self, seconds: float) -> dict[str, str]:
        """Return what Google sends with each reply."""
        return {"server-timing": f"gfet4t7; dur={int(seconds * 1000)}", "vary": "X-Origin"}

    # Batches

    async def _create(self, call: Call) -> Reply:
        method, kind = _BATCHED[call.names["method"]]
        model = call.names["model"]
        self._check_model(call, call.names["method"])
        body = camel_case(json_body(call).get("batch"))
        config = camel_case(body.get("inputConfig")) if isinstance(body, dict) else None
        if not isinstance(config, dict) or not {"fileName", "requests"} & config.keys():
            raise refused("* CreateBatchRequest.batch.input_config: input is not specified\n")
        batch_id = new_name()
        rows, inline = 0, "fileName" not in config
        if inline:
            if len(call.body) > _LARGEST_INLINE:
                raise Refused(self.too_large())
            items = self._check_items(config["requests"], model, method)
            rows = len(items)
            with private_open(self._engine.input_path(batch_id), "wb") as file:
                file.writelines(msgspec.json.encode(item) + b"\n" for item in items)
        else:
            self._share(call.account, str(config["fileName"]), batch_id)
        spec = {
            "method": method,
            "type": kind,
            "model": model,
            "displayName": body.get("displayName", ""),
            "inline": inline,
            "rows": rows,
        }
        batch = self._engine.create(NAME, call.account, batch_id, spec)
        return Reply(self._dialect.job(batch, new=True))

    def _check_items(self, given: Any, model: str, method: str) -> list[Line]:
        try:
            items = msgspec.convert(camel_case(given).get("requests"), list[Line])
        except (msgspec.ValidationError, AttributeError) as error:
            raise refused(f"Invalid JSON payload received. {error}") from error
        if not items:
            raise refused("* CreateBatchRequest.batch.input_config.requests: empty\n")
        for number, item in enumerate(items):
            if item.key is not None:
                raise _unknown_name("key", f"requests[{number}]")
            try:
                ask(method, model, item.request)
            except UnknownField as error:
                raise _unknown_name(error.name, f"requests[{number}].request") from error
            except ApiError:
                continue  # a request that is only wrong fails as a row
        return items

    def _share(self, account: str, name: str, batch_id: str) -> None:
        file = self._file_api.find(account, name.removeprefix("files/"))
        # Under a name of the batch's own, so that it outlives the deletion of the file.
        share_or_copy(self._files.path(file.id), self._engine.input_path(batch_id))

    async def _list(self, call: Call) -> Reply:
        batches = self._engine.listing(NAME, call.account)
        await self._engine.settle(batches)
        jobs = [self._dialect.job(batch, listed=True) for batch in batches]
        return page_of(jobs, "operations", call.query, 50, 100)

    async def _batch(self, call: Call) -> Reply:
        return Reply(self._dialect.job(await self._find(call)))

    async def _cancel(self, call: Call) -> Reply:
        batch = await self._find(call)
        phase = self._engine.phase(batch)
        if phase in life.OVER:  # unrecorded
            raise refused("The batch is over and cannot be cancelled.", 9)
        if phase is not Phase.CANCELLING:
            await self._engine.cancel(batch)
        return Reply({})

    async def _delete(self, call: Call) -> Reply:
        self._engine.delete(await self._find(call))
        return Reply({})

    async def _find(self, call: Call) -> Batch:
        batch = self._engine.get(NAME, call.account, call.names["id"])
        if batch is None:
            raise refused("Requested entity was not found.", 5)
        await self._engine.settle([batch])
        return batch

    # Models and answers at once

    async def _models(self, call: Call) -> Reply:
        return page_of([model_object(name) for name in MODELS], "models", call.query, 50, 1000)

    async def _model(self, call: Call) -> Reply:
        name = call.names["model"]
        self._check_model(call, "generateContent")
        return Reply(model_object(name))

    def _check_model(self, call: Call, method: str) -> None:
        try:
            check_model(call.names["model"], call.names["version"], method)
        except ApiError as error:
            raise Refused(error.reply) from error

    async def _count(self, call: Call) -> Reply:
        body = camel_case(json_body(call))
        request = body.get("generateContentRequest", body)
        try:
            asked = self._caches.ask(call.account, "generateContent", call.names["model"], request)
        except ApiError as error:
            raise Refused(error.reply) from error
        return Reply({"totalTokens": asked.tokens})

    async def _embed_many(self, call: Call) -> Reply:
        requests = json_body(call).get("requests") or []
        found = [self._answer(call, "embedContent", request) for request in requests]
        return Reply({"embeddings": [body["embedding"] for body in found]})

    async def _stream(self, call: Call) -> Reply:
        body = self._answer(call, "generateContent", json_body(call))
        await asyncio.sleep(self._engine.behaviour.realtime_seconds)
        if call.query.get("alt") != "sse" or "candidates" not in body:
            return Reply([body])
        return streams.contents(body)

    async def _realtime(self, call: Call) -> Reply:
        body = self._answer(call, call.names["method"], json_body(call))
        await asyncio.sleep(self._engine.behaviour.realtime_seconds)
        return Reply({"embedding": body["embedding"]} if "embedding" in body else body)

    def _answer(self, call: Call, method: str, request: dict[str, Any]) -> dict[str, Any]:
        model = call.names["model"]
        try:
            check_model(model, call.names["version"], method)
            asked = self._caches.ask(call.account, method, model, request)
            taken = self._engine.rate(NAME, call.account)
            if taken and not taken.passes:
                raise rate_limited(taken.reset)
            fate = self._fate(asked)
        except UnknownField as error:
            raise _unknown_name(error.name, "") from error
        except ApiError as error:
            raise Refused(error.reply) from error
        answered = self._bodies.answer(asked, fate, secrets.token_bytes(32))
        self._engine.ledger.bill_realtime(
            Entry(
                provider=NAME,
                endpoint=method,
                model=model,
                custom_id=None,
                batch_id=None,
                prompt_mark=answers.mark(asked.prompt),
                body_sha=body_sha(request),
                input_tokens=answered.usage.input_tokens,
                cached_tokens=answered.usage.cached_tokens,
                output_tokens=answered.usage.output_tokens,
                mode="realtime",
                at=self._engine.clock.now(),
            )
        )
        return answered.body

    def _fate(self, asked: Asked) -> Fate:
        fate = self._engine.fates.draw(asked.prompt, self._engine.behaviour)
        if fate is Fate.FAIL_400:
            raise ApiError("Request contains an invalid argument.")
        if fate is Fate.FAIL_429:
            raise rate_limited()
        if fate is Fate.FAIL_500:
            raise ApiError("An internal error has occurred.", 13)
        return fate if fate in _REALTIME_FATES else Fate.ANSWER


def _unknown_name(name: str, where: str) -> Refused:
    place = f" at 'batch.input_config.requests.{where}'" if where else ""
    return refused(
        f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
    )
