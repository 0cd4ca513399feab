"""Input frames on disk until their answers are there: Arrow IPC streams, never a pickle.

polars and pyarrow go through Arrow as they are. A pandas frame is taken apart into its columns and
index levels under names of our own, because its labels may be anything and may repeat; a header in
the schema's metadata says how to put it together again. What Arrow has no type for is kept as JSON
(`cells`), and what not even that can hold is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from .cells import pack, unpack
from .errors import UsageProblem

_HEADER = b"jupyter_llm_batch"


def write(path: Path, library: str, frame: Any) -> None:
    """Write `frame` of `library` to `path`.

    Raises
    ------
    UsageProblem
        A column holds what cannot be kept.
    """
    import pyarrow as pa

    table = {"pandas": _from_pandas, "polars": _from_polars, "pyarrow": _same}[library](frame)
    # A stream, not a file: only streams allow a column's categories to differ between chunks.
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def read(path: Path, library: str) -> Any:
    """Return the frame that was written to `path`."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all()
    return {"pandas": _to_pandas, "polars": _to_polars, "pyarrow": _same}[library](table)


def _same(table: Any) -> Any:
    return table


def _header(table: Any, header: dict[str, Any]) -> Any:
    metadata = dict(table.schema.metadata or {})
    return table.replace_schema_metadata({**metadata, _HEADER: msgspec.json.encode(header)})


def _refuse(label: object, exc: Exception) -> UsageProblem:
    return UsageProblem(
        f"column {label!r} cannot be kept for the output ({' '.join(str(exc).split())}): "
        "convert it, or leave it out with --over df[[...]]"
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
    for name in odd:
        try:
            texts = _dump_cells(frame.get_column(name).to_list())
        except (TypeError, UnicodeEncodeError) as exc:
            raise _refuse(name, exc) from exc
        frame = frame.with_columns(pl.Series(name, texts, dtype=pl.String))
    return _header(frame.to_arrow(), {"odd": odd})


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
    except (TypeError, UnicodeEncodeError) as exc:
        raise UsageProblem(f"the frame's column names cannot be kept: {exc}") from exc
    with suppress(TypeError, UnicodeEncodeError):  # attrs are a courtesy
        header["attrs"] = msgspec.Raw(msgspec.json.encode(pack(frame.attrs)))

    plain: dict[str, Any] = {}
    others: dict[str, Any] = {}
    header["kinds"] = []
    for i, (label, values) in enumerate(parts):
        try:
            kind, array = _from_values(values)
        except (TypeError, UnicodeEncodeError, pa.ArrowException) as exc:
            raise _refuse(label, exc) from exc
        header["kinds"].append(kind)
        if array is None:
            plain[str(i)] = values.array
        else:
            others[str(i)] = array
    try:
        table = _plain_table(plain) if plain else None
    except (TypeError, pa.ArrowException):
        for name, values in plain.items():
            try:
                _plain_table({name: values})
            except (TypeError, pa.ArrowException) as exc:
                raise _refuse(parts[int(name)][0], exc) from exc
        raise
    if table is None:
        table = pa.table(others)
    else:
        for name, array in others.items():
            table = table.append_column(name, array)
    return _header(table, header)


def _plain_table(columns: dict[str, Any]) -> Any:
    import pandas as pd
    import pyarrow as pa

    return pa.Table.from_pandas(pd.DataFrame(columns, copy=False), preserve_index=False)


def _from_values(values: Any) -> tuple[str, Any]:
    """Return how a series or index is kept, and as what; None where pandas' own way will do."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if isinstance(values.dtype, pd.ArrowDtype):
        return "arrow", pa.array(values)
    if values.dtype != object:
        return "plain", None
    objects = values.tolist()
    kinds = set(map(type, objects))
    if kinds == {str}:
        return "text", pa.array(objects, pa.large_string())
    if kinds == {bytes}:
        return "bytes", pa.array(objects, pa.large_binary())
    if kinds in ({list}, {np.ndarray}):
        with suppress(pa.ArrowException):
            array = pa.array(objects)
            inner, is_ = array.type.value_type, pa.types
            if is_.is_integer(inner) or is_.is_floating(inner) or is_.is_string(inner):
                return kinds.pop().__name__, array
    return "cells", pa.array(_dump_cells(objects), pa.large_string())


def _to_pandas(table: Any) -> Any:
    import pandas as pd

    header = msgspec.json.decode(table.schema.metadata[_HEADER])
    kinds: list[str] = header["kinds"]
    own = [str(i) for i, kind in enumerate(kinds) if kind == "plain"]
    plain = table.select(own).to_pandas() if own else {}
    parts = [
        plain[str(i)] if kind == "plain" else _to_series(table.column(str(i)), kind)
        for i, kind in enumerate(kinds)
    ]
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
