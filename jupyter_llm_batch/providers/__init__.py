"""The providers: one folder each, found by name; third parties register by entry point.

Belongs here: every fact about a provider's API. Does not: when something is asked (`engine`).
Read `base` first, then `registry` and one provider's `adapter`. This module has what an adapter of
another package needs.
"""

from ..core.batch import Batch
from ..core.errors import (
    Busy,
    Incomplete,
    KeyRefused,
    OutOfQuota,
    ProviderError,
    Refused,
    Unclear,
    UsageProblem,
    Vanished,
)
from ..core.job import Account, Counts, Job, JobState, Phase, Remote, Reply
from ..core.request import Limits, Recipe, Sink
from ..core.result import Outcome, Result, ToolCall, Usage
from .base import Adapter, Encoder
from .shared.errors import from_status, from_transport

__all__ = [
    "Account",
    "Adapter",
    "Batch",
    "Busy",
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
    "Recipe",
    "Refused",
    "Remote",
    "Reply",
    "Result",
    "Sink",
    "ToolCall",
    "Unclear",
    "Usage",
    "UsageProblem",
    "Vanished",
    "from_status",
    "from_transport",
]
