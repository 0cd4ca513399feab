"""The OpenAI adapter, for OpenAI itself, Azure's ``/openai/v1`` and compatible servers.

The SDK carries the requests, with its own retries off: the poller repeats what may be repeated,
and a create must go out once. Answers are read from their bytes by the pure modules beside this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...core import policy
from ...core.errors import LLMBatchError, Refused, Unclear, Vanished
from ...core.job import Job, Remote, Reply
from ...core.request import Recipe, Sink
from ...core.result import Result
from ..base import Adapter, Encoder, Limits
from ..shared import bounds, downloads, network, pages, rate_limits, token_count
from ..shared.access import response_type
from ..shared.errors import refusal
from . import objects, results
from . import requests as wire
from .client import Server, of_environ
from .files import Files

#: 50,000 rows is exact, so it needs no margin; 200 MB leaves open which megabyte is meant. A row
#: has no documented limit of its own.
_LIMITS = Limits(requests=50_000, bytes=190_000_000, line_bytes=190_000_000)
#: Of embeddings 50,000 *inputs* are taken, and one row may hold a list of them.
_EMBEDDING_LIMITS = msgspec.structs.replace(_LIMITS, weigh=wire.inputs)

#: Clocks differ: a listing is read this far beyond the moment asked for.
CLOCK_SKEW = 600.0
#: A label is unique, so that a look-up needs no time, only an end to its reading. What ours says
#: may be wrong, and was perhaps set since: by a month no clock gets through TLS, whose certificates
#: are renewed that long before they end.
_LOOK_BACK = 31 * 86400.0
_PAGE = 100


class OpenAI(Adapter):
    """OpenAI under the account that `environ` names.

    Parameters
    ----------
    environ
        A mapping like ``os.environ``: ``OPENAI_API_KEY``, ``OPENAI_BASE_URL``, ``OPENAI_ORG_ID``,
        ``OPENAI_PROJECT_ID`` and ``OPENAI_CUSTOM_HEADERS`` are read from it and from nowhere else.
    server
        Another server than `environ` names, see `Azure` and `Compatible`.
    """

    name: str = wire.PROVIDER
    #: An upload is known to take its time before it can be used.
    slow_files = False

    def __init__(self, environ: Mapping[str, str], server: Server | None = None) -> None:
        self._server = server or of_environ(environ)
        self.access = self._server.access
        self._files = Files(self._server, slow=self.slow_files)
        self._known_models: set[str] = set()

    # -- pure ----------------------------------------------------------------------------------

    def limits(self, endpoint: str) -> Limits:
        """Return the limits of one job."""
        return _EMBEDDING_LIMITS if wire.kind(endpoint) == "embeddings" else _LIMITS

    def validate(self, recipe: Recipe, model: str) -> None:  # noqa: ARG002
        """Raise `UsageProblem` for a recipe that OpenAI cannot take."""
        wire.validate(recipe)

    def encoder(self, recipe: Recipe, model: str) -> Encoder:
        """Return the function that makes one request line."""
        bounds = self.name != "azure" and not model.startswith("ft:")
        return wire.encoder(recipe, model, bounds=bounds)

    def meaning(self, recipe: Recipe, model: str) -> bytes:
        """Return the versioned record of what is meant."""
        return wire.meaning(recipe, model, self.name)

    def parse(self, line: bytes, endpoint: str) -> Result:
        """Read one line of an output or error file."""
        return results.parse(line, endpoint)

    def prompt_of(self, line: bytes) -> str:
        """Return the prompt of one request line."""
        return wire.prompt_of(line)

    # -- wire ----------------------------------------------------------------------------------

    async def upload(self, job: Job, payload: Path) -> str | None:
        """Bring the payload to OpenAI, after asking whether it knows the model at all."""
        await self.check_model(job.model)
        return await self._files.upload(job, payload)

    async def create(self, job: Job, payload: Path, upload_id: str | None, label: str) -> Remote:  # noqa: ARG002
        """Create the batch: one request; `Unclear` if it may exist."""
        if upload_id is None:
            raise Refused("the job has no uploaded file")
        await self._files.check_usable(upload_id)
        async with self._server.translated():
            answer = await self._server.connected().batches.with_raw_response.create(
                input_file_id=upload_id,
                endpoint=_literal(self._endpoint(job)),
                completion_window="24h",
                metadata={objects.LABEL: label},
                timeout=network.timeout(read=policy.LONG_CALL),
            )
            return objects.read_remote(answer.content)

    def _endpoint(self, job: Job) -> str:
        """Return what a create names as the endpoint."""
        return wire.path(job.endpoint)

    async def find(self, label: str, job: Job, since: float) -> Remote | None:  # noqa: ARG002
        """Look through the listing for the batch that carries `label`, whatever our clock says."""
        async for remote in self.list(since - _LOOK_BACK):
            if remote.label == label:
                return remote
        return None

    async def retrieve(self, remote_id: str) -> Remote:
        """Ask for one batch."""
        async with self._server.translated():
            answer = await self._server.connected().batches.with_raw_response.retrieve(
                remote_id, timeout=network.timeout()
            )
            return objects.read_remote(answer.content)

    async def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield batches newest first, down to those made a little before `since`."""
        async for remote in pages.read(self.access.who, self._page, lambda each: each.remote_id):
            if remote.created_at is not None and remote.created_at < since - CLOCK_SKEW:
                return
            yield remote

    async def cancel(self, remote_id: str) -> Remote | None:
        """Ask for the batch to be cancelled; one that has ended is returned as it is."""
        try:
            async with self._server.translated():
                answer = await self._server.connected().batches.with_raw_response.cancel(
                    remote_id, timeout=network.timeout()
                )
                return objects.read_remote(answer.content)
        except (Refused, Unclear) as exc:
            if exc.status not in {400, 409}:
                raise
            return await self.retrieve(remote_id)

    async def forget(self, job: Job) -> None:
        """Delete the uploaded file and the result files."""
        for ref in filter(None, (job.upload_id, *job.parts.values())):
            await self._files.delete(ref)

    async def fetch(self, remote_id: str, part: str, ref: str, sink: Sink) -> None:
        """Stream one result file into `sink`; `Incomplete` if it is cut short."""
        await downloads.stream(f"{part} of {remote_id}", self._files.content(ref), sink.write)

    async def check_model(self, model: str) -> None:
        """Refuse a model that the server says it does not have; any other trouble is ignored."""
        if model in self._known_models:
            return
        try:
            async with self._server.translated():
                await self._server.connected().models.with_raw_response.retrieve(
                    model, timeout=network.timeout(read=policy.LOOK)
                )
        except Vanished as exc:
            if exc.code == "model_not_found":
                raise Refused(
                    f"{self.access.who} does not know the model {model!r}, or this key may not use "
                    f"it: see {self._server.models_page}",
                    status=exc.status,
                    code=exc.code,
                ) from exc
        except LLMBatchError:
            return  # the call that follows meets the same trouble and tells it better
        self._known_models.add(model)

    async def ask(self, line: bytes, endpoint: str, model: str) -> Reply:  # noqa: ARG002
        """Send one request line to the endpoint that it names."""
        custom_id, path, body = wire.read_line(line)
        try:
            async with self._server.translated(), bounds.up_to(bounds.MAX_ANSWER):
                answer = await self._server.connected().post(
                    path,
                    cast_to=response_type(),
                    content=body,
                    options={
                        "headers": {"Content-Type": "application/json"},
                        "timeout": network.timeout(read=policy.ANSWER),
                    },
                )
        except Refused as exc:
            answer = refusal(exc)
        return Reply(
            line=results.line(custom_id, answer.status_code, answer.content),
            rooms=rate_limits.openai(answer.headers),
        )

    async def count(self, line: bytes, model: str) -> int:  # noqa: ARG002 - the line names it
        """Return the input tokens of one request line, as OpenAI counts them."""
        body = token_count.openai(line)
        async with self._server.translated():
            answer = await self._server.connected().responses.input_tokens.with_raw_response.count(
                extra_body=body, timeout=network.timeout()
            )
            return int(msgspec.json.decode(answer.content)["input_tokens"])

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        await self._server.close()

    # -- beneath -------------------------------------------------------------------------------

    async def _page(self, after: str) -> tuple[Sequence[Remote], str]:
        """Return one page and the cursor of the next."""
        from openai import omit

        async with self._server.translated():
            answer = await self._server.connected().batches.with_raw_response.list(
                after=after or omit, limit=_PAGE, timeout=network.timeout()
            )
            page, more = objects.read_page(answer.content)
            return page, page[-1].remote_id if more and page else ""


def _literal(path: str) -> Any:
    """Return `path` as the SDK's type, which lists some endpoints while any string goes out."""
    return path
