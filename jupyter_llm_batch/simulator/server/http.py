"""The HTTP server: finds the route, meets the faults, keeps the log, streams both ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import msgspec
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body

from .control import Control, Seen, World
from .door import is_of_a_page
from .faults import Fault
from .multipart import BodyReader, FormReader
from .wire import Call, Provider, Refused, Reply, Route

#: Largest body; OpenAI takes files of 512 MB.
_MAX_BODY = 512 * 1024 * 1024
_CHUNK = 256 * 1024
#: Pieces in which a dripping answer is sent.
_DRIPS = 20
#: Bytes that a corrupted answer has lost.
_GARBLED = 16


def serve(world: World, port: int) -> tuple[HTTPServer, int]:
    """Listen on loopback, on any free port for 0, and return the server and its port."""
    providers: list[Provider] = [Control(world), *world.providers]
    application = Application(
        [(r".*", _Handler, {"world": world, "providers": providers})],
        log_function=lambda _handler: None,
    )
    # A little over the limit, so that a body above it gets the provider's own words.
    server = HTTPServer(application, max_body_size=2 * _MAX_BODY, chunk_size=1024 * 1024)
    sockets = bind_sockets(port, "127.0.0.1")
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


@stream_request_body
class _Handler(RequestHandler):
    def initialize(self, world: World, providers: list[Provider]) -> None:
        self._world = world
        self._providers = providers
        self._started = time.perf_counter()
        self._gone = asyncio.Event()
        self._fault: Fault | None = None
        self._body = bytearray()
        self._reader: FormReader | BodyReader | None = None
        self._refusal: Reply | None = None
        self._provider: Provider | None = None

    async def prepare(self) -> None:
        request = self.request
        self._world.last_request = time.monotonic()
        self._seen = Seen(
            method=request.method or "",
            path=request.path,
            status=None,
            at=self._world.clock.now(),
            retry_count=request.headers.get("x-stainless-retry-count"),
        )
        try:
            self._let_in()
        except Refused as refused:
            # Sent when the body has been read: an answer before that ends the connection, which
            # the client takes for one that it can go on using.
            self._refusal = refused.reply
        if self._fault is not None and self._fault.action == "drop":
            self.detach().close()

    def _let_in(self) -> None:
        """Find provider, fault, account and route, or raise `Refused`."""
        request = self.request
        # A page in the user's browser may resolve its own name to loopback; it is not meant.
        if request.host_name not in ("127.0.0.1", "localhost") or is_of_a_page(request.headers):
            raise Refused(Reply(b"", 403))
        for name, value in self._world.door.checked(request.headers).items():
            request.headers[name] = value
        for provider in self._providers:
            if request.path.startswith(provider.prefix + "/"):
                self._provider = provider
                break
        else:
            raise Refused(Reply(b"", 404))
        if not isinstance(provider, Control):
            self._world.seen.append(self._seen)
            self._fault = self._world.faults.find(self._seen.method, request.path)
        if self._fault is not None and self._fault.action == "status":
            raise Refused(_faulty(self._fault))
        self._account = provider.authenticate(request.headers)
        if int(request.headers.get("Content-Length", 0)) > _MAX_BODY + _CHUNK:
            raise Refused(provider.too_large())
        self._find_route(provider)
        if self._route.upload:
            content_type = request.headers.get("Content-Type", "")
            self._reader = FormReader(content_type, self._world.files.scratch())
        elif self._route.spool:
            self._reader = BodyReader(self._world.files.scratch())

    def _find_route(self, provider: Provider) -> None:
        path = self.request.path.removeprefix(provider.prefix)
        for route in provider.routes:
            found = route.pattern.fullmatch(path)
            if found and route.method == self.request.method:
                self._route: Route = route
                self._names = {name: unquote(text) for name, text in found.groupdict().items()}
                return
        raise Refused(provider.no_route(self._seen.method, path))

    def data_received(self, chunk: bytes) -> None:
        if self._reader is not None:
            self._reader.feed(chunk)
        elif self._refusal is None:
            self._body += chunk

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._gone.set()
        self._discard_upload()

    def _discard_upload(self) -> None:
        form = self._reader.close() if self._reader is not None else None
        if form is not None and form.file is not None:
            form.file.unlink(missing_ok=True)

    async def _serve(self) -> None:
        if self._refusal is not None:
            await self._send(self._refusal)
            return
        fault = self._fault
        if fault is not None and fault.action == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault is not None and fault.action == "freeze" and not await self._thawed(fault):
            self.detach().close()
            return
        form = self._reader.close() if self._reader is not None else None
        arguments = self.request.query_arguments
        try:
            reply = await self._route.handle(
                Call(
                    method=self._seen.method,
                    path=self.request.path,
                    query={name: values[-1].decode() for name, values in arguments.items()},
                    headers=self.request.headers,
                    account=self._account,
                    names=self._names,
                    body=bytes(self._body),
                    form=form,
                )
            )
        except Refused as refused:
            reply = refused.reply
        finally:
            self._discard_upload()
        if fault is not None and fault.action == "accept_then_status":
            reply = _faulty(fault)
        lost = fault is not None and (
            fault.action == "accept_then_drop"
            or (fault.action == "accept_then_freeze" and not await self._thawed(fault))
        )
        if lost:
            self.detach().close()
        else:
            await self._send(reply)

    get = post = delete = _serve

    async def _thawed(self, fault: Fault) -> bool:
        """Wait for the faults to be cleared; false if the client has gone before."""
        thaw, gone = self._world.faults.frozen(fault), self._gone.wait()
        waits = [asyncio.ensure_future(thaw), asyncio.ensure_future(gone)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return not self._gone.is_set()

    async def _send(self, reply: Reply) -> None:
        self._seen.status = reply.status
        self.set_status(reply.status)
        self.clear_header("Server")
        if self._provider is not None:
            taken = time.perf_counter() - self._started
            for name, value in self._provider.headers(taken).items():
                self.set_header(name, value)
        body = reply.body
        if not isinstance(body, (bytes, Path)):
            body = msgspec.json.encode(body)
        self.set_header("Content-Type", "application/json")
        for name, value in reply.headers.items():
            self.set_header(name, value)
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        fault = self._fault
        sent = int(size * fault.keep) if fault and fault.action == "truncate" else size
        if fault and fault.at_line:
            whole = body.read_bytes() if isinstance(body, Path) else body
            sent = whole.rfind(b"\n", 0, sent) + 1
        announced = sent if fault and fault.shorten_length else size
        self.set_header("Content-Length", str(announced))
        piece, pause = _CHUNK, 0.0
        if fault is not None and fault.action == "drip":
            piece, pause = max(1, size // _DRIPS), fault.seconds / _DRIPS
        try:
            at = 0
            async for part in _parts(body, sent, piece):
                if fault is not None and fault.action == "corrupt":
                    self.write(_garbled(part, int(size * fault.keep) - at))
                else:
                    self.write(part)
                at += len(part)
                await self.flush()
                await asyncio.sleep(pause)
            if sent == announced:
                await self.finish()
                return
        except StreamClosedError:
            pass
        self.detach().close()


def _faulty(fault: Fault) -> Reply:
    body = fault.body
    if body is None:
        body = {"error": {"message": "Simulated fault.", "type": "server_error", "code": None}}
    return Reply(body.encode() if isinstance(body, str) else body, fault.status, fault.headers)


def _garbled(part: bytes, start: int) -> bytes:
    """Return ``part`` with some bytes from ``start`` on that no text holds."""
    if not -_GARBLED < start < len(part):
        return part
    begin, end = max(start, 0), min(start + _GARBLED, len(part))
    return part[:begin] + b"\xff" * (end - begin) + part[end:]


async def _parts(body: bytes | Path, size: int, piece: int) -> AsyncIterator[bytes]:
    """Yield the first ``size`` bytes in pieces."""
    if isinstance(body, bytes):
        for start in range(0, size, piece):
            yield body[start : min(start + piece, size)]
        return
    with body.open("rb") as file:
        while size > 0 and (part := file.read(min(piece, size))):
            size -= len(part)
            yield part
