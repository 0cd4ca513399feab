"""JSON as servers really write it: with NaN, halves of surrogate pairs, and any depth.

The fast decoders refuse all of these for a whole text, also where they stand in a field that nobody
reads. Here only what is no JSON at all is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: What lies deeper in a text that is nested without bound is read as null.
DEEPEST = 100
#: Digits of the longest integer that is read as one; Python refuses some thousand.
_DIGITS = 4000

_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)
_FENCE = "```"
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def loads(data: bytes | bytearray | str, *, whole: bool = False) -> Any:
    """Return the value of a JSON text.

    Parameters
    ----------
    whole
        Every part of it counts: what is nested without bound is refused, not left out.

    Raises
    ------
    ValueError
        It is no JSON text, or no text at all.
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    try:
        return _value(text)
    except RecursionError as error:
        if whole:
            raise ValueError("it is nested too deeply") from error
    try:
        return _value(shallow(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def answer(text: str) -> Any:
    """Return the JSON value that a model gave as its answer, in a fence of Markdown or without.

    Raises
    ------
    ValueError
        It is no JSON text.
    """
    try:
        return loads(text, whole=True)
    except ValueError:
        # By hand, since models do fill answers with blanks, and expressions try each of them.
        text = text.strip()
        opening, _, inner = text.partition("\n")
        language = opening.removeprefix(_FENCE).strip()
        is_fenced = opening.startswith(_FENCE) and inner.endswith(_FENCE)
        if not is_fenced or not (language.isalnum() or not language):
            raise
        return loads(inner.removesuffix(_FENCE), whole=True)


def dumps(value: Any) -> bytes:
    """Return a value that `loads` gave as JSON on one line; NaN stays NaN."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def is_json(data: bytes) -> bool:
    """Whether `data` is one whole JSON value."""
    try:
        loads(data)
    except ValueError:
        return False
    return True


def shallow(text: str) -> str:
    """Return a JSON text with everything beyond a sane depth replaced by null."""
    pieces: list[str] = []
    depth = kept = 0
    for found in _TOKENS.finditer(text):
        sign = found[0]
        if sign in "[{":
            depth += 1
            if depth == DEEPEST + 1:
                pieces.append(text[kept : found.start()])
        elif sign in "]}":
            if depth == DEEPEST + 1:
                pieces.append("null")
                kept = found.end()
            depth -= 1
    if depth > DEEPEST:
        raise ValueError("the text ends inside of its values")
    pieces.append(text[kept:])
    return "".join(pieces)


def _value(text: str) -> Any:
    value = json.loads(text, parse_int=_integer)
    if _HALF.search(text):  # models do cut an emoji in two
        value = json.loads(dumps(value), parse_int=_integer)
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _DIGITS else float(digits)
