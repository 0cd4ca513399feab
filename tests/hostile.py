"""A loopback server whose answers are written by the test, byte for byte."""

from __future__ import annotations

import gzip
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Asked(NamedTuple):
    """A request: its path has no query."""

    method: str
    path: str
    headers: Message
    body: bytes


class Hostile:
    """Serves what `answer` does with each request's handler, and keeps what was received."""

    def __init__(self, answer=None) -> None:
        self.answer = answer or (lambda handler: send(handler, b"{}"))
        self.asked: list[Asked] = []

    def __enter__(self) -> Self:
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = urlsplit(self.path).path
                hostile.asked.append(Asked(self.command, path, self.headers, body))
                try:
                    hostile.answer(self)
                except OSError:
                    self.close_connection = True  # the client has had enough

            do_GET = do_DELETE = do_POST  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


def send(handler, body, status=200, **headers):
    """Send a whole answer."""
    handler.send_response_only(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def endless(handler, piece, pause=lambda: None):
    """Send `piece` for ever."""
    handler.send_response_only(200)
    handler.send_header("connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(piece)
        handler.wfile.flush()
        pause()


def bomb(size):
    """Return `size` blanks, packed."""
    return gzip.compress(b" " * size, compresslevel=9)
