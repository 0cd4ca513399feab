"""What the rest of the package knows of a provider: `Adapter`, `Limits` and nothing else.

An adapter turns contents into request lines and result lines into `Result` (both pure), and
carries jobs over the wire. It holds no policy: when to poll, retry or give up is decided by the
lifecycle and the poller. A create goes out exactly once per call, with the SDK's retries off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from ..core.job import Account, Job, Remote, Reply
from ..core.request import Content, Limits, Recipe, Sink
from ..core.result import Result

__all__ = ["Adapter", "Encoder", "Limits"]

#: Encodes one request: ``(custom_id, content) -> one JSON line ending in a newline``.
Encoder = Callable[[str, Content], bytes]


class Adapter(Protocol):
    """One provider under one account.

    Constructed as ``Adapter(environ)`` where `environ` is a mapping like ``os.environ`` that
    holds the SDK's own variables (keys, base URLs); the SDK is imported on first network use.
    A key of ``NAME_API_KEY`` is put there wherever the client found it; `errors.redact` knows it.
    All network methods raise only `errors.ProviderError` and its subclasses or `Incomplete`.
    """

    name: str

    def __init__(self, environ: Mapping[str, str]) -> None: ...

    # -- pure ----------------------------------------------------------------------------------

    def limits(self, endpoint: str) -> Limits:
        """Return the limits of one job for `endpoint`."""
        ...

    def validate(self, recipe: Recipe, model: str) -> None:
        """Raise `UsageProblem` for a recipe that this provider cannot take."""
        ...

    def encoder(self, recipe: Recipe, model: str) -> Encoder:
        """Compile what all lines share, and return a function that makes one line.

        Images and files among the messages have the form that `parts` describes.
        """
        ...

    def meaning(self, recipe: Recipe, model: str) -> bytes:
        """Return the versioned record of what is meant, shared part; hashed with each content.

        It holds provider, endpoint, model, system prompt and parameters under our own names,
        and must never change between releases for the same meaning.
        """
        ...

    def parse(self, line: bytes, endpoint: str) -> Result:
        """Read one raw result line; shapes never seen before become ``failed``, never raise."""
        ...

    def prompt_of(self, line: bytes) -> str:
        """Return the prompt text of one request line, for people to read."""
        ...

    # -- account -------------------------------------------------------------------------------

    def check_key(self) -> None:
        """Raise `UsageProblem` naming the missing variable and where to get a key."""
        ...

    def account(self, salt: bytes) -> Account:
        """Return whose batches these are; the key only as a salted fingerprint."""
        ...

    # -- wire ----------------------------------------------------------------------------------

    async def upload(self, job: Job, payload: Path) -> str | None:
        """Bring the payload to the provider; None when `create` carries it itself."""
        ...

    async def create(self, job: Job, payload: Path, upload_id: str | None, label: str) -> Remote:
        """Create the remote job: one request, no SDK retries. `Unclear` if it may exist."""
        ...

    async def find(self, label: str, job: Job, since: float) -> Remote | None:
        """Look for the job a lost `create` may have made; None when the listing has none.

        A provider that keeps no label raises `Undecided` with the jobs that may be the one.
        """
        ...

    async def retrieve(self, remote_id: str) -> Remote:
        """Ask for one job."""
        ...

    def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield jobs created since `since` (Unix seconds) and a little before, newest first."""
        ...

    async def cancel(self, remote_id: str) -> Remote | None:
        """Ask the provider to cancel; what is done by then is still collected."""
        ...

    async def fetch(self, remote_id: str, part: str, ref: str, sink: Sink) -> None:
        """Stream one part of the results, verbatim, into `sink`.

        `Incomplete` (or `Unclear`) if it is cut short: it is fetched again from the beginning.
        """
        ...

    async def forget(self, job: Job) -> None:
        """Delete what the provider holds of an ended job, as far as it lets us."""
        ...

    async def release(self, job: Job) -> Decimal | None:
        """Delete what is stored for money while a job runs; return its USD, where known."""
        ...

    # -- in real time --------------------------------------------------------------------------

    async def check_model(self, model: str) -> None:
        """Raise `Refused` for a model that the provider says it has not; else, or unsure, pass."""
        ...

    async def ask(self, line: bytes, endpoint: str, model: str) -> Reply:
        """Send one request line through the ordinary endpoint, once, and return its result line.

        A request that the provider refuses for what it holds is a result too. Other trouble is
        raised as on the wire: `Busy` if it surely was not executed, `Unclear` if it may have been.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
