"""The adapter of a provider: a base class with few required methods, and protocols for the rest.

An adapter turns contents into request lines and result lines into `Result` (both pure), and
carries jobs over the wire. It holds no policy: when to poll, retry or give up is decided by the
lifecycle and the poller. A create goes out exactly once per call, with the SDK's retries off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MethodType
from typing import Any, Protocol, runtime_checkable

import msgspec

from ..core.errors import Refused, UsageProblem
from ..core.job import Account, Job, Remote, Reply
from ..core.request import Content, Limits, Recipe, Sink
from ..core.result import Result
from ..core.secret import Secret
from .shared.access import Access
from .shared.addresses import key_variables, normalised

__all__ = ["Adapter", "Counting", "Encoder", "Limits", "RealTime", "completed", "realtime_of"]

#: Encodes one request: ``(custom_id, content) -> one JSON line ending in a newline``.
Encoder = Callable[[str, Content], bytes]

_canonical = msgspec.json.Encoder(order="deterministic").encode


class Adapter(ABC):
    """One provider under one account.

    Required: `name`, `limits`, `encoder`, `parse`, `create`, `retrieve`, `list` and `fetch`. All
    other methods have defaults. An adapter with `ask` can do real time (`RealTime`); one with
    `count` can count tokens (`Counting`).

    All network methods raise only `errors.ProviderError` and its subclasses or `Incomplete`.

    Parameters
    ----------
    environ
        A mapping like ``os.environ`` with the SDK's own variables (keys, base URLs). The key of
        ``NAME_API_KEY`` is put there wherever the client found it; `errors.redact` knows it.

    Attributes
    ----------
    name
        The provider's name, as in ``name:model``.
    default_url
        The provider's address where ``NAME_BASE_URL`` names no other.
    keys_page
        Where a user gets a key, for messages.
    access
        Key and base URL, read by `__init__` from ``NAME_API_KEY`` and ``NAME_BASE_URL``. No repr
        shows the key; ``access.key.reveal()`` is its text.
    """

    name: str
    default_url: str = ""
    keys_page: str = ""
    access: Access

    def __init__(self, environ: Mapping[str, str]) -> None:
        variable = key_variables(self.name)[0]
        address = variable.removesuffix("_API_KEY") + "_BASE_URL"
        url = environ.get(address, "").strip() or self.default_url
        self.access = Access(
            self.name,
            Secret(environ.get(variable, "").strip()),
            variable,
            normalised(url, address),
            default_url=self.default_url,
            keys_page=self.keys_page,
        )

    # -- requests and results: pure ------------------------------------------------------------

    @abstractmethod
    def limits(self, endpoint: str) -> Limits:
        """Return the limits of one job for `endpoint`."""

    @abstractmethod
    def encoder(self, recipe: Recipe, model: str) -> Encoder:
        """Compile what all lines share, and return a function that makes one line.

        Images and files among the messages have the form that `shared.media` describes.
        """

    @abstractmethod
    def parse(self, line: bytes, endpoint: str) -> Result:
        """Read one raw result line; shapes never seen before become ``failed``, never raise."""

    def validate(self, recipe: Recipe, model: str) -> None:  # noqa: ARG002
        """Raise `UsageProblem` for a recipe that this provider cannot take: here all but chat."""
        if recipe.endpoint != "chat" or recipe.raw or recipe.schema is not None:
            raise UsageProblem(
                f"{self.name} answers plain prompts: no --endpoint, --raw or --schema"
            )

    def meaning(self, recipe: Recipe, model: str) -> bytes:
        """Return the versioned record of what is meant, shared part; hashed with each content.

        It holds provider, endpoint, model, system prompt and parameters under our own names,
        and must never change between releases for the same meaning.
        """
        meant = {
            "provider": self.name,
            "endpoint": recipe.endpoint,
            "model": model,
            "system": recipe.system,
            "max_tokens": recipe.max_tokens,
            "params": recipe.params,
            "raw": recipe.raw,
            "schema": recipe.schema,
        }
        return b"adapter 1 " + _canonical(meant)

    def prompt_of(self, line: bytes) -> str:
        """Return the prompt text of one request line, for people to read: here the line itself."""
        return line.decode(errors="replace").strip()

    # -- account -------------------------------------------------------------------------------

    def check_key(self) -> None:
        """Raise `UsageProblem` naming the missing variable and where to get a key."""
        self.access.check()

    def account(self, salt: bytes) -> Account:
        """Return whose batches these are; the key only as a salted fingerprint."""
        return self.access.account(salt)

    # -- wire: required ------------------------------------------------------------------------

    @abstractmethod
    async def create(self, job: Job, payload: Path, upload_id: str | None, label: str) -> Remote:
        """Create the remote job: one request, no SDK retries. `Unclear` if it may exist."""

    @abstractmethod
    async def retrieve(self, remote_id: str) -> Remote:
        """Ask for one job."""

    @abstractmethod
    def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield jobs created since `since` (Unix seconds) and a little before, newest first."""

    @abstractmethod
    async def fetch(self, remote_id: str, part: str, ref: str, sink: Sink) -> None:
        """Stream one part of the results, verbatim, into `sink`.

        `Incomplete` (or `Unclear`) if it is cut short: it is fetched again from the beginning.
        """

    # -- wire: with defaults -------------------------------------------------------------------

    async def upload(self, job: Job, payload: Path) -> str | None:  # noqa: ARG002
        """Bring the payload to the provider; None when `create` carries it itself."""
        return None

    async def find(self, label: str, job: Job, since: float) -> Remote | None:  # noqa: ARG002
        """Look for the job a lost `create` may have made; None when the listing has none.

        A provider that keeps no label raises `Undecided` with the jobs that may be the one.
        """
        async for remote in self.list(since):
            if remote.label == label:
                return remote
        return None

    async def cancel(self, remote_id: str) -> Remote | None:  # noqa: ARG002
        """Ask the provider to cancel; what is done by then is still collected.

        Here it cannot: the job runs to its end.
        """
        return None

    async def check_model(self, model: str) -> None:  # noqa: B027 - most cannot tell
        """Raise `Refused` for a model that the provider says it has not; else, or unsure, pass."""

    async def forget(self, job: Job) -> None:  # noqa: B027 - many keep nothing
        """Delete what the provider holds of an ended job, as far as it lets us."""

    async def release(self, job: Job) -> Decimal | None:  # noqa: ARG002
        """Delete what is stored for money while a job runs; return its USD, where known."""
        return None

    async def close(self) -> None:  # noqa: B027 - many have nothing to close
        """Close connections; a later call opens new ones."""


@runtime_checkable
class RealTime(Protocol):
    """An adapter that can send single requests: ``--realtime``, ``--sample``, ``--deadline``."""

    async def ask(self, line: bytes, endpoint: str, model: str) -> Reply:
        """Send one request line through the ordinary endpoint, once, and return its result line.

        A request that the provider refuses for what it holds is a result too. Other trouble is
        raised as on the wire: `Busy` if it surely was not executed, `Unclear` if it may have been.
        """
        ...


@runtime_checkable
class Counting(Protocol):
    """An adapter whose provider counts the tokens of a request: ``--count``."""

    async def count(self, line: bytes, model: str) -> int:
        """Return the input tokens of one request line, as the provider counts them."""
        ...


def check_realtime(adapter: Adapter, option: str) -> None:
    """Raise `UsageProblem` where `option` needs real time and the provider has none."""
    if not isinstance(adapter, RealTime):
        raise UsageProblem(
            f"{adapter.name} has no real time, which {option} needs: leave {option} out"
        )


def realtime_of(adapter: Adapter) -> RealTime:
    """Return what sends single requests; raise `Refused` where the provider has no real time."""
    if not isinstance(adapter, RealTime):
        raise Refused(f"{adapter.name} has no real time: nothing was sent")
    return adapter


def completed(name: str, adapter: Any) -> Adapter:
    """Return an adapter of another package with the defaults for what it lacks.

    Its class need not derive from `Adapter`.

    Raises
    ------
    UsageProblem
        It lacks a required method.
    """
    if isinstance(adapter, Adapter):
        return adapter
    for each in sorted(Adapter.__abstractmethods__):
        if not hasattr(adapter, each):
            raise UsageProblem(f"the adapter of {name!r} has no {each}: update its package")
    for each, default in vars(Adapter).items():
        if callable(default) and not each.startswith("_") and not hasattr(adapter, each):
            setattr(adapter, each, MethodType(default, adapter))
    whole: Adapter = adapter
    return whole
