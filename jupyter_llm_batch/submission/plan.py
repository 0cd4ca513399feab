"""From what the user wrote to a planned batch on disk: render, check, split, write, journal.

Everything here runs in the user's cell. When it returns, every request, the rows and the plan are
durable; when it raises, nothing was written and nothing will be sent.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence

import msgspec

from ..core import ids, trouble
from ..core.batch import Batch
from ..core.errors import StoreProblem, UsageProblem
from ..core.ids import HASH
from ..core.job import Job
from ..core.money import Estimate
from ..core.request import Mode
from ..core.row_codes import SKIPPED
from ..costs import budget, estimate, tiktoken_counter
from ..storage import files, inherited_rows
from ..storage.input_file import write_rows
from ..storage.store import Store
from . import fingerprint
from . import reuse as before
from .fill import Filler
from .lanes import Lane, Lanes
from .reuse import Earlier
from .spec import Ask, Plan
from .spool import Sampler, Spool


def plan(
    store: Store,
    ask: Ask,
    lanes: Lanes,
    *,
    notebook: str,
    now: float,
    simulated: bool,
    earlier: Earlier,
    versions: Sequence[Batch],
    latest: int,
    dry: bool = False,
) -> Plan:
    """Render every request and write it to disk, in jobs within the provider's limits.

    Parameters
    ----------
    lanes
        How each model is asked.
    latest
        The latest version of this name that there is.
    dry
        Write nothing, and take the time to count tokens with tiktoken where that is possible.

    Raises
    ------
    UsageProblem
        A row cannot be asked; the message names it. Nothing was written.
    """
    if ask.models is None:
        lanes.of(ask.model)  # refused before anything is rendered or written
    planner = _Planner(store, ask, lanes, earlier, dry=dry)
    try:
        planner.render()
        same_as = planner.look_for_same(versions)
        planner.write(same_as)
    except BaseException as error:
        planner.undo(error)
        raise
    return planner.plan(
        same_as, notebook=notebook, version=latest + 1, now=now, simulated=simulated
    )


class _Planner:
    """Makes one plan: the parts of `plan`, in the order in which they are called."""

    def __init__(
        self, store: Store, ask: Ask, lanes: Lanes, earlier: Earlier, *, dry: bool
    ) -> None:
        self._store = store
        self._ask = ask
        self._lanes = lanes
        self._earlier = earlier
        self._dry = dry
        self._batch_id = ids.new_batch_id()
        self._folder = store.folder_of(self._batch_id)
        mode = Mode.REALTIME if ask.realtime else Mode.BATCH
        self._spool = Spool(None if dry else self._folder, mode, _sampler(ask))
        self._filler = Filler(self._spool, lanes, self._batch_id, earlier, dedupe=ask.dedupe)
        self._written, self._made_with = "", dict[str, str]()

    def render(self) -> None:
        """Render every request into its payload file."""
        ask, filler = self._ask, self._filler
        head, contents = fingerprint.peek(ask.contents)
        filler.fill(msgspec.structs.replace(ask, contents=contents))
        if not filler.outcomes or all(code == SKIPPED for code in filler.outcomes):
            raise UsageProblem("there is nothing to ask: every row was left out")
        self._written = fingerprint.of(ask.model, ask.recipe, head)
        self._made_with = fingerprint.made_with(ask.recipe)

    def look_for_same(self, versions: Sequence[Batch]) -> Batch | None:
        """Return the version that asked for exactly this; else check what is new."""
        ask, hashes = self._ask, bytes(self._filler.hashes)
        same_as = before.same(versions, self._earlier, hashes)
        if same_as is not None:
            return same_as
        outcomes = self._filler.outcomes
        rows = len(outcomes) - outcomes.count(SKIPPED)
        if ask.sample >= rows:
            raise UsageProblem(
                f"--sample {ask.sample} of {rows} {'row' if rows == 1 else 'rows'} leaves "
                "nothing to wait: leave --sample out, or ask all of them with --realtime"
            )
        if all(source == self._batch_id for source, _ in self._filler.taken.values()):
            known = self._earlier.hashes
            fingerprint.check(self._written, self._made_with, hashes, versions, known, HASH)
        return None

    def write(self, same_as: Batch | None) -> None:
        """Make the payload files and the rows durable, unless nothing is to be sent."""
        if self._dry or same_as is not None:
            self._spool.discard()
        else:
            if self._ask.rows is not None:
                write_rows(self._ask.rows, self._folder)
            self._spool.commit()
        if same_as is not None and not self._dry:
            files.remove(self._folder)

    def undo(self, error: BaseException) -> None:
        """Remove what was written; a disk without room becomes a `StoreProblem`."""
        self._spool.discard()
        if not self._dry:
            files.remove(self._folder)
        if isinstance(error, OSError) and error.errno in trouble.NO_ROOM:
            raise StoreProblem(
                f"cannot write to {self._folder.parent}: {error.strerror or error}; nothing was "
                "sent. Make room, or choose another folder with %config LLMBatch.data_dir = '...' "
                "and then %reload_ext jupyter_llm_batch"
            ) from error

    def plan(
        self, same_as: Batch | None, *, notebook: str, version: int, now: float, simulated: bool
    ) -> Plan:
        """Return what was rendered as a batch with its jobs."""
        spool, taken = self._spool, self._filler.taken
        sources = list(dict.fromkeys(source for source, _ in taken.values()))
        repeats = sum(source == self._batch_id for source, _ in taken.values())
        estimates: list[Estimate] = []
        if same_as is None:
            lanes = self._lanes.lanes
            estimates = _estimates(self._store, self._ask, lanes, notebook, exact=self._dry)
        batch = self._batch(notebook, version, now, sources, estimates, reused=len(taken) - repeats)
        return Plan(
            batch=msgspec.structs.replace(batch, simulated=simulated),
            jobs=self._jobs(now),
            packs=self._packs(sources),
            same_as=same_as,
            first=[lane.prompt_of(line) for lane, line in spool.first],
            repeats=repeats,
            media=spool.media,
            encoded=dict(spool.encoded),
            samples={
                lane.name: [*lane.meter.lines] for lane in self._lanes.lanes if lane.meter.rows
            },
        )

    def _batch(
        self,
        notebook: str,
        version: int,
        now: float,
        sources: list[str],
        estimates: list[Estimate],
        *,
        reused: int,
    ) -> Batch:
        ask, filler = self._ask, self._filler
        return Batch(
            id=self._batch_id,
            notebook=notebook,
            name=ask.name,
            version=version,
            created_at=now,
            rows=len(filler.outcomes),
            recipe=ask.recipe,
            models=self._lanes.models,
            shape=ask.shape,
            plan_hash=hashlib.blake2b(filler.hashes, digest_size=HASH).hexdigest(),
            max_retries=ask.retries,
            max_reasks=ask.reasks,
            reused=reused,
            notify=ask.notify,
            delete_uploads=ask.delete_uploads,
            skipped=filler.outcomes.count(SKIPPED),
            sources=sources,
            routed=ask.models is not None,
            written=self._written,
            made_with=self._made_with,
            realtime=ask.realtime,
            held=self._spool.sampled,
            deadline=None if ask.deadline is None else now + ask.deadline,
            deadline_cost=ask.deadline_cost,
            estimates=estimates,
            max_cost=ask.max_cost,
            options=ask.shown,
        )

    def _jobs(self, now: float) -> list[tuple[Job, ids.Ranges]]:
        recipe, spool = self._ask.recipe, self._spool
        jobs = []
        for draft in spool.splitter.drafts:
            file = Spool.name(draft.number)
            after = spool.after(draft)
            job = draft.job(self._batch_id, 0, recipe.endpoint, file, now, after, recipe.cache)
            jobs.append((job, draft.rows))
        return jobs

    def _packs(self, sources: list[str]) -> dict[str, bytes]:
        """Return the per-row data."""
        filler, taken = self._filler, self._filler.taken
        rows = len(filler.outcomes)
        packs = {
            "hashes": bytes(filler.hashes),
            "outcomes": before.known(self._store, filler.outcomes, taken),
            "owners": bytes(4 * rows),
        }
        if taken:
            packs["sources"] = inherited_rows.pack(rows, taken, sources)
        if self._ask.models is not None:
            packs["models"] = bytes(filler.picks)
        return packs


def _estimates(
    store: Store, ask: Ask, lanes: Iterable[Lane], notebook: str, *, exact: bool
) -> list[Estimate]:
    """Return what the requests of each model are going to use."""
    counter, method = tiktoken_counter.counter() if exact else (None, "")
    found = []
    for lane in lanes:
        if lane.meter.rows:
            prompt = budget.prompt_key(lane.meaning.digest(), notebook, ask.name, ask.template)
            made = estimate.make_estimate(
                lane.meter,
                provider=lane.provider,
                model=lane.model,
                recipe=lane.recipe,
                reasks=ask.reasks,
                bound=lane.bounds.most() if lane.bounds else None,
                before=budget.past_usage(store, lane.provider, lane.model, prompt),
                counter=counter,
                method=method,
            )
            found.append(
                msgspec.structs.replace(
                    made,
                    prompt=prompt,
                    url=lane.url,
                    full=lane.meter.rows if ask.realtime else lane.sampled,
                    late=ask.deadline is not None,
                )
            )
    return found


def _sampler(ask: Ask) -> Sampler | None:
    """Return what chooses the sample; a random one is the same whenever the cell is run."""
    if not ask.sample:
        return None
    if not ask.random:
        return Sampler(ask.sample)
    if ask.rows is None:
        raise UsageProblem("--random chooses among rows: it needs --over ROWS")
    chosen = random.Random(ask.name).sample(range(len(ask.rows)), min(ask.sample, len(ask.rows)))  # noqa: S311 - nothing secret
    return Sampler(ask.sample, frozenset(chosen))
