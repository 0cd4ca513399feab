"""What a call to a provider may take: which origin, how many bytes. Without any HTTP library."""

from __future__ import annotations

from contextvars import ContextVar
from urllib.parse import urlsplit

#: What the SDKs get instead of a key; `transport.Client` puts the key in its place.
PLACEHOLDER = "key-is-added-by-the-transport"

#: Decoded bytes of an answer that is read into memory.
MAX_BODY = 64 << 20
#: The same for one answer in real time, which may hold pictures, sound or vectors.
MAX_ANSWER = 256 << 20
#: The same for a Gemini job, which may hold the answers to all of its rows, twice.
MAX_INLINE = 512 << 20

_DEFAULT_PORTS = {"http": 80, "https": 443}

#: What `up_to` was given for the calls that are made now; empty for none.
_limit: ContextVar[tuple[int | None, ...]] = ContextVar("limit", default=())


def limit() -> int | None:
    """Return the bytes that an answer may have in the calls that are made now."""
    asked = _limit.get()
    return asked[0] if asked else MAX_BODY


class up_to:  # noqa: N801 - it is read as a phrase: `with up_to(n)`
    """Bound the answers of the calls within to `size` decoded bytes; None leaves it to a sink."""

    def __init__(self, size: int | None) -> None:
        self._size = size

    def __enter__(self) -> None:
        self._token = _limit.set((self._size,))

    def __exit__(self, *_: object) -> None:
        _limit.reset(self._token)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


def origin(url: str) -> str:
    """Return scheme, host and port of an address in one spelling; empty for none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    scheme = parts.scheme.lower()
    if port is None:
        port = _DEFAULT_PORTS.get(scheme, 0)
    return f"{scheme}://{(parts.hostname or '').lower()}:{port}"
