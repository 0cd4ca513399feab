"""Which model answers which row: ``--route``, a column, a function of the row, or a list."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from ...core.errors import UsageProblem
from ...core.request import Rows
from ...core.text import a_type, many
from ...data import rows as frames
from ...data.fields import fields_of, plain_value


def models(route: Any, rows: Rows) -> Iterator[Any]:
    """Yield what names the model of each row, in step with the rows' prompts.

    Parameters
    ----------
    route
        Name of a column or field; a function of the row (a dict of its fields, or the item
        itself); or a list, array or series as long as the rows.

    Raises
    ------
    UsageProblem
        It is none of these, or does not fit the rows.
    """
    if isinstance(route, str):
        return _by_field(route, rows)
    if callable(route):
        return _by_item(rows, _called(route))
    return _listed(route, rows)


def _by_field(name: str, rows: Rows) -> Iterator[Any]:
    if rows.fields is not None:
        if name not in rows.fields:
            raise UsageProblem(_no_field(name, rows.fields))
        return (value for (value,) in rows.columns([name]))

    def get(item: Any) -> Any:
        fields = fields_of(item)
        if name not in fields:
            raise UsageProblem(_no_field(name, list(fields)))
        return fields[name]

    return _by_item(rows, get)


def _no_field(name: str, fields: Iterable[str]) -> str:
    near = get_close_matches(name, [str(field) for field in fields], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ": name a column, or give a function"
    return f"--route {name}: the rows have no field {name!r}{hint}"


def _by_item(rows: Rows, get: Callable[[Any], Any]) -> Iterator[Any]:
    if not isinstance(rows, frames.Stream):
        return (get(item) for _, item in rows.items())
    # An iterator is read once: the model is asked for while the prompt takes the row.
    passing: deque[Any] = deque()
    rows.watch = lambda item: passing.append(get(item))
    return iter(passing.popleft, object())


def _called(route: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(item: Any) -> Any:
        try:
            value = route(item)
        except Exception as exc:
            said = " ".join(str(exc).split())
            hint = ""
            if isinstance(exc, AttributeError) and isinstance(item, dict):
                field = exc.name if exc.name in item else next(iter(item), "field")
                hint = f'; it gets a dict: row["{field}"]'
            raise UsageProblem(f"--route failed ({type(exc).__name__}: {said}){hint}") from exc
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise UsageProblem(
                "--route takes an ordinary function, and this one is async: wrap it, for instance "
                "in asyncio.run after nest_asyncio2.apply()"
            )
        return value

    return call


def _listed(route: Any, rows: Rows) -> Iterator[Any]:
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(route, name):
            route = getattr(route, name)()
            break
    if not isinstance(route, list | tuple):
        raise UsageProblem(
            "--route takes a column's name, a function of the row, or a list of models, not "
            f"{a_type(route)}"
        )
    if isinstance(rows, frames.Stream):
        raise UsageProblem("--route with a list needs rows of known length: use a list for --over")
    if len(route) != len(rows):
        raise UsageProblem(
            f"--route names {many(len(route), 'model')} for {many(len(rows), 'row')}"
        )
    return iter(route)


def model_name(named: Any, default: str) -> str:
    """Return the model that a row names, `default` where it names none.

    Raises
    ------
    UsageProblem
        It is no text, or empty where there is no default.
    """
    value = plain_value(named)
    if value is None or value == "":
        if not default:
            raise UsageProblem("--route gave no model, and there is no --model for such rows")
        return default
    if not isinstance(value, str):
        raise UsageProblem(f"--route gave {value!r} ({type(value).__name__}), not a model's name")
    return value
