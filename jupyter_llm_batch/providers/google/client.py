"""One Gemini account: its connections, its calls, and what their errors mean."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...core import policy
from ...core.errors import KeyRefused, LLMBatchError, ProviderError, Unclear, Vanished
from ...core.secret import Secret
from ..shared import bounds, downloads, network
from ..shared.access import Access
from ..shared.addresses import is_loopback, normalised
from ..shared.errors import from_status, from_transport, hushed, one_line, retry_after

if TYPE_CHECKING:
    from google.genai import Client
    from httpx2 import AsyncClient

KEY = "GEMINI_API_KEY"
#: Wins over the other one, as in the SDK.
KEY_BEFORE = "GOOGLE_API_KEY"
BASE_URL = "GOOGLE_GEMINI_BASE_URL"
VERSION = "GOOGLE_GENAI_API_VERSION"
_DEFAULT_URL = "https://generativelanguage.googleapis.com"
_KEYS_PAGE = "https://aistudio.google.com/apikey"
_PAGE = 100


class Server:
    """Gemini under one account.

    Parameters
    ----------
    version
        The version of its API, part of every address.
    """

    def __init__(self, access: Access, version: str) -> None:
        self.access = access
        self.version = version
        self._client: AsyncClient | None = None
        self._sdk: Client | None = None

    def connected(self) -> AsyncClient:
        """Return the HTTP client of exactly this account."""
        if self._client is None:
            self.access.require()
            from ..shared import transport

            # Where a gateway names Google's own upload address, rows may go there, never the key.
            also = () if is_loopback(self.access.base_url) else (_DEFAULT_URL,)
            self._client = transport.Client(self.access.base_url, self.access.key, also=also)
        return self._client

    def uploader(self) -> Client:
        """Return the SDK's client, which uploads files over the same connections."""
        if self._sdk is None:
            import ssl

            import httpx2
            from google import genai

            # It logs which of two keys it takes, and warns of a file's state that it does not
            # know; unhandled, both would be printed into whichever cell runs.
            logging.getLogger("google_genai").addHandler(logging.NullHandler())
            warnings.filterwarnings("ignore", r".* is not a valid FileState", UserWarning)
            options: Any = {
                "base_url": self.access.base_url,
                "api_version": self.version,
                # With clients of ours it uses neither aiohttp nor another pool; of its own it would
                # make a second one, from the environment.
                "httpx_async_client": self.connected(),
                "httpx_client": httpx2.Client(**network.options(self.access.base_url)),
                # For web sockets, which are never opened: else certificates are read for them.
                "async_client_args": {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            }
            self._sdk = genai.Client(
                enterprise=False, api_key=bounds.PLACEHOLDER, http_options=options
            )
        return self._sdk

    def translated(self) -> AbstractAsyncContextManager[None]:
        """Turn whatever a call raises into our errors."""
        return translate(self.access.who, self.access.key_hint)

    async def call(
        self,
        method: str,
        path: str,
        *,
        read: float = policy.CALL,
        body: bytes | None = None,
        params: dict[str, str] | None = None,
    ) -> bytes:
        """Send one request and return the body of its answer."""
        from google.genai.errors import APIError

        answer = await self.connected().request(
            method,
            self._url(path),
            headers=self._headers(),
            content=body,
            params=params,
            timeout=network.timeout(read=read, write=policy.LONG_CALL),
        )
        await APIError.raise_for_async_response(answer)
        return answer.content

    async def page(self, path: str, token: str, *, read: float = policy.CALL) -> bytes:
        """Return one page of a listing."""
        params = {"pageSize": str(_PAGE)} | ({"pageToken": token} if token else {})
        return await self.call("GET", path, read=read, params=params)

    @asynccontextmanager
    async def content(
        self, path: str, params: dict[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that is read piece by piece."""
        from google.genai.errors import APIError

        async with (
            self.translated(),
            self.connected().stream(
                "GET",
                self._url(path),
                headers=self._headers(),
                params=params,
                timeout=network.timeout(read=policy.LONG_CALL),
                follow_redirects=True,
            ) as answer,
        ):
            await APIError.raise_for_async_response(answer)
            yield answer.aiter_bytes(downloads.PIECE)

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        client, self._client = self._client, None
        sdk, self._sdk = self._sdk, None
        if sdk is not None:
            sdk.close()
        if client is not None:
            await client.aclose()

    def _url(self, path: str) -> str:
        return f"{self.access.base_url}/{self.version}/{path}"

    def _headers(self) -> dict[str, str]:
        return {"x-goog-api-key": bounds.PLACEHOLDER, "content-type": "application/json"}


def of_environ(environ: Mapping[str, str]) -> Server:
    """Return Google itself, or the server that ``GOOGLE_GEMINI_BASE_URL`` names."""
    first = Secret(environ.get(KEY_BEFORE, "").strip())
    access = Access(
        "google",
        first or Secret(environ.get(KEY, "").strip()),
        KEY_BEFORE if first else KEY,
        normalised(environ.get(BASE_URL, "").strip() or _DEFAULT_URL, BASE_URL),
        title="Google",
        default_url=_DEFAULT_URL,
        keys_page=_KEYS_PAGE,
        simulated=True,
    )
    version = environ.get(VERSION, "").strip()
    return Server(access, "v1beta" if version == "beta" else version or "v1")


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
