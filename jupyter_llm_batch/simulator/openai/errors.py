"""How OpenAI's endpoints refuse one request."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal of one request, as the endpoint words it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }
