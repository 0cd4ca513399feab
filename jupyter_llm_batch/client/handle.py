"""A batch in the user's hands."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ..core.batch import Batch
from ..core.errors import Damaged, NotFound, UsageProblem
from ..core.job import Job, Remote
from ..core.result import Result
from ..core.snapshot import Snapshot
from ..costs import ledger, remaining
from ..costs.rates import Cost
from ..data import tables
from ..submission import repaying
from . import damaged_files, decisions, export, ownership, results, rows
from . import failures as failing
from .context import Context
from .reading import read_results
from .watching import Watching


class BatchHandle:
    """A batch: where it is, and its answers.

    Made by `submit`, `get` and `batches`; holds no state but the batch's id.
    """

    def __init__(self, context: Context, batch_id: str, *, attached: bool = False) -> None:
        self._context = context
        self._store = context.store
        self.id = batch_id
        self.attached = attached
        self.lasting = ""
        self.passing = ""

    @property
    def record(self) -> Batch:
        """The batch as the journal has it now."""
        batch = self._store.batch(self.id)
        if batch is None:
            raise NotFound("this batch was forgotten")
        return batch

    @property
    def notice(self) -> str:
        """What submitting or attaching gave to say; `passing` is true while the batch runs."""
        return "; ".join(filter(None, (self.lasting, self.passing)))

    @property
    def name(self) -> str:
        """Name as people see it, with the version where there are several."""
        return self.record.title

    @property
    def done(self) -> bool:
        """Whether every row has its outcome."""
        return self.record.finished_at is not None

    def snapshot(self) -> Snapshot:
        """Return state, counts and cost at this moment."""
        return self._context.poller().snapshot(self.record)

    def __repr__(self) -> str:
        return self.snapshot().line

    # -- waiting -----------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> BatchHandle:
        """Block until every row has its outcome; interrupting stops the waiting only.

        Parameters
        ----------
        timeout
            Seconds; None waits as long as it takes.

        Raises
        ------
        NotReady
            The time is over and the batch is not.
        Halted
            It goes on only when the user has done something: a refused key, a sample to look at.
        """
        watching = Watching(self._context)
        watching.take_up(self.id)
        watching.wait(self.record, timeout)
        return self

    def __await__(self) -> Generator[Any, None, BatchHandle]:
        """Wait as `wait` does, while the loop goes on; raises what that raises."""
        yield from Watching(self._context).until_done(self.record).__await__()
        return self

    # -- answers -----------------------------------------------------------------------------------

    def results(self, *, partial: bool = False) -> list[Result | None]:
        """Return the result of every row in the order of the input.

        Each holds text, parsed object, tool calls, reasoning, finish reason, tokens, model and the
        raw line; `answers` leaves out reasoning and raw lines, so that they take no memory.

        Parameters
        ----------
        partial
            Give what is there so far, None for the rest.

        Raises
        ------
        NotReady
            The batch is under way and `partial` is false.
        """
        return read_results(self._context, self.record, partial=partial, whole=True)

    def answers(self, *, partial: bool = False) -> Any:
        """Return the answers in the shape of the input; see `results` for `partial`."""
        found = read_results(self._context, self.record, partial=partial)
        batch = self.record
        kind = self._context.kind_of(batch)
        return results.value(self._store, batch, found, kind)

    def frame(self, *, partial: bool = False, costs: bool = False) -> Any:
        """Return a frame: the input's with its answers, or one row per answer.

        Input that was no frame gives a pandas frame where pandas is installed, else a pyarrow
        Table, with the columns row, outcome, answer, error, finish_reason, model and tokens.

        Parameters
        ----------
        costs
            One row per answer in any case, with ``cost_usd`` and ``realtime_usd``; empty where a
            price is not known or a row may have been billed without telling its tokens.
        """
        found = read_results(self._context, self.record, partial=partial)
        batch = self.record
        if costs:
            records = results.as_records(batch, found)
            for record, cost in zip(records, self.costs(), strict=True):
                record["cost_usd"] = float(cost.batch) if cost else None
                record["realtime_usd"] = float(cost.realtime) if cost else None
            return tables.frame_of_records(records, prefer_pandas=True)
        if batch.shape.kind == "frame":
            return results.value(self._store, batch, found)
        return tables.frame_of_records(results.as_records(batch, found), prefer_pandas=True)

    def failures(self) -> list[failing.Failure]:
        """Return the rows without a whole answer by reason: kind, rows, whether billed.

        Rows whose answers were cut come last, as ``cut: length`` and the like; they are answers.
        Of a batch that is under way: those that are known so far.
        """
        return failing.of(self._store, self.record)

    def unassigned(self) -> list[Result]:
        """Return answers that came back without a key: nobody can tell which row each is of."""
        return results.unassigned(self._store, self.record)

    def costs(self) -> list[Cost | None]:
        """Return what each row cost: None where that is not known, nothing where nothing is due.

        Rows that were taken from earlier batches have what they cost there.
        """
        batch = self.record
        book = self._context.accounts.rules().book
        jobs = rows.job_of_rows(self._store, batch)
        damaged = damaged_files.paths(self._store, batch)
        found = results.read(self._store, batch, damaged=damaged)
        return [
            ledger.row_cost(book, jobs[row], result) if row in jobs and result else None
            for row, result in enumerate(found)
        ]

    def export(self, path: str | Path, *, spreadsheet: bool = False) -> Path:
        """Write the answers to a ``.csv``, ``.jsonl`` or ``.parquet`` file and return its path.

        Of a frame: the input's columns and the answers, the index as columns where it has a
        meaning. Of other input, or when the input's copy is damaged: row, outcome, answer, error,
        model and tokens.

        Parameters
        ----------
        spreadsheet
            For a ``.csv`` that is opened in Excel or the like: text that begins as a formula does
            gets an apostrophe in front, so that no answer is run.
        """
        batch, path = self.record, Path(path).expanduser()
        export.check(path, spreadsheet=spreadsheet)
        found = read_results(self._context, self.record, partial=True)
        if batch.shape.kind == "frame":
            # Without the copy of the input the answers themselves are still to be had.
            with contextlib.suppress(Damaged):
                made = results.value(self._store, batch, found)
                return export.write_frame(made, path, spreadsheet=spreadsheet)
        return export.write(results.as_records(batch, found), path, spreadsheet=spreadsheet)

    # -- acting ------------------------------------------------------------------------------------

    def cancel(self, *, confirm: bool = False) -> BatchHandle:
        """Ask the provider to cancel; rows that are done by then are still collected.

        Parameters
        ----------
        confirm
            Also a batch that this process did not ask for, where only the working folder says that
            it is this notebook's.

        Raises
        ------
        NotConfirmed
            It is such a batch, and `confirm` was not given.
        """
        batch = self.record
        if batch.finished_at is None:
            if not confirm:
                ownership.check_own(self._context, batch, "cancel")
            earlier = [found for each in batch.sources if (found := self._store.batch(each))]
            # What earlier versions still work on is this batch's too; what --reuse takes is not.
            title = (batch.notebook, batch.name)
            own = [each.id for each in earlier if (each.notebook, each.name) == title]
            for each in {batch.id, *own}:
                self._store.request_cancel(each)
            poller = self._context.poller()
            self._context.background.soon(poller.take_up, self.id)
        return self

    def cancel_duplicates(self) -> list[str]:
        """Cancel second batches of its rows at the provider, which would be paid beside it.

        A gateway that repeats a create makes one, and a snapshot's notice tells. Returns their ids.
        """
        poller = self._context.poller()
        return self._context.call(poller.control.cancel_duplicates(self.id))

    def retry(self, *, confirm: bool = False, unbilled: bool = False) -> int:
        """Send the rows of an ended batch that have no answer again; return how many.

        Rows that a retry of an earlier batch has answered, or asks now, are taken from there.

        Parameters
        ----------
        confirm
            Send rows, too, that may have been billed: you pay for them again.
        unbilled
            Send only rows that were certainly not billed, and leave the others.

        Raises
        ------
        NotConfirmed
            Some rows may have been billed, and neither argument was given; nothing was sent.
        UsageProblem
            The batch is still under way, or driven by another process.
        """
        decisions.check_ended(self.record)
        if not confirm:
            ownership.check_own(self._context, self.record, "retry")
        if not (confirm or unbilled):
            repaying.check_retry(self._store, self.record, self._context.accounts.rules())
        # What was not confirmed is left out, also if it became doubtful only now.
        asked = self._context.poller().control.retry(self.id, unbilled=unbilled or not confirm)
        return self._context.call(asked)

    def send_rest(self) -> BatchHandle:
        """Send what waited for a look at the sample.

        Raises
        ------
        UsageProblem
            Nothing waits.
        """
        if not self.record.held or self.done:
            raise UsageProblem(f"nothing of {self.name} waits to be sent")
        decisions.decide(self._context, self.record, held=False)
        return self

    def finish(self) -> BatchHandle:
        """Cancel what is not back at the provider, collect it, and ask the rest in real time.

        Raises
        ------
        UsageProblem
            Nothing is at the provider, or the rest may cost more than ``--max-cost`` or the
            monthly budget allow.
        """
        batch = self.record
        if batch.held:
            raise UsageProblem(f"{self.name} is waiting for your OK on its sample")
        decisions.check_prompts(self.record)
        if batch.finished_at or not remaining.unfinished_jobs(self._store.jobs(self.id)):
            raise UsageProblem(f"nothing of {self.name} is waited for at the provider")
        decisions.decide(self._context, self.record, in_full=True, cut=True)
        return self

    def set_deadline(self, at: float | None, max_cost: float | None = None) -> BatchHandle:
        """Set another deadline, or none.

        Parameters
        ----------
        at
            Unix seconds; None lets it run as a batch.
        max_cost
            What the rest may cost in real time by itself (USD); None keeps what was said before.

        Raises
        ------
        UsageProblem
            In real time it may cost more than ``--max-cost`` or the monthly budget allow, or its
            prompts are not here.
        """
        if at is None:
            decisions.decide(self._context, self.record, deadline=None, deadline_cost=None)
            return self
        decisions.check_prompts(self.record)
        bound = {} if max_cost is None else {"deadline_cost": max_cost}
        decisions.decide(self._context, self.record, in_full=True, deadline=at, **bound)
        return self

    def lost(self) -> list[tuple[Job, list[Remote]]]:
        """Return the jobs whose creation is not decided, with the remote jobs each may be."""
        return self._context.call(self._context.poller().control.undecided(self.id))

    def resolve(self, remote_id: str = "", *, confirm: bool = False) -> Job:
        """Decide about a submission whose outcome is unknown.

        Parameters
        ----------
        remote_id
            The provider's id of what was created; empty when nothing was, and then the job is
            sent again.
        confirm
            Nothing was created, and it is sent again: you pay twice if something was.

        Raises
        ------
        NotConfirmed
            Neither argument was given; nothing was sent.
        UsageProblem
            Nothing is undecided, or the id belongs to another job.
        """
        if not confirm:
            ownership.check_own(self._context, self.record, "decide about")
        if not (remote_id or confirm):
            rules = self._context.accounts.rules()
            repaying.check_absent(self._store, self.record, rules)
        poller = self._context.poller()
        return self._context.call(poller.control.resolve(self.id, remote_id))

    def refresh(self) -> BatchHandle:
        """Ask the provider now instead of at the next look, or as soon as it allows that."""
        poller = self._context.poller()
        self._context.call(poller.control.refresh(self.id))
        return self
