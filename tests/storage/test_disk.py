"""Disks that are full, read-only, shared or on a network; real ones wherever root allows it."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time

import pandas as pd
import pytest
from support import mark, until

from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core import policy
from jupyter_llm_batch.core.errors import StoreProblem
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.storage import location
from jupyter_llm_batch.storage.realtime_log import Past, RowLog
from jupyter_llm_batch.storage.store import Store

MODEL = "openai:gpt-5-mini"


# -- no room ---------------------------------------------------------------------------------------


class Disk:
    """A small file system of its own."""

    def __init__(self, path):
        self.path = path

    def fill(self):
        """Leave no byte free, not even inside SQLite's log."""
        for path in self.path.rglob("journal.sqlite"):
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (self.path / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self):
        """Make room again."""
        (self.path / "ballast").unlink()


@pytest.fixture
def disk(tmp_path):
    """A disk of two megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(path)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root on Linux can make a small disk")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_stops_a_submission_before_anything_is_sent(disk, make_client, sim):
    """One line says so, nothing is left behind, and with room the same cell goes through."""
    client = make_client(folder=disk.path / "data")
    disk.fill()
    with pytest.raises(StoreProblem, match=r"nothing was sent|cannot be used now") as said:
        client.submit(name="x", over=["a" * 100_000] * 30, model=MODEL)
    assert "\n" not in str(said.value)
    assert sim.requests() == []
    assert not [*(disk.path / "data").rglob("*.jsonl*")]
    disk.empty()
    client.submit(name="x", over=["a"], model=MODEL).wait(60)
    assert len(sim.ledger()) == 1


def test_a_disk_that_fills_during_the_create_loses_no_batch(disk, make_client, sim):
    """What the provider accepted is written down as soon as there is room; nothing is resent."""
    client = make_client(folder=disk.path / "data")
    sim.fault(path="*/batches", method="POST", action="freeze")
    handle = client.submit(name="x", over=["a", "b"], model=MODEL)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.SUBMITTING)
    until(lambda: sim.faults()[0]["met"] == 1)
    disk.fill()
    sim.clear_faults()
    until(lambda: any(seen["path"].endswith("/batches") for seen in sim.requests()))
    assert client.store.jobs(handle.id)[0].state is JobState.SUBMITTING
    disk.empty()
    assert mark("a") in handle.wait(60).answers()[0]
    creates = [
        s for s in sim.requests() if s["method"] == "POST" and s["path"].endswith("/batches")
    ]
    assert len(creates) == 1
    assert len(sim.ledger()) == 2


def test_a_disk_that_fills_while_polling_loses_no_answer(disk, make_client, sim):
    """It is collected when there is room, also after a restart; the panel says what is missing."""
    sim.behave(seconds=1000)
    client = make_client(folder=disk.path / "data")
    handle = client.submit(name="x", over=["a", "b"], model=MODEL)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    disk.fill()
    sim.advance(2000)
    asked = len(sim.requests())
    until(lambda: len(sim.requests()) > asked + 3)  # it goes on trying
    assert not handle.done
    until(lambda: "disk is full; make room on the disk" in handle.snapshot().words)
    disk.empty()
    client.close()
    client = make_client(folder=disk.path / "data")
    assert mark("b") in client.get("x").wait(60).answers()[1]
    assert len(sim.ledger()) == 2


def test_a_disk_that_fills_in_real_time_loses_no_answer(disk, make_client, sim):
    """What came back waits in memory, nothing more is asked, and with room it is written down."""
    client = make_client(folder=disk.path / "data")
    sim.fault(action="freeze", path="*/chat/completions", times=None, after=5)
    over = [f"prompt {i}" for i in range(40)]
    handle = client.submit(name="x", over=over, model=MODEL, realtime=True)
    until(lambda: len(sim.ledger()) == 5 and any(fault["met"] >= 4 for fault in sim.faults()))
    disk.fill()
    sim.clear_faults()
    until(lambda: client.poller()._waits._rests)
    assert 5 < len(sim.ledger()) < 40
    disk.empty()
    found = handle.wait(60).results()
    assert {result.outcome for result in found} == {Outcome.OK}
    assert all(mark(prompt) in each.text for prompt, each in zip(over, found, strict=True))
    assert sim.summary()["max_per_body"] == 1


JOB = Job(
    id="batch-r0-j1", batch_id="batch", round=0, number=1, provider="openai", model="m",
    endpoint="chat", rows=9000, bytes=1, payload="r0-j1.jsonl",
)  # fmt: skip


@pytest.fixture
def log(disk):
    """The log of a real-time job on a disk that fills; its files have begun."""
    log = RowLog(disk.path, JOB, 1, [])
    log.asking([0, 1, 2])
    log.answered(0, b'{"custom_id":"batch-0"}\n', ok=True)
    log.sync()
    disk.fill()
    yield log
    log.close()


def test_an_intent_without_room_is_no_intent(disk, log):
    """Of a record that is cut short nothing stays, and nothing may go out."""
    with pytest.raises(OSError, match="No space"):
        log.asking([*range(3, 3000)])
    assert {*Past(disk.path, JOB).open} == {1, 2}
    disk.empty()
    log.asking([3])
    assert {*Past(disk.path, JOB).open} == {1, 2, 3}


def test_an_answer_without_room_waits(disk, log):
    """It is written whole when there is room, and those after it too."""
    lines = [b'{"custom_id":"batch-%d","a":"%s"}\n' % (row, b"a" * 9000) for row in (1, 2)]
    for row, line in enumerate(lines, start=1):
        with pytest.raises(OSError, match="No space"):
            log.answered(row, line, ok=True)
    assert {*Past(disk.path, JOB).answered} == {0}
    disk.empty()
    log.sync()
    assert [*Past(disk.path, JOB).lines()][1:] == lines


def test_a_file_size_limit_stops_a_submission_too(tmp_path, sim):
    """Without a small disk at hand: a limit of the process has the same effect."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from jupyter_llm_batch.client.client import Client\n"
        "from jupyter_llm_batch.core.errors import StoreProblem\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "client = Client(folder=Path(sys.argv[1]), notebook='nb', simulated=True)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: client.submit(name='x', over=['a' * 50_000] * 10, model='openai:gpt-5-mini')\n"
        "except StoreProblem as problem: print(problem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "data")],
        capture_output=True, text=True, env=os.environ | sim.environ(),
    )  # fmt: skip
    assert "nothing was sent" in done.stdout, done.stderr
    assert sim.requests() == []


def open_as_nobody(folder):
    """Open a store as a user without rights."""
    return subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True)


OPEN = (
    "import os, sys, time\n"
    "from pathlib import Path\n"
    "from jupyter_llm_batch.storage.store import Store\n"
    "from jupyter_llm_batch.core.errors import StoreProblem\n"
    "os.setgid(65534); os.setuid(65534)\n"
    "try: Store(Path(sys.argv[1]), time.time)\n"
    "except StoreProblem as problem: print(problem)\n"
    "else: print('opened')"
)


@pytest.fixture
def open_tmp(tmp_path):
    """A folder that everybody may enter."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    for each in (tmp_path, *tmp_path.parents[:-2]):
        each.chmod(each.stat().st_mode | 0o055)
    return tmp_path


def test_a_read_only_folder_is_refused(open_tmp):
    """A folder that cannot be written stops before anything is sent."""
    folder = open_tmp / "data"
    folder.mkdir(mode=0o500)
    os.chown(folder, 65534, 65534)
    done = open_as_nobody(folder)
    assert "data_dir" in done.stdout, done.stderr
    assert [*folder.iterdir()] == []


def test_a_folder_of_another_user_is_refused(open_tmp):
    """Even one that may be written to: its owner could read what is in it."""
    folder = open_tmp / "data"
    folder.mkdir()
    folder.chmod(0o777)
    done = open_as_nobody(folder)
    assert "another user" in done.stdout, done.stderr
    assert [*folder.iterdir()] == []


# -- other users -----------------------------------------------------------------------------------


def modes(folder):
    """Return the modes of everything in a folder, itself included."""
    return {each: stat.S_IMODE(each.stat().st_mode) for each in (folder, *folder.rglob("*"))}


def live_out(client):
    """Do everything that writes: frames, dicts, retries, drafts, versions, exports."""
    client.submit(
        "Say {{ text }}", name="f", over=pd.DataFrame({"text": ["a", "b"]}), model=MODEL
    ).wait(60)
    client.submit("{{ key }}", name="d", over={"k": "v"}, model=MODEL).wait(60)
    handle = client.submit(name="x", over=["a", "b [[sim:fail-400 x1]]"], model=MODEL).wait(60)
    handle.retry(confirm=True)
    handle.wait(60)
    client.add("one", name="draft", key="cell", model=MODEL)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_nobody_else_can_read_anything(make_client, tmp_path, umask, mode, monkeypatch):
    """Folders are 0700 and files 0600, whatever the umask, while in use and after."""
    if mode == "delete":
        monkeypatch.setattr(
            location, "place_of", lambda _: location.Place(kind="nfs4", remote=True)
        )
    before = os.umask(umask)
    try:
        client = make_client()
        live_out(client)
        used = modes(tmp_path / "data")
        client.close()
    finally:
        os.umask(before)
    assert any("journal.sqlite-" in each.name for each in used) == (mode == "wal")
    for path, found in (used | modes(tmp_path / "data")).items():
        assert found == (0o700 if path.is_dir() else 0o600), (path, oct(found))


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_an_export_is_the_users_own(make_client, tmp_path):
    """What the user asks to have written follows the user's umask."""
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODEL).wait(60)
    before = os.umask(0o027)
    try:
        path = handle.export(tmp_path / "answers.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_a_data_folder_with_wide_modes_is_closed(make_client, tmp_path):
    """Folder, journal and payloads that others could read are closed at the next start."""
    client = make_client()
    live_out(client)
    client.close()
    for path in modes(tmp_path / "data"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    make_client().close()
    below = modes(tmp_path / "data" / "simulated")
    assert len(below) > 10
    for path, found in below.items():
        assert not found & 0o077, path


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_a_folder_with_other_files_keeps_its_mode(tmp_path):
    """A project's folder as data folder stays open to colleagues; what is ours in it does not."""
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.ipynb").write_text("{}")
    Store(tmp_path, time.time).close()
    found = modes(tmp_path)
    assert found.pop(tmp_path) == 0o755
    assert found.pop(tmp_path / "thesis.ipynb") & 0o044
    assert all(not mode & 0o077 for mode in found.values())
    tmp_path.chmod(0o775)
    with pytest.raises(StoreProblem, match=r"thesis\.ipynb"):
        Store(tmp_path, time.time)


# -- network file systems --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "device", "remote", "lockless"),
    [
        ("ext4", "rw,relatime", "/dev/sda1", False, False),
        ("apfs", "rw,local,journaled", "/dev/disk3s5", False, False),
        ("NTFS", "rw,fixed", "C:\\", False, False),
        ("fuseblk", "rw", "/dev/sdb1", False, False),
        ("overlay", "rw", "overlay", False, False),
        ("nfs4", "rw,vers=4.2", "server:/home", True, False),
        ("nfs", "rw,nolock", "server:/home", True, True),
        ("cifs", "rw", "//server/share", True, False),
        ("9p", "rw", "C:", True, False),
        ("fuse.sshfs", "rw", "me@server:", True, False),
        ("fuse.s3fs", "rw", "s3fs", True, True),
        ("fuse", "rw", "gcsfuse", True, True),
        ("NTFS", "rw,remote", "Z:\\", True, False),
    ],
)  # fmt: skip
def test_network_file_systems_are_known(kind, options, device, remote, lockless):
    """What shares no memory is remote, what keeps no locks is lockless."""
    place = location.judge(kind, options, device)
    assert (place.remote, place.lockless) == (remote, lockless)


def test_the_file_system_of_a_folder_is_found(tmp_path):
    """The innermost mount counts; a folder that does not exist yet lies where it will lie."""
    shm = location.place_of(location.Path("/dev/shm/none/yet"))
    if sys.platform == "linux":
        assert shm.kind == "tmpfs"
    assert not location.place_of(tmp_path).remote


@pytest.fixture
def network(monkeypatch):
    """Every folder lies on NFS."""
    place = location.Place(kind="nfs4", remote=True)
    monkeypatch.setattr(location, "place_of", lambda _: place)


def test_a_network_folder_gets_a_rollback_journal(network, make_client, sim):
    """The whole life of a batch works without shared memory, and after a restart."""
    client = make_client()
    assert client.store.mode == "delete"
    live_out(client)
    assert not [*client.store.folder.glob("journal.sqlite-*")]
    client.close()
    assert mark("a") in make_client().get("x").answers()[0]


def test_a_journal_that_moves_to_a_network_folder_changes_its_mode(make_client, monkeypatch):
    """And back: the mode follows the place."""
    make_client().close()
    with monkeypatch.context() as patched:
        place = location.Place(kind="nfs4", remote=True)
        patched.setattr(location, "place_of", lambda _: place)
        client = make_client()
        assert client.store.mode == "delete"
        client.close()
    assert make_client().store.mode == "wal"


def test_a_journal_in_use_with_shared_memory_is_refused_on_a_network(make_client, monkeypatch):
    """The remedy is to close the other user of it."""
    client = make_client()
    client.close()
    other = sqlite3.connect(client.store.path)
    other.execute("SELECT * FROM meta").fetchall()
    monkeypatch.setattr(policy, "JOURNAL_WAIT", 0.1)
    place = location.Place(kind="nfs4", remote=True)
    monkeypatch.setattr(location, "place_of", lambda _: place)
    with pytest.raises(StoreProblem, match="close the other notebooks"):
        make_client()
    other.close()


def test_a_folder_without_locks_is_refused(tmp_path, monkeypatch):
    """An object store as a folder, or NFS without locks: the remedy is another folder."""
    place = location.Place(kind="fuse.s3fs", remote=True, lockless=True)
    monkeypatch.setattr(location, "place_of", lambda _: place)
    with pytest.raises(StoreProblem, match="data_dir"):
        Store(tmp_path / "data", time.time)
    assert not (tmp_path / "data" / "journal.sqlite").exists()


def test_two_processes_share_a_rollback_journal(tmp_path, sim):
    """Both submit and finish batches at once; nothing is locked out or billed twice."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from jupyter_llm_batch.storage import location as filesystems\n"
        "filesystems.place_of = lambda _: filesystems.Place(kind='nfs4', remote=True)\n"
        "from jupyter_llm_batch.client.client import Client\n"
        "from jupyter_llm_batch.core.policy import Policy\n"
        "fast = Policy(poll=0.02, poll_longest=0.05, retry=0.02, settle=0.2)\n"
        "c = Client(folder=Path(sys.argv[1]), notebook='nb', simulated=True, policy=fast)\n"
        "for i in range(8):\n"
        "    c.submit(name=f'{sys.argv[2]}{i}', over=[f'{sys.argv[2]}{i}'],\n"
        "             model='openai:gpt-5-mini').wait(120)\n"
        "print(c.store.mode, len(c.batches())); c.close()\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "data"), who],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | sim.environ(),
        )
        for who in ("a", "b")
    ]  # fmt: skip
    said = [child.communicate() for child in children]
    assert all(out.startswith("delete ") for out, _ in said), said
    assert len(sim.ledger()) == 16
    assert Client(folder=tmp_path / "data", simulated=True, environ={}).store.check() == ""


# -- two kinds -------------------------------------------------------------------------------------


def test_simulated_and_real_batches_never_share_a_journal(make_client, tmp_path):
    """Neither kind opens the other's journal, also one that an earlier release made."""
    make_client().close()
    with pytest.raises(StoreProblem, match="never go beside"):
        Client(folder=tmp_path / "data" / "simulated", environ={})
    Client(folder=tmp_path / "real", environ={}).close()
    with pytest.raises(StoreProblem, match="real batches"):
        Store(tmp_path / "real", time.time, simulated=True)
    assert Client(folder=tmp_path / "data", environ={}).batches() == []
