"""The journal: fenced, private, whole."""

import os
import sqlite3
import stat
import subprocess
import sys
import time

import msgspec
import pytest

from jupyter_llm_batch.core.batch import Batch
from jupyter_llm_batch.core.errors import IllegalEvent, LeaseLost, StoreProblem
from jupyter_llm_batch.core.ids import Ranges
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.lifecycle import Event
from jupyter_llm_batch.core.request import Recipe, Shape
from jupyter_llm_batch.storage import files, process, sent_marks
from jupyter_llm_batch.storage.store import Store


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = Store(tmp_path / "data", clock)
    yield store
    store.close()


def a_batch(**more):
    fields = {
        "id": "abc", "notebook": "nb", "name": "x", "version": 1, "created_at": 1.0, "rows": 3,
        "recipe": Recipe(), "models": ["openai:m"], "shape": Shape(kind="list"), "plan_hash": "h",
    }  # fmt: skip
    return Batch(**(fields | more))


def a_job(**more):
    fields = {
        "id": "abc-r0-j1", "batch_id": "abc", "round": 0, "number": 1, "provider": "openai",
        "model": "m", "endpoint": "chat", "rows": 3, "bytes": 9, "payload": "r0-j1.jsonl",
    }  # fmt: skip
    return Job(**(fields | more))


def someone(pid=1, host="elsewhere"):
    return process.Owner(host=host, boot="b", pid=pid, started=0.0)


def planned(store, **more):
    rows = Ranges([(0, 3)])
    batch = store.add_batch(a_batch(**more), [(a_job(), rows)], {"outcomes": b"\0\0\0"})
    return batch, store.leases.acquire("abc", process.me())


def test_a_planned_batch_comes_back_whole(store):
    """Batch, jobs, rows and packed data are what was written."""
    batch, _ = planned(store)
    assert store.batch("abc") == batch
    assert store.jobs("abc") == [a_job()]
    assert list(store.job_rows("abc-r0-j1")) == [0, 1, 2]
    assert store.pack("abc", "outcomes") == b"\0\0\0"
    assert store.pack("abc", "nothing") == b""


def test_versions_rise_per_name(store):
    """A second batch of a name is its version 2; drafts take no number."""
    planned(store)
    draft = store.add_batch(a_batch(id="d", draft=True), [], {})
    second = store.add_batch(a_batch(id="e"), [], {})
    other = store.add_batch(a_batch(id="f", name="y"), [], {})
    assert (draft.version, second.version, other.version) == (0, 2, 1)
    assert second.title == "x#2"


def test_an_event_moves_the_job_and_is_logged(store):
    """State and history change in one transaction."""
    _, held = planned(store)
    job = store.apply(held, a_job(), Event.UPLOADED, upload_id="file-1")
    assert job.state is JobState.UPLOADED
    assert store.jobs("abc") == [job]
    assert [e["event"] for e in store.events.of_batch("abc")] == ["planned", "uploaded"]


def test_an_illegal_event_changes_nothing(store):
    """What the lifecycle forbids leaves no trace."""
    _, held = planned(store)
    with pytest.raises(IllegalEvent):
        store.apply(held, a_job(), Event.ACCEPTED)
    assert store.jobs("abc") == [a_job()]
    assert len(store.events.of_batch("abc")) == 1


def test_outcomes_are_written_with_the_event_or_not_at_all(store):
    """A fence that fails takes the packed outcomes back too."""
    _, held = planned(store)
    store.leases.acquire("abc", process.me())
    with pytest.raises(LeaseLost):
        store.apply(held, a_job(), Event.UPLOADED, packs={"outcomes": b"\1\1\1"})
    assert store.pack("abc", "outcomes") == b"\0\0\0"
    assert store.jobs("abc") == [a_job()]


def test_a_living_owner_keeps_its_lease(store, clock):
    """Another process gets the lease only after the heartbeat is stale."""
    planned(store)
    held = store.leases.acquire("abc", process.me())
    assert store.leases.acquire("abc", someone()) is None
    clock.now += process.STALE - 1
    store.leases.renew(held)
    clock.now += process.STALE - 1
    assert store.leases.acquire("abc", someone()) is None
    clock.now += 2
    assert store.leases.acquire("abc", someone()) is not None


def test_a_woken_owner_can_write_nothing(store, clock):
    """After a takeover every write of the old owner is refused."""
    _, held = planned(store)
    clock.now += process.STALE + 1
    taken = store.leases.acquire("abc", someone())
    assert taken is not None
    for write in (
        lambda: store.apply(held, a_job(), Event.UPLOADED),
        lambda: store.note(held, a_job(), attempts=9),
        lambda: store.finish(held),
        lambda: store.leases.renew(held),
        lambda: store.put_packs(held, {"outcomes": b""}),
        lambda: store.add_round(held, 1, [], {}),
    ):
        with pytest.raises(LeaseLost):
            write()
    store.leases.release(held)  # silently nothing
    store.leases.renew(taken)


def test_a_dead_owner_is_replaced_at_once(store, tmp_path):
    """A lease of a killed process on this machine is free without waiting."""
    planned(store)
    script = (
        "import sys, time; from pathlib import Path\n"
        "from jupyter_llm_batch.storage import process as lease\n"
        "from jupyter_llm_batch.storage.store import Store\n"
        f"s = Store(Path({str(tmp_path / 'data')!r}), lambda: 1000.0)\n"
        "print(s.leases.acquire('abc', lease.me()) is not None, flush=True); time.sleep(60)"
    )
    store.leases.release(store.leases.acquire("abc", process.me()))
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() == "True"
    assert store.leases.acquire("abc", process.me()) is None
    child.kill()
    child.wait()
    child.stdout.close()
    assert store.leases.acquire("abc", process.me()) is not None


def test_a_cancel_wish_needs_no_lease(store):
    """Anybody may ask for the end; the owner reads it."""
    planned(store)
    store.request_cancel("abc")
    assert store.batch("abc").cancel_requested


def test_a_round_makes_an_ended_batch_unfinished(store):
    """A retry round reopens the batch and adds its jobs."""
    _, held = planned(store)
    store.finish(held)
    assert store.batches(unfinished=True) == []
    again = a_job(id="abc-r1-j2", number=2, round=1)
    store.add_round(held, 1, [(again, Ranges([(1, 2)]))], {"outcomes": b"\1\0\1"})
    assert [batch.round for batch in store.batches(unfinished=True)] == [1]
    assert store.jobs("abc")[1] == again


def test_parts_are_replaced_in_place(store):
    """Running a collecting cell again replaces its own part and keeps its place."""
    store.add_batch(a_batch(draft=True), [], {})
    assert store.draft_cells.put("abc", "one", b"1") == 1
    assert store.draft_cells.put("abc", "two", b"2") == 2
    assert store.draft_cells.put("abc", "one", b"1b") == 2
    assert store.draft_cells.records("abc") == [b"1b", b"2"]


def test_forgetting_removes_everything(store):
    """No row of a forgotten batch stays."""
    _, held = planned(store)
    store.finish(held)
    store.forget("abc")
    assert store.batch("abc") is None
    for table in ("job", "pack", "event", "part"):
        assert store.rows(f"SELECT * FROM {table}") == []


def test_the_journal_is_private(store):
    """Folder 0700, files 0600, whatever the umask."""
    planned(store)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    for file in store.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


CHURN = """
import itertools, os, shutil, sys
for number in itertools.count():
    folder = os.path.join(sys.argv[1], f"other{number % 7}")
    os.mkdir(folder)
    open(os.path.join(folder, "rows"), "w").close()
    shutil.rmtree(folder)
    if number == 100:
        print("ready", flush=True)
"""


def test_folders_of_other_kernels_come_and_go(tmp_path, clock):
    """What another kernel takes away while this one looks is passed over, never an error."""
    data = tmp_path / "data"
    Store(data, clock).close()
    batches = data / "batches"
    batches.mkdir(exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", CHURN, str(batches)], stdout=-1) as churn:
        assert churn.stdout.readline() == b"ready\n"
        try:
            for _ in range(400):
                data.chmod(0o750)  # so that it is looked through
                Store(data, clock).close()
                assert files.size_of(data)
            for number in range(20_000):
                assert not sent_marks.was_sent(batches / f"other{number % 7}")
            assert churn.poll() is None
        finally:
            churn.kill()


def test_a_journal_of_a_newer_release_is_left_alone(store, clock):
    """An unknown schema version is refused, not rewritten."""
    store.close()
    db = sqlite3.connect(store.path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreProblem, match="newer"):
        Store(store.folder, clock)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path, clock):
    """A folder that cannot be written stops before anything is sent."""
    tmp_path.chmod(0o500)
    with pytest.raises(StoreProblem, match="data_dir"):
        Store(tmp_path / "data", clock)


def test_records_outlive_new_fields(store):
    """A record written before a field existed is read with its default."""
    planned(store)
    old = msgspec.json.decode(msgspec.json.encode(a_job()))
    del old["failures"], old["samples"]
    store._db.execute("UPDATE job SET record = ?", [msgspec.json.encode(old)])
    assert store.jobs("abc") == [a_job()]


def test_a_journal_of_before_the_ledger_opens(tmp_path):
    """A journal without the tables of money gets them, and keeps what it had."""
    store = Store(tmp_path / "data", time.time)
    path = store.path
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO meta VALUES ('kept', x'01')")
        db.executescript("DROP TABLE spend; DROP TABLE reservation; PRAGMA user_version = 1")
    store = Store(tmp_path / "data", time.time)
    assert store.spending.committed(0.0) == (0, 0)
    assert store.spending.spends() == []
    assert store.rows("SELECT value FROM meta WHERE key = 'kept'")[0][0] == b"\x01"
    store.close()
