"""The Gemini adapter, for the Developer API (Google AI Studio's keys).

The SDK uploads files and reads error answers; jobs are created and read as raw JSON over the same
connections, because the SDK's job drops counts and errors and its requests would be rewritten. No
request is repeated here: the poller repeats what may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import msgspec

from ...core import policy
from ...core.errors import Incomplete, KeyRefused, LLMBatchError, Refused, Unclear, Vanished
from ...core.job import Job, Remote, Reply
from ...core.request import Recipe, Sink
from ...core.result import Result
from ...storage import files
from ..base import Adapter, Encoder, Limits
from ..shared import bounds, downloads, encoding, pages, token_count
from ..shared.errors import refusal
from . import cache as caches
from . import objects, results
from . import requests as wire
from .cache_calls import Caches
from .client import VERSION, of_environ

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


class Google(Adapter):
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
        self._server = of_environ(environ)
        self.access = self._server.access
        self._caches = Caches(self._server)
        self._known_models: set[str] = set()

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

    # -- wire ----------------------------------------------------------------------------------

    async def upload(self, job: Job, payload: Path) -> str | None:
        """Upload a large job, after asking for its model; with ``--cache`` what its rows share."""
        if job.rows <= _INLINE_ROWS and job.bytes <= _INLINE_BYTES:
            return await self._caches.of(job, payload)
        await self.check_model(job.model)
        cache = await self._caches.of(job, payload)
        if cache is None:
            return await self._upload(job, payload)
        lines = await asyncio.to_thread(caches.write, payload, cache)
        try:
            return caches.join(await self._upload(job, lines), cache)
        finally:
            lines.unlink(missing_ok=True)

    async def _upload(self, job: Job, lines: Path) -> str:
        async with self._server.translated():
            file = await self._server.uploader().aio.files.upload(
                file=lines,
                config={
                    "mime_type": "application/jsonl",
                    "display_name": job.id,
                    "http_options": {"timeout": 300_000},  # milliseconds, per piece of 8 MiB
                },
            )
        if not file.name:
            raise Unclear(f"{self.access.who} gave the uploaded file no name")
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
            async with self._server.translated():
                path = f"{_model_path(job.model)}:{method}"
                return objects.read_remote(
                    await self._server.call("POST", path, read=policy.LONG_CALL, body=body)
                )
        except Vanished as exc:
            if file is not None:
                raise  # the upload may be what is gone
            if cache is not None:  # or the cache: once more without
                await self._caches.give_up(job, cache)
                raise
            raise self._unknown(job.model, exc) from exc
        except KeyRefused:
            raise
        except Refused as exc:
            if cache is None or not caches.blamed(str(exc)):
                raise
            # The job was refused for its cache, and surely not created: as if that were gone.
            await self._caches.give_up(job, cache)
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
        async with self._server.translated(), bounds.up_to(bounds.MAX_INLINE):
            body = await self._server.call("GET", remote_id, read=policy.LONG_CALL)
            return objects.read_remote(body)

    async def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield batches made since a little before `since`.

        Every page is read: nothing documents the order, and a batch that was overlooked would be
        bought again.
        """
        async for remote in pages.read(self.access.who, self._page, lambda each: each.remote_id):
            if remote.created_at is None or remote.created_at >= since - _CLOCK_SKEW:
                yield remote

    async def cancel(self, remote_id: str) -> Remote | None:
        """Ask for the batch to be cancelled; Google answers nothing, the next poll tells."""
        async with self._server.translated():
            await self._server.call("POST", f"{remote_id}:cancel")
        return None

    async def forget(self, job: Job) -> None:
        """Delete the uploaded file; the Files API refuses the long ids of result files."""
        file, _ = caches.split(job.upload_id)
        if file is None:
            return
        with suppress(Vanished):
            async with self._server.translated():
                await self._server.call("DELETE", file)

    async def release(self, job: Job) -> Decimal | None:
        """Delete the cache of a job; return what writing and storing it cost, where known."""
        _, name = caches.split(job.upload_id)
        return None if name is None else await self._caches.release(name, job.model)

    async def count(self, line: bytes, model: str) -> int:
        """Return the input tokens of one request line, as Google counts them."""
        body = encoding.fast(token_count.google(line, model))
        async with self._server.translated():
            answer = await self._server.call("POST", f"models/{model}:countTokens", body=body)
            return int(msgspec.json.decode(answer)["totalTokens"])

    async def fetch(self, remote_id: str, part: str, ref: str, sink: Sink) -> None:
        """Write the results into `sink`, streamed from their file or out of the job itself."""
        what = f"{part} of {remote_id}"
        if ref == objects.INLINE:
            body = bytearray()
            with bounds.up_to(bounds.MAX_INLINE):
                await downloads.stream(what, self._server.content(remote_id, {}), body.extend)
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
            content = self._server.content(f"{ref}:download", {"alt": "media"})
            await downloads.stream(what, content, sink.write)

    async def ask(self, line: bytes, endpoint: str, model: str) -> Reply:
        """Send one request line to the method of its model; Google sends no rate-limit headers."""
        key, request = wire.read_line(line)
        path = f"{_model_path(model)}:{wire.SINGLE[endpoint]}"
        try:
            async with self._server.translated(), bounds.up_to(bounds.MAX_ANSWER):
                body = await self._server.call("POST", path, read=policy.ANSWER, body=request)
                return Reply(line=results.line(key, 200, body))
        except Refused as exc:
            answer = refusal(exc)
            return Reply(line=results.line(key, answer.status_code, answer.content))

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        await self._server.close()

    # -- beneath -------------------------------------------------------------------------------

    async def _page(self, token: str) -> tuple[Sequence[Remote], str]:
        async with self._server.translated():
            body = await self._server.page("batches", token, read=policy.LONG_CALL)
            return objects.read_page(body)

    async def check_model(self, model: str) -> None:
        """Refuse a model that the server says it does not have; any other trouble is ignored."""
        if model in self._known_models:
            return
        try:
            async with self._server.translated():
                await self._server.call("GET", _model_path(model), read=policy.LOOK)
        except Vanished as exc:
            if exc.code == "NOT_FOUND":
                raise self._unknown(model, exc) from exc
        except LLMBatchError:
            return  # the upload that follows meets the same trouble and tells it better
        self._known_models.add(model)

    def _unknown(self, model: str, exc: Vanished) -> Refused:
        return Refused(
            f"{self.access.who} does not know the model {model!r} in version "
            f"{self._server.version} of its API: see {_MODELS_PAGE} (some need {VERSION}=v1beta)",
            status=exc.status,
            code=exc.code,
        )


def _model_path(model: str) -> str:
    return quote(wire.path(model), safe="/")
