"""One key at one base URL: whether it can be used, and whose batches it reaches."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ...core.errors import KeyRefused, UsageProblem
from ...core.job import Account
from ...core.secret import Secret
from . import network
from .errors import no_key


class Access:
    """What every adapter knows of its account.

    Parameters
    ----------
    provider
        The provider's name, as in ``provider:model``.
    key
        The key; empty for none.
    variable
        The variable that holds the key, or should.
    base_url
        Where the provider is.
    title, default_url
        The provider's name for people, and the address that it stands for.
    keys_page
        Where a key is made; empty where nobody knows.
    organisation
        Whose batches these are, beside the key.
    anonymous
        The server takes any key: it says nothing about the account.
    simulated
        The simulator is an alternative to a key.
    """

    def __init__(
        self,
        provider: str,
        key: Secret,
        variable: str,
        base_url: str,
        *,
        title: str = "",
        default_url: str = "",
        keys_page: str = "",
        organisation: str = "",
        anonymous: bool = False,
        simulated: bool = False,
    ) -> None:
        self.provider = provider
        self.key = key
        self.variable = variable
        self.base_url = base_url
        self.title = title or provider
        self.default_url = default_url
        self.keys_page = keys_page
        self.organisation = organisation
        self.anonymous = anonymous
        self.simulated = simulated

    @property
    def is_default(self) -> bool:
        """Whether this is the provider's own address."""
        return self.base_url == self.default_url

    @property
    def who(self) -> str:
        """What messages call the server: the provider, or the host of another address."""
        if self.is_default:
            return self.title
        return urlsplit(self.base_url).netloc.rpartition("@")[2] or self.title

    @property
    def key_hint(self) -> str:
        """What to do about a refused key."""
        return f"(check {self.variable}{': ' if self.keys_page else ''}{self.keys_page})"

    def check(self) -> None:
        """Raise `UsageProblem` when there is no usable key, or the network's settings are wrong."""
        if not self.key:
            page, simulated = self.keys_page, self.simulated
            raise UsageProblem(no_key(self.variable, self.provider, page, simulated=simulated))
        if not self.key.fits_a_header():
            raise UsageProblem(f"{self.variable} holds characters that no key has: copy it again")
        network.check(self.base_url)

    def require(self) -> None:
        """Check the key before a call: raise `KeyRefused`, as a provider's answer would."""
        try:
            self.check()
        except UsageProblem as exc:
            raise KeyRefused(str(exc)) from exc

    def account(self, salt: bytes) -> Account:
        """Return whose batches these are; the key only as a salted fingerprint."""
        return Account(
            base_url=self.base_url,
            organisation=self.organisation,
            fingerprint="" if self.anonymous else self.key.fingerprint(salt),
        )


def response_type() -> Any:
    """Return the type by which an SDK gives the bare HTTP answer."""
    import httpx2

    return httpx2.Response
