"""The HTTP client under all SDKs: holds the key, checks each address, bounds each answer.

Every request passes `Client.send`. There the key takes the place of `PLACEHOLDER`, which is all
that an SDK knows of it; a request to another origin (a redirect, an upload address, a results
address) is refused before anything is sent; and an answer is read only up to a size and a time.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx2

from ...core import policy
from ...core.secret import Secret
from . import bounds, network
from .bounds import PLACEHOLDER, origin

#: Bytes a second that a transfer must at least have, beside the time that any call has.
FLOOR = 1_000.0
#: Seconds that any call has beside its read timeouts.
GRACE = 60.0
#: Redirects in a row that are followed.
_HOPS = 5


class ForeignHost(httpx2.RequestError):
    """A request would have gone to another host than the provider's; it was not sent.

    Parameters
    ----------
    told
        Why, and where to.
    unclear
        Whether an earlier request of the same call may have taken effect.
    """

    def __init__(self, told: str, *, unclear: bool = False) -> None:
        super().__init__(told)
        self.unclear = unclear


class TooLarge(httpx2.RequestError):
    """An answer has more bytes than any right one."""


class Client(httpx2.AsyncClient):
    """A client of one account at one server.

    Parameters
    ----------
    base_url
        The server's base URL: its origin is the only one that gets the key.
    key
        Replaces `PLACEHOLDER` in the headers.
    also
        Further addresses of the provider, whose origins get requests, but never the key.
    **options
        As for `httpx2.AsyncClient`.
    """

    def __init__(
        self, base_url: str, key: Secret, *, also: tuple[str, ...] = (), **options: Any
    ) -> None:
        self._home = origin(base_url)
        self._allowed = {self._home, *map(origin, also)}
        self._secret = key
        super().__init__(**network.options(base_url), **options)

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **options: Any
    ) -> httpx2.Response:
        """Send a request of the provider's, and redirects that stay at its origin."""
        asked = options.pop("follow_redirects", None)
        follow = asked if isinstance(asked, bool) else self.follow_redirects
        first = request
        deadline = asyncio.get_running_loop().time() + _patience(request)
        for _ in range(_HOPS):
            self._prepare(request, first)
            try:
                async with asyncio.timeout_at(deadline):
                    response = await super().send(
                        request, stream=True, follow_redirects=False, **options
                    )
            except TimeoutError as error:
                raise httpx2.ReadTimeout("the answer takes too long", request=request) from error
            following = response.next_request
            if following is None or not follow:
                break
            await response.aclose()
            if following.method != first.method:
                # The request may have been carried out; only its answer is elsewhere.
                raise ForeignHost(
                    f"answered {response.status_code} to a {first.method} and named another "
                    "address: not followed",
                    unclear=response.status_code == 303,
                )
            request = following
        else:
            raise ForeignHost("redirects without end")
        _bound(response, deadline)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response

    def _prepare(self, request: httpx2.Request, first: httpx2.Request) -> None:
        """Check the address, put the key in, and ask only for what is decoded here."""
        url = str(request.url)
        target = origin(url)
        if target not in self._allowed:
            sent = "redirects" if request is not first else "wants this request sent"
            raise ForeignHost(
                f"{sent} to another server ({target}): refused, the key and the rows go to "
                f"{self._home} only"
            )
        request.headers["accept-encoding"] = "gzip, deflate"
        for name, value in request.headers.multi_items():
            if PLACEHOLDER in value:
                if target == self._home:
                    request.headers[name] = value.replace(PLACEHOLDER, self._secret.reveal())
                else:
                    del request.headers[name]


def client(base_url: str, key: Secret) -> Client:
    """Return a client as the SDKs have it by default, for one account."""
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    return Client(base_url, key, timeout=policy.ANSWER, limits=limits, follow_redirects=True)


def _patience(request: httpx2.Request) -> float:
    """Return the seconds that a call may take up to its answer's first byte."""
    timeouts: Mapping[str, float | None] = request.extensions.get("timeout") or {}
    size = int(request.headers.get("content-length") or 0)
    return 2 * (timeouts.get("read") or policy.ANSWER) + GRACE + size / FLOOR


def _bound(response: httpx2.Response, deadline: float) -> None:
    """Have the answer's body decoded and bounded here."""
    encodings = response.headers.get("content-encoding", "").lower()
    if encodings:
        del response.headers["content-encoding"]
    response.stream = _Bounded(response, response.stream, encodings, bounds.limit(), deadline)


class _Bounded(httpx2.AsyncByteStream):
    """A body that ends with an error when it is too large or takes too long."""

    def __init__(
        self,
        response: httpx2.Response,
        stream: Any,
        encodings: str,
        limit: int | None,
        deadline: float,
    ) -> None:
        self._request = response.request
        self._stream = stream
        self._encodings = encodings
        self._limit = limit
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decode = _decoder(self._encodings, self._request)
        raw = decoded = 0
        pieces = aiter(self._stream)
        while True:
            try:
                async with asyncio.timeout_at(self._deadline + raw / FLOOR):
                    piece = await anext(pieces, None)
            except TimeoutError as error:
                raise httpx2.ReadTimeout(
                    f"the answer takes too long ({raw:,} bytes so far)", request=self._request
                ) from error
            if piece is None:
                break
            raw += len(piece)
            for part in decode(piece):
                decoded += len(part)
                self._check(decoded)
                yield part
        for part in decode(None):
            decoded += len(part)
            self._check(decoded)
            yield part

    def _check(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise TooLarge(
                f"the answer is larger than {self._limit / 1e6:,.0f} MB: reading was stopped",
                request=self._request,
            )

    async def aclose(self) -> None:
        await self._stream.aclose()


#: Bytes that a decoder gives at once, whatever they were compressed to.
_PIECE = 1 << 20


def _decoder(encodings: str, request: httpx2.Request) -> Any:
    """Return what turns a body's piece (None: its end) into decoded pieces of bounded size."""
    names = [name.strip() for name in encodings.split(",") if name.strip() not in {"", "identity"}]
    if not names:
        return lambda piece: () if piece is None else (piece,)
    if names not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise httpx2.DecodingError(
            f"the answer is packed in a way that was not asked for ({encodings[:40]})",
            request=request,
        )
    return _Unpacker(request, plain=names == ["deflate"]).feed


class _Unpacker:
    """Gzip or deflate, a bounded piece at a time."""

    def __init__(self, request: httpx2.Request, *, plain: bool) -> None:
        self._request = request
        self._plain = plain
        self._object = zlib.decompressobj(zlib.MAX_WBITS if plain else zlib.MAX_WBITS | 16)
        self._fed = False

    def feed(self, piece: bytes | None) -> Iterator[bytes]:
        """Yield what `piece` unpacks to; None says that there is no more."""
        try:
            if piece is None:
                if self._fed and not self._object.eof:
                    raise httpx2.RemoteProtocolError(
                        "the packed answer was cut short", request=self._request
                    )
                return
            while piece:
                if self._object.eof:  # one more part behind it, as gzip allows
                    self._object = zlib.decompressobj(zlib.MAX_WBITS | 16)
                try:
                    part = self._object.decompress(piece, _PIECE)
                except zlib.error:
                    if self._fed or not self._plain:
                        raise
                    # Some servers mean the bare format.
                    self._object = zlib.decompressobj(-zlib.MAX_WBITS)
                    part = self._object.decompress(piece, _PIECE)
                self._fed = True
                if part:
                    yield part
                elif self._object.unconsumed_tail == piece:
                    break
                piece = self._object.unconsumed_tail or self._object.unused_data
        except zlib.error as error:
            raise httpx2.DecodingError(str(error), request=self._request) from error
