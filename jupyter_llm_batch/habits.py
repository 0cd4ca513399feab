"""What the journal knows about each batch that advice can be about."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice

import msgspec

from . import payloads, providers, sources, tokens
from .advising import Habit
from .earlier import HASH
from .finding import name_of
from .lifecycle import SKIPPED
from .models import Batch, Job, Spend, Usage
from .store import Store

#: Prompts that are compared to find what all share.
_LOOK = 20


def read(store: Store, batches: Iterable[Batch], notebook: str) -> Iterator[Habit]:
    """Yield what is known about ended batches of one model each, oldest first.

    A batch that spans several models has too little in common for advice of this kind. Those of
    other notebooks than `notebook` are named with theirs.
    """
    asked: dict[bytes, str] = {}
    for batch in batches:
        if batch.draft or batch.finished_at is None or len(batch.models) != 1:
            continue
        lines = [each for each in store.spends(batch_id=batch.id) if each.answered]
        jobs = store.jobs(batch.id)
        title = name_of(batch, notebook)
        repeats, elsewhere, source = _again(store, batch, title, asked)
        if lines and jobs:
            habit = _habit(store, batch, jobs, lines, repeats, elsewhere, source)
            yield msgspec.structs.replace(habit, title=title)


def _habit(
    store: Store,
    batch: Batch,
    jobs: list[Job],
    lines: list[Spend],
    repeats: int,
    elsewhere: int,
    source: str,
) -> Habit:
    provider, _, model = batch.models[0].partition(":")
    return Habit(
        title=batch.title,
        provider=provider,
        model=model,
        rows=sum(each.answered for each in lines),
        usage=sum((each.usage for each in lines), Usage()),
        paid=sum((Decimal(each.paid or 0) for each in lines), Decimal(0)),
        shared=_shared(store, batch, jobs[0]),
        cache=batch.recipe.cache is not None,
        repeats=repeats,
        elsewhere=elsewhere,
        source=source,
    )


def _shared(store: Store, batch: Batch, job: Job) -> int:
    """Return how many tokens the first prompts, and so probably all, begin with in common."""
    path = store.folder_of(batch.id) / job.payload
    prompt_of = providers.make(job.provider, {}).prompt_of
    try:
        prompts = [prompt_of(line) for line in islice(payloads.lines(path), _LOOK)]
    except OSError:
        return 0
    shared = os.path.commonprefix(prompts) if len(prompts) > 1 else ""  # noqa: RUF071 - texts
    return round(tokens.of_text(shared + (batch.recipe.system or ""))[1])


def _again(store: Store, batch: Batch, title: str, asked: dict[bytes, str]) -> tuple[int, int, str]:
    """Return how many paid rows repeat one of this batch, or of an earlier one, and which."""
    hashes = store.pack(batch.id, "hashes")
    outcomes = store.pack(batch.id, "outcomes")
    taken = sources.read(store.pack(batch.id, "sources"), batch.sources)
    repeats = elsewhere = 0
    source, seen = "", set()
    for row, code in enumerate(outcomes):
        digest = hashes[row * HASH : (row + 1) * HASH]
        if code == SKIPPED or row in taken:
            continue
        if digest in seen:
            repeats += 1
        elif digest in asked:
            elsewhere, source = elsewhere + 1, asked[digest]
        seen.add(digest)
    asked.update(dict.fromkeys(seen - asked.keys(), title))
    return repeats, elsewhere, source
