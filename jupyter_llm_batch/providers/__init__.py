"""The providers: one folder each, found by name; third parties register by entry point.

Belongs here: every fact about a provider's API. Does not: when something is asked (`engine`).
Read `base` first, then `registry` and one provider's `adapter`. This module has what an adapter of
another package needs, and `testing` the tests that it should pass.
"""

from ..core.batch import Batch
from ..core.errors import (
    Blocked,
    Busy,
    Incomplete,
    KeyRefused,
    OutOfQuota,
    ProviderError,
    Refused,
    Unclear,
    Undecided,
    UsageProblem,
    Vanished,
)
from ..core.job import Account, Counts, Job, JobState, Phase, Remote, Reply
from ..core.request import Content, Limits, Recipe, Sink
from ..core.result import Outcome, Result, ToolCall, Usage
from ..core.secret import Secret
from .base import Adapter, Counting, Encoder, RealTime
from .shared.access import Access
from .shared.errors import from_status, from_transport, retry_after
from .shared.media import neutral
from .shared.pages import read as read_pages

__all__ = [
    "Access",
    "Account",
    "Adapter",
    "Batch",
    "Blocked",
    "Busy",
    "Content",
    "Counting",
    "Counts",
    "Encoder",
    "Incomplete",
    "Job",
    "JobState",
    "KeyRefused",
    "Limits",
    "OutOfQuota",
    "Outcome",
    "Phase",
    "ProviderError",
    "RealTime",
    "Recipe",
    "Refused",
    "Remote",
    "Reply",
    "Result",
    "Secret",
    "Sink",
    "ToolCall",
    "Unclear",
    "Undecided",
    "Usage",
    "UsageProblem",
    "Vanished",
    "from_status",
    "from_transport",
    "neutral",
    "read_pages",
    "retry_after",
]
