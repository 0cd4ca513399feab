"""Read the values of options: numbers, money, times and request parameters."""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
from typing import Any, NoReturn

_DAYS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def unquoted(word: str) -> str:
    """Return a word without the quotes around it, if they are around all of it."""
    for quote in ('"""', "'''", '"', "'"):
        inner = word[len(quote) : -len(quote)]
        whole = len(word) >= 2 * len(quote) and word.startswith(quote) and word.endswith(quote)
        if whole and quote not in inner.replace("\\\\", "").replace("\\" + quote[0], ""):
            try:
                return str(ast.literal_eval(word))
            except (SyntaxError, ValueError):
                return inner
    return word


def seconds(text: str) -> float:
    """Return a number of seconds that is not negative."""
    return _amount(text, text, "a number of seconds")


def usd(text: str) -> float:
    """Return an amount of money that is not negative."""
    return _amount(text.removeprefix("$"), text, "an amount in USD")


def days(text: str) -> float:
    """Return the seconds of ``30d``, ``12h`` or ``2w``."""
    found = re.fullmatch(r"(\d+)([hdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 30d, 12h or 2w")
    return int(found[1]) * _DAYS[found[2]]


def time_span(seconds: float) -> str:
    """Return seconds as ``6h``, ``90m`` or ``45s``, the largest unit that is exact."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def money(amount: float) -> str:
    """Return USD as they are typed: ``2.50``."""
    return f"{amount:.2f}" if amount * 100 % 1 == 0 else f"{amount:g}"


def count(text: str) -> int:
    """Return a whole number that is not negative."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return value


def positive(text: str) -> int:
    """Return a whole number that is at least 1."""
    value = count(text)
    if not value:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def parameter(text: str) -> tuple[str, Any]:
    """Return name and value of ``KEY=VALUE``; the value is JSON, or else a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    for form in (value, unquoted(value)):
        try:
            return key, json.loads(form, parse_constant=_no_constant, parse_float=_finite)
        except ValueError:
            continue
    return key, unquoted(value)


def _amount(number: str, text: str, what: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is larger than any number that can be sent")
    return value


def _no_constant(name: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"{name} is no JSON value")
