"""A limit on what one download may write: as much as its rows can be, and not the whole disk."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from ..core.errors import Incomplete
from ..core.request import Sink

#: Bytes that one row's answer may have; pictures and sound come as text.
ROW = 64 << 20
#: Bytes that a large download leaves free on the disk.
FREE = 200 << 20
#: The disk is looked at once in so many bytes; what is smaller is written wherever it has room.
LOOK = 64 << 20


class Limited:
    """A sink that stops a download which cannot be right.

    Parameters
    ----------
    sink
        Takes the bytes.
    folder
        Where it writes.
    rows
        Rows of the job; 0 where nobody knows.
    """

    def __init__(self, sink: Sink, folder: Path, rows: int) -> None:
        self._sink = sink
        self._folder = folder
        self._rows = rows
        self._size = 0
        self._looked = 0

    def write(self, data: bytes, /) -> object:
        """Take `data`.

        Raises
        ------
        Incomplete
            It is more than the answers of these rows can be.
        OSError
            The disk would be full.
        """
        self._size += len(data)
        if self._rows and self._size > ROW * (self._rows + 1):
            raise Incomplete(
                f"the download is larger than the answers of {self._rows:,} rows can be "
                f"({self._size / 1e9:,.1f} GB so far): it was stopped, and is tried again later"
            )
        if self._size - self._looked >= LOOK:
            self._looked = self._size
            if shutil.disk_usage(self._folder).free < FREE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        return self._sink.write(data)
