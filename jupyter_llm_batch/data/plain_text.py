"""Convert values to prompt text: complete, and the same after every restart.

The text is Python's own, ``str`` of a value and ``repr`` of what lies in it, except where that
would differ between two runs or leave something out: sets are sorted, NumPy's numbers are Python's,
long arrays, series, tensors and rows of a database are written out as lists and dicts. A value
whose only text is its type and address is refused.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import (
    Awaitable,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from collections.abc import (
    Set as AbstractSet,
)
from dataclasses import is_dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import msgspec

from ..core.text import a_type
from .fields import SIMPLE, NoText, NullFound, fields_of, plain_value

#: What ``object.__repr__`` writes, and what many follow: ``<Future at 0x7f… state=pending>``.
_ADDRESS = re.compile(r"<[^<>]{1,200} at 0x[0-9a-fA-F]{5,16}\b")

_encode = msgspec.json.Encoder(order="deterministic").encode

_PLAIN = frozenset((str, int, bool, float, bytes, type(None)))

#: Packages whose arrays print themselves shortened.
_TENSORS = frozenset(("torch", "tensorflow", "jax", "jaxlib", "cupy", "xarray"))

#: NumPy's own defaults: its print options are the user's, and the text must not depend on them.
_OPTIONS: dict[str, Any] = {
    "precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False,
    "nanstr": "nan", "infstr": "inf", "formatter": None, "sign": "-", "floatmode": "maxprec",
    "legacy": False,
}  # fmt: skip


def to_text(value: Any, name: str = "") -> str:
    """Return the text of `value` for a prompt.

    Parameters
    ----------
    name
        Its name in the template.

    Raises
    ------
    NullFound, NoText
        It has no text of its own.
    """
    value = plain_value(value)
    if value is None:
        raise NullFound(name)
    what = name or "a value"
    if isinstance(value, bytes | bytearray | memoryview):
        raise NoText(f"{what} is bytes, not text: decode it, {{{{ {name or 'name'}.decode() }}}}")
    if callable(value) or isinstance(value, ModuleType):
        raise NoText(f"{what} is {a_type(value)}, not text: call it, or name a field")
    try:
        return text_of(value)
    except NoText as problem:
        raise NoText(f"{what} {problem}") from None


def text_of(value: Any) -> str:
    """Return the text of any value, as ``str`` writes it where that is plain and complete.

    Raises
    ------
    NoText
        It has no text; the argument continues a sentence that begins with its name.
    """
    if value.__class__ in SIMPLE or isinstance(value, str | int | float):
        return str(value)
    try:
        return _text(value, str)
    except RecursionError:
        raise NoText("is nested too deeply, or contains itself: name a part of it") from None


def nested_text(value: Any) -> str:
    """Return the text of a value inside a list or dict, as ``repr`` writes it."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if isinstance(value, str):
        return repr(str(value)) if kind.__module__ == "numpy" else repr(value)
    return _text(value, repr)


def _text(value: Any, way: Any) -> str:
    kind = type(value)
    if kind is list:
        return f"[{_joined(value)}]"
    if kind is tuple:
        return f"({_joined(value)}{',' if len(value) == 1 else ''})"
    if _is_dict(kind):
        return f"{{{', '.join(f'{nested_text(k)}: {nested_text(v)}' for k, v in value.items())}}}"
    if kind is set or kind is frozenset or kind is SortedSet:
        return _of_set(value, kind is set or getattr(value, "mutable", False))
    if isinstance(value, Enum):
        return str(way(value))
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        return _of_numpy(value, way)
    data = _data(value)
    if data is not value:
        return nested_text(data)
    parts = _parts(value)
    if parts is None:
        return _checked(value, str(way(value)))
    if any(nested_text(part) != repr(part) for part in parts):
        return nested_text(_opened(value))
    return str(way(value))


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(map(nested_text, values))


def _of_set(values: Any, mutable: bool) -> str:
    body = _joined(sorted_elements(values))
    if mutable:
        return f"{{{body}}}" if body else "set()"
    return f"frozenset({{{body}}})" if body else "frozenset()"


def sorted_elements(values: Iterable[Any]) -> list[Any]:
    """Return the elements of a set in an order that is the same in every run."""
    found = list(values)
    kinds = {*map(type, found)}
    if kinds <= {int, float} and all(each == each for each in found):  # noqa: PLR0124 - NaN
        return sorted(found)
    return sorted(found) if kinds == {str} else sorted(found, key=nested_text)


def _of_numpy(value: Any, way: Any) -> str:
    import numpy as np

    if not isinstance(value, np.ndarray):
        return str(way(value)) if value.dtype.kind in "mM" else nested_text(value.item())
    if value.ndim == 0:
        return nested_text(value.item()) if value.dtype.kind not in "mM" else str(value)
    short = value.size <= _OPTIONS["threshold"]
    if short and (value.dtype.kind in "biuUmM" or (value.dtype.kind == "f" and _is_exact(value))):
        with np.printoptions(**_OPTIONS):
            return str(way(value))
    if value.dtype.kind in "mM":
        return nested_text(value.astype(str).tolist())
    return nested_text(value.tolist())


def _is_exact(array: Any) -> bool:
    """Whether the eight digits that NumPy prints are exact for all numbers."""
    import numpy as np

    with np.printoptions(**{**_OPTIONS, "precision": 17}):
        exact = str(array)
    with np.printoptions(**_OPTIONS):
        return exact == str(array)


def _data(value: Any) -> Any:
    """Return series, tensors and the like as lists or dicts, other values unchanged."""
    kind = type(value)
    root = kind.__module__.partition(".")[0]
    if kind.__module__ == "sqlite3":
        return dict(fields_of(value)) if hasattr(value, "keys") else value
    if root == "polars" and kind.__name__ == "LazyFrame":
        raise NoText("is a lazy frame, not text: name one of the row's fields instead")
    if hasattr(value, "columns") and hasattr(value, "shape"):
        raise NoText("is a whole frame, not text: name one of the row's fields instead")
    if root == "xarray" and not hasattr(value, "values"):
        raise NoText(f"is {a_type(value)}, not text: name a part of it")
    if root in _TENSORS and hasattr(value, "__array__"):
        import numpy as np

        return np.asarray(value).tolist()
    if root == "pyarrow":
        for way in ("to_pylist", "as_py"):
            if hasattr(value, way):
                return getattr(value, way)()
    if hasattr(value, "dtype") and hasattr(value, "to_list"):
        return _of_series(value, root)
    if root == "pandas" and hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _of_series(series: Any, root: str) -> Any:
    """Return a series as a list, or as a dict if it has labels."""
    items: list[Any] = series.to_list()
    index = getattr(series, "index", None)
    if root != "pandas" or index is None or type(index).__name__ == "RangeIndex":
        return items
    labels = index.to_list()
    if len({*map(repr, labels)}) < len(labels):
        raise NoText("is a series whose labels repeat: write {{ name.to_list() }}")
    return dict(zip(labels, items, strict=True))


def _parts(value: Any) -> list[Any] | None:
    """Return the elements of a value whose text shows them, or None."""
    kind = type(value)
    if _has_text(kind) and not _is_pydantic(kind):
        return None  # a text of its own
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    if isinstance(value, tuple | deque | AbstractSet | Sequence | KeysView | ValuesView):
        return None if isinstance(value, range) else list(value)
    if (is_dataclass(kind) and hasattr(kind.__repr__, "__wrapped__")) or _is_pydantic(kind):
        return [*fields_of(value).values()]
    return None


def _has_text(kind: Any) -> bool:
    return kind.__str__ is not object.__str__


def _has_repr(kind: Any) -> bool:
    return kind.__repr__ is not object.__repr__


def _is_dict(kind: Any) -> bool:
    """Whether a type is a dict, or one that is written like it."""
    return issubclass(kind, dict) and kind.__repr__ is dict.__repr__ and not _has_text(kind)


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_fields") and str(kind.__str__.__module__).startswith("pydantic")


def _opened(value: Any) -> Any:
    """Return what lies in a value as a list or dict, to be written in our way."""
    if fields := fields_of(value):
        return dict(fields)
    return sorted_elements(value) if isinstance(value, AbstractSet) else list(value)


def _checked(value: Any, text: str) -> str:
    """Refuse a text without content, or one that changes between runs."""
    kind = type(value)
    if isinstance(value, Iterator):
        raise NoText(f"is {a_type(value)}, which can be read once: make it a list")
    if isinstance(value, Awaitable) or (hasattr(value, "result") and hasattr(value, "done")):
        raise NoText(f"is {a_type(value)}, not its result: await it first")
    if not (_has_text(kind) or _has_repr(kind)) or _ADDRESS.search(text):
        raise NoText(f"is {a_type(value)}, which has no text of its own: name a part of it")
    if hasattr(value, "__array__") and "..." in text:
        raise NoText(f"is {a_type(value)}, whose text is shortened: make it a list")
    return text


# -- finished prompts ------------------------------------------------------------------------------


def json_ready(content: Any) -> Any:
    """Return messages or a request body with NumPy values converted to Python's.

    Raises
    ------
    NoText
        It holds a value that JSON cannot express.
    """
    try:
        _encode(content)
    except UnicodeEncodeError:
        raise NoText(
            "holds a lone surrogate, which is not valid Unicode: clean it with "
            "text.encode('utf-8', 'replace').decode()"
        ) from None
    except (TypeError, ValueError, RecursionError):
        try:
            content = _jsonable(content)
            _encode(content)
        except (TypeError, ValueError, RecursionError) as error:
            raise NoText(f"is not JSON ({' '.join(str(error).split())[:200]})") from None
    return content


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else str(key): _jsonable(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        return value.tolist() if value.dtype.kind not in "mM" else str(value)
    return value


# -- inside templates ------------------------------------------------------------------------------


class SortedSet(frozenset[Any]):
    """A set that iterates in a fixed order."""

    mutable = True

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted_elements(super().__iter__()))

    def __repr__(self) -> str:
        return _of_set(self, self.mutable)

    def __or__(self, other: Any) -> Any:
        return _sorted(super().__or__(other), self.mutable)

    def __and__(self, other: Any) -> Any:
        return _sorted(super().__and__(other), self.mutable)

    def __sub__(self, other: Any) -> Any:
        return _sorted(super().__sub__(other), self.mutable)

    def __xor__(self, other: Any) -> Any:
        return _sorted(super().__xor__(other), self.mutable)


def _sorted(found: Any, mutable: bool) -> Any:
    if found is NotImplemented:
        return found
    made = SortedSet(found)
    made.mutable = mutable
    return made


def with_sorted_sets(value: Any) -> Any:
    """Return a value whose sets iterate in a fixed order inside templates."""
    if value.__class__ in _PLAIN:
        return value
    try:
        return _settled(value)
    except RecursionError:  # to be refused where it is written
        return value


def _settled(value: Any) -> Any:
    kind = type(value)
    if kind is set or kind is frozenset:
        return _sorted(value, kind is set)
    if kind is list or kind is tuple:
        if {*map(type, value)} <= _PLAIN:
            return value
        found = kind(map(_settled, value))
        return found if any(a is not b for a, b in zip(found, value, strict=True)) else value
    if _is_dict(kind):
        if {*map(type, value.values())} <= _PLAIN:
            return value
        changed = {key: new for key, old in value.items() if (new := _settled(old)) is not old}
        return kind({**value, **changed}) if changed else value
    return value
