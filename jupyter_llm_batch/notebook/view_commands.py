"""What the subcommands do that show batches, wait for them, and bind their answers."""

from __future__ import annotations

from ..client.handle import BatchHandle
from ..core.batch import Batch
from ..core.errors import NotReady
from ..core.result import Outcome
from ..core.snapshot import Snapshot
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..core.text import count
from . import doctor, parsers
from .controller import Controller
from .tables import show


class ViewCommands:
    """Subcommands that change nothing at a provider."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def dashboard(self, *, everywhere: bool) -> None:
        """Show every batch: a table of what is over, panels of what is not."""
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
                self._controller.panel(batch, snapshot)
        driver = self._controller.client.watching.driver
        others = [batch for batch, _ in found if batch.notebook != self._controller.notebook]
        alone = [each for each in others if not (each.draft or each.finished_at or driver(each.id))]
        if alone:
            print(
                f"nobody looks after {count(len(alone))} of them now: open the notebook, or run "
                "`jupyter llm-batch watch` in a terminal"
            )

    def _known(self, *, everywhere: bool) -> list[tuple[Batch, Snapshot]]:
        """Return every batch, and what ``--add`` has collected, with how each stands now."""
        client = self._controller.client
        records = [handle.record for handle in client.batches(everywhere=everywhere)]
        look = client.watching.snapshot
        return [(each, look(each)) for each in [*records, *client.drafts(everywhere=everywhere)]]

    def history(self, typed: list[str]) -> None:
        """List past and present batches."""
        everywhere = parsers.of("history").parse(typed).all
        found = self._known(everywhere=everywhere)
        if found:
            show.table(found, everywhere=everywhere)
        else:
            print(f"no batches yet; `%%llm_batch?` shows how to make one{self._simulated()}")

    def _simulated(self) -> str:
        """Return where simulated batches are, if there are any and they are not looked at."""
        return (
            f"; {found}" if (found := self._controller.client.library.simulated_batches()) else ""
        )

    def status(self, found: list[str]) -> None:
        """Show the panel of a batch again."""
        handle = self._get("status", found)
        if not handle.done:
            self._controller.client.watching.take_up(handle.id)
        self._controller.panels.show(handle.snapshot())

    def wait(self, found: list[str]) -> None:
        """Block until a batch is done."""
        handle = self._get("wait", found)
        self._controller.wait_in_cell(handle, panel=not handle.done)

    def results(self, found: list[str]) -> None:
        """Bind the answers that are there."""
        args = parsers.of("results").parse(found)
        handle = self._controller.client.get(args.name)
        if not (args.partial or handle.done):
            raise NotReady(
                f"{handle!r}; `%llm_batch wait {handle.name}` waits, "
                f"`%llm_batch results {handle.name} --partial` binds what is there"
            )
        self._controller.bind(handle, partial=args.partial)
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

    def show(self, found: list[str]) -> None:
        """Show one row: prompt, answer, tokens, raw line."""
        args = parsers.of("show").parse(found)
        show.row(self._controller.client, self._controller.client.get(args.name), args.row)

    def errors(self, found: list[str]) -> None:
        """List the rows without an answer, and why."""
        show.errors(self._get("errors", found))

    def doctor(self, found: list[str]) -> None:
        """Check whether batches can be sent, and why not."""
        args = parsers.of("doctor").parse(found)
        if args.settle:
            self._controller.client.journal.settle_loss()
            print("The loss is settled: cells that the journal does not know are sent again.")
            return
        doctor.show(self._controller, check_keys=args.check_keys, report=args.report)

    def _get(self, command: str, found: list[str]) -> BatchHandle:
        return self._controller.client.get(parsers.of(command).parse(found).name)
