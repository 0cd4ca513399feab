"""Nobody else on this machine can read or change what lies in the data folder."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import StoreProblem

#: What this package puts into its data folder.
OURS = frozenset({"batches", "backups", "damaged", "simulated", "simulator"})

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def secure(folder: Path) -> None:
    """See to it that `folder` and what is ours in it belong to this user alone.

    A folder of our own is closed to others. One that holds other files too keeps its mode, since
    others may need it, unless they could replace our files in it.

    Raises
    ------
    StoreProblem
        The folder is another user's, or others may write to it and it is not ours to close.
    """
    if os.name == "nt":  # a user's profile is private there by its access lists
        return
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise StoreProblem(
            f"{folder} belongs to another user (number {found.st_uid}): choose a folder of your "
            "own with %config LLMBatch.data_dir = '...'"
        )
    if not found.st_mode & _OTHERS:
        return  # nobody else comes in, whatever the modes inside
    names = [each.name for each in folder.iterdir()]
    strange = [name for name in names if not _is_ours(name)]
    if strange and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreProblem(
            f"other users may write to {folder}, which holds other files too ({strange[0]}): "
            "choose a folder of its own with %config LLMBatch.data_dir = '...'"
        )
    for path in _within(folder / name for name in names if _is_ours(name)):
        _tighten(path)
    if not strange:
        _tighten(folder)


def _is_ours(name: str) -> bool:
    return name in OURS or name.startswith("journal.")


def _within(paths: Iterator[Path]) -> Iterator[Path]:
    for path in paths:
        yield path
        if path.is_dir() and not path.is_symlink():
            for place, folders, files in os.walk(path):  # one may go meanwhile: another kernel's
                yield from (Path(place, name) for name in (*folders, *files))


def _tighten(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # a temporary file of another process
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & _OTHERS and not path.is_symlink():
            path.chmod(mode & ~_OTHERS)
