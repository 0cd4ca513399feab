"""The loop that drives all batches: one that cannot go on stops no other, and no wait is lost."""

from collections import Counter

import pytest
from elsewhere import created_at_anthropic
from support import Shifted, mark, until

from jupyter_llm_batch.core.errors import NotReady, StoreProblem, UsageProblem
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.engine.background import Background

MODEL = "openai:gpt-5-mini"
HAIKU = "anthropic:claude-haiku-4-5"


def ask(client, over, name="x", **options):
    options = {"model": MODEL} | options
    return client.submit("Q {{ item }}", name=name, over=over, **options)


def running(client, handle):
    """Wait until the last job of a batch is at its provider."""
    until(lambda: client.store.jobs(handle.id)[-1].state is JobState.RUNNING)


# -- one batch that cannot go on -------------------------------------------------------------------


def without_server(make_client, sim):
    """Return a client that no longer knows the server of batch ``x``, which is to retry there."""
    env = sim.environ()
    env["MINE_API_KEY"] = env["OPENAI_API_KEY"]
    settings = Settings(servers={"mine": env["OPENAI_BASE_URL"]})
    client = make_client(environ=env, settings=settings)
    sim.fault(action="freeze", method="GET", path="*/messages/batches*", times=None)
    handle = ask(client, ["a [[sim:expire x1]]", "b"], model=None, route=["mine:gpt-5-mini", HAIKU])
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.DONE)
    with client.store.write() as db:  # as a release left it that did not journal servers
        db.execute("DELETE FROM meta WHERE key = 'servers'")
    client.close()
    sim.clear_faults()
    return lambda **settings: make_client(environ=env, settings=Settings(**settings))


def test_a_batch_whose_server_is_gone_stops_no_other(make_client, sim):
    """It says what it lacks on its own line, waits for that, and goes on with it."""
    again = without_server(make_client, sim)
    client = again()
    other = ask(client, ["z"], name="other").wait(60)
    assert mark("Q z") in other.answers()[0]
    until(lambda: "mine" in client.get("x").snapshot().words)
    assert client.get("x").snapshot().state == "paused"
    client.close()
    client = again(servers={"mine": sim.environ()["OPENAI_BASE_URL"]})
    assert all(client.get("x").wait(60).answers())


def test_a_batch_whose_server_is_gone_can_be_cancelled(make_client, sim):
    """Then it ends with what it has."""
    client = without_server(make_client, sim)()
    until(lambda: client.get("x").snapshot().state == "paused")
    answers = client.get("x").cancel().wait(60).answers()
    assert answers[0] is None
    assert mark("Q b") in answers[1]


def test_a_batch_of_elsewhere_takes_no_deadline(client, sim):
    """Its prompts are not here to be asked in real time, and it goes on as it was."""
    sim.behave(seconds=1000)
    handle = client.adopt("anthropic:" + created_at_anthropic(sim), "found")
    with pytest.raises(UsageProblem, match="created elsewhere"):
        handle.set_deadline(client.store.clock() + 60)
    assert handle.record.deadline is None


def test_a_deadline_of_a_batch_of_elsewhere_stops_nothing(make_client, sim):
    """One that an earlier release has noted ends with what was done by then."""
    clock = Shifted()
    client = make_client(clock=clock)
    sim.behave(seconds=10000, stuck=True)
    handle = client.adopt("anthropic:" + created_at_anthropic(sim), "found")
    running(client, handle)
    client.store.decide(handle.id, deadline=clock() + 1)
    clock.ahead = 2
    client.poller().wake()
    until(lambda: any(each["path"].endswith("/cancel") for each in sim.requests()))
    sim.behave(seconds=0, stuck=False)
    sim.advance(800)
    assert ask(client, ["z"], name="other").wait(60).done
    assert handle.wait(60).done


# -- waits that end --------------------------------------------------------------------------------


def test_a_listener_that_fails_keeps_nobody_waiting(client):
    """A widget that went away is no reason not to tell that a batch is done."""

    def bad(snapshot):
        raise RuntimeError(snapshot.line)

    client.context.listen(bad)
    assert ask(client, ["a"]).wait(60).done


def test_a_journal_that_fails_after_the_end_keeps_nobody_waiting(client, monkeypatch):
    """The batch has ended: whoever waits for it learns that, whatever fails afterwards."""

    def full(batch_id):
        raise StoreProblem(f"the journal cannot be used now: no room for {batch_id}")

    monkeypatch.setattr(client.store.events, "claim_notice", full)
    assert ask(client, ["a"], notify="http://127.0.0.1:9/").wait(60).done


def test_a_batch_of_another_notebook_is_driven_for_its_answers(make_client, sim):
    """Rows that --reuse takes from an unfinished batch come, though its notebook is closed."""
    sim.behave(seconds=1000)
    one = make_client(notebook="other.ipynb")
    running(one, ask(one, ["a"]))
    one.close()
    client = make_client()
    handle = ask(client, ["a"], name="y", reuse="other.ipynb::x")
    until(lambda: handle.snapshot().words == "waiting for other.ipynb::x, which asks the same rows")
    sim.advance(2000)
    assert mark("Q a") in handle.wait(60).answers()[0]
    assert sim.summary()["rows"] == 1


def test_rows_behind_a_sample_wait_for_the_user(client):
    """A version that needs rows of a batch whose sample nobody has looked at says so."""
    first = ask(client, ["a", "b", "c"], sample=1)
    second = ask(client, ["a", "b", "c", "d"])
    with pytest.raises(NotReady, match=r"waits for you.*sample .%llm_batch submit x,"):
        second.wait(60)
    assert second.snapshot().state == "attention"
    first.send_rest()
    assert all(second.wait(60).answers())


def test_a_wait_in_a_second_kernel_ends_when_a_sample_is_there(make_client, sim):
    """Whoever drives the batch: nothing goes on before the user has looked at it."""
    client, second = make_client(), make_client()
    sim.fault(action="freeze", path="*/chat/completions", times=None)
    handle = ask(client, ["a", "b", "c"], sample=1)
    poller = second.poller()
    future = second.context.background.call(poller.finished(handle.id))
    until(lambda: handle.id in poller._waiters._events)
    sim.clear_faults()
    assert future.result(60) is None
    assert "waiting for you" in second.get("x").snapshot().words


# -- several kernels -------------------------------------------------------------------------------


@pytest.fixture
def other(make_client):
    """A client that is driven on a thread of its own, as in another kernel."""
    client = make_client()
    client.context.background = Background()
    yield client
    client.close()
    client.context.background.stop()


def late(client, monkeypatch, meanwhile):
    """Have `meanwhile` happen between a client's look at a batch and its taking the lease."""
    acquire = client.store.leases.acquire

    def acquire_late(*args):
        monkeypatch.setattr(client.store.leases, "acquire", acquire)
        meanwhile()
        return acquire(*args)

    monkeypatch.setattr(client.store.leases, "acquire", acquire_late)


def test_a_batch_that_ended_before_its_lease_was_free_is_not_ended_again(
    client, other, sim, monkeypatch
):
    """A kernel that watched finds it done, gives it back, and nobody is told twice."""
    sim.behave(seconds=1000)
    handle = ask(client, ["a"])
    running(client, handle)

    def end():
        sim.advance(2000)
        handle.wait(60)
        until(lambda: client.store.leases.driver(handle.id) is None)

    late(other, monkeypatch, end)
    other.resume()
    assert mark("Q a") in other.get("x").wait(60).answers()[0]
    until(lambda: other.store.leases.driver(handle.id) is None)
    events = [event["event"] for event in other.store.events.of_batch(handle.id)]
    assert events.count("finished") == 1


def test_a_retry_goes_on_from_the_round_that_another_kernel_had_made(
    client, other, sim, monkeypatch
):
    """What was read before the lease was ours may be a round old."""
    handle = ask(client, ["a [[sim:fail-400 x2]]", "b"]).wait(60)
    late(other, monkeypatch, lambda: (handle.retry(confirm=True), handle.wait(60)))
    again = other.get("x")
    assert again.retry(confirm=True) == 1
    assert all(again.wait(60).answers())
    assert again.record.round == 2
    assert max(Counter(entry["prompt_mark"] for entry in sim.ledger()).values()) == 1
