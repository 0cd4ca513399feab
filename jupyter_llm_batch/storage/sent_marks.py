"""Marks on disk that say a job's requests may have been sent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import StoreProblem
from .files import private_opener, sync_folder

#: ``r0-j1.sent.2``: the second attempt to send ``r0-j1.jsonl`` has begun.
_SENT = "sent"


def mark(path: Path, attempt: int) -> None:
    """Note beside a payload, durably, that it is about to be sent; earlier such notes go.

    The journal knows it too, but a copy of the journal may be put back that does not.
    """
    earlier = [*_marks(path)]
    try:
        os.close(private_opener(str(_mark(path, attempt)), os.O_CREAT | os.O_WRONLY))
        sync_folder(path.parent)
        for number in earlier:
            if number < attempt:
                _mark(path, number).unlink(missing_ok=True)
    except OSError as error:
        raise StoreProblem(
            f"cannot write beside {path}: {error.strerror}; nothing was sent"
        ) from error


def marked(path: Path) -> int:
    """Return the highest attempt that `mark` noted beside a payload, 0 when there is none."""
    return max(_marks(path), default=0)


def was_sent(folder: Path) -> bool:
    """Whether anything of a batch's folder was sent, as `mark` noted.

    The folder may be another kernel's, which takes it away again when nothing came of it.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return any(f".{_SENT}." in path.name for path in folder.iterdir())
    return False


def _marks(path: Path) -> Iterator[int]:
    for each in path.parent.glob(f"{path.stem}.{_SENT}.*"):
        if each.suffix[1:].isdecimal():
            yield int(each.suffix[1:])


def _mark(path: Path, attempt: int) -> Path:
    return path.with_name(f"{path.stem}.{_SENT}.{attempt}")
