"""What the outcome of a create changes in a job's record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.errors import ProviderError
from ..core.job import Job, Remote
from ..core.lifecycle import Event
from ..core.policy import Policy
from ..storage.records import Lease
from ..storage.store import Store
from .job_end import JobEnd


class JobUpdates:
    """Writes what became of creates.

    Attributes
    ----------
    created
        What was created but could not be written down yet, for lack of room; by its label.
    """

    def __init__(
        self, store: Store, policy: Policy, clock: Callable[[], float], end: JobEnd
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._end = end
        self.created: dict[str, Remote] = {}

    def lose(self, held: Lease, job: Job, detail: str) -> None:
        """Record that our own call has ended without an outcome."""
        self._store.apply(
            held, job, Event.LOST, detail=detail, sender="", error=None, not_before=0.0
        )

    def accept(
        self, held: Lease, job: Job, event: Event, remote: Remote, *, repeated: bool = True
    ) -> None:
        """Record that the provider has the job."""
        self._store.apply(
            held,
            job,
            event,
            detail=remote.remote_id,
            remote_id=remote.remote_id,
            remote_state=remote.state,
            counts=remote.counts,
            expires_at=remote.expires_at,
            keep_until=remote.keep_until,
            cancel_sent=False,
            distrusted=False,
            repeated=repeated,
            failures=0,
            absences=0,
            error=None,
            **self.next_look(0.0, remote),
        )

    def not_created(self, held: Lease, job: Job, error: ProviderError, **changes: Any) -> None:
        """Record that surely nothing was created, and when to try again."""
        self._store.apply(
            held,
            job,
            Event.NOT_CREATED,
            detail=str(error),
            **self._end.waiting(job, error),
            **changes,
        )

    def next_look(self, age: float, remote: Remote) -> dict[str, Any]:
        """Return what a job's record says after a look: when the next one is due."""
        now = self._clock()
        return {
            "asked_until": now + remote.poll_after if remote.poll_after else 0.0,
            "not_before": now + self._policy.poll_wait(age, remote.poll_after),
        }
