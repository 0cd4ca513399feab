"""Row outcomes as one byte: encoding, decoding, and which rows to resend. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from .job import Job
from .lifecycle import TERMINAL
from .result import Outcome, Result

WAITING, SKIPPED = 0, 15


_KINDS = {outcome: number for number, outcome in enumerate(Outcome, start=1)}


_OUTCOMES = {number: outcome for outcome, number in _KINDS.items()}


BILLED, _TRANSIENT, CUT = 0x10, 0x20, 0x40


def row_code(
    outcome: Outcome, *, billed: bool = False, transient: bool = False, cut: bool = False
) -> int:
    """Return the byte of an outcome; `cut` marks an answer that stops before its end."""
    flags = (BILLED if billed else 0) | (_TRANSIENT if transient else 0) | (CUT if cut else 0)
    return _KINDS[outcome] | flags


def result_code(result: Result, *, user_cancelled: bool) -> int:
    """Return the byte of a result; a row that the provider cancelled by itself is resent."""
    transient = result.transient or (result.outcome is Outcome.CANCELLED and not user_cancelled)
    return row_code(result.outcome, billed=result.billed, transient=transient, cut=result.cut)


def outcome_of(code: int) -> Outcome | None:
    """Return the outcome in a row's byte; None when there is none yet, or the row was skipped."""
    return _OUTCOMES.get(code & 0x0F)


def may_be_billed(code: int) -> bool:
    """Whether the provider may have charged for the row."""
    return bool(code & BILLED)


def is_cut(code: int) -> bool:
    """Whether the row has an answer that stops before its end."""
    return bool(code & CUT) and outcome_of(code) is Outcome.OK


def rows_cut(codes: bytes) -> list[int]:
    """Return the rows whose answers stop before their end."""
    wanted = {code for code in set(codes) if is_cut(code)}
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def inherited_code(code: int, *, finished: bool) -> int:
    """Return the outcome that a row takes from a row of another batch.

    Until that batch has ended only an answer is final: both batches must not resend the same row.
    """
    return code if finished or outcome_of(code) is Outcome.OK else WAITING


def count_outcomes(codes: bytes) -> dict[str, int]:
    """Count rows by outcome; ``waiting`` and ``skipped`` included, zeros left out."""
    counts: dict[str, int] = {}
    for code in set(codes):
        kind = code & 0x0F
        name = "waiting" if kind == WAITING else "skipped" if kind == SKIPPED else _OUTCOMES[kind]
        counts[str(name)] = counts.get(str(name), 0) + codes.count(code)
    return counts


def rows_to_repeat(codes: bytes) -> list[int]:
    """Return the rows that are resent automatically: ended, unbilled, for a passing reason."""
    wanted = {code for code in set(codes) if code & _TRANSIENT and not code & BILLED}
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def rows_to_reask(codes: bytes) -> list[int]:
    """Return the rows that may have been billed without a usable answer; refusals are final.

    Rows that were resent once and ended for a passing reason are among them.
    """
    kinds = {_KINDS[Outcome.FAILED] | BILLED, _KINDS[Outcome.MISSING] | BILLED}
    wanted = {
        code for code in set(codes) if code & 0x1F in kinds or (code & BILLED and code & _TRANSIENT)
    }
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def rows_to_finish(codes: bytes) -> list[int]:
    """Return the rows that a deadline cut off: cancelled, expired or broken, and not billed."""
    kinds = {_KINDS[Outcome.CANCELLED], _KINDS[Outcome.EXPIRED]}
    wanted = {
        code
        for code in set(codes)
        if not code & BILLED and (code & _TRANSIENT or (code & 0x0F) in kinds)
    }
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []


def never_sent(job: Job) -> bool:
    """Whether `job` ended before anything of it was sent."""
    return job.state in TERMINAL and job.submitted_at is None and job.remote_id is None


def rows_unsent(codes: bytes, owners: bytes, jobs: Iterable[Job]) -> int:
    """Return how many rows were cancelled before they were ever sent.

    Parameters
    ----------
    owners
        The pack of the number of the job that decided each row.
    """
    numbers = {job.number for job in jobs if never_sent(job)}
    if not numbers:
        return 0
    cancelled = _KINDS[Outcome.CANCELLED]
    return sum(
        owner in numbers and code & (0x0F | BILLED) == cancelled
        for code, owner in zip(codes, memoryview(owners).cast("I"), strict=True)
    )


def rows_without_answer(codes: bytes) -> list[int]:
    """Return the rows that ended without an answer, whatever the reason."""
    ok = _KINDS[Outcome.OK]
    wanted = {code for code in set(codes) if (code & 0x0F) not in (ok, WAITING, SKIPPED)}
    return [row for row, code in enumerate(codes) if code in wanted] if wanted else []
