"""Adapt printed text to terminals that cannot show every character."""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
from collections.abc import Iterator

#: ASCII replacements of the signs in our own lines.
_PLAIN = str.maketrans({
    "·": "-", "…": "...", "→": "->", "≤": "<=", "≥": ">=", "█": "#", "░": ".",
    "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "x",
    "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ",
})  # fmt: skip

_HANDLER = "jupyter_llm_batch.plain"


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(_HANDLER, _instead)


@contextlib.contextmanager
def adapt_output() -> Iterator[None]:
    """Replace characters that the terminal cannot encode while this context is active."""
    changed = []
    for stream in (sys.stdout, sys.stderr):
        # A kernel's streams accept everything.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in {"strict", "surrogateescape"}:
            with contextlib.suppress(ValueError, OSError):  # closed, or full
                changed.append((stream, stream.errors))
                stream.reconfigure(errors=_HANDLER)
    try:
        yield
    finally:
        for stream, errors in changed:
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors=errors)
