"""Whether the providers' servers can be reached from here: nothing is asked of them, no key goes.

Any answer over HTTP counts, since without a key most servers refuse.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from .errors import UsageProblem, redact
from .providers import network
from .providers.addresses import is_loopback

#: Seconds that a server has for its answer.
PATIENCE = 5.0


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How a server can be reached.

    Attributes
    ----------
    status
        The HTTP status of its answer; None where there was none.
    remark
        Why there was none and what to do, or what is strange about the answer.
    """

    status: int | None = None
    remark: str = ""


async def look(addresses: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, Reach]:
    """Return whether the servers answer, all asked at once.

    Parameters
    ----------
    addresses
        Base URLs by provider.
    settings
        By provider, where its base URL is set.
    """
    found = await asyncio.gather(
        *(_one(url, settings.get(name, "")) for name, url in addresses.items())
    )
    return dict(zip(addresses, found, strict=True))


async def _one(url: str, setting: str) -> Reach:
    import httpx2

    wrong = f"no usable address: correct {setting or 'its base URL'}"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        # Neither a password nor a query that somebody wrote into the address is sent.
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        # Proxies and certificates of the environment count, as they do for the SDKs.
        network.check(plain)
        client = httpx2.AsyncClient(timeout=PATIENCE, **network.options(plain))
    except UsageProblem as problem:
        return Reach(remark=str(problem))
    except ValueError:
        return Reach(remark=wrong)
    except (OSError, ImportError) as error:
        return Reach(remark=" ".join(redact(str(error)).split())[:120])
    try:
        async with client, asyncio.timeout(PATIENCE), client.stream("GET", plain) as answer:
            return Reach(status=answer.status_code, remark=_strange(answer.status_code))
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
        return Reach(remark=wrong)
    except (httpx2.HTTPError, ssl.SSLError, OSError) as error:
        # TimeoutError is an OSError.
        said = " ".join(redact(str(error)).split())[:120] or type(error).__name__
        slow = isinstance(error, (TimeoutError, httpx2.TimeoutException))
        why = f"no answer within {PATIENCE:g} s" if slow else said
        return Reach(remark=f"{why}: {_remedy(said, parts.scheme, host, setting)}")


def _strange(status: int) -> str:
    if status == 407:
        return "a proxy wants a user and password: write them into HTTPS_PROXY"
    return "it has trouble now, or a proxy before it has: wait, or ask your network" * (
        status >= 500
    )


def _remedy(said: str, scheme: str, host: str, setting: str) -> str:
    """Return what to do about a server that does not answer."""
    proxies = getproxies()
    proxied = (scheme in proxies or "all" in proxies) and not proxy_bypass(host)
    variable = f"{scheme.upper()}_PROXY" if scheme in proxies else "ALL_PROXY"
    if "CERTIFICATE" in said.upper():
        return "a proxy or VPN stands between: SSL_CERT_FILE names the file with its certificate"
    if proxied:
        return f"is the proxy in {variable} right? NO_PROXY={host} goes without it"
    if is_loopback(f"{scheme}://{host}"):
        return f"is the server running, and {setting or 'its base URL'} right?"
    return (
        f"are the network and the VPN up, and is {setting or 'its base URL'} right? Where only a "
        "proxy leads out, HTTPS_PROXY names it"
    )
