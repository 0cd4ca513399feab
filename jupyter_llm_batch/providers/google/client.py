"""What the SDK, httpx2 and Google's error answers mean for us."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ...core.errors import KeyRefused, LLMBatchError, ProviderError, Unclear, Vanished
from ..shared.errors import from_status, from_transport, hushed, one_line, retry_after

BASE_URL = "GOOGLE_GEMINI_BASE_URL"


@asynccontextmanager
async def translate(who: str, key_hint: str) -> AsyncIterator[None]:
    """Turn whatever the SDK, httpx2 or a strange answer raises into our errors."""
    import ssl

    import anyio
    import httpx2
    from google.genai import errors

    try:
        yield
    except errors.APIError as exc:
        raise hushed(_from_answer(exc, who, key_hint), exc) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, anyio.EndOfStream) as exc:
        raise hushed(from_transport(exc, who, BASE_URL), exc) from None
    except LLMBatchError:
        raise
    except (ValueError, LookupError, TypeError, errors.ContinuationInterruptedError) as exc:
        # The SDK raises plain errors for an upload without its headers, or a body of no JSON.
        raise Unclear(
            f"{who} gave an answer that is no Gemini answer ({type(exc).__name__}): "
            f"check {BASE_URL}"
        ) from exc


def _from_answer(exc: Any, who: str, key_hint: str) -> ProviderError:
    message = exc.message if isinstance(exc.message, str) else ""
    if message.lstrip().startswith("<"):
        message = ""  # pages of proxies are HTML; their status says as much as they do
    details = _details(exc.details)
    code = exc.status if isinstance(exc.status, str) else None
    status = exc.code
    if any(each.get("reason") == "API_KEY_INVALID" for each in details):
        told = f"{who} answered {status}: {one_line(message)} {key_hint}"
        return KeyRefused(told, status=status, code="API_KEY_INVALID")
    if status == 403 and ("may not exist" in message or message.startswith("CachedContent not")):
        # So it speaks of files and caches, so as not to tell whether another account has them.
        return Vanished(f"{who} answered 403: {one_line(message)}", status=status, code=code)
    wait = retry_after(exc.response.headers, time.time())
    return from_status(
        status,
        message,
        who,
        code=code,
        quota=status == 429 and "check your plan and billing" in message,
        wait=_retry_delay(details) if wait is None else wait,
        key_hint=key_hint,
    )


def _details(body: Any) -> list[dict[str, Any]]:
    error = body.get("error") if isinstance(body, dict) else None
    found = error.get("details") if isinstance(error, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    """Return the wait in seconds of a google.rpc.RetryInfo, ``"34s"``."""
    for each in details:
        delay = each.get("retryDelay")
        if isinstance(delay, str):
            return retry_after({"retry-after": delay.removesuffix("s")}, time.time())
    return None


KEY = "GEMINI_API_KEY"


#: Wins over the other one, as in the SDK.
KEY_BEFORE = "GOOGLE_API_KEY"


VERSION = "GOOGLE_GENAI_API_VERSION"


_DEFAULT_URL = "https://generativelanguage.googleapis.com"


_KEYS_PAGE = "https://aistudio.google.com/apikey"
