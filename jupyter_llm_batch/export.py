"""Answers as files and tables for other tools."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .errors import UsageProblem
from .payloads import writing


def table(records: Sequence[Mapping[str, Any]], *, prefer_pandas: bool = False) -> Any:
    """Return `records` as a pandas frame or a pyarrow Table."""
    import pyarrow as pa

    columns = {name: [record[name] for record in records] for name in records[0]}
    made = pa.table(columns)
    if prefer_pandas and importlib.util.find_spec("pandas"):
        return made.to_pandas()
    return made


def write(records: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write `records` to `path`, whole or not at all, in the format that its ending names.

    Raises
    ------
    UsageProblem
        The ending is none of ``.csv``, ``.jsonl``, ``.parquet``.
    """
    ending = path.suffix.lower()
    if ending not in {".csv", ".jsonl", ".parquet"}:
        raise UsageProblem(f"cannot export to {path.name!r}: use .csv, .jsonl or .parquet")
    if not path.parent.is_dir():
        raise UsageProblem(f"there is no folder {path.parent}")
    with writing(path, private=False) as writer:
        if ending == ".jsonl":
            for record in records:
                writer.write(msgspec.json.encode(record) + b"\n")
        elif ending == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            sink = pa.BufferOutputStream()
            pq.write_table(table(records), sink)
            writer.write(sink.getvalue().to_pybytes())
        else:
            import io

            text = io.StringIO(newline="")
            rows = csv.DictWriter(text, fieldnames=[*records[0]])
            rows.writeheader()
            rows.writerows(records)
            writer.write(text.getvalue().encode())
    return path
