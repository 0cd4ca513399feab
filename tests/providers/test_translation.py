"""Foreign errors: what each proves, and that none escapes."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx2
import openai
import pytest

from jupyter_llm_batch.core.errors import (
    Blocked,
    Busy,
    KeyRefused,
    OutOfQuota,
    ProviderError,
    Refused,
    Unclear,
    Vanished,
)
from jupyter_llm_batch.providers.openai import client as openai_client
from jupyter_llm_batch.providers.shared.errors import from_transport, retry_after

REQUEST = httpx2.Request("POST", "http://h/v1/batches")


#: What each of httpx2's exceptions says about a request: never sent, or perhaps arrived.
TRANSPORT = {
    httpx2.ConnectError: Busy,
    httpx2.ConnectTimeout: Busy,
    httpx2.PoolTimeout: Busy,
    httpx2.ProxyError: Busy,
    httpx2.UnsupportedProtocol: Refused,
    httpx2.InvalidURL: Refused,
    httpx2.LocalProtocolError: Refused,
    httpx2.HTTPError: Unclear,
    httpx2.RequestError: Unclear,
    httpx2.TransportError: Unclear,
    httpx2.TimeoutException: Unclear,
    httpx2.ReadTimeout: Unclear,
    httpx2.WriteTimeout: Unclear,
    httpx2.NetworkError: Unclear,
    httpx2.ReadError: Unclear,
    httpx2.WriteError: Unclear,
    httpx2.CloseError: Unclear,
    httpx2.ProtocolError: Unclear,
    httpx2.RemoteProtocolError: Unclear,
    httpx2.DecodingError: Unclear,
    httpx2.TooManyRedirects: Unclear,
    httpx2.HTTPStatusError: Unclear,
    httpx2.SSEError: Unclear,
}

#: What each of the SDK's exceptions becomes; those with a status follow the status.
SDK = {
    openai.OpenAIError: Unclear,
    openai.APIError: Unclear,
    openai.APIConnectionError: Unclear,
    openai.APITimeoutError: Unclear,
    openai.APIResponseValidationError: Unclear,
    openai.LengthFinishReasonError: Unclear,
    openai.ContentFilterFinishReasonError: Unclear,
    openai.BadRequestError: Refused,
    openai.AuthenticationError: KeyRefused,
    openai.OAuthError: KeyRefused,
    openai.PermissionDeniedError: KeyRefused,
    openai.NotFoundError: Vanished,
    openai.ConflictError: Unclear,
    openai.UnprocessableEntityError: Refused,
    openai.RateLimitError: Busy,
    openai.InternalServerError: Unclear,
}


def subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


async def translated(exc):
    with pytest.raises(ProviderError) as caught:
        async with openai_client.translate("OpenAI"):
            raise exc
    return caught.value


def status_error(status, body=None, headers=None):
    """Make the SDK's exception for an HTTP answer as the SDK makes it."""
    answered = httpx2.Response(status, request=REQUEST, json=body, headers=headers)
    client = openai.AsyncOpenAI(api_key="sk-x", base_url="http://h/v1")
    return client._make_status_error_from_response(answered)


def test_every_exception_of_the_transport_is_translated():
    """No exception class of httpx2 is unmapped, and each is judged by what it proves."""
    known = {httpx2.HTTPError, httpx2.InvalidURL, *subclasses(httpx2.HTTPError)}
    assert {kind for kind in known if kind.__module__.startswith("httpx2")} == set(TRANSPORT)
    for kind, expected in TRANSPORT.items():
        exc = (
            kind("told", request=REQUEST, response=httpx2.Response(500, request=REQUEST))
            if kind is httpx2.HTTPStatusError
            else kind("told")
        )
        assert type(asyncio.run(translated(exc))) is expected, kind
        wrapped = openai.APIConnectionError(request=REQUEST)
        wrapped.__cause__ = exc
        assert type(asyncio.run(translated(wrapped))) is expected, kind


def test_every_exception_of_the_sdk_is_translated():
    """No exception class of the SDK escapes; those never met in our calls are unclear."""
    for kind in (openai.OpenAIError, *subclasses(openai.OpenAIError)):
        if issubclass(kind, openai.APIStatusError):
            status = getattr(kind, "status_code", 500)
            answered = httpx2.Response(status, request=REQUEST)
            args = {"response": answered, "body": None}
            exc = kind(**args) if kind is openai.OAuthError else kind("told", **args)
        else:
            exc = kind.__new__(kind)  # constructors differ; only the class is looked at
        expected = SDK.get(kind, Unclear)
        assert type(asyncio.run(translated(exc))) is expected, kind


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (307, None, Refused),
        (400, {"error": {"message": "no"}}, Refused),
        (400, {"error": {"message": "no", "code": "billing_hard_limit_reached"}}, OutOfQuota),
        (401, None, KeyRefused),
        (402, None, OutOfQuota),
        (403, None, KeyRefused),
        (404, None, Vanished),
        (408, None, Unclear),
        (409, None, Unclear),
        (413, None, Refused),
        (429, None, Busy),
        (429, {"error": {"message": "no", "type": "insufficient_quota"}}, OutOfQuota),
        (500, None, Unclear),
        (503, None, Unclear),
        (529, None, Busy),
    ],
)
def test_a_status_says_whether_something_was_created(status, body, expected):
    """A structured 4xx, 429 and 529 prove that nothing was created; other 5xx prove nothing."""
    exc = asyncio.run(translated(status_error(status, body)))
    assert type(exc) is expected
    assert exc.status == status


def test_the_providers_words_are_told_on_one_line_without_keys():
    """The message is the provider's own, on one line, with every piece of a key removed."""
    body = {"error": {"message": "Incorrect API key\nprovided: sk-pr*****abcd.", "code": "bad_key"}}
    exc = asyncio.run(translated(status_error(401, body)))
    assert "Incorrect API key provided: [key]" in str(exc)
    assert "\n" not in str(exc)
    assert exc.code == "bad_key"
    header = httpx2.LocalProtocolError("Illegal header value b'Bearer sk-secret-123\\n'")
    assert "secret" not in str(from_transport(header, "OpenAI", "OPENAI_BASE_URL"))


def test_a_certificate_that_is_not_trusted_means_nothing_was_sent():
    """TLS failures before the request are told apart from connections lost after it."""
    refused = ssl.SSLCertVerificationError("self-signed")
    assert type(from_transport(refused, "OpenAI", "X")) is Blocked
    assert type(from_transport(ssl.SSLError("broken"), "OpenAI", "X")) is Unclear


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "9e9"}, 86400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": format_datetime(datetime.fromtimestamp(1090, UTC), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(10, UTC), usegmt=True)}, 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(headers, expected):
    """Seconds and dates are understood, nonsense is ignored, and no wait is above a day."""
    assert retry_after(headers, now=1000.0) == expected
