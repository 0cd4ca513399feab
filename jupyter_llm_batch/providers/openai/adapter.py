"""The OpenAI adapter, for OpenAI itself, Azure's ``/openai/v1`` and compatible servers.

The SDK carries the requests, with its own retries off: the poller repeats what may be repeated,
and a create must go out once. Answers are read from their bytes by the pure modules beside this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from ...core import policy
from ...core.errors import (
    Busy,
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
from ..base import Encoder, Limits
from ..shared import bounds, network, pages, rate_limits, token_count
from ..shared.addresses import custom_headers, normalised
from ..shared.errors import no_key, refusal
from . import objects, results
from . import requests as wire
from .client import (
    _DEFAULT_URL,
    _KEYS_PAGE,
    BASE_URL,
    HEADERS,
    KEY,
    _client,
    _response_type,
    translate,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_MODELS_PAGE = "https://platform.openai.com/docs/models"

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
_PIECE = 1 << 20
#: Seconds until an upload that is still being processed is looked at again.
_PENDING = 10.0


class OpenAI:
    """OpenAI under the account that `environ` names.

    Parameters
    ----------
    environ
        A mapping like ``os.environ``: ``OPENAI_API_KEY``, ``OPENAI_BASE_URL``, ``OPENAI_ORG_ID``,
        ``OPENAI_PROJECT_ID`` and ``OPENAI_CUSTOM_HEADERS`` are read from it and from nowhere else.
    """

    name: str = wire.PROVIDER
    key_variable: str = KEY
    #: What names the server, for messages.
    address_variable: str = BASE_URL
    keys_page: str = _KEYS_PAGE
    #: An upload is known to take its time before it can be used.
    slow_files = False

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._key = Secret(environ.get(self.key_variable, "").strip())
        self._base_url = self._address(environ)
        self._headers = self._custom_headers(environ)
        # These two say whose batches they are, whichever way they are given.
        organization, project = (
            self._headers.pop(name, "") for name in ("openai-organization", "openai-project")
        )
        named = self._organisation(environ)
        self._organization, self._project = named[0] or organization, named[1] or project
        self._client: AsyncOpenAI | None = None
        self._known_models: set[str] = set()
        #: Uploads that the server was not through with when they came.
        self._unfinished: set[str] = set()

    def _address(self, environ: Mapping[str, str]) -> str:
        return normalised(environ.get(BASE_URL, "").strip() or _DEFAULT_URL, BASE_URL)

    def _custom_headers(self, environ: Mapping[str, str]) -> dict[str, str]:
        return custom_headers(environ.get(HEADERS, ""))

    def _organisation(self, environ: Mapping[str, str]) -> tuple[str, str]:
        names = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
        organization, project = (environ.get(name, "").strip() for name in names)
        return organization, project

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

    # -- account -------------------------------------------------------------------------------

    def check_key(self) -> None:
        """Raise `UsageProblem` when there is no usable key, or the network's settings are wrong."""
        if not self._key:
            raise UsageProblem(no_key(self.key_variable, self.name, self.keys_page))
        if not self._key.fits_a_header():
            raise UsageProblem(
                f"{self.key_variable} holds characters that no key has: copy it again"
            )
        network.check(self._base_url)

    def account(self, salt: bytes) -> Account:
        """Return whose batches these are; the key only as a salted fingerprint."""
        return Account(
            base_url=self._base_url,
            organisation="/".join(filter(None, (self._organization, self._project))),
            fingerprint=self._key.fingerprint(salt),
        )

    # -- wire ----------------------------------------------------------------------------------

    async def upload(self, job: Job, payload: Path) -> str | None:
        """Bring the payload to OpenAI, after asking whether it knows the model at all."""
        await self.check_model(job.model)
        try:
            # An open file is streamed from disk; a path would be read into memory by the SDK.
            with payload.open("rb") as file:
                async with self._translated():
                    answer = await self._connected().files.with_raw_response.create(
                        file=(f"{job.id}.jsonl", file, "application/jsonl"),
                        purpose="batch",
                        timeout=network.timeout(read=policy.ANSWER, write=policy.LONG_CALL),
                    )
                    return self._uploaded(objects.read_file(answer.content))
        except Refused as exc:
            if exc.status not in {404, 405, 501} or self._base_url == _DEFAULT_URL:
                raise
            raise Refused(
                f"{self._who} takes no batches ({exc.status} for its files): run the cell with "
                "--realtime",
                status=exc.status,
                code=exc.code,
            ) from exc

    async def create(self, job: Job, payload: Path, upload_id: str | None, label: str) -> Remote:  # noqa: ARG002
        """Create the batch: one request; `Unclear` if it may exist."""
        if upload_id is None:
            raise Refused("the job has no uploaded file")
        await self._check_file(upload_id)
        async with self._translated():
            answer = await self._connected().batches.with_raw_response.create(
                input_file_id=upload_id,
                endpoint=_literal(self._endpoint(job)),
                completion_window="24h",
                metadata={objects.LABEL: label},
                timeout=network.timeout(read=policy.LONG_CALL),
            )
            return objects.read_remote(answer.content)

    def _uploaded(self, file: objects.File) -> str:
        if file.usable is None:
            self._unfinished.add(file.id)
        return file.id

    async def _check_file(self, upload_id: str) -> None:
        """Raise `Busy` while the server is not through with an upload, `Refused` if it never is.

        OpenAI's files can be used at once. Of a server where that is not so, this process may not
        have seen the upload.
        """
        if not self.slow_files and upload_id not in self._unfinished:
            return
        try:
            async with self._translated():
                answer = await self._connected().files.with_raw_response.retrieve(
                    upload_id, timeout=network.timeout()
                )
                file = objects.read_file(answer.content)
        except KeyRefused:
            raise
        except LLMBatchError:
            return  # not every server tells of its files, and other trouble the create meets, too
        if file.usable is None:
            raise Busy(f"{self._who} is still processing the uploaded file", retry_after=_PENDING)
        self._unfinished.discard(upload_id)
        if not file.usable:
            raise Refused(f"{self._who} cannot use the uploaded file: {file.reason}")

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
        async with self._translated():
            answer = await self._connected().batches.with_raw_response.retrieve(
                remote_id, timeout=network.timeout()
            )
            return objects.read_remote(answer.content)

    async def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield batches newest first, down to those made a little before `since`."""
        async for remote in pages.read(self._who, self._page, lambda each: each.remote_id):
            if remote.created_at is not None and remote.created_at < since - CLOCK_SKEW:
                return
            yield remote

    async def cancel(self, remote_id: str) -> Remote | None:
        """Ask for the batch to be cancelled; one that has ended is returned as it is."""
        try:
            async with self._translated():
                answer = await self._connected().batches.with_raw_response.cancel(
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
            with suppress(Vanished):
                async with self._translated():
                    await self._connected().files.with_raw_response.delete(
                        ref, timeout=network.timeout()
                    )

    async def fetch(self, remote_id: str, part: str, ref: str, sink: Sink) -> None:
        """Stream one result file into `sink`; `Incomplete` if it is cut short."""
        started = False
        try:
            async with (
                self._translated(),
                bounds.up_to(None),
                self._connected().files.with_streaming_response.content(
                    ref, timeout=network.timeout(read=policy.LONG_CALL)
                ) as answer,
            ):
                started = True
                # httpx2 holds what arrives against content-length, or the end of the chunks.
                async for piece in answer.iter_bytes(_PIECE):
                    sink.write(piece)
        except Unclear as exc:
            if started:
                raise Incomplete(f"{part} of {remote_id} was cut short: {exc}") from exc
            raise

    async def check_model(self, model: str) -> None:
        """Refuse a model that the server says it does not have; any other trouble is ignored."""
        if model in self._known_models:
            return
        try:
            async with self._translated():
                await self._connected().models.with_raw_response.retrieve(
                    model, timeout=network.timeout(read=policy.LOOK)
                )
        except Vanished as exc:
            if exc.code == "model_not_found":
                raise Refused(
                    f"{self._who} does not know the model {model!r}, or this key may not use it: "
                    f"see {self._models_page}",
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
            async with self._translated(), bounds.up_to(bounds.MAX_ANSWER):
                answer = await self._connected().post(
                    path,
                    cast_to=_response_type(),
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
        async with self._translated():
            answer = await self._connected().responses.input_tokens.with_raw_response.count(
                extra_body=body, timeout=network.timeout()
            )
            return int(msgspec.json.decode(answer.content)["input_tokens"])

    async def release(self, job: Job) -> None:
        """Return None: nothing is stored for a running job."""

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- beneath -------------------------------------------------------------------------------

    def _connected(self) -> AsyncOpenAI:
        if self._client is None:
            try:
                self.check_key()
            except UsageProblem as exc:
                raise KeyRefused(str(exc)) from exc
            self._client = _client(
                self._key, self._base_url, self._organization, self._project, self._headers
            )
        return self._client

    async def _page(self, after: str) -> tuple[Sequence[Remote], str]:
        """Return one page and the cursor of the next."""
        from openai import omit

        async with self._translated():
            answer = await self._connected().batches.with_raw_response.list(
                after=after or omit, limit=_PAGE, timeout=network.timeout()
            )
            page, more = objects.read_page(answer.content)
            return page, page[-1].remote_id if more and page else ""

    @property
    def _who(self) -> str:
        if self._base_url == _DEFAULT_URL:
            return "OpenAI"
        return urlsplit(self._base_url).netloc.rpartition("@")[2] or "OpenAI"

    @property
    def _models_page(self) -> str:
        return _MODELS_PAGE if self._base_url == _DEFAULT_URL else f"{self._base_url}/models"

    def _translated(self) -> AbstractAsyncContextManager[None]:
        hint = f"(check {self.key_variable}{': ' if self.keys_page else ''}{self.keys_page})"
        return translate(self._who, self.address_variable, hint)


def _literal(path: str) -> Any:
    """Return `path` as the SDK's type, which lists some endpoints while any string goes out."""
    return path
