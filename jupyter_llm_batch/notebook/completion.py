"""Tab after ``%llm_batch`` and ``%%llm_batch``: subcommands, options, names, models, variables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from ..errors import LLMBatchError
from ..values import fields_of

if TYPE_CHECKING:
    from .magics import LLMBatchMagics

_LINE = re.compile(r"^\s*(?P<magic>%%?)llm_batch(?P<rest>\s.*)?$", re.DOTALL)

#: Subcommands whose first argument is a batch.
_NAMED = {
    "status", "wait", "submit", "results", "show", "errors", "retry", "cancel", "resolve",
    "forget", "export", "cost",
}  # fmt: skip

#: Options whose value is a variable of the notebook.
_VARIABLES = {"--over", "--route", "--schema", "--system-from"}

#: Options whose value is a field of the rows.
_FIELDS = {"--image", "--file"}


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
    from .options import Parser, add_submit_options, cell_parser

    last = done[-1] if done else ""
    if last in {"-m", "--model"}:
        return models()
    if last in _VARIABLES:
        return sorted(name for name in magics.namespace if not name.startswith("_"))
    if last in _FIELDS:
        return _fields(magics, done)
    if last == "--reuse":
        return _names(magics)
    if last == "--endpoint":
        return ["chat", "responses", "embeddings"]
    if magic == "%%":
        return cell_parser().options() if done or fragment.startswith("-") else _names(magics)
    if not done:
        return [*magics.commands().commands, "--all"]
    if done[0] in {"login", "logout"} and len(done) == 1:
        from .. import providers

        return providers.names(magics.config.settings().servers)
    if done[0] in _NAMED and len(done) == 1:
        return _names(magics)
    if done[0] == "compare" and len(done) < 3:
        return _names(magics)
    if last == "--by":
        return ["day", "month", "provider", "model", "batch", "notebook"]
    if done[0] == "run":
        parser = Parser("")
        add_submit_options(parser)
        return [*parser.options(), "--raw"]
    return {
        "results": ["--partial"],
        "submit": ["--resubmit", "--wait", "--max-cost"],
        "cost": ["--by", "--csv"],
        "compare": ["--rows"],
    }.get(done[0], [])


def _names(magics: LLMBatchMagics) -> list[str]:
    try:
        return sorted({handle.name for handle in magics.commands().book.client.batches()})
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

    from .. import providers

    found = data_snapshot.get_snapshot().providers
    return sorted(
        f"{provider.id}:{model.id}"
        for provider in found
        if provider.id in providers.names()
        for model in provider.models
    )
