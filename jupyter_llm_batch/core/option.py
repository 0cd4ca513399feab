"""One option of a cell, as a record from which parser, help, Python and drafts derive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Merge = Callable[[Sequence[Any]], Any]

_NAMES_OF_LINES = ("cell", "run")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option.

    Attributes
    ----------
    flags
        As it is typed, the long form last: ``("-m", "--model")``.
    brief
        One short line for ``--help``.
    text
        What ``%%llm_batch?`` says about it.
    metavar
        Name of its value; empty for a switch.
    read
        Turns the typed text into the value.
    write
        Turns a shown value into the text to type.
    default
        The value where the option is not given.
    bare
        The value of the option typed without one; None where a value is required.
    choices
        All values that it takes; empty for any.
    repeats
        It may be given several times. The value is a list.
    dest
        Its name in Python; by default the long flag with ``_`` for ``-``.
    here
        It is an option of `Client.submit` under `dest`. False where Python has it elsewhere.
    evaluated
        The text is a Python expression of the notebook.
    lines
        Which lines take it: ``cell`` for ``%%llm_batch``, ``run`` for ``%llm_batch run``.
    once
        Left out of a line that is suggested again.
    untried
        Left out of a line that tries another model.
    field
        Its name in `spec.Ask` and in what ``--add`` keeps of a cell; empty for none.
    merge
        How the values of several ``--add`` cells become one; None where they must be equal, or
        where the last one counts.
    renewed
        Running the cell again, which attaches to its batch, replaces the value.
    shown
        The batch keeps the value, and panel details, summary and ``history`` show it.
    """

    flags: tuple[str, ...]
    brief: str
    text: str
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    write: Callable[[Any], str] = str
    default: Any = None
    bare: Any = None
    choices: tuple[str, ...] = ()
    repeats: bool = False
    dest: str = ""
    here: bool = True
    evaluated: bool = False
    lines: tuple[str, ...] = _NAMES_OF_LINES
    once: bool = False
    untried: bool = False
    field: str = ""
    merge: Merge | None = None
    renewed: bool = False
    shown: bool = False

    @property
    def flag(self) -> str:
        """The long form: ``--model``."""
        return self.flags[-1]

    @property
    def name(self) -> str:
        """Its name in Python, and in what argparse returns."""
        return self.dest or self.flag.removeprefix("--").replace("-", "_")

    @property
    def usage(self) -> str:
        """How it is typed: ``-m, --model PROVIDER:MODEL``, ``--cache [5m|1h]``."""
        value = "|".join(self.choices) or self.metavar
        if self.bare is not None:
            value = f"[{value}]"
        return f"{', '.join(self.flags)} {value}".rstrip()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of argparse's `add_argument`, besides the flags."""
        found: dict[str, Any] = {"dest": self.name, "help": self.brief}
        if not self.metavar and not self.choices:
            return {**found, "action": "store_true"}
        if self.metavar:
            found["metavar"] = self.metavar
        if self.choices:
            found["choices"] = self.choices
        if self.read is not None:
            found["type"] = self.read
        if self.bare is not None:
            found |= {"nargs": "?", "const": self.bare}
        if self.repeats:
            return {**found, "action": "append", "default": []}
        return {**found, "default": self.default}


def highest(values: Sequence[Any]) -> Any:
    """Merge by the largest value."""
    return max(values)


def lowest(values: Sequence[Any]) -> Any:
    """Merge by the smallest value that was given; None for none."""
    return min((value for value in values if value is not None), default=None)


def whether_any(values: Sequence[Any]) -> bool:
    """Merge switches: on if one is."""
    return any(values)


def all_of(values: Sequence[Any]) -> list[Any]:
    """Merge lists: each element once, in order."""
    return [*dict.fromkeys(element for value in values for element in value)]


def last(values: Sequence[Any]) -> Any:
    """Merge by the last value that was given."""
    return next((value for value in reversed(values) if value), type(values[-1])())
