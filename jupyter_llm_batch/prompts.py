"""Cell text and rows to prompts: one text per row, in order.

The text is a Jinja2 template. Values are inserted as text and never rendered again. A template of
nothing but text and plain ``{{ name }}`` is put together without Jinja, with the same outcome.

Nulls (None, NaN, NA, NaT) are refused where a template would write them into the prompt, and taken
where it deals with them: as the left side of ``or`` and ``and``, under ``not``, ``is``, ``==``,
``in`` and ``default``, and as a condition. All of them read as None there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

import msgspec

from .errors import UsageProblem
from .models import Content, Rows
from .templates import Null, Parsed, Unknown, is_null, parse, plain

#: Names that a row has beside its fields; fields win.
RESERVED = ("item", "key", "row")

_RAW = "text with literal braces (LaTeX, JSON) goes between {% raw %} and {% endraw %}"


class Template:
    """A prompt with names in it.

    Attributes
    ----------
    text
        The cell's text without blank lines at either end.
    names
        The names that must come from a row or from the namespace.
    """

    def __init__(self, text: str) -> None:
        lines = text.replace("\r\n", "\n").split("\n")
        filled = [i for i, line in enumerate(lines) if line.strip()]
        if not filled:
            raise UsageProblem("the cell has no text: write the prompt below the first line")
        self.text = "\n".join(lines[filled[0] : filled[-1] + 1])
        self._parsed: Parsed = parse(self.text)
        self.names = self._parsed.names
