"""Requests and limits to jobs: where a job ends and the next begins. No I/O here."""

from __future__ import annotations

import secrets
import string
from collections import Counter
from collections.abc import Iterable, Iterator

from .errors import UsageProblem
from .models import Job, Limits, Mode

_ALPHABET = string.ascii_lowercase + string.digits


def new_batch_id() -> str:
    """Return a fresh id, short enough that every custom_id stays within 64 characters."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def custom_id(batch_id: str, row: int) -> str:
    """Return the id under which row `row` goes to the provider and comes back."""
    return f"{batch_id}-{row}"


def row_of(custom_id: str, batch_id: str) -> int | None:
    """Return the row that a custom_id names, or None when it is not one of this batch."""
    if not custom_id.startswith(batch_id):
        return None
    row = custom_id[len(batch_id) :]
    ours = row[:1] == "-" and row.isascii() and row[1:].isdigit() and len(row) < 13
    return int(row[1:]) if ours and (row[1] != "0" or len(row) == 2) else None


class Ranges:
    """Row numbers in the order of a payload's lines, kept as [start, stop) pairs."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self.pairs: list[tuple[int, int]] = [*pairs]

    def add(self, row: int) -> None:
        """Append `row`."""
        if self.pairs and self.pairs[-1][1] == row:
            self.pairs[-1] = (self.pairs[-1][0], row + 1)
        else:
            self.pairs.append((row, row + 1))

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.pairs:
            yield from range(start, stop)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.pairs)


class Draft:
    """A job while rows are still added to it."""

    def __init__(
        self,
        number: int,
        provider: str,
        model: str,
        limits: Limits,
        most: int,
        mode: Mode = Mode.BATCH,
    ) -> None:
        self.number = number
        self.mode = mode
        self.provider = provider
        self.models = [model]
        self.limits = limits
        self.most = most
        self.rows = Ranges()
        self.count = 0
        self.weight = 0
        self.bytes = 0

    def has_room(self, size: int, weight: int = 1) -> bool:
        """Whether one more row of `size` bytes, which counts as `weight`, fits."""
        return self.weight + weight <= self.most and self.bytes + size <= self.limits.bytes

    def add(self, row: int, size: int, weight: int = 1) -> None:
        """Take `row`."""
        self.rows.add(row)
        self.count += 1
        self.weight += weight
        self.bytes += size

    @property
    def model(self) -> str:
        """The one model of its rows, or ``mixed``."""
        return self.models[0] if len(self.models) == 1 else "mixed"

    def job(
        self,
        batch_id: str,
        round_: int,
        endpoint: str,
        payload: str,
        now: float,
        after: Iterable[int] = (),
        cache: str | None = None,
    ) -> Job:
        """Return the finished record."""
        return Job(
            id=f"{batch_id}-r{round_}-j{self.number}",
            batch_id=batch_id,
            round=round_,
            number=self.number,
            provider=self.provider,
            model=self.model,
            models=self.models if len(self.models) > 1 else [],
            endpoint=endpoint,
            rows=self.count,
            bytes=self.bytes,
            payload=payload,
            created_at=now,
            after=[*after],
            mode=self.mode,
            cache=cache,
        )


class Splitter:
    """Assigns rows to jobs, in order, one open job per lane.

    A lane is what may share a job: one provider and way there, and one model where the provider
    wants that.

    Parameters
    ----------
    first
        Number of the first job; numbers rise over all rounds of a batch.
    """

    def __init__(self, first: int = 1) -> None:
        self.drafts: list[Draft] = []
        self._open: dict[tuple[str, str, Mode], Draft] = {}
        self._jobs: Counter[tuple[str, str, Mode]] = Counter()
        self._next = first

    def place(
        self,
        row: int,
        provider: str,
        model: str,
        size: int,
        limits: Limits,
        *,
        weight: int = 1,
        alone: bool = False,
        mode: Mode = Mode.BATCH,
    ) -> Draft:
        """Return the job that takes `row` of `size` bytes.

        Parameters
        ----------
        weight
            How many requests the row counts for.
        alone
            The row gets a job of its own.

        Raises
        ------
        UsageProblem
            The row alone is larger than the provider takes.
        """
        if weight > limits.requests:
            raise UsageProblem(
                f"row {row} holds {weight:,} inputs, more than {provider} takes in one job "
                f"({limits.requests:,}): divide it into several rows"
            )
        if size > min(limits.line_bytes, limits.bytes):
            raise UsageProblem(
                f"row {row} is {size:,} bytes as a request, more than {provider} takes "
                f"({min(limits.line_bytes, limits.bytes):,}): shorten or split its text, or give "
                "large files by URL"
            )
        lane = (provider, model if limits.one_model else "", mode)
        draft = self._open.get(lane)
        if alone:
            draft = self._begin(provider, model, limits, 1, mode)
        elif draft is None or not draft.has_room(size, weight):
            most = limits.requests
            if not limits.labelled:
                # Full jobs of different sizes can be told apart when a create was lost.
                most = max(1, most - self._jobs[lane])
            self._jobs[lane] += 1
            draft = self._open[lane] = self._begin(provider, model, limits, most, mode)
        draft.add(row, size, weight)
        if model not in draft.models:
            draft.models.append(model)
        return draft

    def _begin(self, provider: str, model: str, limits: Limits, most: int, mode: Mode) -> Draft:
        draft = Draft(self._next, provider, model, limits, most, mode)
        self._next += 1
        self.drafts.append(draft)
        return draft
