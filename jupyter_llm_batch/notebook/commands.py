"""What the magics do: parse, call the controller, translate errors to one line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.error import UsageError

from ..client.names import cell_key, check_name
from ..core.cell_options import HelpShown, cell_parser
from ..core.errors import LLMBatchError, NotConfirmed, UsageProblem
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..submission.options import Options
from . import parsers
from .change_commands import ChangeCommands
from .controller import Controller
from .help import LINE_HELP
from .key_commands import KeyCommands
from .money_commands import MoneyCommands
from .options import submit_options, words
from .scope import Scope
from .view_commands import ViewCommands


@contextmanager
def one_line() -> Iterator[None]:
    """Turn our errors into IPython's one-line usage errors; a traceback of ours helps nobody."""
    try:
        yield
    except HelpShown as shown:
        print(shown)
    except NotConfirmed as question:
        raise UsageError(" ".join(question.words("--yes", "--unbilled").split())) from None
    except LLMBatchError as error:
        raise UsageError(" ".join(str(error).split())) from None
    except OSError as error:
        # Disk full, a folder that is not ours: the user can mend it.
        raise UsageError(f"{error.strerror or error} ({error.filename})") from None


class Commands:
    """What the magics do; made with the first of them that is run."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self._typed = ""  # the line that is being run
        self._money = MoneyCommands(controller)
        self._view = ViewCommands(controller)
        changing, key = ChangeCommands(controller), KeyCommands(controller)
        self.commands: dict[str, Callable[[list[str]], None]] = {
            "run": self._run,
            "status": self._view.status,
            "wait": self._view.wait,
            "submit": self._submit,
            "results": self._view.results,
            "show": self._view.show,
            "errors": self._view.errors,
            "retry": changing.retry,
            "cancel": changing.cancel,
            "resolve": changing.resolve,
            "adopt": changing.adopt,
            "deadline": changing.deadline,
            "cost": self._money.cost,
            "compare": self._money.compare,
            "advise": self._money.advise,
            "history": self._view.history,
            "forget": changing.forget,
            "export": changing.export,
            "login": key.login,
            "logout": key.logout,
            "doctor": self._view.doctor,
            "simulator": self._simulator,
            "help": lambda _: print(LINE_HELP),
        }

    def cell(self, line: str, cell: str, scope: Scope | None = None) -> None:
        """Run ``%%llm_batch`` with the names of `scope`, the notebook's by default."""
        with one_line(), self.controller.run_in(scope):
            args = cell_parser().parse(words(line))
            check_name(args.name)
            options = submit_options(args, self.controller.scope.names)
            if args.split:
                options["split"] = True
            if args.add and args.wait:
                raise UsageProblem(
                    f"--add sends nothing yet; `%llm_batch submit {args.name} --wait` does"
                )
            if args.add and not args.dry_run:
                self._add(args.name, cell, options, args.over or "")
            elif args.dry_run:
                self._money.preview(cell, args, options)
            else:
                typed = f"%%llm_batch {line.strip()}"
                handle = self.controller.submit(args.name, cell, options, args.over or "", typed)
                if args.wait:
                    self.controller.wait_in_cell(handle)

    def line(self, line: str, scope: Scope | None = None) -> None:
        """Run ``%llm_batch`` with the names of `scope`, the notebook's by default."""
        with one_line(), self.controller.run_in(scope):
            found = words(line)
            if not found or found == ["--all"]:
                self._view.dashboard(everywhere=bool(found))
                return
            command = self.commands.get(found[0])
            if command is None:
                raise UsageProblem(_unknown(found[0], self.commands))
            self._typed = line.strip()
            command(found[1:])

    # -- submitting --------------------------------------------------------------------------------

    def _add(self, name: str, cell: str, options: Options, over: str) -> None:
        self.controller.check_name(name, over)
        parent = (
            self.controller.shell.get_parent()
            if hasattr(self.controller.shell, "get_parent")
            else {}
        )
        cell_id = parent.get("metadata", {}).get("cellId") if parent else None
        count = self.controller.client.add(
            cell,
            name=name,
            key=cell_key(cell_id or "", *(() if cell_id else (cell, over))),
            **options,
        )
        cells = "1 cell" if count == 1 else f"{count} cells"
        print(f"{name}: {cells} collected, nothing sent yet; `%llm_batch submit {name}` sends")

    def _run(self, found: list[str]) -> None:
        args = parsers.of("run").parse(found)
        check_name(args.name)
        if args.over is None:
            raise UsageProblem("%llm_batch run NAME needs --over PROMPTS: the prompts to send")
        options = submit_options(args, self.controller.scope.names)
        if args.dry_run:
            self._money.preview(None, args, options)
            return
        typed = f"%llm_batch {self._typed}"
        handle = self.controller.submit(args.name, None, options, args.over, typed)
        if args.wait:
            self.controller.wait_in_cell(handle)

    def _submit(self, found: list[str]) -> None:
        args = parsers.of("submit").parse(found)
        handle = self.controller.submit_draft(
            args.name, resubmit=args.resubmit, confirm=args.yes, max_cost=args.max_cost
        )
        if args.wait:
            self.controller.wait_in_cell(handle)

    def _simulator(self, found: list[str]) -> None:
        args = parsers.of("simulator").parse(found)
        if args.off:
            self.controller.clients.end_simulation()
            print("This kernel talks to the real providers again.")
            return
        print(
            "This kernel now talks to simulated providers on this machine: no key, no cost, "
            "made-up answers.\nAfter a restart of the kernel, run this line again to continue."
        )
        self.controller.clients.simulate(seconds=args.seconds)


def _unknown(word: str, commands: dict[str, Any]) -> str:
    near = difflib.get_close_matches(word, commands, n=1)
    hint = f": did you mean `%llm_batch {near[0]}`?" if near else ";"
    return (
        f"unknown subcommand {word!r}{hint} `%llm_batch?` lists them; "
        f"`%llm_batch status {word}` shows a batch, `%%llm_batch {word}` makes one"
    )
