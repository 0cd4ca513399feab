"""The command line: parser, commands and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..client import session
from ..client.client import Client
from ..core.batch import Batch
from ..core.errors import LLMBatchError, NotConfirmed, NotFound
from ..core.settings import Settings
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..core.text import count, many
from ..engine import lookup
from ..engine.status.words import WAITS_FOR_YOU
from ..submission.find import is_of
from . import report, watch
from .choose import check_unambiguous, choose_batch
from .show import Bars, Lines, Show
from .watch import USAGE, Interrupted, Signals, exit_code, handle_of

#: Notebook name of the terminal. No batch has it, so that nothing is driven without a command.
NO_NOTEBOOK = "jupyter llm-batch"

#: Width of a table that is not written to a terminal (columns).
WIDE = 240

#: Exit code when the reader of the output has closed the pipe: 128 and SIGPIPE.
BROKEN_PIPE = 141

_EPILOG = """\
BATCH is NAME, NAME#2, NOTEBOOK::NAME (a notebook's path or the end of it), or the beginning of an
id as `list` shows it. Keys and base URLs are the SDKs' own variables, such as OPENAI_API_KEY.

exit codes:
  0  every batch is done
  1  done, but some rows have no answer
  2  the command cannot be carried out; the message says what to change
  3  somebody must act: a submission's outcome is unknown, or the key is missing
  4  still under way (watch --once, fetch)
  130, 143  ended by Ctrl-C or SIGTERM; the batches keep running at their providers
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    shared = argparse.ArgumentParser(add_help=False)
    add = shared.add_argument
    add("--data-dir", default="", metavar="DIR", help="folder of the journal")
    add("--notebook", default="", metavar="PATH", help="only batches of this notebook")
    add("--simulated", action="store_true", help="the simulator's batches")
    add("--json", action="store_true", help="JSON, an object per batch; the same keys everywhere")
    add("--poll-seconds", type=_interval, default=30.0, metavar="S", help="shortest interval (30)")
    whole = argparse.ArgumentParser(
        prog="jupyter llm-batch",
        description="Look after LLM batches of every notebook, without one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, words: str) -> argparse.ArgumentParser:
        made = kinds.add_parser(name, parents=[shared], help=words, description=words)
        made.epilog = "`jupyter llm-batch --help` explains BATCH and the exit codes."
        return made

    listing = command("list", "batches that are under way")
    listing.add_argument("--all", action="store_true", help="ended ones too")
    watching = command(
        "watch",
        "carry batches to their end, collect the answers: a bar each on a terminal, elsewhere a "
        "line for what ended and for problems",
    )
    watching.add_argument("batch", nargs="*", metavar="BATCH", help="default: all under way")
    watching.add_argument("--once", action="store_true", help="do what is due now, then end")
    fetching = command("fetch", "collect what is there now")
    fetching.add_argument("batch", metavar="BATCH")
    fetching.add_argument("--to", metavar="FILE", help="answers to .csv, .jsonl or .parquet")
    fetching.add_argument(
        "--spreadsheet", action="store_true", help="escape text that Excel would run as a formula"
    )
    command("cancel", "cancel at the provider").add_argument("batch", metavar="BATCH")
    deciding = command("resolve", "decide about a submission whose outcome is unknown")
    deciding.add_argument("batch", metavar="BATCH")
    choice = deciding.add_mutually_exclusive_group()
    choice.add_argument("--as-created", metavar="ID", help="the provider's id of the job")
    choice.add_argument("--as-absent", action="store_true", help="nothing was created: send again")
    deciding.add_argument("--yes", action="store_true", help="with --as-absent: send it again")
    return whole


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no interval: seconds, at least 1")
    return value


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    args = make_parser().parse_args(arguments)
    signals = Signals()
    signals.listen()
    try:
        with contextlib.closing(Terminal(args, signals)) as terminal:
            commands: dict[str, Callable[[], int]] = {
                "list": terminal.show,
                "watch": terminal.watch,
                "fetch": terminal.fetch,
                "cancel": terminal.cancel,
                "resolve": terminal.resolve,
            }
            return commands[args.command]()
    except Interrupted:
        _complain(
            "stopped; the batches keep running at their providers, and any kernel or watch takes "
            "over"
        )
        return 128 + signals.number
    except NotConfirmed as question:
        _complain(question.words("--yes", "--unbilled"))
        return USAGE
    except LLMBatchError as error:
        _complain(" ".join(str(error).split()))
        return USAGE
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        _complain(f"{error.strerror or error} ({error.filename})")
        return USAGE


def _complain(message: str) -> None:
    print(f"jupyter llm-batch: {report.clean_text(message)}", file=sys.stderr, flush=True)


class Terminal:
    """One run of the command line.

    Parameters
    ----------
    args
        The parsed options.
    signals
        Whether the run was asked to end.
    """

    def __init__(self, args: argparse.Namespace, signals: Signals) -> None:
        self.args = args
        self.signals = signals
        self.console = Console()
        if not self.console.is_terminal:
            self.console.width = WIDE  # a pipe has no width: one line a batch
        self._client: Client | None = None
        self.settings = Settings(data_dir=args.data_dir, poll_seconds=args.poll_seconds)

    def close(self) -> None:
        """Release leases; batches keep running at their providers."""
        if self._client is None:
            return
        # An SDK import may block the loop: releasing leases is worth a longer wait than a kernel's
        # exit may take.
        stopping = self._client.watching.stop()
        with contextlib.suppress(LLMBatchError, TimeoutError, RuntimeError):
            stopping.result(20.0)
        self._client.close()

    @property
    def folder(self) -> Path:
        """The folder of the journal."""
        return self.settings.folder() / ("simulated" if self.args.simulated else "")

    @property
    def client(self) -> Client:
        """The client, created on first use; never creates a journal."""
        if self._client is None:
            if not (self.folder / "journal.sqlite").exists():
                raise NotFound(
                    f"no journal in {self.folder}: nothing was submitted on this machine; "
                    "--data-dir names another folder, as %config LLMBatch.data_dir does"
                    + self._simulated()
                )
            if self.args.simulated:
                self._client = session.simulated(self.settings, notebook=NO_NOTEBOOK)
            else:
                self._client = Client(settings=self.settings, notebook=NO_NOTEBOOK)
        return self._client

    def batches(self) -> list[Batch]:
        """Return every batch that the options allow, oldest first."""
        return self.client.library.records()

    def chosen(self, wanted: str) -> Batch:
        """Return the batch that the user named."""
        try:
            return choose_batch(self.batches(), wanted, self.args.notebook)
        except NotFound as problem:
            raise NotFound(f"{problem}{self._simulated()}") from None

    def acted_on(self, wanted: str) -> Batch:
        """Return the batch that the user named; raises if the name is ambiguous."""
        batch = self.chosen(wanted)
        check_unambiguous(self.batches(), batch, wanted)
        return batch

    def _simulated(self) -> str:
        """Return a hint at `--simulated` if there are simulated batches."""
        there = not self.args.simulated and (self.folder / "simulated" / "journal.sqlite").exists()
        return "; --simulated looks at simulated ones" if there else ""

    # -- commands ----------------------------------------------------------------------------------

    def show(self) -> int:
        """Show batches; 0 whatever their state."""
        batches = self.batches() if (self.folder / "journal.sqlite").exists() else []
        if self.args.notebook:
            batches = [each for each in batches if is_of(each.notebook, self.args.notebook)]
        shown = [each for each in batches if self.args.all or each.finished_at is None]
        found = [watch.look_at(self.client, batch) for batch in shown]
        if self.args.json:
            print(report.as_json([report.batch_record(seen) for seen in found]))
            return 0
        report.print_table(self.console, found)
        for seen in found:
            if seen.shot.notice:
                _complain(f"{seen.batch.notebook}::{seen.batch.title}: {seen.shot.notice}")
        alone = [each for each in found if not (each.shot.finished or each.driver)]
        if alone:
            print(
                f"nobody looks after {count(len(alone))} of them now: `jupyter llm-batch watch`, "
                "or their notebook"
            )
        hidden = len(batches) - len(shown)
        if not shown:
            print(f"nothing is under way{self._simulated()}")
        if hidden:
            print(f"{count(hidden)} ended: --all shows {'it' if hidden == 1 else 'them'}")
        return 0

    def watch(self) -> int:
        """Drive batches until they end."""
        wanted = self.args.batch
        chosen = [self.chosen(each) for each in wanted] if wanted else None
        if chosen is None and self.args.notebook:
            chosen = [
                each for each in self._unfinished() if is_of(each.notebook, self.args.notebook)
            ]
        if self.args.once:
            found = watch.poll_once(
                self.client, self._unfinished() if chosen is None else chosen, self.signals
            )
            quiet = not self.console.is_terminal
            Lines(self.console, json=self.args.json, quiet=quiet).update(found)
        else:
            show = self._shown()
            try:
                found = watch.watch_batches(self.client, chosen, show, self.signals)
            finally:
                show.close()
        if not found and self.console.is_terminal and not self.args.json:
            print("nothing is under way")
        self._advise(found)
        return exit_code(found)

    def _shown(self) -> Show:
        if self.args.json or not self.console.is_terminal:
            return Lines(self.console, json=self.args.json, quiet=True)
        return Bars(self.console)

    def _unfinished(self) -> list[Batch]:
        return [each for each in self.batches() if each.finished_at is None]

    def _advise(self, found: Sequence[report.Seen]) -> None:
        """Print what the user must do before these batches continue."""
        for seen in found:
            name = f"{seen.batch.notebook}::{seen.batch.title}"
            if seen.shot.words == WAITS_FOR_YOU:
                _complain(
                    f"{name}: {seen.shot.words}; decide in its notebook: {seen.shot.question}"
                )
            elif seen.shot.state == "attention":
                _complain(f"{name}: {seen.shot.words}; `jupyter llm-batch resolve {seen.batch.id}`")
            elif seen.shot.halted:
                _complain(f"{name}: {seen.shot.words}")

    def fetch(self) -> int:
        """Collect available answers, and write them to a file if requested."""
        batch = self.chosen(self.args.batch)
        if batch.finished_at is None:
            found = watch.poll_once(self.client, [batch], self.signals)
        else:
            found = [watch.look_at(self.client, batch)]
        self._say(found)
        if self.args.to:
            path = handle_of(self.client, batch).export(
                self.args.to, spreadsheet=self.args.spreadsheet
            )
            _complain(f"{many(found[0].shot.rows, 'row')} written to {path}")
        self._advise(found)
        return exit_code(found)

    def _say(self, found: Sequence[report.Seen]) -> None:
        Lines(self.console, json=self.args.json).update(found)

    def cancel(self) -> int:
        """Ask the provider to cancel."""
        batch = self.acted_on(self.args.batch)
        if batch.finished_at is not None:
            self._say([watch.look_at(self.client, batch)])
            return 0
        handle_of(self.client, batch).cancel()
        found = watch.poll_once(self.client, [batch], self.signals)
        self._say(found)
        self._advise(found)
        code = exit_code(found)
        if code == watch.UNDER_WAY:
            _complain(
                "the provider was asked, or whoever drives the batch asks it; "
                f"`jupyter llm-batch watch {batch.id}` collects what is done and paid for"
            )
        return code if code == watch.ATTENTION else 0

    def resolve(self) -> int:
        """Decide about a lost submission, or show what it may have become."""
        batch = self.acted_on(self.args.batch)
        handle = handle_of(self.client, batch)
        if not (self.args.as_created or self.args.as_absent):
            return self._candidates(batch)
        if not (self.args.as_created or self.args.yes):
            self.client.library.check_absent(batch)
        self.signals.result(self.client.watching.resolve(handle.id, self.args.as_created or ""))
        found = watch.poll_once(self.client, [batch], self.signals)
        self._say(found)
        self._advise(found)
        return exit_code(found)

    def _candidates(self, batch: Batch) -> int:
        undecided = self.signals.result(self.client.watching.undecided(batch.id))
        if self.args.json:
            rows = [
                {"job": job.id, "rows": job.rows, "sent_at": report.iso(job.submitted_at),
                 "candidates": [
                     {"id": each.remote_id, "created_at": report.iso(each.created_at),
                      "state": each.state} for each in candidates]}
                for job, candidates in undecided
            ]  # fmt: skip
            print(report.as_json(rows))
            return watch.ATTENTION if undecided else 0
        if not undecided:
            print(f"Nothing to resolve: {watch.look_at(self.client, batch).shot.line}")
            return 0
        grid = Table("sent", "rows", "may be", "created", "state", box=None, header_style="dim")
        for job, candidates in undecided:
            sent = report.iso(job.submitted_at) or ""
            for each in candidates:
                made = report.iso(each.created_at) or ""
                cells = (sent, count(job.rows), each.remote_id, made, each.state)
                grid.add_row(*(Text(report.clean_text(cell)) for cell in cells))
            if not candidates:
                grid.add_row(sent, count(job.rows), "none found so far", "", "")
        self.console.print(grid)
        print(
            f"jupyter llm-batch resolve {batch.id} --as-created ID takes one of them; --as-absent "
            "--yes sends the rows again,\nand you pay twice if one of them is yours, or is yet to "
            "show. " + lookup.waiting(undecided)
        )
        return watch.ATTENTION
