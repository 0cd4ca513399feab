"""Result files that were damaged on disk, fetched again while the provider keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import payloads, results
from .errors import Damaged, LLMBatchError
from .models import Job
from .providers.base import Adapter
from .store import Store


async def refetch(
    store: Store,
    adapters: Callable[[str], Adapter],
    pause: Callable[[Job], str],
    wrong: Sequence[results.Harm],
) -> list[str]:
    """Set each damaged file aside and fetch it again; return what could not be mended.

    Nothing is bought: the provider only hands out once more what it keeps.
    """
    left = []
    for harm in wrong:
        payloads.set_aside(harm.path)
        try:
            if reason := pause(harm.job):
                raise Damaged(reason)
            await _fetch(store, adapters(harm.job.provider), harm)
        except (LLMBatchError, OSError) as error:
            kept = "" if harm.what == "is missing" else f" (kept as {harm.path.name}.damaged)"
            left.append(
                f"{harm.path.name} {harm.what}{kept} and could not be fetched again: {error}"
            )
    return left


async def _fetch(store: Store, adapter: Adapter, harm: results.Harm) -> None:
    job = harm.job
    assert job.remote_id is not None
    with payloads.writing(harm.path) as writer:
        await adapter.fetch(job.remote_id, harm.part, job.parts[harm.part], writer)
    payloads.check_whole(harm.path)
    expected = job.sums.get(harm.part, "")
    if expected and payloads.checksum(harm.path) != expected:
        # The same rows in another order or wording of JSON are as good; fewer are not.
        missing = results.unread(store, job)
        if missing:
            payloads.set_aside(harm.path)
            raise Damaged(f"{missing} answers are not in what came")
