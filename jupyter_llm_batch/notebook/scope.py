"""The names that a magic's line can see: those of the place where it was run."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell

#: What stands between a magic and the code that runs it.
_MACHINERY = frozenset({"IPython", "jupyter_llm_batch", "decorator", "contextlib"})


class Scope(NamedTuple):
    """Where a magic was run.

    Attributes
    ----------
    names
        What expressions and templates see; the innermost name counts, as in Python.
    module
        The names of a script (``%run``) or module whose top level ran the magic: answers are bound
        there, too. None in the notebook itself.
    in_function
        Answers cannot be bound among a function's own names: they go to the notebook's.
    """

    names: dict[str, Any]
    module: dict[str, Any] | None = None
    in_function: bool = False


def of_caller(shell: InteractiveShell) -> Scope:
    """Return the scope of the code that runs the present magic."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _root(frame) in _MACHINERY:
        frame = frame.f_back
    if frame is None:
        return Scope(shell.user_ns)
    inner, outer = frame.f_locals, frame.f_globals
    if inner is shell.user_ns:
        # An embedded shell has the names of the module around it besides its own.
        return Scope(inner if outer is inner else {**outer, **inner})
    seen = {**shell.user_ns, **outer}
    if frame.f_code.co_name == "<module>" or inner is outer:
        return Scope({**seen, **inner}, module=outer if inner is outer else None)
    for each in reversed(_enclosing(frame)):
        seen.update(each.f_locals)
    return Scope(seen, in_function=True)


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _enclosing(frame: FrameType) -> list[FrameType]:
    """Return a function's frame, after it those around a comprehension or lambda."""
    found = [frame]
    while found[-1].f_code.co_name.startswith("<"):
        around = found[-1].f_back
        if around is None or around.f_globals is not frame.f_globals:
            break
        found.append(around)
    return found
