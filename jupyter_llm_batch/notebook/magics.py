"""``%%llm_batch`` and ``%llm_batch``: what loading registers. Everything else comes with use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from ..core.identity import notebook_of_shell
from ..core.printing import adapt_output
from .config import LLMBatch
from .help import CELL_HELP, LINE_HELP
from .scope import of_caller

if TYPE_CHECKING:
    from .commands import Commands


@magics_class
class LLMBatchMagics(Magics):
    """The magics of jupyter_llm_batch."""

    def __init__(self, shell: InteractiveShell, config: LLMBatch) -> None:
        super().__init__(shell)
        self._shell = shell
        self._config = config
        self._identity = notebook_of_shell(shell.user_ns)
        self._commands: Commands | None = None

    @no_var_expand
    @cell_magic("llm_batch")
    def cell(self, line: str, cell: str) -> None:  # noqa: D102 - given below
        with adapt_output():
            self.commands().cell(line, cell, of_caller(self._shell))

    @no_var_expand
    @line_magic("llm_batch")
    def line(self, line: str) -> None:  # noqa: D102 - given below
        with adapt_output():
            self.commands().line(line, of_caller(self._shell))

    # What IPython shows for `%%llm_batch?` and `%llm_batch?`.
    cell.__doc__ = CELL_HELP
    line.__doc__ = LINE_HELP

    @property
    def namespace(self) -> dict[str, Any]:
        """The notebook's variables; those of the present scope in an embedded shell."""
        found: dict[str, Any] = self._shell.user_ns
        return found

    def commands(self) -> Commands:
        """Return what does the work, made on first need."""
        if self._commands is None:
            from .commands import Commands
            from .controller import Controller

            self._commands = Commands(Controller(self.shell, self._config, self._identity))
        return self._commands

    # -- cell boundaries ---------------------------------------------------------------------------

    def cell_begins(self, _info: object = None) -> None:
        """Bind what is ready, then leave the namespace to the cell."""
        if self._commands is not None:
            with adapt_output():
                self._commands.controller.cell_begins()

    def cell_ended(self, _result: object = None) -> None:
        """Bind what became ready during the cell."""
        if self._commands is not None:
            with adapt_output():
                self._commands.controller.cell_ended()

    def close(self) -> None:
        """Stop driving; batches go on at their providers."""
        if self._commands is not None:
            self._commands.controller.clients.close()
