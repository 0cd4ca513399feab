"""JSONL files beside the journal: private, atomic, synced before the journal speaks of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..core import loose_json
from ..core.errors import Incomplete, StoreProblem

CHUNK = 1 << 20


def private_folder(path: Path) -> Path:
    """Create `path` and its parents, readable by this user only, and return it.

    Raises
    ------
    StoreProblem
        The folder cannot be created.
    """
    try:
        missing = [path, *path.parents]
        missing = missing[: next(i for i, each in enumerate(missing) if each.exists())]
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
            each.chmod(0o700)  # whatever the umask
    except OSError as error:
        raise StoreProblem(
            f"cannot write to {path}: {error.strerror}; choose another folder with "
            "%config LLMBatch.data_dir = '...' and then %reload_ext jupyter_llm_batch"
        ) from error
    return path


def temporary(path: Path) -> Path:
    """Return a name beside `path` to write under that no other kernel or machine uses."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")


def private_opener(path: str, flags: int) -> int:
    """Open like `open`, but the file is readable by this user only, whatever the umask."""
    handle = os.open(path, flags, 0o600)
    if os.name != "nt":
        os.fchmod(handle, 0o600)
    return handle


class PayloadWriter:
    """Writes a file under a temporary name; `commit` makes it real and durable.

    Parameters
    ----------
    path
        Final name. What stood there is replaced as a whole.
    private
        Readable by this user only; what the user asked for (exports) follows the umask instead.
    """

    def __init__(self, path: Path, *, private: bool = True) -> None:
        self.path = path
        self._temporary = temporary(path)
        opener = private_opener if private else None
        self._file: BinaryIO = open(self._temporary, "wb", buffering=CHUNK, opener=opener)  # noqa: SIM115 - lives as long as the writer
        self.write = self._file.write

    def commit(self) -> None:
        """Sync the bytes and give them their name; the folder is synced by `sync_folder`."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
        except OSError as error:
            self.discard()
            raise StoreProblem(
                f"cannot write {self.path}: {error.strerror}; nothing was sent"
            ) from error

    def discard(self) -> None:
        """Forget everything that was written."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":  # Windows cannot sync a folder and needs not
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def writing(path: Path, *, private: bool = True) -> Iterator[PayloadWriter]:
    """Write a whole file: durable on success, nothing on failure."""
    writer = PayloadWriter(path, private=private)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise
    writer.commit()
    sync_folder(path.parent)


def adopt(temporary: Path, path: Path) -> None:
    """Make a file that somebody else wrote private, durable and final."""
    try:
        temporary.chmod(0o600)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreProblem(f"cannot write {path}: {error.strerror}; nothing was sent") from error
    sync_folder(path.parent)


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a payload, newline included, blank ones left out."""
    with path.open("rb", buffering=CHUNK) as file:
        for line in file:
            if not line.isspace():
                yield line


def check_whole(path: Path) -> None:
    """Check that a downloaded file does not end inside a line.

    Raises
    ------
    Incomplete
        The last line has no newline and is no complete JSON object either.
    """
    size = path.stat().st_size
    if not size:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        # Some servers end the last line without a newline; then it must at least be whole.
        start = size
        tail = b""
        while start and b"\n" not in tail:
            step = min(CHUNK, start)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
    if not is_json(tail.rpartition(b"\n")[2]):
        raise Incomplete(f"{path.name} ends inside a line")


def checksum(path: Path) -> str:
    """Return what tells a file from one that was cut short or changed by accident."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            size += len(piece)
            crc = zlib.crc32(piece, crc)
    return f"{size}-{crc:08x}"


def harm(path: Path, expected: str = "", size: int | None = None) -> str:
    """Return what has happened to a file since it was written, empty when nothing has."""
    try:
        now = path.stat().st_size
    except OSError:
        return "is missing"
    known = int(expected.partition("-")[0]) if expected else size
    if known is not None and now != known:
        return "was cut short" if now < known else "was changed"
    return "was changed" if expected and checksum(path) != expected else ""


def set_aside(path: Path) -> None:
    """Rename a damaged file, so that nothing takes it for whole and nothing overwrites it."""
    number = 0
    while (other := path.with_name(f"{path.name}.damaged{number or ''}")).exists():
        number += 1
    with contextlib.suppress(FileNotFoundError):
        path.replace(other)


def is_json(data: bytes) -> bool:
    """Whether `data` is one whole JSON value."""
    return loose_json.is_json(data)


def remove(folder: Path) -> None:
    """Delete a batch's folder."""
    shutil.rmtree(folder, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Return the bytes that all files below `folder` take."""
    total = 0
    for place, _, names in os.walk(folder):  # which passes over what another process takes away
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(place, name).lstat().st_size
    return total
