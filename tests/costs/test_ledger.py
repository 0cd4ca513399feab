"""Sums of what was spent and saved."""

import csv
import io
import time
from decimal import Decimal

import pytest

from jupyter_llm_batch.core.batch import Batch
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.money import Spend
from jupyter_llm_batch.core.request import Recipe, Shape
from jupyter_llm_batch.core.result import Usage
from jupyter_llm_batch.costs.ledger import Ledger, describe_total, spends_of_jobs
from jupyter_llm_batch.notebook.tables import chart

DAY = 86_400.0
NOON = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))


def spend(number, *, paid="1.5", realtime="3", day=0, **more):
    fields = {
        "id": f"j{number}", "batch_id": f"b{number}", "notebook": "nb", "title": f"t{number}",
        "provider": "openai", "model": "m", "at": NOON + day * DAY, "rows": 10, "answered": 10,
        "usage": Usage(input=100, output=10), "paid": paid, "realtime": realtime,
    }  # fmt: skip
    return Spend(**fields | more)


LINES = [
    spend(1),
    spend(2, day=1, provider="google", model="g", cache="0.5"),
    spend(3, day=1, mode="reuse", paid="0", realtime="0", reused="0.25", answered=0, title="t1"),
]


def test_all_that_was_saved_is_told_apart():
    """Saved by the batch, by caching and by reuse add up to what was saved."""
    total = Ledger(LINES).total
    assert (total.paid, total.realtime) == (Decimal(3), Decimal(6))
    assert (total.batch, total.cache, total.reuse) == (3, Decimal("0.5"), Decimal("0.25"))
    assert total.saved == Decimal("3.75")
    assert repr(Ledger(LINES)) == (
        "$3.00 spent, $3.75 saved ($3.00 by batch, $0.50 by caching, $0.25 by reuse)"
    )


@pytest.mark.parametrize(
    ("group", "keys"),
    [
        ("day", ["2026-03-01", "2026-03-02"]),
        ("month", ["2026-03"]),
        ("provider", ["google", "openai"]),
        ("model", ["google:g", "openai:m"]),
        ("batch", ["t1", "t2"]),
        ("notebook", ["nb"]),
    ],
)
def test_sums_by(group, keys):
    """Every grouping holds every line once."""
    found = Ledger(LINES).by(group)
    assert [each.key for each in found] == keys
    assert sum(each.paid for each in found) == Ledger(LINES).total.paid


def test_an_unknown_grouping_is_refused():
    """The message names the groupings that there are."""
    with pytest.raises(UsageProblem, match="day, month, provider"):
        Ledger(LINES).by("mood")


def test_the_cumulative_sum_ends_at_the_total():
    """What was spent and saved rises to the sum of all."""
    assert Ledger(LINES).cumulative() == [
        ("2026-03-01", Decimal("1.5"), Decimal("1.5")),
        ("2026-03-02", Decimal(3), Decimal("3.75")),
    ]


def test_what_has_no_price_is_counted_and_not_summed():
    """Requests without a known price are named beside the sum."""
    ledger = Ledger([*LINES, spend(4, paid=None, realtime=None)])
    assert ledger.total.paid == Decimal(3)
    assert "10 requests without a known price" in repr(ledger)


def test_frame_and_csv_hold_every_line():
    """The lines come out as a frame and as CSV, with USD as numbers."""
    ledger = Ledger(LINES)
    frame = ledger.frame()
    assert list(frame["paid_usd"]) == [1.5, 1.5, 0.0]
    read = list(csv.DictReader(io.StringIO(ledger.csv())))
    assert [float(row["saved_by_reuse_usd"]) for row in read] == [0.0, 0.0, 0.25]
    assert len(Ledger([]).frame()) == 0
    assert Ledger([]).csv().startswith("at,notebook,batch,provider,model,mode,")


def test_jobs_of_before_the_ledger_are_in_it():
    """Ended jobs that were never booked are counted from the journal, booked ones once."""
    batch = Batch(
        id="b", notebook="nb", name="old", version=1, created_at=NOON, rows=2, recipe=Recipe(),
        models=["openai:m"], shape=Shape(kind="list"), plan_hash="",
    )  # fmt: skip
    job = Job(
        id="b-r0-j1", batch_id="b", round=0, number=1, provider="openai", model="m",
        endpoint="chat", rows=2, bytes=9, payload="p", state=JobState.DONE, ended_at=NOON,
        usage=Usage(input=5, output=5), cost="1", saved="1", tally={"ok": 2},
    )  # fmt: skip
    (line,) = spends_of_jobs(batch, [job], [])
    assert (line.paid, line.realtime, line.answered) == ("1", "2", 2)
    assert spends_of_jobs(batch, [job], [line]) == []


def test_batches_of_one_name_are_told_apart_by_their_notebooks():
    """Only where a name repeats is the notebook named."""
    lines = [spend(1, title="x"), spend(2, title="x", notebook="other"), spend(3, title="y")]
    assert {total.key for total in Ledger(lines).by("batch")} == {"nb::x", "other::x", "y"}


def test_what_may_have_been_billed_is_bounded_only_where_that_is_known():
    """An unknown amount is not called $0.00."""
    assert "1 request may have been billed besides, for an amount" in describe_total(
        Ledger([spend(1, doubtful=1)]).total
    )
    assert "2 requests may have been billed besides, at most $1.00" in describe_total(
        Ledger([spend(1, doubtful=2, doubt=1.0)]).total
    )


# -- the picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["day", "model"])
def test_the_picture_has_no_colour_of_its_own_for_text(group):
    """Text and axes of the chart follow the page, light or dark; nothing is fetched or run."""
    picture = chart.svg(Ledger(LINES), group)
    assert picture.startswith("<svg ")
    assert "currentColor" in picture
    assert chart._INK not in picture
    assert "<script" not in picture


def test_bars_without_a_library():
    """Without matplotlib the same sums are bars, and odd names are escaped."""
    lines = [spend(1, title="<b>odd</b>"), spend(2, paid="0.5", realtime="1")]
    picture = chart.bars(Ledger(lines).by("batch"), "batch")
    assert "&lt;b&gt;odd&lt;/b&gt;" in picture
    assert picture.count("<rect") == 4
    assert "$1.50, saved $1.50" in picture
