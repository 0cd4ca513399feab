"""The payload files of a plan while rows are still added, a lane for each model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..core.request import Content, Mode
from ..providers.shared import media
from ..storage import files
from . import splitter
from .lanes import Lane


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
        self.splitter = splitter.Splitter()
        self.first: list[tuple[Lane, bytes]] = []
        self._folder = files.private_folder(folder) if folder else None
        self._writers: dict[int, files.PayloadWriter] = {}
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

    def _writer(self, draft: splitter.Draft) -> files.PayloadWriter:
        assert self._folder is not None
        if draft.number not in self._writers:
            path = self._folder / self.name(draft.number)
            self._writers[draft.number] = files.PayloadWriter(path)
        return self._writers[draft.number]

    @property
    def sampled(self) -> bool:
        """Whether there is a sample, and something that waits for it."""
        modes = {draft.mode for draft in self.splitter.drafts}
        return self._mode is Mode.BATCH and modes == {Mode.BATCH, Mode.REALTIME}

    def weigh(self, content: Content, lane: Lane) -> None:
        """Count the images and files of a row that was just written."""
        found, size = media.count(content)
        if found and lane.draft is not None:
            self.media += found
            self.encoded[lane.draft.number] += size

    def after(self, draft: splitter.Draft) -> list[int]:
        """Return the jobs that must be over before this one is sent: those that fill its cache."""
        primes = self._primes.get(draft.provider, [])
        return [] if draft.number in primes or draft.mode is Mode.REALTIME else primes

    def commit(self) -> None:
        """Make every file durable."""
        for writer in self._writers.values():
            writer.commit()
        if self._folder is not None:
            files.sync_folder(self._folder)

    def discard(self) -> None:
        """Delete every file."""
        for writer in self._writers.values():
            writer.discard()
