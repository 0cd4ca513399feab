"""The SDK's client for one Anthropic account, and what its exceptions mean."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...core.errors import LLMBatchError, ProviderError, Unclear
from ...core.secret import HiddenDict, Secret
from ..shared import bounds
from ..shared.access import Access
from ..shared.addresses import custom_headers, normalised
from ..shared.errors import from_status, from_transport, hushed, retry_after
from ..shared.reasons import why

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

KEY = "ANTHROPIC_API_KEY"
TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the name of a variable
BASE_URL = "ANTHROPIC_BASE_URL"
HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
_DEFAULT_URL = "https://api.anthropic.com"
_KEYS_PAGE = "https://platform.claude.com/settings/keys"

_QUOTA_CODES = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
#: An empty account is told by a 400 like any other mistake; only its words differ.
_NO_CREDIT = "credit balance is too low"


class Server:
    """Anthropic under one account.

    Parameters
    ----------
    access
        Key or token, and base URL.
    token
        The key of `access` is a bearer token.
    headers
        Sent with every request.
    """

    def __init__(self, access: Access, *, token: bool, headers: Mapping[str, str]) -> None:
        self.access = access
        self.headers = headers
        self._token = token
        self._client: AsyncAnthropic | None = None

    def connected(self) -> AsyncAnthropic:
        """Return the SDK's client of exactly this account, which repeats nothing by itself."""
        if self._client is None:
            self.access.require()
            self._client = self._connect()
        return self._client

    def translated(self) -> AbstractAsyncContextManager[None]:
        """Turn whatever a call raises into our errors."""
        return translate(self.access.who)

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connect(self) -> AsyncAnthropic:
        import anthropic

        from ..shared import transport

        client = anthropic.AsyncAnthropic(
            # With one of these given, the SDK looks for no other credentials, nor for a profile.
            api_key=None if self._token else bounds.PLACEHOLDER,
            auth_token=bounds.PLACEHOLDER if self._token else None,
            base_url=self.access.base_url,
            webhook_key="",
            max_retries=0,
            open_telemetry=False,
            http_client=transport.client(self.access.base_url, self.access.key),
        )
        # By way of the constructor they would join those that the process's own environment names,
        # where another account may live than the one meant.
        client._custom_headers = HiddenDict(self.headers)
        return client


def of_environ(environ: Mapping[str, str]) -> Server:
    """Return Anthropic itself, or the server that ``ANTHROPIC_BASE_URL`` names."""
    key = Secret(environ.get(KEY, "").strip())
    token = Secret("" if key else environ.get(TOKEN, "").strip())
    headers = custom_headers(environ.get(HEADERS, ""))
    access = Access(
        "anthropic",
        token or key,
        TOKEN if token else KEY,
        normalised(environ.get(BASE_URL, "").strip() or _DEFAULT_URL, BASE_URL),
        title="Anthropic",
        default_url=_DEFAULT_URL,
        keys_page=_KEYS_PAGE,
        organisation=headers.get("anthropic-workspace-id", ""),
        simulated=True,
    )
    return Server(access, token=bool(token), headers=headers)


@asynccontextmanager
async def translate(who: str) -> AsyncIterator[None]:
    """Turn whatever the SDK, httpx2 or a strange answer raises into our errors."""
    import ssl

    import anthropic
    import anyio
    import httpx2

    try:
        yield
    except anthropic.APIStatusError as exc:
        raise hushed(_from_answer(exc, who), exc) from None
    except anthropic.APIConnectionError as exc:
        raise hushed(from_transport(exc.__cause__ or exc, who, BASE_URL), exc) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, anyio.EndOfStream) as exc:
        raise hushed(from_transport(exc, who, BASE_URL), exc) from None
    except LLMBatchError:
        raise
    except (anthropic.AnthropicError, ValueError) as exc:
        raise Unclear(
            f"{who} gave an answer that is no Anthropic answer ({type(exc).__name__}): "
            f"check {BASE_URL}"
        ) from exc


def _from_answer(exc: Any, who: str) -> ProviderError:
    message = exc.api_message
    if not isinstance(message, str):
        message = why(exc.body)[1] or ""  # another server's form, or a page of a proxy
    kind = exc.type if isinstance(exc.type, str) else None
    code = exc.error_code or kind
    return from_status(
        exc.status_code,
        message,
        who,
        code=code,
        quota=code in _QUOTA_CODES or kind == "billing_error" or _NO_CREDIT in message,
        wait=retry_after(exc.response.headers, time.time()),
        key_hint=f"(check {KEY}: {_KEYS_PAGE})",
    )
