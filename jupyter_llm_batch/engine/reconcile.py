"""Reconciliation: the rows a job asked for against the lines that came back. No I/O here."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TypeAlias

import msgspec

from ..core.errors import redact
from ..core.ids import custom_id
from ..core.job import Job
from ..core.request import Mode
from ..core.result import TRUNCATED, ErrorKind, Outcome, Result, Sample, Usage
from ..core.row_codes import (
    BILLED,
    WAITING,
    is_cut,
    may_be_billed,
    outcome_of,
    result_code,
    row_code,
)
from ..core.text import many
from ..costs.price_list import requested_name
from ..costs.prices import PriceBook
from ..costs.rates import LINEAR, Cost

#: How many answers a job keeps for the panel's details.
SAMPLES = 3
#: The same of a job in real time, which may be there to be looked at.
SAMPLES_IN_REAL_TIME = 10

_REMEDIES = {
    "expired": "not billed; `%llm_batch retry` sends them again",
    "cancelled": "not billed; `%llm_batch retry` sends them again",
    "failed": "not billed; `%llm_batch retry` sends the same again; after fixing the rows, "
    "run the cell again: it sends only what changed",
    "missing": "no answer came for them, and they may have been billed; `%llm_batch retry` asks "
    "again",
    "refused": "the model or a filter declined; reword the prompt",
}
_BEFORE = (
    "not billed, but an earlier attempt may have been; `%llm_batch retry` sends them again and "
    "may be billed again"
)

#: The kind of rows whose answers stop before their end. They are answers, and billed.
CUT = "cut"
_AT_ITS_BOUND = (
    "billed and bound, but cut off at the token limit: use a larger --max-tokens (that is a new "
    "version, and every row is paid for); --reask sends the cut rows again by itself"
)
_BROKEN_OFF = (
    "billed and bound, but it stops early: `%llm_batch show NAME ROW` shows it; --reask sends such "
    "rows again by itself, and they are billed again"
)

#: The code of rows without a line in a job some of whose answers name no row.
NO_KEY = "no_key"
_NO_KEY_REMEDY = (
    "the answers are there and were billed, but no one can tell which row each belongs to: "
    "`%llm_batch show NAME unassigned` shows them"
)

_Kind: TypeAlias = "tuple[str, str, int, bool]"

#: Reasons that are told apart in a panel; a server may invent one for each row.
MOST_KINDS = 50
#: Characters of a provider's code that are kept.
_CODE = 100


class Reconciler:
    """Takes the result lines of one job and gives each of its rows exactly one outcome.

    Lines of unknown rows, and further lines of a row that already has its outcome, are counted in
    `strange` and change nothing, but for an answer after a failure: that is what was paid for.

    Parameters
    ----------
    job
        The job that was sent.
    rows
        The rows it asked for.
    user_cancelled
        The user, not the provider, asked for the end.
    keys
        The custom_ids by row, where they are not ours.
    book
        The prices in use.
    billed
        Rows of which an earlier attempt may have been billed: only an answer makes up for that.
    here
        Their requests are known here, so that they can be sent again.
    """

    def __init__(
        self,
        job: Job,
        rows: Iterable[int],
        *,
        user_cancelled: bool,
        keys: Sequence[str] | None = None,
        book: PriceBook | None = None,
        billed: Container[int] = (),
        here: bool = True,
    ) -> None:
        self._here = here
        self._job = job
        self._billed = billed
        self._book = book or PriceBook()
        self.answered: dict[str, int] = {}
        self._in_doubt: set[int] = set()
        self._user_cancelled = user_cancelled
        self.codes: dict[int, int] = dict.fromkeys(rows, WAITING)
        self._rows_of = {
            custom_id(job.batch_id, row) if keys is None else keys[row]: row for row in self.codes
        }
        self.usage: dict[str, Usage] = {}
        self.long: list[tuple[str, Usage]] = []
        self.samples: list[tuple[int, str]] = []
        one_by_one = job.mode is Mode.REALTIME
        self._most_samples = SAMPLES_IN_REAL_TIME if one_by_one else SAMPLES
        self.strange = 0
        #: Answers that name no row of the job, and how many of them stand for rows without a line.
        self._nameless: list[Result] = []
        self.unassigned = 0
        self.seen = 0
        # by outcome, the provider's code, our byte and whether that is of an earlier attempt: how
        # many, the first row, what it said
        self._kinds: dict[_Kind, tuple[int, int, str]] = {}
        self._kind_of: dict[int, _Kind] = {}

    def take(self, result: Result) -> None:
        """Count one line."""
        row = self._rows_of.get(result.custom_id)
        if row is None:
            self.strange += 1
            if result.outcome is Outcome.OK:
                self._nameless.append(result)
            return
        known = self.codes[row]
        if known == WAITING:
            self.seen += 1
        else:
            self.strange += 1
            if result.outcome is not Outcome.OK or outcome_of(known) is Outcome.OK:
                return
            self._take_back(row)
        code = result_code(result, user_cancelled=self._user_cancelled)
        if not self._count_tokens(result) and may_be_billed(code):
            self._in_doubt.add(row)
        if result.outcome is Outcome.OK:
            self.codes[row] = code
            if is_cut(code):
                ends = f"ends with {(result.text or '')[-80:]!r}" if result.text else ""
                self._count_kind(row, (CUT, result.finish_reason or "", code, False), ends)
            if len(self.samples) < self._most_samples and (said := result.said):
                self.samples.append((row, said))
        else:
            self._end(row, code, result.outcome, result.code or "", result.error or "")

    def _count_tokens(self, result: Result) -> bool:
        """Add the tokens of a result; False where it tells none."""
        usage = result.usage
        if not (usage.input or usage.output):
            return False
        model = result.model or self._job.model
        self.answered[model] = self.answered.get(model, 0) + 1
        if usage.input > LINEAR:
            self.long.append((model, usage))
        else:
            before = self.usage.get(model)
            self.usage[model] = usage if before is None else before + usage
        return True

    def close(self, rest: Outcome | None, reason: str = "") -> None:
        """Give every row that no line mentioned its outcome: `rest`, or *missing*."""
        outcome = rest or Outcome.MISSING
        code = row_code(
            outcome,
            billed=outcome is Outcome.MISSING,
            transient=outcome is Outcome.EXPIRED
            or (outcome is Outcome.CANCELLED and not self._user_cancelled),
        )
        why = ""
        if outcome is Outcome.MISSING and self._nameless and WAITING in self.codes.values():
            self.unassigned = len(self._nameless)
            why, reason = NO_KEY, without_key(self.unassigned)
            for result in self._nameless:
                self._count_tokens(result)
        for row, known in self.codes.items():
            if known == WAITING:
                if may_be_billed(code):
                    self._in_doubt.add(row)
                self._end(row, code, outcome, why, reason)

    def fail(self, outcome: Outcome, reason: str) -> None:
        """Give all rows the same outcome, unbilled: the job as a whole never ran."""
        code = row_code(outcome)
        for row in self.codes:
            self._end(row, code, outcome, "", reason)

    def _end(self, row: int, byte: int, outcome: Outcome, code: str, message: str) -> None:
        """Note that a row has no answer, and why."""
        code = redact(code[:_CODE])[:_CODE]
        before = row in self._billed and not may_be_billed(byte)
        self.codes[row] = byte | BILLED if before else byte
        key = self._kind_of[row] = (outcome.value, code, self.codes[row], before)
        self._count_kind(row, key, message)

    def _count_kind(self, row: int, key: _Kind, message: str) -> None:
        rows, first, example = self._kinds.get(key, (0, row, message[:300]))
        self._kinds[key] = (rows + 1, first, example)

    def _take_back(self, row: int) -> None:
        """Forget that a row failed: there is an answer after all."""
        self._in_doubt.discard(row)
        key = self._kind_of.pop(row)
        rows, first, example = self._kinds.pop(key)
        if rows > 1:
            self._kinds[key] = (rows - 1, first, example)

    @property
    def came(self) -> int:
        """Lines that count for what the provider has counted."""
        return self.seen + len(self._nameless)

    @property
    def doubtful(self) -> int:
        """Rows that this job may have been billed for although nothing tells their tokens."""
        return max(0, len(self._in_doubt) - self.unassigned)

    def tally(self) -> dict[str, int]:
        """Return rows by outcome."""
        counts: dict[str, int] = {}
        for code in self.codes.values():
            name = str(outcome_of(code) or "waiting")
            counts[name] = counts.get(name, 0) + 1
        return counts

    def total_usage(self) -> Usage:
        """Return the tokens of all rows."""
        return sum((usage for _, usage in self.long), sum(self.usage.values(), Usage()))

    def models(self) -> list[str]:
        """Return the models that answered, as the provider names them."""
        return [*self.answered]

    def usage_of(self, model: str) -> tuple[Usage, int]:
        """Return the tokens of one model, and how many rows they are of."""
        long = (usage for owner, usage in self.long if owner == model)
        return sum(long, self.usage.get(model, Usage())), self.answered.get(model, 0)

    def cost_of(self, model: str) -> Cost | None:
        """Return what one model's rows cost, in real time in full; None when it is unknown."""
        long = [usage for owner, usage in self.long if owner == model]
        asked = requested_name(self._job, model)
        short = self.usage.get(model, Usage())
        url = self._job.account.base_url if self._job.account is not None else ""
        full = self._job.mode is Mode.REALTIME
        return self._book.cost(
            self._job.provider, model, short, long, asked=asked, url=url, full=full
        )

    def total_cost(self) -> Cost | None:
        """Return what the rows cost, None when a price is unknown."""
        total = Cost()
        for model in self.models():
            part = self.cost_of(model)
            if part is None:
                return None
            total += part
        return total

    def kinds(self) -> list[ErrorKind]:
        """Return the rows without an answer by reason, most frequent first."""
        kinds = [
            ErrorKind(
                kind=f"{outcome}: {code}" if code else outcome,
                code=byte,
                rows=rows,
                example=f"row {row}: {message}" if message else f"row {row}",
                remedy=remedy(outcome, byte, before=before, reason=code, here=self._here),
            )
            for (outcome, code, byte, before), (rows, row, message) in sorted(
                self._kinds.items(), key=lambda item: -item[1][0]
            )
        ]
        if len(kinds) <= MOST_KINDS:
            return kinds
        rest = kinds[MOST_KINDS - 1 :]
        other = msgspec.structs.replace(
            rest[0], kind=f"{len(rest):,} other reasons", rows=sum(each.rows for each in rest)
        )
        return [*kinds[: MOST_KINDS - 1], other]

    def sample_rows(self, prompts: dict[int, str]) -> list[Sample]:
        """Return a few answers with their prompts."""
        return [
            Sample(row=row, prompt=prompts.get(row, "")[:300], answer=answer[:300])
            for row, answer in self.samples
        ]


def without_key(number: int) -> str:
    """Say of a job that so many of its answers name no row."""
    return (
        f"{many(number, 'answer')} came back without a key: `%llm_batch show NAME unassigned` "
        f"shows {'it' if number == 1 else 'them'}"
    )


def remedy(
    outcome: str, code: int, *, before: bool = False, reason: str = "", here: bool = True
) -> str:
    """Return what to do about rows that ended so.

    Parameters
    ----------
    before
        Not this attempt but an earlier one may have been billed.
    reason
        The provider's code, or its word for why a cut answer ended.
    here
        Their requests are known here; else there is nothing to send.
    """
    if outcome == CUT:
        return _AT_ITS_BOUND if reason in TRUNCATED else _BROKEN_OFF
    if not here:
        paid = "may have been billed" if may_be_billed(code) else "not billed"
        return f"{paid}; created elsewhere: send them again from where they came"
    if before:
        return _BEFORE
    if reason == NO_KEY:
        return _NO_KEY_REMEDY
    if outcome == "failed" and may_be_billed(code):
        return "billed; `%llm_batch show NAME ROW` shows the answer, `%llm_batch retry` asks again"
    if outcome == "refused" and may_be_billed(code):
        return f"{_REMEDIES[outcome]}; it was billed, and a retry pays for the same again"
    return _REMEDIES[outcome]
