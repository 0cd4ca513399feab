"""Answers as files and tables for other tools."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import UsageProblem
from ..data import columns
from ..data.tables import frame_of_records
from ..storage.files import PayloadWriter, writing

#: Rows, or characters, that are held in memory as text at a time.
PIECE = 65536

#: What a formula begins with in Excel, LibreOffice and Google Sheets; blanks before it go away.
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")


def check(path: Path, *, spreadsheet: bool = False) -> str:
    """Return the format that a path's ending names.

    Raises
    ------
    UsageProblem
        The ending is none of ``.csv``, ``.jsonl``, ``.parquet``, or the folder is not there; or
        `spreadsheet` is asked of another format than CSV.
    """
    ending = path.suffix.lower()
    if ending not in {".csv", ".jsonl", ".parquet"}:
        raise UsageProblem(f"cannot export to {path.name!r}: use .csv, .jsonl or .parquet")
    if spreadsheet and ending != ".csv":
        raise UsageProblem(f"--spreadsheet is for .csv files: {path.name} holds no formulas")
    if not path.parent.is_dir():
        raise UsageProblem(f"there is no folder {path.parent}")
    return ending


def write(records: Sequence[Mapping[str, Any]], path: Path, *, spreadsheet: bool = False) -> Path:
    """Write `records` to `path`, whole or not at all, in the format that its ending names.

    With `spreadsheet`, text of a CSV file that a spreadsheet would run as a formula is escaped.
    """
    ending = check(path)
    with writing(path, private=False) as writer:
        if ending == ".parquet":
            _parquet(frame_of_records(records), writer)
        elif ending == ".jsonl":
            _jsonl(records, writer)
        else:
            _csv(list(records[0]), records, writer, _escaped if spreadsheet else _as_is)
    return path


def write_frame(frame: Any, path: Path, *, spreadsheet: bool = False) -> Path:
    """Write an answered frame like `write`: the input's columns, then the answers."""
    ending = check(path)
    made = _arrow(frame)
    with writing(path, private=False) as writer:
        if ending == ".parquet":
            _parquet(made, writer)
            return path
        if ending == ".jsonl":
            _jsonl(_rows(made, msgspec.Raw), writer)
        else:
            rows = _rows(made, msgspec.json.decode)
            _csv(made.column_names, rows, writer, _escaped if spreadsheet else _as_is)
    return path


def _rows(made: Any, read: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as dicts; what `read` makes of the JSON text in columns of JSON."""
    import pyarrow as pa

    odd = [field.name for field in made.schema if isinstance(field.type, pa.JsonType)]
    for part in made.to_batches(max_chunksize=PIECE):
        for row in part.to_pylist():
            for name in odd:
                if row[name] is not None:
                    row[name] = read(row[name])
            yield row


def _arrow(frame: Any) -> Any:
    """Return a frame as a pyarrow Table, with an index that is more than a number as columns."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    if hasattr(frame, "to_arrow"):
        return _from_polars(frame)
    import pandas as pd

    index = frame.index
    plain = isinstance(index, pd.RangeIndex) and index.name is None
    if not plain or index.start or index.step != 1:
        taken = [name for name in index.names if name is not None and name in frame.columns]
        if taken:
            raise UsageProblem(
                f"the index {taken[0]!r} has the name of a column, and a file has only columns: "
                f"export results.rename_axis(index={{{taken[0]!r}: ...}}) yourself"
            )
        frame = frame.reset_index()
    made = {}
    for position, name in enumerate(frame.columns):
        values = frame.iloc[:, position]
        found = [None if _is_missing(each) else each for each in values]
        if values.dtype == object and _PLAIN.issuperset(map(type, found)):
            made[_text(name)] = columns.for_pyarrow(found)
            continue
        try:
            made[_text(name)] = pa.Array.from_pandas(values)
        except (pa.ArrowException, TypeError, OverflowError):
            # Values of several kinds have no other common form.
            texts = [None if each is None else _text(each) for each in found]
            made[_text(name)] = pa.array(texts, pa.string())
    return pa.table(made)


#: The types of what is read from JSON.
_PLAIN = frozenset({type(None), bool, int, float, str, list, dict})


def _from_polars(frame: Any) -> Any:
    """Return a polars frame as a Table.

    Of columns of objects polars itself gives the addresses, and of 128-bit integers what pyarrow
    does not read.
    """
    odd = [name for name in frame.columns if not _is_known_to_arrow(frame.get_column(name))]
    made = frame.drop(odd).to_arrow()
    for name in odd:
        values = columns.for_pyarrow(frame.get_column(name).to_list())
        made = made.append_column(name, values)
    return made.select(frame.columns)


def _is_known_to_arrow(column: Any) -> bool:
    """Whether a polars column keeps its values in pyarrow."""
    import polars as pl
    import pyarrow as pa

    try:
        column.clear().to_arrow()
    except pa.ArrowException:
        return False
    return bool(column.dtype != pl.Object)


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return value != value  # noqa: PLR0124 - NaN is what is not itself
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)


def _parquet(made: Any, writer: PayloadWriter) -> None:
    import pyarrow as pa

    try:
        found = _packed(made)
    except pa.ArrowException:
        found = _packed(_storable(made))
    writer.write(found)


def _packed(made: Any) -> bytes:
    """Return a table as Parquet; `ArrowException` if a column has no form there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(made, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _storable(made: Any) -> Any:
    """Return a table whose columns without a form in Parquet, as categories of intervals, are text.

    It is what a CSV file holds of them.
    """
    import pyarrow as pa

    for position, name in enumerate(made.column_names):
        column = made.column(position)
        try:
            _packed(pa.table({name: column}))
        except pa.ArrowException:
            texts = [None if each is None else _text(each) for each in column.to_pylist()]
            made = made.set_column(position, name, pa.array(texts, pa.string()))
    return made


def _jsonl(rows: Iterable[Mapping[str, Any]], writer: PayloadWriter) -> None:
    encode = msgspec.json.Encoder(enc_hook=str).encode
    for row in rows:
        writer.write(encode(row) + b"\n")


def _as_is(value: Any) -> Any:
    return value


def _escaped(value: Any) -> Any:
    """Return text behind an apostrophe where a spreadsheet would take it for a formula."""
    if not isinstance(value, str) or value.lstrip()[:1] not in _FORMULA:
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _csv(
    names: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    writer: PayloadWriter,
    cell: Callable[[Any], Any],
) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(map(cell, names))
    for row in rows:
        values = (row.get(name) for name in names)
        table.writerow(
            [cell(_text(each) if isinstance(each, (dict, list)) else each) for each in values]
        )
        if text.tell() > PIECE:
            writer.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
    writer.write(text.getvalue().encode())
