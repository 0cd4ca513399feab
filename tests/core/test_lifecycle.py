"""The life of a job, as data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llm_batch.core import lifecycle, row_codes
from jupyter_llm_batch.core.errors import IllegalEvent
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.lifecycle import (
    TERMINAL,
    TRANSITIONS,
    Action,
    Event,
    advance,
    next_action,
)
from jupyter_llm_batch.core.policy import Policy
from jupyter_llm_batch.core.request import Mode
from jupyter_llm_batch.core.result import Outcome


def job(state, **more):
    return Job(
        id="b-r0-j1", batch_id="b", round=0, number=1, provider="openai", model="m",
        endpoint="chat", rows=1, bytes=1, payload="r0-j1.jsonl", state=state, **more,
    )  # fmt: skip


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", Event)
def test_only_listed_events_are_legal(state, event):
    """An event that is not in the table raises; one that is leads where the table says."""
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalEvent):
            advance(state, event)


def test_a_lost_create_is_never_repeated_directly():
    """From SUBMITTING or UNKNOWN, a job is sent again only after a refusal or a look-up."""
    back = {
        (state, event)
        for (state, event), after in TRANSITIONS.items()
        if state in {JobState.SUBMITTING, JobState.UNKNOWN} and after is JobState.PLANNED
    }
    assert back == {
        (JobState.SUBMITTING, Event.NOT_CREATED),
        (JobState.UNKNOWN, Event.ABSENT),
    }


def test_every_state_leads_to_an_end():
    """From every state some path leads to a terminal one, and terminal states lead nowhere."""
    for start in JobState:
        seen, todo = {start}, [start]
        while todo:
            here = todo.pop()
            nexts = {after for (state, _), after in TRANSITIONS.items() if state is here}
            todo += nexts - seen
            seen |= nexts
        assert seen & TERMINAL
    assert not {state for state, _ in TRANSITIONS} & TERMINAL


def test_a_job_found_submitting_is_declared_lost():
    """A job found in SUBMITTING is looked up, not created again."""
    assert next_action(job(JobState.SUBMITTING), cancel=False) == (Action.DECLARE_LOST, 0.0)
    assert next_action(job(JobState.UNKNOWN, not_before=9), cancel=False) == (Action.LOOK_UP, 9)


def test_a_cancel_before_sending_withdraws():
    """What was not sent yet is withdrawn; a lost create is looked up first."""
    assert next_action(job(JobState.UPLOADED), cancel=True)[0] is Action.WITHDRAW
    assert next_action(job(JobState.UNKNOWN), cancel=True)[0] is Action.LOOK_UP
    assert next_action(job(JobState.RUNNING), cancel=True)[0] is Action.CANCEL
    assert next_action(job(JobState.RUNNING, cancel_sent=True), cancel=True)[0] is Action.POLL


def test_terminal_jobs_have_nothing_to_do():
    """A job at its end asks for nothing."""
    assert all(next_action(job(state), cancel=True) is None for state in TERMINAL)


@given(st.floats(0, 1e6), st.floats(0, 1e4))
def test_polls_are_never_faster_than_allowed(age, floor):
    """No poll comes before the configured interval or before the provider's own wish."""
    policy = Policy()
    wait = policy.poll_wait(age, floor)
    assert wait >= policy.poll
    assert wait >= floor
    assert wait <= max(policy.poll_longest * 1.2, floor)


@given(st.integers(1, 500), st.one_of(st.none(), st.floats(0, 1e5)))
def test_retry_waits_grow_and_obey(failures, asked):
    """A repeated call waits longer, up to a limit, and never less than the provider asked."""
    policy = Policy()
    wait = policy.retry_wait(failures, asked)
    assert wait >= (asked or 0)
    assert wait <= max(policy.retry_longest * 1.2, asked or 0)


@given(st.sampled_from(Outcome), st.booleans(), st.booleans())
def test_row_codes_round_trip(outcome, billed, transient):
    """The byte of a row keeps its outcome and whether it may have been billed."""
    code = row_codes.row_code(outcome, billed=billed, transient=transient)
    assert 0 < code < 256
    assert row_codes.outcome_of(code) is outcome
    assert row_codes.may_be_billed(code) is billed


@given(st.lists(st.sampled_from([0, 15, 1, 2, 0x12, 0x22, 0x32, 0x24, 0x16]), max_size=60))
def test_rows_that_may_be_billed_are_never_repeated_by_themselves(codes):
    """Automatic retry takes only unbilled rows that failed for a passing reason."""
    packed = bytes(codes)
    again = row_codes.rows_to_repeat(packed)
    assert all(not row_codes.may_be_billed(packed[row]) for row in again)
    assert set(again) <= set(row_codes.rows_without_answer(packed))
    assert sum(row_codes.count_outcomes(packed).values()) == len(packed)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1e3))
def test_jobs_are_asked_about_together_and_none_early(dues, patience):
    """The first job due waits for those that are due within the patience, and no longer."""
    at = lifecycle.grouped_poll_time(dues, patience)
    assert min(dues) <= at <= min(dues) + patience
    assert not [due for due in dues if at < due <= min(dues) + patience]


def test_a_wait_of_the_providers_is_not_cut_short():
    """Whatever becomes of our own wait: a running job is left alone as long as was asked for."""
    for mode, action in ((Mode.BATCH, Action.POLL), (Mode.REALTIME, Action.ASK)):
        running = job(JobState.RUNNING, mode=mode, not_before=0.0, asked_until=70.0)
        assert next_action(running, cancel=False) == (action, 70.0)
    refused = job(JobState.RUNNING, failures=1, asked_until=70.0)
    assert next_action(refused, cancel=True) == (Action.CANCEL, 70.0)


def test_only_reask_repeats_what_an_earlier_attempt_may_have_cost():
    """An attempt that expired is repeated for nothing, unless one before it may be billed."""
    codes = bytes(
        [
            row_codes.row_code(Outcome.EXPIRED, transient=True),
            row_codes.row_code(Outcome.EXPIRED, transient=True, billed=True),
            row_codes.row_code(Outcome.REFUSED, billed=True),
        ]
    )
    assert row_codes.rows_to_repeat(codes) == [0]
    assert row_codes.rows_to_reask(codes) == [1]
