"""The simulated world and the way to look at it and change it: ``/_sim/…`` and from Python."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..anthropic.endpoints import Anthropic
from ..google.endpoints import Google
from ..google.files import Uploads
from ..openai.azure import Azure
from ..openai.endpoints import OpenAI
from ..world.behaviour import Behaviour
from ..world.dialect import Clock
from ..world.engine import Engine
from ..world.fates import Fates
from ..world.files import Files, private_folder, write_whole
from ..world.ledger import Ledger
from .door import Door
from .faults import Fault, Faults
from .wire import Call, Provider, Refused, Reply, Route

#: Requests that the log remembers.
_LOGGED = 100_000


class Seen(msgspec.Struct, kw_only=True):
    """One request in the log; ``status`` is null if it was never answered."""

    method: str
    path: str
    status: int | None
    at: float
    retry_count: str | None


class World:
    """Everything that one simulator knows, in one folder."""

    def __init__(self, state: Path, behaviour: Behaviour, keys: tuple[str, ...] = ()) -> None:
        self._state = private_folder(state)
        self.door = Door(state, keys)
        self._first_behaviour = behaviour
        self._clock_file = state / "clock.json"
        ahead, attempts = 0.0, dict[str, int]()
        if self._clock_file.exists():
            content = self._clock_file.read_bytes()
            ahead, attempts = msgspec.json.decode(content, type=tuple[float, dict[str, int]])
        self.clock = Clock(ahead)
        self.files = Files(state / "files")
        self._ledger = Ledger(state / "ledger")
        self._fates = Fates(attempts)
        self._engine = Engine(
            state / "batches",
            self.clock,
            msgspec.structs.replace(behaviour),
            self._fates,
            self._ledger,
        )
        self._engine.hold(behaviour.stuck)
        self.faults = Faults()
        self.seen: deque[Seen] = deque(maxlen=_LOGGED)
        self.last_request = time.monotonic()
        uploads = Uploads(self.files, self.clock)
        self.providers: list[Provider] = [
            OpenAI(self._engine, self.files),
            Azure(self._engine, self.files),
            Anthropic(self._engine, self.files),
            Google(self._engine, self.files, uploads),
            uploads,
        ]

    def save(self) -> None:
        """Write down what is not in a file of its own."""
        write_whole(self._clock_file, msgspec.json.encode((self.clock.ahead, self._fates.attempts)))

    def requests(self) -> list[Seen]:
        """Return the log of requests, oldest first."""
        return list(self.seen)

    async def ledger(self) -> list[bytes]:
        """Return what was executed and billed up to now, as JSON texts."""
        await self._engine.settle()
        return list(self._ledger.lines())

    async def summary(self) -> dict[str, Any]:
        """Return the totals of the ledger."""
        await self._engine.settle()
        return self._ledger.summary()

    async def behave(self, switches: dict[str, Any]) -> Behaviour:
        """Set switches and return all of them; batches keep what happened until now."""
        changed = self._engine.behaviour.changed(switches)
        await self._engine.settle()
        self._engine.behaviour = changed
        self._engine.hold(changed.stuck)
        return changed

    def fault(self, values: dict[str, Any]) -> Fault:
        """Set a fault."""
        return self.faults.add(values)

    async def advance(self, seconds: float) -> float:
        """Put the clock forward and return its time."""
        await self._engine.settle()
        self.clock.ahead += seconds
        self.save()
        return self.clock.now()

    def reset(self) -> None:
        """Forget everything, and behave as in the beginning."""
        self._engine.clear()
        self.files.clear()
        self._ledger.clear()
        self.faults.clear()
        self.seen.clear()
        self._fates.attempts.clear()
        self.clock.ahead = 0.0
        self._engine.behaviour = msgspec.structs.replace(self._first_behaviour)
        self.save()

    @property
    def behaviour(self) -> Behaviour:
        """The switches as they are."""
        return self._engine.behaviour


class Control:
    """The endpoints under ``/_sim``; they need the simulator's key, as ``Bearer KEY``."""

    prefix = "/_sim"

    def __init__(self, world: World) -> None:
        self._world = world

        def route(method: str, path: str, handle: Callable[[Call], Awaitable[Reply]]) -> Route:
            return Route(method, re.compile(re.escape(path)), handle)

        self.routes = [
            route("GET", "/health", self._health),
            route("GET", "/ledger", self._ledger),
            route("GET", "/ledger/summary", self._summary),
            route("GET", "/requests", self._requests),
            route("GET", "/behave", self._behave),
            route("POST", "/behave", self._behave),
            route("GET", "/fault", self._faults),
            route("POST", "/fault", self._fault),
            route("DELETE", "/fault", self._clear_faults),
            route("POST", "/clock", self._advance),
            route("POST", "/reset", self._reset),
        ]

    def authenticate(self, headers: Mapping[str, str]) -> str:
        """Let in whoever has the key: prompts and answers of others can be seen here."""
        if not self._world.door.has_key(headers):
            raise Refused(Reply({"error": "Authorization: Bearer KEY is needed"}, 401))
        return ""

    def no_route(self, method: str, path: str) -> Reply:
        """Return a 404."""
        return Reply({"error": f"no {method} {path}"}, 404)

    def too_large(self) -> Reply:
        """Return a 413."""
        return Reply({"error": "too large"}, 413)

    def headers(self, _seconds: float) -> dict[str, str]:
        """Return no headers of its own."""
        return {}

    async def _health(self, _call: Call) -> Reply:
        return Reply({"ok": True, "pid": os.getpid()})

    async def _ledger(self, _call: Call) -> Reply:
        lines = await self._world.ledger()
        return Reply(b"[" + b",\n".join(lines) + b"]")

    async def _summary(self, _call: Call) -> Reply:
        return Reply(await self._world.summary())

    async def _requests(self, _call: Call) -> Reply:
        return Reply(self._world.requests())

    async def _behave(self, call: Call) -> Reply:
        try:
            return Reply(await self._world.behave(_values(call)))
        except ValueError as error:
            raise _refused(error) from error

    async def _faults(self, _call: Call) -> Reply:
        return Reply(self._world.faults.set)

    async def _fault(self, call: Call) -> Reply:
        try:
            return Reply(self._world.fault(_values(call)))
        except ValueError as error:
            raise _refused(error) from error

    async def _clear_faults(self, _call: Call) -> Reply:
        self._world.faults.clear()
        return Reply([])

    async def _advance(self, call: Call) -> Reply:
        seconds = _values(call).get("advance")
        if not isinstance(seconds, int | float):
            raise _refused(ValueError("advance must be a number of seconds"))
        return Reply({"now": await self._world.advance(seconds)})

    async def _reset(self, _call: Call) -> Reply:
        self._world.reset()
        return Reply({})


def _values(call: Call) -> dict[str, Any]:
    try:
        return msgspec.json.decode(call.body or b"{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise _refused(error) from error


def _refused(error: Exception) -> Refused:
    return Refused(Reply({"error": str(error)}, 400))
