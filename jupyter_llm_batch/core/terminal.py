"""Make control characters visible before text is printed to a terminal.

Answers, prompts, ids, names and errors come from others. An escape sequence in them could set the
clipboard, hide a link or rewrite lines; marks of writing direction could show a text as another.
"""

from __future__ import annotations

import builtins
import re
from typing import Any

#: Control characters except tab and line feed, direction marks, line separators, surrogates.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Return `text` with control characters written out as Python's escapes."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def print(*values: object, **options: Any) -> None:  # noqa: A001 - it stands in for the other
    """Print like Python's own, with control characters made visible."""
    builtins.print(*(visible(str(value)) for value in values), **options)  # noqa: T201
