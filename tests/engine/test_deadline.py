"""`--deadline 6h`: what is not back by then is cut off, collected, and finished in real time."""

import re
import time
from collections import Counter

import pytest
from support import bill, mark, until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.batch import Batch
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.request import Mode, Recipe, Shape
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.costs import remaining
from jupyter_llm_batch.costs.prices import PriceBook

MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]


class Clock:
    """A clock that a test puts forward."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


@pytest.fixture
def clock():
    return Clock()


def prompts(rows):
    return [f"prompt {i}" for i in range(rows)]


def start(client, model=MODELS[0], rows=20, **options):
    over = prompts(rows)
    options = {"deadline": "6h", "max_tokens": 300} | options
    return client.submit(name="x", over=over, model=model, **options)


def cut(client, handle, sim):
    """Let the provider carry out the cancel, which takes it a while."""
    client.poller().wake()
    until(lambda: any(seen["path"].endswith(("/cancel", ":cancel")) for seen in sim.requests()))
    sim.behave(stuck=False)
    sim.advance(700)
    handle.wait(60)


def running(client, handle):
    return all(job.state is JobState.RUNNING for job in client.store.jobs(handle.id))


@pytest.mark.parametrize("model", MODELS)
def test_what_is_not_back_is_finished_in_real_time(make_client, sim, clock, model):
    """The batch is cancelled at the provider, its done rows are kept, the others asked at once."""
    sim.behave(seconds=1000, stuck=True)
    client = make_client(clock=clock)
    handle = start(client, model)
    until(lambda: running(client, handle))
    clock.ahead = 6 * 3600 + 1
    cut(client, handle, sim)
    assert {result.outcome for result in handle.results()} == {Outcome.OK}
    assert all(mark(f"prompt {i}") in answer for i, answer in enumerate(handle.answers()))
    assert sim.summary()["max_per_body"] == 1
    assert client.cost().total.paid == bill(sim)
    last = client.store.jobs(handle.id)[-1]
    assert (last.round, last.mode) == (1, Mode.REALTIME)


def test_rows_that_were_done_are_not_asked_again(make_client, sim, clock):
    """Of a batch that was half done, the other half is asked in real time."""
    sim.behave(seconds=1000)
    client = make_client(clock=clock)
    handle = start(client)
    until(lambda: running(client, handle))
    sim.advance(500)
    clock.ahead = 6 * 3600 + 1
    cut(client, handle, sim)
    modes = Counter(entry["mode"] for entry in sim.ledger())
    assert sum(modes.values()) == 20
    assert 0 < modes["batch"] < 20
    assert sim.summary()["max_per_body"] == 1


def test_before_the_deadline_it_counts_down_and_names_the_price(make_client, sim, clock):
    """Panel and line say how long there is left and what comes after it."""
    sim.behave(seconds=1000)
    client = make_client(clock=clock)
    handle = start(client)
    until(lambda: running(client, handle))
    shot = handle.snapshot()
    assert 5.9 * 3600 < shot.deadline <= 6 * 3600
    assert "deadline in 5 h 59 min" in shot.line
    assert "after the deadline, 20 rows (at most $0.0" in shot.question
    assert not shot.choices


def test_a_deadline_that_passed_unwatched_asks_first(make_client, sim, clock):
    """A kernel that comes back too late does nothing before the user says so."""
    sim.behave(seconds=1000, stuck=True)
    client = make_client(clock=clock)
    handle = start(client)
    until(lambda: running(client, handle))
    client.close()
    clock.ahead = 7 * 3600
    client = make_client(clock=clock)
    handle = client.get("x")
    client.resume()
    shot = handle.snapshot()
    assert shot.state == "attention"
    assert "passed while no kernel ran" in shot.question
    assert shot.choices == ["finish", "keep"]
    handle.refresh()
    assert not any(seen["path"].endswith("/cancel") for seen in sim.requests())
    cut(client, handle.finish(), sim)
    assert {result.outcome for result in handle.results()} == {Outcome.OK}


@pytest.mark.parametrize(
    ("model", "words"),
    [(MODELS[0], r"more than the \$0\.00 that you allowed"), ("openai:gpt-none", "is not known")],
)
def test_it_costs_no_more_than_was_allowed(make_client, sim, clock, model, words):
    """Above the bound, or at an unknown price, the user is asked instead."""
    sim.behave(seconds=1000, stuck=True)
    client = make_client(clock=clock)
    handle = start(client, model, deadline_max_cost=0.0001)
    until(lambda: running(client, handle))
    clock.ahead = 6 * 3600 + 1
    handle.refresh()
    shot = handle.snapshot()
    assert re.search(words, shot.question)
    handle.set_deadline(None)
    assert not handle.snapshot().choices
    assert not any(seen["path"].endswith("/cancel") for seen in sim.requests())


@pytest.mark.parametrize("text", ["", "6 parsecs", "-1h", "0", 0])
def test_a_time_that_is_none_is_refused(client, text):
    """A mistyped deadline is one line."""
    with pytest.raises(UsageProblem, match="6h"):
        start(client, deadline=text)


def job(**more):
    fields = {"state": JobState.RUNNING, "submitted_at": 0.0} | more
    return Job(
        id="b-r0-j1", batch_id="b", round=0, number=1, provider="openai", model="gpt-5-mini",
        endpoint="chat", rows=10, bytes=4000, payload="r0-j1.jsonl", **fields,
    )  # fmt: skip


def test_a_batch_is_stuck_by_what_is_usual():
    """Twice the longest of the latest batches without progress is strange; half an hour never."""
    history = [3600.0, 5000.0, 7200.0]
    assert not remaining.stuck_for([job()], 14_000, history)
    assert remaining.stuck_for([job()], 15_000, history) == 15_000.0
    assert not remaining.stuck_for([job(progress_at=9_000.0)], 15_000, history)
    assert not remaining.stuck_for([job()], 1_000, [8.0, 8.0, 8.0])
    assert not remaining.stuck_for([job()], 40_000, [])
    assert remaining.stuck_for([job()], 50_000, [])
    assert not remaining.stuck_for([job(state=JobState.COLLECTING)], 50_000, [])


def test_the_rest_is_priced_by_what_was_measured():
    """Answers of this batch tell more than the bound of its tokens."""
    batch = Batch(
        id="b", notebook="n", name="x", version=1, created_at=0, rows=20,
        recipe=Recipe(max_tokens=1000), models=["openai:gpt-5-mini"], shape=Shape(kind="list"),
        plan_hash="",
    )  # fmt: skip
    ceiling = remaining.remaining_rows(batch, [job()], Mode.BATCH, PriceBook())
    from jupyter_llm_batch.core.result import Usage

    done = job(state=JobState.DONE, tally={"ok": 10}, usage=Usage(input=1000, output=500))
    measured = remaining.remaining_rows(batch, [done, job()], Mode.BATCH, PriceBook())
    assert (ceiling.rows, ceiling.measured, measured.measured) == (10, False, True)
    assert ceiling.cost == 2 * ceiling.cost / 2 > measured.cost > 0
    full = remaining.remaining_rows(batch, [done, job()], Mode.REALTIME, PriceBook())
    assert full.cost == 2 * measured.cost
    own = PriceBook(discounts={"openai": 0.5})
    assert remaining.remaining_rows(batch, [done, job()], Mode.BATCH, own).cost == measured.cost / 2


# -- a decision made later costs money too ---------------------------------------------------------


def promised(client):
    """Return what all batches under way may cost."""
    return client.store.spending.committed(0.0)[1]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("decide", ["finish", "set_deadline"])
def test_finishing_in_real_time_is_held_to_the_cap(client, sim, model, decide):
    """What was capped as a batch may cost twice as much in real time: refused, nothing changed."""
    sim.behave(seconds=1000)
    plan = client.preview(name="x", over=prompts(20), model=model, max_tokens=300)
    cap = float(plan.cost.ceiling) * 1.01
    handle = start(client, model, deadline=None, max_cost=cap)
    until(lambda: running(client, handle))
    with pytest.raises(UsageProblem, match="over --max-cost"):
        handle.finish() if decide == "finish" else handle.set_deadline(time.time() + 60)
    assert (handle.record.cut, handle.record.deadline) == (False, None)
    sim.advance(1000)
    handle.wait(60)
    assert {entry["mode"] for entry in sim.ledger()} == {"batch"}


def test_finishing_in_real_time_is_held_to_the_budget(make_client, sim):
    """The month's budget counts it before the first request goes out, and other batches see it."""
    sim.behave(seconds=1000)
    client = make_client()
    plan = client.preview(name="x", over=prompts(20), model=MODELS[0], max_tokens=300)
    as_batch = float(plan.cost.ceiling)
    client.settings = Settings(monthly_budget=as_batch * 1.5)
    handle = start(client, deadline=None)
    until(lambda: running(client, handle))
    with pytest.raises(UsageProblem, match="over the monthly budget"):
        handle.finish()
    assert not handle.record.cut
    client.settings = Settings(monthly_budget=as_batch * 2.5)
    handle.finish()
    assert promised(client) == pytest.approx(2 * as_batch, rel=0.05)
    with pytest.raises(UsageProblem, match="over the monthly budget"):
        client.submit(name="y", over=prompts(20), model=MODELS[0], max_tokens=300)
    cut(client, handle, sim)
    assert client.store.spending.committed(0.0)[0] <= as_batch * 2.5


def test_a_promise_already_made_is_not_made_twice(make_client, sim):
    """A batch with a deadline is promised at its full price: another deadline adds nothing."""
    sim.behave(seconds=1000)
    client = make_client()
    plan = client.preview(
        name="x", over=prompts(20), model=MODELS[0], max_tokens=300, deadline="6h"
    )
    client.settings = Settings(monthly_budget=float(plan.cost.ceiling) * 1.1)
    handle = start(client)
    until(lambda: running(client, handle))
    before = promised(client)
    handle.set_deadline(time.time() + 60)
    handle.finish()
    assert promised(client) == pytest.approx(before)


def test_another_deadline_keeps_the_bound(client, sim):
    """What real time may cost stays as the user said, until they say otherwise."""
    sim.behave(seconds=1000)
    handle = start(client, deadline_max_cost=0.5)
    handle.set_deadline(time.time() + 7200)
    assert handle.record.deadline_cost == 0.5
    handle.set_deadline(time.time() + 7200, 0.7)
    assert handle.record.deadline_cost == 0.7
    handle.set_deadline(None)
    assert handle.record.deadline_cost is None


def test_rows_that_have_come_back_without_an_answer_cost_too(make_client, clock, sim):
    """The allowed cost covers what an ended job left unanswered, and the question counts it."""
    client = make_client(clock=clock)
    sim.fault(action="freeze", method="GET", path="*/messages/batches/*", times=None)
    over = [f"late {i} [[sim:expire x1]]" + " word" * 400 for i in range(40)]
    handle = client.submit(
        name="x", over=[*over, "small"], route=[MODELS[0]] * 40 + [MODELS[1]],
        max_tokens=50, deadline="6h", deadline_max_cost=0.001,
    )  # fmt: skip
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.DONE)
    assert "after the deadline, 41 rows (at most $0.0" in handle.snapshot().question
    clock.ahead = 6 * 3600 + 1
    client.poller().wake()
    until(lambda: handle.snapshot().state == "attention")
    assert "more than the $0.00 that you allowed: finish 41 rows" in handle.snapshot().question
    assert not handle.record.cut
    sim.clear_faults()
    assert all(handle.wait(60).answers())
    assert {each["mode"] for each in sim.ledger()} == {"batch"}
