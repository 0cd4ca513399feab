"""Batches without a notebook: submit, get, wait, results, cancel, retry. Imports no IPython."""

from __future__ import annotations

import atexit
import builtins
import concurrent.futures
import contextlib
import hashlib
import keyword
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

import msgspec

from ..core import identity, ids, option_table
from ..core.batch import Batch
from ..core.errors import LLMBatchError, NotConfirmed, NotFound, ProviderError, UsageProblem
from ..core.identity import Identity
from ..core.policy import Policy
from ..core.request import Mode
from ..core.secret import HiddenDict
from ..core.settings import Settings
from ..core.snapshot import Snapshot
from ..core.text import local_time, many, moment
from ..costs.advice import Advice, Call
from ..costs.comparison import Comparison
from ..costs.ledger import Ledger
from ..engine import lookup
from ..engine.background import Background, NoThread
from ..engine.poller import Poller
from ..providers import registry
from ..providers.base import Adapter
from ..providers.shared import addresses
from ..providers.shared.addresses import is_loopback
from ..storage import files, input_file, process, trust
from ..storage.store import Store
from ..submission import adopt as adopting
from ..submission import confirm as consent
from ..submission import drafts, find, notify_target, read_options, repaying, spec
from ..submission import plan as submission
from ..submission import preview as previewing
from ..submission.lanes import Lanes
from ..submission.options import Options
from ..submission.preview import Preview
from ..submission.reuse import Earlier
from . import exit_message
from .handle import BatchHandle
from .keys import Chain
from .money import Accounts

#: One background thread serves every client of the process.
BACKGROUND = Background()

#: Variables that choose account and server; when one changes, adapters are made anew.
_SDKS = ("OPENAI_", "AZURE_", "ANTHROPIC_", "GEMINI_", "GOOGLE_")


#: Names that IPython keeps for itself, besides those that begin with an underscore.
_SHELL = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open", "display"})


def _server(name: str, url: str) -> str:
    return f"server {name} {url}"


def _is_own(name: str, url: str) -> bool:
    """Whether a server of the journal may get a key: it is of this machine, or was set on it."""
    return is_loopback(url) or trust.knows(_server(name, url))


def check_name(name: str) -> None:
    """Raise `UsageProblem` unless `name` can be a variable of the user's own."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageProblem(f"{name!r} cannot be a batch's name: it must be a variable name")
    if name != (read := unicodedata.normalize("NFKC", name)):
        # Under the name as it was typed nobody could reach the answers, and two spellings that
        # look alike would be two batches, both paid for.
        raise UsageProblem(
            f"Write {read!r} instead of {name!r}: Python reads the name so, and nothing was sent "
            "(the two may look alike; copy the first)"
        )
    if name in _SHELL or re.fullmatch(r"_+|_i*|_i?\d+|_[iod]h|__.*", name):
        raise UsageProblem(f"Choose another name: {name!r} is one of IPython's own")
    if hasattr(builtins, name):
        raise UsageProblem(f"Choose another name: {name!r} is a Python built-in")


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
        self.keys = Chain(environ)
        self.environ = self.keys.environ
        self.settings = settings or Settings()
        named = isinstance(notebook, str) and notebook
        whose = Identity(identity.storable_name(str(notebook))) if named else notebook
        self.identity = whose if isinstance(whose, Identity) else identity.current_notebook()
        self.notebook = self.identity.name
        #: Batches that this kernel has asked for, by id, the latest last.
        self.asked: dict[str, None] = {}
        self.simulated = simulated
        self.background = BACKGROUND
        self.closed = False
        self._clock = clock
        base = folder or self.settings.folder()
        self.store = Store(base / "simulated" if simulated else base, clock, simulated=simulated)
        self._policy = policy
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._adapters: dict[str, tuple[int, Adapter]] = {}
        self._servers: dict[str, str] | None = None
        self._named: dict[str, str] = {}  # servers of this session's cells, not journaled yet
        self._kinds: dict[tuple[str, str], Any] = {}
        self._joined: dict[str, str] = {}  # drafts with cells of this kernel, by name
        self._poller: Poller | None = None
        self._running: concurrent.futures.Future[None] | None = None
        self._lock = threading.Lock()
        self.accounts = Accounts(
            self.store, lambda: self.settings, self.notebook, simulated=simulated
        )
        atexit.register(self._leave)

    # -- submitting --------------------------------------------------------------------------------

    @property
    def servers(self) -> dict[str, str]:
        """OpenAI-compatible servers by name: of the settings, and those that cells named."""
        if self._servers is None:
            journaled = self.store.servers().items()
            self._servers = {name: url for name, url in journaled if _is_own(name, url)}
        return {**self._servers, **self._named, **self.settings.servers}

    def _ask(self, text: str | None, name: str, options: Options) -> spec.Ask:
        if url := options.get("base_url"):
            server = registry.server_name(url)
            self._named[server] = url
            model = options.get("model") or ""
            if not model:
                raise UsageProblem("--base-url needs --model: the server's name of the model")
            options = {**options, "model": f"{server}:{model.removeprefix(f'{server}:')}"}
        ask = read_options.ask(text, name, options, self.settings, self.servers)
        if notify_target.is_command(ask.notify):
            trust.remember(ask.notify)  # the user's own words, unlike those in a journal
        return ask

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
        check_name(name)
        return self._start(self._ask(text, name, options), options, new)

    def preview(
        self, text: str | None = None, *, name: str, count: int = 0, **options: Unpack[Options]
    ) -> Preview:
        """Render and split like `submit`, but write and send nothing, as ``--dry-run`` does.

        Parameters
        ----------
        count
            Have the providers count the tokens of so many rows, at no cost (``--count``).
        """
        ask = self._ask(text, name, options)
        plan = self._plan(ask, options, dry=True)
        found = previewing.of(
            plan,
            ask,
            self.store,
            self.accounts.rules(),
            note="; ".join(filter(None, self._mind(ask, plan))),
            reusing=bool(ask.reuse),
        )
        if count and found.samples:
            counted = previewing.count(found, count, self.adapter, self.background.call)
            found = msgspec.structs.replace(found, counted=counted)
        return found

    def _mind(self, ask: spec.Ask, plan: spec.Plan) -> Iterator[str]:
        """Yield what somebody should know before a plan is sent."""
        yield ask.note
        yield consent.elsewhere(self.store, plan)
        if plan.same_as is None:
            yield consent.misspelt(plan.batch.models)

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
        check_name(name)
        if options.get("random") or options.get("resubmit"):
            raise UsageProblem(
                "--random chooses among the rows of one cell, and --resubmit goes with `%llm_batch "
                f"submit {name}`: leave them out of --add"
            )
        ask = self._ask(text, name, options)
        for each in ask.reuse:
            find.by_name(self.store, each, self.notebook)
        if ask.model:
            self._lanes(ask).of(ask.model)  # the cell that errs is told
            self._keep_servers([ask.model])
        if ask.kind is not None:
            self._kinds[name, ask.recipe.schema_name] = ask.kind
        fit = key if key.isalnum() else cell_key(key) if key else ""
        # Forgotten if this fails: the message says to run all cells again, from the first on.
        joined = self._joined.pop(name, "")
        added = drafts.add(
            self.store, ask, key=fit, notebook=self.notebook, now=self._clock(),
            simulated=self.simulated, servers=self.servers, joined=joined,
        )  # fmt: skip
        self._joined[name] = added.draft_id
        return added.cells

    def drafts(self, *, everywhere: bool = False) -> list[Batch]:
        """Return what `add` collected and nobody has sent yet, oldest first.

        Parameters
        ----------
        everywhere
            In all notebooks instead of this one.
        """
        return drafts.listed(self.store, notebook=None if everywhere else self.notebook)

    def drop_draft(self, name: str) -> bool:
        """Delete what `add` collected under `name`; False when there is nothing."""
        self._joined.pop(name, None)
        return drafts.drop(self.store, notebook=self.notebook, name=name)

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
        held = [each for each in self._versions(name) if each.held and each.finished_at is None]
        if held:
            return self._asked(BatchHandle(self, held[-1].id)).send_rest()
        try:
            collected = drafts.collected(self.store, notebook=self.notebook, name=name)
        except NotFound:
            self._joined.pop(name, None)
            sent = [
                each
                for each in self._versions(name)
                if each.finished_at is None or self._had_sample(each)
            ]
            if not sent:
                raise
            handle = self._asked(BatchHandle(self, sent[-1].id, attached=True))
            handle.lasting = "nothing is left to send: all of it was sent already"
            return handle
        ask = collected.ask
        if max_cost is not None:
            ask = msgspec.structs.replace(ask, max_cost=max_cost)
        handle = self._start(ask, {"resubmit": resubmit, "confirm": confirm}, new)
        self._joined.pop(name, None)
        if not drafts.sent(self.store, collected):
            more = f"cells collected meanwhile wait: `%llm_batch submit {name}` sends them"
            handle.lasting = "; ".join(filter(None, (handle.lasting, more)))
        return handle

    def _had_sample(self, batch: Batch) -> bool:
        """Whether the rest of a batch was sent by `submit_draft`, after a look at its sample."""
        first = [job for job in self.store.jobs(batch.id) if job.round == 0]
        return len(first) > 1 and first[0].mode is Mode.REALTIME

    def kind_of(self, batch: Batch) -> Any:
        """Return the class that a batch's schema was given as, if this process knows it."""
        return self._kinds.get((batch.name, batch.recipe.schema_name))

    def know_kind(self, batch: Batch, kind: Any) -> None:
        """Remember the class of a batch's schema, found again after a restart."""
        self._kinds.setdefault((batch.name, batch.recipe.schema_name), kind)

    def _lanes(self, ask: spec.Ask) -> Lanes:
        """Return how the models of `ask` are asked; whoever submits may be asked for a key."""
        return read_options.lanes(ask, lambda name: self.adapter(name, ask=True), self.servers)

    def _plan(self, ask: spec.Ask, options: Options, *, dry: bool = False) -> spec.Plan:
        versions = self._versions(ask.name)
        same_name = [] if options.get("resubmit") else self._versions(ask.name, former=True)
        others = [
            batch for name in ask.reuse for batch in find.by_name(self.store, name, self.notebook)
        ]
        return submission.plan(
            self.store,
            ask,
            self._lanes(ask),
            notebook=self.notebook,
            now=self._clock(),
            simulated=self.simulated,
            earlier=Earlier(self.store, [*same_name, *others]),
            versions=same_name,
            latest=max((each.version for each in versions), default=0),
            dry=dry,
        )

    def _start(self, ask: spec.Ask, options: Options, new: Callable[[], object]) -> BatchHandle:
        if ask.kind is not None:
            self._kinds[ask.name, ask.recipe.schema_name] = ask.kind
        versions = self._versions(ask.name, former=True)
        confirmed = options.get("resubmit", False) or options.get("confirm", False)
        if not versions and not confirmed:
            consent.check_name(self.store, ask.name)
        plan = self._plan(ask, options)
        if plan.same_as is not None:
            return self._attach(plan.same_as, ask)
        try:
            if plan.jobs and not confirmed:
                consent.check_models(plan.batch.models, versions)
                consent.check_rows(self.store, plan, versions, self.accounts.rules())
            new()
            self._keep_servers(plan.batch.models)
            batch = self.store.add_batch(
                plan.batch, plan.jobs, plan.packs, after=plan.batch.version - 1,
                reserve=self.accounts.promise(plan.batch),
            )  # fmt: skip
        except BaseException:
            files.remove(self.store.folder_of(plan.batch.id))
            raise
        self.accounts.keep_prices()
        delay = ""
        try:
            self.background.soon(self.poller().follow, batch.id)
        except NoThread as problem:
            delay = str(problem)
        handle = self._asked(BatchHandle(self, batch.id))
        handle.lasting = "; ".join(consent.notices(self.store, plan, ask))
        older = [] if options.get("resubmit") else self._versions(ask.name)[:-1]
        news = consent.passing(self.store, plan, older, self.is_driven_elsewhere)
        handle.passing = "; ".join(filter(None, (delay, *news)))
        return handle

    def _keep_servers(self, models: Iterable[str]) -> None:
        """Journal the servers that are used: their batches go on after a restart, and in a shell.

        Neither runs the cells, and a shell does not read the profile that named them.
        """
        named = {**self._named, **self.settings.servers}
        for server in {model.partition(":")[0] for model in models} & named.keys():
            self.store.add_server(server, named[server])
            if not is_loopback(named[server]):
                trust.remember(_server(server, named[server]))

    def _attach(self, batch: Batch, ask: spec.Ask) -> BatchHandle:
        """Take up an earlier batch that asked for exactly this: nothing is sent or paid."""
        if ask.rows is not None:
            # The same requests, but perhaps other columns, another index or another --as.
            input_file.write_rows(ask.rows, files.private_folder(self.store.folder_of(batch.id)))
        self.store.use_again(batch.id, shape=ask.shape, **option_table.renewed(batch, ask))
        handle = self._asked(BatchHandle(self, batch.id, attached=True))
        when = moment(batch.created_at, self._clock())
        cancelling = batch.cancel_requested and batch.finished_at is None
        what = "which is being cancelled" if cancelling else "no new cost"
        handle.lasting = f"attached to the batch of {when}, {what}; --resubmit pays again"
        if batch.finished_at is None:
            self.background.soon(self.poller().take_up, batch.id)
        elif handle.snapshot().retryable:
            handle.lasting += f"; `%llm_batch retry {batch.title}` sends rows without an answer"
        return handle

    def _versions(self, name: str, *, former: bool = False) -> list[Batch]:
        """Return the batches of a name, oldest first.

        With `former` those come first that were journaled under a former name of the notebook.
        """
        found: list[Batch] = []
        for notebook in (*(self.identity.former if former else ()), self.notebook):
            found += self.store.batches(notebook=notebook, name=name)
        return [batch for batch in found if not batch.draft]

    def _asked(self, handle: BatchHandle) -> BatchHandle:
        """Remember that this kernel asked for a batch: the name means this one from now on."""
        self.asked.pop(handle.id, None)
        self.asked[handle.id] = None
        return handle

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
        check_name(name)
        provider, _, remote_id = remote.partition(":")
        if not remote_id or provider not in registry.names(self.servers):
            known = ", ".join(f"{each}:ID" for each in registry.names(self.servers))
            raise UsageProblem(f"{remote!r} names no provider's batch: write one of {known}")
        adapter = self.adapter(provider, ask=True)
        adapter.check_key()
        self.store.remote_jobs.check_unknown(provider, remote_id)
        try:
            found = self.background.call(adapter.retrieve(remote_id)).result()
        except ProviderError as error:
            raise UsageProblem(f"cannot adopt {remote}: {error}") from None
        # Ours, though its id never arrived: it is about to be found.
        ours = self.store.batch_of(lookup.owner(found.label))
        if ours is not None:
            raise UsageProblem(
                f"{remote} is what {ours.title} sent: `%llm_batch status {ours.title}`"
            )
        batch, job = adopting.records(
            found, provider, name=name, notebook=self.notebook, now=self._clock(),
            simulated=self.simulated,
        )  # fmt: skip
        job = msgspec.structs.replace(job, account=adapter.account(self.store.salt()))
        files.private_folder(self.store.folder_of(batch.id))
        batch = self.store.add_batch(
            batch, [(job, ids.Ranges([(0, batch.rows)]))], adopting.packs(batch.rows)
        )
        self.background.soon(self.poller().follow, batch.id)
        return self._asked(BatchHandle(self, batch.id))

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
        try:
            batch = find.resolve(self.store, name, self.identity, self.asked)
        except NotFound as problem:
            simulated = self.simulated_batches()
            raise NotFound("; ".join(filter(None, (str(problem), simulated)))) from None
        if batch.finished_at is None:
            # Whoever asks for a batch may be asked for its key, unlike the background.
            for provider in {job.provider for job in self.store.jobs(batch.id)}:
                self.keys.variables(addresses.key_variables(provider), ask=True)
        return BatchHandle(self, batch.id)

    def simulated_batches(self) -> str:
        """Say how simulated batches are found, where there are any that this client leaves out."""
        if self.simulated or not (self.store.folder / "simulated").exists():
            return ""
        return "simulated batches are found after `%llm_batch simulator`"

    def batches(self, *, everywhere: bool = False) -> list[BatchHandle]:
        """Return the batches of this notebook (or of all notebooks), oldest first."""
        found = self.store.batches(notebook=None if everywhere else self.notebook)
        return [BatchHandle(self, batch.id) for batch in found if not batch.draft]

    def resume(self) -> list[BatchHandle]:
        """Go on with what is unfinished in this notebook, and return it.

        Ended batches that are older than `Settings.keep_days` are forgotten, unless their answers
        were never looked at or another batch uses them.
        """
        if self.settings.keep_days:
            for handle in self.older_than(self.settings.keep_days * 86400, only_read=True):
                with contextlib.suppress(UsageProblem):
                    self.forget(handle, confirm=True)
        unfinished = self.store.batches(notebook=self.notebook, unfinished=True)
        if unfinished:
            self.poller()
        if self.identity.is_folder:
            # What another kernel of the folder drives is that kernel's.
            unfinished = [batch for batch in unfinished if not self.is_driven_elsewhere(batch)]
        return [BatchHandle(self, batch.id) for batch in unfinished]

    def is_driven_elsewhere(self, batch: Batch) -> bool:
        """Whether another living process drives a batch."""
        driver, here = self.store.leases.driver(batch.id), process.me()
        return driver is not None and (driver.host, driver.pid) != (here.host, here.pid)

    def check_own(self, batch: Batch, deed: str) -> None:
        """Ask before something is done to a batch that only its folder ties to this kernel.

        Raises
        ------
        NotConfirmed
            This kernel did not ask for it, and nothing says that its notebook is this one.
        """
        if not self.identity.is_folder or batch.id in self.asked:
            return
        at = local_time(batch.created_at, "%d %b %H:%M")
        elsewhere = ", and another kernel drives it" if self.is_driven_elsewhere(batch) else ""
        raise NotConfirmed(
            f"{batch.exact} was not sent by this kernel: it is the batch of {at} in "
            f"{batch.notebook}, {many(batch.rows, 'row')} to {', '.join(batch.models)}{elsewhere}",
            yes=f"{deed} it",
            done="done",
        )

    def older_than(
        self, seconds: float, *, everywhere: bool = False, only_read: bool = False
    ) -> list[BatchHandle]:
        """Return the batches that ended, and were last used, before so long; the latest first.

        Parameters
        ----------
        only_read
            Leave out those with answers that nobody has looked at.
        """
        limit = self._clock() - seconds
        found = [
            handle
            for handle in self.batches(everywhere=everywhere)
            if (batch := handle.record).finished_at is not None
            and max(batch.finished_at, batch.used_at) < limit
            and not (only_read and self.store.events.is_unread(batch.id))
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
            self.check_own(batch, "forget")
            repaying.check_forget(self.store, [batch])
        self.store.spending.book(self.accounts.unbooked([batch]))  # what it cost stays known
        self.store.forget(batch.id)
        files.remove(self.store.folder_of(batch.id))

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
        lines = self.accounts.lines(name)
        if name and not lines:
            self.get(name)  # says so when there is none
        return Ledger(lines, simulated=self.simulated)

    def compare(self, left: str, right: str) -> Comparison:
        """Compare two batches over the same rows: agreement, differences, and what each cost.

        A batch of fewer rows, such as one of a sample, is compared with the first rows of the
        other, and that is said; so are prompts that differ. Of a batch that waits for your word on
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
        return self.accounts.compare(self.get(left), self.get(right))

    def advise(self, calls: Iterable[Call] | None = None) -> list[Advice]:
        """Return what would have been cheaper, from this user's own figures.

        Parameters
        ----------
        calls
            Calls in real time; those that `track` has seen by default.
        """
        return self.accounts.advise(calls)

    # -- the background ----------------------------------------------------------------------------

    def listen(self, listener: Callable[[Snapshot], None]) -> None:
        """Have `listener` called, on the background thread, with every new snapshot."""
        self._listeners.append(listener)

    def _tell(self, snapshot: Snapshot) -> None:
        for listener in self._listeners:
            listener(snapshot)

    def adapter(self, name: str, *, ask: bool = False) -> Adapter:
        """Return the adapter of a provider under the present keys and base URLs.

        Parameters
        ----------
        ask
            The user has just asked for this provider; see `Keys.find`.
        """
        environ = self.keys.variables(addresses.key_variables(name), ask=ask)
        servers = self.servers
        own = addresses.key_variables(name)[0].removesuffix("API_KEY")
        account = HiddenDict({k: environ[k] for k in environ if k.startswith((*_SDKS, own))})
        present = hash((tuple(account.items()), servers.get(name)))
        known = self._adapters.get(name)
        if known is None or known[0] != present:
            made = registry.make(name, environ, servers, simulated=self.simulated)
            known = (present, made)
            self._adapters[name] = known
        return known[1]

    def poller(self) -> Poller:
        """Return the poller, starting it when it is needed for the first time."""
        with self._lock:
            if self._poller is None:
                policy = self._policy or Policy(
                    poll=self.settings.poll_seconds, at_once=self.settings.at_once
                )
                self._poller = Poller(
                    self.store,
                    self.adapter,
                    policy=policy,
                    clock=self._clock,
                    notebook=self.notebook,
                    listen=self._tell,
                    breathe=self.background.breathe,
                    rules=self.accounts.rules_in_use,
                )
            if self._running is None:
                with contextlib.suppress(NoThread):  # tried again whenever somebody comes by
                    self._running = self.background.call(self._poller.run())
            return self._poller

    def start_again(self) -> None:
        """Have batches driven for which no thread could be started before."""
        if self._poller is not None and self._running is None:
            self.poller()

    def wake(self) -> None:
        """Have everything looked at now, if anything is driven at all."""
        if self._poller is not None:
            self.background.soon(self._poller.wake)

    def _leave(self) -> None:
        """Say, as the interpreter ends, what goes on without it; a kernel's panels say it."""
        with contextlib.suppress(Exception):
            if self._poller is not None and "ipykernel" not in sys.modules:
                for line in exit_message.words(self.store, self.notebook):
                    print(line, file=sys.stderr)  # noqa: T201 - the last word of a script
        self.close()

    def again(self) -> Client:
        """Return a client like this one, which was closed."""
        client = Client(
            environ=self.environ if self.keys.closed else None,
            folder=self.store.folder.parent if self.simulated else self.store.folder,
            notebook=self.identity,
            settings=self.settings,
            simulated=self.simulated,
            policy=self._policy,
            clock=self._clock,
        )
        client.asked = self.asked
        return client

    def close(self) -> None:
        """Stop driving; batches go on at the provider and are taken up again later."""
        atexit.unregister(self._leave)
        self.closed = True
        if self.store.forked:
            return  # a child leaves to its parent what is its parent's
        poller, self._poller = self._poller, None
        if poller is not None:
            with contextlib.suppress(LLMBatchError, concurrent.futures.TimeoutError, RuntimeError):
                self.background.call(poller.stop()).result(5.0)
            if self._running is not None:
                with contextlib.suppress(Exception):
                    self._running.result(2.0)
        for _, adapter in self._adapters.values():
            with contextlib.suppress(Exception):
                self.background.call(adapter.close()).result(2.0)
        self._adapters.clear()
        self.store.close()


def cell_key(*parts: str) -> str:
    """Return a key for a collected cell where the front end gives no cell id."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
