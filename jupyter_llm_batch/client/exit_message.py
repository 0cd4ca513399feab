"""What a process says about its batches as it ends: they do not end with it."""

from __future__ import annotations

from ..core.lifecycle import ACCEPTED, TERMINAL
from ..core.request import Mode
from ..storage.store import Store


def words(store: Store, notebook: str) -> list[str]:
    """Return a line per kind of batch that is under way."""
    running: list[str] = []
    unsent: list[str] = []
    for batch in store.batches(notebook=notebook, unfinished=True):
        sent = all(
            job.state in ACCEPTED and (job.mode is Mode.BATCH or job.state in TERMINAL)
            for job in store.jobs(batch.id)
        )
        (running if sent else unsent).append(batch.title)
    lines = []
    if running:
        keep, their = ("keep", "their") if len(running) > 1 else ("keeps", "its")
        lines.append(
            f"llm_batch: {', '.join(running)} {keep} running at the provider. A later session in "
            f"the same place collects {their} answers. Only cancel() cancels."
        )
    if unsent:
        are = "are" if len(unsent) > 1 else "is"
        lines.append(
            f"llm_batch: {', '.join(unsent)} {are} not sent completely. A later session in the "
            "same place sends the rest."
        )
    return lines
