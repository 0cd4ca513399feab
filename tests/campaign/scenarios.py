"""What the children play. A scenario is a function of a `User`; adding one takes a few lines.

A scenario is played again from its first cell after a kill, as somebody does who runs all cells of
a restarted notebook: each step must mean the same when it was taken before.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec

from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.client.handle import BatchHandle
from jupyter_llm_batch.core.errors import LeaseLost, NotFound, NotReady, ProviderError, UsageProblem
from jupyter_llm_batch.core.job import JobState

MODELS = {
    "openai": "openai:gpt-5-mini",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-3.8-flash",
    "google-file": "google:gemini-3.8-flash",
}

PROVIDERS = ("openai", "anthropic", "google")

#: Seconds after which a run is called unfinished.
PATIENCE = 120.0


class User:
    """Somebody at a notebook, who looks at the answers of each cell."""

    def __init__(self, client: Client, model: str, control: str, given: str = "") -> None:
        self.client = client
        self.model = model
        #: What a script created before the story, as ``provider:id``.
        self.given = given
        self._control = control
        self.seen: list[dict[str, Any]] = []

    def cell(self, name: str, prompts: list[str], **options: Any) -> BatchHandle:
        """Run a cell and return at once."""
        if "route" not in options:
            options["model"] = self.model
        return self._insist(lambda: self.client.submit(name=name, over=prompts, **options))

    def adopt(self, name: str, remote: str) -> BatchHandle:
        """Take over what a script created, unless that was done before."""
        with contextlib.suppress(NotFound):
            return self.client.get(name)

        def adopt() -> BatchHandle:
            try:
                return self.client.adopt(remote, name)
            except UsageProblem as problem:
                if "known here" in str(problem):  # by another kernel, meanwhile
                    return self.client.get(name)
                if "cannot adopt" not in str(problem):
                    raise
                raise NotFound(str(problem)) from None  # a fault of the wire: again

        return self._insist(adopt)

    def draft(self, name: str, *cells: str) -> BatchHandle:
        """Collect cells, and send them."""

        def send() -> BatchHandle:
            for number, text in enumerate(cells):
                self.client.add(text, name=name, key=str(number), model=self.model)
            return self.client.submit_draft(name)

        return self._insist(send)

    def _insist(self, run: Callable[[], BatchHandle]) -> BatchHandle:
        """Do what the message says when another kernel was at the same cell: run it again."""
        while True:
            try:
                return run()
            except NotFound:
                continue  # another kernel sent the draft meanwhile
            except UsageProblem as problem:
                if "same moment" not in str(problem):
                    raise

    def answers(self, handle: BatchHandle, prompts: list[str]) -> None:
        """Wait for a batch and note what stands on each row."""
        self.wait(handle)
        results = handle.results()
        self.seen.append({
            "name": handle.name,
            "prompts": prompts,
            "outcomes": [str(result.outcome) for result in results],
            "answers": [result.text for result in results],
        })  # fmt: skip

    def wait(self, handle: BatchHandle) -> None:
        """Wait for a batch to end, and decide what only its user can decide."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                handle.wait(1.0)
            except NotReady:
                if time.monotonic() > end:
                    raise
                if "in a row" in handle.snapshot().words:  # lost again and again: it asks
                    self._decide(handle, absent=True)
            else:
                return

    def accepted(self, handle: BatchHandle) -> None:
        """Wait until the provider has every job of a batch, or the batch is over."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not handle.done:
            if all(job.state is JobState.RUNNING for job in self.client.store.jobs(handle.id)):
                return
            if handle.snapshot().state == "attention":
                self._decide(handle)
            time.sleep(0.01)

    def _decide(self, handle: BatchHandle, *, absent: bool = False) -> None:
        """Say which batch is ours, or that none is: this world has no strangers and no lag."""
        with contextlib.suppress(UsageProblem, ProviderError):  # decided meanwhile, or a fault
            for _, candidates in handle.lost():
                for remote in candidates:
                    handle.resolve(remote.remote_id)
                if absent and not candidates:
                    handle.resolve(confirm=True)

    def second_client(self) -> None:
        """Have another client of this process go on with everything for a moment."""
        other = self.client.again()
        other.resume()
        other.batches()
        other.close()

    def load_again(self) -> None:
        """Close the client and make another, as ``%reload_ext`` does; go on with what is open."""
        self.client.close()
        self.client = self.client.again()
        self.client.resume()

    def switch(self) -> None:
        """Open the journal of the other kind and close it, as simulator on and off does."""
        Client(
            environ={}, folder=self.client.store.folder.parent, notebook="campaign.ipynb"
        ).close()

    def terminal(self) -> None:
        """Have another process read the journal and close it, as ``jupyter llm-batch list``."""
        script = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], 30)\n"
            "db.execute('SELECT count(*) FROM batch').fetchall(); db.close()"
        )
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", script, str(self.client.store.path)], check=True
        )

    def advance(self, seconds: float) -> None:
        """Let simulated time pass."""
        self._post("clock", {"advance": seconds})

    def behave(self, **switches: Any) -> None:
        """Set switches of the simulator."""
        self._post("behave", switches)

    def _post(self, what: str, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        key = self.client.environ["OPENAI_API_KEY"]
        request = urllib.request.Request(
            f"{self._control}/_sim/{what}", data, {"Authorization": f"Bearer {key}"}
        )
        with urllib.request.urlopen(request):
            pass


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One story, and what it needs.

    Attributes
    ----------
    rows_per_job
        Makes several jobs out of few rows.
    exact
        Which rows are billed does not depend on the moment of the kill.
    once
        A prompt is billed once, however often it is asked.
    providers
        Where it is played.
    given
        Prompts that a script has sent before the story begins.
    unclear
        What was under way at a kill may be billed without an answer: nobody can know, so the row
        says so and is not asked again.
    timed
        A deadline runs beside it: on a busy machine it may come before a few points are passed.
    """

    play: Callable[[User], None]
    rows_per_job: int | None = None
    exact: bool = True
    once: bool = False
    behaviour: dict[str, Any] = {}
    providers: tuple[str, ...] = tuple(MODELS)
    given: tuple[str, ...] = ()
    unclear: bool = False
    timed: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(**needs: Any) -> Callable[[Callable[[User], None]], Callable[[User], None]]:
    """Put a function into `SCENARIOS` under its name."""

    def put(play: Callable[[User], None]) -> Callable[[User], None]:
        SCENARIOS[play.__name__] = Scenario(play=play, **needs)
        return play

    return put


@scenario()
def one_job(user: User) -> None:
    """A cell, sent and answered."""
    prompts = ["alpha", "beta", "gamma"]
    user.answers(user.cell("x", prompts), prompts)


@scenario(rows_per_job=2)
def several_jobs(user: User) -> None:
    """Rows over several jobs, a prompt asked twice among them."""
    prompts = ["alpha", "beta", "alpha", "gamma", "delta"]
    user.answers(user.cell("x", prompts), prompts)


@scenario()
def a_retry_round(user: User) -> None:
    """Rows that expire at first are sent again."""
    prompts = ["alpha", "beta [[sim:expire x1]]", "gamma [[sim:fail-500 x1]]"]
    user.answers(user.cell("x", prompts), prompts)


@scenario(exact=False, behaviour={"seconds": 20.0})
def a_cancel(user: User) -> None:
    """A batch cancelled half way: what is done is kept."""
    prompts = [f"row {number}" for number in range(12)]
    handle = user.cell("x", prompts)
    user.accepted(handle)
    user.advance(10)
    handle.cancel()
    user.advance(1000)
    user.answers(handle, prompts)


@scenario()
def collected_cells(user: User) -> None:
    """Two cells with --add, sent together."""
    user.answers(user.draft("x", "alpha", "beta"), ["alpha", "beta"])


@scenario(providers=())
def a_collected_cell(user: User) -> None:
    """One cell with --add, for several kernels at once: of two the order would be open."""
    user.answers(user.draft("x", "alpha"), ["alpha"])


@scenario()
def a_second_version(user: User) -> None:
    """A changed cell sends its new row only, also while the first is under way."""
    first, second = ["alpha", "beta"], ["gamma", "beta", "alpha"]
    handle = user.cell("x", first)
    later = user.cell("x", second)
    user.answers(handle, first)
    user.answers(later, second)


@scenario()
def retried_by_hand(user: User) -> None:
    """A row that failed for good is sent again because the user says so."""
    prompts = ["alpha", "beta [[sim:fail-400 x1]]"]
    handle = user.cell("x", prompts)
    user.wait(handle)
    if handle.snapshot().retryable:
        with contextlib.suppress(UsageProblem, LeaseLost):  # another kernel does it
            handle.retry(confirm=True)
    user.answers(handle, prompts)


#: Longer than what Anthropic needs to keep a beginning in its cache.
_LONG = "You know everything about cats. " * 300


@scenario(providers=("openai",))
def a_routed_batch(user: User) -> None:
    """Rows of one cell go to three providers."""
    prompts = ["alpha", "beta", "gamma", "delta"]
    models = [MODELS[provider] for provider in PROVIDERS]
    user.answers(user.cell("x", prompts, route=[*models, models[0]]), prompts)


@scenario(providers=("anthropic",))
def a_primed_cache(user: User) -> None:
    """One row goes ahead and fills the cache; the others wait for it."""
    prompts = ["alpha", "beta", "gamma"]
    user.answers(user.cell("x", prompts, system=_LONG, cache="1h"), prompts)


@scenario(once=True)
def rows_asked_once(user: User) -> None:
    """With --dedupe equal prompts are sent once, and each of their rows has the answer."""
    prompts = ["alpha", "beta", "alpha", "alpha"]
    user.answers(user.cell("x", prompts, dedupe=True), prompts)


@scenario(providers=("openai", "anthropic"), given=("alpha", "beta"))
def an_adopted_batch(user: User) -> None:
    """A batch that a script created is taken over."""
    user.answers(user.adopt("x", user.given), ["alpha", "beta"])


@scenario(providers=PROVIDERS)
def a_busy_kernel(user: User) -> None:
    """Between two cells the journal is opened and closed in every way, here and elsewhere."""
    user.cell("x", ["alpha", "beta"])
    user.switch()
    user.load_again()
    user.second_client()
    user.terminal()
    later = user.cell("y", ["gamma"])
    user.accepted(later)
    user.terminal()
    user.answers(user.client.get("x"), ["alpha", "beta"])
    user.answers(later, ["gamma"])


@scenario(unclear=True, providers=PROVIDERS)
def rows_in_real_time(user: User) -> None:
    """Rows that are asked one by one, at full price."""
    prompts = ["alpha", "beta", "alpha", "gamma"]
    user.answers(user.cell("x", prompts, realtime=True), prompts)


@scenario(unclear=True, timed=True, providers=PROVIDERS, behaviour={"seconds": 1.0})
def past_the_deadline(user: User) -> None:
    """What is not back by the deadline is cut off, and finished in real time."""
    prompts = [f"row {number}" for number in range(8)]
    user.answers(user.cell("x", prompts, deadline=0.4), prompts)


def plays() -> list[tuple[str, str]]:
    """Return every provider with every scenario that is played there."""
    return [(each, name) for name, story in SCENARIOS.items() for each in story.providers]
