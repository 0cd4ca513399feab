"""Write the end of a job: its state, the outcomes of its rows, and what it cost."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..core import trouble
from ..core.batch import Batch
from ..core.errors import ProviderError, Vanished
from ..core.ids import Ranges
from ..core.job import Job, Remote
from ..core.lifecycle import Event
from ..core.policy import Policy
from ..core.result import Outcome
from ..core.row_codes import outcome_of, row_code
from ..costs import budget
from ..providers.base import Adapter
from ..storage import files
from ..storage.records import Lease
from ..storage.store import Store
from ..submission import adopt, retry
from . import booking
from .reconcile import Reconciler


class JobEnd:
    """Ends jobs, and notes what failed and is to be repeated, for whoever holds the lease.

    Parameters
    ----------
    rules
        Returns the prices in use.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        clock: Callable[[], float],
        rules: Callable[[], budget.Rules],
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._rules = rules

    def payload(self, job: Job) -> Path:
        """Return where the request lines of a job lie."""
        return self._store.folder_of(job.batch_id) / job.payload

    def part(self, job: Job, name: str) -> Path:
        """Return where one part of a job's results lies."""
        return self._store.folder_of(job.batch_id) / f"{Path(job.payload).stem}.{name}.jsonl"

    def vanish(self, held: Lease, job: Job, error: Vanished) -> None:
        """End a job that the provider does not know any more."""
        self.settle(held, job, Event.VANISHED, None, str(error))

    def fail(self, held: Lease, job: Job, event: Event, reason: str, **changes: Any) -> None:
        """End a job that was refused or went wrong as a whole: all its rows failed."""
        self.settle(held, job, event, Outcome.FAILED, reason, **{**changes, "error": reason})

    def settle(
        self,
        held: Lease,
        job: Job,
        event: Event,
        outcome: Outcome | None,
        reason: str,
        **changes: Any,
    ) -> None:
        """End a job whose rows all have the same outcome (None: missing)."""
        batch = self._store.batch(job.batch_id)
        if batch is not None and batch.adopted and not job.round:
            job = self.know_rows(held, batch, job, adopt.find_rows(self.payload(job), (), job))
        reconciler = Reconciler(
            job,
            self._store.job_rows(job.id),
            user_cancelled=True,
            book=self._rules().book,
            billed=self.billed(job),
            here=job.round > 0 or not job.unasked,
        )
        if outcome is None:
            reconciler.close(None, reason)
        else:
            reconciler.fail(outcome, reason)
        changes.setdefault("error", reason)
        self.record(held, job, event, reconciler, None, **changes)

    def is_read_only(self, job: Job) -> bool:
        """Whether a job was created elsewhere; what a retry sent of it was not."""
        batch = self._store.batch(job.batch_id) if job.round == 0 else None
        return batch is not None and batch.adopted

    def know_size(self, held: Lease, job: Job, remote: Remote) -> Job:
        """Note how many rows a job that was created elsewhere has, once they are counted."""
        if remote.size in {0, job.rows}:
            return job
        rows, packs = Ranges([(0, remote.size)]), adopt.packs(remote.size)
        return self._store.know_rows(held, job, rows, packs, {})

    def know_rows(self, held: Lease, batch: Batch, job: Job, found: adopt.Rows) -> Job:
        """Note which rows a batch that was created elsewhere has."""
        adopt.write_keys(found.keys, self._store.folder_of(batch.id))
        packs = adopt.packs(len(found.keys)) | {adopt.KEYS: msgspec.json.encode(found.keys)}
        of_job, of_batch = adopt.about(batch, job, found)
        return self._store.know_rows(held, job, found.rows, packs, of_batch, **of_job)

    def billed(self, job: Job) -> set[int]:
        """Return the rows of a job of which an earlier attempt may have been billed."""
        packed = self._store.pack(job.batch_id, retry.BILLED)
        return {row for row in self._store.job_rows(job.id) if packed[row]} if packed else set()

    def record(
        self,
        held: Lease,
        job: Job,
        event: Event,
        reconciler: Reconciler,
        adapter: Adapter | None,
        **changes: Any,
    ) -> Job:
        """Write the job's end and its rows' outcomes in one transaction."""
        outcomes = bytearray(self._store.pack(job.batch_id, "outcomes"))
        owners = bytearray(self._store.pack(job.batch_id, "owners"))
        kept = self._store.pack(job.batch_id, retry.BILLED) or bytes(len(outcomes))
        for row, code in reconciler.codes.items():
            if outcome_of(code) is not Outcome.OK and kept[row] & retry.CUT_BEFORE:
                # It was sent again since its answer was cut; that is still better than none.
                outcomes[row] = row_code(Outcome.OK, billed=True, cut=True)
                continue
            outcomes[row] = code
            struct.pack_into("<I", owners, 4 * row, job.number)
        cost = reconciler.total_cost()
        batch = self._store.batch(job.batch_id)
        spends = (
            booking.of_job(batch, job, reconciler, self._rules(), self._clock()) if batch else []
        )
        detail = f"{reconciler.seen} rows"
        if reconciler.strange:
            detail += f", {reconciler.strange} lines of unknown or repeated rows"
        return self._store.apply(
            held,
            job,
            event,
            detail=detail,
            packs={"outcomes": bytes(outcomes), "owners": bytes(owners)},
            spends=spends,
            tally=reconciler.tally(),
            usage=reconciler.total_usage(),
            cost=str(cost.batch) if cost else None,
            saved=str(cost.saved) if cost else None,
            kinds=reconciler.kinds(),
            unassigned=reconciler.unassigned,
            samples=reconciler.sample_rows(self._prompts(job, reconciler, adapter)),
            **changes,
        )

    def _prompts(self, job: Job, reconciler: Reconciler, adapter: Adapter | None) -> dict[int, str]:
        wanted = {row for row, _ in reconciler.samples}
        if adapter is None or not wanted or not self.payload(job).exists():
            return {}
        found: dict[int, str] = {}
        rows = iter(self._store.job_rows(job.id))
        with contextlib.suppress(OSError):  # samples are a courtesy, answers are not
            for row, line in zip(rows, files.lines(self.payload(job)), strict=False):
                if row in wanted:
                    try:
                        found[row] = adapter.prompt_of(line)
                    except Exception:  # noqa: BLE001 - a request of others may be anything
                        found[row] = line[:1000].decode(errors="replace")
                    if len(found) == len(wanted):
                        break
        return found

    def waiting(self, job: Job, error: Exception) -> dict[str, Any]:
        """Return what a job's record says after a step that failed and is to be repeated."""
        failures = job.failures + 1
        asked = error.retry_after if isinstance(error, ProviderError) else None
        stopped = trouble.is_lasting(error)
        wait = self._policy.retry_wait(failures, asked)
        if stopped:
            wait = max(self._policy.recheck_wait(failures), asked or 0.0)
        now = self._clock()
        return {
            "failures": failures,
            "failing_since": job.failing_since if job.failures else now,
            "stopped": stopped,
            "error": trouble.describe_error(error),
            "not_before": now + wait,
            "asked_until": now + asked if asked else job.asked_until,
        }

    def again(self, held: Lease, job: Job, error: Exception, **changes: Any) -> None:
        """Record a step that failed, why, and when to repeat it."""
        self._store.note(held, job, **self.waiting(job, error), **changes)
