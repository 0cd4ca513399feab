"""Looking for the job of a create whose answer was lost."""

import msgspec
import pytest
from support import FAST, Shifted, mark, until

from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.engine import lookup
from jupyter_llm_batch.providers.anthropic.adapter import Anthropic
from jupyter_llm_batch.providers.google.adapter import Google
from jupyter_llm_batch.providers.openai.adapter import OpenAI

#: A model of every provider, and where its jobs are created.
CREATES = {
    "openai:gpt-5-mini": "*/batches",
    "anthropic:claude-haiku-4-5": "*/batches",
    "google:gemini-2.5-flash": "*:batchGenerateContent",
}


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
@pytest.mark.parametrize("model", CREATES)
def test_a_wrong_clock_buys_nothing_twice(make_client, sim, model, ahead):
    """What was accepted is found, however old or young the listing makes it look."""
    clock = Shifted()
    clock.ahead = ahead
    client = make_client(clock=clock)
    sim.fault(action="accept_then_drop", method="POST", path=CREATES[model])
    client.submit(name="x", over=["a", "b"], model=model).wait(60)
    assert sim.summary()["max_per_body"] == 1


#: What no provider documents is not assumed.
UNDOCUMENTED = msgspec.structs.replace(FAST, settle=None)


@pytest.fixture
def undocumented(make_client, monkeypatch):
    """A client that gives listings little time, and knows that they may need more."""
    for adapter in (OpenAI, Anthropic, Google):
        limits = adapter.limits

        def hasty(self, endpoint, limits=limits):
            return msgspec.structs.replace(limits(self, endpoint), settle=0.2)

        monkeypatch.setattr(adapter, "limits", hasty)
    return make_client(policy=UNDOCUMENTED)


def the_job(client, handle):
    return client.store.jobs(handle.id)[-1]


def is_asked(client, handle):
    shot = handle.snapshot()
    return shot.state == "attention" and "resolve" in shot.words


@pytest.mark.parametrize("model", CREATES)
def test_silence_of_a_listing_that_may_lag_buys_nothing(undocumented, sim, model):
    """A create that a listing does not show is not repeated: it is asked about, and found later."""
    client = undocumented
    sim.behave(listing_delay=300, seconds=10_000)
    sim.fault(action="accept_then_drop", method="POST", path=CREATES[model])
    handle = client.submit(name="x", over=["a", "b"], model=model)
    until(lambda: is_asked(client, handle))
    assert "a listing may lag" in handle.snapshot().words
    assert "when such a job ends" not in lookup.waiting(handle.lost())
    sim.advance(400)
    if model.startswith("anthropic"):
        until(lambda: "msgbatch_" in handle.snapshot().words)
    else:
        until(lambda: the_job(client, handle).state is JobState.RUNNING)
    sim.advance(10_000)
    handle.wait(60)
    assert sim.summary()["max_per_body"] == 1


@pytest.mark.parametrize("model", CREATES)
def test_a_listing_that_shows_a_later_create_proves_that_an_earlier_one_was_never_made(
    undocumented, sim, model
):
    """What is surely absent is sent again by itself."""
    client = undocumented
    sim.behave(seconds=10_000)
    sim.fault(action="drop", method="POST", path=CREATES[model])
    handle = client.submit(name="x", over=["a", "b"], model=model)
    until(lambda: is_asked(client, handle))
    later = client.submit(name="later", over=["c"], model=model)
    until(lambda: the_job(client, handle).state is JobState.RUNNING)
    sim.advance(10_000)
    assert mark("a") in handle.wait(60).answers()[0]
    later.wait(60)
    assert sim.summary()["max_per_body"] == 1


def test_the_user_may_say_that_nothing_was_made(undocumented, sim):
    """Then it is sent."""
    sim.fault(action="drop", method="POST", path="*/batches")
    handle = undocumented.submit(name="x", over=["a"], model="openai:gpt-5-mini")
    until(lambda: is_asked(undocumented, handle))
    handle.resolve(confirm=True)
    assert mark("a") in handle.wait(60).answers()[0]


def test_a_create_that_is_lost_each_time_is_not_repeated_without_end(client, sim):
    """After a few times the user is asked."""
    sim.fault(action="drop", method="POST", path="*/batches", times=None)
    handle = client.submit(name="x", over=["a"], model="openai:gpt-5-mini")
    until(lambda: is_asked(client, handle))
    assert the_job(client, handle).attempts == 1 + lookup.RESENDS
    assert "lost 3 submissions" in handle.snapshot().words
