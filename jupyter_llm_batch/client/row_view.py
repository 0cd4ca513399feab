"""One row of a batch with everything that is known of it."""

from __future__ import annotations

import msgspec

from ..core.batch import Batch
from ..core.job import Job
from ..core.result import Result
from ..costs import ledger
from ..costs.prices import PriceBook
from ..costs.rates import Cost
from ..storage.store import Store
from . import rows


class RowView(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    Attributes
    ----------
    number
        Its position in the input.
    job
        The job that sent it.
    prompt
        Its prompt, or why that is not here.
    request
        Its request line; empty where that is not here.
    result
        Its result with the raw line; None while there is none.
    cost
        What it cost; None where the price is not known.
    """

    number: int
    job: Job
    prompt: str
    request: bytes
    result: Result | None
    cost: Cost | None


def read(store: Store, batch: Batch, wanted: str, book: PriceBook) -> RowView:
    """Return the row that a user names by position, index label or custom_id.

    Raises
    ------
    NotFound
        There is no such row, or it was left out.
    """
    number = rows.find_row(store, batch, wanted)
    try:
        line, job = rows.request_line(store, batch, number)
        prompt = rows.prompt_text(job, line)
    except rows.NoRequest as problem:
        line, job, prompt = b"", problem.job, f"({problem})"
    result = rows.read_row(store, batch, number)
    cost = None if result is None else ledger.row_cost(book, job, result)
    return RowView(number=number, job=job, prompt=prompt, request=line, result=result, cost=cost)
