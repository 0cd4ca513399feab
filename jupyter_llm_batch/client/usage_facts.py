"""What the journal knows about each batch that advice can be about."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice

import msgspec

from ..core import magic_line
from ..core.batch import Batch
from ..core.ids import HASH
from ..core.job import Job
from ..core.money import Spend
from ..core.result import Usage
from ..core.row_codes import SKIPPED
from ..costs import tokens
from ..costs.advice import Habit
from ..providers import registry
from ..storage import files, inherited_rows
from ..storage.store import Store
from ..submission.find import name_of

#: Prompts that are compared to find what all share.
_LOOK = 20


def read(store: Store, batches: Iterable[Batch], notebook: str) -> Iterator[Habit]:
    """Yield what is known about ended batches, each of their models apart, oldest first.

    Those of other notebooks than `notebook` are named with theirs.
    """
    asked: dict[bytes, str] = {}
    for batch in batches:
        if batch.draft or batch.finished_at is None:
            continue
        spends = [each for each in store.spending.spends(batch_id=batch.id) if each.answered]
        jobs = store.jobs(batch.id)
        title = name_of(batch, notebook)
        again = _again(store, batch, title, asked)
        for number, named in enumerate(batch.models):
            provider, _, model = named.partition(":")
            lines = [each for each in spends if (each.provider, each.model) == (provider, model)]
            if len(batch.models) == 1:
                lines = spends
            ours = [job for job in jobs if job.provider == provider and _asks(job, model)] or jobs
            if lines and ours:
                habit = _habit(store, batch, ours[0], lines, again[number])
                yield msgspec.structs.replace(habit, title=title, provider=provider, model=model)


def _asks(job: Job, model: str) -> bool:
    return model in (job.models or [job.model])


def _habit(store: Store, batch: Batch, job: Job, lines: list[Spend], again: _Again) -> Habit:
    over = batch.shape.kind != "one"
    line = batch.line or magic_line.line_for_batch(
        batch.name, batch.models[0], batch.recipe, over=over
    )
    return Habit(
        title=batch.title,
        provider="",
        model="",
        rows=sum(each.answered for each in lines),
        usage=sum((each.usage for each in lines), Usage()),
        paid=sum((Decimal(each.paid or 0) for each in lines), Decimal(0)),
        shared=_shared(store, batch, job),
        cache=batch.recipe.cache is not None,
        repeats=again.repeats,
        elsewhere=again.elsewhere,
        source=again.source,
        line=line,
        routed=batch.routed,
    )


def _shared(store: Store, batch: Batch, job: Job) -> int:
    """Return how many tokens the first prompts, and so probably all, begin with in common."""
    path = store.folder_of(batch.id) / job.payload
    prompt_of = registry.make(job.provider, {}).prompt_of
    try:
        prompts = [prompt_of(line) for line in islice(files.lines(path), _LOOK)]
    except OSError:
        return 0
    shared = os.path.commonprefix(prompts) if len(prompts) > 1 else ""  # noqa: RUF071 - texts
    return round(tokens.text_tokens(shared + (batch.recipe.system or ""))[1])


class _Again(msgspec.Struct):
    """How many paid rows of one model repeat one of their batch, or of an earlier one."""

    repeats: int = 0
    elsewhere: int = 0
    source: str = ""


def _again(store: Store, batch: Batch, title: str, asked: dict[bytes, str]) -> list[_Again]:
    """Return what was paid again, for each model of a batch."""
    found = [_Again() for _ in batch.models]
    models = memoryview(store.pack(batch.id, "models") if batch.routed else b"").cast("H")
    hashes = store.pack(batch.id, "hashes")
    outcomes = store.pack(batch.id, "outcomes")
    taken = inherited_rows.read(store.pack(batch.id, "sources"), batch.sources)
    seen = set()
    for row, code in enumerate(outcomes):
        digest = hashes[row * HASH : (row + 1) * HASH]
        if code == SKIPPED or row in taken:
            continue
        again = found[models[row] if models else 0]
        if digest in seen:
            again.repeats += 1
        elif digest in asked:
            again.elsewhere, again.source = again.elsewhere + 1, asked[digest]
        seen.add(digest)
    asked.update(dict.fromkeys(seen - asked.keys(), title))
    return found
