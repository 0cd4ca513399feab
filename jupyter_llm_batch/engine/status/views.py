"""What others see of batches: snapshots for panels, and why a job must not be touched now."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Container
from decimal import Decimal
from statistics import median

import msgspec

from ...core import trouble
from ...core.batch import Batch
from ...core.errors import Damaged, StoreProblem, UsageProblem
from ...core.job import Account, Job, JobState
from ...core.lifecycle import TERMINAL, is_cancelled, next_action, waits_for_sample
from ...core.request import Mode
from ...core.result import ErrorKind
from ...core.row_codes import (
    count_outcomes,
    may_be_billed,
    never_sent,
    rows_cut,
    rows_unsent,
    rows_without_answer,
)
from ...core.snapshot import Snapshot
from ...costs import budget, estimate_price, remaining
from ...providers.base import Adapter
from ...storage.realtime_log import Past
from ...storage.store import Store, is_over
from ...submission import inherit, retry
from .. import key_rotation
from . import snapshot as progress
from . import words as words_

_log = logging.getLogger(__name__)

Listener = Callable[[Snapshot], None]


class Views:
    """Makes snapshots of batches, and hands them to whoever listens.

    Parameters
    ----------
    driven
        The ids of the batches that this process drives.
    known
        What is known of keys that were replaced.
    """

    def __init__(
        self,
        store: Store,
        adapters: Callable[[str], Adapter],
        clock: Callable[[], float],
        rules: Callable[[], budget.Rules],
        driven: Container[str],
        listen: Listener,
        known: key_rotation.Rotation,
    ) -> None:
        self._store = store
        self._adapters = adapters
        self._clock = clock
        self._rules = rules
        self._driven = driven
        self._listen = listen
        self._rotation = known
        self._salt = store.salt()
        self._expected: dict[str, estimate_price.Money] = {}
        self._promised: set[str] = set()
        #: What keeps a batch from going on, by its id.
        self.troubles: dict[str, words_.Trouble] = {}
        #: The latest pictures of batches under way, and what keeps the journal from being read.
        self._latest: dict[str, Snapshot] = {}
        self._journal = ""

    def pause(self, job: Job, *, cancel: bool = False) -> str:
        """Return why a job must not be touched now: no key, or another account's.

        Parameters
        ----------
        cancel
            It is to end early, which what was not sent, and what is asked in real time, can do
            without the provider.
        """
        sent = job.state not in {JobState.PLANNED, JobState.UPLOADED}
        try:
            adapter = self._adapters(job.provider)
            if cancel and (not sent or job.mode is Mode.REALTIME):
                return ""
            adapter.check_key()
            who: Account = adapter.account(self._salt)
        except UsageProblem as problem:
            return str(problem)
        if sent and job.account not in {None, who} and not self._is_ours(job, who):
            assert job.account is not None
            return (
                f"sent with another {job.provider} account or base URL "
                f"({job.account.base_url}): set that key again to continue"
            )
        return ""

    def _is_ours(self, job: Job, who: Account) -> bool:
        """Whether `who` may go on with a job that was sent with another key."""
        if self._rotation.is_same(job, who):
            return True
        if job.mode is Mode.BATCH or job.account is None:
            return False
        # In real time a key that got nothing done belongs to no account.
        past = Past(self._store.folder_of(job.batch_id), job)
        nothing = not (past.answered or past.open)
        return nothing and key_rotation.only_the_key(job.account, who)

    def present(self, job: Job) -> Account | None:
        """Return the present account, where there is a key."""
        with contextlib.suppress(UsageProblem):
            adapter = self._adapters(job.provider)
            adapter.check_key()
            return adapter.account(self._salt)
        return None

    def snapshot(self, batch: Batch) -> Snapshot:
        """Return what a panel may know about `batch` now."""
        jobs = self._store.jobs(batch.id)
        outcomes = self._store.pack(batch.id, "outcomes")
        # What another process drives does not wait for a key of ours.
        pauses = [
            reason
            for job in jobs
            if next_action(job, cancel=False)
            and not waits_for_sample(batch, job)
            and (reason := self.pause(job, cancel=is_cancelled(batch, job)))
            and (batch.id in self._driven or self._store.leases.driver(batch.id) is None)
        ]
        costs = [job.cost for job in jobs if job.usage.input or job.usage.output]
        saved = [job.saved for job in jobs if job.saved is not None]
        known = costs and all(cost is not None for cost in costs)
        spends = (
            self._store.spending.spends(batch_id=batch.id) if batch.finished_at or known else []
        )
        planned = None if batch.finished_at else self._expected.get(batch.id)
        book = self._rules().book
        whole = budget.expected_total(batch, jobs, book) if planned else None
        samples = sorted((each for job in jobs for each in job.samples), key=lambda each: each.row)
        owners = self._store.pack(batch.id, "owners")
        here = retry.has_requests(self._store, batch)
        facts = progress.Facts(
            outcomes=count_outcomes(outcomes),
            cut=len(rows_cut(outcomes)),
            retryable=len(rows := rows_without_answer(outcomes) if here else []),
            doubtful=sum(may_be_billed(outcomes[row]) for row in rows),
            unsent=rows_unsent(outcomes, owners, jobs) if batch.cancel_requested else 0,
            history=self._history(jobs),
            paused=pauses[0] if pauses else "",
            trouble=self.troubles.get(batch.id),
            cost=sum(float(cost) for cost in costs if cost) if known else None,
            saved=sum(float(each) for each in saved) if known else None,
            saved_cache=sum(float(each.cache) for each in spends) or None,
            saved_reuse=sum(float(each.reused) for each in spends) or None,
            expected=_usd(whole),
            ceiling=_usd(planned.ceiling) if planned and not batch.round else None,
            guessed=bool(planned and planned.guessed and not costs),
            unpriced=not known if costs else planned is not None and planned.expected is None,
            book=book,
            errors=self._errors(batch, jobs, outcomes),
            samples=samples[: 10 if batch.held else 5],
            back={} if batch.finished_at else remaining.rows_back(outcomes, owners),
            behind=inherit.waits_on(self._store, batch) if is_over(jobs) else (),
        )
        return progress.snapshot(batch, jobs, self._clock(), facts)

    def _history(self, jobs: list[Job]) -> list[float]:
        """Return how long the slowest provider still at work took; nothing where one is unknown."""
        left = {job.provider for job in jobs if job.state not in TERMINAL}
        known = [self._store.remote_jobs.durations(provider) for provider in left]
        return max(known, key=median) if known and all(known) else []

    def _errors(self, batch: Batch, jobs: list[Job], outcomes: bytes) -> list[ErrorKind]:
        """Return why rows have no whole answer now; what a later round mended is left out."""
        if batch.cancel_requested:
            jobs = [job for job in jobs if not never_sent(job) or batch.round]
        if not batch.round:
            return [kind for job in jobs for kind in job.kinds]
        owners = memoryview(self._store.pack(batch.id, "owners")).cast("I")
        lacking = [*rows_without_answer(outcomes), *rows_cut(outcomes)]
        failing = Counter((owners[row], outcomes[row]) for row in lacking)
        return [
            msgspec.structs.replace(kind, rows=min(kind.rows, rows))
            for job in jobs
            for kind in job.kinds
            if (rows := failing[job.number, kind.code])
            and (may_be_billed(kind.code) or not (batch.cancel_requested and never_sent(job)))
        ]

    def show(self, batch: Batch) -> None:
        """Hand out how a batch stands that is none of ours, and note nothing."""
        self._show(self.snapshot(batch))
        if batch.estimates and batch.finished_at is None and batch.id not in self._expected:
            self._expected[batch.id] = estimate_price.price_estimates(
                batch.estimates, self._rules().book
            )
            self._show(self.snapshot(batch))

    def publish(self, batch: Batch) -> None:
        """Hand out how a batch stands, and note what it may cost when that is known."""
        self._show(self.snapshot(batch))
        if batch.estimates and batch.finished_at is None and batch.id not in self._promised:
            # After the first picture: the price list takes a moment to load.
            cost = estimate_price.price_estimates(batch.estimates, self._rules().book)
            self._expected[batch.id] = cost
            self._promised.add(batch.id)
            if cost.ceiling is not None:
                self._store.spending.reserve(batch.id, float(cost.ceiling))
            self._show(self.snapshot(batch))

    def _show(self, snapshot: Snapshot) -> None:
        if snapshot.finished:
            self._latest.pop(snapshot.batch_id, None)
        else:
            self._latest[snapshot.batch_id] = snapshot
        self._hand_out(snapshot)

    def _hand_out(self, snapshot: Snapshot) -> None:
        try:
            self._listen(snapshot)
        except Exception as error:  # noqa: BLE001 - a panel that went away is no reason to fail
            _log.debug("a listener failed", exc_info=error)

    def trouble(self, batch_id: str, error: Exception) -> None:
        """Say on a batch's own panel what keeps it from going on."""
        before, words = self.troubles.get(batch_id), trouble.describe_error(error)
        if before is None or before.words != words:
            _log.debug("%s cannot go on", batch_id, exc_info=error)
            since = self._clock() if before is None else before.since
            self.troubles[batch_id] = words_.Trouble(words, since, _state(error))
            self.publish_id(batch_id)

    def journal_failed(self, error: Exception) -> None:
        """Say on every panel that the journal cannot be used: no snapshot can be made of it."""
        words = trouble.describe_error(error)
        if trouble.is_leaving(error) or words == self._journal:
            return
        self._journal = words
        what = words_.Trouble(words, self._clock(), _state(error))
        for snapshot in [*self._latest.values()]:
            self._hand_out(progress.troubled(snapshot, what, self._clock()))

    def journal_works(self) -> None:
        """Draw the panels anew after the journal could not be used."""
        if self._journal:
            self._journal = ""
            for batch_id in [*self._latest]:
                self.publish_id(batch_id)

    def publish_id(self, batch_id: str) -> None:
        """Hand out how a batch stands, if it is there."""
        try:
            batch = self._store.batch(batch_id)
            if batch is not None:
                self.publish(batch)
        except StoreProblem:
            pass  # a panel that lags is no reason to fail
        except Exception as error:  # noqa: BLE001 - neither is a panel that cannot be drawn
            if trouble.is_defect(error):
                trouble.report_defect(error, f"drawing the panel of batch {batch_id}")


def _state(error: Exception) -> str:
    """Return the state of a batch that met an error when it was to go on."""
    if trouble.is_defect(error):
        return "stopped"
    return "paused" if isinstance(error, (UsageProblem, Damaged)) else "attention"


def _usd(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
