"""Looking for the job of a create whose answer was lost: it is there, it is not, or nobody knows.

A provider that keeps our label answers by itself. Another one can only name candidates, jobs of
the right size; which of them is ours the custom_ids of its results show, once it has some.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from ..core.errors import Undecided, Vanished
from ..core.ids import Ranges, row_of
from ..core.job import Job, Phase, Remote
from ..providers.base import Adapter

#: Stands in a label between the job's id and the number of the attempt.
MARK = "-a"

#: How far back attempts are looked for, as our clock may be wrong (seconds).
LOOK_BACK = 31 * 86400.0

#: The same before a create is repeated, which costs a page or two (seconds).
CLOCKS = 86400.0

#: How often a job is sent again by itself after a lost create; then the user is asked.
RESENDS = 2


async def find(
    adapter: Adapter,
    job: Job,
    rows: Ranges,
    others: Collection[str],
    label: str,
    since: float,
    strangers: set[str],
) -> Remote | None:
    """Return the remote job that a lost create made, or None when there is none yet.

    Parameters
    ----------
    rows
        The rows that `job` asks for.
    others
        Remote ids that belong to other jobs.
    label
        The mark that the create carried.
    since
        When it was sent (Unix seconds), as our clock said then.
    strangers
        Remote ids that earlier looks for `job` proved to be another's; those of this one are added.

    Raises
    ------
    Undecided
        A job that is still under way may be the one.
    """
    try:
        return await adapter.find(label, job, since)
    except Undecided as doubt:
        excluded = {*others, *strangers}
        candidates = [each for each in doubt.candidates if each.remote_id not in excluded]
    wanted = set(rows)
    undecided = []
    for remote in candidates:
        custom_id = await _first_id(adapter, job, remote)
        if not custom_id:
            undecided.append(remote)
        elif row_of(custom_id, job.batch_id) in wanted:
            return remote
        else:
            strangers.add(remote.remote_id)
    if undecided:
        ids = ", ".join(remote.remote_id for remote in undecided)
        raise Undecided(
            f"{job.provider} keeps no label of ours, and {ids} may be what was sent: it is known "
            f"when that job ends, or `%llm_batch resolve NAME` decides",
            undecided,
        )
    return None


async def is_absent(
    adapter: Adapter, job: Job, since: float, others: Collection[str], later: Collection[str]
) -> bool:
    """Whether a listing that is surely up to date shows no job that a lost create may have made.

    Listings lag, nobody documents by how much, and silence alone proves nothing. One that shows a
    later create of ours is new enough to show an earlier one.

    Parameters
    ----------
    since
        When the create was sent (Unix seconds), as our clock said then.
    others
        Remote ids that belong to other jobs, or were proved to.
    later
        Remote ids of creates that began after the outcome of this one was lost.
    """
    if not later:
        return False
    labelled, current = adapter.limits(job.endpoint).labelled, False
    async for remote in adapter.list(since - LOOK_BACK):
        if remote.remote_id in later:
            current = True
            continue
        alike = remote.size in {0, job.rows} and remote.remote_id not in others
        if owner(remote.label) == job.id if labelled else alike:
            return False
    return current


def owner(mark: str | None) -> str:
    """Return the id of the job whose label `mark` is; empty where it is none of ours."""
    job_id, separator, number = (mark or "").rpartition(MARK)
    return job_id if separator and number.isdecimal() else ""


def not_listed(job: Job) -> str:
    """Return what is said of a lost create that no listing shows."""
    if job.resent >= RESENDS:
        return (
            f"{job.provider} has lost {job.resent + 1} submissions of it in a row: nothing is sent "
            "again by itself, `%llm_batch resolve NAME --as-absent --yes` sends it"
        )
    return (
        f"{job.provider} does not list it, but a listing may lag: it is looked for until it shows, "
        "and nothing is sent again before `%llm_batch resolve NAME` decides"
    )


def waiting(undecided: Sequence[tuple[Job, Sequence[Remote]]]) -> str:
    """Return whether waiting settles what became of lost creates, in a sentence for people."""
    if all(candidates for _, candidates in undecided):
        return "Waiting decides by itself when such a job ends: the ids of its rows tell."
    who = " and ".join(dict.fromkeys(job.provider for job, found in undecided if not found))
    return f"Waiting decides only if {who} lists it later; it is looked for all the time."


async def attempts(
    adapter: Adapter, job: Job, since: float, back: float = LOOK_BACK
) -> dict[int, Remote]:
    """Return the remote jobs of every attempt to create `job`, where labels tell them.

    Parameters
    ----------
    since
        When it was made (Unix seconds), as our clock said then.
    back
        How much earlier a listing begins (seconds), as our clock may be wrong.
    """
    found: dict[int, Remote] = {}
    async for remote in adapter.list(since - back):
        if owner(remote.label) == job.id and remote.label is not None:
            found.setdefault(int(remote.label.rpartition(MARK)[2]), remote)
    return found


def label(job: Job) -> str:
    """Return the mark under which this attempt to create can be found again."""
    return f"{job.id}{MARK}{job.attempts}"


async def _first_id(adapter: Adapter, job: Job, remote: Remote) -> str:
    """Return the custom_id of the first result; empty while there is none to read."""
    if remote.phase is not Phase.ENDED:
        return ""
    for part, ref in remote.parts.items():
        line = _FirstLine()
        with contextlib.suppress(_Enough, Vanished):
            await adapter.fetch(remote.remote_id, part, ref, line)
        if line.text():
            return adapter.parse(line.text(), job.endpoint).custom_id
    return ""


class _Enough(Exception):
    """Ends a download whose rest is not wanted."""


class _FirstLine:
    """Takes the first line of a download and no more."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes, /) -> None:
        self._data += data
        if b"\n" in data:
            raise _Enough

    def text(self) -> bytes:
        return bytes(self._data).partition(b"\n")[0]
