"""A batch belongs to the account it was sent with; under another one it waits."""

import time

import pytest
from support import ANY, mark, until

from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.simulator import Simulator

MODELS = {
    "openai": "openai:gpt-5-mini",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-3.8-flash",
}
#: Another key, another organisation, another server: each of them sees none of our batches.
OTHERS = [
    ("openai", {"OPENAI_API_KEY": "sim-another"}),
    ("openai", {"OPENAI_ORG_ID": "org-another"}),
    ("openai", {"OPENAI_PROJECT_ID": "proj-another"}),
    ("openai", {"OPENAI_BASE_URL": "{url}/openai/v1"}),
    ("anthropic", {"ANTHROPIC_API_KEY": "sim-another"}),
    ("anthropic", {"ANTHROPIC_BASE_URL": "{url}/anthropic"}),
    ("google", {"GEMINI_API_KEY": "sim-another"}),
    ("google", {"GOOGLE_GEMINI_BASE_URL": "{url}/google"}),
]


@pytest.mark.parametrize(
    ("provider", "change"), OTHERS, ids=[f"{name}-{next(iter(env))}" for name, env in OTHERS]
)
def test_under_another_account_it_waits(make_client, sim, provider, change):
    """It is paused with a line that says why, and goes on under the old account.

    Only another key is asked, once, whether it is of the account after all.
    """
    sim.behave(seconds=30, anthropic_retry_after=0)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODELS[provider])
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    (job,) = client.store.jobs(handle.id)
    client.close()
    with Simulator(keys=ANY, seconds=0) as elsewhere:
        change = {name: text.format(url=elsewhere.url) for name, text in change.items()}
        asked = [name.endswith("_API_KEY") for name in change].count(True)
        before = len(sim.requests())
        other = make_client(environ=sim.environ() | change, clock=lambda: time.time() + 7200)
        (paused,) = other.resume()
        again = other.submit(name="x", over=["a"], model=MODELS[provider])
        assert again.attached
        until(lambda: len(sim.requests()) == before + asked)
        paused.cancel()
        paused.refresh()
        snapshot = paused.snapshot()
        assert snapshot.state == "paused"
        assert f"another {provider} account" in snapshot.words
        other.close()
        seen = sim.requests()[before:]
        assert [each["method"] for each in seen] == ["GET"] * asked
        assert all(each["path"].endswith(job.remote_id) for each in seen)
        assert elsewhere.requests() == []
    (job,) = make_client().store.jobs(handle.id)
    assert job.state is JobState.RUNNING
    assert job.absences == 0


@pytest.mark.parametrize("provider", MODELS)
def test_a_key_that_was_replaced_goes_on(make_client, sim, provider):
    """It is shown the job, so it is of the same account; nothing is sent again."""
    keys = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
    sim.behave(seconds=1000, anthropic_retry_after=0)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODELS[provider])
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    client.close()
    sim.advance(2000)
    replaced = {name: sim.environ()[name] + ".2" for name in keys}
    client = make_client(environ=sim.environ() | replaced)
    assert mark("a") in client.get("x").wait(120).answers()[0]
    assert len(sim.ledger()) == 1
    client.close()
    old = make_client().store.jobs(handle.id)[0].account
    assert old == client.adapter(provider).account(make_client().store.salt())


def test_a_lost_create_is_looked_for_with_the_key_that_took_the_old_ones_place(make_client, sim):
    """Another job of the account shows whose the new key is."""
    client = make_client()
    client.submit(name="w", over=["b"], model=MODELS["openai"]).wait(120)
    sim.fault(method="POST", path="*/batches", action="accept_then_drop")
    sim.fault(method="GET", path="*/batches", action="status", status=503, times=None)
    handle = client.submit(name="x", over=["a"], model=MODELS["openai"])
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.UNKNOWN)
    client.close()
    sim.clear_faults()
    key = sim.environ()["OPENAI_API_KEY"] + ".2"
    client = make_client(environ=sim.environ() | {"OPENAI_API_KEY": key})
    assert mark("a") in client.get("x").wait(120).answers()[0]
    assert len(sim.ledger()) == 2


def test_a_question_that_got_no_answer_is_asked_again(make_client, sim):
    """A server in trouble has neither said yes nor no."""
    sim.behave(seconds=1000)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODELS["openai"])
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    client.close()
    sim.advance(2000)
    sim.fault(method="GET", path="*/batches/*", action="status", status=503, times=2)
    key = sim.environ()["OPENAI_API_KEY"] + ".2"
    client = make_client(environ=sim.environ() | {"OPENAI_API_KEY": key})
    assert mark("a") in client.get("x").wait(120).answers()[0]


def refused_in_real_time(make_client, sim, prompts):
    """Submit in real time with a key that is refused at once, and close the client."""
    client = make_client()
    sim.fault(action="status", status=401, path="*/chat/completions", times=None)
    handle = client.submit(name="x", over=prompts, model=MODELS["openai"], realtime=True)
    until(lambda: client.store.jobs(handle.id)[0].failures)
    client.close()
    sim.clear_faults()


def test_a_wrong_key_in_real_time_is_replaced_by_the_right_one(make_client, sim):
    """What the wrong one could not do belongs to no account."""
    refused_in_real_time(make_client, sim, ["a", "b"])
    client = make_client(environ=sim.environ() | {"OPENAI_API_KEY": "sim-another"})
    assert mark("b") in client.get("x").wait(120).answers()[1]
    assert len(sim.ledger()) == 2


def test_what_waits_for_a_key_in_real_time_can_be_cancelled(make_client, sim):
    """That asks nobody: the batch ends, and can be forgotten."""
    client = make_client()
    sim.fault(action="status", status=401, path="*/chat/completions", times=None, after=1)
    handle = client.submit(name="x", over=["a", "b"], model=MODELS["openai"], realtime=True)
    until(lambda: client.store.jobs(handle.id)[0].failures)
    client.close()
    before = len(sim.requests())
    for environ in ({"OPENAI_API_KEY": "sim-another"}, {"OPENAI_API_KEY": ""}):
        client = make_client(environ=sim.environ() | environ)
        assert client.get("x").snapshot().state == "paused"
        client.close()
    client = make_client(environ=sim.environ() | {"OPENAI_API_KEY": "sim-another"})
    handle = client.get("x").cancel().wait(120)
    assert len(sim.requests()) == before
    client.forget(handle, confirm=True)


def test_a_lost_create_is_looked_for_under_its_own_account_only(make_client, sim):
    """Under another key a listing would show nothing, and that would prove nothing."""
    sim.fault(method="POST", path="*/batches", action="accept_then_drop")
    sim.behave(listing_delay=3600)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODELS["openai"])
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.UNKNOWN)
    client.close()
    other = make_client(environ=sim.environ() | {"OPENAI_API_KEY": "sim-another"})
    (paused,) = other.resume()
    assert paused.snapshot().state == "paused"
    other.close()
    sim.behave(listing_delay=0)
    (back,) = make_client().resume()
    assert mark("a") in back.wait(120).answers()[0]
    assert len(sim.ledger()) == 1
