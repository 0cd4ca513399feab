"""Second batches of a job: pointed out, and cancelled where that costs nothing."""

import openai
import pytest
from support import until

from jupyter_llm_batch import duplicates
from jupyter_llm_batch.models import JobState

MODEL = "openai:gpt-5-mini"


def the_job(client, handle):
    return client.store.jobs(handle.id)[0]


def running(client, name):
    handle = client.submit(name=name, over=["a", "b"], model=MODEL)
    until(lambda: the_job(client, handle).state is JobState.RUNNING)
    return handle


def repeat(sim, client, handle):
    """Create a batch as a gateway does that repeats our create."""
    environ, job = sim.environ(), the_job(client, handle)
    with openai.OpenAI(
        api_key=environ["OPENAI_API_KEY"], base_url=environ["OPENAI_BASE_URL"]
    ) as gateway:
        ours = gateway.batches.retrieve(job.remote_id)
        return gateway.batches.create(
            input_file_id=ours.input_file_id, endpoint=ours.endpoint, completion_window="24h",
            metadata=ours.metadata,
        ).id  # fmt: skip


def cancels(sim):
    paths = (each["path"] for each in sim.requests() if each["path"].endswith("/cancel"))
    return [path.split("/")[-2] for path in paths]


@pytest.mark.parametrize("alone", [True, False])
def test_a_second_batch_is_pointed_out_and_can_be_cancelled(shell, sim, monkeypatch, alone):
    """After a slow create it is looked for, and it is seen in a listing that is read anyway."""
    client = shell.book.client
    sim.behave(seconds=10_000)
    if alone:
        monkeypatch.setattr(duplicates, "SLOW", -1.0)
    else:
        running(client, "other")
    handle = running(client, "x")
    second = repeat(sim, client, handle)
    until(lambda: second in handle.snapshot().notice)
    assert "you pay for both" in handle.snapshot().notice
    assert cancels(sim) == []
    shell.run_line_magic("llm_batch", "cancel x --duplicates")
    until(lambda: f"({second}) was cancelled" in handle.snapshot().notice)
    assert cancels(sim) == [second]
    assert the_job(client, handle).state is JobState.RUNNING


def test_of_two_that_we_sent_one_is_cancelled_before_it_runs(client, sim):
    """A listing that lagged longer than was said shows the first one late."""
    sim.behave(stuck=True, seconds=10_000, listing_delay=300)
    sim.fault(action="accept_then_drop", method="POST", path="*/batches")
    handle = running(client, "x")
    ours = the_job(client, handle).remote_id
    assert cancels(sim) == []
    sim.advance(400)
    until(lambda: "was cancelled" in handle.snapshot().notice)
    assert len(cancels(sim)) == 1
    assert cancels(sim) != [ours]
    assert the_job(client, handle).remote_id == ours


def test_a_batch_refused_for_lack_of_room_is_no_second_one(client, sim, monkeypatch):
    """It costs nothing, and was sent again for that reason."""
    monkeypatch.setattr(duplicates, "SLOW", -1.0)
    sim.behave(next_outcome="failed:token_limit_exceeded", seconds=1)
    handle = client.submit(name="x", over=["a"], model=MODEL)
    until(lambda: the_job(client, handle).attempts == 2)
    sim.advance(10)
    assert handle.wait(60).snapshot().notice == ""
