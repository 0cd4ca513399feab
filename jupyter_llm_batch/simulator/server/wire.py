"""What passes between the HTTP server and a provider: calls, replies, routes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .multipart import Form

#: Keys that the simulator takes begin with this, so that a real key is never used by mistake.
KEY_PREFIX = "sim-"


@dataclass(frozen=True, slots=True)
class Call:
    """One request that found its route and has been let in."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    account: str
    #: Parts of the path that the route names.
    names: Mapping[str, str]
    body: bytes
    form: Form | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: JSON for anything but bytes and paths, whose files are streamed."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A call ends with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; the pattern is matched against the whole path below the prefix."""

    method: str
    pattern: re.Pattern[str]
    handle: Callable[[Call], Awaitable[Reply]]
    #: Whether the body is a form with a file, which then goes to disk as it arrives.
    upload: bool = False
    #: Whether the whole body goes to disk as it arrives, as the file of a form without fields.
    spool: bool = False


class Provider(Protocol):
    """One provider's endpoints."""

    #: First part of the path, such as ``/openai``.
    prefix: str
    routes: list[Route]

    def authenticate(self, headers: Mapping[str, str], /) -> str:
        """Return the account of a request, or raise `Refused`."""

    def no_route(self, method: str, path: str) -> Reply:
        """Return the reply for an address that does not exist."""

    def too_large(self) -> Reply:
        """Return the reply for a body that is over the limit."""

    def headers(self, seconds: float, /) -> dict[str, str]:
        """Return the headers of each reply; ``seconds`` is what it took."""


def account_of(key: str) -> str:
    """Return the name under which a key's objects are kept; never the key.

    Keys that differ only behind their first dot, ``sim-mine.1`` and ``sim-mine.2``, are of one
    account, as when a key is replaced.
    """
    return hashlib.sha256(key.partition(".")[0].encode()).hexdigest()[:16]
