"""``watch``: drive batches, or follow their driver, until all are done or a signal comes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar

from ..client.client import Client
from ..client.handle import BatchHandle
from ..core.batch import Batch
from ..core.errors import LLMBatchError
from ..core.snapshot import Snapshot
from .report import Seen
from .show import Show

T = TypeVar("T")

#: Exit codes, as ``--help`` lists them; 128 and the signal's number after a signal.
DONE, WITHOUT_ANSWER, USAGE, ATTENTION, UNDER_WAY = range(5)

#: Seconds between two looks at the journal.
LOOK = 0.2

#: Seconds between two looks at whether an undecided submission needs the user.
ASK = 60.0


class Interrupted(Exception):
    """A signal asked this process to end."""


class Signals:
    """Handler that notes SIGINT and SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.number = 0

    def listen(self) -> None:
        """Install the handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: self._on(number))

    def _on(self, number: int) -> None:
        self.number = number
        signal.signal(number, signal.SIG_DFL)

    def sleep(self, seconds: float) -> None:
        """Sleep; raises `Interrupted` as soon as a signal comes."""
        end = time.monotonic() + seconds
        while True:
            if self.number:
                raise Interrupted
            rest = end - time.monotonic()
            if rest <= 0:
                return
            time.sleep(min(rest, 0.1))

    def result(self, future: concurrent.futures.Future[T]) -> T:
        """Return what comes of the background's work; a signal interrupts."""
        while True:
            try:
                return future.result(0.1)
            except concurrent.futures.TimeoutError:
                if self.number:
                    future.cancel()
                    raise Interrupted from None


def look_at(client: Client, batch: Batch) -> Seen:
    """Return a batch as it is now."""
    watching = client.watching
    shot = watching.snapshot(batch)
    return Seen(batch=batch, shot=shot, driver=watching.driver(batch.id))


def with_sources(client: Client, batches: Iterable[Batch]) -> list[str]:
    """Return the ids of unfinished batches, and of those whose answers they reuse."""
    ids: dict[str, None] = {}
    for batch in batches:
        for each in [batch.id, *batch.sources]:
            known = client.library.record(each)
            if known is not None and known.finished_at is None:
                ids[each] = None
    return [*ids]


def poll_once(client: Client, batches: Sequence[Batch], signals: Signals) -> list[Seen]:
    """Poll once, and return the state of the batches."""
    signals.result(client.watching.poll(with_sources(client, batches)))
    signals.result(client.watching.notified())
    found = [client.library.record(batch.id) for batch in batches]
    return [look_at(client, batch) for batch in found if batch is not None]


def watch_batches(
    client: Client, chosen: Sequence[Batch] | None, show: Show, signals: Signals
) -> list[Seen]:
    """Drive the chosen batches (None: all unfinished ones, also later ones) until they end.

    Returns early when all that are left wait for the user.
    """
    seen: dict[str, Seen] = {}
    news: dict[str, Snapshot] = {}
    client.watching.listen(lambda shot: news.update({shot.batch_id: shot}))
    for each in chosen or []:
        seen[each.id] = look_at(client, each)
    asked = 0.0
    while True:
        unfinished = {batch.id: batch for batch in client.library.records(unfinished=True)}
        wanted = set(seen) | (set(unfinished) if chosen is None else set())
        for batch_id in wanted:
            batch = unfinished.get(batch_id) or client.library.record(batch_id)
            if batch is None:
                seen.pop(batch_id, None)  # forgotten meanwhile
            elif batch_id not in seen or (batch_id in unfinished) == seen[batch_id].shot.finished:
                seen[batch_id] = look_at(client, batch)
            elif (shot := news.pop(batch_id, None)) and shot != seen[batch_id].shot:
                driver = client.watching.driver(batch_id)
                seen[batch_id] = Seen(batch=batch, shot=shot, driver=driver)
        for batch_id in with_sources(client, (each.batch for each in seen.values())):
            client.watching.follow(batch_id)
        show.update([*seen.values()])
        left = [each for each in seen.values() if not each.shot.finished]
        if not left:
            signals.result(client.watching.notified())
            return [*seen.values()]
        if all(each.shot.needs_user for each in left):
            if all(each.shot.halted for each in left):
                return [*seen.values()]
            if time.monotonic() - asked >= ASK or not asked:
                asked = time.monotonic()
                if all(_needs_the_user(client, each, signals) for each in left):
                    return [*seen.values()]
        signals.sleep(LOOK)


def _needs_the_user(client: Client, seen: Seen, signals: Signals) -> bool:
    """Whether the batch needs the user; a network that is down comes back by itself."""
    if seen.shot.halted:
        return True
    with contextlib.suppress(LLMBatchError):
        undecided = signals.result(client.watching.undecided(seen.batch.id))
        return any(candidates for _, candidates in undecided)
    return False


def exit_code(found: Sequence[Seen]) -> int:
    """Return the exit code for the state of the batches."""
    left = [each.shot for each in found if not each.shot.finished]
    if any(shot.needs_user for shot in left):
        return ATTENTION
    if left:
        return UNDER_WAY
    return WITHOUT_ANSWER if any(each.shot.failed + each.shot.unsent for each in found) else DONE


def handle_of(client: Client, batch: Batch) -> BatchHandle:
    """Return the handle of a batch of any notebook."""
    return client.library.handle(batch.id)
