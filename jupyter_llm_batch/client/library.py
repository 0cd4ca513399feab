"""Find, resume and forget the batches of a journal."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ..core.batch import Batch
from ..core.errors import NotFound, UsageProblem
from ..providers.shared import addresses
from ..storage import files
from ..storage.input_file import ROWS_FILE
from ..submission import drafts, find, repaying
from . import ownership, retry_plan, row_view
from .context import Context
from .handle import BatchHandle
from .retry_plan import RetryPlan
from .row_view import RowView


class Library:
    """The batches of one notebook, and of the others in its journal."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def get(self, name: str) -> BatchHandle:
        """Return the batch that a name means: this kernel's latest, else this notebook's.

        Parameters
        ----------
        name
            ``name``, ``name#2`` for version 2, or ``NOTEBOOK::name`` for another notebook's.

        Raises
        ------
        NotFound
            There is none in this notebook.
        """
        try:
            batch = find.resolve(self._store, name, self._context.identity, self._context.asked)
        except NotFound as problem:
            simulated = self.simulated_batches()
            raise NotFound("; ".join(filter(None, (str(problem), simulated)))) from None
        if batch.finished_at is None:
            # Whoever asks for a batch may be asked for its key, unlike the background.
            for provider in {job.provider for job in self._store.jobs(batch.id)}:
                self._context.keys.variables(addresses.key_variables(provider), ask=True)
        return BatchHandle(self._context, batch.id)

    def handle(self, batch_id: str) -> BatchHandle:
        """Return the handle of a batch of any notebook."""
        return BatchHandle(self._context, batch_id)

    def record(self, batch_id: str) -> Batch | None:
        """Return a batch as the journal has it now; None when it was forgotten."""
        return self._store.batch(batch_id)

    def records(self, *, unfinished: bool = False) -> list[Batch]:
        """Return the batches of all notebooks, oldest first; with `unfinished` only these."""
        return [each for each in self._store.batches(unfinished=unfinished) if not each.draft]

    def simulated_batches(self) -> str:
        """Say how simulated batches are found, where there are any that this client leaves out."""
        if self._context.simulated or not (self._store.folder / "simulated").exists():
            return ""
        return "simulated batches are found after `%llm_batch simulator`"

    def batches(self, *, everywhere: bool = False) -> list[BatchHandle]:
        """Return the batches of this notebook (or of all notebooks), oldest first."""
        found = self._store.batches(notebook=None if everywhere else self._context.notebook)
        return [BatchHandle(self._context, batch.id) for batch in found if not batch.draft]

    def resume(self) -> list[BatchHandle]:
        """Go on with what is unfinished in this notebook, and return it.

        Ended batches that are older than `Settings.keep_days` are forgotten, unless their answers
        were never looked at or another batch uses them.
        """
        if self._context.settings.keep_days:
            for handle in self.older_than(self._context.settings.keep_days * 86400, only_read=True):
                with contextlib.suppress(UsageProblem):
                    self.forget(handle, confirm=True)
        unfinished = self._store.batches(notebook=self._context.notebook, unfinished=True)
        if unfinished:
            self._context.poller()
        if self._context.identity.is_folder:
            # What another kernel of the folder drives is that kernel's.
            unfinished = [
                batch
                for batch in unfinished
                if not ownership.is_driven_elsewhere(self._store, batch)
            ]
        return [BatchHandle(self._context, batch.id) for batch in unfinished]

    def older_than(
        self, seconds: float, *, everywhere: bool = False, only_read: bool = False
    ) -> list[BatchHandle]:
        """Return the batches that ended, and were last used, before so long; the latest first.

        Parameters
        ----------
        only_read
            Leave out those with answers that nobody has looked at.
        """
        limit = self._context.clock() - seconds
        found = [
            handle
            for handle in self.batches(everywhere=everywhere)
            if (batch := handle.record).finished_at is not None
            and max(batch.finished_at, batch.used_at) < limit
            and not (only_read and self._store.events.is_unread(batch.id))
        ]
        return found[::-1]

    def forget(self, handle: BatchHandle, *, confirm: bool = False) -> None:
        """Delete a batch's local data; what the provider has is not touched.

        Parameters
        ----------
        confirm
            Delete answers that were paid for, too.

        Raises
        ------
        NotConfirmed
            It holds such answers; nothing was deleted.
        UsageProblem
            It is still under way, or a later batch uses its answers.
        """
        batch = handle.record
        if not confirm:
            ownership.check_own(self._context, batch, "forget")
            repaying.check_forget(self._store, [batch])
        self._store.spending.book(
            self._context.accounts.unbooked([batch])
        )  # what it cost stays known
        self._store.forget(batch.id)
        files.remove(self._store.folder_of(batch.id))

    def drafts(self, *, everywhere: bool = False) -> list[Batch]:
        """Return what `add` collected and nobody has sent yet, oldest first.

        Parameters
        ----------
        everywhere
            In all notebooks instead of this one.
        """
        return drafts.listed(self._store, notebook=None if everywhere else self._context.notebook)

    def versions(self, name: str, *, former: bool = False) -> list[Batch]:
        """Return the batches of a name, oldest first.

        With `former` those come first that were journaled under a former name of the notebook.
        """
        found: list[Batch] = []
        for notebook in (
            *(self._context.identity.former if former else ()),
            self._context.notebook,
        ):
            found += self._store.batches(notebook=notebook, name=name)
        return [batch for batch in found if not batch.draft]

    def remember_asked(self, handle: BatchHandle) -> BatchHandle:
        """Remember that this kernel asked for a batch: the name means this one from now on."""
        self._context.asked.pop(handle.id, None)
        self._context.asked[handle.id] = None
        return handle

    # -- questions before something is done --------------------------------------------------------

    def check_own(self, batch: Batch, action: str) -> None:
        """Ask before something is done to a batch that only its folder ties to this kernel."""
        ownership.check_own(self._context, batch, action)

    def check_retry(self, batch: Batch) -> None:
        """Raise `NotConfirmed` if a retry may pay for rows a second time."""
        repaying.check_retry(self._store, batch, self._context.accounts.rules())

    def check_absent(self, batch: Batch) -> None:
        """Raise `NotConfirmed` if sending a lost submission again may pay a second time."""
        repaying.check_absent(self._store, batch, self._context.accounts.rules())

    def check_forget(self, handles: Sequence[BatchHandle]) -> None:
        """Raise `NotConfirmed` if forgetting these batches deletes answers that were paid for."""
        repaying.check_forget(self._store, [handle.record for handle in handles])

    # -- rows --------------------------------------------------------------------------------------

    def row(self, batch: Batch, wanted: str) -> RowView:
        """Return one row with its prompt, request, answer and cost; see `row_view`."""
        return row_view.read(self._store, batch, wanted, self._context.accounts.rules().book)

    def retry_plan(self, batch: Batch) -> RetryPlan:
        """Return what a retry of an ended batch would send."""
        return retry_plan.of(self._store, batch)

    def edition(self, batch: Batch) -> object:
        """Return what changes when a batch has more answers, or they take another shape."""
        try:
            found = (self._store.folder_of(batch.id) / ROWS_FILE).stat()
            rows = found.st_mtime_ns, found.st_ino, found.st_size
        except OSError:
            rows = 0, 0, 0
        packs = [hash(self._store.pack(batch.id, each)) for each in ("outcomes", "owners")]
        return batch.id, batch.shape, rows, self._context.kind_of(batch), packs

    def also_known_as(self, notebook: str) -> None:
        """Take a path that came after the batches had begun as another name of the notebook."""
        self._context.identity = self._context.identity.also(notebook)

    def remember_kind(self, batch: Batch, kind: type) -> None:
        """Remember the class of a batch's schema, found again after a restart."""
        self._context.remember_kind(batch, kind)

    def remember_line(self, batch: Batch, line: str) -> None:
        """Keep the line of a batch's cell as it was last typed."""
        if line != batch.line:
            self._store.decide(batch.id, line=line)
