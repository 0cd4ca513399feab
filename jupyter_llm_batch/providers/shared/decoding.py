"""From the bytes of a result line to what a person reads, the same for every provider."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ...core import loose_json
from ...core.errors import redact
from ...core.result import Outcome, Result, Usage

_ERROR_LENGTH = 500
#: Characters of an error that are looked at; some servers answer with whole pages.
_READ = 20_000

#: No tokens told.
NOTHING = Usage()


def as_json(body: bytes) -> msgspec.Raw | str:
    """Return a body for embedding in a line, verbatim but on one line; as text if it is no JSON."""
    try:
        return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return msgspec.Raw(loose_json.dumps(loose_json.loads(body)))
    except ValueError:
        return body.decode(errors="replace")


#: In texts that are no whole JSON a name is still found; in whole ones only at the top.
_ID = r'"%s"\s*:\s*(?:"([^"\\]{1,256})"|(-?\d{1,20}))'


def name_in(line: bytes, name: str) -> str:
    """Return the id that a line holds under `name`, as text; empty where it has none."""
    text = line.decode(errors="replace")
    try:
        value = loose_json.loads(text)
    except ValueError:
        found = re.search(_ID % name, text)
        return (found[1] or found[2]) if found else ""
    given = value.get(name) if isinstance(value, dict) else None
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        return ""
    return str(given)


def unreadable(line: bytes, name: str, why: str | None = None, usage: Usage = NOTHING) -> Result:
    """Return the result of a line in no known form, with its id under `name`.

    Nobody knows whether it stands for work that was done, so it is never sent again by itself.
    """
    told = "the answer has a form that this version cannot read; the raw line is kept"
    return Result(
        custom_id=name_in(line, name),
        outcome=Outcome.FAILED,
        error=f"{told}: {why}" if why else told,
        code="unreadable",
        usage=usage,
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
        return loose_json.loads(given, whole=True)
    except ValueError:
        return given


def one_line(text: str) -> str:
    """Return `text` without keys, on one line of a readable length."""
    # Cut twice: of a key that the first cut divides, no part stays.
    return redact(" ".join(text[:_READ].split())[: 2 * _ERROR_LENGTH])[:_ERROR_LENGTH]
