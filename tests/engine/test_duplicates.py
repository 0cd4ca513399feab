"""Second batches of a job: pointed out, and cancelled where that costs nothing."""

import msgspec
import openai
import pytest
from support import FAST, until

from jupyter_llm_batch.core.errors import KeyRefused
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.engine import duplicates, lookup
from jupyter_llm_batch.providers.openai.objects import LABEL
from jupyter_llm_batch.storage import process

MODEL = "openai:gpt-5-mini"

#: Running jobs are asked about only where a test wants it.
RARELY = msgspec.structs.replace(FAST, poll=3600.0, poll_longest=3600.0)


def the_job(client, handle):
    return client.store.jobs(handle.id)[0]


def running(client, name):
    handle = client.submit(name=name, over=["a", "b"], model=MODEL)
    until(lambda: the_job(client, handle).state is JobState.RUNNING)
    return handle


def repeat(sim, client, handle, **metadata):
    """Create a batch as a gateway does that repeats our create, or as another attempt did."""
    environ, job = sim.environ(), the_job(client, handle)
    with openai.OpenAI(
        api_key=environ["OPENAI_API_KEY"], base_url=environ["OPENAI_BASE_URL"]
    ) as gateway:
        ours = gateway.batches.retrieve(job.remote_id)
        return gateway.batches.create(
            input_file_id=ours.input_file_id, endpoint=ours.endpoint, completion_window="24h",
            metadata=metadata or ours.metadata,
        ).id  # fmt: skip


def cancels(sim):
    paths = (each["path"] for each in sim.requests() if each["path"].endswith("/cancel"))
    return [path.split("/")[-2] for path in paths]


@pytest.mark.parametrize("alone", [True, False])
def test_a_second_batch_is_pointed_out_and_can_be_cancelled(shell, sim, monkeypatch, alone):
    """After a slow create it is looked for, and it is seen in a listing that is read anyway."""
    client = shell.controller.client
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


def test_cancelling_a_second_batch_keeps_the_lease_alive(make_client, sim, monkeypatch):
    """Its heartbeat goes on: no other host takes the batch for one that nobody drives."""
    sim.behave(seconds=10_000)
    monkeypatch.setattr(duplicates, "SLOW", -1.0)
    monkeypatch.setattr(process, "BEAT", 0.0)
    client = make_client(policy=msgspec.structs.replace(RARELY, sleep=0.05))
    handle = running(client, "x")
    second = repeat(sim, client, handle)
    handle.refresh()
    until(lambda: second in handle.snapshot().notice)
    assert handle.cancel_duplicates() == [second]

    def beat():
        return client.store.rows("SELECT lease_beat FROM batch WHERE id = ?", handle.id)[0][0]

    before = beat()
    until(lambda: beat() > before)


def test_a_second_batch_whose_cancel_was_refused_for_the_key_still_costs(client, sim, monkeypatch):
    """It is under way, and the notice goes on to say so."""
    sim.behave(seconds=10_000)
    monkeypatch.setattr(duplicates, "SLOW", -1.0)
    handle = running(client, "x")
    second = repeat(sim, client, handle)
    until(lambda: second in handle.snapshot().notice)
    sim.fault(action="status", status=401, path=f"*{second}/cancel", times=None)
    with pytest.raises(KeyRefused):
        handle.cancel_duplicates()
    assert [(each.remote_id, each.cancelled) for each in the_job(client, handle).duplicates] == [
        (second, False)
    ]


def test_of_two_that_have_begun_none_is_cancelled_by_itself(make_client, sim, monkeypatch):
    """What the journal says of ours is as old as the last look: it may have begun since."""
    monkeypatch.setattr(duplicates, "SLOW", -1.0)
    sim.behave(seconds=10_000)
    client = make_client(policy=RARELY)
    handle = running(client, "x")
    job = the_job(client, handle)
    assert job.remote_state == "validating"
    label = lookup.label(msgspec.structs.replace(job, attempts=0))
    second = repeat(sim, client, handle, **{LABEL: label})
    sim.advance(2000)
    handle.refresh()
    until(lambda: second in handle.snapshot().notice)
    until(lambda: the_job(client, handle).remote_state == "in_progress")
    assert cancels(sim) == []
    assert the_job(client, handle).remote_id == job.remote_id


def test_the_earlier_of_two_that_has_begun_takes_the_place_of_ours(client, sim):
    """A listing shows it and not yet ours, which is cancelled before it runs; that lasts."""
    sim.behave(seconds=3000, listing_delay=300)
    running(client, "other")  # a listing is asked for two
    sim.fault(action="accept_then_drop", method="POST", path="*/batches")
    sim.fault(action="status", status=429, method="POST", path="*/batches", times=None)
    handle = client.submit(name="x", over=["a", "b"], model=MODEL)
    until(lambda: the_job(client, handle).attempts > 1)
    sim.advance(200)
    sim.clear_faults()
    until(lambda: the_job(client, handle).state is JobState.RUNNING)
    sim.advance(101)
    until(lambda: the_job(client, handle).duplicates)
    job = the_job(client, handle)
    until(lambda: cancels(sim))
    assert cancels(sim) == [each.remote_id for each in job.duplicates]
    looks = len(sim.requests())
    until(lambda: len(sim.requests()) > looks + 4)
    after = the_job(client, handle)
    assert (after.remote_id, after.state) == (job.remote_id, JobState.RUNNING)
    assert [each.cancelled for each in after.duplicates] == [True]
