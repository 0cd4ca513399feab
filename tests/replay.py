"""A loopback server that answers what was recorded, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Asked(NamedTuple):
    method: str
    path: str
    headers: Message
    body: bytes


class Replay:
    """Answers each method and path with its recorded responses in their order, the last for ever.

    `exchanges` are ``{"request": {"method", "uri"}, "response": {"status", "headers", "body"}}``;
    anything that was not recorded is a 404 without a body.
    """

    def __init__(self, exchanges: list[dict]) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], deque[dict]] = defaultdict(deque)
        for exchange in exchanges:
            request = exchange["request"]
            key = (request["method"], urlsplit(request["uri"]).path)
            self._answers[key].append(exchange["response"])

    def __enter__(self) -> Self:
        replay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = urlsplit(self.path).path
                replay.asked.append(Asked(self.command, path, self.headers, body))
                waiting = replay._answers.get((self.command, path))
                response = {"status": 404, "headers": {}, "body": ""}
                if waiting:
                    response = waiting.popleft() if len(waiting) > 1 else waiting[0]
                sent = response["body"]
                raw = (sent if isinstance(sent, str) else json.dumps(sent)).encode()
                self.send_response_only(response["status"])
                for name, value in response["headers"].items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST  # noqa: N815

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
