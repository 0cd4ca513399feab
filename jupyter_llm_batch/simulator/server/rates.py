"""Rate limits of the endpoints that answer at once, and the headers that speak of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec


class Taken(msgspec.Struct, frozen=True):
    """One request against a limit: whether it may pass, what is left, and until when."""

    passes: bool
    limit: int
    left: int
    reset: float

    def openai(self) -> dict[str, str]:
        """Return OpenAI's headers."""
        headers = {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.left),
            "x-ratelimit-reset-requests": f"{max(1, int(self.reset * 1000))}ms",
        }
        return headers if self.passes else headers | {"retry-after-ms": self._milliseconds()}

    def anthropic(self, now: float) -> dict[str, str]:
        """Return Anthropic's headers, whose times are whole seconds."""
        moment = datetime.fromtimestamp(math.ceil(now + self.reset), UTC)
        headers = {
            "anthropic-ratelimit-requests-limit": str(self.limit),
            "anthropic-ratelimit-requests-remaining": str(self.left),
            "anthropic-ratelimit-requests-reset": moment.isoformat().replace("+00:00", "Z"),
        }
        return headers if self.passes else headers | {"retry-after": str(math.ceil(self.reset))}

    def _milliseconds(self) -> str:
        return str(max(1, math.ceil(self.reset * 1000)))


class Rates:
    """Counts requests by account in windows of fixed length."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def take(
        self, provider: str, account: str, limit: int | None, seconds: float, now: float
    ) -> Taken | None:
        """Count one request; None without a limit."""
        if limit is None:
            return None
        began, count = self._windows.get((provider, account), (now, 0))
        if now >= began + seconds:
            began, count = now, 0
        passes = count < limit
        count += passes
        self._windows[provider, account] = began, count
        return Taken(passes, limit, limit - count, began + seconds - now)
