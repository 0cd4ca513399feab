"""All errors of this package, grouped by who must act.

::

    LLMBatchError
    ├── NotReady            you: wait, the answers are not there yet
    │   └── Halted          you: waiting does not help, the message says what to do
    ├── UsageProblem        you: an option, a name, a template, the rows
    │   ├── NotConfirmed    you: confirm what may be paid twice or deletes answers
    │   └── NotFound        you: no such batch or row
    ├── ProviderError       somebody between here and the provider
    │   ├── Refused         you: the provider read the request and said no (nothing was created)
    │   │   ├── KeyRefused  you: key or permission
    │   │   └── Vanished    nobody: the object is not there (any more)
    │   ├── Busy            wait: nothing was created, the same call may be repeated later
    │   │   ├── OutOfQuota  you or wait: quota, credit or spend limit is used up
    │   │   └── Blocked     you: a proxy, a certificate or an address that cannot be used
    │   ├── Unclear         nobody yet: the call may or may not have taken effect, look it up
    │   └── Undecided       wait, or you: what a look-up found may be ours, nothing proves it yet
    ├── Incomplete          wait: a download did not arrive whole
    ├── StoreProblem        you: disk, permissions, a damaged journal
    │   ├── Damaged         you: a file on disk is not what was written
    │   ├── ForkedProcess   you: batches belong to the process that was forked
    │   └── LeaseLost       nobody: another process drives this batch now
    └── IllegalEvent        us: a defect in the lifecycle

A message is one line that says what to do. It never contains a key: providers echo parts of keys
in their 401 bodies, so every message that comes from outside goes through `redact`. Keys of no
known form are registered with `conceal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .redaction import conceal as conceal  # noqa: PLC0414 - others find it here
from .redaction import redact as redact  # noqa: PLC0414
from .short_traceback import ForUsers
from .terminal import visible

if TYPE_CHECKING:
    from .job import Remote


class LLMBatchError(Exception):
    """Base of everything this package raises on purpose."""

    def __str__(self) -> str:
        return visible(super().__str__())


class UsageProblem(LLMBatchError, ValueError, ForUsers):
    """The input cannot be used as it is; the message says what to change."""


class NotConfirmed(UsageProblem):
    """An action that may cost money twice, or deletes paid answers, needs a confirmation.

    Nothing was done yet.

    Parameters
    ----------
    facts
        What would happen, with rows and cost.
    yes
        What confirming does: ``send all 3``.
    unbilled
        What the cheaper choice does, where there is one.
    done
        What was not done yet.
    """

    def __init__(self, facts: str, *, yes: str, unbilled: str = "", done: str = "sent") -> None:
        self._parts = facts, yes, unbilled, done
        super().__init__(self.words("confirm=True", "unbilled=True"))

    def words(self, confirm: str, unbilled: str) -> str:
        """Return the message with the two choices as a front end spells them."""
        facts, yes, cheaper, done = self._parts
        instead = f", {unbilled} to {cheaper}" if cheaper else ""
        stop = "" if facts.endswith("?") else "."
        return f"{facts}{stop} Nothing was {done}: add {confirm} to {yes}{instead}"


class NotReady(LLMBatchError, ForUsers):
    """The answers are not there yet."""


class Halted(NotReady):
    """Waiting does not help: the batch continues only after the user has acted."""


class NotFound(UsageProblem, LookupError):
    """No batch, row or file of that name."""


class ProviderError(LLMBatchError, ForUsers):
    """A call to a provider failed.

    Parameters
    ----------
    message
        One line for the user; it is redacted here.
    status
        HTTP status, when there was an answer.
    code
        The provider's own error code or type.
    retry_after
        Seconds that the provider asked us to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(redact(message))
        self.status = status
        self.code = None if code is None else redact(code)
        self.retry_after = retry_after


class Refused(ProviderError):
    """The provider read the request and refused it: nothing was created."""


class KeyRefused(Refused):
    """Key, organisation or permission: nothing was created."""


class Vanished(Refused):
    """The provider does not know the object (404): never existed, deleted, or past retention."""


class Busy(ProviderError):
    """Nothing was created and the same call may be repeated after a wait."""


class OutOfQuota(Busy):
    """Quota, credit or spend limit is used up; only time or the account's owner helps."""


class Blocked(Busy):
    """A setting of this machine keeps every call from going out: proxy, certificate, address."""


class Unclear(ProviderError):
    """The call may have taken effect: timeout, connection lost after sending, 5xx."""


class Undecided(ProviderError):
    """A look-up found jobs that may be the wanted one, without proof either way.

    Parameters
    ----------
    candidates
        The jobs in question.
    """

    def __init__(self, message: str, candidates: Sequence[Remote]) -> None:
        super().__init__(message)
        self.candidates = candidates


class Incomplete(LLMBatchError, ForUsers):
    """A download is incomplete; it is fetched again."""


class StoreProblem(LLMBatchError, ForUsers):
    """The local journal or its files cannot be used."""


class Damaged(StoreProblem):
    """A file is missing, cut short or changed since it was written."""


class ForkedProcess(StoreProblem):
    """A process forked from one that has the journal open must not use the journal."""


class LeaseLost(StoreProblem):
    """Another process has the lease of this batch; this one must not write or create anything."""


class IllegalEvent(LLMBatchError):
    """An event that the lifecycle does not allow in this state."""
