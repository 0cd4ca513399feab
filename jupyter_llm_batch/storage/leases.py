"""The lease on a batch: which process drives it."""

from __future__ import annotations

import msgspec


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to drive a batch, as long as `token` is the journal's."""

    batch_id: str
    token: int
