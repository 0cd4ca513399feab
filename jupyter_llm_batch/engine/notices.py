"""Notify that batches have ended, each end once."""

from __future__ import annotations

import asyncio

from ..core.batch import Batch
from ..submission import notify_target
from . import notify
from .drive import Drive


class Notices:
    """The notifications that are under way."""

    def __init__(self, drive: Drive) -> None:
        self._store = drive.store
        self._views = drive.views
        self._reporter = drive.reporter
        self.running: set[asyncio.Task[None]] = set()

    def start(self, batch_id: str) -> None:
        """Tell the end of a batch, if that is wanted and nobody else has taken it on."""
        batch = self._store.batch(batch_id)
        if batch is None or not batch.notify or batch.finished_at is None:
            return
        if self._store.events.claim_notice(batch_id):
            if notify_target.is_foreign(batch.notify):
                words = "; ".join(filter(None, (batch.notice, notify_target.FOREIGN)))
                self._store.decide(batch_id, notice=words)
                return
            told = notify.facts(self._views.snapshot(batch))
            task = asyncio.get_running_loop().create_task(self._tell(batch, told))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def _tell(self, batch: Batch, told: notify.Facts) -> None:
        came = await notify.send(batch.notify, told)
        try:
            self._store.events.log(batch.id, "notice", came)
        except Exception as error:  # noqa: BLE001 - the journal may be closed by now
            self._reporter.report_defect(error, "noting that an end was told")

    async def all_sent(self) -> None:
        """Return when every notice that was begun has ended."""
        if self.running:
            await asyncio.wait([*self.running])
