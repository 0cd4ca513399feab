"""The copy of the input rows beside the journal."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

from ..core.request import Rows
from . import files

ROWS_FILE = "rows.arrow"


def write_rows(rows: Rows, folder: Path, name: str = ROWS_FILE) -> None:
    """Snapshot the input beside the plan, whole or not at all; an equal one stays as it is."""
    snapshot = getattr(rows, "snapshot", None)
    if snapshot is None:
        return
    temporary = files.temporary(folder / name)
    os.close(files.private_opener(str(temporary), os.O_CREAT | os.O_WRONLY))
    try:
        snapshot(temporary)
        if not (folder / name).exists() or not filecmp.cmp(temporary, folder / name, shallow=False):
            files.adopt(temporary, folder / name)
    finally:
        temporary.unlink(missing_ok=True)
