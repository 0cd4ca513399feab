"""Read the user's values: their fields, and which are null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

#: Types whose values are never null and whose text is ``str(value)``.
SIMPLE = frozenset((str, int, bool))


class NullFound(Exception):
    """A null would be written into a prompt; the argument says where it came from."""


class NoText(Exception):
    """A value without text would be written into a prompt; the argument says which."""


class Row(dict[str, Any]):
    """The fields of a frame's row; ``row[2023]`` also finds a column named by a number."""

    def __missing__(self, key: Any) -> Any:
        if not isinstance(key, str) and str(key) in self:
            return self[str(key)]
        raise KeyError(key)


class Unknown(Exception):
    """A template asked for a name that is not there.

    Attributes
    ----------
    name
        The name that the template used.
    owner
        The object on which it was looked up; None for a bare name.
    hint
        Jinja's own message, where something else is missing.
    """

    def __init__(self, name: str, owner: Any = None, hint: str | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.owner = owner
        self.hint = hint


def plain_value(value: Any) -> Any:
    """Convert NumPy scalars to Python's, and every kind of missing value to None."""
    if value.__class__ in SIMPLE or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return None if value != value else float(value)  # noqa: PLR0124 - NaN
    kind = type(value)
    if kind.__name__ in {"NaTType", "NAType"}:
        return None
    if kind.__module__ == "numpy" and hasattr(value, "dtype") and not value.shape:
        if value.dtype.kind in "mM":  # in nanoseconds, their Python item is a bare integer
            return None if value != value else value  # noqa: PLR0124 - NaT
        return plain_value(value.item())
    return value


def is_data_error(error: BaseException) -> bool:
    """Whether an error is caused by the user's values, and not by an interrupt or a full disk."""
    if isinstance(error, OSError) and error.errno is not None:
        return False
    # polars' panics are not an `Exception`.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def error_line(error: BaseException) -> str:
    """Return type and message of an error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def is_null(value: Any) -> bool:
    """Whether `value` is None, NaN, NA or NaT."""
    return plain_value(value) is None


def fields_of(item: Any) -> Mapping[Any, Any]:
    """Return the fields of a mapping, a record or a row of SQLite."""
    kind = type(item)
    if kind is str:
        return {}
    if kind is dict or isinstance(item, Mapping):
        mapping: Mapping[Any, Any] = item
        return mapping
    if kind.__module__ == "sqlite3" and hasattr(item, "keys"):
        return dict(zip(item.keys(), item, strict=True))
    names: Iterable[str]
    if isinstance(item, tuple):
        names = getattr(kind, "_fields", ())
    elif is_dataclass(kind):
        names = (field.name for field in fields(kind))
    else:
        names = [*getattr(kind, "model_fields", ()), *(getattr(item, "model_extra", None) or ())]
    return {name: getattr(item, name) for name in names}
