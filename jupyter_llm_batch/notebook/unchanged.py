"""Whether answers are still as they were bound: remembered by reference, without a second copy.

Seen is every item, field, key, column, row and cell that was replaced, added or taken away; not
what changes inside vectors, and inside the lists and objects that cells of a frame hold.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable
from operator import is_
from typing import Any

#: What cannot change as it stands.
_ATOMS = frozenset({type(None), str, int, float, bool, bytes})


def keep(value: Any) -> Any:
    """Return what `is_untouched` needs to know about `value` later."""
    library = _library(value)
    if library == "pandas":
        # A copy of pointers and numbers; of nothing at all where pandas copies on write.
        return value.copy(deep=int(sys.modules["pandas"].__version__.split(".")[0]) < 3)
    if library == "polars":
        return value.clone()
    leaves: list[Any] = []
    _add([value], leaves)
    return leaves


def is_untouched(value: Any, kept: Any) -> bool:
    """Whether `value` is as it was when `keep` returned `kept`."""
    library = _library(value)
    if not library:
        leaves = keep(value)
        return len(leaves) == len(kept) and all(map(is_, leaves, kept))
    try:
        if library == "polars":
            return _are_same(value, kept)
        same = bool(value.equals(kept))
    except Exception:  # noqa: BLE001 - cells may be anything; what cannot be compared is left alone
        return False
    return same and _names(value) == _names(kept)


def _are_same(value: Any, kept: Any) -> bool:
    """Whether two frames or series of polars are equal, columns of objects included."""
    if type(value) is not type(kept):
        return False
    import polars as pl

    if isinstance(value, pl.Series):
        value, kept = value.to_frame(), kept.to_frame()
    if value.schema != kept.schema:
        return False
    # polars itself calls no two columns of objects equal.
    odd = [name for name, dtype in value.schema.items() if dtype == pl.Object]
    if not value.drop(odd).equals(kept.drop(odd)):
        return False
    return all(
        all(map(is_, value.get_column(name).to_list(), kept.get_column(name).to_list()))
        for name in odd
    )


def _library(value: Any) -> str:
    """Return the library whose frames and series can be changed in place."""
    library = type(value).__module__.partition(".")[0]
    return library if library in {"pandas", "polars"} else ""


def _names(value: Any) -> list[Any]:
    """Return the names that pandas' `equals` leaves out."""
    columns = getattr(value, "columns", None)
    return [getattr(columns, "name", getattr(value, "name", None)), *value.index.names]


def _add(values: Iterable[Any], leaves: list[Any]) -> None:
    """Add the parts of all `values` to `leaves`."""
    for value in values:
        kind = type(value)
        if kind in _ATOMS:
            leaves.append(value)
        elif kind is list:
            leaves.append(list)  # where it begins
            # A vector is long, and nobody changes a number in it.
            if not (value and type(value[0]) is float):
                _add_all(value, leaves)
        elif kind is dict:
            leaves.extend(value)
            _add_all(value.values(), leaves)
        else:
            leaves.append(value)
            fields = getattr(value, "__dict__", None)
            if type(fields) is dict and not isinstance(value, enum.Enum | type):
                _add_all(fields.values(), leaves)


def _add_all(values: Any, leaves: list[Any]) -> None:
    if _ATOMS.issuperset(map(type, values)):
        leaves.extend(values)
    else:
        _add(values, leaves)
