"""Each row that was asked for gets exactly one outcome."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llm_batch.core import row_codes
from jupyter_llm_batch.core.job import Job
from jupyter_llm_batch.core.result import Outcome, Result, Sample, Usage
from jupyter_llm_batch.costs.prices import list_cost
from jupyter_llm_batch.costs.rates import LINEAR
from jupyter_llm_batch.engine.reconcile import SAMPLES, Reconciler

MODEL = "gemini-2.5-pro"
JOB = Job(
    id="b-r1-j1", batch_id="b", round=1, number=1, provider="google", model=MODEL,
    endpoint="chat", rows=3, bytes=10, payload="p",
)  # fmt: skip


def reconciler(rows=range(3), *, user_cancelled=False):
    return Reconciler(JOB, rows, user_cancelled=user_cancelled)


def result(row, outcome=Outcome.OK, **more):
    return Result(custom_id=f"b-{row}", outcome=outcome, **more)


def outcomes(found):
    return {row: row_codes.outcome_of(code) for row, code in found.codes.items()}


@given(
    st.sets(st.integers(0, 30)),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(Outcome))),
    st.sampled_from([None, Outcome.EXPIRED, Outcome.CANCELLED]),
)
def test_every_row_ends_in_exactly_one_outcome(rows, lines, rest):
    """Whatever lines come in whatever order: an answer counts, else the first, for every row."""
    found = reconciler(rows)
    for row, outcome in lines:
        found.take(result(row, outcome))
    found.close(rest)
    first = {row: outcome for row, outcome in reversed(lines) if row in rows}
    first |= {row: outcome for row, outcome in lines if row in rows and outcome is Outcome.OK}
    unmentioned = rest or Outcome.MISSING
    assert outcomes(found) == {row: first.get(row, unmentioned) for row in rows}
    assert found.seen == len(first)
    assert found.seen + found.strange == len(lines)
    assert sum(found.tally().values()) == len(rows)
    errors = sum(outcome is not Outcome.OK for outcome in outcomes(found).values())
    assert sum(kind.rows for kind in found.kinds()) == errors


@pytest.mark.parametrize("name", ["c-1", "b-7", "b-", "b-x", "b--1", "1", "", "b-¹", "b-1-1"])
def test_a_line_of_an_unknown_row_changes_nothing(name):
    """A custom_id of another batch, of no row, or of a row not asked for is only counted."""
    found = reconciler()
    found.take(Result(custom_id=name, outcome=Outcome.OK, text="x", usage=Usage(input=9)))
    assert (found.strange, found.seen) == (1, 0)
    assert found.tally() == {"waiting": 3}
    assert found.total_usage() == Usage()
    assert found.samples == []


def test_a_second_line_of_a_row_changes_nothing():
    """The first line of a row stands; a further one adds neither tokens nor an error."""
    found = reconciler([1])
    found.take(result(1, text="first", usage=Usage(input=5, output=1)))
    found.take(result(1, Outcome.FAILED, code="late", usage=Usage(input=7, output=7)))
    assert outcomes(found) == {1: Outcome.OK}
    assert found.total_usage() == Usage(input=5, output=1)
    assert found.kinds() == []
    assert found.samples == [(1, "first")]
    assert (found.seen, found.strange) == (1, 1)


def test_an_answer_after_a_failure_is_kept():
    """A row's answer was paid for; a line that says otherwise before it changes nothing."""
    found = reconciler()
    found.take(result(1, Outcome.FAILED, error="broke", billed=True))
    found.take(result(1, text="answer", usage=Usage(input=3)))
    found.take(result(1, Outcome.FAILED, error="late"))
    assert outcomes(found)[1] is Outcome.OK
    assert (found.seen, found.strange, found.doubtful) == (1, 2, 0)
    assert found.kinds() == []
    assert found.samples == [(1, "answer")]


def test_a_row_without_a_line_is_missing_and_maybe_billed():
    """A row the provider said nothing about may have been paid for: never resent by itself."""
    found = reconciler([0])
    found.close(None)
    codes = bytes(found.codes.values())
    assert found.tally() == {"missing": 1}
    assert row_codes.may_be_billed(codes[0])
    assert row_codes.rows_to_repeat(codes) == []
    assert row_codes.rows_to_reask(codes) == [0]


@pytest.mark.parametrize(
    ("rest", "user_cancelled", "repeated"),
    [
        (Outcome.EXPIRED, False, True),
        (Outcome.EXPIRED, True, True),
        (Outcome.CANCELLED, False, True),
        (Outcome.CANCELLED, True, False),
    ],
)
def test_the_rest_of_a_job_is_repeated_unless_the_user_ended_it(rest, user_cancelled, repeated):
    """Rows cut off unbilled go out again by themselves, but not those the user cancelled."""
    found = reconciler([0, 1], user_cancelled=user_cancelled)
    found.take(result(0))
    found.close(rest, "the window closed")
    codes = bytes(found.codes.values())
    assert found.tally() == {"ok": 1, rest.value: 1}
    assert not row_codes.may_be_billed(codes[1])
    assert row_codes.rows_to_repeat(codes) == ([1] if repeated else [])
    assert found.kinds()[0].example == "row 1: the window closed"


def test_a_job_that_never_ran_fails_all_rows_unbilled():
    """A job refused as a whole gives each row its reason, unbilled and not sent again unasked."""
    found = reconciler()
    found.fail(Outcome.FAILED, "bad model")
    codes = bytes(found.codes.values())
    assert found.tally() == {"failed": 3}
    assert not any(map(row_codes.may_be_billed, codes))
    assert row_codes.rows_to_repeat(codes) == []
    (kind,) = found.kinds()
    assert (kind.kind, kind.rows, kind.example) == ("failed", 3, "row 0: bad model")


def test_kinds_are_told_apart_by_reason_and_bill_most_frequent_first():
    """Equal reasons are one kind with its first row; a billed failure has another remedy."""
    found = reconciler(range(7))
    for row in (4, 1, 2):
        found.take(result(row, Outcome.FAILED, code="bad", error=f"said {row}"))
    for row in (0, 3):
        found.take(result(row, Outcome.FAILED, code="bad", error="cut", billed=True))
    found.take(result(5, Outcome.REFUSED, billed=True))
    found.take(result(6, text="fine"))
    kinds = found.kinds()
    assert [(kind.kind, kind.rows, kind.example) for kind in kinds] == [
        ("failed: bad", 3, "row 4: said 4"),
        ("failed: bad", 2, "row 0: cut"),
        ("refused", 1, "row 5"),
    ]
    assert kinds[0].remedy.startswith("not billed")
    assert "run the cell again" in kinds[0].remedy  # a retry sends what was snapshotted
    assert kinds[1].remedy.startswith("billed")
    assert "reword" in kinds[2].remedy
    assert "a retry pays for the same again" in kinds[2].remedy
    assert [kind.code for kind in kinds] == [found.codes[row] for row in (4, 0, 5)]


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.OK])
@pytest.mark.parametrize("billed", [True, False])
def test_every_way_to_end_without_an_answer_has_a_remedy(outcome, billed):
    """No kind of failure leaves the user without the next step."""
    found = reconciler([0])
    found.take(result(0, outcome, billed=billed, error="x" * 1000))
    (kind,) = found.kinds()
    assert kind.remedy
    assert len(kind.example) < 400


def test_samples_are_the_first_few_answers_with_text():
    """A few answered rows are kept with their prompts, both cut short; empty answers are not."""
    found = reconciler(range(9))
    found.take(result(0, Outcome.FAILED, text="not an answer"))
    found.take(result(1, text=""))
    for row in range(2, 9):
        found.take(result(row, text=f"{row}" * 1000))
    samples = found.sample_rows({2: "p" * 1000})
    assert len(samples) == SAMPLES
    assert samples[0] == Sample(row=2, prompt="p" * 300, answer="2" * 300)
    assert samples[1] == Sample(row=3, prompt="", answer="3" * 300)


def test_long_requests_are_priced_one_by_one():
    """Only requests past the linear range are kept apart, so only they pay long-context prices."""
    found = reconciler(range(4))
    short = Usage(input=LINEAR, output=10)
    long = Usage(input=LINEAR * 3, output=10)
    for row, usage in enumerate((short, long, short, short)):
        found.take(result(row, usage=usage))
    assert found.usage == {MODEL: short + short + short}
    assert found.long == [(MODEL, long)]
    assert found.total_usage() == short + short + short + long
    assert found.total_cost() == list_cost("google", MODEL, short + short + short, [long])


def test_tokens_count_under_the_model_that_answered():
    """The model a result names gets its tokens, else the job's; failed rows may cost as well."""
    found = reconciler(range(3))
    one = Usage(input=1000, output=100)
    found.take(result(0, usage=one))
    found.take(result(1, usage=one, model="gemini-2.5-flash"))
    found.take(result(2, Outcome.FAILED, usage=one, billed=True))
    assert found.usage == {MODEL: one + one, "gemini-2.5-flash": one}
    parts = [list_cost("google", MODEL, one + one), list_cost("google", "gemini-2.5-flash", one)]
    total = found.total_cost()
    assert total.batch == sum(part.batch for part in parts)
    assert total.realtime == sum(part.realtime for part in parts)


def test_one_unknown_price_makes_the_total_unknown():
    """A sum with an unknown part is unknown; a job without tokens costs nothing."""
    found = reconciler(range(2))
    assert found.total_cost().batch == Decimal(0)
    found.take(result(0, usage=Usage(input=10)))
    assert found.total_cost().batch > 0
    found.take(result(1, usage=Usage(input=10), model="no-such-model"))
    assert found.total_cost() is None
