"""The life of a batch: its record, and which phase is due at a moment. No I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

#: Shares of a batch's life after which it is validated, and after which its rows are done.
VALIDATED, WORKED = 0.1, 0.9

#: Longest time between a cancel and its completion, and its share of a short life.
CANCEL_SECONDS, CANCEL_SHARE = 600.0, 0.25


class Phase(StrEnum):
    """Where a batch stands; each provider has its own words for these."""

    VALIDATING = "validating"
    RUNNING = "running"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OVER = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED})


class Usage(msgspec.Struct):
    """Tokens of a batch or of a row."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0


class Batch(msgspec.Struct, kw_only=True):
    """One batch as the simulator keeps it, for any provider."""

    id: str
    provider: str
    #: Hash of the key that created it; others do not see it.
    account: str
    #: What the create call said, in the provider's own terms.
    spec: dict[str, Any]
    created_at: float
    seconds: float
    lifetime: float
    outcome: str = "completed"
    outcome_detail: str = ""
    #: When it was frozen by the ``stuck`` switch, and how long it was frozen before.
    held_since: float | None = None
    held: float = 0.0
    #: Set by validation.
    validated: bool = False
    model: str | None = None
    total: int = 0
    tokens: int = 0
    problems: list[dict[str, Any]] = []
    cancelling_at: float | None = None
    #: How many rows, in the order of execution, were done when it was cancelled or expired.
    done: int | None = None
    #: Set at the end.
    ended: Phase | None = None
    ended_at: float | None = None
    completed: int = 0
    failed: int = 0
    usage: Usage = msgspec.field(default_factory=Usage)
    #: Names of the provider's result files, by kind.
    results: dict[str, str] = {}

    @property
    def expires_at(self) -> float:
        """When the provider gives up on it."""
        return self.created_at + self.lifetime

    def moment(self, share: float) -> float:
        """When a share of its life is over, unless it is held."""
        return self.created_at + self.held + self.seconds * share

    def age(self, now: float) -> float:
        """Seconds of its life so far, without those in which it was held."""
        until = now if self.held_since is None else min(now, self.held_since)
        return until - self.created_at - self.held

    def reached(self, share: float, now: float) -> bool:
        """Whether a share of its life is over."""
        return self.age(now) >= self.seconds * share


def due(batch: Batch, now: float) -> Phase:
    """Return the phase that the batch should be in; its validation may still turn it down."""
    if batch.ended is not None:
        return batch.ended
    if batch.cancelling_at is not None:
        return Phase.CANCELLED if now >= cancelled_at(batch) else Phase.CANCELLING
    if batch.outcome == "failed" and batch.reached(VALIDATED, now):
        return Phase.FAILED
    if batch.reached(1, now) and batch.moment(1) <= batch.expires_at:
        return Phase(batch.outcome)
    if now >= batch.expires_at:
        return Phase.EXPIRED
    if not batch.reached(VALIDATED, now):
        return Phase.VALIDATING
    return Phase.FINALIZING if batch.reached(WORKED, now) else Phase.RUNNING


def cancelled_at(batch: Batch) -> float:
    """Return when a batch that is being cancelled will be cancelled."""
    assert batch.cancelling_at is not None
    return batch.cancelling_at + min(CANCEL_SECONDS, batch.seconds * CANCEL_SHARE)


def rows_done(batch: Batch, now: float) -> int:
    """Return how many of its rows are done, in the order of execution."""
    if batch.done is not None:
        return batch.done
    work = batch.seconds * (WORKED - VALIDATED)
    worked = batch.age(now) - batch.seconds * VALIDATED
    share = worked / work if work else float(worked >= 0)
    if batch.outcome in ("expired", "cancelled"):
        share = min(share, float(batch.outcome_detail))
    return int(batch.total * max(0.0, min(1.0, share)))


def ending(batch: Batch, phase: Phase) -> float:
    """Return when the batch came to the phase that ends it, for a look that may come later."""
    if phase is Phase.FAILED:
        return batch.moment(VALIDATED)
    if batch.cancelling_at is not None:
        return cancelled_at(batch)
    if phase is Phase.EXPIRED and batch.outcome != "expired":
        return batch.expires_at
    return min(batch.moment(1), batch.expires_at)
