"""Read rows from any input: frames, series, dicts, lists, iterators.

Values become Python objects in slices, so that a large frame is never in memory twice. What the
output needs of the input is kept on disk (`input_copy`) until `answers.restore` reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import chain, count, islice, repeat
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import UsageProblem
from ..core.request import Shape
from ..core.text import a_type
from . import input_copy, sameness
from .answers import FIXED, restore
from .fields import Row, error_line, fields_of, is_data_error
from .tagged_json import pack, unpack

__all__ = ["FIXED", "Frame", "Items", "Stream", "read_rows", "restore"]

_SLICE = 1024  # rows held as Python objects at a time


class Items:
    """Rows of a list, a dict or a series; see `core.request.Rows`."""

    fields: Sequence[str] | None = None

    def __init__(
        self,
        shape: Shape,
        size: int,
        pairs: Callable[[], Iterator[tuple[Any, Any]]],
        save: Callable[[Path], object] = Path.touch,
    ) -> None:
        self.shape = shape
        self._size = size
        self._pairs = pairs
        self._save = save

    def __len__(self) -> int:
        return self._size

    def columns(self, names: Sequence[str], step: int = 0) -> Iterator[tuple[Any, ...]]:
        """Raise: items need not have the same fields."""
        raise NotImplementedError(names, step)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield ``(key, item)`` per row."""
        return self._pairs()

    def key(self, number: int) -> Any:
        """Return the key of row `number`."""
        return next(islice(self._pairs(), number, None))[0]

    def first(self) -> Any:
        """Return the first item."""
        return next(self._pairs())[1]

    def names(self) -> list[str]:
        """Return the field names of the first item, as a template sees them."""
        return _names_of(self.first())

    def snapshot(self, path: Path) -> None:
        """Write the copy of the input that `restore` needs to `path`."""
        self._save(path)


class Stream(Items):
    """Rows of an iterator: readable once; `len` is the number read so far."""

    def __init__(self, source: Iterator[Any]) -> None:
        super().__init__(Shape(kind="list"), 0, self._once)
        self._source = source
        self._started = False
        #: Called with each item before it is yielded.
        self.watch: Callable[[Any], object] = id
        try:
            self._first = next(source)
        except StopIteration:
            raise UsageProblem(
                "the rows are an iterator with nothing left in it: make it anew, or use a list"
            ) from None

    def first(self) -> Any:
        """Return the first item, which stays to be read."""
        return self._first

    def _once(self) -> Iterator[tuple[int, Any]]:
        if self._started:
            raise UsageProblem("the rows are an iterator and were read already: use a list")
        self._started = True
        for item in chain([self._first], self._source):
            self._size += 1
            self.watch(item)
            yield self._size - 1, item


class Frame:
    """Rows of a pandas or polars DataFrame or a pyarrow Table; see `core.request.Rows`."""

    def __init__(self, shape: Shape, native: Any) -> None:
        self.shape = shape
        self.fields: Sequence[str] | None = shape.columns
        self._native = native
        self._positions = {name: i for i, name in enumerate(shape.columns)}

    def __len__(self) -> int:
        return len(self._native)

    def columns(self, names: Sequence[str], step: int = _SLICE) -> Iterator[tuple[Any, ...]]:
        """Yield the values of the fields `names`, a tuple per row; `step` rows at a time."""
        if not names:
            yield from repeat((), len(self))
            return
        for start in range(0, len(self), step):
            cells = {name: self._cells(self._positions[name], start, step) for name in set(names)}
            yield from zip(*(cells[name] for name in names), strict=True)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield ``(index, {field: value})`` per row; the position where there is no index."""
        names = self.shape.columns
        pandas = self.shape.library == "pandas"
        keys = _values(self._native.index) if pandas else count()
        for key, values in zip(keys, self.columns(names), strict=False):
            yield key, Row(zip(names, values, strict=True))

    def first(self) -> Any:
        """Return the first row."""
        return next(self.items())[1]

    def key(self, number: int) -> Any:
        """Return the index label of row `number`, its position where there is no index."""
        if self.shape.library != "pandas":
            return number
        return next(_values(self._native.index[number : number + 1]))

    def names(self) -> list[str]:
        """Return the field names, as a template sees them."""
        return list(self.shape.columns)

    def snapshot(self, path: Path) -> None:
        """Write a copy of the whole input to `path`; the answers are added to it later."""
        input_copy.write_copy(path, self.shape.library, self._native)

    def _cells(self, position: int, start: int, step: int) -> Any:
        """Return one slice of a column as Python objects."""
        try:
            return self._objects(position, start, step)
        except BaseException as error:
            if not is_data_error(error):
                raise
            raise UsageProblem(
                f"column {self.shape.columns[position]!r} holds a value that Python has no object "
                f"for, in rows {start} to {min(start + step, len(self)) - 1} "
                f"({error_line(error)}): convert it; nothing was sent"
            ) from None

    def _objects(self, position: int, start: int, step: int) -> Any:
        if self.shape.library == "pandas":
            return self._native.iloc[start : start + step, position].tolist()
        if self.shape.library == "polars":
            return self._native.to_series(position).slice(start, step).to_list()
        return self._native.column(position).slice(start, step).to_pylist()


def _names_of(item: Any) -> list[str]:
    return [name for name in fields_of(item) if isinstance(name, str)]


def _values(series: Any) -> Iterator[Any]:
    """Yield the values of a series or an index as Python objects."""
    for start in range(0, len(series), _SLICE):
        piece = getattr(series, "iloc", series)[start : start + _SLICE]
        yield from piece.to_pylist() if hasattr(piece, "to_pylist") else piece.to_list()


# -- reading ---------------------------------------------------------------------------------------


def read_rows(value: Any, *, column: str = "answer") -> Items | Frame:
    """Return the rows of `value`, whatever it is.

    Parameters
    ----------
    value
        A pandas or polars DataFrame or Series, a pyarrow Table, a dict, or any ordered iterable.
        Nothing is copied; an iterator can be read once.
    column
        Name of the answer column, for frames and series.

    Raises
    ------
    UsageProblem
        It has no rows, or a column has the name of the answer column.
    """
    if isinstance(value, str):
        raise UsageProblem("--over needs rows, and this is a single text: put it in a list, [text]")
    if isinstance(value, Mapping):
        return _read_dict(value)
    if not isinstance(value, list | tuple | range):
        known = _read_known(value, column)
        if known is not None:
            return known
    return _read_list(value)


def _read_dict(value: Mapping[Any, Any]) -> Items:
    _refuse_empty(value)
    try:
        keys = msgspec.json.encode([pack(key) for key in value])
        if not sameness.same_values([*value], unpack(msgspec.json.decode(keys))):
            raise TypeError("they would not come back as they are")
    except Exception as exc:
        raise UsageProblem(
            f"the keys of the dict cannot be kept ({exc}): use text, numbers, dates or tuples"
        ) from exc
    return Items(
        Shape(kind="dict"),
        len(value),
        lambda: iter(value.items()),
        lambda path: path.write_bytes(keys),
    )


def _read_known(value: Any, column: str) -> Items | Frame | None:
    """Read what narwhals knows as a frame or a series."""
    import narwhals as nw

    try:
        known = nw.from_native(value, allow_series=True, pass_through=True)
    except nw.exceptions.DuplicateError:  # to be refused in our own words
        library = "pyarrow" if hasattr(value, "column_names") else "pandas"
        return _read_frame(value, library, column)
    if isinstance(known, nw.LazyFrame):
        raise UsageProblem(_elsewhere("lazy frame", value, known.implementation.value))
    if not isinstance(known, nw.DataFrame | nw.Series):
        return None
    native: Any = known.to_native()
    library = known.implementation.value
    if library not in {"pandas", "polars", "pyarrow"}:
        raise UsageProblem(_elsewhere("frame", value, library))
    if isinstance(known, nw.DataFrame):
        return _read_frame(native, library, column)
    return _read_series(native, library, column)


#: How rows that lie elsewhere become a frame in memory.
_FETCH = {
    "polars": ".collect()",
    "duckdb": ".df(), .pl() or .to_arrow_table()",
    "dask": ".compute()",
    "pyspark": ".toPandas()",
    "pyspark[connect]": ".toPandas()",
    "sqlframe": ".toPandas()",
    "ibis": ".to_pandas() or .to_pyarrow()",
    "modin": ".modin.to_pandas()",
    "cudf": ".to_pandas()",
    "ray": ".to_pandas()",
    "pyarrow": ".read_all()",
}


def _elsewhere(what: str, value: Any, library: str) -> str:
    how = f": add {_FETCH[library]}" if library in _FETCH else ""
    return (
        f"--over needs a frame of pandas, polars or pyarrow in memory, and this is a {what} of "
        f"{library} ({type(value).__name__}){how}"
    )


def _read_series(native: Any, library: str, column: str) -> Items:
    _refuse_empty(native)
    shape = Shape(kind="series", library=library, column=column)
    if library != "pandas":
        return Items(shape, len(native), lambda: enumerate(_values(native)))
    index = native.index
    return Items(
        shape,
        len(native),
        lambda: zip(_values(index), _values(native), strict=True),
        lambda path: input_copy.write_copy(path, library, native.to_frame("").iloc[:, :0]),
    )


def _read_frame(native: Any, library: str, column: str) -> Frame:
    labels = native.column_names if library == "pyarrow" else list(native.columns)
    if any(isinstance(label, tuple) for label in labels):
        raise UsageProblem(
            "the frame's columns have several levels, flatten them: "
            "df.columns = ['_'.join(map(str, c)) for c in df.columns]"
        )
    names = [str(label) for label in labels]
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise UsageProblem(f"columns occur more than once: {', '.join(repeated)}; rename them")
    if not names:
        raise UsageProblem("the frame has no columns")
    _refuse_empty(native)
    if column in FIXED:
        raise UsageProblem(f"the answers cannot be called {column!r}: choose another --as NAME")
    if column in names:
        raise UsageProblem(
            f"the frame has a column {column!r} already: give the answers another name, --as NAME"
        )
    return Frame(Shape(kind="frame", library=library, columns=names, column=column), native)


def _read_list(value: Any) -> Items:
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "pyarrow" and hasattr(kind, "read_all"):
        raise UsageProblem(_elsewhere("stream", value, library))
    if library == "ray" and hasattr(kind, "to_pandas"):
        raise UsageProblem(_elsewhere("data set", value, library))
    if hasattr(kind, "model_fields") or is_dataclass(kind):
        raise UsageProblem("--over needs rows, and this is a single one: put it in a list, [row]")
    if isinstance(value, set | frozenset):
        raise UsageProblem("a set has no order for the answers to come back in: use sorted(...)")
    if getattr(value, "ndim", 1) != 1:
        raise UsageProblem(f"--over needs one dimension, and this array has {value.ndim}")
    if isinstance(value, bytes | bytearray) or not hasattr(kind, "__iter__"):
        raise UsageProblem(f"--over needs rows (a frame, list or dict), not {a_type(value)}")
    if not hasattr(kind, "__len__"):
        return Stream(iter(value))
    values = value.to_pylist() if hasattr(kind, "to_pylist") else value  # pyarrow's arrays
    _refuse_empty(values)
    return Items(Shape(kind="list"), len(values), lambda: enumerate(values))


def _refuse_empty(value: Any) -> None:
    if len(value) == 0:
        raise UsageProblem("--over has no rows")
