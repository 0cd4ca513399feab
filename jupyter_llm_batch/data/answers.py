"""Return answers in the shape of the input, after a restart too. Imports pandas only if needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import msgspec

from ..core.request import Shape
from . import columns, input_copy
from .tagged_json import unpack

#: Extra columns of every answered frame; only the answer column can be renamed.
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
        File that `Items.snapshot` or `Frame.snapshot` wrote: the copy of the input.
    answers
        One per row, None where there is none.
    fields
        Columns that replace the answer column in a frame.
    errors, reasons
        Columns ``error`` and ``finish_reason`` of a frame; see `extra_columns`.
    models
        Column ``model`` of a frame.

    Raises
    ------
    Unreadable
        The copy of the input is missing or damaged.
    """
    if shape.kind == "one":
        return answers[0]
    if shape.kind == "list":
        return list(answers)
    if shape.kind == "dict":
        return dict(zip(_keys(snapshot, len(answers)), answers, strict=True))
    if shape.kind == "series":
        return _series(shape, snapshot, answers)
    names = extra_columns(shape, fields, routed=models is not None)
    added: dict[str, Sequence[Any]] = {
        **({shape.column: answers} if fields is None else fields),
        names["error"]: errors,
        names["finish_reason"]: reasons,
    }
    if models is not None:
        added[names["model"]] = models
    frame = _input(snapshot, shape.library, len(answers))
    for name, values in added.items():
        # Fields of a schema are lists where they are lists, and never vectors.
        vectors = fields is None and values is answers
        frame = _append(shape.library, frame, name, values, vectors=vectors)
    return frame


def extra_columns(shape: Shape, fields: Iterable[str] | None, *, routed: bool) -> dict[str, str]:
    """Return the names of the extra columns of a frame, by their usual names.

    A name that the input or the schema already uses is prefixed with the name of the answer
    column, as in ``answer_error``, and numbered if that is used too: ``answer_error_2``.

    Parameters
    ----------
    fields
        Columns that replace the answer column.
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


def _keys(snapshot: Path, rows: int) -> list[Any]:
    try:
        keys: list[Any] = unpack(msgspec.json.decode(snapshot.read_bytes()))
    except Exception as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from error
    if len(keys) != rows:
        raise Unreadable(f"it holds {len(keys)} keys instead of {rows}")
    return keys


class Unreadable(Exception):
    """The copy of the input cannot be read; its text says why."""


def _input(snapshot: Path, library: str, rows: int) -> Any:
    """Return the copy of the input; raises `Unreadable`."""
    try:
        frame = input_copy.read_copy(snapshot, library)
    except Exception as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from error
    if len(frame) != rows:
        raise Unreadable(f"it holds {len(frame)} rows instead of {rows}")
    return frame


def _series(shape: Shape, snapshot: Path, answers: Sequence[Any]) -> Any:
    if shape.library == "pandas":
        series = columns.for_pandas(answers, vectors=True)
        series.index = _input(snapshot, shape.library, len(answers)).index
        return series.rename(shape.column)
    if shape.library == "polars":
        return columns.for_polars(shape.column, answers, vectors=True)
    import pyarrow as pa

    column = columns.for_pyarrow(answers, vectors=True)
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _append(library: str, frame: Any, name: str, values: Sequence[Any], *, vectors: bool) -> Any:
    """Return `frame` with one more column."""
    if library == "pandas":
        # An array is assigned by position: a series would be aligned, and an index may repeat.
        frame[name] = columns.for_pandas(values, vectors=vectors).array
        return frame
    if library == "polars":
        return frame.hstack([columns.for_polars(name, values, vectors=vectors)])
    return frame.append_column(name, columns.for_pyarrow(values, vectors=vectors))
