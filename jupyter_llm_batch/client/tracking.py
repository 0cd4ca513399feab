"""Calls that the user's own clients make in real time: counted and priced, contents left alone.

Opt-in. The three SDKs send requests, sync or async, streamed or raw, by `send` of an httpx2 client
(Gemini's also of an httpx client, on request); the event hooks there see no body, so while
tracking, `send` itself is followed and at the end put back as it was. Where aiohttp is installed,
Gemini's SDK sends its asynchronous requests by that: there it is `ClientSession._request`. Of an
answer only its model and token counts are read, of a request only its address and the SDK's own
``user-agent``. Our own calls are made on another thread and not counted.

Not seen: WebSockets (the Live and Realtime APIs), and synchronous Gemini calls over Google Cloud
with a client certificate, which google-auth sends by requests.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import re
import sys
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..core.result import Usage
from ..costs import prices, rates
from ..engine.background import THREAD, Background
from ..providers import usage as usages
from ..storage.store import Store
from .stream_tap import Overheard, Reader

#: Addresses that answer at once, and what we call them.
_ENDPOINTS = (
    (re.compile(r"/chat/completions$"), "chat"),
    (re.compile(r"/responses$"), "responses"),
    (re.compile(r"/embeddings$"), "embeddings"),
    (re.compile(r"/completions$"), "completions"),
    (re.compile(r"/v1/messages$"), "chat"),
    (re.compile(r":(streamG|g)enerateContent$"), "chat"),
    (re.compile(r":(batchEmbedContents|embedContent)$"), "embeddings"),
)
#: What the SDKs call themselves.
_SDKS = (("OpenAI/", "openai"), ("Anthropic/", "anthropic"), ("google-genai-sdk/", "google"))

#: Seconds between two writes to the journal.
_FLUSH = 1.0


class Call(msgspec.Struct, kw_only=True):
    """One call, as it is kept.

    Attributes
    ----------
    cell, execution
        The id and the execution count of the cell that made it.
    known
        The provider told the tokens; streams tell them only to those who ask.
    seconds
        Until the answer was complete.
    """

    at: float
    notebook: str
    cell: str
    execution: int
    provider: str
    model: str
    endpoint: str
    status: int
    usage: Usage = Usage()
    known: bool = False
    seconds: float = 0.0


class CellUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a cell asked of one model, and what it would have cost as a batch.

    Attributes
    ----------
    cost, batch_cost
        USD; None where the price is not known.
    unknown
        Calls whose tokens the provider did not tell; they are in no cost.
    """

    notebook: str
    cell: str
    execution: int
    provider: str
    model: str
    endpoint: str
    calls: int
    unknown: int
    failed: int
    usage: Usage
    seconds: float
    first_at: float
    last_at: float
    cost: Decimal | None
    batch_cost: Decimal | None


def calls(store: Store, *, since: float = 0.0) -> list[Call]:
    """Return the calls that were answered since a moment (Unix seconds), oldest first."""
    found = (
        msgspec.json.decode(record, type=Call) for record in store.spending.usage_events(since)
    )
    return [call for call in found if call.status == 200]


def cells(store: Store, *, since: float = 0.0) -> list[CellUse]:
    """Return what each run of a cell used, dearest first; loops are those with many calls."""
    groups: defaultdict[tuple[Any, ...], list[Call]] = defaultdict(list)
    for record in store.spending.usage_events(since):
        call = msgspec.json.decode(record, type=Call)
        key = (call.notebook, call.cell, call.execution, call.provider, call.model, call.endpoint)
        groups[key].append(call)
    found = [_cell_use(calls) for calls in groups.values()]
    return sorted(found, key=lambda use: (use.cost or Decimal(0), use.calls), reverse=True)


def _cell_use(calls: list[Call]) -> CellUse:
    first = calls[0]
    good = [call for call in calls if call.status == 200]
    short = sum((c.usage for c in good if c.usage.input <= rates.LINEAR), Usage())
    long = [call.usage for call in good if call.usage.input > rates.LINEAR]
    as_batch = prices.list_cost(first.provider, first.model, short, long)
    return CellUse(
        notebook=first.notebook,
        cell=first.cell,
        execution=first.execution,
        provider=first.provider,
        model=first.model,
        endpoint=first.endpoint,
        calls=len(good),
        unknown=sum(not call.known for call in good),
        failed=len(calls) - len(good),
        usage=sum(long, short),
        seconds=sum(call.seconds for call in good),
        first_at=min(call.at for call in calls),
        last_at=max(call.at for call in calls),
        cost=prices.list_realtime(first.provider, first.model, short, long),
        batch_cost=as_batch.batch if as_batch else None,
    )


class Tracker:
    """Follows calls from `start` to `stop`.

    Parameters
    ----------
    store
        Where they are kept.
    notebook
        Whose calls they are.
    """

    def __init__(self, store: Store, background: Background, notebook: str) -> None:
        self._store = store
        self._background = background
        self._notebook = notebook
        self._done: deque[Call] = deque()
        self._scheduled = False
        self._lock = threading.Lock()
        self._undo: list[Callable[[], object]] = []
        self._cell, self._execution = "", 0

    def start(self) -> None:
        """Begin to follow."""
        for library in ("httpx2", "httpx"):
            if found := _installed(library):
                self._replace(found.Client, "send", self._follow)
                self._replace(found.AsyncClient, "send", self._follow_async)
        if found := _installed("aiohttp"):
            self._replace(found.ClientSession, "_request", self._follow_aiohttp)
        self._watch_cells()

    def _replace(self, kind: Any, name: str, follow: Callable[..., Any]) -> None:
        before = kind.__dict__[name]
        setattr(kind, name, follow(before))
        self._undo.append(functools.partial(setattr, kind, name, before))

    def stop(self) -> None:
        """Put everything back as it was, and write down what was seen."""
        while self._undo:
            self._undo.pop()()
        self.flush()

    def flush(self) -> None:
        """Write what was seen so far to the journal."""
        with self._lock:
            self._scheduled = False
            calls = [*self._done]
            self._done.clear()
        if calls:
            self._store.spending.add_usage_events(
                [(each.at, msgspec.json.encode(each)) for each in calls]
            )

    # -- cells -------------------------------------------------------------------------------------

    def _watch_cells(self) -> None:
        """Have IPython say which cell runs, where there is an IPython."""
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython else None
        if shell is None:
            return
        with contextlib.suppress(Exception):  # the cell that turned it on, where a kernel says it
            self._cell = str(shell.get_parent().get("metadata", {}).get("cellId") or "")
        # While a cell runs IPython counts for the next one; what was entered is certain.
        history = shell.history_manager
        self._execution = max(0, len(history.input_hist_parsed) - 1)

        def begins(info: Any) -> None:
            self._cell = str(getattr(info, "cell_id", None) or "")
            if getattr(info, "store_history", False):
                self._execution = len(history.input_hist_parsed)  # it is not entered yet

        shell.events.register("pre_run_cell", begins)
        self._undo.append(functools.partial(shell.events.unregister, "pre_run_cell", begins))

    # -- calls -------------------------------------------------------------------------------------

    def _follow(self, send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def followed(client: Any, request: Any, **options: Any) -> Any:
            call = self._begun(request.method, request.headers, request.url.path)
            if call is None:
                return send(client, request, **options)
            began = time.perf_counter()
            response = send(client, request, **options)
            self._answered(call, response, began)
            return response

        return followed

    def _follow_async(self, send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        async def followed(client: Any, request: Any, **options: Any) -> Any:
            call = self._begun(request.method, request.headers, request.url.path)
            if call is None:
                return await send(client, request, **options)
            began = time.perf_counter()
            response = await send(client, request, **options)
            self._answered(call, response, began)
            return response

        return followed

    def _follow_aiohttp(self, request: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(request)
        async def followed(session: Any, method: str, url: Any, **options: Any) -> Any:
            call = self._begun(method.upper(), options.get("headers"), urlsplit(str(url)).path)
            # Other SDKs use it below an httpx2 client, which was followed already.
            if call is None or call.provider != "google":
                return await request(session, method, url, **options)
            began = time.perf_counter()
            response = await request(session, method, url, **options)
            call.status = response.status
            try:
                _Stream(self, call, response, began)
            except Exception:  # noqa: BLE001 - the call counts, even if its answer cannot be read
                self.finish(call, [], began)
            return response

        return followed

    def _begun(self, method: str, headers: Any, path: str) -> Call | None:
        """Return the record of a call that an SDK makes for the user; None for anything else."""
        try:
            if method != "POST" or not headers or threading.current_thread().name == THREAD:
                return None
            agent = headers.get("user-agent", "")
            provider = next((name for mark, name in _SDKS if mark in agent), "")
            endpoint = next((name for form, name in _ENDPOINTS if form.search(path)), "")
        except Exception:  # noqa: BLE001 - whatever it is, the user's call goes on
            return None
        if not provider or not endpoint:
            return None
        model = path.rpartition("/models/")[2].partition(":")[0] if provider == "google" else ""
        return Call(
            at=time.time(), notebook=self._notebook, cell=self._cell, execution=self._execution,
            provider=provider, model=model, endpoint=endpoint, status=0,
        )  # fmt: skip

    def _answered(self, call: Call, response: Any, began: float) -> None:
        try:
            call.status = response.status_code
            if response.is_closed or response.is_stream_consumed:
                self.finish(call, [response.content], began)
            else:
                _Stream(self, call, response, began)
        except Exception:  # noqa: BLE001 - the call counts, even if its answer cannot be read
            self.finish(call, [], began)

    def finish(self, call: Call, bodies: Iterable[bytes], began: float) -> None:
        """Take up a call whose answer is complete."""
        call.seconds = time.perf_counter() - began
        if call.status == 200:
            model, usage = usages.read(call.provider, bodies)
            call.model = model or call.model
            if usage is not None:
                call.usage, call.known = usage, True
        self._done.append(call)
        with self._lock:
            scheduled, self._scheduled = self._scheduled, True
        if not scheduled:
            self._background.soon(self._later)

    def _later(self) -> None:
        self._background.loop().call_later(_FLUSH, self._flush_quietly)

    def _flush_quietly(self) -> None:
        with contextlib.suppress(Exception):  # a closed or locked journal costs figures, no calls
            self.flush()


def _installed(library: str) -> Any:
    """Return a library where it is installed: an SDK may be about to use it."""
    return importlib.import_module(library) if importlib.util.find_spec(library) else None


class _Stream:
    """Reads along while the user reads a streamed answer."""

    def __init__(self, tracker: Tracker, call: Call, response: Any, began: float) -> None:
        heard = Overheard(events="event-stream" in response.headers.get("content-type", ""))

        def finish() -> None:
            tracker.finish(call, heard.bodies(), began)

        #: Runs once: at the end of the stream, or when the user has thrown the response away.
        end = weakref.finalize(response, finish)
        if hasattr(response, "aiter_bytes"):
            self._follow(response, heard, end)
        else:
            response.content = Reader(response.content, heard.see, end)

    def _follow(self, response: Any, heard: Overheard, end: Callable[[], object]) -> None:
        """Read along with a response of httpx or httpx2."""
        sync, asynchronous = response.iter_bytes, response.aiter_bytes

        def iter_bytes(*args: Any, **options: Any) -> Generator[bytes, None, None]:
            try:
                for piece in sync(*args, **options):
                    heard.see(piece)
                    yield piece
            finally:
                end()

        async def aiter_bytes(*args: Any, **options: Any) -> AsyncGenerator[bytes, None]:
            try:
                async with contextlib.aclosing(asynchronous(*args, **options)) as pieces:
                    async for piece in pieces:
                        heard.see(piece)
                        yield piece
            finally:
                end()

        response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes
