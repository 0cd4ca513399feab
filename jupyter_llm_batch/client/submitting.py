"""Submit, preview and collect: from the options of a cell to a batch that is being sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from ..core import option_table
from ..core.batch import Batch
from ..core.errors import NotFound, UsageProblem
from ..core.request import Mode
from ..core.text import moment
from ..engine.background import NoThread
from ..storage import files, input_file, trust
from ..submission import confirm as consent
from ..submission import drafts, find, notify_target, read_options, spec
from ..submission import plan as submission
from ..submission import preview as previewing
from ..submission.lanes import Lanes
from ..submission.options import Options
from ..submission.preview import Preview
from ..submission.reuse import Earlier
from . import ownership
from .context import Context
from .handle import BatchHandle
from .library import Library
from .names import cell_key, check_name


class Submitter:
    """Plans and starts the batches of one client."""

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._store = context.store
        self._library = library
        self._joined: dict[str, str] = {}  # drafts with cells of this kernel, by name

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

    def preview(self, text: str | None, name: str, options: Options, *, count: int = 0) -> Preview:
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
            self._store,
            self._context.accounts.rules(),
            note="; ".join(filter(None, self._mind(ask, plan))),
            reusing=bool(ask.reuse),
        )
        if count and found.samples:
            call = self._context.background.call
            counted = previewing.count(found, count, self._context.adapter, call)
            found = msgspec.structs.replace(found, counted=counted)
        return found

    def add(self, text: str | None, name: str, options: Options, *, key: str = "") -> int:
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
            find.by_name(self._store, each, self._context.notebook)
        if ask.model:
            self._lanes(ask).of(ask.model)  # the cell that errs is told
            self._context.servers.keep([ask.model])
        if ask.kind is not None:
            self._context.kinds[name, ask.recipe.schema_name] = ask.kind
        fit = key if key.isalnum() else cell_key(key) if key else ""
        # Forgotten if this fails: the message says to run all cells again, from the first on.
        joined = self._joined.pop(name, "")
        added = drafts.add(
            self._store, ask, key=fit, notebook=self._context.notebook, now=self._context.clock(),
            simulated=self._context.simulated, servers=self._context.servers.all(), joined=joined,
        )  # fmt: skip
        self._joined[name] = added.draft_id
        return added.cells

    def drop_draft(self, name: str) -> bool:
        """Delete what `add` collected under `name`; False when there is nothing."""
        self._joined.pop(name, None)
        return drafts.drop(self._store, notebook=self._context.notebook, name=name)

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
        versions = self._library.versions(name)
        held = [each for each in versions if each.held and each.finished_at is None]
        if held:
            return self._handle(held[-1]).send_rest()
        try:
            notebook = self._context.notebook
            collected = drafts.collected(self._store, notebook=notebook, name=name)
        except NotFound:
            self._joined.pop(name, None)
            sent = [each for each in versions if each.finished_at is None or self._had_sample(each)]
            if not sent:
                raise
            handle = self._handle(sent[-1], attached=True)
            handle.lasting = "nothing is left to send: all of it was sent already"
            return handle
        ask = collected.ask
        if max_cost is not None:
            ask = msgspec.structs.replace(ask, max_cost=max_cost)
        handle = self._start(ask, {"resubmit": resubmit, "confirm": confirm}, new)
        self._joined.pop(name, None)
        if not drafts.sent(self._store, collected):
            more = f"cells collected meanwhile wait: `%llm_batch submit {name}` sends them"
            handle.lasting = "; ".join(filter(None, (handle.lasting, more)))
        return handle

    def _had_sample(self, batch: Batch) -> bool:
        """Whether the rest of a batch was sent by `submit_draft`, after a look at its sample."""
        first = [job for job in self._store.jobs(batch.id) if job.round == 0]
        return len(first) > 1 and first[0].mode is Mode.REALTIME

    def _ask(self, text: str | None, name: str, options: Options) -> spec.Ask:
        if url := options.get("base_url"):
            server = self._context.servers.name(url)
            model = options.get("model") or ""
            if not model:
                raise UsageProblem("--base-url needs --model: the server's name of the model")
            options = {**options, "model": f"{server}:{model.removeprefix(f'{server}:')}"}
        context = self._context
        ask = read_options.ask(text, name, options, context.settings, context.servers.all())
        if notify_target.is_command(ask.notify):
            trust.remember(ask.notify)  # the user's own words, unlike those in a journal
        return ask

    def _mind(self, ask: spec.Ask, plan: spec.Plan) -> Iterator[str]:
        """Yield what somebody should know before a plan is sent."""
        yield ask.note
        yield consent.elsewhere(self._store, plan)
        if plan.same_as is None:
            yield consent.misspelt(plan.batch.models)

    def _lanes(self, ask: spec.Ask) -> Lanes:
        """Return how the models of `ask` are asked; whoever submits may be asked for a key."""
        context = self._context
        return read_options.lanes(
            ask, lambda name: context.adapter(name, ask=True), context.servers.all()
        )

    def _plan(self, ask: spec.Ask, options: Options, *, dry: bool = False) -> spec.Plan:
        versions = self._library.versions(ask.name)
        same_name = [] if options.get("resubmit") else self._library.versions(ask.name, former=True)
        others = [
            batch
            for name in ask.reuse
            for batch in find.by_name(self._store, name, self._context.notebook)
        ]
        return submission.plan(
            self._store,
            ask,
            self._lanes(ask),
            notebook=self._context.notebook,
            now=self._context.clock(),
            simulated=self._context.simulated,
            earlier=Earlier(self._store, [*same_name, *others]),
            versions=same_name,
            latest=max((each.version for each in versions), default=0),
            dry=dry,
        )

    def _start(self, ask: spec.Ask, options: Options, new: Callable[[], object]) -> BatchHandle:
        if ask.kind is not None:
            self._context.kinds[ask.name, ask.recipe.schema_name] = ask.kind
        versions = self._library.versions(ask.name, former=True)
        confirmed = options.get("resubmit", False) or options.get("confirm", False)
        if not versions and not confirmed:
            consent.check_name(self._store, ask.name)
        plan = self._plan(ask, options)
        if plan.same_as is not None:
            return self._attach(plan.same_as, ask)
        try:
            if plan.jobs and not confirmed:
                consent.check_models(plan.batch.models, versions)
                consent.check_rows(self._store, plan, versions, self._context.accounts.rules())
            new()
            self._context.servers.keep(plan.batch.models)
            batch = self._store.add_batch(
                plan.batch, plan.jobs, plan.packs, after=plan.batch.version - 1,
                reserve=self._context.accounts.promise(plan.batch),
            )  # fmt: skip
        except BaseException:
            files.remove(self._store.folder_of(plan.batch.id))
            raise
        self._context.accounts.keep_prices()
        delay = ""
        try:
            self._context.background.soon(self._context.poller().follow, batch.id)
        except NoThread as problem:
            delay = str(problem)
        handle = self._handle(batch)
        handle.lasting = "; ".join(consent.notices(self._store, plan, ask))
        older = [] if options.get("resubmit") else self._library.versions(ask.name)[:-1]
        news = consent.passing(self._store, plan, older, self._is_driven_elsewhere)
        handle.passing = "; ".join(filter(None, (delay, *news)))
        return handle

    def _attach(self, batch: Batch, ask: spec.Ask) -> BatchHandle:
        """Take up an earlier batch that asked for exactly this: nothing is sent or paid."""
        if ask.rows is not None:
            # The same requests, but perhaps other columns, another index or another --as.
            input_file.write_rows(ask.rows, files.private_folder(self._store.folder_of(batch.id)))
        self._store.use_again(batch.id, shape=ask.shape, **option_table.renewed(batch, ask))
        handle = self._handle(batch, attached=True)
        when = moment(batch.created_at, self._context.clock())
        cancelling = batch.cancel_requested and batch.finished_at is None
        what = "which is being cancelled" if cancelling else "no new cost"
        handle.lasting = f"attached to the batch of {when}, {what}; --resubmit pays again"
        if batch.finished_at is None:
            self._context.background.soon(self._context.poller().take_up, batch.id)
        elif handle.snapshot().retryable:
            handle.lasting += f"; `%llm_batch retry {batch.title}` sends rows without an answer"
        return handle

    def _handle(self, batch: Batch, *, attached: bool = False) -> BatchHandle:
        """Return the handle of a batch that this kernel asks for."""
        handle = BatchHandle(self._context, batch.id, attached=attached)
        return self._library.remember_asked(handle)

    def _is_driven_elsewhere(self, batch: Batch) -> bool:
        return ownership.is_driven_elsewhere(self._store, batch)
