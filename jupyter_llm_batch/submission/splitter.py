"""Requests and limits to jobs: where a job ends and the next begins. No I/O here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..core.errors import UsageProblem
from ..core.ids import Ranges
from ..core.job import Job
from ..core.request import Limits, Mode


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
