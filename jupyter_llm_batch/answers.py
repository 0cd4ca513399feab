"""Answers out, in the shape of the input, after a restart too; pandas is used only by its users."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import msgspec

from . import snapshots
from .cells import unpack
from .models import Shape

#: Columns of every answered frame; only the answers' own column can be named.
FIXED = ("error", "finish_reason")


def restore(
    shape: Shape,
    snapshot: Path,
    answers: Sequence[Any],
    *,
    fields: Mapping[str, Sequence[Any]] | None = None,
    errors: Sequence[str | None],
    reasons: Sequence[str | None],
    models: Sequence[str | None] | None = None,
) -> Any:
    """Return the answers in the shape of the input.

    Parameters
    ----------
    shape
        The form of the input.
    snapshot
        What the input's `snapshot` wrote.
    answers
        One per row, None where there is none.
    fields
        Columns that take the place of the answer column in a frame.
    errors, reasons
        Columns ``error`` and ``finish_reason`` of a frame; see `beside`.
    models
        Column ``model`` of a frame.
    """
    if shape.kind == "one":
        return answers[0]
    if shape.kind == "list":
        return list(answers)
    if shape.kind == "dict":
        keys = unpack(msgspec.json.decode(snapshot.read_bytes()))
        return dict(zip(keys, answers, strict=True))
    if shape.kind == "series":
        return _series(shape, snapshot, answers)
    names = beside(shape, fields, routed=models is not None)
    added: dict[str, Sequence[Any]] = {
        **({shape.column: answers} if fields is None else fields),
        names["error"]: errors,
        names["finish_reason"]: reasons,
    }
    if models is not None:
        added[names["model"]] = models
    return _APPEND[shape.library](snapshots.read(snapshot, shape.library), added)


def beside(shape: Shape, fields: Iterable[str] | None, *, routed: bool) -> dict[str, str]:
    """Return what the columns beside a frame's answers are called, by their usual names.

    Where the input has such a column, or a schema such a field, it is ``answer_error`` (after the
    name of the answer column); where there is that too, ``answer_error_2``.

    Parameters
    ----------
    fields
        Columns that take the place of the answer column.
    routed
        Whether there is a column ``model``.
    """
    taken = {*shape.columns, *([shape.column] if fields is None else fields)}
    names = {}
    for usual in (*FIXED, "model") if routed else FIXED:
        second = f"{shape.column}_{usual}"
        choices = chain([usual, second], (f"{second}_{number}" for number in count(2)))
        names[usual] = next(name for name in choices if name not in taken)
        taken.add(names[usual])
    return names


def _series(shape: Shape, snapshot: Path, answers: Sequence[Any]) -> Any:
    if shape.library == "pandas":
        series = _pandas_column(answers)
        series.index = snapshots.read(snapshot, shape.library).index
        return series.rename(shape.column)
    if shape.library == "polars":
        import polars as pl

        return pl.Series(shape.column, _arrow_column(answers))
    import pyarrow as pa

    column = _arrow_column(answers)
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _append_pandas(frame: Any, added: Mapping[str, Sequence[Any]]) -> Any:
    for name, values in added.items():
        # An array goes in by position: a series would be aligned, and an index may repeat.
        frame[name] = _pandas_column(values).array
    return frame


def _append_polars(frame: Any, added: Mapping[str, Sequence[Any]]) -> Any:
    import polars as pl

    return frame.hstack([pl.Series(name, _arrow_column(each)) for name, each in added.items()])


def _append_pyarrow(table: Any, added: Mapping[str, Sequence[Any]]) -> Any:
    for name, values in added.items():
        table = table.append_column(name, _arrow_column(values))
    return table


_APPEND = {"pandas": _append_pandas, "polars": _append_polars, "pyarrow": _append_pyarrow}


def _pandas_column(values: Sequence[Any]) -> Any:
    """Return text as pandas keeps text, vectors as arrays, anything else as objects."""
    import numpy as np
    import pandas as pd

    first = _first(values)
    if isinstance(first, str):
        text = pd.Series([""]).dtype  # object before pandas 3
        return _from_text(values, lambda each: pd.Series(each, dtype=text))
    if _is_vector(first):
        flat, ends = _flat(values)
        numbers = np.frombuffer(flat)
        values = [
            None if value is None else numbers[end - len(value) : end]
            for value, end in zip(values, ends, strict=True)
        ]
    elif _is_vectors(first):
        values = [None if value is None else np.array(value) for value in values]
    return pd.Series(list(values), dtype=_number_type(values))


def _number_type(values: Sequence[Any]) -> Any:
    """Return pandas' type for numbers and truth values; one that knows NA if some miss."""
    kinds = {type(value) for value in values if value is not None}
    missing = any(value is None for value in values)
    if kinds == {bool}:
        return "boolean" if missing else "bool"
    if kinds == {int}:
        return "Int64" if missing else "int64"
    if kinds and kinds <= {int, float}:
        return "Float64" if missing else "float64"
    return object


def _arrow_column(values: Sequence[Any]) -> Any:
    """Return text, vectors, or what the values have in common; where that is nothing, JSON text.

    Vectors of one length make a column of that length (polars calls it an array), others a list.
    """
    import pyarrow as pa

    first = _first(values)
    if isinstance(first, str):
        return _from_text(values, lambda each: pa.array(each, pa.string()))
    if _is_vector(first):
        missing = pa.array([value is None for value in values])
        lengths = {len(value) for value in values if value is not None}
        if len(lengths) == 1:
            (length,) = lengths
            flat, _ = _flat(values, blank=length)
            return pa.FixedSizeListArray.from_arrays(_doubles(flat), length, mask=missing)
        flat, ends = _flat(values)
        return pa.ListArray.from_arrays(
            pa.array([0, *ends], pa.int32()), _doubles(flat), mask=missing
        )
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError):
        encode = msgspec.json.Encoder().encode
        return pa.array([None if value is None else encode(value).decode() for value in values])


def _from_text(values: Sequence[str | None], make: Callable[[Sequence[str | None]], Any]) -> Any:
    """Make a column of text; lone surrogates, which no column can hold, become question marks."""
    try:
        return make(values)
    except UnicodeEncodeError:
        clean = (value and value.encode("utf-8", "replace").decode() for value in values)
        return make(list(clean))


def _doubles(flat: bytearray) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(pa.float64(), len(flat) // 8, [None, pa.py_buffer(flat)])


def _flat(
    vectors: Sequence[Sequence[float] | None], *, blank: int = 0
) -> tuple[bytearray, list[int]]:
    """Return all numbers in one piece, and where each vector ends: much faster than row by row.

    A missing vector takes `blank` numbers.
    """
    flat = bytearray()
    ends = []
    for vector in vectors:
        if vector is None:
            flat += bytes(8 * blank)
        else:
            flat += struct.pack(f"{len(vector)}d", *vector)
        ends.append(len(flat) // 8)
    return flat, ends


def _first(values: Sequence[Any]) -> Any:
    return next((value for value in values if value is not None), "")


def _is_vectors(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and _is_vector(value[0])


def _is_vector(value: Any) -> bool:
    return hasattr(value, "__array__") or (
        isinstance(value, list) and bool(value) and isinstance(value[0], float)
    )
