"""Which rows have no answer, or one that was cut, why, and what to do about each kind."""

from __future__ import annotations

import msgspec

from ..core.batch import Batch
from ..core.errors import redact
from ..core.result import Outcome, Result
from ..core.row_codes import may_be_billed, never_sent, outcome_of, rows_cut, rows_without_answer
from ..engine.reconcile import CUT, remedy
from ..storage.store import Store
from ..submission import retry
from . import damaged_files, results


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that have no answer, or one that stops before its end, for the same reason.

    Attributes
    ----------
    kind
        How they ended, with the provider's code where it gave one: ``failed: invalid_value``,
        ``cut: length``.
    rows
        Their positions in the input.
    billed
        They may have been billed: a retry pays for them again.
    example
        What was said about the first of them.
    remedy
        What to do.
    """

    kind: str
    rows: list[int]
    billed: bool
    example: str
    remedy: str


def of(store: Store, batch: Batch) -> list[Failure]:
    """Return the rows that ended without an answer by reason, most frequent first, then cut ones.

    Rows that were never sent, since the user stopped the batch before, did not fail.
    """
    outcomes = store.pack(batch.id, "outcomes")
    found = results.read(store, batch, damaged=damaged_files.paths(store, batch))
    owners = memoryview(store.pack(batch.id, "owners")).cast("I")
    jobs = store.jobs(batch.id) if batch.cancel_requested else []
    unsent = {job.number for job in jobs if never_sent(job)}
    here = retry.has_requests(store, batch)
    groups: dict[tuple[str, int, bool], list[int]] = {}
    for row in rows_without_answer(outcomes):
        code, result = outcomes[row], found[row]
        if owners[row] not in unsent or may_be_billed(code):
            groups.setdefault((_kind(result, code), code, _before(result, code)), []).append(row)
    failures = [
        Failure(
            kind=kind,
            rows=rows,
            billed=may_be_billed(code),
            example=_example(rows[0], found[rows[0]]),
            remedy=remedy(
                str(outcome_of(code)), code, before=before, reason=_code(found[rows[0]]), here=here
            ),
        )
        for (kind, code, before), rows in sorted(groups.items(), key=lambda each: -len(each[1]))
    ]
    return failures + _cut(outcomes, found)


def _cut(outcomes: bytes, found: list[Result | None]) -> list[Failure]:
    """Return the rows whose answers stop before their end, by the provider's word for it."""
    groups: dict[str, list[int]] = {}
    for row in rows_cut(outcomes):
        result = found[row]
        if result is not None and result.outcome is Outcome.OK:
            groups.setdefault(result.finish_reason or "", []).append(row)
    return [
        Failure(
            kind=f"{CUT}: {reason}" if reason else CUT,
            rows=rows,
            billed=True,
            example=f"row {rows[0]} ends with {_end_of(found[rows[0]])!r}",
            remedy=remedy(CUT, outcomes[rows[0]], reason=reason),
        )
        for reason, rows in sorted(groups.items(), key=lambda each: -len(each[1]))
    ]


def _end_of(result: Result | None) -> str:
    return (result.text or "")[-80:] if result is not None else ""


def _code(result: Result | None) -> str:
    return (result.code or "") if result is not None else ""


def _before(result: Result | None, code: int) -> bool:
    """Whether it was not the attempt that ended so, but an earlier one, that may be billed."""
    never = {Outcome.EXPIRED, Outcome.CANCELLED}
    own = result is not None and result.billed and outcome_of(code) not in never
    return may_be_billed(code) and not own


def _kind(result: Result | None, code: int) -> str:
    name = str(outcome_of(code))
    said = result.code if result is not None else None
    return f"{name}: {redact(said[:100])}" if said else name


def _example(row: int, result: Result | None) -> str:
    said = result.error if result is not None else None
    return f"row {row}: {said[:300]}" if said else f"row {row}"
