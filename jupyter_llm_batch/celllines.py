"""The first line of a cell: into pieces as they were typed, and again with other options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .errors import UsageProblem
from .models import Recipe

_OPEN, _CLOSE = "([{", ")]}"

#: Options that stand for another.
_ALIASES = {"-m": "--model"}
#: Options without a value; all others have one.
_FLAGS = frozenset(
    {"--embed", "--skip-null", "--dedupe", "--random", "--realtime", "--dry-run", "--wait",
     "--resubmit", "--split", "--add", "--raw"}
)  # fmt: skip
#: Options whose value may be left out.
_MAYBE = {"--cache": ("5m", "1h")}

#: A system prompt that is longer is not written out (characters).
_SHORT = 80

#: What a line asked for once, which is not asked for when it runs again with something changed.
ONCE = {"--add": None, "--resubmit": None, "--dry-run": None, "--count": None}
#: What a trial of another model does without.
TRIAL = ONCE | {
    "--route": None, "--realtime": None, "--random": None, "--deadline": None,
    "--deadline-max-cost": None, "--reuse": None, "--wait": "",
}  # fmt: skip


def pieces(line: str) -> list[str]:
    """Split a line at blanks outside quotes and brackets; every piece stays as it was typed.

    Raises
    ------
    UsageProblem
        A quote or a bracket is not closed.
    """
    found: list[str] = []
    word, quote, depth = "", "", 0
    for position, char in enumerate(line):
        if quote:
            word += char
            if char == quote and not (word[-2:-1] == "\\" and word[-3:-2] != "\\"):
                quote = ""
        elif char.isspace() and not depth:
            if word:
                found.append(word)
            word = ""
        else:
            if char in "\"'" and (not word or not word[-1].isalnum() or _closes(line, position)):
                quote = char
            depth += (char in _OPEN) - (char in _CLOSE and depth > 0)
            word += char
    if quote:
        raise UsageProblem(f"a quote is not closed in: {word}")
    if depth:
        raise UsageProblem(f"a bracket is not closed in: {word}")
    if word:
        found.append(word)
    return found


def _closes(line: str, position: int) -> bool:
    """Whether the quote has a partner before the next blank: in ``f'…'``, not in ``it's``."""
    rest = line[position + 1 :]
    return not rest[:1].isspace() and line[position] in (rest.split(maxsplit=1) or [""])[0]


def amended(line: str, changes: Mapping[str, str | None], name: str = "") -> str:
    """Return a line with some of its options changed and the others as they were typed.

    Parameters
    ----------
    line
        ``%%llm_batch NAME …`` or ``%llm_batch run NAME …``.
    changes
        The new value of each option; an empty one for an option without, None takes it out.
    name
        Another name for the batch.
    """
    magic, *typed = pieces(line)
    found, taken = [magic], 0
    names = 2 if magic == "%llm_batch" else 1  # the subcommand and the name
    position = 0
    while position < len(typed):
        piece = typed[position]
        position += 1
        option = _ALIASES.get(piece[:2], piece.partition("=")[0])
        if not option.startswith("-"):
            taken += 1
            found.append(name if name and taken == names else piece)
            continue
        both = [piece, *typed[position : position + 1]]
        if _stands_alone(option, *both):
            both = [piece]
        position += len(both) - 1
        if option not in changes:
            found += both
    for option, value in changes.items():
        if value is not None:
            found += [option, value] if value else [option]
    return " ".join(found)


def _stands_alone(option: str, piece: str, following: str = "") -> bool:
    """Whether what follows `piece` is not the option's value."""
    if option in _FLAGS or "=" in piece or (piece[:2] in _ALIASES and len(piece) > 2):
        return True
    return option in _MAYBE and following not in _MAYBE[option]


def made(name: str, model: str, recipe: Recipe, *, over: bool) -> str:
    """Return the line that would ask for what a batch asked for, as far as it is known.

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


def word(name: str) -> str:
    """Return a name as one word of a magic's line; notebooks may have blanks in theirs."""
    return f'"{name}"' if " " in name else name
