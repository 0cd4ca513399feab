"""The Gemini adapter, for the Developer API (Google AI Studio's keys).

The SDK uploads files and reads error answers; jobs are created and read as raw JSON over the same
connections, because the SDK's job drops counts and errors and its requests would be rewritten. No
request is repeated here: the poller repeats what may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from ...core import policy
from ...core.errors import (
    Incomplete,
    KeyRefused,
    LLMBatchError,
    Refused,
    Unclear,
    UsageProblem,
    Vanished,
)
from ...core.job import Account, Job, Remote, Reply
from ...core.request import Recipe, Sink
from ...core.result import Result
from ...core.secret import Secret
from ...storage import files
from ..base import Encoder, Limits
from ..shared import bounds, encoding, network, pages, token_count
from ..shared.addresses import is_loopback, normalised
from ..shared.errors import no_key, refusal
from . import cache as caches
from . import objects, results
from . import requests as wire
from .client import _DEFAULT_URL, _KEYS_PAGE, BASE_URL, KEY, KEY_BEFORE, VERSION, translate

if TYPE_CHECKING:
    from google.genai import Client
    from httpx2 import AsyncClient

_MODELS_PAGE = "https://ai.google.dev/gemini-api/docs/models"

#: 2 GB is the limit of an uploaded file. No limit of rows is documented, so it is the smallest of
#: the others; nor one of a row, so it is what fits beside nothing else into an inline job.
_LIMITS = Limits(requests=50_000, bytes=1_900_000_000, line_bytes=18_000_000)
#: Up to here a job goes inline: 20 MB are allowed. The answers then come in one JSON text, twice,
#: so that many rows are better off in a file, which can be streamed.
_INLINE_BYTES = 18_000_000
_INLINE_ROWS = 5_000

#: Clocks differ: a listing is read this far beyond the moment asked for.
_CLOCK_SKEW = 600.0
_PAGE = 100
_PIECE = 1 << 20


class Google:
    """Gemini under the account that `environ` names.

    Parameters
    ----------
    environ
        A mapping like ``os.environ``: ``GOOGLE_API_KEY`` or ``GEMINI_API_KEY``,
        ``GOOGLE_GEMINI_BASE_URL`` and ``GOOGLE_GENAI_API_VERSION`` are read from it and from
        nowhere else.
    """

    name = wire.PROVIDER

    def __init__(self, environ: Mapping[str, str]) -> None:
        first = Secret(environ.get(KEY_BEFORE, "").strip())
        self._variable = KEY_BEFORE if first else KEY
        self._key = first or Secret(environ.get(KEY, "").strip())
        self._base_url = normalised(environ.get(BASE_URL, "").strip() or _DEFAULT_URL, BASE_URL)
        version = environ.get(VERSION, "").strip()
        self._version = "v1beta" if version == "beta" else version or "v1"
        self._client: AsyncClient | None = None
        self._sdk: Client | None = None
        self._known_models: set[str] = set()
        self._uncached: set[str] = set()

    # -- pure ----------------------------------------------------------------------------------

    def limits(self, endpoint: str) -> Limits:  # noqa: ARG002
        """Return the limits of one job, the same for every endpoint."""
        return _LIMITS

    def validate(self, recipe: Recipe, model: str) -> None:  # noqa: ARG002
        """Raise `UsageProblem` for a recipe that Gemini cannot take."""
        wire.validate(recipe)

    def encoder(self, recipe: Recipe, model: str) -> Encoder:  # noqa: ARG002
        """Return the function that makes one request line; the model stands in the URL."""
        return wire.encoder(recipe)

    def meaning(self, recipe: Recipe, model: str) -> bytes:
        """Return the versioned record of what is meant."""
        return wire.meaning(recipe, model)

    def parse(self, line: bytes, endpoint: str) -> Result:  # noqa: ARG002
        """Read one line of a result file, or one that `fetch` made of an inline answer."""
        return results.parse(line)

    def prompt_of(self, line: bytes) -> str:
        """Return the prompt of one request line."""
        return wire.prompt_of(line)

    # -- account -------------------------------------------------------------------------------

    def check_key(self) -> None:
        """Raise `UsageProblem` when there is no usable key, or the network's settings are wrong."""
        if not self._key:
            raise UsageProblem(no_key(KEY, self.name, _KEYS_PAGE))
        if not self._key.fits_a_header():
            raise UsageProblem(f"{self._variable} holds characters that no key has: copy it again")
        network.check(self._base_url)

    def account(self, salt: bytes) -> Account:
        """Return whose batches these are; the key only as a salted fingerprint."""
        return Account(base_url=self._base_url, fingerprint=self._key.fingerprint(salt))

    # -- wire ----------------------------------------------------------------------------------

    async def upload(self, job: Job, payload: Path) -> str | None:
        """Upload a large job, after asking for its model; with ``--cache`` what its rows share."""
        if job.rows <= _INLINE_ROWS and job.bytes <= _INLINE_BYTES:
            return await self._cache(job, payload)
        await self.check_model(job.model)
        cache = await self._cache(job, payload)
        if cache is None:
            return await self._upload(job, payload)
        lines = await asyncio.to_thread(caches.write, payload, cache)
        try:
            return caches.join(await self._upload(job, lines), cache)
        finally:
            lines.unlink(missing_ok=True)

    async def _upload(self, job: Job, lines: Path) -> str:
        async with self._translated():
            file = await self._uploader().aio.files.upload(
                file=lines,
                config={
                    "mime_type": "application/jsonl",
                    "display_name": job.id,
                    "http_options": {"timeout": 300_000},  # milliseconds, per piece of 8 MiB
                },
            )
        if not file.name:
            raise Unclear(f"{self._who} gave the uploaded file no name")
        return file.name

    async def create(self, job: Job, payload: Path, upload_id: str | None, label: str) -> Remote:
        """Create the batch: one request; `Unclear` if it may exist."""
        file, cache = caches.split(upload_id)
        if file is not None:
            body = wire.by_file(file, label)
        else:
            lines = files.lines(payload) if cache is None else caches.lines(payload, cache)
            body = wire.inline(lines, label)
        method = wire.METHODS[job.endpoint]
        try:
            async with self._translated():
                path = f"{_model_path(job.model)}:{method}"
                return objects.read_remote(
                    await self._ask("POST", path, read=policy.LONG_CALL, body=body)
                )
        except Vanished as exc:
            if file is not None:
                raise  # the upload may be what is gone
            if cache is not None:  # or the cache: once more without
                await self._give_up(job, cache)
                raise
            raise self._unknown(job.model, exc) from exc
        except KeyRefused:
            raise
        except Refused as exc:
            if cache is None or not caches.blamed(str(exc)):
                raise
            # The job was refused for its cache, and surely not created: as if that were gone.
            await self._give_up(job, cache)
            raise Vanished(str(exc), status=exc.status, code=exc.code) from exc

    async def find(self, label: str, job: Job, since: float) -> Remote | None:  # noqa: ARG002
        """Look through the whole listing for the batch that carries `label`.

        No time bounds it: our clock may be wrong, and was perhaps set since.
        """
        async for remote in self.list(0.0):
            if remote.label == label:
                return remote
        return None

    async def retrieve(self, remote_id: str) -> Remote:
        """Ask for one batch."""
        async with self._translated(), bounds.up_to(bounds.MAX_INLINE):
            body = await self._ask("GET", remote_id, read=policy.LONG_CALL)
            return objects.read_remote(body)

    async def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield batches made since a little before `since`.

        Every page is read: nothing documents the order, and a batch that was overlooked would be
        bought again.
        """
        async for remote in pages.read(self._who, self._page, lambda each: each.remote_id):
            if remote.created_at is None or remote.created_at >= since - _CLOCK_SKEW:
                yield remote

    async def cancel(self, remote_id: str) -> Remote | None:
        """Ask for the batch to be cancelled; Google answers nothing, the next poll tells."""
        async with self._translated():
            await self._ask("POST", f"{remote_id}:cancel")
        return None

    async def forget(self, job: Job) -> None:
        """Delete the uploaded file; the Files API refuses the long ids of result files."""
        file, _ = caches.split(job.upload_id)
        if file is None:
            return
        with suppress(Vanished):
            async with self._translated():
                await self._ask("DELETE", file)

    async def release(self, job: Job) -> Decimal | None:
        """Delete the cache of a job; return what writing and storing it cost, where known."""
        _, name = caches.split(job.upload_id)
        if name is None:
            return None
        cost = None
        with suppress(LLMBatchError):
            async with self._translated():
                cost = caches.read(await self._ask("GET", name)).cost(job.model, time.time())
        async with self._translated():
            await self._ask("DELETE", name)
        return cost

    async def count(self, line: bytes, model: str) -> int:
        """Return the input tokens of one request line, as Google counts them."""
        body = encoding.fast(token_count.google(line, model))
        async with self._translated():
            answer = await self._ask("POST", f"models/{model}:countTokens", body=body)
            return int(msgspec.json.decode(answer)["totalTokens"])

    async def fetch(self, remote_id: str, part: str, ref: str, sink: Sink) -> None:
        """Write the results into `sink`, streamed from their file or out of the job itself."""
        what = f"{part} of {remote_id}"
        if ref == objects.INLINE:
            body = bytearray()
            with bounds.up_to(bounds.MAX_INLINE):
                await self._download(what, remote_id, {}, body.extend)
            try:
                file, lines = objects.inline_lines(body)
                for line in lines:
                    sink.write(line)
            except ValueError as exc:
                raise Incomplete(f"{what} is no whole JSON text") from exc
            if file is None:
                return
            ref = file
        # By its name: the SDK cuts the id out of an address at its first dash.
        with bounds.up_to(None):
            await self._download(what, f"{ref}:download", {"alt": "media"}, sink.write)

    async def ask(self, line: bytes, endpoint: str, model: str) -> Reply:
        """Send one request line to the method of its model; Google sends no rate-limit headers."""
        key, request = wire.read_line(line)
        path = f"{_model_path(model)}:{wire.SINGLE[endpoint]}"
        try:
            async with self._translated(), bounds.up_to(bounds.MAX_ANSWER):
                body = await self._ask("POST", path, read=policy.ANSWER, body=request)
                return Reply(line=results.line(key, 200, body))
        except Refused as exc:
            answer = refusal(exc)
            return Reply(line=results.line(key, answer.status_code, answer.content))

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        client, self._client = self._client, None
        sdk, self._sdk = self._sdk, None
        if sdk is not None:
            sdk.close()
        if client is not None:
            await client.aclose()

    # -- beneath -------------------------------------------------------------------------------

    def _connected(self) -> AsyncClient:
        if self._client is None:
            try:
                self.check_key()
            except UsageProblem as exc:
                raise KeyRefused(str(exc)) from exc
            from ..shared import transport

            # Where a gateway names Google's own upload address, rows may go there, never the key.
            also = () if is_loopback(self._base_url) else (_DEFAULT_URL,)
            self._client = transport.Client(self._base_url, self._key, also=also)
        return self._client

    def _uploader(self) -> Client:
        if self._sdk is None:
            import ssl

            import httpx2
            from google import genai

            # It logs which of two keys it takes, and warns of a file's state that it does not
            # know; unhandled, both would be printed into whichever cell runs.
            logging.getLogger("google_genai").addHandler(logging.NullHandler())
            warnings.filterwarnings("ignore", r".* is not a valid FileState", UserWarning)
            options: Any = {
                "base_url": self._base_url,
                "api_version": self._version,
                # With clients of ours it uses neither aiohttp nor another pool; of its own it would
                # make a second one, from the environment.
                "httpx_async_client": self._connected(),
                "httpx_client": httpx2.Client(**network.options(self._base_url)),
                # For web sockets, which are never opened: else certificates are read for them.
                "async_client_args": {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            }
            self._sdk = genai.Client(
                enterprise=False, api_key=bounds.PLACEHOLDER, http_options=options
            )
        return self._sdk

    def _url(self, path: str) -> str:
        return f"{self._base_url}/{self._version}/{path}"

    def _headers(self) -> dict[str, str]:
        return {"x-goog-api-key": bounds.PLACEHOLDER, "content-type": "application/json"}

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        read: float = policy.CALL,
        body: bytes | None = None,
        params: dict[str, str] | None = None,
    ) -> bytes:
        """Send one request and return the body of its answer."""
        from google.genai.errors import APIError

        answer = await self._connected().request(
            method,
            self._url(path),
            headers=self._headers(),
            content=body,
            params=params,
            timeout=network.timeout(read=read, write=policy.LONG_CALL),
        )
        await APIError.raise_for_async_response(answer)
        return answer.content

    async def _page(self, token: str) -> tuple[Sequence[Remote], str]:
        params = {"pageSize": str(_PAGE)} | ({"pageToken": token} if token else {})
        async with self._translated():
            body = await self._ask("GET", "batches", read=policy.LONG_CALL, params=params)
            return objects.read_page(body)

    async def _download(
        self, what: str, path: str, params: dict[str, str], write: Callable[[bytes], object]
    ) -> None:
        from google.genai.errors import APIError

        started = False
        try:
            async with (
                self._translated(),
                self._connected().stream(
                    "GET",
                    self._url(path),
                    headers=self._headers(),
                    params=params,
                    timeout=network.timeout(read=policy.LONG_CALL),
                    follow_redirects=True,
                ) as answer,
            ):
                await APIError.raise_for_async_response(answer)
                started = True
                # httpx2 holds what arrives against content-length, or the end of the chunks.
                async for piece in answer.aiter_bytes(_PIECE):
                    write(piece)
        except Unclear as exc:
            if started:
                raise Incomplete(f"{what} was cut short: {exc}") from exc
            raise

    # -- caches --------------------------------------------------------------------------------

    async def _cache(self, job: Job, payload: Path) -> str | None:
        """Return the cache of what the rows share, made if it pays; None leaves it to Gemini."""
        if job.cache is None or job.id in self._uncached:
            return None
        instruction = await asyncio.to_thread(caches.wanted, job, payload)
        if not instruction:
            return None
        # Whatever fails here, the job goes without.
        with suppress(LLMBatchError):
            # A killed process may have made one, or a lost answer.
            found = await self._cache_of(job)
            if found is not None:
                return found
            with suppress(Unclear):
                return await self._make_cache(job, instruction)
            return await self._cache_of(job)
        return None

    async def _make_cache(self, job: Job, instruction: bytes) -> str:
        body = caches.body(job, wire.path(job.model), instruction)
        async with self._translated():
            answer = await self._ask("POST", "cachedContents", read=policy.LONG_CALL, body=body)
            return caches.read(answer).name

    async def _cache_of(self, job: Job) -> str | None:
        """Return the cache that was made for `job` and outlives it."""
        async for cache in pages.read(self._who, self._cache_page, lambda each: each.name):
            if cache.display_name != job.id or cache.model != wire.path(job.model):
                continue
            if cache.lasts(time.time()):
                return cache.name
            await self._drop(cache.name)
        return None

    async def _cache_page(self, token: str) -> tuple[Sequence[caches.Cache], str]:
        params = {"pageSize": str(_PAGE)} | ({"pageToken": token} if token else {})
        async with self._translated():
            return caches.read_page(await self._ask("GET", "cachedContents", params=params))

    async def _give_up(self, job: Job, cache: str) -> None:
        self._uncached.add(job.id)
        await self._drop(cache)

    async def _drop(self, cache: str) -> None:
        with suppress(LLMBatchError):
            async with self._translated():
                await self._ask("DELETE", cache)

    async def check_model(self, model: str) -> None:
        """Refuse a model that the server says it does not have; any other trouble is ignored."""
        if model in self._known_models:
            return
        try:
            async with self._translated():
                await self._ask("GET", _model_path(model), read=policy.LOOK)
        except Vanished as exc:
            if exc.code == "NOT_FOUND":
                raise self._unknown(model, exc) from exc
        except LLMBatchError:
            return  # the upload that follows meets the same trouble and tells it better
        self._known_models.add(model)

    def _unknown(self, model: str, exc: Vanished) -> Refused:
        return Refused(
            f"{self._who} does not know the model {model!r} in version {self._version} of its API: "
            f"see {_MODELS_PAGE} (some need {VERSION}=v1beta)",
            status=exc.status,
            code=exc.code,
        )

    @property
    def _who(self) -> str:
        if self._base_url == _DEFAULT_URL:
            return "Google"
        return urlsplit(self._base_url).netloc.rpartition("@")[2] or "Google"

    def _translated(self) -> AbstractAsyncContextManager[None]:
        return translate(self._who, f"(check {self._variable}: {_KEYS_PAGE})")


def _model_path(model: str) -> str:
    return quote(wire.path(model), safe="/")
