"""Files that were uploaded or made, on disk, private to the user."""

from __future__ import annotations

import os
import secrets
import string
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

_BUFFER = 256 * 1024
_BASE62 = string.ascii_letters + string.digits


def private_folder(path: Path) -> Path:
    """Make a folder that only the user may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def private_open(path: Path, mode: Literal["wb", "ab"]) -> BinaryIO:
    """Open a binary file for writing that only the user may read."""
    return open(path, mode, _BUFFER, opener=lambda name, flags: os.open(name, flags, 0o600))


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with private_open(temporary, "wb") as file:
        file.write(data)
    temporary.replace(path)


def share_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, so that deleting the first does not take it away."""
    try:
        os.link(source, target)
    except OSError:
        write_whole(target, source.read_bytes())


def base62(length: int) -> str:
    """Return random letters and digits, as file ids have them."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))


class StoredFile(msgspec.Struct, kw_only=True):
    """What is known of one file besides its bytes."""

    id: str
    provider: str
    account: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None


class Files:
    """All files, each with a record beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._records: dict[str, StoredFile] = {}
        for path in folder.glob("*.json"):
            record = msgspec.json.decode(path.read_bytes(), type=StoredFile)
            self._records[record.id] = record

    def scratch(self) -> Path:
        """Return the path of a new temporary file in the same folder."""
        return self._folder / f"incoming-{secrets.token_hex(8)}"

    def path(self, file_id: str) -> Path:
        """Return where the bytes of a file are."""
        return self._folder / f"{file_id}.data"

    def add(self, record: StoredFile, content: Path) -> None:
        """Take over a scratch file under a record."""
        content.replace(self.path(record.id))
        write_whole(self._folder / f"{record.id}.json", msgspec.json.encode(record))
        self._records[record.id] = record

    def get(self, provider: str, account: str, file_id: str, now: float) -> StoredFile | None:
        """Return a file that this account owns and that has not expired."""
        record = self._records.get(file_id)
        if record is None or (record.provider, record.account) != (provider, account):
            return None
        if record.expires_at is not None and now >= record.expires_at:
            return None
        return record

    def listing(self, provider: str, account: str, now: float) -> list[StoredFile]:
        """Return an account's files, newest first."""
        mine = (self.get(provider, account, file_id, now) for file_id in self._records)
        return sorted(filter(None, mine), key=lambda file: file.created_at, reverse=True)

    def delete(self, file_id: str) -> None:
        """Remove a file."""
        del self._records[file_id]
        self.path(file_id).unlink(missing_ok=True)
        (self._folder / f"{file_id}.json").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all files."""
        for file_id in list(self._records):
            self.delete(file_id)
