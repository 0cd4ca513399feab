"""A key that was replaced: whether the present one is of the account that a job was sent with.

A remote job can be seen by its own account only. Whoever is shown it, with the same server,
organisation and project as before, is that account; any refusal proves nothing and changes nothing.
"""

from __future__ import annotations

import time

import msgspec

from ..core.errors import LLMBatchError, Refused
from ..core.job import Account, Job
from ..core.policy import Policy
from ..providers.base import Adapter
from ..storage.store import Store

#: A provider, the account that a job was sent with, and the present one.
Pair = tuple[str, Account, Account]


def only_the_key(one: Account, other: Account) -> bool:
    """Whether nothing else tells two accounts apart."""
    return one != other and one == msgspec.structs.replace(other, fingerprint=one.fingerprint)


class Rotation:
    """What is known of replaced keys: each pair is asked about until there is an answer."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self._same: set[Pair] = set()
        #: When (monotonic) a pair may be asked about again; never after a refusal.
        self._again: dict[Pair, float] = {}

    def is_same(self, job: Job, who: Account) -> bool:
        """Whether `who` was proved to be the account of `job`."""
        return job.account is not None and (job.provider, job.account, who) in self._same

    def is_open(self, job: Job, who: Account) -> bool:
        """Whether it can and should be asked about `job` now."""
        if job.account is None or not only_the_key(job.account, who):
            return False
        pair = (job.provider, job.account, who)
        return pair not in self._same and self._again.get(pair, 0.0) <= time.monotonic()

    async def ask(self, job: Job, who: Account, adapter: Adapter) -> None:
        """Ask for a remote job of the account of `job`, if one is known."""
        assert job.account is not None
        pair = (job.provider, job.account, who)
        self._again[pair] = float("inf")
        remote_id = job.remote_id or self._store.remote_jobs.latest_of_account(
            job.provider, job.account
        )
        if not remote_id:
            return
        try:
            await adapter.retrieve(remote_id)
        except Refused:
            pass
        except LLMBatchError:
            self._again[pair] = time.monotonic() + self._policy.retry_wait(1)
        else:
            self._same.add(pair)
