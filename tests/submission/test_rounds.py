"""Retry rounds: which rows are sent again, by whom, and what a row is known to have cost."""

import pytest
from support import until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.storage import salvage

MODEL = "openai:gpt-5-mini"
HAIKU = "anthropic:claude-haiku-4-5"
MISSING, EXPIRED = "a [[sim:missing x1]]", "late [[sim:expire x1]]"


def ask(client, over, name="x", **options):
    options = {"model": MODEL} | options
    return client.submit("Q {{ item }}", name=name, over=over, **options)


def outcomes(handle):
    return [result.outcome for result in handle.results()]


def running(client, handle):
    """Wait until the last job of a batch is at its provider."""
    until(lambda: client.store.jobs(handle.id)[-1].state is JobState.RUNNING)


# -- rows of earlier batches -----------------------------------------------------------------------


@pytest.fixture
def versions(client):
    """``x`` with a row that never came back, and ``x#2``, which takes it over."""
    first = ask(client, [MISSING, "b"]).wait(60)
    return first, ask(client, [MISSING, "b", "c"]).wait(60)


def test_a_retry_takes_what_an_earlier_batch_has_got_by_its_own(client, sim, versions):
    """The row is answered already: nothing is sent, and the batch stays ended."""
    first, second = versions
    assert first.retry(confirm=True) == 1
    first.wait(60)
    paid = sim.summary()["rows"]
    assert second.retry(confirm=True) == 0
    assert outcomes(second) == [Outcome.OK] * 3
    assert second.done
    assert second.snapshot().ok == 3
    assert sim.summary()["rows"] == paid


def test_a_retry_waits_for_what_an_earlier_batch_asks_again(client, sim, versions):
    """Two retries of one row at a time send it once, and both get its answer."""
    first, second = versions
    paid = sim.summary()["rows"]
    sim.behave(seconds=1000)
    first.retry(confirm=True)
    running(client, first)
    assert second.retry(confirm=True) == 0
    assert not second.done
    sim.advance(2000)
    assert outcomes(second.wait(60)) == [Outcome.OK] * 3
    assert sim.summary()["rows"] == paid + 1


def test_a_retry_still_sends_what_nobody_else_asks(client, sim, versions):
    """A row that no earlier batch has tried again is sent by the later one."""
    _, second = versions
    paid = sim.summary()["rows"]
    assert second.retry(confirm=True) == 1
    assert outcomes(second.wait(60)) == [Outcome.OK] * 3
    assert sim.summary()["rows"] == paid + 1


@pytest.fixture
def under_way(client, sim):
    """``x`` with a row that has expired and is not sent again, and one that is not back."""
    sim.fault(action="freeze", method="GET", path="*/messages/batches*", times=None)
    first = ask(client, [EXPIRED, "b"], model=None, route=[MODEL, HAIKU], retry=0)
    until(lambda: client.store.pack(first.id, "outcomes")[0])
    return first


def test_what_a_later_version_asks_again_is_not_asked_by_the_next(client, sim, under_way):
    """A row that x#2 took from x and sends again by itself is its own: x#3 waits for it."""
    second = ask(client, [EXPIRED, "b", "c"], model=None, route=[MODEL, HAIKU, MODEL])
    until(lambda: client.store.jobs(second.id)[0].state is JobState.DONE)
    sim.behave(seconds=1000)
    sim.clear_faults()
    under_way.wait(60)
    until(lambda: len(client.store.jobs(second.id)) == 2)
    running(client, second)
    third = ask(client, [EXPIRED, "b", "c", "d"], model=None, route=[MODEL, HAIKU, MODEL, MODEL])
    running(client, third)
    sim.advance(2000)
    assert outcomes(second.wait(60)) == [Outcome.OK] * 3
    assert outcomes(third.wait(60)) == [Outcome.OK] * 4
    assert sim.summary()["max_per_body"] == 1


def test_rows_that_share_a_request_of_an_earlier_batch_are_sent_once(client, sim, under_way):
    """With --dedupe: one of them is sent again by itself, and the others take its answer."""
    over, route = [EXPIRED, EXPIRED, EXPIRED, "b"], [MODEL] * 3 + [HAIKU]
    second = ask(client, over, model=None, route=route, dedupe=True)
    sim.clear_faults()
    under_way.wait(60)
    assert outcomes(second.wait(60)) == [Outcome.OK] * 4
    assert [job.rows for job in client.store.jobs(second.id)] == [1]
    assert salvage._is_whole(client.store._db, second.record)  # a damaged journal keeps it
    assert sim.summary()["max_per_body"] == 1


# -- cancelled meanwhile ---------------------------------------------------------------------------


def test_a_cancel_outlives_a_round_that_is_being_written(client, sim, monkeypatch):
    """The user cancels while a round of automatic retries is written: it is not sent."""
    add = client.store.add_round

    def slow(*args, **options):
        client.get("x").cancel()
        return add(*args, **options)

    monkeypatch.setattr(client.store, "add_round", slow)
    handle = ask(client, [EXPIRED, "b"]).wait(60)
    assert outcomes(handle) == [Outcome.EXPIRED, Outcome.OK]
    assert handle.record.cancel_requested
    assert sim.summary()["rows"] == 1
    assert [path.name for path in client.store.folder_of(handle.id).glob("r1-*")] == []
    monkeypatch.undo()
    assert handle.retry(confirm=True) == 1
    assert outcomes(handle.wait(60)) == [Outcome.OK] * 2


def test_a_cancel_leaves_the_batches_of_other_notebooks_alone(make_client, sim):
    """What --reuse takes from another notebook's batch goes on there, whatever its name."""
    sim.behave(seconds=1000)
    other = make_client(notebook="other.ipynb")
    first = ask(other, ["a"])
    running(other, first)
    client = make_client()
    handle = ask(client, ["a", "b"], reuse="other.ipynb::x")
    running(client, handle)
    handle.cancel()
    until(lambda: any(each["path"].endswith("/cancel") for each in sim.requests()))
    sim.advance(700)
    assert outcomes(handle.wait(60)) == [Outcome.CANCELLED] * 2
    assert not first.record.cancel_requested
    sim.advance(2000)
    assert outcomes(first.wait(60)) == [Outcome.OK]
    assert handle.retry(confirm=True) == 1
    until(lambda: sim.advance(2000) or handle.done)
    assert outcomes(handle) == [Outcome.OK] * 2
    assert sim.summary()["max_per_body"] == 1


# -- what a row may have cost ----------------------------------------------------------------------


def may_be_billed(handle):
    return [result.billed for result in handle.results() if result.outcome is not Outcome.OK]


def test_a_withdrawn_retry_remembers_that_a_row_may_be_billed(client, sim, versions):
    """The row of a retry that is cancelled before it was sent is not sent by a later version."""
    _, second = versions
    sim.fault(action="status", status=503, method="POST", path="*/files", times=None)
    second.retry(confirm=True)
    until(lambda: client.store.jobs(second.id)[-1].failures)
    second.cancel()
    assert outcomes(second.wait(60)) == [Outcome.CANCELLED, Outcome.OK, Outcome.OK]
    assert may_be_billed(second) == [True]
    assert "an earlier attempt may have been" in second.snapshot().errors[0].remedy
    sim.clear_faults()
    third = ask(client, [MISSING, "b", "c", "d"], retry=2).wait(60)
    assert may_be_billed(third) == [True]
    assert sim.summary()["max_per_body"] == 1


@pytest.mark.parametrize("path", ["*/files", "*/batches"])
def test_a_refused_retry_remembers_that_a_row_may_be_billed(client, sim, path):
    """The provider refuses the retry as a whole: a later version does not send its rows."""
    handle = ask(client, [MISSING, "b"]).wait(60)
    sim.fault(action="status", status=400, method="POST", path=path)
    handle.retry(confirm=True)
    assert outcomes(handle.wait(60)) == [Outcome.FAILED, Outcome.OK]
    assert may_be_billed(handle) == [True]
    ask(client, [MISSING, "b", "c"]).wait(60)
    assert sim.summary()["max_per_body"] == 1
    assert handle.retry(confirm=True) == 1
    assert outcomes(handle.wait(60)) == [Outcome.OK] * 2
