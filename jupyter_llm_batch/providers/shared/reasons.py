"""Why a request failed, out of whatever a server wrote: an object, a list, a text, a page."""

from __future__ import annotations

import html
import re
from typing import Any

from .decoding import one_line

#: Where servers put their words, the most telling first.
_WORDS = (
    "message", "msg", "detail", "details", "error_message", "error_description", "errorMessage",
    "description", "reason", "title", "errors", "text",
)  # fmt: skip
_CODES = ("code", "error_code", "type", "status")
#: What is named so says nothing.
_EMPTY_CODES = {"", "error", "none", "null", "about:blank"}
_DEEPEST = 6
_SHOWN = 3
#: As much of a page as is searched for words.
_PAGE = 8_000

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_IS_PAGE = re.compile(
    r"\s*(<!--|<!doctype|<\?xml|<html|<head|<body|<title|<h1|<center)", re.IGNORECASE
)


def why(value: Any, depth: int = 0) -> tuple[str | None, str | None]:
    """Return the code and the one-line message that an error's JSON value holds; None for none."""
    if isinstance(value, str):
        return None, plain(value) or None
    if isinstance(value, list) and depth < _DEEPEST:
        return _of_list(value, depth)
    if not isinstance(value, dict) or depth >= _DEEPEST:
        return None, None
    inner, message = why(value.get("error"), depth + 1)
    named = (_code(value.get(name)) for name in _CODES)
    code = inner or next(filter(None, named), None)
    if message is None:
        for name in _WORDS:
            found, message = why(value.get(name), depth + 1)
            if message is not None:
                code = code or found
                break
    where = value.get("loc")
    if message is not None and isinstance(where, list):
        message = one_line(f"{'.'.join(map(str, where[:8]))}: {message}")
    return code, message


def _of_list(values: list[Any], depth: int) -> tuple[str | None, str | None]:
    found = [why(each, depth + 1) for each in values[:_SHOWN]]
    code = next((code for code, _ in found if code), None)
    told = [message for _, message in found if message]
    if told and len(values) > _SHOWN:
        told.append(f"and {len(values) - _SHOWN} more")
    return code, one_line("; ".join(told)) or None


def _code(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    code = str(value).strip()
    return None if code.lower() in _EMPTY_CODES else one_line(code[:100])


def plain(text: str) -> str:
    """Return a text for people on one line; of a page its title, or else its words."""
    if not _IS_PAGE.match(text):
        return one_line(text[:_PAGE])
    page = text[:_PAGE]
    title = _TITLE.search(page)
    words = title[1] if title else _HIDDEN.sub(" ", page)
    return one_line(html.unescape(_TAG.sub(" ", words)))
