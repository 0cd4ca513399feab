"""Loading registers magics, completion and configuration, and resumes; nothing else."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from ..errors import LLMBatchError
from .book import Book
from .completion import make_matcher
from .magics import LLMBatchMagics

_loaded: dict[int, tuple[Book, Any]] = {}


def load(shell: InteractiveShell) -> None:
    """Load the extension into `shell`; loading twice changes nothing."""
    if id(shell) in _loaded:
        return
    book = Book(shell)
    magics = LLMBatchMagics(book)
    shell.register_magics(magics)
    configurables: list[Any] = shell.configurables
    configurables.append(book.config)
    matcher = make_matcher(magics)
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(matcher)
    shell.events.register("pre_run_cell", book.cell_begins)
    shell.events.register("post_run_cell", book.cell_ended)
    _loaded[id(shell)] = (book, matcher)
    try:
        book.resume()
    except (LLMBatchError, OSError) as error:
        print(f"llm_batch: {error}")


def unload(shell: InteractiveShell) -> None:
    """Take everything back; batches go on at their providers."""
    book, matcher = _loaded.pop(id(shell), (None, None))
    if book is None:
        return
    shell.events.unregister("pre_run_cell", book.cell_begins)
    shell.events.unregister("post_run_cell", book.cell_ended)
    configurables: list[Any] = shell.configurables
    configurables.remove(book.config)
    if shell.Completer is not None and matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(matcher)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("llm_batch", None)
    book.close()
