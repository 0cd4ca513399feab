"""From the bytes of a result line to what a person reads, the same for every provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ..errors import redact
from ..models import Outcome, Result

_ERROR_LENGTH = 500
#: Characters of an error that are looked at; some servers answer with whole pages.
_READ = 20_000


def mended(line: bytes) -> bytes:
    """Replace halves of surrogate pairs, which models do emit and strict decoders refuse."""
    text = json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def as_json(body: bytes) -> msgspec.Raw | str:
    """Return a body for embedding in a line, verbatim but on one line; as text if it is no JSON."""
    try:
        return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except msgspec.DecodeError:
        return body.decode(errors="replace")


def unreadable(line: bytes, custom_id: re.Pattern[bytes]) -> Result:
    """Return the result of a line in no known form, under what `custom_id` finds in it."""
    found = custom_id.search(line)
    return Result(
        custom_id=found[1].decode() if found else "",
        outcome=Outcome.FAILED,
        error="the answer has a form that this version cannot read; the raw line is kept",
        code="unreadable",
        billed=True,
    )


def no_text(kinds: Iterable[str]) -> str:
    """Return the error of an answer that holds neither text nor a call, but `kinds` perhaps."""
    held = ", ".join(dict.fromkeys(kind for kind in kinds if kind))
    only = f", only {held}: batch.results() has it as `raw`" if held else ""
    return one_line(f"the answer holds no text{only}")


def arguments(given: Any) -> Any:
    """Return the arguments of a tool call as an object, or as they are where they are no JSON."""
    if not isinstance(given, str):
        return given
    try:
        return msgspec.json.decode(given)
    except msgspec.DecodeError:
        return given


def one_line(text: str) -> str:
    """Return `text` without keys, on one line of a readable length."""
    # Cut twice: of a key that the first cut divides, no part stays.
    return redact(" ".join(text[:_READ].split())[: 2 * _ERROR_LENGTH])[:_ERROR_LENGTH]
