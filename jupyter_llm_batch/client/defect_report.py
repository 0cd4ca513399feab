"""The report about defects of ours: tracebacks, versions, states of jobs; nothing of contents."""

from __future__ import annotations

import platform
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..core import trouble
from ..core.errors import LLMBatchError, redact
from ..storage import files
from ..storage.store import Store

_PACKAGES = (
    "jupyter-llm-batch", "openai", "anthropic", "google-genai", "httpx2", "msgspec", "pydantic",
    "ipykernel", "ipython", "ipywidgets", "anywidget", "pandas", "polars", "pyarrow",
)  # fmt: skip

#: Batches that are told of, the latest first.
_BATCHES = 20


def write(store: Store | None) -> Path:
    """Write a report and return its path; beside the journal where that is possible."""
    name = f"report-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    text = redact(_text(store))
    if store is not None:
        path = store.folder / name
        try:
            return _written(path, text)
        except OSError:
            pass  # read-only, or full: perhaps there is room elsewhere
    return _written(Path(tempfile.mkdtemp(prefix="llm-batch-")) / name, text)


def _written(path: Path, text: str) -> Path:
    with files.writing(path) as writer:
        writer.write(text.encode())
    return path


def journaled(store: Store, since: float | None = None) -> list[dict[str, Any]]:
    """Return the defects that batches of this journal have met, of the last day by default."""
    return store.events.named("defect", time.time() - 86400 if since is None else since)


def _text(store: Store | None) -> str:
    lines = [
        f"jupyter_llm_batch report, {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        "It holds no keys, no prompts and no answers.",
        "",
        f"python {platform.python_version()} on {platform.platform()}",
    ]
    for package in _PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} -")
    lines += ["", "Internal errors of this kernel:"]
    for defect in trouble.defects:
        at = time.strftime("%H:%M:%S", time.localtime(defect.at))
        lines += [f"{at} {defect.where}", defect.traceback, ""]
    if store is not None:
        try:
            lines += _batches(store)
        except (LLMBatchError, OSError) as error:
            lines.append(f"the journal cannot be read: {trouble.describe_error(error)}")
    return "\n".join(lines) + "\n"


def _batches(store: Store) -> list[str]:
    lines = ["Internal errors of the last day, from the journal:"]
    for event in journaled(store):
        at = time.strftime("%d %b %H:%M:%S", time.localtime(event["at"]))
        lines += [f"{at} batch {event['batch_id']}: {event['detail']}", ""]
    lines += ["Batches, the latest first:"]
    for batch in store.batches()[: -_BATCHES - 1 : -1]:
        ended = "under way" if batch.finished_at is None else "ended"
        lines.append(
            f"{batch.id}: {ended}, {batch.rows} rows, round {batch.round}, "
            f"cancelled {batch.cancel_requested}, held {batch.held}, adopted {batch.adopted}"
        )
        lines += [
            f"  job {job.number}: {job.provider} {job.endpoint} {job.mode.value} "
            f"{job.state.value} ({job.remote_state}), {job.rows} rows, attempts {job.attempts}, "
            f"failures {job.failures}, fetches {job.fetches}, absences {job.absences}, "
            f"stopped {job.stopped}, tally {job.tally}"
            for job in store.jobs(batch.id)
        ]
    return lines
