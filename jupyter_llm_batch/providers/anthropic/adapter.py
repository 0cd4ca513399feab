"""The Anthropic adapter: Message Batches.

The SDK carries the requests, with its own retries off: the poller repeats what may be repeated,
and a create must go out once. The requests of a batch are the body of its create, which is
streamed from the payload file. Answers are read from their bytes by the pure modules beside this.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ...core import policy
from ...core.errors import LLMBatchError, Refused, Unclear, Undecided, Vanished
from ...core.job import Job, Remote, Reply
from ...core.request import Recipe, Sink
from ...core.result import Result
from ..base import Adapter, Encoder, Limits
from ..shared import bounds, downloads, network, pages, rate_limits, token_count
from ..shared.access import response_type
from ..shared.errors import refusal, retry_after
from . import objects, results
from . import requests as wire
from .client import of_environ

if TYPE_CHECKING:
    from httpx2 import Response

_MODELS_PAGE = "https://platform.claude.com/docs/en/about-claude/models/overview"

#: 100,000 rows is exact, so it needs no margin; 256 MB leaves open which megabyte is meant. The
#: answer to a large create may be long in coming, and nothing of ours marks the batch: a look-up
#: takes its time before it says that there is none.
_LIMITS = Limits(
    requests=100_000,
    bytes=250_000_000,
    line_bytes=250_000_000,
    one_model=False,
    labelled=False,
    settle=600.0,
    # A batch does not read what ordinary calls wrote into the cache, nor do its own rows wait
    # for each other: one small batch goes ahead.
    primed=True,
)

_MESSAGES = "/v1/messages"
_BATCHES = "/v1/messages/batches"
#: Clocks differ: a listing is read this far beyond the moment asked for.
_CLOCK_SKEW = 600.0
#: A look-up goes this far back: what our clock said may be wrong by days, and it was perhaps set
#: since, so that no time that it told excludes a batch.
_LOOK_BACK = 7 * 86400.0
_PAGE = 100


class Anthropic(Adapter):
    """Anthropic under the account that `environ` names.

    The API demands a bound of output tokens: `Recipe.max_tokens`, or `anthropic_wire.MAX_TOKENS`
    where there is none.

    Parameters
    ----------
    environ
        A mapping like ``os.environ``: ``ANTHROPIC_API_KEY`` (or ``ANTHROPIC_AUTH_TOKEN``),
        ``ANTHROPIC_BASE_URL`` and ``ANTHROPIC_CUSTOM_HEADERS`` are read from it and from nowhere
        else; profiles on disk are not used.
    """

    name = wire.PROVIDER

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._server = of_environ(environ)
        self.access = self._server.access
        self._known_models: set[str] = set()

    # -- pure ----------------------------------------------------------------------------------

    def limits(self, endpoint: str) -> Limits:  # noqa: ARG002
        """Return the limits of one job."""
        return _LIMITS

    def validate(self, recipe: Recipe, model: str) -> None:  # noqa: ARG002
        """Raise `UsageProblem` for a recipe that Anthropic cannot take."""
        wire.validate(recipe, sampling=self._sampling)

    def encoder(self, recipe: Recipe, model: str) -> Encoder:
        """Return the function that makes one request line."""
        return wire.encoder(recipe, model, sampling=self._sampling)

    def meaning(self, recipe: Recipe, model: str) -> bytes:
        """Return the versioned record of what is meant."""
        return wire.meaning(recipe, model)

    def parse(self, line: bytes, endpoint: str) -> Result:  # noqa: ARG002
        """Read one line of the results."""
        return results.parse(line)

    def prompt_of(self, line: bytes) -> str:
        """Return the prompt of one request line."""
        return wire.prompt_of(line)

    # -- wire ----------------------------------------------------------------------------------

    async def upload(self, job: Job, payload: Path) -> str | None:  # noqa: ARG002
        """Upload nothing, since `create` carries the requests, but ask about the model first."""
        for model in job.models or [job.model]:
            await self.check_model(model)
        return None

    async def create(self, job: Job, payload: Path, upload_id: str | None, label: str) -> Remote:  # noqa: ARG002
        """Create the batch: one request; `Unclear` if it may exist."""
        length, body = wire.create_body(payload)
        async with self._server.translated():
            answer = await self._server.connected().post(
                _BATCHES,
                cast_to=response_type(),
                content=body,
                options={
                    "headers": {"Content-Length": str(length)},
                    "timeout": network.timeout(read=policy.ANSWER, write=policy.LONG_CALL),
                    # A body that is streamed cannot be sent a second time.
                    "follow_redirects": False,
                },
            )
            return objects.read_remote(answer.content)

    async def find(self, label: str, job: Job, since: float) -> Remote | None:  # noqa: ARG002
        """Look for batches of the right size; a batch carries no label that proves more.

        Raises
        ------
        Undecided
            With those batches. None is returned only when the listing holds no such batch.
        """
        listing = self._listed(since - _LOOK_BACK)
        found = [listed.remote async for listed in listing if listed.rows == job.rows]
        if found:
            ids = ", ".join(remote.remote_id for remote in found[:3])
            raise Undecided(
                f"{self.access.who} lists {len(found)} of {job.rows:,} rows ({ids})", found
            )
        return None

    async def retrieve(self, remote_id: str) -> Remote:
        """Ask for one batch."""
        async with self._server.translated():
            answer = await self._server.connected().messages.batches.with_raw_response.retrieve(
                remote_id, timeout=network.timeout()
            )
            return _remote(answer.http_response)

    async def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield batches newest first, down to those made a little before `since`."""
        async for listed in self._listed(since):
            yield listed.remote

    async def cancel(self, remote_id: str) -> Remote | None:
        """Ask for the batch to be cancelled; one that has ended is returned as it is."""
        try:
            async with self._server.translated():
                answer = await self._server.connected().messages.batches.with_raw_response.cancel(
                    remote_id, timeout=network.timeout()
                )
                return _remote(answer.http_response)
        except (Refused, Unclear) as exc:
            if exc.status not in {400, 409}:
                raise
            return await self.retrieve(remote_id)

    async def forget(self, job: Job) -> None:
        """Delete the batch, which holds requests and results; there are no files."""
        if job.remote_id is None:
            return
        with suppress(Vanished):
            async with self._server.translated():
                await self._server.connected().messages.batches.with_raw_response.delete(
                    job.remote_id, timeout=network.timeout()
                )

    async def count(self, line: bytes, model: str) -> int:  # noqa: ARG002 - the line names it
        """Return the input tokens of one request line, as Anthropic counts them."""
        body = token_count.anthropic(line)
        async with self._server.translated():
            answer = await self._server.connected().messages.with_raw_response.count_tokens(
                **body, timeout=network.timeout()
            )
            found: dict[str, Any] = msgspec.json.decode(answer.http_response.content)
            return int(found["input_tokens"])

    async def fetch(self, remote_id: str, part: str, ref: str, sink: Sink) -> None:
        """Stream the results into `sink`; `Incomplete` if they are cut short."""
        await downloads.stream(f"{part} of {remote_id}", self._content(ref), sink.write)

    async def ask(self, line: bytes, endpoint: str, model: str) -> Reply:  # noqa: ARG002
        """Send one request line to the Messages endpoint."""
        custom_id, body = wire.read_line(line)
        try:
            async with self._server.translated(), bounds.up_to(bounds.MAX_ANSWER):
                answer = await self._server.connected().post(
                    _MESSAGES,
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
            rooms=rate_limits.anthropic(answer.headers, time.time()),
        )

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        await self._server.close()

    # -- beneath -------------------------------------------------------------------------------

    @property
    def _sampling(self) -> bool:
        return self._server.headers.get(wire.VERSION) == wire.SAMPLING_VERSION

    @asynccontextmanager
    async def _content(self, ref: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the results of a batch."""
        from anthropic import AsyncStream

        async with self._server.translated(), bounds.up_to(None):
            # Asked for as a stream and as the bare response, it comes with its body unread.
            answer: Any = await self._server.connected().get(
                f"{_BATCHES}/{ref}/results",
                cast_to=response_type(),
                options={
                    "headers": {"Accept": "application/binary"},
                    "timeout": network.timeout(read=policy.LONG_CALL),
                },
                stream=True,
                stream_cls=AsyncStream[Any],
            )
            try:
                yield answer.aiter_bytes(downloads.PIECE)
            finally:
                await answer.aclose()

    async def _listed(self, since: float) -> AsyncIterator[objects.Listed]:
        """Yield batches newest first, down to those made a little before `since`."""
        listing = pages.read(self.access.who, self._page, lambda each: each[0].remote.remote_id)
        async for listed, ahead in listing:
            # The server's clock counts, whatever ours says and wherever it stood at `since`.
            oldest = since + min(ahead, 0.0) - _CLOCK_SKEW
            created_at = listed.remote.created_at
            if created_at is not None and created_at < oldest:
                return
            yield listed

    async def _page(self, after: str) -> tuple[Sequence[tuple[objects.Listed, float]], str]:
        """Return one page, with how far the server's clock is ahead, and the next cursor."""
        from anthropic import omit

        async with self._server.translated():
            answer = await self._server.connected().messages.batches.with_raw_response.list(
                after_id=after or omit, limit=_PAGE, timeout=network.timeout()
            )
            response = answer.http_response
            page, more = objects.read_page(response.content)
            ahead = _ahead(response.headers.get("date"))
            following = page[-1].remote.remote_id if more and page else ""
            return [(listed, ahead) for listed in page], following

    async def check_model(self, model: str) -> None:
        """Refuse a model that is not there or takes no batches; other trouble is ignored.

        Anthropic reads the rows only after it has accepted them, so that a mistyped model would
        show hours later, as many errors as there are rows.
        """
        if model in self._known_models or model == "mixed":
            return
        try:
            async with self._server.translated():
                answer = await self._server.connected().models.with_raw_response.retrieve(
                    model, timeout=network.timeout(read=policy.LOOK)
                )
                usable = objects.takes_batches(answer.http_response.content)
        except Vanished as exc:
            # A server without this endpoint answers 404 too, but does not name the model.
            if model in str(exc):
                raise Refused(
                    f"{self.access.who} does not know the model {model!r}, or this key may not use "
                    f"it: see {_MODELS_PAGE}",
                    status=exc.status,
                    code=exc.code,
                ) from exc
            return
        except LLMBatchError:
            return  # the create that follows meets the same trouble and tells it better
        if not usable:
            raise Refused(
                f"{self.access.who} takes no batches for the model {model!r}: choose another"
            )
        self._known_models.add(model)


def _remote(response: Response) -> Remote:
    return objects.read_remote(response.content, retry_after(response.headers, time.time()))


def _ahead(date: str | None) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time() if date else 0.0
    except ValueError:
        return 0.0
