"""Processes that freeze with something in hand, and what those say who wait for them."""

import logging
import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from support import mark, until

from jupyter_llm_batch.core import policy
from jupyter_llm_batch.core.errors import Incomplete, LeaseLost, StoreProblem
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.engine import sending
from jupyter_llm_batch.storage import process
from jupyter_llm_batch.storage.store import Store

OPENAI = "openai:gpt-5-mini"
IN_A_TRANSACTION = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/journal.sqlite", isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("has it", flush=True)
sys.stdin.read()
"""
IN_THE_OPENING = """
import sys
from pathlib import Path
from jupyter_llm_batch.storage import opening as journal, process as lease
with journal.locked(Path(sys.argv[1]) / "journal.lock"):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def freeze(tmp_path, monkeypatch):
    """Return a function that freezes a process with a lock of the journal; waits are short."""
    monkeypatch.setattr(policy, "JOURNAL_WAIT", 0.3)
    frozen = []

    def do(script):
        folder = tmp_path / "data" / "simulated"
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        frozen.append(child)
        assert child.stdout.readline() == "has it\n"
        child.send_signal(signal.SIGSTOP)
        return child

    yield do
    for child in frozen:
        wake(child)


def wake(child):
    if child.poll() is None:
        child.send_signal(signal.SIGCONT)
        child.communicate("")


pytestmark = pytest.mark.skipif(os.name == "nt", reason="freezes with signals")


@pytest.mark.parametrize("script", [IN_A_TRANSACTION, IN_THE_OPENING])
def test_a_journal_that_a_frozen_process_has_is_one_clear_line(make_client, freeze, script):
    """A starting kernel waits, then says what to do; after the wake it starts."""
    make_client().close()
    child = freeze(script)
    with pytest.raises(StoreProblem, match=r"in another process's hands for 0\.3 s") as said:
        make_client()
    assert "\n" not in str(said.value)
    wake(child)
    assert make_client().batches() == []


def test_a_cell_that_a_frozen_process_keeps_out_sends_nothing(make_client, freeze, sim):
    """The cell says so; run again after the wake it sends its rows, once."""
    client = make_client()
    child = freeze(IN_A_TRANSACTION)
    with pytest.raises(StoreProblem, match="wake or end that one"):
        client.submit(name="x", over=["a"], model=OPENAI)
    assert sim.ledger() == []
    wake(child)
    handle = client.submit(name="x", over=["a"], model=OPENAI).wait(60)
    assert mark("a") in handle.answers()[0]
    assert len(sim.ledger()) == 1


def test_a_batch_under_way_outlives_a_frozen_process(make_client, freeze, sim, caplog):
    """What cannot be written down for a while is said once, and nothing of it is lost."""
    sim.behave(seconds=30)
    client = make_client()
    handle = client.submit(name="x", over=["a", "b"], model=OPENAI)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    child = freeze(IN_A_TRANSACTION)
    sim.advance(60)
    with caplog.at_level(logging.DEBUG, "jupyter_llm_batch"):
        until(lambda: "in another process's hands" in caplog.text)
    wake(child)
    handle.wait(60)
    assert all(mark(p) in a for p, a in zip("ab", handle.answers(), strict=True))
    assert len(sim.ledger()) == 2


def taken_over(client):
    """Return a lease that another one has superseded, with its batch and job as of then."""
    handle = client.submit(name="x", over=["a", "b"], model=OPENAI).wait(60)
    old = client.store.leases.acquire(handle.id, client.poller().owner)
    client.store.leases.acquire(handle.id, client.poller().owner)
    (job,) = client.store.jobs(handle.id)
    job = msgspec.structs.replace(job, state=JobState.COLLECTING)
    return client.store.batch(handle.id), job, old


def test_a_woken_owner_moves_no_answers_away(client):
    """A download that it finds short may be another process's whole one by now."""
    _, job, old = taken_over(client)
    ends = client.poller()._polling._driver._collector
    with pytest.raises(LeaseLost):
        ends._fetch_again(old, job, Incomplete("short"))
    assert ends._end.part(job, "output").exists()
    assert client.get("x").answers()


def test_a_woken_owner_puts_no_answers_in_place(client):
    """A download that ends after another process took over is thrown away."""
    batch, job, old = taken_over(client)
    ends, adapter = client.poller()._polling._driver._collector, client.adapter("openai")
    ends._end.part(job, "output").unlink()
    with pytest.raises(LeaseLost):
        client.context.background.call(ends.collect(old, batch, job, adapter)).result()
    assert [path.name for path in ends._end.part(job, "output").parent.glob("*output*")] == []


def test_a_lock_that_is_free_costs_no_wait(tmp_path, monkeypatch):
    """Patience is for others; nobody waits for a lock that nobody has."""
    monkeypatch.setattr(policy, "JOURNAL_WAIT", 0.0)
    Store(tmp_path / "data", time.time).close()


def test_a_create_that_ended_elsewhere_is_waited_for_no_longer(client, sim):
    """Who may send a job yet is waited for, until that process says that its call is over."""
    sim.fault(action="drop", method="POST", path="*/batches", times=1)
    sim.fault(action="status", status=503, method="GET", path="*/batches*", times=None)
    handle = client.submit(name="x", over=["a"], model=OPENAI)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.UNKNOWN)
    until(lambda: client.store.jobs(handle.id)[0].failures)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        owner = process._of(other.pid)
        poller = client.poller()

        def note():
            (job,) = client.store.jobs(handle.id)
            if held := poller._leasing.leases.get(handle.id):  # taken anew now and then
                client.store.note(held, job, sender=process.write(owner))
            return job

        until(lambda: note().sender)
        job = client.store.jobs(handle.id)[0]
        until(lambda: client.store.jobs(handle.id)[0].failures > job.failures + 1)
        assert client.store.jobs(handle.id)[0].sender  # no step that began before has taken it off
        sim.clear_faults()
        until(lambda: "frozen or hangs" in handle.snapshot().words)
        client.store.events.log(handle.id, sending.CALL_ENDED, f"{job.id}-a{job.attempts}")
        assert mark("a") in handle.wait(60).answers()[0]
        other.communicate(b"")


def test_a_woken_owner_says_that_its_create_is_over(client, sim, monkeypatch):
    """A create that another process waits for is refused: who drives the job now learns of it."""
    sim.fault(action="status", status=429, method="POST", path="*/batches", times=1)
    adapter = client.adapter("openai")
    create = adapter.create

    async def late(job, *args):
        client.store.leases.acquire(job.batch_id, client.poller().owner)
        monkeypatch.undo()
        return await create(job, *args)

    monkeypatch.setattr(adapter, "create", late)
    handle = client.submit(name="x", over=["a"], model=OPENAI).wait(60)
    said = [each["event"] for each in client.store.events.of_batch(handle.id)]
    assert sending.CALL_ENDED in said
    assert len(sim.ledger()) == 1
