"""Questions before something is paid for twice, or paid answers are deleted.

Each check raises `NotConfirmed` and changes nothing. The user's yes is ``--yes`` on a magic's line
or in a terminal, and ``confirm=True`` in Python.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.batch import Batch
from ..core.errors import NotConfirmed
from ..core.job import JobState
from ..core.result import Outcome
from ..core.row_codes import may_be_billed, outcome_of, rows_without_answer
from ..core.text import about_money, count, many, money, spans
from ..costs import budget
from ..storage.store import Store
from . import inherit


def check_retry(store: Store, batch: Batch, rules: budget.Rules) -> None:
    """Ask before rows are sent again that may have been billed; others may go without asking."""
    outcomes = inherit.caught_up(store, batch)
    rows = rows_without_answer(outcomes)
    billed = [row for row in rows if may_be_billed(outcomes[row])]
    if not billed:
        return
    free = len(rows) - len(billed)
    those = "it" if len(billed) == 1 else "them"
    raise NotConfirmed(
        f"{batch.title}: {many(len(rows), 'row has', 'rows have')} no answer. "
        f"{count(len(billed))} of them may have been billed (row {spans(billed)}), and you would "
        f"pay for {those} again{about(batch, len(billed), rules)}",
        yes=f"send all {count(len(rows))}" if len(rows) > 1 else "send it again",
        unbilled=f"send only {many(free, 'row that was', 'rows that were')} not billed"
        if free
        else "",
    )


def check_forget(store: Store, batches: Sequence[Batch]) -> None:
    """Ask before answers that were paid for, or may have been, are deleted."""
    answers = doubtful = 0
    names = []
    for batch in batches:
        outcomes = store.pack(batch.id, "outcomes")
        found = sum(outcome_of(code) is Outcome.OK for code in outcomes)
        billed = sum(may_be_billed(code) for code in outcomes if outcome_of(code) is not Outcome.OK)
        answers, doubtful = answers + found, doubtful + billed
        if found or billed:
            names.append(batch.title)
    if not names:
        return
    paid = sum(
        float(each.paid or 0)
        for batch in batches
        for each in store.spending.spends(batch_id=batch.id)
    )
    cost = f" that cost {money(paid)}" if paid else ""
    held = many(answers, "answer") + cost if answers else f"{many(doubtful, 'row')} maybe billed"
    named = names[0] if len(names) == 1 else f"{count(len(names))} batches ({_some(names)})"
    verb = "holds" if len(names) == 1 else "hold"
    raise NotConfirmed(
        f"{named} {verb} {held}. They are deleted from this computer, and running the cell again "
        "pays again",
        yes="delete them",
        done="deleted",
    )


def check_absent(store: Store, batch: Batch, rules: budget.Rules) -> None:
    """Ask before a job is sent again of which nobody knows whether the provider has it."""
    lost = [job for job in store.jobs(batch.id) if job.state is JobState.UNKNOWN]
    if lost:
        rows = lost[0].rows
        raise NotConfirmed(
            f"{batch.title}: the provider may have {many(rows, 'row')} of it already, and then "
            f"you pay twice{about(batch, rows, rules)}. `--as-created ID` takes up what is there",
            yes="send them again",
        )


def about(batch: Batch, rows: int, rules: budget.Rules) -> str:
    """Return in brackets what so many rows of a batch cost, where that is known."""
    cost = budget.expected_for_rows(batch, rows, rules)
    return "" if cost is None else f" ({about_money(float(cost))})"


def _some(names: Sequence[str], most: int = 5) -> str:
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {count(left)} more" if left > 0 else "")
