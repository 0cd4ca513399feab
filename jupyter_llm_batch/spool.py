"""The payload files of a plan while rows are still added, a lane for each model."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from . import payloads, planning, providers, tokens
from .errors import UsageProblem
from .estimate import Meter
from .models import Content, Limits, Mode, Recipe
from .providers import parts
from .providers.base import Adapter, Encoder

#: Shared prefixes shorter than this are cached by no provider (about 1,024 tokens of English).
#: Sources: OpenAI's prompt-caching guide, Anthropic's "Cache limitations", Gemini's context
#: caching; some models want more.
CACHED_FROM = 4_000


class Lane:
    """How the rows of one model are asked.

    Parameters
    ----------
    adapter
        The model's provider.
    recipe
        What all rows share; parameters written as ``provider:name`` go to that provider only.
    model
        ``provider:model``.

    Raises
    ------
    UsageProblem
        The provider cannot take the recipe, or has no key.
    """

    def __init__(self, adapter: Adapter, recipe: Recipe, model: str, hash_size: int) -> None:
        self.name = model
        self.provider, _, self.model = model.partition(":")
        adapter.check_key()
        recipe = msgspec.structs.replace(recipe, params=_own(recipe.params, self.provider))
        adapter.validate(recipe, self.model)
        self.prompt_of = adapter.prompt_of
        self.limits: Limits = adapter.limits(recipe.endpoint)
        self.encode: Encoder = adapter.encoder(recipe, self.model)
        self.meaning = hashlib.blake2b(adapter.meaning(recipe, self.model), digest_size=hash_size)
        #: The first row goes ahead alone, to fill the cache.
        self.primes = self.limits.primed and recipe.cache is not None and _is_long(recipe)
        self.recipe = recipe
        self.url = adapter.account(b"").base_url
        self.meter = Meter()
        self.bounds: Bounds | None = None
        if recipe.raw:
            self.encode = self.bounds = Bounds(self.encode)
        self.sampled = 0  # rows of the sample, which go out in real time
        self.draft: planning.Draft | None = None
        self.put: Callable[[bytes], object] = len


class Bounds:
    """Encodes complete request bodies and notes how many output tokens each allows."""

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._most = 0
        self._open = False

    def __call__(self, custom_id: str, content: Content) -> bytes:
        """Return the request line."""
        line = self._encode(custom_id, content)
        bound = tokens.bound_of(tokens.body_of(msgspec.json.decode(line)))
        self._open = self._open or bound is None
        self._most = max(self._most, bound or 0)
        return line

    def most(self) -> int | None:
        """Return the largest bound, None when a request has none."""
        return None if self._open else self._most


def _own(params: Mapping[str, object], provider: str) -> dict[str, object]:
    own = {}
    for name, value in params.items():
        owner, colon, rest = name.partition(":")
        if not colon or owner not in providers.names():
            own[name] = value
        elif owner == provider:
            own[rest] = value
    return own


def _is_long(recipe: Recipe) -> bool:
    return len(recipe.system or "") + len(recipe.prefix) >= CACHED_FROM


class Sampler:
    """Chooses the rows that are asked first, in real time, before the others are sent.

    Parameters
    ----------
    rows
        How many: the first that have to be asked at all.
    chosen
        The numbers of the rows instead, where they are chosen at random.
    """

    def __init__(self, rows: int, chosen: frozenset[int] | None = None) -> None:
        self._left = rows
        self._chosen = chosen

    def takes(self, row: int) -> bool:
        """Whether `row` is one of them; asked once per row."""
        if self._chosen is not None:
            return row in self._chosen
        self._left -= 1
        return self._left >= 0


class Spool:
    """The payload files of a plan.

    Parameters
    ----------
    folder
        Where they are written; None writes nothing (``--dry-run``).
    mode
        How all but a sample is sent.
    sampler
        Chooses the sample, if there is to be one.
    """

    def __init__(
        self, folder: Path | None, mode: Mode = Mode.BATCH, sampler: Sampler | None = None
    ) -> None:
        self._mode = mode
        self._sampler = sampler
        self.splitter = planning.Splitter()
        self.first: list[tuple[Lane, bytes]] = []
        self._folder = payloads.private_folder(folder) if folder else None
        self._writers: dict[int, payloads.PayloadWriter] = {}
        self._primes: dict[str, list[int]] = {}
        self.media = 0
        self.encoded: Counter[int] = Counter()

    @staticmethod
    def name(number: int) -> str:
        """Return the file name of a first round's job."""
        return f"r0-j{number}.jsonl"

    def write(self, row: int, line: bytes, lane: Lane) -> None:
        """Add a row to the job that has room for it."""
        if len(self.first) < 3:
            self.first.append((lane, line))
        size = len(line)
        weigh = lane.limits.weigh
        weight = 1 if weigh is None else weigh(line)
        meter = lane.meter
        meter.rows += 1
        meter.size += size
        if meter.rows == meter.due:
            meter.take(line)
        if size > meter.longest:  # noqa: PLR1730 - max() costs a call per row
            meter.longest = size
        if self._sampler is not None and self._sampler.takes(row):
            sample = self.splitter.place(
                row, lane.provider, lane.model, size, lane.limits, mode=Mode.REALTIME
            )
            lane.sampled += 1
            if self._folder is not None:
                self._writer(sample).write(line)
            return
        draft = lane.draft
        if draft is not None and size <= lane.limits.line_bytes and draft.has_room(size, weight):
            draft.add(row, size, weight)  # the common case, without the splitter's questions
        else:
            self._place(row, size, weight, lane)
        lane.put(line)

    def _place(self, row: int, size: int, weight: int, lane: Lane) -> None:
        alone, lane.primes = lane.primes and self._mode is Mode.BATCH, False
        draft = self.splitter.place(
            row,
            lane.provider,
            lane.model,
            size,
            lane.limits,
            weight=weight,
            alone=alone,
            mode=self._mode,
        )
        if alone:
            self._primes.setdefault(lane.provider, []).append(draft.number)
        lane.draft = draft
        if self._folder is not None:
            lane.put = self._writer(draft).write

    def _writer(self, draft: planning.Draft) -> payloads.PayloadWriter:
        assert self._folder is not None
        if draft.number not in self._writers:
            path = self._folder / self.name(draft.number)
            self._writers[draft.number] = payloads.PayloadWriter(path)
        return self._writers[draft.number]

    @property
    def sampled(self) -> bool:
        """Whether there is a sample, and something that waits for it."""
        modes = {draft.mode for draft in self.splitter.drafts}
        return self._mode is Mode.BATCH and modes == {Mode.BATCH, Mode.REALTIME}

    def weigh(self, content: Content, lane: Lane) -> None:
        """Count the images and files of a row that was just written."""
        found, size = parts.count(content)
        if found and lane.draft is not None:
            self.media += found
            self.encoded[lane.draft.number] += size

    def after(self, draft: planning.Draft) -> list[int]:
        """Return the jobs that must be over before this one is sent: those that fill its cache."""
        primes = self._primes.get(draft.provider, [])
        return [] if draft.number in primes or draft.mode is Mode.REALTIME else primes

    def commit(self) -> None:
        """Make every file durable."""
        for writer in self._writers.values():
            writer.commit()
        if self._folder is not None:
            payloads.sync_folder(self._folder)

    def discard(self) -> None:
        """Delete every file."""
        for writer in self._writers.values():
            writer.discard()


class Lanes:
    """The lanes of a plan, made when a row first names their model.

    Parameters
    ----------
    adapters
        Returns the adapter of a provider.
    qualify
        Returns ``provider:model`` for what a user calls a model.
    """

    def __init__(
        self,
        adapters: Callable[[str], Adapter],
        qualify: Callable[[str], str],
        recipe: Recipe,
        hash_size: int,
    ) -> None:
        self._adapters = adapters
        self._qualify = qualify
        self._recipe = recipe
        self._hash_size = hash_size
        self._known: dict[str, tuple[int, Lane]] = {}
        self.lanes: list[Lane] = []

    @property
    def models(self) -> list[str]:
        """Every model so far, ``provider:model``."""
        return [lane.name for lane in self.lanes]

    def of(self, model: str) -> tuple[int, Lane]:
        """Return the lane of a model and its number."""
        if model not in self._known:
            name = self._qualify(model)
            number = next((i for i, lane in enumerate(self.lanes) if lane.name == name), -1)
            if number < 0:
                number = len(self.lanes)
                if number >= 0xFFFF:
                    raise UsageProblem("the rows name more than 65,535 models")
                adapter = self._adapters(name.partition(":")[0])
                self.lanes.append(Lane(adapter, self._recipe, name, self._hash_size))
            self._known[model] = number, self.lanes[number]
        return self._known[model]
