"""Tab after ``%llm_batch`` and ``%%llm_batch``: subcommands, options, names, models, variables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from ..core.errors import LLMBatchError
from ..data.fields import fields_of
from ..providers import registry

if TYPE_CHECKING:
    import argparse

    from ..core.cell_options import Parser
    from .magics import LLMBatchMagics

_LINE = re.compile(r"^\s*(?P<magic>%%?)llm_batch(?P<rest>\s.*)?$", re.DOTALL)

#: What stands for a batch, by the parsers' names.
_BATCHES = {"name", "left", "right"}

#: Subcommands that take what ``--add`` collected; a cell does, too.
_DRAFTS = {"", "submit", "forget"}

#: Subcommands that name a batch which is not there yet.
_NEW = {"run", "adopt"}

#: What is a variable of the notebook.
_VARIABLES = {"over", "route", "schema", "system_from"}

#: What is a field of the rows.
_FIELDS = {"image", "file"}


def make_matcher(magics: LLMBatchMagics) -> Any:
    """Return a matcher for IPython's completer."""

    @context_matcher()
    def llm_batch_matcher(context: CompletionContext) -> dict[str, Any]:
        found = _LINE.match(context.line_with_cursor[: context.cursor_position])
        before = context.full_text.splitlines()[: context.cursor_line]
        if found is None or any(line.strip() for line in before):
            return {"completions": [], "suppress": False}
        typed = (found["rest"] or "").split(" ")
        fragment, done = typed[-1], [word for word in typed[:-1] if word]
        options = _candidates(magics, found["magic"], done, fragment)
        return {
            "completions": [
                SimpleCompletion(text=word, type="magic")
                for word in options
                if word.startswith(fragment)
            ],
            "matched_fragment": fragment,
            "suppress": bool(found["rest"]),
        }

    return llm_batch_matcher


def _candidates(
    magics: LLMBatchMagics, magic: str, done: list[str], fragment: str
) -> Iterable[str]:
    from ..core.cell_options import cell_parser
    from . import parsers

    if magic == "%%":
        return _next(magics, cell_parser(), done, fragment, "")
    if not done:
        return [*magics.commands().commands, "--all"]
    if done[0] not in magics.commands().commands:
        return []
    return _next(magics, parsers.of(done[0]), done[1:], fragment, done[0])


def _next(
    magics: LLMBatchMagics, parser: Parser, done: list[str], fragment: str, command: str
) -> Iterable[str]:
    """Return what may come next, as the parser has it: values, options, or both."""
    option, argument = parser.awaited(done)
    found: list[str] = []
    if option is not None:
        found += _values(magics, option, done, command)
        if option.nargs != "?":
            return found
    elif argument is not None:
        found += _values(magics, argument, done, command)
    if command or done or fragment.startswith("-"):
        found += parser.options()
    return found


def _values(
    magics: LLMBatchMagics, wanted: argparse.Action, done: list[str], command: str
) -> Iterable[str]:
    """Return the words that an argument may be, where they can be known."""
    if wanted.choices:
        return [str(each) for each in wanted.choices]
    name = wanted.dest
    if name in _FIELDS and wanted.option_strings:
        return _fields(magics, done)
    if name == "model":
        return models()
    if name in _VARIABLES:
        return sorted(each for each in magics.namespace if not each.startswith("_"))
    if name == "reuse" or (name in _BATCHES and command not in _NEW):
        return _names(magics, drafts=name == "name" and command in _DRAFTS)
    servers = magics.commands().controller.config.settings().servers
    return {
        "endpoint": ["chat", "responses", "embeddings"],
        "notify": ["desktop", "off"],
        "provider": registry.names(servers),
        "remote": [f"{each}:" for each in registry.names(servers)],
    }.get(name, [])


def _names(magics: LLMBatchMagics, *, drafts: bool) -> list[str]:
    try:
        client = magics.commands().controller.client
        collected = [draft.title for draft in client.drafts()] if drafts else []
        return sorted({*collected, *(handle.name for handle in client.batches())})
    except (LLMBatchError, OSError):
        return []


def _fields(magics: LLMBatchMagics, done: list[str]) -> list[str]:
    """Return the fields of the variable after ``--over``; nothing of the user's is run for it."""
    over = next((word for flag, word in pairwise(done) if flag == "--over"), "")
    rows = magics.namespace.get(over)
    if isinstance(rows, list | tuple) and rows:
        found: Iterable[Any] = fields_of(rows[0]) or ["item"]
    else:
        found = getattr(rows, "column_names", None) or list(getattr(rows, "columns", ()))
    return [name for name in found if isinstance(name, str)]


@cache
def models() -> list[str]:
    """Return the models of the price data that our providers offer."""
    from genai_prices import data_snapshot

    found = data_snapshot.get_snapshot().providers
    return sorted(
        f"{provider.id}:{model.id}"
        for provider in found
        if provider.id in registry.names()
        for model in provider.models
    )
