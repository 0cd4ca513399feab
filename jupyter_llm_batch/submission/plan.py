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
from ..core.money import Estimate
from ..core.request import Mode
from ..core.row_codes import SKIPPED
from ..costs import budget, estimate, tiktoken_counter
from ..storage import files, inherited_rows
from ..storage.input_file import write_rows
from ..storage.store import Store
from . import fingerprint
from . import reuse as before
from .fill import _Filler
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
    batch_id = ids.new_batch_id()
    folder = store.folder_of(batch_id)
    if ask.models is None:
        lanes.of(ask.model)  # refused before anything is rendered or written
    mode = Mode.REALTIME if ask.realtime else Mode.BATCH
    spool = Spool(None if dry else folder, mode, _sampler(ask))
    filler = _Filler(spool, lanes, batch_id, earlier, dedupe=ask.dedupe)
    try:
        head, contents = fingerprint.peek(ask.contents)
        ask = msgspec.structs.replace(ask, contents=contents)
        filler.fill(ask)
        outcomes, hashes, taken = filler.outcomes, filler.hashes, filler.taken
        if not outcomes or all(code == SKIPPED for code in outcomes):
            raise UsageProblem("there is nothing to ask: every row was left out")
        same_as = before.same(versions, earlier, bytes(hashes))
        written = fingerprint.of(ask.model, ask.recipe, head)
        made_with = fingerprint.made_with(ask.recipe)
        rows = len(outcomes) - outcomes.count(SKIPPED)
        if same_as is None and ask.sample >= rows:
            raise UsageProblem(
                f"--sample {ask.sample} of {rows} {'row' if rows == 1 else 'rows'} leaves "
                "nothing to wait: leave --sample out, or ask all of them with --realtime"
            )
        if same_as is None and all(source == batch_id for source, _ in taken.values()):
            fingerprint.check(written, made_with, bytes(hashes), versions, earlier.hashes, HASH)
        if dry or same_as is not None:
            spool.discard()
        else:
            if ask.rows is not None:
                write_rows(ask.rows, folder)
            spool.commit()
    except BaseException as error:
        spool.discard()
        if not dry:
            files.remove(folder)
        if isinstance(error, OSError) and error.errno in trouble.NO_ROOM:
            raise StoreProblem(
                f"cannot write to {folder.parent}: {error.strerror or error}; nothing was sent. "
                "Make room, or choose another folder with %config LLMBatch.data_dir = '...' and "
                "then %reload_ext jupyter_llm_batch"
            ) from error
        raise
    if same_as is not None and not dry:
        files.remove(folder)
    from_batches = list(dict.fromkeys(source for source, _ in taken.values()))
    repeats = sum(source == batch_id for source, _ in taken.values())
    batch = Batch(
        id=batch_id,
        notebook=notebook,
        name=ask.name,
        version=latest + 1,
        created_at=now,
        rows=len(outcomes),
        recipe=ask.recipe,
        models=lanes.models,
        shape=ask.shape,
        plan_hash=hashlib.blake2b(hashes, digest_size=HASH).hexdigest(),
        simulated=simulated,
        max_retries=ask.retries,
        max_reasks=ask.reasks,
        reused=len(taken) - repeats,
        notify=ask.notify,
        delete_uploads=ask.delete_uploads,
        skipped=outcomes.count(SKIPPED),
        sources=from_batches,
        routed=ask.models is not None,
        written=written,
        made_with=made_with,
        realtime=ask.realtime,
        held=spool.sampled,
        deadline=None if ask.deadline is None else now + ask.deadline,
        deadline_cost=ask.deadline_cost,
        estimates=[] if same_as else _estimates(store, ask, lanes.lanes, notebook, exact=dry),
        max_cost=ask.max_cost,
    )
    jobs = [
        (
            draft.job(
                batch_id,
                0,
                ask.recipe.endpoint,
                Spool.name(draft.number),
                now,
                spool.after(draft),
                ask.recipe.cache,
            ),
            draft.rows,
        )
        for draft in spool.splitter.drafts
    ]
    packs = {
        "hashes": bytes(hashes),
        "outcomes": before.known(store, outcomes, taken),
        "owners": bytes(4 * len(outcomes)),
    }
    if taken:
        packs["sources"] = inherited_rows.pack(len(outcomes), taken, from_batches)
    if batch.routed:
        packs["models"] = bytes(filler.picks)
    first = [lane.prompt_of(line) for lane, line in spool.first]
    return Plan(
        batch=batch,
        jobs=jobs,
        packs=packs,
        same_as=same_as,
        first=first,
        repeats=repeats,
        media=spool.media,
        encoded=dict(spool.encoded),
        samples={lane.name: [*lane.meter.lines] for lane in lanes.lanes if lane.meter.rows},
    )


def _estimates(
    store: Store, ask: Ask, lanes: Iterable[Lane], notebook: str, *, exact: bool
) -> list[Estimate]:
    """Return what the requests of each model are going to use."""
    counter, method = tiktoken_counter.counter() if exact else (None, "")
    found = []
    for lane in lanes:
        if lane.meter.rows:
            prompt = budget.prompt_key(lane.meaning.digest(), notebook, ask.name, ask.template)
            made = estimate.make(
                lane.meter,
                provider=lane.provider,
                model=lane.model,
                recipe=lane.recipe,
                reasks=ask.reasks,
                bound=lane.bounds.most() if lane.bounds else None,
                before=budget.past(store, lane.provider, lane.model, prompt),
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
