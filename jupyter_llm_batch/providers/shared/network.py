"""What the environment says about the network: proxies and certificates, for every client of ours.

An HTTP client that cannot be built names neither the variable nor the file that is at fault, so
these are looked at first. This machine's own servers need none of it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from ...core import policy
from ...core.errors import UsageProblem
from .addresses import is_loopback

if TYPE_CHECKING:
    from httpx2 import Timeout

#: What a proxy's address may begin with; those of SOCKS need a package.
_SCHEMES = frozenset({"http", "https", "socks5", "socks5h"})


def check(url: str) -> None:
    """Check that a client for `url` can be built.

    Raises
    ------
    UsageProblem
        A variable of the environment names a file or a proxy that cannot be used.
    """
    if not _is_local(url):
        _check_certificates()
        _check_proxies(getproxies())


def options(url: str) -> dict[str, Any]:
    """Return how an httpx2 client for `url` is built: a local server is asked directly."""
    if _is_local(url):
        return {"trust_env": False}
    # Neither can a proxy reach this machine's own servers, wherever such an address comes from.
    return {"mounts": {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}}


def timeout(*, read: float = policy.CALL, write: float = policy.CALL) -> Timeout:
    """Return the seconds that a call may be silent: while it is answered, while it is sent."""
    import httpx2

    return httpx2.Timeout(connect=policy.CONNECT, read=read, write=write, pool=policy.POOL)


def _is_local(url: str) -> bool:
    return urlsplit(url).scheme == "http" and is_loopback(url)


def _check_certificates() -> None:
    name = os.environ.get("SSL_CERT_FILE")
    if not name:
        return
    try:
        found = Path(name).stat()
        wrong = _unusable(name, found.st_mtime_ns, found.st_size)
    except OSError as error:
        wrong = error.strerror or type(error).__name__
    if wrong:
        raise UsageProblem(
            f"SSL_CERT_FILE names {name}, which cannot be used ({wrong}): nothing can be sent. "
            "Correct the variable, or remove it with `del os.environ['SSL_CERT_FILE']`"
        )


@lru_cache(maxsize=8)
def _unusable(name: str, _changed: int, _size: int) -> str:
    """Return why certificates cannot be read from a file as it stands now; empty if they can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=name)
    except ssl.SSLError:
        return "it holds no certificate"
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _check_proxies(proxies: Mapping[str, str]) -> None:
    for kind in ("http", "https", "all"):
        # Of the address itself nothing is quoted but its kind: it may hold a password.
        address = proxies.get(kind, "")
        scheme = address.partition("://")[0].lower() if "://" in address else "http"
        if not address:
            continue
        variable = f"{kind.upper()}_PROXY"
        if scheme.startswith("socks") and scheme in _SCHEMES and find_spec("socksio") is None:
            raise UsageProblem(
                f"{variable} names a SOCKS proxy, which needs another package: nothing can be "
                "sent. Run `%pip install socksio`, then restart the kernel"
            )
        if scheme not in _SCHEMES:
            raise UsageProblem(
                f"{variable} names a proxy of the kind {scheme}://, which cannot be used: nothing "
                "can be sent. Write http://HOST:PORT or socks5://HOST:PORT"
            )
