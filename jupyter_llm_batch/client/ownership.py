"""Whether this kernel may act on a batch without asking."""

from __future__ import annotations

from ..core.batch import Batch
from ..core.errors import NotConfirmed
from ..core.text import local_time, many
from ..storage import process
from ..storage.store import Store
from .context import Context


def is_driven_elsewhere(store: Store, batch: Batch) -> bool:
    """Whether another living process drives a batch."""
    driver, here = store.leases.driver(batch.id), process.me()
    return driver is not None and (driver.host, driver.pid) != (here.host, here.pid)


def check_own(context: Context, batch: Batch, action: str) -> None:
    """Ask before something is done to a batch that only its folder ties to this kernel.

    Raises
    ------
    NotConfirmed
        This kernel did not ask for it, and nothing says that its notebook is this one.
    """
    if not context.identity.is_folder or batch.id in context.asked:
        return
    at = local_time(batch.created_at, "%d %b %H:%M")
    driven = is_driven_elsewhere(context.store, batch)
    elsewhere = ", and another kernel drives it" if driven else ""
    raise NotConfirmed(
        f"{batch.exact} was not sent by this kernel: it is the batch of {at} in "
        f"{batch.notebook}, {many(batch.rows, 'row')} to {', '.join(batch.models)}{elsewhere}",
        yes=f"{action} it",
        done="done",
    )
