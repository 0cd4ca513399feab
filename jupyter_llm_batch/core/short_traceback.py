"""Short traceback for errors that the user can fix: their own line and the message."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from .redaction import redact
from .terminal import visible

_PACKAGE = str(Path(__file__).parents[1])

#: Folders of code that the user did not write.
_LIBRARIES = (_PACKAGE, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "<frozen ")
_INSTALLED = {"site-packages", "dist-packages", "IPython", "ipykernel"}


class ForUsers(BaseException):
    """Mixin for errors that the user can fix: IPython shows none of this package's frames."""

    def _render_traceback_(self) -> list[str]:
        return render_for_users(self)


def render_for_users(error: BaseException) -> list[str]:
    """Return the user's own line of code, if there is one, and the message."""
    # The line may hold a key that was typed into it.
    return [
        *map(redact, list(_own(error))[-1:]),
        f"{type(error).__name__}: {visible(redact(str(error)))}",
    ]


def _own(error: BaseException) -> Iterator[str]:
    """Yield each line of the user's code that led to the error."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        path = Path(name)
        if name.startswith(_LIBRARIES) or not _INSTALLED.isdisjoint(path.parts):
            continue
        if code := linecache.getline(name, line, frame.f_globals).strip():
            # A cell has no file, and its made-up name says nothing.
            yield f"{path.name}, line {line}: {code}" if path.exists() else f"line {line}: {code}"
