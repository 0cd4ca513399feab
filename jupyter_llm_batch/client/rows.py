"""One row of a batch: find it, its request, its answer, its prompt."""

from __future__ import annotations

from msgspec.structs import replace

from ..core.batch import Batch
from ..core.errors import NotFound
from ..core.job import Job
from ..core.result import Result
from ..core.row_codes import outcome_of
from ..storage import files, inherited_rows
from ..storage.store import Store
from . import damaged_files
from .results import custom_ids, is_better, line_reader, read, reader_of, result_file, value


def find_row(store: Store, batch: Batch, wanted: str) -> int:
    """Return the position of the row that a user names.

    Parameters
    ----------
    wanted
        The custom_id in an adopted batch; the position; or else the first such label of the
        input's index, or key of its dict.

    Raises
    ------
    NotFound
        There is no such row.
    """
    if batch.adopted and wanted in (ids := custom_ids(store, batch)):
        return ids.index(wanted)
    if wanted.isdecimal() and int(wanted) < batch.rows:
        return int(wanted)
    labels = _labels(store, batch)
    if wanted in labels:
        return labels.index(wanted)
    other = "a custom_id" if batch.adopted else "an index label"
    raise NotFound(
        f"{batch.title} has no row {wanted!r}: its rows are 0 to {batch.rows - 1}"
        + (f", or say {other}" if batch.adopted or labels else "")
    )


def _labels(store: Store, batch: Batch) -> list[str]:
    """Return the index of a pandas input, or the keys of a dict, as a user types them."""
    if batch.adopted or (batch.shape.kind != "dict" and batch.shape.library != "pandas"):
        return []
    bound = value(store, batch, [None] * batch.rows)
    return [str(label) for label in (bound if batch.shape.kind == "dict" else bound.index)]


def request_line(store: Store, batch: Batch, row: int) -> tuple[bytes, Job]:
    """Return the exact request of a row, as it was sent last, and its job.

    Raises
    ------
    NotFound
        The batch has no such row, or it was left out.
    """
    if not 0 <= row < batch.rows:
        raise NotFound(f"{batch.title} has rows 0 to {batch.rows - 1}")
    for job in reversed(store.jobs(batch.id)):
        rows = store.job_rows(job.id)
        if any(start <= row < stop for start, stop in rows.pairs):
            path = store.folder_of(batch.id) / job.payload
            if batch.adopted and not path.exists():
                break
            for here, line in zip(rows, files.lines(path), strict=False):
                if here == row:
                    return line, job
    if batch.adopted:
        raise NoRequest(batch, job)
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
    if row in taken:
        source, there = taken[row]
        origin = store.batch(source)
        if origin is not None:
            return request_line(store, origin, there)
    raise NotFound(f"row {row} of {batch.title} was left out (--skip-null)")


class NoRequest(NotFound):
    """The request of a row of `job`, which was created elsewhere, is not here."""

    def __init__(self, batch: Batch, job: Job) -> None:
        reason = job.unasked or "what the provider handed out has no request of its own for it"
        super().__init__(
            f"{batch.title} was created elsewhere, and the request of this row is not here: "
            f"{reason}"
        )
        self.job = job


def read_row(store: Store, batch: Batch, row: int) -> Result | None:
    """Return the whole result of one row without those of the others; None where there is none."""
    if outcome_of(store.pack(batch.id, "outcomes")[row]) is None:
        return None
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    if not owners[row]:
        taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
        source, there = taken.get(row, ("", 0))
        origin = store.batch(source) if source else None
        return (
            read_row(store, origin, there)
            if origin
            else read(store, batch, damaged=damaged_files.paths(store, batch))[row]
        )
    wanted = custom_ids(store, batch)[row]
    for job in store.jobs(batch.id):
        if job.number != owners[row]:
            continue
        parse, skip = line_reader(store, batch, job)
        damaged = {harm.path for harm in damaged_files.of_job(store, job)}
        found = None
        for path in (result_file(store, job, part) for part in job.parts):
            if path in damaged:
                skip()
                continue
            for line in files.lines(path) if path.exists() else ():
                if batch.adopted or wanted.encode() in line:
                    result = parse(line, job.endpoint)
                    if result.custom_id == wanted and is_better(result, found):
                        found = replace(result, raw=line.rstrip(b"\r\n"))
        if found is not None:
            return found
    damaged = damaged_files.paths(store, batch)
    return read(store, batch, whole=True, damaged=damaged)[
        row
    ]  # no line of its own: what became of its job


def prompt_text(job: Job, line: bytes) -> str:
    """Return the prompt of a request line, for people to read."""
    return reader_of(job.provider).prompt_of(line)


def job_of_rows(store: Store, batch: Batch) -> dict[int, Job]:
    """Return the job that answered each row; rows of earlier batches have theirs."""
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    jobs = {job.number: job for job in store.jobs(batch.id)}
    found = {row: jobs[number] for row, number in enumerate(owners) if number in jobs}
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
    theirs: dict[str, dict[int, Job]] = {batch.id: found}
    for row, (source, there) in taken.items():
        if row in found:
            continue
        if source not in theirs:
            origin = store.batch(source)
            theirs[source] = job_of_rows(store, origin) if origin else {}
        if there in theirs[source]:
            found[row] = theirs[source][there]
    return found
