"""The SDK's client for one OpenAI account, and what its exceptions mean."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...core.errors import Busy, LLMBatchError, ProviderError, Unclear
from ...core.secret import HiddenDict, Secret
from ..shared import bounds
from ..shared.errors import from_status, from_transport, hushed, one_line, retry_after
from ..shared.reasons import why

if TYPE_CHECKING:
    from openai import AsyncOpenAI


KEY = "OPENAI_API_KEY"


BASE_URL = "OPENAI_BASE_URL"


HEADERS = "OPENAI_CUSTOM_HEADERS"


_DEFAULT_URL = "https://api.openai.com/v1"


_KEYS_PAGE = "https://platform.openai.com/api-keys"


_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}


#: Azure says at the door that too many tokens are queued; OpenAI does so by a failed batch.
_NO_ROOM = "token_limit_exceeded"


def _client(
    key: Secret, base_url: str, organization: str, project: str, custom: Mapping[str, str]
) -> AsyncOpenAI:
    import openai

    from ..shared import transport

    # What is None here the SDK takes from the process's own environment, where another account
    # may live than the one meant; an empty header is then left out.
    absent = {"OpenAI-Organization": organization, "OpenAI-Project": project}
    headers: Any = {name: openai.omit for name, value in absent.items() if not value}
    client = openai.AsyncOpenAI(
        api_key=bounds.PLACEHOLDER,
        admin_api_key="",
        base_url=base_url,
        organization=organization,
        project=project,
        webhook_secret="",
        max_retries=0,
        http_client=transport.client(base_url, key),
    )
    # By way of the constructor they would join those that the process's own environment names.
    client._custom_headers = HiddenDict({**headers, **custom})
    return client


def _response_type() -> Any:
    import httpx2

    return httpx2.Response


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
