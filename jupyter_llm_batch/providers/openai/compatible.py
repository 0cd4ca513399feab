"""Any server that speaks OpenAI's files and batches, under a name that the settings give it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from ...core.errors import Undecided, UsageProblem
from ...core.job import Account, Job, Remote
from ...core.result import Result
from ...core.secret import Secret
from ..shared.addresses import is_loopback, key_variables, normalised
from .adapter import OpenAI

#: What a server on this machine gets where no key is set.
NO_KEY = "none"


class Compatible(OpenAI):
    """An OpenAI-compatible server.

    Parameters
    ----------
    environ
        Holds the key as ``NAME_API_KEY``; a server on this machine needs none.
    name
        What the settings call the server.
    url
        Its base URL; empty when it is no longer configured and only old results are to be read.
    """

    keys_page = ""

    def __init__(self, environ: Mapping[str, str], name: str, url: str) -> None:
        self.name = name
        self.key_variable = key_variables(name)[0]
        self.address_variable = f"LLMBatch.servers[{name!r}]"
        self._url = url
        super().__init__(environ)
        self._anonymous = not self._key and is_loopback(self._base_url)
        if self._anonymous:
            self._key = Secret(NO_KEY)

    def _address(self, environ: Mapping[str, str]) -> str:  # noqa: ARG002
        if not self._url:
            return ""
        url = normalised(self._url.strip(), self.address_variable)
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageProblem(f"{self.address_variable} is no address: it begins with https://")
        if parts.query or parts.fragment:
            raise UsageProblem(
                f"{self.address_variable} is no base URL: it ends before '?'; the key is taken "
                f"from {self.key_variable}"
            )
        return url

    def _organisation(self, environ: Mapping[str, str]) -> tuple[str, str]:  # noqa: ARG002
        return "", ""

    def _custom_headers(self, environ: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002
        return {}  # what is meant for OpenAI may hold secrets

    def check_key(self) -> None:
        """Raise `UsageProblem` when there is no address, or no key where one is needed."""
        if not self._url.strip():
            raise UsageProblem(f"{self.address_variable} is empty: it is the server's base URL")
        super().check_key()

    def account(self, salt: bytes) -> Account:
        """Return whose batches these are; a server without keys has no fingerprint."""
        account = super().account(salt)
        return msgspec.structs.replace(account, fingerprint="") if self._anonymous else account

    def parse(self, line: bytes, endpoint: str) -> Result:
        """Read one line; of a forgotten server only what is OpenAI's beyond doubt.

        Raises
        ------
        UsageProblem
            The server is not configured, and the line is of another kind: it came from a
            provider's package that is no longer installed.
        """
        result = super().parse(line, endpoint)
        if not self._url and not result.custom_id:
            raise UsageProblem(
                f"the provider {self.name!r} is unknown here: install its package again to read "
                "these results"
            )
        return result

    async def find(self, label: str, job: Job, since: float) -> Remote | None:  # noqa: ARG002
        """Look for our label; without it, absent only where the server is known to keep labels.

        Raises
        ------
        Undecided
            The listing has jobs of the time in question, and none with a label.
        """
        unlabelled = []
        keeps = False
        async for remote in self.list(since):
            if remote.label == label:
                return remote
            keeps = keeps or remote.label is not None
            unlabelled.append(remote)
        if unlabelled and not keeps:
            raise Undecided(f"{self.name} keeps no label of ours", unlabelled)
        return None
