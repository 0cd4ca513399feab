"""Ready-made prompts, messages or request bodies, checked row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ...core.errors import UsageProblem
from ...core.request import Content, Rows
from ...core.text import a_type
from ...data.fields import NoText, plain_value
from ...data.plain_text import json_ready
from .template import place


def ready(rows: Rows, *, raw: bool, skip_null: bool = False) -> Iterator[Content | None]:
    """Yield rows that are prompts already; None for a row that is left out.

    Parameters
    ----------
    rows
        Texts or lists of messages; of a frame its only column.
    raw
        They are request bodies: dicts, or JSON.
    skip_null
        Leave empty rows out instead of refusing them.

    Raises
    ------
    UsageProblem
        A row is something else; the message names it.
    """
    if rows.fields is None:
        items = (item for _, item in rows.items())
    elif len(rows.fields) == 1:
        items = (item for (item,) in rows.columns(rows.fields))
    else:
        raise UsageProblem(
            f"--over has {len(rows.fields)} columns ({', '.join(rows.fields)[:200]}): "
            "name the one that holds the prompts, --over df['...']"
        )
    return _checked(rows, items, _body if raw else _prompt, skip_null=skip_null)


def _checked(
    rows: Rows, items: Iterable[Any], check: Callable[[Any], Content], *, skip_null: bool
) -> Iterator[Content | None]:
    for number, item in enumerate(items):
        value = plain_value(item)
        if value is None and skip_null:
            yield None
            continue
        try:
            if value is None:
                raise UsageProblem("is empty (None, NaN or NA): --skip-null leaves such rows out")
            content = json_ready(check(value))
        except (UsageProblem, NoText) as problem:
            raise UsageProblem(f"{place(rows, number)} {problem}") from None
        yield content


def _prompt(value: Any) -> Content:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        raise UsageProblem("is a dict: a list of messages is wanted, or --raw for request bodies")
    if not isinstance(value, list | tuple) or not value:
        raise UsageProblem(f"is {_kind(value)}: a text or a list of messages is wanted")
    for message in value:
        if (
            not isinstance(message, Mapping)
            or not isinstance(message.get("role"), str)
            or "content" not in message
        ):
            raise UsageProblem(
                "has a message that is not a dict of 'role' and 'content': "
                f"{msgspec.json.encode(message, enc_hook=repr).decode()[:100]}"
            )
    return [dict(message) for message in value]


def _body(value: Any) -> Content:
    if isinstance(value, str | bytes):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError) as exc:
            raise UsageProblem(f"is not JSON ({exc}): --raw wants request bodies") from None
    if not isinstance(value, Mapping):
        raise UsageProblem(f"is {_kind(value)}: --raw wants a request body, which is a dict")
    return dict(value)


def _kind(value: Any) -> str:
    return "an empty list" if value in ([], ()) else a_type(value)
