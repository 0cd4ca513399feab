"""What the children play. A scenario is a function of a `User`; adding one takes a few lines.

A scenario is played again from its first cell after a kill, as somebody does who runs all cells of
a restarted notebook: each step must mean the same when it was taken before.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec

from jupyter_llm_batch.client import Client
from jupyter_llm_batch.errors import NotFound, ProviderError, UsageProblem
from jupyter_llm_batch.handle import BatchHandle
from jupyter_llm_batch.models import JobState

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

    def __init__(self, client: Client, model: str, control: str) -> None:
        self.client = client
        self.model = model
        self._control = control
        self.seen: list[dict[str, Any]] = []

    def cell(self, name: str, prompts: list[str], **options: Any) -> BatchHandle:
        """Run a cell and return at once."""
        return self._insist(
            lambda: self.client.submit(name=name, over=prompts, model=self.model, **options)
        )

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
        handle.wait(PATIENCE)
        results = handle.results()
        self.seen.append({
            "name": handle.name,
            "prompts": prompts,
            "outcomes": [str(result.outcome) for result in results],
            "answers": [result.text for result in results],
        })  # fmt: skip

    def accepted(self, handle: BatchHandle) -> None:
        """Wait until the provider has every job of a batch, or the batch is over."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not handle.done:
            if all(job.state is JobState.RUNNING for job in self.client.store.jobs(handle.id)):
                return
            if handle.snapshot().state == "attention":
                self._decide(handle)
            time.sleep(0.01)

    def _decide(self, handle: BatchHandle) -> None:
        """Say which batch is ours: there are no strangers in this world."""
        with contextlib.suppress(UsageProblem, ProviderError):  # decided meanwhile, or a fault
            for _, candidates in handle.lost():
                for remote in candidates:
                    handle.resolve(remote.remote_id)

    def advance(self, seconds: float) -> None:
        """Let simulated time pass."""
        self._post("clock", {"advance": seconds})

    def behave(self, **switches: Any) -> None:
        """Set switches of the simulator."""
        self._post("behave", switches)

    def _post(self, what: str, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        with urllib.request.urlopen(f"{self._control}/_sim/{what}", data=data):
            pass


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One story, and what it needs.

    Attributes
    ----------
    rows_per_job
        Makes several jobs out of few rows.
    exact
        Which rows are billed does not depend on the moment of the kill.
    """

    play: Callable[[User], None]
    rows_per_job: int | None = None
    exact: bool = True
    behaviour: dict[str, Any] = {}


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
    handle.wait(PATIENCE)
    if handle.snapshot().retryable:
        handle.retry()
    user.answers(handle, prompts)
