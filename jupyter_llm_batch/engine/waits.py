"""When each job is due, measured by a clock that nobody can set, and which jobs rest."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..core.job import Account, Job
from ..core.policy import Policy

_FOR_EVER = float("inf")


class Waits:
    """The waits of one process.

    The journal keeps moments of the clock on the wall, which may be set back; how long a wait has
    lasted is measured here by a clock that only rises.

    Parameters
    ----------
    monotonic
        Returns seconds of a clock that only rises.
    """

    def __init__(self, policy: Policy, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._monotonic = monotonic
        #: The moment on the wall that a job waits for, and the same by our clock.
        self._due: dict[str, tuple[float, float]] = {}
        self._rests: dict[str, float] = {}
        self._defects: dict[str, int] = {}
        #: What failed at its last try.
        self._failing: set[str] = set()
        #: The account under which a job was last tried.
        self._tried: dict[str, Account | None] = {}

    def left(self, job: Job, due: float, now: float) -> float:
        """Return the seconds until `job` is due; 0 when it is.

        Parameters
        ----------
        due, now
            Unix seconds, as the clock on the wall says.
        """
        return max(self._until(job, due, now), self.resting(job.id))

    def _until(self, job: Job, due: float, now: float) -> float:
        longest = self._policy.longest(stopped=job.stopped)
        if job.asked_until > now:
            longest = max(longest, self._policy.asked_longest)
        if not now < due <= now + longest:  # nobody waits so long: the clock was set back
            self._due.pop(job.id, None)
            return 0.0
        known = self._due.get(job.id)
        if known is None or known[0] != due:
            known = self._due[job.id] = (due, self._monotonic() + due - now)
        return max(0.0, min(due - now, known[1] - self._monotonic()))

    # -- rests -------------------------------------------------------------------------------------

    def rest(self, key: str, seconds: float) -> None:
        """Leave a job or a batch alone for a while, whatever the journal says."""
        self._rests[key] = self._monotonic() + seconds
        self._failing.add(key)

    def resting(self, key: str) -> float:
        """Return the seconds for which a job or a batch is still left alone."""
        return max(0.0, self._rests.get(key, 0.0) - self._monotonic())

    def defect(self, key: str) -> None:
        """Leave alone what met a defect: longer each time, and at last until `take_up`."""
        self._defects[key] = self._defects.get(key, 0) + 1
        self.rest(key, self._policy.defect_wait(self._defects[key]))

    def went_well(self, key: str) -> None:
        """Forget the defects of a job or a batch."""
        self._failing.discard(key)
        if self._defects.pop(key, 0):
            self._rests.pop(key, None)

    def is_failing(self, key: str) -> bool:
        """Whether the last try of a job or a batch failed here."""
        return key in self._failing

    def has_given_up(self, key: str) -> bool:
        """Whether a job or a batch is left alone until `take_up`."""
        return self._rests.get(key) == _FOR_EVER

    # -- stops -------------------------------------------------------------------------------------

    def tries(self, job: Job, who: Account | None) -> None:
        """Note that a job is tried under an account now."""
        self._tried[job.id] = who

    def may_have_changed(self, job: Job, who: Account | None) -> bool:
        """Whether a job that has stopped was not tried under the present account yet."""
        return job.id not in self._tried or self._tried[job.id] != who

    def take_up(self, *keys: str) -> None:
        """Try jobs and batches again now: the user has asked for it."""
        for key in keys:
            self._failing.discard(key)
            for known in (self._tried, self._rests, self._defects):
                known.pop(key, None)
