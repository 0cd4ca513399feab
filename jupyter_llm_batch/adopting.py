"""Batches that were created elsewhere: rows are known by the custom_ids of their answers.

Whoever created them has the input. Only where the provider hands it out again (OpenAI's uploaded
file) are the prompts known here too, and rows that got no answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from . import payloads, planning
from .errors import Incomplete
from .lifecycle import WAITING
from .models import Batch, Job, JobState, Recipe, Remote, Result, Shape
from .planning import Ranges
from .submission import ROWS_FILE

#: Name of the pack that holds the custom_ids of an adopted batch, in the order of its rows.
KEYS = "keys"

_custom_id = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def records(
    remote: Remote, provider: str, *, name: str, notebook: str, now: float, simulated: bool
) -> tuple[Batch, Job]:
    """Return batch and job for what a provider says about one of its jobs."""
    batch_id = planning.new_batch_id()
    model = remote.model or "unknown"
    rows = remote.counts.total if remote.counts else 0
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
        state=JobState.RUNNING,
        upload_id=remote.input,
        remote_id=remote.remote_id,
        remote_state=remote.state,
        counts=remote.counts,
        created_at=now,
        submitted_at=remote.created_at or now,
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


def check_requests(path: Path) -> None:
    """Check request lines that a provider handed out; what is not whole is fetched again.

    Raises
    ------
    Incomplete
        The file ended early.
    """
    try:
        payloads.check_whole(path)
        if not all(map(_id_of, payloads.lines(path))):
            raise Incomplete(f"{path.name} holds lines without a custom_id")
    except Incomplete:
        path.unlink()
        raise


def find_rows(
    requests: Path, answers: Iterable[Path], parse: Callable[[bytes], Result]
) -> tuple[list[str], Ranges]:
    """Return the custom_ids in natural order, and the rows of the request lines in theirs.

    Parameters
    ----------
    requests
        The request lines, if the provider gave them; the file may be missing.
    answers
        The result files.
    parse
        Reads one result line.
    """
    asked = [_id_of(line) for line in payloads.lines(requests)] if requests.exists() else []
    found = dict.fromkeys(asked)
    for path in answers:
        found.update(dict.fromkeys(parse(line).custom_id for line in payloads.lines(path)))
    keys = sorted((key for key in found if key), key=_natural)
    row_of = {key: row for row, key in enumerate(keys)}
    rows = Ranges()
    for key in asked or keys:
        rows.add(row_of[key])
    return keys, rows


def write_keys(keys: Sequence[str], folder: Path) -> None:
    """Write the custom_ids where the answers' shape is restored from."""
    with payloads.writing(payloads.private_folder(folder) / ROWS_FILE) as writer:
        writer.write(msgspec.json.encode(keys))


def read_keys(packed: bytes) -> list[str]:
    """Return the custom_ids of an adopted batch."""
    return msgspec.json.decode(packed, type=list[str]) if packed else []


def _id_of(line: bytes) -> str:
    try:
        return str(msgspec.json.decode(_custom_id(line)["custom_id"]))
    except (msgspec.DecodeError, KeyError):
        return ""


def _natural(key: str) -> list[tuple[int, int | str]]:
    """Return what sorts ``row-9`` before ``row-10``."""
    parts = re.split(r"([0-9]+)", key)
    return [(1, int(part)) if part.isdigit() and part.isascii() else (0, part) for part in parts]
