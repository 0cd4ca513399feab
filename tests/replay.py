"""A loopback server that answers what was recorded, and remembers what it was asked."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from urllib.parse import urlsplit

from hostile import Hostile, send


class Replay(Hostile):
    """Answers each method and path with its recorded responses in their order, the last for ever.

    `exchanges` are ``{"request": {"method", "uri"}, "response": {"status", "headers", "body"}}``;
    anything that was not recorded is a 404 without a body.
    """

    def __init__(self, exchanges: list[dict]) -> None:
        super().__init__(self._replay)
        self._answers: dict[tuple[str, str], deque[dict]] = defaultdict(deque)
        for exchange in exchanges:
            request = exchange["request"]
            key = (request["method"], urlsplit(request["uri"]).path)
            self._answers[key].append(exchange["response"])

    def _replay(self, handler) -> None:
        waiting = self._answers.get((handler.command, urlsplit(handler.path).path))
        response = {"status": 404, "headers": {}, "body": ""}
        if waiting:
            response = waiting.popleft() if len(waiting) > 1 else waiting[0]
        sent = response["body"]
        raw = (sent if isinstance(sent, str) else json.dumps(sent)).encode()
        send(handler, raw, response["status"], **response["headers"])
