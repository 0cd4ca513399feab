"""Foreign errors into ours: what every SDK that runs on httpx2 has in common.

The question behind each mapping is whether the call may have taken effect. `Busy` and `Refused`
promise that it has not; what cannot be promised is `Unclear`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from ...core.errors import (
    Blocked,
    Busy,
    KeyRefused,
    OutOfQuota,
    ProviderError,
    Refused,
    Unclear,
    Vanished,
)

#: A provider that asks for a longer wait than this is asked again after it.
_LONGEST_WAIT = 86400.0
_MESSAGE_LENGTH = 400


def no_key(variable: str, provider: str, page: str, *, simulated: bool) -> str:
    """Say that a key is missing and the ways to one; only built-in providers are simulated."""
    login = f"`%llm_batch login {provider}` asks for it"
    if not page:
        return f"{variable} is not set: set it; {login}"
    simulator = ", `%llm_batch simulator` needs none" if simulated else ""
    return f"{variable} is not set: get a key at {page}; {login}{simulator}"


def from_transport(exc: BaseException, who: str, base_url_variable: str) -> ProviderError:
    """Return our error for a request that got no answer, from httpx2's exception or ssl's."""
    import httpx2

    from .transport import ForeignHost, TooLarge

    told = one_line(str(exc)) or type(exc).__name__
    if isinstance(exc, ForeignHost):
        kind = Unclear if exc.unclear else Refused
        return kind(f"{who} {told}. Check {base_url_variable}")
    if isinstance(exc, TooLarge):
        return Unclear(f"{who}: {told}. Check {base_url_variable}")
    if isinstance(exc, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in told:
        return Blocked(
            f"the certificate of {who} is not trusted here ({told}): a proxy or VPN stands "
            "between; SSL_CERT_FILE names the file with its certificate"
        )
    if isinstance(exc, httpx2.ProxyError) and "407" in told:
        return Blocked(f"the proxy before {who} wants a user and password ({told}): HTTPS_PROXY")
    if isinstance(exc, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
        return Refused(f"{who}: not a usable address ({told}): check {base_url_variable}")
    if isinstance(exc, httpx2.LocalProtocolError):
        return Refused(f"{who}: the request could not be sent: {told}")
    if isinstance(
        exc,
        (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.PoolTimeout,
            httpx2.ProxyError,
            ssl.SSLCertVerificationError,
        ),
    ):
        return Busy(f"{who} cannot be reached: {told}")
    if isinstance(exc, httpx2.TimeoutException):
        return Unclear(f"{who} did not answer in time ({type(exc).__name__})")
    return Unclear(f"the connection to {who} was lost: {told}")


def hushed(error: ProviderError, exc: BaseException) -> ProviderError:
    """Return `error`, and silence the foreign exception that it came from.

    That one may quote the key, and a traceback shows it: as the origin of ours (which `from None`
    prevents) and, where variables are shown, as one.
    """
    exc.args = (f"see {type(error).__name__}",)
    return error


def from_status(
    status: int,
    message: str,
    who: str,
    *,
    code: str | None = None,
    quota: bool = False,
    wait: float | None = None,
    key_hint: str = "",
) -> ProviderError:
    """Return our error for an HTTP status that is no success.

    Parameters
    ----------
    status
        The HTTP status.
    message
        The provider's own words.
    who
        The provider's name or host.
    code
        The provider's error code or type.
    quota
        The provider says that quota or credit is used up.
    wait
        Seconds to wait, from `retry_after`.
    key_hint
        What to do about a refused key.
    """
    kind: type[ProviderError]
    if quota or status == 402:
        kind = OutOfQuota
    elif status in {401, 403}:
        kind = KeyRefused
        message = f"{message} {key_hint}".strip()
    elif status == 404:
        kind = Vanished
    elif status in {429, 529}:  # turned away at the door
        kind = Busy
    elif status in {408, 409, 499} or status >= 500:
        kind = Unclear
    else:
        kind = Refused
    told = (
        f"{who} answered {status}: {one_line(message)}" if message else f"{who} answered {status}"
    )
    return kind(told, status=status, code=code, retry_after=wait)


def refusal(exc: Refused) -> Any:
    """Return the HTTP answer by which a single request was refused; raise what is no such thing.

    A key that is refused concerns every row, not the one that met it.
    """
    # The SDK's own exception is no cause of ours, lest a traceback shows it.
    answer = getattr(exc.__context__, "response", None)
    if isinstance(exc, KeyRefused) or answer is None:
        raise exc
    return answer


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that ``retry-after`` (seconds or a date) asks for, at most a day."""
    asked = headers.get("retry-after-ms")
    seconds = _number(asked, 0.001) if asked else None
    if seconds is None:
        asked = headers.get("retry-after")
        if not asked:
            return None
        seconds = _number(asked, 1.0)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(asked or "").timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _number(text: str, unit: float) -> float | None:
    try:
        value = float(text) * unit
    except ValueError:
        return None
    return value if isfinite(value) else None


def one_line(text: str) -> str:
    """Return `text` on one line, cut to a readable length."""
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_LENGTH else line[:_MESSAGE_LENGTH] + "…"
