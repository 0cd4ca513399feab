"""Compare a copy with its original: values, and columns of pandas, polars and pyarrow.

Stricter than ``==``, for which 1, True and 1.0 are equal; but NaN equals NaN.
"""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import Any

from . import images

_EXACT = frozenset((str, int, bool, bytes))

_PLAIN = _EXACT | {float, type(None)}

_NESTED: list[set[type]] = [{list}, {tuple}, {dict}]


def same_values(before: Any, after: Any) -> bool:
    """Whether `after` equals `before`; a subclass may come back as its base type."""
    kind = type(before)
    if before is after:
        return True
    if kind in _EXACT:
        return type(after) is kind and bool(before == after)
    if kind is float:
        return type(after) is float and _equal(before, after)
    if kind is list or kind is tuple:
        return type(after) is kind and _rows(before, after)
    if kind is dict:
        return (
            type(after) is dict
            and _rows([*before], [*after])
            and _rows([*before.values()], [*after.values()])
        )
    if kind is set or kind is frozenset:
        return type(after) is kind and (before == after or _reprs(before) == _reprs(after))
    if images.is_picture(before):  # its pixels are kept, not its file
        return images.is_picture(after) or type(after) is bytes
    if kind.__module__ == "numpy" and hasattr(before, "dtype"):
        return _numpy(before, after)
    related = isinstance(before, type(after)) or isinstance(after, kind)
    return related and _equal(before, after) and _offset(before) == _offset(after)


def _rows(before: Any, after: Any) -> bool:
    """Compare lists of values: plain ones, and plain ones in lists and dicts, all at once."""
    if len(before) != len(after):
        return False
    kinds = {*map(type, before)}
    if kinds <= _PLAIN:
        if list(map(type, before)) != list(map(type, after)):
            return False
        return bool(before == after) or (float in kinds and all(map(same_values, before, after)))
    if kinds in _NESTED:
        return (
            {*map(type, after)} == kinds
            and list(map(len, before)) == list(map(len, after))
            and _rows([*chain.from_iterable(before)], [*chain.from_iterable(after)])
            and (kinds != {dict} or _rows(_inner(before), _inner(after)))
        )
    return all(map(same_values, before, after))


def _inner(found: Any) -> list[Any]:
    return [*chain.from_iterable(map(dict.values, found))]


def _equal(before: Any, after: Any) -> bool:
    try:
        if isinstance(before, datetime) and before.tzinfo and isinstance(after, datetime):
            # `==` calls a time of the hour that a change of clocks skips or repeats unequal to
            # its copy in another time zone (PEP 495).
            return before.isoformat() == after.isoformat()
        return bool(before == after) or bool(before != before and after != after)  # noqa: PLR0124 - NaN
    except Exception:  # noqa: BLE001 - a signalling NaN refuses to be compared, others' types may
        return repr(before) == repr(after)


def _reprs(found: Any) -> list[str]:
    return sorted(map(repr, found))


def _offset(value: Any) -> Any:
    ask = getattr(value, "utcoffset", None)
    return ask() if callable(ask) else None


def _numpy(before: Any, after: Any) -> bool:
    import numpy as np

    if not before.shape:
        return same_values(before.item(), after)
    return (
        type(after) is type(before)
        and before.dtype == after.dtype
        and before.shape == after.shape
        and (
            same_values(before.tolist(), after.tolist())
            if before.dtype.kind not in "biuf"
            else bool(np.array_equal(before, after, equal_nan=before.dtype.kind == "f"))
        )
    )


# -- columns ---------------------------------------------------------------------------------------


def same_pandas(before: Any, after: Any) -> bool:
    """Whether two pandas arrays have equal values and the same type."""
    import pandas as pd

    if before.dtype != after.dtype or len(before) != len(after):
        return False
    if isinstance(before, pd.arrays.NumpyExtensionArray):
        return _numpy(before.to_numpy(), after.to_numpy())
    if isinstance(before.dtype, pd.CategoricalDtype):
        return bool((before.codes == after.codes).all()) and same_pandas(
            before.categories.array, after.categories.array
        )
    if isinstance(before.dtype, pd.ArrowDtype):
        import pyarrow as pa

        return same_arrow(pa.chunked_array(pa.array(before)), pa.chunked_array(pa.array(after)))
    return bool(before.equals(after))


def same_polars(before: Any, after: Any) -> bool:
    """Whether two polars series have equal values and the same type."""
    import polars as pl

    if before.dtype != after.dtype or len(before) != len(after):
        return False
    if before.dtype == pl.Object:
        return same_values(before.to_list(), after.to_list())
    return bool(before.equals(after, check_dtypes=True, null_equal=True))


def same_arrow(before: Any, after: Any) -> bool:
    """Whether two pyarrow columns have equal values and the same type."""
    if before.type != after.type or len(before) != len(after):
        return False
    # Arrow takes NaN for different from itself; then the values are looked at one by one.
    return bool(before.equals(after)) or same_values(before.to_pylist(), after.to_pylist())
