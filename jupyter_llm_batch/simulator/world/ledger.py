"""The bill: one entry for each row that was executed, whoever asked for it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .files import private_folder, private_open

_encode = msgspec.json.Encoder(order="deterministic").encode


def body_sha(body: Any) -> str:
    """Return the SHA-256 of a request body as compact JSON with sorted keys."""
    return hashlib.sha256(_encode(body)).hexdigest()


class Entry(msgspec.Struct, kw_only=True):
    """One executed and billed row."""

    provider: str
    endpoint: str
    model: str
    custom_id: str | None
    batch_id: str | None
    prompt_mark: str
    body_sha: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    mode: str
    at: float
    #: Part of the input that was written to a prompt cache.
    cache_write_tokens: int = 0


class Ledger:
    """Entries on disk: one JSONL file per batch, written whole, and one for real time.

    A batch's file is replaced in one step when the batch ends, so a simulator that is killed
    in between bills the rows once and not twice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)

    def bill_batch(self, batch_id: str, entries: Path) -> None:
        """Book the rows of a batch that ended, by taking over a file of JSON lines."""
        entries.replace(self._folder / f"{batch_id}.jsonl")

    def bill_realtime(self, entry: Entry) -> None:
        """Book one call."""
        with private_open(self._folder / "realtime.jsonl", "ab") as file:
            file.write(_encode(entry) + b"\n")

    def lines(self) -> Iterator[bytes]:
        """Yield the entries as JSON, in the order in which they were booked, batch by batch."""
        for path in sorted(self._folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
            with path.open("rb") as file:
                yield from (line.rstrip(b"\n") for line in file)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries."""
        decode = msgspec.json.Decoder(Entry).decode
        return (decode(line) for line in self.lines())

    def summary(self) -> dict[str, Any]:
        """Return the totals, and what was billed more than once."""
        bodies: Counter[str] = Counter()
        custom_ids: Counter[str] = Counter()
        tokens = {"input_tokens": 0, "cached_tokens": 0, "output_tokens": 0}
        for entry in self.entries():
            bodies[entry.body_sha] += 1
            if entry.custom_id is not None:
                custom_ids[entry.custom_id] += 1
            for name in tokens:
                tokens[name] += getattr(entry, name)
        return {
            "rows": bodies.total(),
            "distinct_bodies": len(bodies),
            "max_per_body": max(bodies.values(), default=0),
            **tokens,
            "duplicate_custom_ids": {key: n for key, n in custom_ids.items() if n > 1},
        }

    def clear(self) -> None:
        """Forget all entries."""
        for path in self._folder.glob("*.jsonl"):
            path.unlink()
