"""What the magics do: parse, call the book, translate errors to one line."""

from __future__ import annotations

import difflib
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError

from ..client import keys, session
from ..client.client import cell_key, check_name
from ..client.handle import BatchHandle
from ..core.batch import Batch
from ..core.cell_options import HelpShown, cell_parser
from ..core.errors import LLMBatchError, NotConfirmed, NotReady, UsageProblem
from ..core.result import Outcome
from ..core.snapshot import Snapshot
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..core.text import count, many, money
from ..costs.budget import month_start
from ..providers.shared import addresses
from ..submission import preview, repaying
from ..submission.options import Options, span
from . import doctor, parsers
from .controller import Book
from .help import LINE_HELP
from .options import filled, submit_options, words
from .scope import Scope
from .tables import money as money_tables
from .tables import show


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

    def __init__(self, book: Book) -> None:
        self.book = book
        self._typed = ""  # the line that is being run
        self.commands: dict[str, Callable[[list[str]], None]] = {
            "run": self._run,
            "status": self._status,
            "wait": self._wait,
            "submit": self._submit,
            "results": self._results,
            "show": self._show,
            "errors": self._errors,
            "retry": self._retry,
            "cancel": self._cancel,
            "resolve": self._resolve,
            "adopt": self._adopt,
            "deadline": self._deadline,
            "cost": self._cost,
            "compare": self._compare,
            "advise": self._advise,
            "history": self._history,
            "forget": self._forget,
            "export": self._export,
            "login": self._login,
            "logout": self._logout,
            "doctor": self._doctor,
            "simulator": self._simulator,
            "help": lambda _: print(LINE_HELP),
        }

    def cell(self, line: str, cell: str, scope: Scope | None = None) -> None:
        """Run ``%%llm_batch`` with the names of `scope`, the notebook's by default."""
        with one_line(), self.book.run_in(scope):
            args = cell_parser().parse(words(line))
            check_name(args.name)
            options = submit_options(args, self.book.scope.names)
            if args.split:
                options["split"] = True
            if args.add and args.wait:
                raise UsageProblem(
                    f"--add sends nothing yet; `%llm_batch submit {args.name} --wait` does"
                )
            if args.add and not args.dry_run:
                self._add(args.name, cell, options, args.over or "")
            elif args.dry_run:
                self._preview(cell, args, options)
            else:
                typed = f"%%llm_batch {line.strip()}"
                handle = self.book.submit(args.name, cell, options, args.over or "", typed)
                if args.wait:
                    self._waiting(handle)

    def line(self, line: str, scope: Scope | None = None) -> None:
        """Run ``%llm_batch`` with the names of `scope`, the notebook's by default."""
        with one_line(), self.book.run_in(scope):
            found = words(line)
            if not found or found == ["--all"]:
                self._dashboard(everywhere=bool(found))
                return
            command = self.commands.get(found[0])
            if command is None:
                raise UsageProblem(_unknown(found[0], self.commands))
            self._typed = line.strip()
            command(found[1:])

    # -- submitting --------------------------------------------------------------------------------

    def _add(self, name: str, cell: str, options: Options, over: str) -> None:
        self.book.check_name(name, over)
        parent = self.book.shell.get_parent() if hasattr(self.book.shell, "get_parent") else {}
        cell_id = parent.get("metadata", {}).get("cellId") if parent else None
        count = self.book.client.add(
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
        options = submit_options(args, self.book.scope.names)
        options["raw"] = args.raw
        if args.dry_run:
            self._preview(None, args, options)
            return
        typed = f"%llm_batch {self._typed}"
        handle = self.book.submit(args.name, None, options, args.over, typed)
        if args.wait:
            self._waiting(handle)

    def _submit(self, found: list[str]) -> None:
        args = parsers.of("submit").parse(found)
        handle = self.book.submit_draft(
            args.name, resubmit=args.resubmit, confirm=args.yes, max_cost=args.max_cost
        )
        if args.wait:
            self._waiting(handle)

    # -- looking -----------------------------------------------------------------------------------

    def _get(self, command: str, found: list[str]) -> BatchHandle:
        return self.book.client.get(parsers.of(command).parse(found).name)

    def _dashboard(self, *, everywhere: bool) -> None:
        found = self._known(everywhere=everywhere)
        if not found:
            where = "yet" if everywhere else "in this notebook yet"
            print(f"no batches {where}; `%%llm_batch?` shows how to make one{self._simulated()}")
            return
        still = [each for each in found if each[0].draft or each[1].finished]
        if still:
            show.table(still, everywhere=everywhere)
        for batch, snapshot in found:
            if not (batch.draft or snapshot.finished):
                self.book.panel(batch, snapshot)
        driver = self.book.client.store.driver
        others = [batch for batch, _ in found if batch.notebook != self.book.notebook]
        alone = [each for each in others if not (each.draft or each.finished_at or driver(each.id))]
        if alone:
            print(
                f"nobody looks after {count(len(alone))} of them now: open the notebook, or run "
                "`jupyter llm-batch watch` in a terminal"
            )

    def _known(self, *, everywhere: bool) -> list[tuple[Batch, Snapshot]]:
        """Return every batch, and what ``--add`` has collected, with how each stands now."""
        client = self.book.client
        records = [handle.record for handle in client.batches(everywhere=everywhere)]
        look = client.poller().snapshot
        return [(each, look(each)) for each in [*records, *client.drafts(everywhere=everywhere)]]

    def _history(self, typed: list[str]) -> None:
        everywhere = parsers.of("history").parse(typed).all
        found = self._known(everywhere=everywhere)
        if found:
            show.table(found, everywhere=everywhere)
        else:
            print(f"no batches yet; `%%llm_batch?` shows how to make one{self._simulated()}")

    def _simulated(self) -> str:
        """Return where simulated batches are, if there are any and they are not looked at."""
        return f"; {found}" if (found := self.book.client.simulated_batches()) else ""

    def _status(self, found: list[str]) -> None:
        handle = self._get("status", found)
        if not handle.done:
            handle.take_up()
        self.book.panels.show(handle.snapshot())

    def _show(self, found: list[str]) -> None:
        args = parsers.of("show").parse(found)
        show.row(self.book.client, self.book.client.get(args.name), args.row)

    def _errors(self, found: list[str]) -> None:
        show.errors(self._get("errors", found))

    def _cost(self, found: list[str]) -> None:
        args = parsers.of("cost").parse(found)
        client = self.book.client
        ledger = client.cost(args.name)
        if args.csv:
            path = Path(args.csv).expanduser()
            path.write_text(ledger.csv(), encoding="utf-8")
            print(f"{many(len(ledger.lines), 'line')} written to {path}")
            return
        budget = ""
        if client.settings.monthly_budget is not None and not args.name:
            spent, promised = client.store.committed(month_start(time.time()))
            budget = (
                f"monthly budget: {money(client.settings.monthly_budget)}, of which "
                f"{money(spent)} are spent and {money(promised)} are promised to batches under way"
            )
        by = args.by or ("model" if args.name else "day")
        money_tables.ledger(ledger, by, title=args.name or "all batches", budget=budget)

    def _compare(self, found: list[str]) -> None:
        args = parsers.of("compare").parse(found)
        compared = self.book.client.compare(args.left, args.right)
        money_tables.comparison(compared, differences=max(0, args.rows))

    def _advise(self, found: list[str]) -> None:
        parsers.of("advise").parse(found)
        _ = self.book.client  # the one that is asked
        money_tables.advice(session.advise())

    def _preview(self, text: str | None, args: Namespace, options: Options) -> None:
        plan = self.book.client.preview(text, name=args.name, **options)
        show.preview(plan)
        if args.count and plan.samples:
            client = self.book.client
            found = preview.count(plan, args.count, client.adapter, client.background.call)
            money_tables.counted(found)

    def _doctor(self, found: list[str]) -> None:
        args = parsers.of("doctor").parse(found)
        if args.settle:
            self.book.client.store.settle_loss()
            print("The loss is settled: cells that the journal does not know are sent again.")
            return
        doctor.show(self.book, check_keys=args.check_keys, report=args.report)

    # -- keys --------------------------------------------------------------------------------------

    def _login(self, found: list[str]) -> None:
        provider = self._provider("login", found)
        place = session.login(provider)
        variable = addresses.key_variables(provider)[0]
        if place == keys.KEYRING:
            print(f"{variable} is saved in the keyring of this computer")
        else:
            print(f"{variable} is kept for this kernel only: there is no keyring here")
        if self._says_simulated():
            return
        if self.book.client.keys.origin([variable]) not in {place, ""}:
            print(f"but what the environment has as {variable} goes first")

    def _logout(self, found: list[str]) -> None:
        provider = self._provider("logout", found)
        places = session.logout(provider)
        variable = addresses.key_variables(provider)[0]
        if places:
            print(f"{variable} is forgotten ({', '.join(places)})")
        else:
            print(f"{variable} was not kept by a login")
        if self._says_simulated():
            return
        if origin := self.book.client.keys.origin([variable]):
            print(f"it is still found in: {origin}")

    def _says_simulated(self) -> bool:
        """Say that no key counts while providers are simulated, if they are."""
        client = self.book.client
        simulated = client.simulated and client.keys.closed
        if simulated:
            print(
                "This kernel talks to simulated providers, which need no key: "
                "`%llm_batch simulator --off` goes back to the real ones."
            )
        return simulated

    def _provider(self, command: str, found: list[str]) -> str:
        if found in (["-h"], ["--help"]):
            parsers.of(command).parse(found)
        _ = self.book.client  # the one whose servers are meant
        if len(found) != 1:
            # Nothing of the line is repeated: a key may be in it.
            raise UsageProblem(
                f"%llm_batch {command} PROVIDER and nothing else: a key in the line would stay in "
                "the history; it is asked for"
            )
        return found[0]

    # -- waiting and binding -----------------------------------------------------------------------

    def _wait(self, found: list[str]) -> None:
        handle = self._get("wait", found)
        self._waiting(handle, panel=not handle.done)

    def _waiting(self, handle: BatchHandle, *, panel: bool = False) -> None:
        try:
            if panel:
                self.book.panels.show(handle.snapshot())
            self.book.wait(handle)
        except KeyboardInterrupt:
            raise NotReady(f"stopped waiting; {show.goes_on(handle)}") from None

    def _results(self, found: list[str]) -> None:
        args = parsers.of("results").parse(found)
        handle = self.book.client.get(args.name)
        if not (args.partial or handle.done):
            raise NotReady(
                f"{handle!r}; `%llm_batch wait {handle.name}` waits, "
                f"`%llm_batch results {handle.name} --partial` binds what is there"
            )
        self.book.bind(handle, partial=args.partial)
        snapshot = handle.snapshot()
        if snapshot.finished:
            print(f"{handle.record.name} holds the answers: {snapshot.line}")
        else:
            there = sum(
                each is not None and each.outcome is Outcome.OK
                for each in handle.results(partial=True)
            )
            print(
                f"{handle.record.name} holds {count(there)} of {count(snapshot.rows)} "
                "answers so far (a provider hands them out when a job ends); the rest follow "
                f"when they are there: {snapshot.line}"
            )

    # -- acting ------------------------------------------------------------------------------------

    def _retry(self, found: list[str]) -> None:
        args = parsers.of("retry").parse(found)
        handle = self.book.client.get(args.name)
        handle.check_ended()
        client, only = self.book.client, args.unbilled or not args.yes
        if not args.yes:
            client.check_own(handle.record, "retry")
        if only and not args.unbilled:
            repaying.check_retry(client.store, handle.record, client.accounts.rules())
        show.before_retry(client, handle, unbilled=only)
        if self.book.retry(handle, unbilled=only) or not handle.done:
            self.book.panels.show(handle.snapshot())

    def _cancel(self, found: list[str]) -> None:
        args = parsers.of("cancel").parse(found)
        handle = self.book.client.get(args.name)
        if args.duplicates:
            gone = handle.cancel_duplicates()
            print(f"{handle.name}: {', '.join(gone) or 'no second batch'} cancelled")
            return
        if handle.done:
            print(f"nothing to cancel: {handle!r}")
            return
        handle.cancel(confirm=args.yes)
        print(
            f"{handle.name}: cancelling; rows already done are collected and "
            "paid for, the others are not billed"
        )

    def _resolve(self, found: list[str]) -> None:
        args = parsers.of("resolve").parse(found)
        handle = self.book.client.get(args.name)
        if args.as_created or args.as_absent:
            job = handle.resolve(args.as_created or "", confirm=args.yes)
            goes = f"goes on as {args.as_created}" if args.as_created else "is sent again"
            print(f"{handle.name}: the job of {many(job.rows, 'row')} {goes}")
        else:
            show.lost(handle)

    def _adopt(self, found: list[str]) -> None:
        args = parsers.of("adopt").parse(found)
        self.book.check_name(args.name)
        self.book.binder.check_free(args.name)
        remote = filled(args.remote, self.book.scope.names, "adopt")
        handle = self.book.started(self.book.client.adopt(remote, args.name))
        if args.wait:
            self._waiting(handle)

    def _deadline(self, found: list[str]) -> None:
        args = parsers.of("deadline").parse(found)
        handle = self.book.client.get(args.name)
        if args.finish:
            handle.finish()
            print(
                f"{handle.name}: what is not back is cancelled and collected, then the rest is "
                "asked in real time"
            )
        elif args.off:
            handle.set_deadline(None)
            print(f"{handle.name}: no deadline; it runs as a batch")
        elif args.span:
            handle.set_deadline(time.time() + span(args.span, "--in"), args.max_cost)
            print(f"{handle.name}: what is not back in {args.span} is finished in real time")
        else:
            print(repr(handle))

    def _forget(self, found: list[str]) -> None:
        args = parsers.of("forget").parse(found)
        if (args.name is None) == (args.older_than is None) or (args.name and args.all):
            raise UsageProblem("%llm_batch forget NAME, or %llm_batch forget --older-than 30d")
        client = self.book.client
        if args.name is not None and client.drop_draft(args.name):
            print(f"{args.name}: what was collected is deleted; nothing of it was sent")
            return
        if args.name is not None:
            handles = [client.get(args.name)]
        else:
            handles = client.older_than(args.older_than, everywhere=args.all)
        if args.name is not None and not args.yes:
            client.check_own(handles[0].record, "forget")
        if not args.yes:
            repaying.check_forget(client.store, [handle.record for handle in handles])
        for handle in handles:
            name = handle.name
            try:
                client.forget(handle, confirm=True)
            except UsageProblem as problem:
                if args.name is not None:
                    raise
                print(f"{name}: kept, since {problem}")
                continue
            print(f"{name}: local data deleted; what the provider holds is not touched")
        if not handles:
            print("nothing that old")

    def _export(self, found: list[str]) -> None:
        args = parsers.of("export").parse(found)
        handle = self.book.client.get(args.name)
        replaced = Path(args.file).expanduser().exists()
        path = handle.export(args.file, spreadsheet=args.spreadsheet)
        snapshot = handle.snapshot()
        rows = many(handle.record.rows, "row")
        if snapshot.ok < handle.record.rows:
            rows += f", {count(snapshot.ok)} of them with an answer,"
        print(f"{handle.name}: {rows} written to {path}{' (replaced)' if replaced else ''}")

    def _simulator(self, found: list[str]) -> None:
        args = parsers.of("simulator").parse(found)
        if args.off:
            self.book.end_simulation()
            print("This kernel talks to the real providers again.")
            return
        print(
            "This kernel now talks to simulated providers on this machine: no key, no cost, "
            "made-up answers.\nAfter a restart of the kernel, run this line again to go on."
        )
        self.book.simulate(seconds=args.seconds)


def _unknown(word: str, commands: dict[str, Any]) -> str:
    near = difflib.get_close_matches(word, commands, n=1)
    hint = f": did you mean `%llm_batch {near[0]}`?" if near else ";"
    return (
        f"unknown subcommand {word!r}{hint} `%llm_batch?` lists them; "
        f"`%llm_batch status {word}` shows a batch, `%%llm_batch {word}` makes one"
    )
