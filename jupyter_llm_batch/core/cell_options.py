"""Parser of the options in `option_table`, for the magics, Tab and rewritten lines."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn

from .errors import LLMBatchError, UsageProblem
from .option_table import OPTIONS


class HelpShown(LLMBatchError):
    """The user asked for the options; the message is their description."""


class Parser(argparse.ArgumentParser):
    """Argparse that raises one line instead of ending the process."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as one line with the next step."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0]
            near = difflib.get_close_matches(word, self.options(), n=1)
            hint = f": did you mean {near[0]}?" if near else ";"
            if not (near or word.startswith("-")):
                hint = ': text of several words goes in quotes, --system "Be brief";'
            raise UsageProblem(
                f"{self.prog}: unknown {word!r}{hint} `{self.prog} --help` lists the options"
            )
        raise UsageProblem(f"{self.prog}: {message}; `{self.prog} --help` explains")

    def options(self) -> list[str]:
        """Return every option string."""
        return [string for action in self._actions for string in action.option_strings]

    def awaited(self, done: Sequence[str]) -> tuple[argparse.Action | None, argparse.Action | None]:
        """Return whose value comes after these words: an option's, and the next argument.

        The option is None where none waits for its value.
        """
        takers = {name: each for each in self._actions for name in each.option_strings}
        arguments = [each for each in self._actions if not each.option_strings]
        option: argparse.Action | None = None
        for word in done:
            if word in takers:
                option = takers[word] if takers[word].nargs != 0 else None
            elif option is not None:
                option = None
            elif arguments:
                arguments.pop(0)
        return option, arguments[0] if arguments else None

    def takes(self, option: str, following: str | None) -> bool:
        """Return whether an option takes the word after it as its value.

        Parameters
        ----------
        option
            As it was typed: ``--over``, ``-m``, or with its value: ``--as=label``, ``-mMODEL``.
        following
            The next word of the line; None at its end.
        """
        action = self._option_string_actions.get(option)
        if action is None or following is None or action.nargs == 0:
            return False
        return action.nargs != "?" or not following.startswith("-")

    def full_name(self, option: str) -> str:
        """Return the long name of an option, however it was typed."""
        name = option.partition("=")[0]
        if not option.startswith("--"):
            name = option[:2]
        action = self._option_string_actions.get(name)
        return name if action is None else action.option_strings[-1]

    def parse(self, line_words: list[str]) -> argparse.Namespace:
        """Parse words; raises `UsageProblem`, or `HelpShown` for ``--help``."""
        if {"-h", "--help"} & set(line_words):
            raise HelpShown(self.format_help())
        return self.parse_args(line_words)


def cell_parser() -> Parser:
    """Return the parser of ``%%llm_batch``."""
    parser = Parser("%%llm_batch")
    parser.add_argument("name", help="name of the batch, and of the variable for its answers")
    add_options(parser, "cell")
    return parser


def add_options(parser: Parser, line: str) -> None:
    """Add the options that a line takes: ``cell`` for ``%%llm_batch``, or ``run``."""
    for option in OPTIONS:
        if line in option.lines:
            parser.add_argument(*option.flags, **option.arguments())


@cache
def any_line() -> Parser:
    """Return a parser that knows the options of every line that submits."""
    parser = Parser("%%llm_batch")
    parser.add_argument("name")
    for option in OPTIONS:
        parser.add_argument(*option.flags, **option.arguments())
    return parser
