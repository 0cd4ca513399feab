"""Build pandas, polars and pyarrow columns that hold values exactly.

A column gets a type only if that type holds every value. Else it holds Python objects (pandas,
polars) or JSON text (pyarrow). Building never fails: one odd value only costs its column the type.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

#: Above this not every integer is exact as a float.
_WIDE = 2**53
#: Most distinct keys that become fields of a struct type; more are data, not field names.
_FIELDS = 256
#: Deepest nesting that becomes a type.
_DEEP = 32


class _NoType(Exception):
    """The values have no type in common that holds each of them exactly."""


# -- pandas ----------------------------------------------------------------------------------------


def for_pandas(values: Sequence[Any], *, vectors: bool = False) -> Any:
    """Return a pandas series: typed text and numbers, vectors as arrays, the rest as objects.

    Parameters
    ----------
    vectors
        Lists of numbers are embeddings.
    """
    import pandas as pd

    def typed() -> Any:
        first = _first(values)
        if isinstance(first, str):
            _check_text(values)
            text = pd.Series([""]).dtype  # object before pandas 3
            return _from_text(values, lambda each: pd.Series(each, dtype=text))
        if vectors and _is_vector(first[0] if _is_nested(first) else first):
            return pd.Series(_arrays(values), dtype=object)
        return pd.Series(list(values), dtype=_number_type(values))

    return _built(typed, lambda: pd.Series(list(values), dtype=object))


def _number_type(values: Sequence[Any]) -> Any:
    """Return pandas' type for numbers and booleans; a nullable one if values are missing."""
    kinds = _kinds(values)
    missing = any(value is None for value in values)
    if kinds == {bool}:
        return "boolean" if missing else "bool"
    if kinds == {int}:
        return "Int64" if missing else "int64"  # those beyond it raise
    if kinds and kinds <= {int, float}:
        _check_floats(values)
        if missing and any(value != value for value in values):  # noqa: PLR0124 - NaN is no NA
            return object
        return "Float64" if missing else "float64"
    return object


def _arrays(values: Sequence[Any]) -> list[Any]:
    """Return vectors, or lists of vectors, as arrays."""
    import numpy as np

    if not _is_nested(_first(values)):
        flat, ends = _flat(values)
        numbers = np.frombuffer(flat)
        return [
            None if value is None else numbers[end - len(value) : end]
            for value, end in zip(values, ends, strict=True)
        ]
    return [None if value is None else np.array(value, dtype=float) for value in values]


# -- polars ----------------------------------------------------------------------------------------


def for_polars(name: str, values: Sequence[Any], *, vectors: bool = False) -> Any:
    """Return a polars series of the values' common type, or of objects; see `for_pandas`."""
    import polars as pl

    return _built(
        lambda: pl.Series(name, _typed(values, vectors=vectors)),
        lambda: pl.Series(name, list(values), dtype=pl.Object),
    )


# -- pyarrow ---------------------------------------------------------------------------------------


def for_pyarrow(values: Sequence[Any], *, vectors: bool = False) -> Any:
    """Return an arrow array of the values' common type, or of JSON text; see `for_pandas`."""
    return _built(lambda: _typed(values, vectors=vectors), lambda: _as_json(values))


def _typed(values: Sequence[Any], *, vectors: bool) -> Any:
    """Return an arrow array, text if all values are missing; raises `_NoType`."""
    import pyarrow as pa

    first = _first(values)
    if isinstance(first, str):
        _check_text(values)
        return _from_text(values, lambda each: pa.array(each, pa.string()))
    if vectors and _is_vector(first):
        return _vectors(values)
    return pa.array(values, _common(values, 0))


def _common(values: Sequence[Any], depth: int) -> Any:
    """Return the arrow type that holds each value exactly; a missing key is null."""
    import pyarrow as pa

    kinds = _kinds(values)
    if not kinds:
        return pa.null()
    if kinds == {str}:
        return pa.string()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        found = [value for value in values if value is not None]
        if min(found) >= -(2**63) and max(found) < 2**63:
            return pa.int64()
        if min(found) >= 0 and max(found) < 2**64:
            return pa.uint64()
    elif kinds <= {int, float}:
        _check_floats(values)
        return pa.float64()
    elif depth < _DEEP and kinds == {list}:
        inner = list(chain.from_iterable(value for value in values if value is not None))
        return pa.list_(_common(inner, depth + 1))
    elif depth < _DEEP and kinds == {dict}:
        found = [value for value in values if value is not None]
        keys: dict[str, None] = {}
        for value in found:
            keys.update(dict.fromkeys(value))
            if len(keys) > _FIELDS:
                raise _NoType
        if keys:
            return pa.struct(
                [(key, _common([each.get(key) for each in found], depth + 1)) for key in keys]
            )
    raise _NoType


def _vectors(values: Sequence[Any]) -> Any:
    """Return vectors of one length as a column of that length (polars' array), others as lists."""
    import pyarrow as pa

    missing = pa.array([value is None for value in values])
    lengths = {len(value) for value in values if value is not None}
    if len(lengths) == 1:
        (length,) = lengths
        flat, _ = _flat(values, blank=length)
        return pa.FixedSizeListArray.from_arrays(_doubles(flat), length, mask=missing)
    flat, ends = _flat(values)
    return pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), _doubles(flat), mask=missing)


def _doubles(flat: bytearray) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(pa.float64(), len(flat) // 8, [None, pa.py_buffer(flat)])


def _as_json(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    def texts(*, ascii_only: bool) -> Any:
        encode = json.JSONEncoder(
            ensure_ascii=ascii_only, separators=(",", ":"), default=str, check_circular=False
        ).encode
        found = [None if value is None else encode(value) for value in values]
        return pa.array(found, pa.string())

    try:
        made = texts(ascii_only=False)
    except UnicodeEncodeError:  # halves of surrogate pairs, which JSON can escape
        made = texts(ascii_only=True)
    if isinstance(made, pa.ChunkedArray):
        return made.cast(pa.json_())
    return pa.ExtensionArray.from_storage(pa.json_(), made)


# -- of all ----------------------------------------------------------------------------------------


def _built(typed: Callable[[], Any], plain: Callable[[], Any]) -> Any:
    """Return what `typed` builds, or `plain` where no type holds the values."""
    try:
        return typed()
    except BaseException as error:
        # polars' panics are not an `Exception`.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            return plain()
        raise


def _first(values: Sequence[Any]) -> Any:
    return next((value for value in values if value is not None), "")


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], float)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _kinds(values: Iterable[Any]) -> set[type]:
    return set(map(type, values)) - {type(None)}


def _check_text(values: Sequence[Any]) -> None:
    """Raise if a value is not text: libraries would convert it."""
    if not _kinds(values) <= {str}:
        raise _NoType


def _check_floats(values: Sequence[Any]) -> None:
    """Raise if an integer is not exact as a float."""
    for value in values:
        if type(value) is int and not (-_WIDE <= value <= _WIDE or _is_float(value)):
            raise _NoType


def _is_float(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _from_text(values: Sequence[str | None], make: Callable[[Sequence[str | None]], Any]) -> Any:
    """Make a column of text; lone surrogates, which no column can hold, become question marks."""
    try:
        return make(values)
    except UnicodeEncodeError:
        clean = (value and value.encode("utf-8", "replace").decode() for value in values)
        return make(list(clean))


def _flat(
    vectors: Sequence[Sequence[float] | None], *, blank: int = 0
) -> tuple[bytearray, list[int]]:
    """Return all numbers in one buffer, and where each vector ends: much faster than by row.

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
