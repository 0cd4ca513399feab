"""Copy of an input frame on disk, kept until its answers are collected: Arrow IPC, never a pickle.

polars and pyarrow frames are written as they are. A pandas frame is split into its columns and
index levels under names of our own, because its labels may be anything and may repeat; a header in
the schema's metadata says how to rebuild it. Values without an Arrow type are written as JSON
(`tagged_json`). Each copy is read back and compared with the input before anything is sent: a
column that would not come back unchanged is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import UsageProblem
from . import sameness
from .fields import error_line, is_data_error
from .tagged_json import pack, unpack, zone_name

_HEADER = b"jupyter_llm_batch"

#: NumPy types of categories that Arrow and pandas restore unchanged.
_NUMBERS = {"bool", "int8", "int16", "int32", "int64", "float32", "float64"}


def write_copy(path: Path, library: str, frame: Any) -> None:
    """Write `frame` of `library` to `path`, and read it back to check that nothing changed.

    Raises
    ------
    UsageProblem
        A column, or the index, would not come back unchanged.
    """
    if not (trouble := _trouble(path, library, frame)):
        return
    for what, single in _singles(library, frame):
        if found := _trouble(path, library, single):
            raise _refuse(what, found)
    raise UsageProblem(f"the input cannot be kept for the output ({trouble}): convert it")


def read_copy(path: Path, library: str) -> Any:
    """Return the frame that was written to `path`."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all()
    return {"pandas": _to_pandas, "polars": _to_polars, "pyarrow": _same}[library](table)


def _trouble(path: Path, library: str, frame: Any) -> str:
    """Write `frame`; return why it would not come back unchanged, or nothing."""
    try:
        _write(path, library, frame)
        changed = not _SAME[library](frame, read_copy(path, library))
    except UsageProblem:
        raise
    except BaseException as error:
        if not is_data_error(error):
            raise
        return error_line(error)
    return "it would not come back as it is" if changed else ""


def _write(path: Path, library: str, frame: Any) -> None:
    import pyarrow as pa

    table = {"pandas": _from_pandas, "polars": _from_polars, "pyarrow": _same}[library](frame)
    # A stream, not a file: only streams allow a column's categories to differ between chunks.
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _singles(library: str, frame: Any) -> Iterator[tuple[str, Any]]:
    """Yield each column as a frame of its own, then the index, with what a message calls it."""
    if library == "pandas":
        bare = frame.set_axis(range(len(frame)))
        for i, label in enumerate(frame.columns):
            yield f"column {label!r}", bare.iloc[:, i : i + 1]
        yield "the index", frame.iloc[:, :0]
        return
    for name in frame.columns if library == "polars" else frame.column_names:
        yield f"column {name!r}", frame.select([name])


def _same_pandas(before: Any, after: Any) -> bool:
    names = [before.columns.name, *before.index.names]
    return (
        before.shape == after.shape
        and sameness.same_values(names, [after.columns.name, *after.index.names])
        and sameness.same_values(before.columns.tolist(), after.columns.tolist())
        and all(map(sameness.same_pandas, _arrays(before), _arrays(after)))
    )


def _arrays(frame: Any) -> Iterator[Any]:
    """Yield the columns and the index of a pandas frame as arrays."""
    index = frame.index
    columns = (frame.iloc[:, i] for i in range(frame.shape[1]))
    levels = (index.get_level_values(i) for i in range(index.nlevels))
    return (each.array for each in chain(columns, levels))


def _same_polars(before: Any, after: Any) -> bool:
    return bool(before.columns == after.columns) and all(
        map(sameness.same_polars, before.get_columns(), after.get_columns())
    )


def _same_arrow(before: Any, after: Any) -> bool:
    return bool(before.schema.equals(after.schema, check_metadata=True)) and all(
        map(sameness.same_arrow, before.columns, after.columns)
    )


_SAME = {"pandas": _same_pandas, "polars": _same_polars, "pyarrow": _same_arrow}


def _same(table: Any) -> Any:
    return table


def _header(table: Any, header: dict[str, Any]) -> Any:
    metadata = dict(table.schema.metadata or {})
    return table.replace_schema_metadata({**metadata, _HEADER: msgspec.json.encode(header)})


def _refuse(what: str, words: object) -> UsageProblem:
    return UsageProblem(
        f"{what} cannot be kept for the output ({' '.join(str(words).split())}): "
        "convert it, or leave it out with --over df[[...]]; nothing was sent"
    )


def _dump_cells(values: Iterable[Any]) -> list[str]:
    encode = msgspec.json.Encoder().encode
    return [encode(pack(value)).decode() for value in values]


def _load_cells(texts: Iterable[str]) -> list[Any]:
    loaded: list[Any] = unpack(msgspec.json.decode(f"[{','.join(texts)}]"))
    return loaded


# -- polars ----------------------------------------------------------------------------------------


def _from_polars(frame: Any) -> Any:
    import polars as pl

    odd = {
        name: str(dtype)
        for name, dtype in frame.schema.items()
        if dtype in (pl.Object, pl.Int128, getattr(pl, "UInt128", pl.Int128))
    }
    for name, dtype in frame.schema.items():
        if _has_no_width(dtype):  # polars panics as it reads them
            raise _refuse(f"column {name!r}", f"{dtype} holds arrays without elements")
    for name in odd:
        texts = _dump_cells(frame.get_column(name).to_list())
        frame = frame.with_columns(pl.Series(name, texts, dtype=pl.String))
    return _header(frame.to_arrow(), {"odd": odd})


def _has_no_width(dtype: Any) -> bool:
    """Whether a polars type is, or holds, an array of zero elements."""
    if getattr(dtype, "shape", None) and not all(dtype.shape):
        return True
    inner = [getattr(dtype, "inner", None), *(each.dtype for each in getattr(dtype, "fields", ()))]
    return any(_has_no_width(each) for each in inner if each is not None)


def _to_polars(table: Any) -> Any:
    import polars as pl

    odd = msgspec.json.decode(table.schema.metadata[_HEADER])["odd"]
    frame: Any = pl.from_arrow(table)
    for name, dtype in odd.items():
        values = _load_cells(frame.get_column(name).to_list())
        frame = frame.with_columns(pl.Series(name, values, dtype=getattr(pl, dtype)))
    return frame


# -- pandas ----------------------------------------------------------------------------------------


def _from_pandas(frame: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    index = frame.index
    parts = [(label, frame.iloc[:, i]) for i, label in enumerate(frame.columns)]
    header: dict[str, Any] = {"index": type(index).__name__}
    if isinstance(index, pd.RangeIndex):
        header["range"] = [index.start, index.stop, index.step]
    else:
        parts += [("(index)", index.get_level_values(i)) for i in range(index.nlevels)]
        header["freq"] = getattr(index, "freqstr", None)
        header["levels"] = [str(level.dtype) for level in getattr(index, "levels", ())]
    try:
        header["labels"] = [pack(label) for label in frame.columns]
        header["names"] = [pack(name) for name in (frame.columns.name, *index.names)]
        msgspec.json.encode(header)
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageProblem(
            f"the frame's column names cannot be kept ({exc}): rename them; nothing was sent"
        ) from exc
    with suppress(TypeError, ValueError, RecursionError):  # attrs are a courtesy
        header["attrs"] = msgspec.Raw(msgspec.json.encode(pack(frame.attrs)))

    plain: dict[str, Any] = {}
    others: dict[str, Any] = {}
    kinds: list[str] = []
    ordered: list[int] = []
    texts: dict[str, list[str]] = {}
    zones: dict[str, str] = {}
    categories: dict[bytes, bytes] = {}
    for i, (_, values) in enumerate(parts):
        kind, array = _from_values(values)
        kinds.append(kind)
        if kind == "category":
            categories[_categories(i)] = _packed(values.array.categories)
            if values.dtype.ordered:
                ordered.append(i)
        if isinstance(values.dtype, pd.StringDtype):
            # Which of its kinds of text pandas makes of Arrow's is its own choice.
            texts[str(i)] = [values.dtype.storage, str(values.dtype.na_value)]
        zone = zone_name(getattr(values.dtype, "tz", None))
        if zone.startswith("dateutil/"):
            zones[str(i)] = zone
        if array is None:
            plain[str(i)] = values.array
        else:
            others[str(i)] = array
    header |= {"kinds": kinds, "ordered": ordered, "texts": texts, "zones": zones}
    if plain:
        table = pa.Table.from_pandas(pd.DataFrame(plain, copy=False), preserve_index=False)
    else:
        table = pa.table(others)
        others = {}
    for name, array in others.items():
        table = table.append_column(name, array)
    table = _header(table, header)
    return table.replace_schema_metadata({**table.schema.metadata, **categories})


def _categories(number: int) -> bytes:
    """Return the key under which the categories of a column are kept in the metadata."""
    return b"%b:categories:%d" % (_HEADER, number)


def _packed(categories: Any) -> bytes:
    """Return categories as an Arrow stream: they may be of any type that a column has."""
    import pandas as pd
    import pyarrow as pa

    table = _from_pandas(pd.DataFrame({"c": pd.Series(categories.array)}))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(codes: Any, packed: bytes, *, ordered: bool) -> Any:
    import pandas as pd
    import pyarrow as pa

    found = _to_pandas(pa.ipc.open_stream(pa.py_buffer(packed)).read_all())["c"]
    categories = pd.Index(found.array, dtype=found.dtype, tupleize_cols=False)
    made = pd.Categorical.from_codes(codes.to_numpy(), categories=categories, ordered=ordered)
    return pd.Series(made)


def _from_values(values: Any) -> tuple[str, Any]:
    """Return how a series or index is stored, and as what; None for pandas' own way."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if isinstance(values.dtype, pd.ArrowDtype):
        return "arrow", pa.array(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        # Arrow has text and NumPy's numbers as categories; others come back changed, or not.
        inner = values.dtype.categories.dtype
        if isinstance(inner, pd.StringDtype) or str(inner) in _NUMBERS:
            return "plain", None
        return "category", pa.array(values.array.codes)
    if values.dtype != object:
        return "plain", None
    objects = values.tolist()
    kinds = set(map(type, objects))
    if kinds == {str}:
        return "text", pa.array(objects, pa.large_string())
    if kinds == {bytes}:
        return "bytes", pa.array(objects, pa.large_binary())
    # Arrow has one type for all; and lists that hold themselves crash it.
    if kinds == {list} and {*map(type, chain.from_iterable(objects))} in ({int}, {float}, {str}):
        with suppress(pa.ArrowException, OverflowError):
            return "list", pa.array(objects)
    if kinds == {np.ndarray}:
        types = {(each.ndim, each.dtype) for each in objects}
        if len(types) == 1 and next(iter(types))[1].kind in "iuf":
            with suppress(pa.ArrowException):
                return "ndarray", pa.array(objects)
    return "cells", pa.array(_dump_cells(objects), pa.large_string())


def _to_pandas(table: Any) -> Any:
    import pandas as pd

    header = msgspec.json.decode(table.schema.metadata[_HEADER])
    kinds: list[str] = header["kinds"]
    own = [str(i) for i, kind in enumerate(kinds) if kind == "plain"]
    plain = table.select(own).to_pandas() if own else {}
    ordered = header.get("ordered", ())
    parts = []
    for i, kind in enumerate(kinds):
        if kind == "plain":
            part = plain[str(i)]
        elif kind == "category":
            packed = table.schema.metadata[_categories(i)]
            part = _unpacked(table.column(str(i)), packed, ordered=i in ordered)
        else:
            part = _to_series(table.column(str(i)), kind)
        parts.append(part)
    for name, (storage, missing) in header.get("texts", {}).items():
        # pandas before 2.3 has one missing value for text, and no argument for it.
        more = {} if missing == "<NA>" else {"na_value": float("nan")}
        parts[int(name)] = parts[int(name)].astype(pd.StringDtype(storage, **more))
    for name, zone in header.get("zones", {}).items():
        parts[int(name)] = parts[int(name)].dt.tz_convert(zone)
    labels = [unpack(label) for label in header["labels"]]
    title, *names = (unpack(name) for name in header["names"])
    index = _to_index(parts[len(labels) :], header, names)
    # Positional throughout: an index that repeats cannot be aligned.
    frame = pd.DataFrame(dict(enumerate(parts[: len(labels)])), index=pd.RangeIndex(len(index)))
    frame.index = index
    frame.columns = pd.Index(labels, name=title)
    frame.attrs = unpack(header["attrs"]) if "attrs" in header else {}
    return frame


def _to_series(column: Any, kind: str) -> Any:
    import pandas as pd

    if kind == "arrow":
        return pd.Series(pd.arrays.ArrowExtensionArray(column))
    if kind == "ndarray":
        return column.to_pandas()
    values = column.to_pylist()
    return pd.Series(_load_cells(values) if kind == "cells" else values, dtype=object)


def _to_index(levels: list[Any], header: dict[str, Any], names: list[Any]) -> Any:
    import pandas as pd

    if "range" in header:
        start, stop, step = header["range"]
        return pd.RangeIndex(start, stop, step, name=names[0])
    if header["index"] == "MultiIndex":
        multi = pd.MultiIndex.from_arrays(levels, names=names)
        for i, dtype in enumerate(header["levels"]):
            if str(multi.levels[i].dtype) != dtype:  # integers, read as floats beside a null
                multi = multi.set_levels(multi.levels[i].astype(dtype), level=i)
        return multi
    index: Any = pd.Index(levels[0], dtype=levels[0].dtype)
    index.name = names[0]
    if header["freq"] and header["index"] in {"DatetimeIndex", "TimedeltaIndex"}:
        with suppress(ValueError):  # a calendar of the user's own: the dates themselves are kept
            index.freq = header["freq"]
    return index
