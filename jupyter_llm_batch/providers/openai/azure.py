"""Azure OpenAI: OpenAI's API below a resource's own address, where models are deployments.

What its documentation tells apart from OpenAI: a create names ``/chat/completions`` whatever the
lines ask for; an upload is *pending* before it can be used; jobs do not expire; an error file is
always there, though it may be empty; too many queued tokens are refused at the create; listings
have no promised order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

from ...core.errors import UsageProblem
from ...core.job import Job, Remote
from ...core.secret import Secret
from ..shared.access import Access
from ..shared.addresses import normalised
from .adapter import CLOCK_SKEW, OpenAI
from .client import DEFAULT_URL, Server

KEY = "AZURE_OPENAI_API_KEY"
ENDPOINT = "AZURE_OPENAI_ENDPOINT"


class Azure(OpenAI):
    """One Azure OpenAI resource; the model is the name of a Global-Batch deployment in it.

    Parameters
    ----------
    environ
        A mapping like ``os.environ``: ``AZURE_OPENAI_API_KEY`` and ``AZURE_OPENAI_ENDPOINT``, the
        resource's address, are read from it and from nowhere else. Headers and organization that
        are meant for OpenAI may hold secrets, and are not sent.
    """

    name = "azure"
    slow_files = True

    def __init__(self, environ: Mapping[str, str]) -> None:
        access = _Access(
            self.name,
            Secret(environ.get(KEY, "").strip()),
            KEY,
            _address(environ.get(ENDPOINT, "").strip()),
            title="OpenAI",
            default_url=DEFAULT_URL,
            keys_page="https://portal.azure.com (the resource's Keys and Endpoint)",
            simulated=True,
        )
        super().__init__(environ, Server(access, address_variable=ENDPOINT))

    def _endpoint(self, job: Job) -> str:  # noqa: ARG002
        # Required, but Azure goes by the lines.
        return "/chat/completions"

    async def list(self, since: float) -> AsyncIterator[Remote]:
        """Yield the batches made since a little before `since`, in the order that Azure has."""
        async for remote in super().list(0.0):
            if remote.created_at is None or remote.created_at >= since - CLOCK_SKEW:
                yield remote


class _Access(Access):
    def check(self) -> None:
        """Raise `UsageProblem` when there is no key or no address."""
        super().check()
        if not self.base_url.startswith(("https://", "http://")):
            raise UsageProblem(
                f"{ENDPOINT} is not set: it is the resource's address, such as "
                "https://NAME.openai.azure.com"
            )


def _address(endpoint: str) -> str:
    if not endpoint:
        return ""
    # The portal shows the address alone, samples often with a path.
    parts = urlsplit(normalised(endpoint, ENDPOINT))
    path = parts.path.partition("/openai")[0].rstrip("/")
    return parts._replace(path=f"{path}/openai/v1", query="", fragment="").geturl()
