"""Payloads that are missing, cut short or changed: noticed, kept, mended or said in one line."""

import os
from types import SimpleNamespace

import pandas as pd
import pytest
from support import mark, until

from jupyter_llm_batch.core.errors import Damaged
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.core.result import Outcome

MODEL = "openai:gpt-5-mini"


def missing(path):
    path.unlink()


def cut_short(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


def changed(path):
    """Change a letter of an answer or a prompt, so that the line is whole as before."""
    data = path.read_bytes()
    at = data.rindex(b"content") + 12
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


HARMS = [missing, cut_short, changed]


# -- answers ---------------------------------------------------------------------------------------


@pytest.fixture
def done(client):
    """A batch with its answers, and the file that holds them."""
    handle = client.submit(name="x", over=["a", "b", "c"], model=MODEL).wait(60)
    return handle, client.store.folder_of(handle.id) / "r0-j1.output.jsonl"


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_answers_are_fetched_again_at_no_cost(done, client, sim, harm):
    """The provider keeps them for a while; what lay there is kept beside."""
    handle, path = done
    before = handle.answers()
    whole = path.read_bytes()
    harm(path)
    broken = path.read_bytes() if path.exists() else None
    assert handle.answers() == before
    assert path.read_bytes() == whole
    kept = [each.read_bytes() for each in path.parent.glob("*.damaged*")]
    assert kept == ([] if broken is None else [broken])
    assert len(sim.ledger()) == 3


@pytest.mark.parametrize("harm", HARMS)
def test_answers_that_are_gone_for_good_are_said_in_one_line(done, client, sim, harm):
    """The error names the file and what can be had; nothing is sent, nothing is overwritten."""
    handle, path = done
    harm(path)
    sim.reset()  # the provider keeps nothing any more
    with pytest.raises(Damaged, match="--partial") as said:
        handle.answers()
    assert path.name in str(said.value)
    assert "\n" not in str(said.value)
    found = handle.results(partial=True)
    assert {result.outcome for result in found} == {Outcome.MISSING}
    assert handle.answers(partial=True) == [None, None, None]
    assert sim.ledger() == []


def test_a_file_that_cannot_be_fetched_again_stays_where_it_is(done, make_client, sim):
    """Under another key nothing is asked for, and with the right one it is mended."""
    handle, path = done
    before = handle.answers()
    changed(path)
    broken = path.read_bytes()
    handle._context.close()
    other = make_client(environ=sim.environ() | {"OPENAI_API_KEY": "sim-anotherKey99"})
    with pytest.raises(Damaged, match="another openai account"):
        other.get("x").answers()
    assert path.read_bytes() == broken
    other.close()
    assert make_client().get("x").answers() == before


def test_what_came_in_another_order_is_good_for_ever(done, make_client, sim, monkeypatch):
    """It is known from then on, and read when the provider keeps nothing any more."""
    handle, path = done
    before = handle.answers()
    adapter = handle._context.adapter("openai")
    fetch = adapter.fetch

    async def reordered(remote_id, part, ref, sink):
        came = bytearray()
        await fetch(remote_id, part, ref, SimpleNamespace(write=came.extend))
        sink.write(b"".join(reversed(came.splitlines(keepends=True))))

    monkeypatch.setattr(adapter, "fetch", reordered)
    missing(path)
    assert handle.answers() == before
    sim.reset()
    assert handle.answers() == before
    handle._context.close()
    assert make_client().get("x").answers() == before
    assert not [*path.parent.glob("*.damaged*")]


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_answers_of_real_time_harm_no_others(client, sim, harm):
    """Nobody keeps them: their rows say so, the file stays, and the rest of the batch is read."""
    handle = client.submit(name="x", over=list("abcd"), model=MODEL, sample=1)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.DONE)
    handle.send_rest()
    handle.wait(60)
    path = client.store.folder_of(handle.id) / "r0-j1.output.jsonl"
    harm(path)
    with pytest.raises(Damaged, match="--partial"):
        handle.answers()
    outcomes = [result.outcome for result in handle.results(partial=True)]
    assert outcomes == [Outcome.MISSING, Outcome.OK, Outcome.OK, Outcome.OK]
    assert path.exists() == (harm is not missing)
    assert len(sim.ledger()) == 4


def test_inherited_answers_are_looked_after_too(done, client, sim):
    """A version that takes answers from an earlier one mends the earlier one's files."""
    _, path = done
    second = client.submit(name="x", over=["a", "b", "c", "d"], model=MODEL).wait(60)
    cut_short(path)
    for prompt, answer in zip("abcd", second.answers(), strict=True):
        assert mark(prompt) in answer
    assert len(sim.ledger()) == 4


def test_an_answer_without_a_checksum_is_missing_not_empty(done, client, sim):
    """Journals of the first release have no checksums: a lost line is noticed all the same."""
    handle, path = done
    job = client.store.jobs(handle.id)[0]
    held = client.store.leases.acquire(handle.id, client.poller().owner)
    client.store.note(held, job, sums={})
    client.store.leases.release(held)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    outcomes = [result.outcome for result in handle.results()]
    assert sorted(outcomes) == [Outcome.MISSING, Outcome.MISSING, Outcome.OK]


# -- requests --------------------------------------------------------------------------------------


@pytest.fixture
def unsent(make_client, sim):
    """A batch that is planned and was not sent, and its requests; its client is closed."""
    client = make_client(environ=sim.environ() | {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    handle = client.submit(name="x", over=["a", "b"], model=MODEL)
    until(lambda: client.store.jobs(handle.id)[0].failures)
    client.close()
    return client.store.folder_of(handle.id) / "r0-j1.jsonl"


@pytest.mark.parametrize("harm", [missing, cut_short])
def test_damaged_requests_are_not_sent(unsent, make_client, sim, harm):
    """The rows fail, unbilled, with the reason; the same cell then sends them, once."""
    harm(unsent)
    client = make_client()
    handle = client.get("x").wait(60)
    assert [result.outcome for result in handle.results()] == [Outcome.FAILED] * 2
    assert "r0-j1.jsonl" in handle.results()[0].error
    assert sim.ledger() == []
    again = client.submit(name="x", over=["a", "b"], model=MODEL).wait(60)
    assert again.name == "x#2"
    assert mark("b") in again.answers()[1]
    assert len(sim.ledger()) == 2


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_requests_are_not_asked_in_real_time(make_client, sim, harm):
    """Answers that are there are kept; the other rows fail, unbilled, until the cell runs again."""
    sim.fault(
        action="status", status=429, path="*/chat/completions", times=None, after=2,
        headers={"retry-after": "1"},
    )  # fmt: skip
    client = make_client()
    ask = {"name": "x", "over": list("abcdef"), "model": MODEL, "realtime": True, "retry": 0}
    handle = client.submit(**ask)
    until(lambda: sim.faults()[0]["met"] >= 2)
    client.close()
    harm(client.store.folder_of(handle.id) / "r0-j1.jsonl")
    sim.clear_faults()
    client = make_client()
    found = client.get("x").wait(60).results()
    assert [result.outcome for result in found].count(Outcome.OK) == 2 == len(sim.ledger())
    for result in found:
        assert result.outcome is Outcome.OK or "r0-j1.jsonl" in result.error
        assert result.billed == (result.outcome is Outcome.OK)
    again = client.submit(**ask).wait(60)
    assert again.name == "x#2"
    assert all(mark(prompt) in said for prompt, said in zip("abcdef", again.answers(), strict=True))
    assert sim.summary()["max_per_body"] == 1
    assert len(sim.ledger()) == 6


@pytest.mark.parametrize("harm", HARMS)
def test_a_retry_of_damaged_requests_leads_back_to_the_cell(client, sim, harm):
    """Only the rows without an answer are sent when the cell runs again."""
    ask = {"name": "x", "over": ["a", "b [[sim:fail-400 x1]]"], "model": MODEL, "retry": 0}
    handle = client.submit(**ask).wait(60)
    harm(client.store.folder_of(handle.id) / "r0-j1.jsonl")
    with pytest.raises(Damaged, match="run its cell again"):
        handle.retry(confirm=True)
    assert handle.done
    again = client.submit(**ask).wait(60)
    assert mark("a") in again.answers()[0]
    assert again.answers()[1]
    assert len(sim.ledger()) == 2


def test_an_automatic_retry_of_damaged_requests_ends(client, sim):
    """The rows keep their outcome, and other batches go on."""
    sim.behave(seconds=1000)
    handle = client.submit(name="x", over=["a [[sim:expire x1]]", "b"], model=MODEL)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    missing(client.store.folder_of(handle.id) / "r0-j1.jsonl")
    sim.behave(seconds=0)
    sim.advance(2000)
    assert [result.outcome for result in handle.wait(60).results()] == [
        Outcome.EXPIRED, Outcome.OK,
    ]  # fmt: skip
    assert client.submit(name="y", over=["c"], model=MODEL).wait(60).answers()


# -- the input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [missing, cut_short])
def test_a_damaged_copy_of_the_input_is_written_anew_by_its_cell(client, sim, harm, tmp_path):
    """Until then the answers can be exported; running the cell costs nothing."""
    frame = pd.DataFrame({"text": ["a", "b"]})
    ask = {"name": "x", "over": frame, "model": MODEL}
    handle = client.submit("{{ text }}", **ask).wait(60)
    harm(client.store.folder_of(handle.id) / "rows.arrow")
    with pytest.raises(Damaged, match="run its cell again") as said:
        handle.answers()
    assert "\n" not in str(said.value)
    assert mark("a") in handle.export(tmp_path / "out.jsonl").read_text()
    again = client.submit("{{ text }}", **ask)
    assert again.attached
    assert [*again.answers()["text"]] == ["a", "b"]
    assert len(sim.ledger()) == 2


HAIKU = "anthropic:claude-haiku-4-5"


@pytest.fixture
def half_sent(client, sim):
    """Batch ``x`` under way, of which a row is not sent yet."""
    sim.fault(action="freeze", method="GET", path="*/messages/batches*", times=None)
    sim.fault(action="status", status=503, method="POST", path="*/files", times=None)
    handle = client.submit(name="x", over=["a", "b"], route=[MODEL, HAIKU])
    until(lambda: client.store.jobs(handle.id)[0].failures)
    return handle


def lose_request(client, handle):
    """Damage the request that is not sent yet, and wait until that is noticed."""
    (client.store.folder_of(handle.id) / "r0-j1.jsonl").unlink()
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.FAILED)


def test_a_damaged_request_is_sent_by_its_cell_while_the_batch_runs(client, sim, half_sent):
    """Running the cell again sends that row, and takes the others from the batch under way."""
    lose_request(client, half_sent)
    again = client.submit(name="x", over=["a", "b"], route=[MODEL, HAIKU])
    assert again.notice.startswith("1 row is taken from earlier runs at no cost, 1 is new")
    sim.clear_faults()
    answers = again.wait(60).answers()
    assert [mark(p) in text for p, text in zip("ab", answers, strict=True)] == [True, True]
    assert sim.summary()["max_per_body"] == 1


def test_a_version_that_waits_for_a_damaged_request_is_replaced(client, sim, half_sent):
    """Nothing attaches to a batch whose row waited for a request that turned out damaged."""
    second = client.submit(name="x", over=["a", "b", "c"], route=[MODEL, HAIKU, HAIKU])
    lose_request(client, half_sent)
    sim.clear_faults()
    assert second.wait(60).answers()[0] is None
    third = client.submit(name="x", over=["a", "b", "c"], route=[MODEL, HAIKU, HAIKU]).wait(60)
    assert third.name == "x#3"
    assert all(mark(p) in text for p, text in zip("abc", third.answers(), strict=True))
    assert sim.summary()["max_per_body"] == 1
