"""One run in a process of its own: a scenario, played or played again."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path

import msgspec

from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core import policy
from jupyter_llm_batch.storage import process

from .points import Points
from .scenarios import MODELS, SCENARIOS, User

#: As fast as may be; every wait is tiny, every rule stays.
FAST = policy.Policy(
    poll=0.02, poll_longest=0.05, retry=0.02, retry_longest=0.1, room=0.05, settle=0.15
)


class Order(msgspec.Struct, kw_only=True):
    """What a child is told.

    Attributes
    ----------
    at
        Signals to send itself, by the name of the point.
    resume
        Go on with what is unfinished first, as a restarted kernel does, before any cell runs.
    impatient
        Take over at once from an owner that gives no sign of life, and wait for no lock.
    given
        What a script created before, as ``provider:id``.
    """

    provider: str
    scenario: str
    folder: str
    control: str
    environ: dict[str, str]
    at: dict[str, str] = {}
    resume: bool = False
    impatient: bool = False
    given: str = ""


class Report(msgspec.Struct, kw_only=True):
    """What a child saw."""

    passed: list[str]
    seen: list[dict[str, object]] = []
    unfinished: list[str] = []
    error: str = ""


def report_path(folder: str, pid: int) -> Path:
    """Return where a child writes its report."""
    return Path(folder) / f"report-{pid}.json"


def run(order: Order) -> None:
    """Play; never returns."""
    points = Points(order.at, str(Path(order.folder) / "data"))
    report = Report(passed=points.passed)
    code = 0
    try:
        _prepare(order, points)
        play(order, report)
    except BaseException:
        report.error = traceback.format_exc()
        code = 1
    path = report_path(order.folder, os.getpid())
    path.write_bytes(msgspec.json.encode(report))
    sys.stdout.flush()
    os._exit(code)


def _prepare(order: Order, points: Points) -> None:
    rows = SCENARIOS[order.scenario].rows_per_job
    name = MODELS[order.provider].partition(":")[0]
    module = importlib.import_module(f"jupyter_llm_batch.providers.{name}.adapter")
    if rows is not None:
        module._LIMITS = msgspec.structs.replace(module._LIMITS, requests=rows)
    if order.provider == "google-file":
        module._INLINE_ROWS = 0
    if order.impatient:
        process.STALE = 0.0
        policy.JOURNAL_WAIT = 0.5
    points.install()


def play(order: Order, report: Report) -> None:
    """Play the scenario in this process."""
    client = Client(
        environ=order.environ,
        folder=Path(order.folder) / "data",
        notebook="campaign.ipynb",
        simulated=True,
        policy=msgspec.structs.replace(FAST, sleep=0.5) if order.impatient else FAST,
    )
    user = User(client, MODELS[order.provider], order.control, order.given)
    if order.resume:
        for handle in client.resume():
            if not SCENARIOS[order.scenario].behaviour:  # else time does not pass by itself
                user.wait(handle)
    SCENARIOS[order.scenario].play(user)
    report.seen = user.seen
    report.unfinished = [handle.name for handle in user.client.batches() if not handle.done]
    user.client.close()
