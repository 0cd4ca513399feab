"""Carries batches through their lives, for any provider.

Nothing runs between two requests: a batch is *settled* when somebody looks, that is, brought to
the phase that is due by then, with the times at which it happened. So the same looks give the same
story however fast the machine is, and a restarted simulator goes on where it was.
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..server.rates import Rates, Taken
from . import life
from .behaviour import Behaviour, parse_outcome
from .dialect import Clock, Dialect, Result, Row
from .fates import Fate, Fates
from .files import private_folder, private_open, write_whole
from .ledger import Ledger
from .life import Batch, Phase

_encode = msgspec.json.encode


class Plan:
    """Where the requests of a batch lie in its file, and what will become of each."""

    def __init__(self, offsets: array[int], fates: bytes, seed: int | None) -> None:
        self.offsets = offsets
        self.fates = fates
        self.seed = seed
        self.order = array("I", range(len(offsets)))
        if seed is not None:
            random.Random(seed).shuffle(self.order)
        #: Positions in the order of execution whose rows do not count as completed.
        self.failures = [
            position
            for position, index in enumerate(self.order)
            if not Fate(fates[index]).delivered
        ]

    def dump(self) -> bytes:
        """Return the plan as bytes."""
        return msgspec.msgpack.encode((self.offsets.tobytes(), self.fates, self.seed))

    @classmethod
    def load(cls, data: bytes) -> Plan:
        """Return a plan that was dumped."""
        offsets, fates, seed = msgspec.msgpack.decode(data, type=tuple[bytes, bytes, int | None])
        return cls(array("Q", offsets), fates, seed)


class _Pace:
    """Lets the loop serve others every few milliseconds during long work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def step(self) -> None:
        if time.perf_counter() - self._since > 0.004:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


class Engine:
    """All batches of all providers."""

    def __init__(
        self, folder: Path, clock: Clock, behaviour: Behaviour, fates: Fates, ledger: Ledger
    ) -> None:
        self._folder = private_folder(folder)
        self.clock = clock
        self.behaviour = behaviour
        self.fates = fates
        self.ledger = ledger
        self._rates = Rates()
        self._dialects: dict[str, Dialect] = {}
        self._plans: dict[str, Plan] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._batches: dict[str, Batch] = {}
        records = [
            msgspec.json.decode(path.read_bytes(), type=Batch) for path in folder.glob("*.json")
        ]
        for batch in sorted(records, key=lambda batch: batch.created_at):
            self._batches[batch.id] = batch

    def rate(self, provider: str, account: str) -> Taken | None:
        """Count a request in real time against the rate limit, where there is one."""
        limits = self.behaviour
        return self._rates.take(
            provider, account, limits.rate_limit, limits.rate_seconds, self.clock.now()
        )

    def register(self, dialect: Dialect) -> None:
        """Make a provider known."""
        self._dialects[dialect.name] = dialect

    def input_path(self, batch_id: str) -> Path:
        """Return where the requests of a batch have to be put before it is created."""
        return self._folder / f"{batch_id}.input"

    def create(self, provider: str, account: str, batch_id: str, spec: dict[str, object]) -> Batch:
        """Create a batch; its end may have been told beforehand."""
        outcome, detail = parse_outcome(self.behaviour.next_outcome)
        self.behaviour.next_outcome = ""
        now = self.clock.now()
        batch = Batch(
            id=batch_id,
            provider=provider,
            account=account,
            spec=spec,
            created_at=now,
            seconds=self.behaviour.seconds,
            lifetime=self._dialects[provider].lifetime,
            outcome=outcome,
            outcome_detail=detail,
            held_since=now if self.behaviour.stuck else None,
        )
        self._batches[batch_id] = batch
        self._save(batch)
        return batch

    def get(self, provider: str, account: str, batch_id: str) -> Batch | None:
        """Return an account's batch unless it is past its retention."""
        batch = self._batches.get(batch_id)
        if batch is None or (batch.provider, batch.account) != (provider, account):
            return None
        kept = self._dialects[provider].retention
        if self.clock.now() >= (batch.ended_at or batch.created_at) + kept:
            return None
        return batch

    def listing(self, provider: str, account: str) -> list[Batch]:
        """Return an account's batches as a listing shows them, newest first."""
        newest = self.clock.now() - self.behaviour.listing_delay
        mine = (self.get(provider, account, batch_id) for batch_id in reversed(self._batches))
        return [batch for batch in mine if batch is not None and batch.created_at <= newest]

    def delete(self, batch: Batch) -> None:
        """Forget a batch."""
        del self._batches[batch.id]
        self._plans.pop(batch.id, None)
        for path in self._folder.glob(f"{batch.id}.*"):
            path.unlink()

    def clear(self) -> None:
        """Forget all batches."""
        for batch in list(self._batches.values()):
            self.delete(batch)

    def phase(self, batch: Batch) -> Phase:
        """Return the phase of a settled batch."""
        phase = life.due(batch, self.clock.now())
        if batch.ended is None and phase in life.OVER:
            # The clock went on while it was being settled: its results are not there yet.
            return Phase.CANCELLING if batch.cancelling_at is not None else Phase.FINALIZING
        return phase

    def counts(self, batch: Batch) -> tuple[int, int]:
        """Return how many rows of a settled batch are completed, and how many failed."""
        if batch.ended is not None or not batch.validated:
            return batch.completed, batch.failed
        done = life.rows_done(batch, self.clock.now())
        failed = bisect_left(self._plan(batch).failures, done)
        return done - failed, failed

    def enqueued_tokens(self, batch: Batch, model: str | None) -> int:
        """Return the prompt tokens of the account's other batches that wait or run."""
        moment = batch.moment(life.VALIDATED)
        return sum(
            other.tokens
            for other in self._batches.values()
            if other is not batch
            and (other.provider, other.account) == (batch.provider, batch.account)
            and other.model == model
            and other.validated
            and life.due(other, moment) not in life.OVER
        )

    def hold(self, stuck: bool) -> None:
        """Freeze the life of all batches, or let them go on."""
        now = self.clock.now()
        for batch in self._batches.values():
            if batch.ended is not None or stuck == (batch.held_since is not None):
                continue
            if batch.held_since is None:
                batch.held_since = now
            else:
                batch.held += now - batch.held_since
                batch.held_since = None
            self._save(batch)

    async def read(self, batch: Batch) -> None:
        """Read the requests of a batch now, for a provider that knows them from the start."""
        async with self._locks.setdefault(batch.id, asyncio.Lock()):
            if not batch.validated:
                await self._validate(batch)

    async def cancel(self, batch: Batch) -> None:
        """Begin to cancel a settled batch; what is done by now stays done."""
        now = self.clock.now()
        batch.done = life.rows_done(batch, now) if batch.validated else 0
        batch.cancelling_at = now
        self._save(batch)

    async def settle(self, batches: Iterable[Batch] | None = None) -> None:
        """Bring batches (all of them by default) to the phase that is due."""
        for batch in list(self._batches.values()) if batches is None else list(batches):
            async with self._locks.setdefault(batch.id, asyncio.Lock()):
                await self._settle(batch)

    async def _settle(self, batch: Batch) -> None:
        now = self.clock.now()
        phase = life.due(batch, now)
        if batch.ended is not None or phase in (Phase.VALIDATING, Phase.CANCELLING):
            return
        if phase is Phase.FAILED:
            batch.problems = [self._dialects[batch.provider].problem(batch.outcome_detail)]
        elif not batch.validated and batch.cancelling_at is None:
            await self._validate(batch)
        if batch.problems:
            self._end(batch, Phase.FAILED)
        elif phase in life.OVER:
            if phase is not Phase.COMPLETED:
                batch.done = life.rows_done(batch, life.ending(batch, phase))
            await self._run(batch, phase)
            self._end(batch, phase)

    def _end(self, batch: Batch, phase: Phase) -> None:
        batch.ended_at = life.ending(batch, phase)
        batch.ended = phase
        self._save(batch)
        self._plans.pop(batch.id, None)
        for path in (self.input_path(batch.id), self._plan_path(batch)):
            path.unlink(missing_ok=True)

    async def _validate(self, batch: Batch) -> None:
        validator = self._dialects[batch.provider].validator(batch)
        offsets, fates, pace = array("Q"), bytearray(), _Pace()
        offset = tokens = 0
        with self.input_path(batch.id).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = validator.take(number, line)
                    if row is not None:
                        offsets.append(offset)
                        fates.append(self._fate(row))
                        tokens += row.tokens
                offset += len(line)
                await pace.step()
        validator.close(tokens)
        batch.problems = validator.problems
        batch.model = validator.model
        if not batch.problems:
            batch.total, batch.tokens, batch.validated = len(offsets), tokens, True
            ordered = self._dialects[batch.provider].keeps_order
            plan = Plan(offsets, bytes(fates), None if ordered else self.behaviour.seed)
            self._plans[batch.id] = plan
            write_whole(self._plan_path(batch), plan.dump())
        self._save(batch)

    def _fate(self, row: Row) -> Fate:
        return self.fates.draw(row.prompt, self.behaviour) if row.valid else Fate.INVALID

    async def _run(self, batch: Batch, phase: Phase) -> None:
        """Make the results of all rows, and bill those that were reached."""
        if not batch.validated:
            return
        dialect, plan, pace = self._dialects[batch.provider], self._plan(batch), _Pace()
        done = batch.total if batch.done is None else batch.done
        unreached = Fate.CANCEL if phase is Phase.CANCELLED else Fate.EXPIRE
        batch.usage = life.Usage()
        outputs: dict[str, BinaryIO] = {}
        bill = self._folder / f"{batch.id}.bill"

        def put(result: Result, copies: int) -> None:
            if result.kind not in outputs:
                outputs[result.kind] = private_open(
                    self._folder / f"{batch.id}.{result.kind}", "wb"
                )
            outputs[result.kind].write(result.line * copies)

        with self._lines(batch, plan) as line, private_open(bill, "wb") as entries:
            for position, index in enumerate(plan.order):
                fate = Fate(plan.fates[index]) if position < done else unreached
                result = dialect.result(batch, index, line(index), fate)
                if result.entry is not None:
                    entries.write(_encode(result.entry) + b"\n")
                    batch.usage.input_tokens += result.entry.input_tokens
                    batch.usage.cached_tokens += result.entry.cached_tokens
                    batch.usage.output_tokens += result.entry.output_tokens
                if fate is Fate.BADLINE:
                    result.line = result.line[: len(result.line) // 2] + b"\n"
                if fate is not Fate.MISSING:
                    put(result, 2 if fate is Fate.DUPLICATE else 1)
                await pace.step()
        for index in range(self.behaviour.extra_rows):
            put(dialect.stranger(batch, index), 1)
        for kind, file in outputs.items():
            file.close()
            batch.results[kind] = dialect.deliver(batch, kind, Path(file.name))
        batch.failed = bisect_left(plan.failures, done)
        batch.completed = done - batch.failed
        self.ledger.bill_batch(batch.id, bill)

    @contextmanager
    def _lines(self, batch: Batch, plan: Plan) -> Iterator[Callable[[int], bytes]]:
        """Give access to the requests in any order."""
        ends = [*plan.offsets[1:], self.input_path(batch.id).stat().st_size]
        # Unbuffered, as the order is random; not mapped, which would count as memory.
        with self.input_path(batch.id).open("rb", buffering=0) as file:

            def line(index: int) -> bytes:
                file.seek(plan.offsets[index])
                return file.read(ends[index] - plan.offsets[index])

            yield line

    def _plan(self, batch: Batch) -> Plan:
        if batch.id not in self._plans:
            self._plans[batch.id] = Plan.load(self._plan_path(batch).read_bytes())
        return self._plans[batch.id]

    def _plan_path(self, batch: Batch) -> Path:
        return self._folder / f"{batch.id}.plan"

    def _save(self, batch: Batch) -> None:
        write_whole(self._folder / f"{batch.id}.json", _encode(batch))
