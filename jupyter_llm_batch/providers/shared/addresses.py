"""Base URLs, the same for every provider."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ...core.errors import UsageProblem
from ...core.secret import HiddenDict


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


#: Where a key may be, the customary place first; ``NAME_API_KEY`` for all others.
_KEYS = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}


def key_variables(name: str) -> tuple[str, ...]:
    """Return the variables that may hold a provider's key; the first is the customary one."""
    plain = re.sub(r"\W", "_", name).upper()
    return _KEYS.get(name, (f"{plain}_API_KEY",))
