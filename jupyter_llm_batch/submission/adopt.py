"""Batches that were created elsewhere: rows are known by the custom_ids of their answers.

Whoever created them has the input. Only where the provider hands it out again (OpenAI's uploaded
file) are the prompts known here too, and rows that got no answer. Nobody needs it to read answers:
whatever is wrong with it keeps nothing back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec

from ..core import ids
from ..core.batch import Batch
from ..core.ids import Ranges
from ..core.job import Job, JobState, Phase, Remote
from ..core.request import Recipe, Shape
from ..core.result import Outcome, Result
from ..core.row_codes import WAITING
from ..providers.shared import foreign_lines
from ..storage import files
from ..storage.input_file import ROWS_FILE

#: Name of the pack that holds the custom_ids of an adopted batch, in the order of its rows.
KEYS = "keys"

#: Why requests are not here, of a provider that keeps them to itself.
NOT_HANDED_OUT = "the provider does not hand out the requests of a batch"

#: The model of a job whose provider names none, until its answers do.
UNKNOWN = "unknown"


def records(
    remote: Remote, provider: str, *, name: str, notebook: str, now: float, simulated: bool
) -> tuple[Batch, Job]:
    """Return batch and job for what a provider says about one of its jobs."""
    batch_id = ids.new_batch_id()
    remote = as_read(remote)
    model = remote.model or UNKNOWN
    rows = remote.size
    ended = remote.phase is Phase.ENDED
    batch = Batch(
        id=batch_id,
        notebook=notebook,
        name=name,
        version=1,
        created_at=now,
        rows=rows,
        recipe=Recipe(endpoint=remote.endpoint),
        models=[f"{provider}:{model}"],
        shape=Shape(kind="dict"),
        plan_hash="",
        simulated=simulated,
        max_retries=0,
        adopted=True,
    )
    job = Job(
        id=f"{batch_id}-r0-j1",
        batch_id=batch_id,
        round=0,
        number=1,
        provider=provider,
        model=model,
        endpoint=remote.endpoint,
        rows=rows,
        bytes=0,
        payload="r0-j1.jsonl",
        state=JobState.COLLECTING if ended else JobState.RUNNING,
        upload_id=remote.input,
        remote_id=remote.remote_id,
        remote_state=remote.state,
        counts=remote.counts,
        created_at=now,
        submitted_at=remote.created_at,
        ended_at=remote.ended_at if ended else None,
        parts=remote.parts if ended else {},
        rest=remote.rest if ended else None,
        error=remote.error,
        expires_at=remote.expires_at,
        keep_until=remote.keep_until,
    )
    return batch, job


def packs(rows: int) -> dict[str, bytes]:
    """Return the per-row data of rows that nothing is known about."""
    return {
        "hashes": bytes(16 * rows),
        "outcomes": bytes([WAITING]) * rows,
        "owners": bytes(4 * rows),
    }


def as_read(remote: Remote) -> Remote:
    """Return a job that is only read: one that was refused as a whole has ended, with its reason.

    Its requests may still be had, and with them its rows.
    """
    if remote.phase not in {Phase.FAILED, Phase.LATER}:
        return remote
    return msgspec.structs.replace(
        remote, phase=Phase.ENDED, rest=Outcome.FAILED, error=remote.error or remote.state
    )


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the rows of an adopted batch.

    Attributes
    ----------
    keys
        Their names, in natural order: custom_ids, and stand-ins for those that nobody tells.
    rows
        The rows of the request lines in theirs, and then all others.
    models
        The models that answered.
    endpoint
        The endpoint that answered; empty where no line tells.
    """

    keys: list[str]
    rows: Ranges
    models: list[str]
    endpoint: str = ""


def find_rows(
    requests: Path,
    answers: Iterable[Path],
    job: Job,
    parse: Callable[[bytes, str], Result] | None = None,
) -> Rows:
    """Return the rows of an adopted batch: each request, each answer, and what was only counted.

    Parameters
    ----------
    requests
        The request lines, if the provider gave them; the file may be missing.
    answers
        The result files.
    parse
        Reads one result line.
    """
    asked = [*map(foreign_lines.request_id, files.lines(requests))] if requests.exists() else []
    found = dict.fromkeys(asked)
    endpoint, models = "", {}
    if parse is not None:
        read = foreign_lines.Lines(parse, job.provider)
        for path in answers:
            for line in files.lines(path):
                endpoint = endpoint or foreign_lines.endpoint_of(line)
                result = read(line, endpoint or job.endpoint)
                found[result.custom_id] = None
                models.update(dict.fromkeys(filter(None, [result.model])))
    keys = sorted(found, key=_natural)
    total = job.counts.total if job.counts else 0
    unknown = (f"(unknown {number})" for number in count(1))
    keys += islice((name for name in unknown if name not in found), max(0, total - len(keys)))
    row_of = {key: row for row, key in enumerate(keys)}
    rows, sent = Ranges(), set(asked)
    for key in [*asked, *(key for key in keys if key not in sent)]:
        rows.add(row_of[key])
    return Rows(keys=keys, rows=rows, models=[*models], endpoint=endpoint)


def about(batch: Batch, job: Job, found: Rows) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the answers tell of a job and of its batch beside their rows, as changes."""
    of_job: dict[str, Any] = {}
    of_batch: dict[str, Any] = {}
    if found.endpoint and found.endpoint != job.endpoint:
        of_job["endpoint"] = found.endpoint
        of_batch["recipe"] = msgspec.structs.replace(batch.recipe, endpoint=found.endpoint)
    if found.models and job.model == UNKNOWN:
        single = found.models[0] if len(found.models) == 1 else "mixed"
        of_job |= {"model": single, "models": found.models}
        of_batch["models"] = [f"{job.provider}:{model}" for model in found.models]
    return of_job, of_batch


def write_keys(keys: Sequence[str], folder: Path) -> None:
    """Write the custom_ids where the answers' shape is restored from."""
    with files.writing(files.private_folder(folder) / ROWS_FILE) as writer:
        writer.write(msgspec.json.encode(keys))


def read_keys(packed: bytes) -> list[str]:
    """Return the custom_ids of an adopted batch."""
    return msgspec.json.decode(packed, type=list[str]) if packed else []


def _natural(key: str) -> list[tuple[int, int | str]]:
    """Return what sorts ``row-9`` before ``row-10``."""
    parts = re.split(r"([0-9]+)", key)
    return [(1, int(part)) if part.isdigit() and part.isascii() else (0, part) for part in parts]
