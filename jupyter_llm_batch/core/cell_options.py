"""The table of options that ``%%llm_batch`` and ``%llm_batch run`` take, as one argparse parser.

The magics parse with it, Tab completes from it, and `celllines` rewrites lines by it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn

from .errors import LLMBatchError, UsageProblem

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
    add_submit_options(parser)
    parser.add_argument(
        "--split", action="store_true", help="several prompts, divided by --- lines"
    )
    parser.add_argument(
        "--add", action="store_true", help="collect only; `%%llm_batch submit NAME` sends"
    )
    return parser


def add_submit_options(parser: Parser) -> None:
    """Add what a cell and ``%llm_batch run`` have in common."""
    add = parser.add_argument
    add("-m", "--model", default="", metavar="PROVIDER:MODEL", help="the model")
    add("--base-url", metavar="URL", help="an OpenAI-compatible server that has the model")
    add("--over", metavar="EXPR", help="rows: a variable or any Python expression")
    add("--route", metavar="EXPR", help="the model of each row: a column, a function or a list")
    add("--image", action="append", default=[], metavar="COL", help="column of images")
    add("--file", action="append", default=[], metavar="COL", help="column of files, such as PDFs")
    add(
        "--media-folder",
        action="append",
        default=[],
        metavar="FOLDER",
        help="where rows may name files, besides the notebook's folder",
    )
    add("--system", metavar="TEXT", help="system prompt")
    add("--system-from", metavar="VAR", help="variable that holds the system prompt")
    add("--as", dest="column", default="answer", metavar="NAME", help="name of the answer column")
    add("--max-tokens", type=_positive, metavar="N", help="most output tokens per answer")
    add(
        "--param",
        action="append",
        default=[],
        type=_param,
        metavar="KEY=VALUE",
        help="request parameter; the value is JSON, or else a string",
    )
    add("--endpoint", default="", metavar="NAME", help="chat, responses, embeddings, or a path")
    add("--embed", action="store_true", help="embeddings instead of answers")
    add("--schema", metavar="NAME", help="structured output: a model, dataclass or JSON schema")
    add(
        "--cache",
        nargs="?",
        const="1h",
        choices=("5m", "1h"),
        help="cache what all prompts begin with (default 1h)",
    )
    add("--skip-null", action="store_true", help="leave out rows with an empty cell")
    add("--dedupe", action="store_true", help="ask equal prompts once")
    add(
        "--reuse",
        action="append",
        default=[],
        metavar="NAME",
        help="take paid answers of another batch",
    )
    add("--retry", type=_count, metavar="N", help="rounds of retry for rows not billed (default 2)")
    add("--reask", type=_count, metavar="N", help="rounds for rows maybe billed (default 0)")
    add(
        "--notify",
        nargs="?",
        const="desktop",
        metavar="HOW",
        help="tell when it is done: desktop, a URL, or a command line",
    )
    add(
        "--sample",
        type=_positive,
        metavar="N",
        help="ask N rows now, in real time; the rest waits for your word",
    )
    add("--deadline", metavar="6h", help="what is not back by then is finished in real time")
    add("--deadline-max-cost", type=usd, metavar="USD", help="but only for so much; else it asks")
    add("--random", action="store_true", help="choose the sample at random")
    add("--realtime", action="store_true", help="ask at once, at full price, not as a batch")
    add("--max-cost", type=usd, metavar="USD", help="send nothing that may cost more")
    add("--dry-run", action="store_true", help="show prompts, split and cost, send nothing")
    add("--count", type=_positive, metavar="N", help="with --dry-run: count N rows at the provider")
    add("--wait", action="store_true", help="block until the answers are there")
    add("--resubmit", action="store_true", help="pay again although this was submitted before")
    add("--yes", action="store_true", help="go ahead with what was asked about before sending")


def add_run_options(parser: Parser) -> None:
    """Add what ``%llm_batch run`` takes."""
    add_submit_options(parser)
    parser.add_argument("--raw", action="store_true", help="the items are request bodies")


@cache
def any_line() -> Parser:
    """Return a parser that knows the options of every line that submits."""
    parser = cell_parser()
    parser.add_argument("--raw", action="store_true")
    return parser


def seconds(text: str) -> float:
    """Return a number of seconds that is not negative."""
    return _amount(text, text, "a number of seconds")


def usd(text: str) -> float:
    """Return an amount of money that is not negative."""
    return _amount(text.removeprefix("$"), text, "an amount in USD")


def _amount(number: str, text: str, what: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _positive(text: str) -> int:
    value = _count(text)
    if not value:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def days(text: str) -> float:
    """Return the seconds of ``30d``, ``12h`` or ``2w``."""
    found = re.fullmatch(r"(\d+)([hdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 30d, 12h or 2w")
    return int(found[1]) * _DAYS[found[2]]


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return value


def _param(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    for form in (value, unquoted(value)):
        try:
            return key, json.loads(form, parse_constant=_no_constant, parse_float=_finite)
        except ValueError:
            continue
    return key, unquoted(value)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is larger than any number that can be sent")
    return value


def _no_constant(name: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"{name} is no JSON value")
