"""Convert Python values to tagged JSON and back, keeping their types.

Used for dict keys, index labels and cells without an Arrow type. Text, bools, numbers and None are
plain JSON, lists are JSON arrays, everything else is an object with one key, which names the type.
Subclasses come back as their base type (``np.str_`` as ``str``), which compares and hashes the
same. A type not listed here is refused, not approximated.
"""

from __future__ import annotations

import datetime as dt
import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from . import images

#: type -> (tag, value to JSON, JSON to value)
_SIMPLE: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    dt.datetime: ("datetime", dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: ("date", dt.date.isoformat, dt.date.fromisoformat),
    dt.time: ("time", dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: (
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: dt.timedelta(*parts),
    ),
    Decimal: ("decimal", str, Decimal),
    UUID: ("uuid", str, UUID),
    bytes: (
        "bytes",
        lambda value: b64encode(value).decode("ascii"),
        b64decode,
    ),
}
_BUILD: dict[str, Callable[[Any], Any]] = {
    **{tag: build for tag, _, build in _SIMPLE.values()},
    "path": Path,
    "picture": lambda body: images.decoded(b64decode(body)),
}


#: Deepest nesting. A deeper value might be written, but not read back with less of Python's stack
#: left; some values are nested without end.
_DEEPEST = 100


def pack(value: Any, depth: int = 0) -> Any:
    """Return `value` as something JSON can hold.

    Raises
    ------
    TypeError
        Its type is not known here, or it is nested too deeply.
    """
    kind = type(value)
    if depth > _DEEPEST:
        raise TypeError(f"what is nested more than {_DEEPEST} deep is not kept")
    depth += 1
    if value is None or kind in (str, bool, int):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [pack(each, depth) for each in value]
    if kind is dict:
        return {"dict": [[pack(key, depth), pack(each, depth)] for key, each in value.items()]}
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [pack(each, depth) for each in value]}
    if kind in _SIMPLE:
        tag, dump, _ = _SIMPLE[kind]
        return {tag: dump(value)}
    return _pack_other(value, kind)


def _pack_other(value: Any, kind: type) -> Any:
    family = kind.__module__.partition(".")[0]
    if family == "pandas":
        if kind.__name__ in {"NAType", "NaTType"}:
            return {"pandas": kind.__name__}
        if kind.__name__ == "Timestamp":
            return {"Timestamp": [value.isoformat(), zone_name(value.tzinfo) or None]}
        if kind.__name__ == "Timedelta":
            return {"Timedelta": value.isoformat()}
        if kind.__name__ == "Period":
            return {"Period": [value.ordinal, value.freqstr]}
        if kind.__name__ == "Interval":
            return {"Interval": [pack(value.left), pack(value.right), value.closed]}
    elif family == "numpy" and getattr(value, "ndim", 1) == 0:
        if value.dtype.kind not in "mM":  # nanoseconds would come out as bare integers
            return pack(value.item())
        raise TypeError(f"{kind.__name__} is not kept")
    elif family == "numpy" and kind.__name__ == "ndarray":
        return {"ndarray": _pack_array(value)}
    elif isinstance(value, PurePath):
        return {"path": str(value)}
    elif images.is_picture(value):
        return {"picture": b64encode(images.encoded(value)).decode("ascii")}
    elif isinstance(value, str):
        return str.__str__(value)
    elif isinstance(value, int):
        return pack(int(value))
    raise TypeError(f"{kind.__name__} is not kept")


def _pack_array(array: Any) -> list[Any]:
    if array.dtype.kind == "O":
        return ["O", array.shape, [pack(each, 1) for each in array.ravel().tolist()]]
    if array.dtype.kind not in "biufcmMU":
        raise TypeError(f"an array of {array.dtype} is not kept")
    return [array.dtype.str, array.shape, b64encode(array.tobytes()).decode("ascii")]


def _unpack_array(dtype: str, shape: list[int], body: Any) -> Any:
    import numpy as np

    if dtype != "O":
        return np.frombuffer(b64decode(body), dtype).reshape(shape).copy()
    made = np.empty(len(body), dtype=object)
    for i, each in enumerate(body):
        made[i] = unpack(each)
    return made.reshape(shape)


def unpack(data: Any) -> Any:
    """Return the value that `pack` was given."""
    kind = type(data)
    if kind is list:
        return [unpack(each) for each in data]
    if kind is not dict:
        return data
    ((tag, body),) = data.items()
    if tag in _BUILD:
        return _BUILD[tag](body)
    if tag == "float":
        return float(body)
    if tag == "ndarray":
        return _unpack_array(*body)
    if tag == "dict":
        return {unpack(key): unpack(each) for key, each in body}
    if tag in {"tuple", "set", "frozenset"}:
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[tag](map(unpack, body))
    return _unpack_pandas(tag, body)


def _unpack_pandas(tag: str, body: Any) -> Any:
    import pandas as pd

    if tag == "pandas":
        return {"NAType": pd.NA, "NaTType": pd.NaT}[body]
    if tag == "Timedelta":
        return pd.Timedelta(body)
    if tag == "Period":
        return pd.Period(ordinal=body[0], freq=body[1])
    if tag == "Interval":
        return pd.Interval(unpack(body[0]), unpack(body[1]), body[2])
    text, zone = body
    stamp = pd.Timestamp(text)
    return stamp if zone is None else stamp.tz_convert(zone)


def zone_name(zone: Any) -> str:
    """Return a time zone as the text that pandas reads, empty for none."""
    if zone is None:
        return ""
    if type(zone).__module__.partition(".")[0] == "dateutil":
        import pyarrow as pa

        try:
            return f"dateutil/{pa.lib.tzinfo_to_string(zone)}"
        except ValueError:
            return str(zone)  # the local zone, for one; it is refused when it is read back
    return str(zone)
