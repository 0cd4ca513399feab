"""Report what fails here: trouble that passes, and defects of ours."""

from __future__ import annotations

import contextlib
import logging

from ..core import trouble
from ..core.errors import LeaseLost, LLMBatchError
from ..core.job import Job
from ..core.policy import Policy
from ..storage.records import Lease
from ..storage.store import Store
from .job_end import JobEnd
from .leasing import Leasing
from .status.views import Views
from .waiters import Waiters
from .waits import Waits

_log = logging.getLogger(__name__)


class Reporter:
    """Notes what failed, and has it shown and tried again later."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        *,
        views: Views,
        waits: Waits,
        end: JobEnd,
        leasing: Leasing,
        waiters: Waiters,
    ) -> None:
        self._store = store
        self._policy = policy
        self._views = views
        self._waits = waits
        self._end = end
        self._leasing = leasing
        self._waiters = waiters

    def report_trouble(self, held: Lease, job: Job, error: Exception) -> None:
        """Something failed here (disk full, a defect of ours): say so and try again later."""
        if trouble.is_leaving(error):
            return  # the next session goes on
        if trouble.is_defect(error):
            self.report_defect(error, f"a step of job {job.id} ({job.state})", job.id, job.batch_id)
            self._views.trouble(job.batch_id, error)
            return
        _log.debug("step of %s failed", job.id, exc_info=error)
        self._waits.rest(job.id, self._policy.retry_wait(1))
        try:
            self._end.again(held, self._store.now(job), error)
        except LeaseLost:
            self._leasing.lose(held)
        except (LLMBatchError, OSError):  # the disk is full, perhaps: the panel says it at least
            self._views.trouble(job.batch_id, error)

    def report_defect(
        self, error: BaseException, where: str, key: str = "", batch_id: str = ""
    ) -> None:
        """Report a defect of ours; what met it is tried a few more times and then rests."""
        if not trouble.is_defect(error):
            _log.debug("%s failed", where, exc_info=error)
            return
        defect = trouble.report_defect(error, where)
        if key:
            self._waits.defect(key)
        if batch_id:
            with contextlib.suppress(LLMBatchError, OSError):
                self._store.events.log(batch_id, "defect", f"{where}: {defect.traceback[-2000:]}")
        if trouble.is_strict():
            self._waiters.fail(error)

    def report_journal(self, error: Exception) -> None:
        """Say on the panels what keeps the journal from being used; it is tried again."""
        self.report_defect(error, "looking at the journal")
        self._views.journal_failed(error)
