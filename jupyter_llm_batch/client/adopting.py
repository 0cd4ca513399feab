"""Take over a batch that was created elsewhere."""

from __future__ import annotations

import msgspec

from ..core import ids
from ..core.errors import ProviderError, UsageProblem
from ..engine import lookup
from ..providers import registry
from ..storage import files
from ..submission import adopt as adopting
from .context import Context
from .names import check_name


def adopt(context: Context, remote: str, name: str) -> str:
    """Take over a batch that a script or another machine created.

    Its answers come as a dict by custom_id, in natural order. Returns the id of the batch here.

    Parameters
    ----------
    remote
        ``provider:id``, for instance ``openai:batch_abc``.
    name
        Name of the batch here, a Python identifier.

    Raises
    ------
    UsageProblem
        The provider has no such batch, or it is known here already.
    """
    check_name(name)
    provider, _, remote_id = remote.partition(":")
    if not remote_id or provider not in registry.names(context.servers.all()):
        known = ", ".join(f"{each}:ID" for each in registry.names(context.servers.all()))
        raise UsageProblem(f"{remote!r} names no provider's batch: write one of {known}")
    adapter = context.adapter(provider, ask=True)
    adapter.check_key()
    context.store.remote_jobs.check_unknown(provider, remote_id)
    try:
        found = context.background.call(adapter.retrieve(remote_id)).result()
    except ProviderError as error:
        raise UsageProblem(f"cannot adopt {remote}: {error}") from None
    # Ours, though its id never arrived: it is about to be found.
    ours = context.store.batch_of(lookup.owner(found.label))
    if ours is not None:
        raise UsageProblem(f"{remote} is what {ours.title} sent: `%llm_batch status {ours.title}`")
    batch, job = adopting.records(
        found, provider, name=name, notebook=context.notebook, now=context.clock(),
        simulated=context.simulated,
    )  # fmt: skip
    job = msgspec.structs.replace(job, account=adapter.account(context.store.salt()))
    files.private_folder(context.store.folder_of(batch.id))
    batch = context.store.add_batch(
        batch, [(job, ids.Ranges([(0, batch.rows)]))], adopting.packs(batch.rows)
    )
    context.background.soon(context.poller().follow, batch.id)
    return batch.id
