"""The explicit caches of one Gemini account: made, found again, given up, released."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from ...core import policy
from ...core.errors import LLMBatchError, Unclear
from ...core.job import Job
from ..shared import pages
from . import cache as caches
from . import requests as wire
from .client import Server


class Caches:
    """Makes and deletes the caches of jobs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        #: Jobs that go without, since one of theirs was refused.
        self._uncached: set[str] = set()

    async def of(self, job: Job, payload: Path) -> str | None:
        """Return the cache of what the rows share, made if it pays; None leaves it to Gemini."""
        if job.cache is None or job.id in self._uncached:
            return None
        instruction = await asyncio.to_thread(caches.wanted, job, payload)
        if not instruction:
            return None
        # Whatever fails here, the job goes without.
        with suppress(LLMBatchError):
            # A killed process may have made one, or a lost answer.
            found = await self._find(job)
            if found is not None:
                return found
            with suppress(Unclear):
                return await self._make(job, instruction)
            return await self._find(job)
        return None

    async def _make(self, job: Job, instruction: bytes) -> str:
        body = caches.body(job, wire.path(job.model), instruction)
        async with self._server.translated():
            answer = await self._server.call(
                "POST", "cachedContents", read=policy.LONG_CALL, body=body
            )
            return caches.read(answer).name

    async def _find(self, job: Job) -> str | None:
        """Return the cache that was made for `job` and outlives it."""
        async for cache in pages.read(self._server.access.who, self._page, lambda each: each.name):
            if cache.display_name != job.id or cache.model != wire.path(job.model):
                continue
            if cache.lasts(time.time()):
                return cache.name
            await self._drop(cache.name)
        return None

    async def _page(self, token: str) -> tuple[Sequence[caches.Cache], str]:
        async with self._server.translated():
            return caches.read_page(await self._server.page("cachedContents", token))

    async def give_up(self, job: Job, cache: str) -> None:
        """Delete a cache that a job was refused for; the job goes without."""
        self._uncached.add(job.id)
        await self._drop(cache)

    async def _drop(self, cache: str) -> None:
        with suppress(LLMBatchError):
            async with self._server.translated():
                await self._server.call("DELETE", cache)

    async def release(self, name: str, model: str) -> Decimal | None:
        """Delete a cache; return what writing and storing it cost, where known."""
        cost = None
        with suppress(LLMBatchError):
            async with self._server.translated():
                cost = caches.read(await self._server.call("GET", name)).cost(model, time.time())
        async with self._server.translated():
            await self._server.call("DELETE", name)
        return cost
