"""The magic's line: into words, into options, into one clear line when it is wrong."""

from __future__ import annotations

import argparse
import difflib
import re
import symtable
from typing import Any, cast

from ..core import magic_line
from ..core.errors import UsageProblem
from ..core.option_table import OPTIONS
from ..core.option_values import unquoted
from ..core.text import a_type
from ..data import rows
from ..submission.options import Options

#: What IPython puts into the namespace: nobody's rows.
_SHELL = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open", "display"})


def words(line: str) -> list[str]:
    """Split a line at blanks outside quotes and brackets.

    Quotes around a whole word are taken off (``--system "Be brief"``), quotes inside it stay, so
    that ``--over df[["id", "text"]]`` is one word and the expression that the user wrote.
    """
    return [unquoted(piece) for piece in magic_line.split_line(line)]


def evaluate(expression: str, namespace: dict[str, Any], option: str) -> Any:
    """Return the value of a user's expression.

    Raises
    ------
    UsageProblem
        It cannot be evaluated; the message names the nearest variable.
    """
    try:
        return eval(expression, namespace)  # noqa: S307 - the user's own code in their own kernel
    except NameError as error:
        known = [name for name in namespace if not (name.startswith("_") or name in _SHELL)]
        near = difflib.get_close_matches(error.name or "", known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UsageProblem(f"{option} {expression}: {error}{hint}") from None
    except Exception as error:  # noqa: BLE001 - whatever the user's expression raises
        said = " ".join(str(error).split())
        raise UsageProblem(f"{option} {expression}: {type(error).__name__}: {said}") from None


def names_in(expression: str) -> set[str]:
    """Return the variables of the notebook that an expression uses."""
    try:
        # In a function, since from Python 3.12 on a comprehension's own names stand beside those
        # of what is around it.
        top = symtable.symtable(f"lambda: ({expression.strip()}\n)", "--over", "eval")
    except SyntaxError:
        return set()
    found: set[str] = set()
    inner = [top]
    while inner:
        table = inner.pop()
        found |= {each.get_name() for each in table.get_symbols() if each.is_global()}
        inner += table.get_children()
    return found


def filled(word: str, namespace: dict[str, Any], option: str) -> str:
    """Return a word with each ``{expression}`` in it replaced by its value."""
    return re.sub(r"\{([^{}]+)\}", lambda found: str(evaluate(found[1], namespace, option)), word)


def system_of(args: argparse.Namespace, namespace: dict[str, Any]) -> str | None:
    """Return the system prompt that the options name."""
    if args.system_from is None:
        return args.system  # type: ignore[no-any-return]  # argparse knows no types
    if args.system is not None:
        raise UsageProblem("give --system or --system-from, not both")
    value = evaluate(args.system_from, namespace, "--system-from")
    if not isinstance(value, str):
        raise UsageProblem(f"--system-from {args.system_from} is {a_type(value)}, not text")
    return value


def submit_options(args: argparse.Namespace, namespace: dict[str, Any]) -> Options:
    """Return the options of `Client.submit` that a line names."""
    given: dict[str, Any] = {
        "system": system_of(args, namespace),
        "params": dict(args.param),
        "confirm": args.yes,
        "namespace": namespace,
    }
    for option in OPTIONS:
        value: Any = getattr(args, option.name, None)
        if not option.here or option.name in given or (option.evaluated and value is None):
            continue
        if option.name == "route":
            given["route"] = _route(value, given.get("over"), namespace)
        elif option.evaluated:
            given[option.name] = evaluate(value, namespace, option.flag)
        elif hasattr(args, option.name):
            given[option.name] = value
    return cast("Options", given)


def _route(expression: str, over: Any, namespace: dict[str, Any]) -> Any:
    """Return a column's name where there is such a column, else the value of the expression."""
    is_name = expression.isidentifier()
    if expression in field_names(over) or (is_name and expression not in namespace):
        return expression
    return evaluate(expression, namespace, "--route")


def field_names(over: Any) -> list[str]:
    """Return the fields of rows that can be looked at without using them up."""
    if over is None or (not hasattr(over, "__len__") and not hasattr(over, "columns")):
        return []
    try:
        return rows.read_rows(over).names()
    except UsageProblem:
        return []  # the submission tells it better
