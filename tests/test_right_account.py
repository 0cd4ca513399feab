"""A batch belongs to the account it was sent with; under another one it waits."""

import time

import pytest
from support import mark

from jupyter_llm_batch.models import JobState
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


def until(condition):
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize(
    ("provider", "change"), OTHERS, ids=[f"{name}-{next(iter(env))}" for name, env in OTHERS]
)
def test_under_another_account_it_waits(make_client, sim, provider, change):
    """It is paused with a line that says why, asks nobody, and goes on under the old account."""
    sim.behave(seconds=30, anthropic_retry_after=0)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODELS[provider])
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    client.close()
    with Simulator(seconds=0) as elsewhere:
        change = {name: text.format(url=elsewhere.url) for name, text in change.items()}
        before = len(sim.requests())
        other = make_client(environ=sim.environ() | change, clock=lambda: time.time() + 7200)
        (paused,) = other.resume()
        again = other.submit(name="x", over=["a"], model=MODELS[provider])
        assert again.attached
        paused.cancel()
        paused.refresh()
        snapshot = paused.snapshot()
        assert snapshot.state == "paused"
        assert f"another {provider} account" in snapshot.words
        other.close()
        assert len(sim.requests()) == before
        assert elsewhere.requests() == []
    (job,) = make_client().store.jobs(handle.id)
    assert job.state is JobState.RUNNING
    assert job.absences == 0


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
