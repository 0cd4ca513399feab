"""Find result files on disk that are damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ..core.batch import Batch
from ..core.job import Job, JobState
from ..core.result import Outcome
from ..core.row_codes import outcome_of
from ..data import structured
from ..providers.shared import foreign_lines
from ..storage import files
from ..storage.store import Store
from .results import custom_ids, reader_of, result_file


class Harm(msgspec.Struct, frozen=True):
    """A part of a job's results that is not on disk as it came."""

    job: Job
    part: str
    path: Path
    what: str


def harmed(store: Store, batch: Batch) -> list[Harm]:
    """Return the result files of a batch, and of those it takes answers from, that are damaged."""
    batches = dict.fromkeys([batch.id, *batch.sources])
    return [harm for each in batches for job in store.jobs(each) for harm in of_job(store, job)]


def of_job(store: Store, job: Job) -> list[Harm]:
    """Return the result files of a job that are damaged."""
    found = []
    for part in job.parts if job.state in {JobState.DONE, JobState.GONE} else ():
        path = result_file(store, job, part)
        known = job.sums.get(part, "")
        if job.state is JobState.GONE and not known:
            continue  # it may never have come
        if what := files.harm(path, known):
            found.append(Harm(job, part, path, what))
    return found


def paths(store: Store, batch: Batch) -> set[Path]:
    """Return the paths of the result files that `harmed` names."""
    return {harm.path for harm in harmed(store, batch)}


def unread(store: Store, job: Job, instead: Mapping[Path, Path]) -> int:
    """Return how many rows of a job, answered when it was collected, its files would lack.

    Parameters
    ----------
    instead
        Files that are to take the place of others.
    """
    outcomes = store.pack(job.batch_id, "outcomes")
    owners = memoryview(store.pack(job.batch_id, "owners")).cast("I")
    batch = store.batch(job.batch_id)
    ids = custom_ids(store, batch) if batch else []
    wanted = {
        ids[row]
        for row in store.job_rows(job.id)
        if owners[row] == job.number and outcome_of(outcomes[row]) is Outcome.OK
    }
    parse = structured.never_raising(reader_of(job.provider).parse)
    if batch and batch.adopted:
        parse = foreign_lines.Lines(parse, job.provider, ids)
        # What came again may have another order, in which a place names another row.
        parse.skip()
    whole = [result_file(store, job, part) for part in job.parts]
    for path in (instead.get(path, path) for path in whole):
        for line in files.lines(path) if path.exists() else ():
            wanted.discard(parse(line, job.endpoint).custom_id)
    return len(wanted)
