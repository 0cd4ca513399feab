"""Second batches of one job: a gateway repeated our create, or a listing showed one late.

Both would be paid. They carry a label of the job's, so that a listing tells.
"""

from __future__ import annotations

from ..core.job import Duplicate, Job, Phase, Remote
from ..providers.base import Adapter
from . import lookup

#: A create that takes longer may have been repeated by somebody between (seconds).
SLOW = 20.0

#: How far a listing is read beyond the jobs that are asked about.
BEYOND = 20

#: How far back a job's own batches are looked for, as clocks differ (seconds).
_LOOK_BACK = 86400.0

_NOT_STARTED = frozenset({"validating", "pending", "queued"})


def is_one(remote: Remote, job: Job) -> bool:
    """Whether `remote` is a batch of `job` beside its own that has cost something, or will."""
    if lookup.owner(remote.label) != job.id or remote.remote_id == job.remote_id:
        return False
    if remote.phase is Phase.ENDED:
        return remote.counts is None or remote.counts.done > 0
    return remote.phase is Phase.ACTIVE  # what was refused as a whole made us send it again


async def find(adapter: Adapter, job: Job) -> list[Remote]:
    """Return the batches of a job beside its own that a listing shows."""
    since = min(job.created_at, job.submitted_at or job.created_at) - _LOOK_BACK
    return [remote async for remote in adapter.list(since) if is_one(remote, job)]


def with_one(job: Job, remote: Remote, *, cancelled: bool) -> list[Duplicate]:
    """Return the duplicates of a job, `remote` among them as it is now."""
    others = [each for each in job.duplicates if each.remote_id != remote.remote_id]
    return [*others, Duplicate(remote_id=remote.remote_id, cancelled=cancelled)]


def is_early(state: str | None) -> bool:
    """Whether a batch of this state has not begun with its rows, so that a cancel costs nothing."""
    word = (state or "").lower().removeprefix("job_state_").removeprefix("batch_state_")
    return word in _NOT_STARTED


def is_ours(remote: Remote, job: Job) -> bool:
    """Whether it came of another attempt of ours, not of somebody who repeated the last one."""
    return remote.phase is Phase.ACTIVE and remote.label != lookup.label(job)
