"""Split and rewrite the `%%llm_batch` line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from . import cell_options
from .errors import UsageProblem
from .option_table import OPTIONS
from .request import Recipe

_OPEN, _CLOSE = "([{", ")]}"

#: What may stand before the quotes of a string.
_PREFIXES = frozenset({"f", "r", "b", "u", "t", "fr", "rf", "br", "rb", "tr", "rt"})

#: Longest system prompt that is written into a line (characters).
_SHORT = 80

#: One-time options, removed when a line is suggested again with a change.
ONCE: dict[str, str | None] = {option.flag: None for option in OPTIONS if option.once}
#: Options removed for a trial of another model, and `--wait` added.
TRIAL: dict[str, str | None] = (
    ONCE | {option.flag: None for option in OPTIONS if option.untried} | {"--wait": ""}
)


def split_line(line: str) -> list[str]:
    """Split a line at blanks outside quotes and brackets; each piece stays as typed.

    A comment (``#`` after a blank) and a semicolon at the end are dropped.

    Raises
    ------
    UsageProblem
        A quote or a bracket is not closed.
    """
    found: list[str] = []
    word, depth, position = "", 0, 0
    while position < len(line):
        char = line[position]
        if char.isspace() and not depth:
            if word:
                found.append(word)
            word = ""
        elif char in "\"'" and _opens(word, depth, line, position):
            end = _closing(line, position)
            word += line[position:end]
            if end is None:
                raise UsageProblem(f"a quote is not closed in: {word}")
            position = end
            continue
        elif char == "#" and not depth and not word:
            break
        else:
            depth += (char in _OPEN) - (char in _CLOSE and depth > 0)
            word += char
        position += 1
    if depth:
        raise UsageProblem(f"a bracket is not closed in: {word}")
    if word:
        found.append(word)
    if found and found[-1].endswith(";"):
        found[-1] = found[-1].rstrip(";")
    return [*filter(None, found)]


def _opens(word: str, depth: int, line: str, position: int) -> bool:
    """Whether a quote begins a string; an apostrophe as in ``it's`` does not."""
    if depth:
        return True  # an expression
    before = re.search(r"\w*$", word)
    prefix = before[0] if before else ""
    return not prefix or prefix.lower() in _PREFIXES or _closes(line, position)


def _closing(line: str, start: int) -> int | None:
    """Return the end of the string literal at `start`; None when it is not closed."""
    quote = line[start] * 3 if line.startswith(line[start] * 3, start) else line[start]
    position = start + len(quote)
    while position < len(line):
        if line[position] == "\\":
            position += 2
        elif line.startswith(quote, position):
            return position + len(quote)
        else:
            position += 1
    return None


def _closes(line: str, position: int) -> bool:
    """Whether the quote has a partner before the next blank: in ``f'…'``, not in ``it's``."""
    rest = line[position + 1 :]
    return not rest[:1].isspace() and line[position] in (rest.split(maxsplit=1) or [""])[0]


def amend_line(line: str, changes: Mapping[str, str | None], name: str = "") -> str:
    """Return a line with some of its options changed and the others as they were typed.

    Parameters
    ----------
    line
        ``%%llm_batch NAME …`` or ``%llm_batch run NAME …``.
    changes
        New value by option; an empty text for an option without a value, None removes it.
    name
        Another name for the batch.
    """
    parser = cell_options.any_line()
    magic, *typed = split_line(line)
    found, taken = [magic], 0
    names = 2 if magic == "%llm_batch" else 1  # the subcommand and the name
    position = 0
    while position < len(typed):
        piece = typed[position]
        position += 1
        if not piece.startswith("-"):
            taken += 1
            found.append(name if name and taken == names else piece)
            continue
        both = [piece]
        if parser.takes(piece, next(iter(typed[position:]), None)):
            both.append(typed[position])
            position += 1
        if parser.full_name(piece) not in changes:
            found += both
    for option, value in changes.items():
        if value is not None:
            found += [option, value] if value else [option]
    return " ".join(found)


def line_for_batch(name: str, model: str, recipe: Recipe, *, over: bool) -> str:
    """Return a `%%llm_batch` line that repeats a batch, as far as its options are known.

    ``ROWS``, ``SCHEMA`` and a long ``SYSTEM`` stand for variables that only the user has.
    """
    options: list[tuple[str, str]] = [("--model", model)]
    if over:
        options.append(("--over", "ROWS"))
    if recipe.system is not None:
        short = len(recipe.system) <= _SHORT
        text = ("--system", repr(recipe.system)) if short else ("--system-from", "SYSTEM")
        options.append(text)
    if recipe.max_tokens is not None:
        options.append(("--max-tokens", str(recipe.max_tokens)))
    options += [("--param", _param(key, value)) for key, value in recipe.params.items()]
    if recipe.endpoint != "chat":
        options.append(("--endpoint", recipe.endpoint))
    if recipe.schema is not None:
        options.append(("--schema", "SCHEMA"))
    if recipe.cache is not None:
        options.append(("--cache", recipe.cache))
    first = f"%llm_batch run {name}" if recipe.raw else f"%%llm_batch {name}"
    words = [first, *(f"{option} {value}" for option, value in options)]
    return " ".join([*words, "--raw"] if recipe.raw else words)


def _param(key: str, value: Any) -> str:
    text = f"{key}={json.dumps(value, ensure_ascii=False)}"
    return repr(text) if any(char.isspace() or char in "\"'" for char in text) else text


def quote_word(name: str) -> str:
    """Return a name as one word of a magic line, quoted if it has blanks."""
    return f'"{name}"' if " " in name else name
