"""Result files that were damaged on disk, fetched again while the provider keeps them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence

from ..core.errors import Damaged, LLMBatchError
from ..core.job import Job
from ..providers.base import Adapter
from ..storage import files
from ..storage.store import Store
from . import damaged_files


async def refetch(
    store: Store,
    adapters: Callable[[str], Adapter],
    why_not: Callable[[Job], Awaitable[str]],
    wrong: Sequence[damaged_files.Harm],
) -> list[tuple[damaged_files.Harm, str]]:
    """Fetch each damaged file again; return those that could not be mended, each with the reason.

    Nothing is bought: the provider only hands out once more what it keeps. What lay there is set
    aside when a whole file takes its place, not before.

    Parameters
    ----------
    why_not
        Returns why files of a job cannot be fetched now; empty if they can.
    """
    left = []
    for harm in wrong:
        try:
            if not harm.job.remote_id or not harm.job.parts[harm.part]:
                raise Damaged("no provider keeps it")
            if reason := await why_not(harm.job):
                raise Damaged(reason)
            await _fetch(store, adapters(harm.job.provider), harm)
        except (LLMBatchError, OSError) as error:
            words = f"{harm.path.name} {harm.what} and could not be fetched again: {error}"
            left.append((harm, words))
    return left


async def _fetch(store: Store, adapter: Adapter, harm: damaged_files.Harm) -> None:
    job, fresh = harm.job, harm.path.with_suffix(f".{os.getpid()}.fresh")
    assert job.remote_id is not None
    try:
        with files.writing(fresh) as writer:
            await adapter.fetch(job.remote_id, harm.part, job.parts[harm.part], writer)
        files.check_whole(fresh)
        known, now = job.sums.get(harm.part, ""), files.checksum(fresh)
        # The same rows in another order or wording of JSON are as good; fewer are not.
        if (
            known
            and now != known
            and (missing := damaged_files.unread(store, job, {harm.path: fresh}))
        ):
            raise Damaged(f"{missing} answers are not in what came")
        files.set_aside(harm.path)
        fresh.replace(harm.path)
        files.sync_folder(harm.path.parent)
        if now != known:
            store.know_sum(job.id, harm.part, now)
    finally:
        fresh.unlink(missing_ok=True)
