"""Any server that speaks OpenAI's files and batches, under a name that the settings give it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from ...core.errors import Undecided, UsageProblem
from ...core.job import Job, Remote
from ...core.result import Result
from ...core.secret import Secret
from ..shared.access import Access
from ..shared.addresses import is_loopback, key_variables, normalised
from .adapter import OpenAI
from .client import DEFAULT_URL, Server

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

    def __init__(self, environ: Mapping[str, str], name: str, url: str) -> None:
        self.name = name
        self._url = url
        address_variable = f"LLMBatch.servers[{name!r}]"
        variable = key_variables(name)[0]
        base_url = _address(url, address_variable, variable)
        key = Secret(environ.get(variable, "").strip())
        anonymous = not key and is_loopback(base_url)
        access = _Access(
            name,
            Secret(NO_KEY) if anonymous else key,
            variable,
            base_url,
            title="OpenAI",
            default_url=DEFAULT_URL,
            anonymous=anonymous,
        )
        access.missing = "" if url.strip() else address_variable
        # Headers and organization that are meant for OpenAI may hold secrets, and are not sent.
        super().__init__(environ, Server(access, address_variable=address_variable))

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


class _Access(Access):
    #: What should hold the server's address; empty where it does.
    missing = ""

    def check(self) -> None:
        """Raise `UsageProblem` when there is no address, or no key where one is needed."""
        if self.missing:
            raise UsageProblem(f"{self.missing} is empty: it is the server's base URL")
        super().check()


def _address(url: str, variable: str, key_variable: str) -> str:
    if not url:
        return ""
    url = normalised(url.strip(), variable)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageProblem(f"{variable} is no address: it begins with https://")
    if parts.query or parts.fragment:
        raise UsageProblem(
            f"{variable} is no base URL: it ends before '?'; the key is taken from {key_variable}"
        )
    return url
