"""Batches without a notebook: submit, get, wait, results, cancel, retry. Imports no IPython."""

from __future__ import annotations

import atexit
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Unpack

from ..core import identity
from ..core.batch import Batch
from ..core.identity import Identity
from ..core.policy import Policy
from ..core.settings import Settings
from ..costs.advice import Advice, Call
from ..costs.comparison import Comparison
from ..costs.ledger import Ledger
from ..engine.poller import Poller
from ..providers.base import Adapter
from ..storage.store import Store
from ..submission.options import Options
from ..submission.preview import Preview
from . import adopting, compare, exit_message
from .context import Context
from .handle import BatchHandle
from .journal import Journal
from .keys import Chain
from .library import Library
from .provider_checks import ProviderChecks
from .submitting import Submitter
from .watching import Watching


class Client:
    """Everything about the batches of one notebook in one journal.

    Parameters
    ----------
    environ
        Keys and base URLs, under the SDKs' own names; by default ``os.environ``, and keys that are
        not in it from where `keys` finds them.
    folder
        The journal's folder; by default `Settings.folder`.
    notebook
        Whose batches these are; see `identity`.
    simulated
        The server is a simulator; kept apart in a journal of its own and marked everywhere.
    policy
        How long to wait; by default as `Settings.poll_seconds` says.

    Attributes
    ----------
    context
        What the client shares with its batches.
    library
        What is kept of batches, and what may be done with it.
    journal
        The journal: where it is, what it holds, what was lost.
    watching
        How batches stand, and what is new of them.
    provider_checks
        Whether providers can be used.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        notebook: str | Identity | None = None,
        settings: Settings | None = None,
        simulated: bool = False,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        keys, settings = Chain(environ), settings or Settings()
        named = isinstance(notebook, str) and notebook
        whose = Identity(identity.storable_name(str(notebook))) if named else notebook
        base = folder or settings.folder()
        self.context = Context(
            Store(base / "simulated" if simulated else base, clock, simulated=simulated),
            keys,
            settings=settings,
            identity=whose if isinstance(whose, Identity) else identity.current_notebook(),
            simulated=simulated,
            policy=policy,
            clock=clock,
        )
        self.keys = keys
        self.environ = keys.environ
        self.store = self.context.store
        self.notebook = self.context.notebook
        self.simulated = simulated
        self.library = Library(self.context)
        self.journal = Journal(self.store)
        self.watching = Watching(self.context)
        self.provider_checks = ProviderChecks(self.context)
        self._submitter = Submitter(self.context, self.library)
        atexit.register(self._leave)

    @property
    def settings(self) -> Settings:
        """The user's settings."""
        return self.context.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.context.settings = settings

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self.context.closed

    # -- submitting --------------------------------------------------------------------------------

    def submit(
        self, text: str | None = None, *, name: str, **options: Unpack[Options]
    ) -> BatchHandle:
        """Plan a batch durably, start sending it in the background, and return at once.

        The same prompts under the same name are never sent twice: an equal batch is attached to,
        and of a changed one only the rows without a paid answer are sent.

        Parameters
        ----------
        text
            Jinja2 template of the prompt; None when `over` holds finished prompts.
        name
            Name of the batch, a Python identifier.
        **options
            ``over``, ``model`` and the others that `asking.Options` describes.

        Raises
        ------
        UsageProblem
            Something must be changed first; nothing was sent.
        """
        return self.begin(text, name, options)

    def begin(
        self,
        text: str | None,
        name: str,
        options: Options,
        *,
        new: Callable[[], object] = lambda: None,
    ) -> BatchHandle:
        """Submit as `submit` does.

        Parameters
        ----------
        new
            Called before a batch is journaled that is not an earlier one; what it raises leaves
            nothing written or sent.
        """
        return self._submitter.begin(text, name, options, new=new)

    def preview(
        self, text: str | None = None, *, name: str, count: int = 0, **options: Unpack[Options]
    ) -> Preview:
        """Render and split like `submit`, but write and send nothing, as ``--dry-run`` does.

        Parameters
        ----------
        count
            Have the providers count the tokens of so many rows, at no cost (``--count``).
        """
        return self._submitter.preview(text, name, options, count=count)

    def add(
        self, text: str | None = None, *, name: str, key: str = "", **options: Unpack[Options]
    ) -> int:
        """Collect a cell for a later `submit_draft`, as ``--add`` does.

        Parameters
        ----------
        key
            Tells this part from the others: the same key replaces its own part. Without one, what
            is collected twice with equal contents counts once.

        Returns
        -------
        int
            How many cells are collected.
        """
        return self._submitter.add(text, name, options, key=key)

    def drafts(self, *, everywhere: bool = False) -> list[Batch]:
        """Return what `add` collected and nobody has sent yet, oldest first.

        Parameters
        ----------
        everywhere
            In all notebooks instead of this one.
        """
        return self.library.drafts(everywhere=everywhere)

    def drop_draft(self, name: str) -> bool:
        """Delete what `add` collected under `name`; False when there is nothing."""
        return self._submitter.drop_draft(name)

    def submit_draft(
        self,
        name: str,
        *,
        resubmit: bool = False,
        confirm: bool = False,
        max_cost: float | None = None,
        new: Callable[[], object] = lambda: None,
    ) -> BatchHandle:
        """Send what `add` collected under `name`, or what waits for a look at its sample.

        See `begin` for `new`.
        """
        return self._submitter.submit_draft(
            name, resubmit=resubmit, confirm=confirm, max_cost=max_cost, new=new
        )

    def adopt(self, remote: str, name: str) -> BatchHandle:
        """Take over a batch that a script or another machine created.

        Its answers come as a dict by custom_id, in natural order.

        Parameters
        ----------
        remote
            ``provider:id``, for instance ``openai:batch_abc``.
        name
            Name of the batch here, a Python identifier.

        Raises
        ------
        UsageProblem
            The provider has no such batch, or it is known here already.
        """
        batch_id = adopting.adopt(self.context, remote, name)
        return self.library.remember_asked(BatchHandle(self.context, batch_id))

    # -- finding -----------------------------------------------------------------------------------

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
        return self.library.get(name)

    def batches(self, *, everywhere: bool = False) -> list[BatchHandle]:
        """Return the batches of this notebook (or of all notebooks), oldest first."""
        return self.library.batches(everywhere=everywhere)

    def resume(self) -> list[BatchHandle]:
        """Go on with what is unfinished in this notebook, and return it.

        Ended batches that are older than `Settings.keep_days` are forgotten, unless their answers
        were never looked at or another batch uses them.
        """
        return self.library.resume()

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
        self.library.forget(handle, confirm=confirm)

    # -- money -------------------------------------------------------------------------------------

    def cost(self, name: str = "") -> Ledger:
        """Return what was spent and saved, by batches that were forgotten too.

        Parameters
        ----------
        name
            Only this batch of this notebook, in all its versions or one (``name#2``); all batches
            of all notebooks of this user by default.

        Raises
        ------
        NotFound
            The ledger has no batch of that name.
        """
        lines = self.context.accounts.lines(name)
        if name and not lines:
            self.get(name)  # says so when there is none
        return Ledger(lines, simulated=self.simulated)

    def compare(self, left: str, right: str) -> Comparison:
        """Compare two batches over the same rows: agreement, differences, and what each cost.

        A batch of fewer rows, such as one of a sample, is compared with the first rows of the
        other, and that is said; so are prompts that differ. Of a batch that waits for your OK on
        its sample the rows of the sample are compared.

        Parameters
        ----------
        left, right
            ``name``, ``name#2`` or ``NOTEBOOK::name``.

        Raises
        ------
        NotFound, NotReady
            There is no such batch, or it is under way.
        UsageProblem
            They hold vectors of different models.
        """
        return compare.compare(self.context, self.get(left), self.get(right))

    def advise(self, calls: Iterable[Call] | None = None) -> list[Advice]:
        """Return what would have been cheaper, from this user's own figures.

        Parameters
        ----------
        calls
            Calls in real time; those that `track` has seen by default.
        """
        return self.context.accounts.advise(calls)

    # -- the background ----------------------------------------------------------------------------

    def adapter(self, name: str, *, ask: bool = False) -> Adapter:
        """Return the adapter of a provider under the present keys and base URLs.

        Parameters
        ----------
        ask
            The user has just asked for this provider; see `Keys.find`.
        """
        return self.context.adapter(name, ask=ask)

    def poller(self) -> Poller:
        """Return the poller, starting it when it is needed for the first time."""
        return self.context.poller()

    def _leave(self) -> None:
        """Say, as the interpreter ends, what goes on without it; a kernel's panels say it."""
        with contextlib.suppress(Exception):
            if self.context.is_driving and "ipykernel" not in sys.modules:
                for line in exit_message.words(self.store, self.notebook):
                    print(line, file=sys.stderr)  # noqa: T201 - the last word of a script
        self.close()

    def again(self) -> Client:
        """Return a client like this one, which was closed."""
        client = Client(
            environ=self.environ if self.keys.closed else None,
            folder=self.store.folder.parent if self.simulated else self.store.folder,
            notebook=self.context.identity,
            settings=self.settings,
            simulated=self.simulated,
            policy=self.context.policy,
            clock=self.context.clock,
        )
        client.context.asked = self.context.asked
        return client

    def close(self) -> None:
        """Stop driving; batches go on at the provider and are taken up again later."""
        atexit.unregister(self._leave)
        self.context.close()
