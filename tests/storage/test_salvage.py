"""A journal that was damaged, or is an older copy: what it lost is not bought again."""

import shutil
import sqlite3

import pytest
from support import mark, until

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import JobState

MODEL = "openai:gpt-5-mini"
#: A model of every provider, and where its jobs are created.
CREATES = {
    MODEL: "*/batches",
    "anthropic:claude-haiku-4-5": "*/batches",
    "google:gemini-2.5-flash": "*:batchGenerateContent",
}


def break_journal(path):
    """Spoil an index, so that the journal is set aside and every row of it can be read."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'spend_at'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


def copy_of(path, place):
    """Copy a journal that is in use, as a backup would."""
    source, target = sqlite3.connect(path), sqlite3.connect(place)
    source.backup(target)
    source.close()
    target.execute("UPDATE batch SET lease_owner = NULL")
    target.commit()
    target.close()
    return place


def put_back(copy, path):
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    shutil.copy(copy, path)


def drop_version(path, version):
    db = sqlite3.connect(path)
    batch_id = db.execute("SELECT id FROM batch WHERE version = ?", [version]).fetchone()[0]
    db.execute("UPDATE pack SET data = x'00' WHERE batch_id = ? AND kind = 'hashes'", [batch_id])
    db.commit()
    db.close()


def test_a_batch_that_asked_equal_prompts_once_is_recovered(make_client, sim):
    """Rows that repeat another one's prompt have no job of their own, and nothing is missing."""
    client = make_client()
    handle = client.submit(name="x", over=["a", "a", "b"], model=MODEL, dedupe=True).wait(60)
    before = handle.answers()
    client.close()
    break_journal(client.store.path)
    client = make_client()
    assert client.store.loss.recovered == 1
    assert client.get("x").answers() == before


def test_a_lost_version_is_not_bought_again_unasked(make_client, sim):
    """An earlier version is still known; rows that only the lost one paid for are asked about."""
    client = make_client()
    client.submit(name="x", over=["a"], model=MODEL).wait(60)
    client.submit(name="x", over=["a", "b"], model=MODEL).wait(60)
    client.close()
    drop_version(client.store.path, 2)
    break_journal(client.store.path)
    client = make_client()
    folders = sorted(client.store.folder.glob("batches/*"))
    with pytest.raises(UsageProblem, match=r"1 row that is new.*doctor --settle"):
        client.submit(name="x", over=["a", "b"], model=MODEL)
    assert sorted(client.store.folder.glob("batches/*")) == folders
    assert client.submit(name="x", over=["a"], model=MODEL).attached
    assert len(sim.ledger()) == 2
    client.store.settle_loss()
    client.submit(name="x", over=["a", "b"], model=MODEL).wait(60)
    assert len(sim.ledger()) == 3


def test_what_the_user_sent_after_a_loss_is_not_asked_about_again(make_client, sim):
    """--resubmit was the answer for that name."""
    client = make_client()
    client.submit(name="x", over=["a"], model=MODEL).wait(60)
    client.close()
    client.store.path.unlink()
    client = make_client()
    client.submit(name="x", over=["a"], model=MODEL, resubmit=True).wait(60)
    client.submit(name="x", over=["a", "b"], model=MODEL).wait(60)
    assert len(sim.ledger()) == 3


def stale(make_client, sim, tmp_path, model, *, attempts):
    """Return the path of a journal's copy from before its one job was accepted."""
    client = make_client()
    if attempts:
        sim.fault(action="status", status=429, method="POST", path=CREATES[model], times=1,
                  headers={"retry-after": "2"})  # fmt: skip
    else:
        sim.fault(action="status", status=401, method="GET", path="*/models/*", times=None)
        sim.fault(action="status", status=429, method="POST", path="*/files", times=1,
                  headers={"retry-after": "2"})  # fmt: skip
    handle = client.submit(name="x", over=["a", "b"], model=model)
    until(lambda: client.store.jobs(handle.id)[0].failures)
    (job,) = client.store.jobs(handle.id)
    assert (job.state, job.attempts) == (JobState.PLANNED, attempts)
    copy = copy_of(client.store.path, tmp_path / "copy.sqlite")
    handle.wait(60)
    client.close()
    return copy


@pytest.mark.parametrize("model", CREATES)
@pytest.mark.parametrize("damaged", [True, False])
def test_attempts_that_the_journal_has_lost_count(make_client, sim, tmp_path, model, damaged):
    """It stands at the first one, which was refused; the second was accepted, and is found."""
    copy = stale(make_client, sim, tmp_path, model, attempts=1)
    path = tmp_path / "data" / "simulated" / "journal.sqlite"
    put_back(copy, path)
    if damaged:
        break_journal(path)
    client = make_client()
    assert mark("b") in client.get("x").wait(60).answers()[1]
    assert len(sim.ledger()) == 2


def test_an_older_copy_knows_of_no_attempt_and_sends_nothing(make_client, sim, tmp_path):
    """What lies beside the journal tells that the job was sent."""
    copy = stale(make_client, sim, tmp_path, MODEL, attempts=0)
    put_back(copy, tmp_path / "data" / "simulated" / "journal.sqlite")
    client = make_client()
    assert mark("b") in client.get("x").wait(60).answers()[1]
    assert len(sim.ledger()) == 2


def test_a_round_that_an_older_copy_does_not_know_is_found(make_client, sim, tmp_path):
    """It is planned once more, and then looked for instead of sent."""
    client = make_client()
    handle = client.submit(name="x", over=["a [[sim:missing x1]]", "b"], model=MODEL).wait(60)
    copy = copy_of(client.store.path, tmp_path / "copy.sqlite")
    assert handle.retry(confirm=True) == 1
    handle.wait(60)
    client.close()
    put_back(copy, client.store.path)
    again = make_client().get("x")
    assert again.retry(confirm=True) == 1
    assert mark("a [[sim:missing x1]]") in again.wait(60).answers()[0]
    assert len(sim.ledger()) == 3


def test_a_batch_that_an_older_copy_does_not_know_is_asked_about(make_client, sim, tmp_path):
    """It was sent, as its folder tells; a loss that is settled, or a batch forgotten, is none."""
    client = make_client()
    client.submit(name="x", over=["a"], model=MODEL).wait(60)
    copy = copy_of(client.store.path, tmp_path / "copy.sqlite")
    client.submit(name="x", over=["a", "b"], model=MODEL).wait(60)
    client.close()
    put_back(copy, client.store.path)
    client = make_client()
    assert "older than what lies beside it" in client.store.loss.words
    for name in ("x", "y"):
        with pytest.raises(UsageProblem, match="doctor"):
            client.submit(name=name, over=["a", "b"], model=MODEL)
    client.store.settle_loss()
    client.close()
    client = make_client()
    assert client.store.losses() is None
    client.forget(client.get("x"), confirm=True)
    client.close()
    assert make_client().store.losses() is None
    assert len(sim.ledger()) == 2


def test_what_was_never_sent_is_no_loss(make_client, sim):
    """A folder that a killed cell left behind was not paid for."""
    client = make_client()
    client.submit(name="x", over=["a"], model=MODEL).wait(60)
    client.close()
    folder = client.store.folder_of("left")
    folder.mkdir()
    (folder / "r0-j1.jsonl").write_text("{}\n")
    assert make_client().store.losses() is None
