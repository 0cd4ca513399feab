"""Lenient JSON decoder: accepts NaN, lone surrogates, and any depth, as real servers send them.

The fast decoders reject a whole text for any of these, even in a field that is not used. This one
rejects only text that is not JSON at all.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: Deepest level that is read; anything deeper becomes null.
DEEPEST = 100
#: Most digits of an integer; Python refuses to parse a few thousand.
_DIGITS = 4000

_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)
_FENCE = "```"
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def loads(data: bytes | bytearray | str, *, whole: bool = False) -> Any:
    """Return the value of a JSON text.

    Parameters
    ----------
    whole
        Refuse a text that is nested too deeply, instead of replacing its depths by null.

    Raises
    ------
    ValueError
        It is not JSON, or not text at all.
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    try:
        return _value(text)
    except RecursionError as error:
        if whole:
            raise ValueError("it is nested too deeply") from error
    try:
        return _value(limit_depth(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def loads_answer(text: str) -> Any:
    """Return the JSON value in a model's answer, with or without a Markdown fence.

    Raises
    ------
    ValueError
        It is not JSON.
    """
    try:
        return loads(text, whole=True)
    except ValueError:
        # By hand: models fill answers with blanks, over which a regular expression backtracks.
        text = text.strip()
        opening, _, inner = text.partition("\n")
        language = opening.removeprefix(_FENCE).strip()
        is_fenced = opening.startswith(_FENCE) and inner.endswith(_FENCE)
        if not is_fenced or not (language.isalnum() or not language):
            raise
        return loads(inner.removesuffix(_FENCE), whole=True)


def dumps(value: Any) -> bytes:
    """Return a value from `loads` as JSON on one line; NaN stays NaN."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def is_json(data: bytes) -> bool:
    """Whether `data` is one whole JSON value."""
    try:
        loads(data)
    except ValueError:
        return False
    return True


def limit_depth(text: str) -> str:
    """Return a JSON text with everything below a sane depth replaced by null."""
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
