"""Loading registers magics, completion and configuration, and resumes; nothing else."""

from __future__ import annotations

import sys
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError

from ..core.errors import LLMBatchError
from ..core.printing import adapt_output
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from .completion import make_matcher
from .config import LLMBatch
from .magics import LLMBatchMagics

_loaded: dict[int, tuple[LLMBatchMagics, LLMBatch, Any]] = {}


def load(shell: InteractiveShell) -> None:
    """Load the extension into `shell`; loading twice changes nothing."""
    with adapt_output():
        _load(shell)


def _load(shell: InteractiveShell) -> None:
    if id(shell) in _loaded:
        return
    try:
        config = LLMBatch(parent=shell)
    except TraitError as error:
        print(f"llm_batch: a setting cannot be used, so all have their defaults: {error}")
        config = LLMBatch()
    magics = LLMBatchMagics(shell, config)
    matcher = make_matcher(magics)
    shell.register_magics(magics)
    configurables: list[Any] = shell.configurables
    configurables.append(config)
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(matcher)
    shell.events.register("pre_run_cell", magics.cell_begins)
    shell.events.register("post_run_cell", magics.cell_ended)
    _loaded[id(shell)] = (magics, config, matcher)
    try:
        # Whoever never sent a batch from this machine has nothing to go on with.
        folder = config.settings().folder()
        known = any((folder / name).exists() for name in ("journal.sqlite", "batches"))
        # Where nothing was simulated the module may not be there, and is not imported for this.
        session: Any = sys.modules.get("jupyter_llm_batch.client.session")
        if known or (session is not None and session.simulation() is not None):
            magics.commands().controller.clients.resume()
    except (LLMBatchError, OSError) as error:
        print(f"llm_batch: {error}")


def unload(shell: InteractiveShell) -> None:
    """Take everything back; batches go on at their providers."""
    if id(shell) not in _loaded:
        return
    magics, config, matcher = _loaded.pop(id(shell))
    shell.events.unregister("pre_run_cell", magics.cell_begins)
    shell.events.unregister("post_run_cell", magics.cell_ended)
    configurables: list[Any] = shell.configurables
    configurables.remove(config)
    if shell.Completer is not None and matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(matcher)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("llm_batch", None)
    magics.close()
