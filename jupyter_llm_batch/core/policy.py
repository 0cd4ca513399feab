"""Every wait of the engine, and how often what fails is tried again. No I/O, no clock."""

from __future__ import annotations

import random

import msgspec

#: A job waits no longer than this for those that fill its cache (seconds).
CACHE_PATIENCE = 3600.0

#: How long a journal that another process uses is waited for (seconds).
JOURNAL_WAIT = 30.0

#: How long a call to a provider waits for a connection, and for a free one of those it may have.
CONNECT, POOL = 10.0, 30.0
#: Seconds of silence that a call bears: a look at a model, most calls, those that move whole
#: batches, and an answer in real time or an upload that the provider takes in.
LOOK, CALL, LONG_CALL, ANSWER = 15.0, 60.0, 120.0, 600.0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds, and how often to try.

    Attributes
    ----------
    poll
        Shortest interval between two looks at a job that nobody asked for.
    poll_longest
        Longest interval; a job is looked at about twenty times on its way to its present age.
    retry, retry_longest
        First and longest wait after a call that failed for a passing reason.
    recheck, recheck_longest
        First and longest wait after a call that fails until somebody changes something, such as a
        refused key: the batch has stopped, and is tried again by itself this rarely.
    defect, defect_tries
        First wait after a defect of ours, ten times as long each time; and after how many in a row
        the job rests until the user asks for it or another process takes it up.
    room
        Wait after a job was refused for lack of enqueued-token room.
    settle
        Takes the place of the provider's settling time, as if it were documented (None: as the
        provider's limits say).
    young
        A job that is younger and not found may just not be visible yet.
    absences
        How often in a row the provider must not know a job or a file before it counts as gone:
        with the waits in between some ten minutes, since gateways in trouble answer 404 as well.
    uploads
        How often what is gone before the create, such as an upload, is uploaded again.
    fetches
        How often an incomplete download is fetched again before rows count as missing.
    same_fetch
        Two equal incomplete downloads this far apart are all that the provider has.
    tidying
        How long deleting a job's files at the provider may take before they are left there.
    sleep
        Longest sleep of the loop: wishes of other processes (cancel) are seen this often.
    watch
        Time between two looks at batches that another process drives.
    asked_longest
        Longest wait that a provider may ask for: a day, and its jitter.
    remember
        An end that nobody told of is told after a restart, if it is not older.
    look
        Time between two looks of a real-time job at the journal.
    turned_away
        How often a real-time row may be turned away before it ends as failed.
    unclear
        So many real-time requests in a row of unknown outcome are an outage.
    at_once
        Most requests in real time under way to one account.
    jitter
        Random share by which every wait is shortened or lengthened.
    """

    poll: float = 30.0
    poll_longest: float = 300.0
    retry: float = 5.0
    retry_longest: float = 900.0
    recheck: float = 600.0
    recheck_longest: float = 3600.0
    defect: float = 5.0
    defect_tries: int = 3
    room: float = 300.0
    settle: float | None = None
    young: float = 600.0
    absences: int = 8
    uploads: int = 6
    fetches: int = 6
    same_fetch: float = 30.0
    tidying: float = 30.0
    sleep: float = 5.0
    watch: float = 2.0
    asked_longest: float = 1.5 * 86400.0
    remember: float = 86400.0
    look: float = 0.5
    turned_away: int = 8
    unclear: int = 3
    at_once: int = 64
    jitter: float = 0.2

    def poll_wait(self, age: float, floor: float | None = None) -> float:
        """Return the seconds until a job of `age` seconds is looked at again."""
        wait = self._jittered(min(max(self.poll, age / 20), max(self.poll, self.poll_longest)))
        return max(wait, self.poll, floor or 0.0)

    def retry_wait(self, failures: int, asked: float | None = None) -> float:
        """Return the seconds until a call that failed `failures` times in a row is repeated."""
        wait = _doubled(self.retry, failures, self.retry_longest)
        return max(self._jittered(wait), asked or 0.0)

    def recheck_wait(self, failures: int) -> float:
        """Return the seconds until a batch that has stopped is tried again by itself."""
        return self._jittered(_doubled(self.recheck, failures, self.recheck_longest))

    def defect_wait(self, defects: int) -> float:
        """Return the seconds until what met a defect of ours is tried again; at last for ever."""
        return float("inf") if defects >= self.defect_tries else self.defect * 10.0 ** (defects - 1)

    def room_wait(self) -> float:
        """Return the seconds until a job refused for lack of room is sent again."""
        return self._jittered(self.room)

    def longest(self, *, stopped: bool) -> float:
        """Return the longest wait of our own choice; see `recheck` for `stopped`."""
        waits = [self.poll, self.poll_longest, self.retry_longest, self.room]
        return max(*waits, self.recheck_longest if stopped else 0.0) * (1 + self.jitter)

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + self.jitter * random.uniform(-1, 1))  # noqa: S311 - spreads load


def _doubled(first: float, times: int, longest: float) -> float:
    return min(first * 2.0 ** min(max(times, 1) - 1, 20), longest)
