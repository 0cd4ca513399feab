"""The SDK's client for one OpenAI account, and what its exceptions mean."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...core.errors import Busy, LLMBatchError, ProviderError, Unclear
from ...core.secret import HiddenDict, Secret
from ..shared import bounds
from ..shared.access import Access
from ..shared.addresses import custom_headers, normalised
from ..shared.errors import from_status, from_transport, hushed, one_line, retry_after
from ..shared.reasons import why

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY = "OPENAI_API_KEY"
BASE_URL = "OPENAI_BASE_URL"
HEADERS = "OPENAI_CUSTOM_HEADERS"
DEFAULT_URL = "https://api.openai.com/v1"
_KEYS_PAGE = "https://platform.openai.com/api-keys"
_MODELS_PAGE = "https://platform.openai.com/docs/models"
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
#: Azure says at the door that too many tokens are queued; OpenAI does so by a failed batch.
_NO_ROOM = "token_limit_exceeded"


class Server:
    """One OpenAI-compatible server under one account.

    Parameters
    ----------
    address_variable
        What names the server, for messages.
    headers
        Sent with every request; organization and project among them say whose batches these are.
    """

    def __init__(
        self,
        access: Access,
        *,
        address_variable: str,
        organization: str = "",
        project: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.access = access
        self._address_variable = address_variable
        self._organization = organization
        self._project = project
        self._headers = headers or {}
        self._client: AsyncOpenAI | None = None

    @property
    def models_page(self) -> str:
        """Where the models are listed, for messages."""
        return _MODELS_PAGE if self.access.is_default else f"{self.access.base_url}/models"

    def connected(self) -> AsyncOpenAI:
        """Return the SDK's client of exactly this account, which repeats nothing by itself."""
        if self._client is None:
            self.access.require()
            self._client = self._connect()
        return self._client

    def translated(self) -> AbstractAsyncContextManager[None]:
        """Turn whatever a call raises into our errors."""
        return translate(self.access.who, self._address_variable, self.access.key_hint)

    async def close(self) -> None:
        """Close connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connect(self) -> AsyncOpenAI:
        import openai

        from ..shared import transport

        # What is None here the SDK takes from the process's own environment, where another account
        # may live than the one meant; an empty header is then left out.
        absent = {"OpenAI-Organization": self._organization, "OpenAI-Project": self._project}
        headers: Any = {name: openai.omit for name, value in absent.items() if not value}
        client = openai.AsyncOpenAI(
            api_key=bounds.PLACEHOLDER,
            admin_api_key="",
            base_url=self.access.base_url,
            organization=self._organization,
            project=self._project,
            webhook_secret="",
            max_retries=0,
            http_client=transport.client(self.access.base_url, self.access.key),
        )
        # By way of the constructor they would join those that the process's own environment names.
        client._custom_headers = HiddenDict({**headers, **self._headers})
        return client


def of_environ(environ: Mapping[str, str]) -> Server:
    """Return OpenAI itself, or the server that ``OPENAI_BASE_URL`` names."""
    headers = custom_headers(environ.get(HEADERS, ""))
    # These two say whose batches they are, whichever way they are given.
    organization, project = (
        environ.get(variable, "").strip() or given
        for variable, given in (
            ("OPENAI_ORG_ID", headers.pop("openai-organization", "")),
            ("OPENAI_PROJECT_ID", headers.pop("openai-project", "")),
        )
    )
    access = Access(
        "openai",
        Secret(environ.get(KEY, "").strip()),
        KEY,
        normalised(environ.get(BASE_URL, "").strip() or DEFAULT_URL, BASE_URL),
        title="OpenAI",
        default_url=DEFAULT_URL,
        keys_page=_KEYS_PAGE,
        organisation="/".join(filter(None, (organization, project))),
        simulated=True,
    )
    return Server(
        access,
        address_variable=BASE_URL,
        organization=organization,
        project=project,
        headers=headers,
    )


@asynccontextmanager
async def translate(
    who: str, base_url_variable: str = BASE_URL, key_hint: str = f"(check {KEY}: {_KEYS_PAGE})"
) -> AsyncIterator[None]:
    """Turn whatever the SDK, httpx2 or a strange answer raises into our errors."""
    import ssl

    import anyio
    import httpx2
    import openai

    try:
        yield
    except openai.APIStatusError as exc:
        raise hushed(_from_answer(exc, who, key_hint), exc) from None
    except openai.APIConnectionError as exc:
        raise hushed(from_transport(exc.__cause__ or exc, who, base_url_variable), exc) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, anyio.EndOfStream) as exc:
        raise hushed(from_transport(exc, who, base_url_variable), exc) from None
    except LLMBatchError:
        raise
    except (openai.OpenAIError, ValueError) as exc:
        raise Unclear(
            f"{who} gave an answer that is no OpenAI answer ({type(exc).__name__}): "
            f"check {base_url_variable}"
        ) from exc


def _from_answer(exc: Any, who: str, key_hint: str) -> ProviderError:
    body = exc.body
    error = body if isinstance(body, dict) else {}
    message = error.get("message")
    if not isinstance(message, str):
        message = why(body)[1] or ""  # another server's form, or a page of a proxy
    named = {str(error[key]) for key in ("code", "type") if error.get(key) is not None}
    if _NO_ROOM in named:
        return Busy(
            f"{who}: {one_line(message) or _NO_ROOM}", status=exc.status_code, code=_NO_ROOM
        )
    return from_status(
        exc.status_code,
        message,
        who,
        code=exc.code or exc.type if error else None,
        quota=bool(named & _QUOTA_CODES),
        wait=retry_after(exc.response.headers, time.time()),
        key_hint=key_hint,
    )
