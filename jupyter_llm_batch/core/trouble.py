"""Classify errors: passing trouble, lasting trouble, or a defect of this package.

Network, providers and disks fail for a while, and the work is retried. A refused key or an unusable
proxy lasts until somebody changes it: the batch stops and says so. Everything else is a defect of
this package: it is reported and never treated as trouble.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import time
import traceback
from collections import deque
from pathlib import Path

import msgspec

from .errors import Blocked, IllegalEvent, LLMBatchError, Refused, Vanished, redact

#: Environment variable; the test suite sets it to 1, so that waiting for a batch raises its defect.
STRICT = "JUPYTER_LLM_BATCH_STRICT"

#: Error numbers of a full, read-only or failing disk.
NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, errno.EDQUOT})

#: Errors whose text is only about code; that of others may quote prompts or answers.
_ABOUT_CODE = (AttributeError, NameError, ImportError, IllegalEvent)

_log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[1]


class Defect(msgspec.Struct, frozen=True, kw_only=True):
    """A defect of this package that was met at run time.

    Attributes
    ----------
    at
        When (Unix seconds).
    where
        What this package was doing.
    traceback
        Files, lines and code; no values of variables.
    error
        The exception itself, for tests.
    """

    at: float
    where: str
    name: str
    traceback: str
    error: BaseException


#: The latest defects of this process, for the report of `doctor`.
defects: deque[Defect] = deque(maxlen=20)


def is_defect(error: BaseException) -> bool:
    """Whether `error` can only be a defect of this package."""
    if isinstance(error, LLMBatchError):
        return isinstance(error, IllegalEvent)
    if isinstance(error, (OSError, MemoryError)) or is_leaving(error):
        return False
    return not (isinstance(error, RuntimeError) and "start new thread" in str(error))


def is_lasting(error: BaseException) -> bool:
    """Whether the same call fails until somebody changes something: a key, a setting."""
    return isinstance(error, (Refused, Blocked)) and not isinstance(error, Vanished)


def is_leaving(error: BaseException) -> bool:
    """Whether `error` only means that the process or the client is shutting down."""
    if isinstance(error, sqlite3.ProgrammingError):
        return "closed database" in str(error)
    return isinstance(error, RuntimeError) and "shutdown" in str(error)


def is_strict() -> bool:
    """Whether waiting for a batch raises its defect."""
    return os.environ.get(STRICT) == "1"


def describe_error(error: BaseException) -> str:
    """Return a one-line message for an error, with the remedy where there is one."""
    if is_defect(error):
        return internal_error(type(error).__name__)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f" ({error.filename})" if error.filename else ""
        said = (error.strerror or str(error)).lower()
        return f"{said}{where}; make room on the disk"
    return " ".join(redact(str(error)).split()) or type(error).__name__


def internal_error(name: str) -> str:
    """Return the message that a batch shows for a defect."""
    return f"internal error ({name}), nothing was lost: `%llm_batch doctor` writes a report for us"


def report_defect(error: BaseException, where: str) -> Defect:
    """Log a defect with its traceback, and keep it for `doctor`."""
    defect = Defect(
        at=time.time(),
        where=where,
        name=type(error).__name__,
        traceback=_trace(error),
        error=error,
    )
    defects.append(defect)
    _log.error("internal error: %s\n%s", where, defect.traceback)
    return defect


def _trace(error: BaseException) -> str:
    """Return the traceback without messages that may quote prompts or answers."""
    lines = []
    chain: BaseException | None = error
    while chain is not None:
        frames = traceback.extract_tb(chain.__traceback__)
        for frame in frames[-25:]:
            path = Path(frame.filename)
            inside = path.is_relative_to(_PACKAGE)
            name = path.relative_to(_PACKAGE.parent) if inside else Path(*path.parts[-3:])
            code = f": {frame.line}" if inside else ""  # a cell's code is the user's
            lines.append(f"  {name}:{frame.lineno} in {frame.name}{code}")
        said = f": {redact(str(chain))}" if isinstance(chain, _ABOUT_CODE) else ""
        lines.append(f"{type(chain).__name__}{said}")
        chain = chain.__cause__ or chain.__context__
        if len(lines) > 100:
            break
    return "\n".join(lines)
