"""What the parts of the poller share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core.policy import Policy
from ..costs import budget
from ..providers.base import Adapter
from ..storage.store import Store
from .cleanup import Cleanup
from .job_end import JobEnd
from .key_rotation import Rotation
from .leasing import Leasing
from .reporting import Reporter
from .status.views import Views
from .steps import Driver
from .tasks import Tasks
from .waiters import Waiters
from .waits import Waits


@dataclass(frozen=True, kw_only=True)
class Drive:
    """The poller's parts, for one another.

    Attributes
    ----------
    salt
        The journal's salt for fingerprints of keys.
    followed
        Batches that are driven whatever notebook they are of.
    wake
        Has everything looked at again.
    """

    store: Store
    adapters: Callable[[str], Adapter]
    policy: Policy
    clock: Callable[[], float]
    rules: Callable[[], budget.Rules]
    salt: bytes
    views: Views
    waits: Waits
    rotation: Rotation
    end: JobEnd
    cleanup: Cleanup
    driver: Driver
    leasing: Leasing
    waiters: Waiters
    reporter: Reporter
    tasks: Tasks
    followed: set[str]
    wake: Callable[[], None]
