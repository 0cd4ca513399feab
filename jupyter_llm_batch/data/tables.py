"""Convert records to a pandas frame or a pyarrow Table."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from . import columns


def frame_of_records(records: Sequence[Mapping[str, Any]], *, prefer_pandas: bool = False) -> Any:
    """Return `records` as a pandas frame or a pyarrow Table."""
    names = records[0] if records else ()
    found = {name: [record[name] for record in records] for name in names}
    if prefer_pandas and importlib.util.find_spec("pandas"):
        import pandas as pd

        return pd.DataFrame({name: columns.for_pandas(each) for name, each in found.items()})
    import pyarrow as pa

    return pa.table({name: columns.for_pyarrow(each) for name, each in found.items()})
