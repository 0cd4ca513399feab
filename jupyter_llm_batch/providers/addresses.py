"""Base URLs, the same for every provider."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..errors import UsageProblem
from ..secret import HiddenDict


def custom_headers(text: str) -> dict[str, str]:
    """Read ``Name: value`` lines, as the SDKs do, the names in lower case."""
    pairs = (line.partition(":") for line in text.split("\n"))
    return HiddenDict(
        (name.strip().lower(), value.strip()) for name, colon, value in pairs if colon
    )


def normalised(url: str, variable: str) -> str:
    """Return the base URL that `variable` gave in the one spelling by which accounts compare."""
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise UsageProblem(f"{variable} is no usable address ({exc})") from None
    if parts.username or parts.password:
        raise UsageProblem(f"{variable} holds a user or password: it is no place for secrets")
    if parts.query:
        raise UsageProblem(
            f"{variable} is no base URL: it ends before '?'. A key goes into the key's own variable"
        )
    return parts._replace(
        scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), path=parts.path.rstrip("/")
    ).geturl()


def is_loopback(url: str) -> bool:
    """Whether `url` is on this machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")
