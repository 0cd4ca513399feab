"""Lines that other programs had made: their ids are not ours, and may be anything or missing.

Each result line is a row. It is named by its id; a further line of the same id, and a line without
one, get a name that no other line has, so that nothing that was paid for is dropped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ...core.result import Result
from ...storage import files

_BOM = b"\xef\xbb\xbf"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Lines:
    """Reads the result lines of one job in their order, and gives each a name of its own.

    Parameters
    ----------
    parse
        Reads one result line.
    provider
        Gemini keeps the order of the requests, so that there a place is a name.
    names
        The names that the lines were given before, when all of them were there. Needed by `skip`.
    """

    def __init__(
        self, parse: Callable[[bytes, str], Result], provider: str, names: Collection[str] = ()
    ) -> None:
        self._parse = parse
        self._in_order = provider == "google"
        self._names = names if isinstance(names, (set, frozenset)) else {*names}
        self._skipped = False
        self._read = 0
        self._given: set[str] = set()

    def skip(self) -> None:
        """Note that lines are left out here, and nobody knows how many.

        From here on a line has a name only if it is the only one with its id: neither its place
        nor how many came before it is known.
        """
        self._skipped = True

    def __call__(self, line: bytes, endpoint: str) -> Result:
        """Return the result of the next line."""
        result = leniently(self._parse, line, endpoint)
        if self._skipped:
            shared = not result.custom_id or f"{result.custom_id} (2)" in self._names
            return replace(result, custom_id="") if shared else result
        place = str(self._read) if self._in_order else f"line {self._read + 1}"
        self._read += 1
        name = result.custom_id or place
        unique, number = name, 1
        while unique in self._given:
            number += 1
            unique = f"{name} ({number})"
        self._given.add(unique)
        return result if unique == result.custom_id else replace(result, custom_id=unique)


def leniently(parse: Callable[[bytes, str], Result], line: bytes, endpoint: str) -> Result:
    """Read a result line whose id may be a number, of any form, or missing."""
    result = parse(line, endpoint)
    if result.custom_id:
        return result
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return result
    if not isinstance(read, dict):
        return result
    name = _name(read.get("custom_id", read.get("key")))
    stand_in = name or "-"
    again = parse(json.dumps({**read, "custom_id": stand_in, "key": stand_in}).encode(), endpoint)
    return replace(again, custom_id=name)


def endpoint_of(line: bytes) -> str:
    """Return which of OpenAI's endpoints has given the answer in a line; empty if none is known.

    What a batch says of its endpoint may be missing, an address, or another gateway's spelling.
    """
    try:
        body = json.loads(line)["response"]["body"]
        choices, data, results = (body.get(name) for name in ("choices", "data", "results"))
        if body.get("object") == "response" or (choices is None and _first(body.get("output"))):
            return "responses"
        if choice := _first(choices):
            return "chat" if "message" in choice else "completions" if "text" in choice else ""
        if "embedding" in _first(data):
            return "embeddings"
        return "moderations" if "flagged" in _first(results) else ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _first(items: Any) -> dict[str, Any]:
    first = items[0] if isinstance(items, list) and items else None
    return first if isinstance(first, dict) else {}


def keep_requests(given: Path, path: Path) -> None:
    """Write the request lines of `given` that have an id of their own to `path`.

    Of lines that share an id nobody can tell whose an answer is; lines without one, and lines that
    are no JSON, have none.
    """
    times = Counter(filter(None, (request_id(line) for line in _clean(given))))
    with files.writing(path) as writer:
        for line in _clean(given):
            if times[request_id(line)] == 1:
                writer.write(line.rstrip(b"\r\n") + b"\n")


def request_id(line: bytes) -> str:
    """Return the custom_id of a request line; empty where there is none to read."""
    try:
        return _name(msgspec.json.decode(_fields(line)["custom_id"]))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        pass
    try:
        read = json.loads(line)  # which takes NaN
    except (ValueError, RecursionError):
        return ""
    return _name(read.get("custom_id")) if isinstance(read, dict) else ""


def _clean(path: Path) -> Iterator[bytes]:
    for number, line in enumerate(files.lines(path)):
        yield line if number else line.removeprefix(_BOM)


def _name(given: Any) -> str:
    return given if isinstance(given, str) else "" if given is None else json.dumps(given)
