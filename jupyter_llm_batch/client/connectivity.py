"""Whether the providers' servers can be reached from here: no key goes, nothing is paid.

Each is asked for its list of models, which it refuses without a key: that shows that it is there
and that its address is right.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from ..core.errors import KeyRefused, ProviderError, Refused, UsageProblem, redact
from ..providers.shared import network
from ..providers.shared.addresses import is_loopback

if TYPE_CHECKING:
    from ..providers.base import Adapter

#: Seconds that a server has for its answer.
PATIENCE = 5.0

#: What follows the base URL where a provider lists its models; of others the base URL itself.
_MODELS = {"anthropic": "/v1/models", "google": "/v1beta/models"}


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How a server can be reached.

    Attributes
    ----------
    status
        The HTTP status of its answer; None where there was none.
    remark
        Why there was none and what to do, or what is strange about the answer.
    well
        It is there, and its address is right as far as can be known without a key.
    """

    status: int | None = None
    remark: str = ""
    well: bool = False

    @property
    def words(self) -> str:
        """What was found, in a few words."""
        if self.status is None:
            return "no answer"
        return f"{'reachable' if self.well else 'not usable'} (HTTP {self.status})"


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
        *(_one(name, url, settings.get(name, "")) for name, url in addresses.items())
    )
    return dict(zip(addresses, found, strict=True))


async def _one(name: str, url: str, setting: str) -> Reach:
    import httpx2

    wrong = f"no usable address: correct {setting or 'its base URL'}"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        # Neither a password nor a query that somebody wrote into the address is sent.
        path = parts.path.rstrip("/") + _MODELS.get(name, "/models")
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
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
            return _read(answer.status_code, plain, setting)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
        return Reach(remark=wrong)
    except (httpx2.HTTPError, ssl.SSLError, OSError) as error:
        # TimeoutError is an OSError.
        said = " ".join(redact(str(error)).split())[:120] or type(error).__name__
        slow = isinstance(error, (TimeoutError, httpx2.TimeoutException))
        why = f"no answer within {PATIENCE:g} s" if slow else said
        return Reach(remark=f"{why}: {_remedy(said, parts.scheme, host, setting)}")


def _read(status: int, url: str, setting: str) -> Reach:
    """Return what an answer to a request without a key says."""
    remark = {
        401: "it asks for a key, which was not sent: --check-keys tries yours",
        403: "it asks for a key, which was not sent: --check-keys tries yours",
        404: f"there is nothing at {url}: is {setting or 'its base URL'} right?",
        407: "a proxy wants a user and password: write them into HTTPS_PROXY",
    }.get(status, "")
    if status >= 500:
        remark = "it has trouble now, or a proxy before it has: wait, or ask your network"
    well = status < 400 or status in {400, 401, 403, 405, 429}
    return Reach(status=status, remark=remark, well=well)


async def check_key(adapter: Adapter) -> Reach:
    """Return whether a provider takes the present key: its batches are listed, which is free."""
    try:
        async with asyncio.timeout(4 * PATIENCE):
            async for _ in adapter.list(time.time()):
                break
    except KeyRefused as error:
        return Reach(status=error.status, remark=str(error))
    except ProviderError as error:
        lasting = isinstance(error, Refused)
        what = "the key could not be checked" if not lasting else "it lists no batches"
        return Reach(status=error.status, remark=f"{what}: {error}", well=lasting)
    except TimeoutError:
        return Reach(remark="the key could not be checked: no answer in time")
    return Reach(status=200, remark="accepted", well=True)


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
