"""One connection to a journal in a process: its locks stay, and what is written is kept."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import FAST, Shifted, mark, ok

import jupyter_llm_batch as llm_batch
from jupyter_llm_batch import cli
from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.errors import StoreProblem
from jupyter_llm_batch.simulator import launch
from jupyter_llm_batch.storage import location, migrations
from jupyter_llm_batch.storage.store import Store

MODEL = "openai:gpt-5-mini"
LOCKS = Path("/proc/locks")


def locks(path):
    """Return which of a journal's files this process has locks on."""
    held = {
        int(fields[5].rpartition(":")[2])
        for line in LOCKS.read_text().splitlines()
        if (fields := line.split())[1] == "POSIX" and fields[4] == str(os.getpid())
    }
    return {end for end in ("", "-shm") if Path(f"{path}{end}").stat().st_ino in held}


def terminal(folder):
    """List simulated batches from another process, which closes the journal at its end."""
    command = [sys.executable, "-m", "jupyter_llm_batch.cli", "list", "--all", "--simulated"]
    subprocess.run([*command, "--data-dir", str(folder)], check=True, capture_output=True)


@pytest.fixture
def end_simulator():
    """End the simulator's process of a data folder with the test."""
    folders = []
    yield folders.append
    for folder in folders:
        running = launch._find(folder / "simulator")
        if running is not None:
            os.kill(running.pid, signal.SIGTERM)


@pytest.mark.skipif(not LOCKS.exists(), reason="only Linux tells which locks a process has")
def test_whoever_opens_and_closes_the_journal_its_locks_stay(
    bare_shell, tmp_path, end_simulator, capsys
):
    """Magics, functions, clients, the terminal's command, simulator on and off, loading again."""
    folder = tmp_path / "jupyter" / "llm_batch"
    end_simulator(folder)
    mine = Client(folder=folder)
    path = mine.store.path
    both = {"", "-shm"}
    assert locks(path) == both, "SQLite holds other locks than those that are looked for"
    steps = [
        "%llm_batch history",
        "import jupyter_llm_batch as lb; lb.batches()",
        "%llm_batch simulator --seconds 0",
        "%llm_batch simulator --off",
        "%reload_ext jupyter_llm_batch",
        "%llm_batch doctor",
    ]
    for step in steps:
        ok(bare_shell, step)
        assert locks(path) == both, step
    Client(folder=folder, notebook="another.ipynb").close()
    assert cli.main(["list", "--data-dir", str(folder)]) == 0
    with pytest.raises(StoreProblem):
        Store(folder, time.time, simulated=True)
    assert llm_batch.batches() == []
    assert locks(path) == both
    mine.close()


KERNEL = """
import os, signal, subprocess, sys, time
from IPython.core.interactiveshell import InteractiveShell
from jupyter_llm_batch.core.job import JobState
shell = InteractiveShell.instance()
def cell(text):
    shell.run_cell(text).raise_error()
def accepted(name):
    batch = shell.user_ns["lb"].get(name)
    store = batch._context.store
    while not all(job.state is JobState.RUNNING for job in store.jobs(batch.id)):
        time.sleep(0.01)
cell("%load_ext jupyter_llm_batch")
cell("import jupyter_llm_batch as lb")
cell("%%llm_batch first -m openai:gpt-5-mini\\nfirst prompt")
accepted("first")
cell("%llm_batch simulator --seconds 0")
cell("%llm_batch simulator --off")
cell("%reload_ext jupyter_llm_batch")
cell("other = lb.Client(); other.batches(); other.close()")
cell("lb.batches()")
subprocess.run([sys.executable, "-m", "jupyter_llm_batch.cli", "list", "--all"], check=True)
cell("%%llm_batch paid -m openai:gpt-5-mini\\nsecond prompt")
accepted("paid")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_a_kernel_that_did_it_all_loses_nothing_when_it_is_killed(tmp_path, sim, end_simulator):
    """What was sent after the simulator, a second client and a terminal is there after a kill."""
    sim.behave(seconds=1000)
    folder = tmp_path / "jupyter" / "llm_batch"
    end_simulator(folder)
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        env=os.environ | sim.environ() | {
            "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"), "IPYTHONDIR": str(tmp_path / "ipython"),
        },
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    sim.advance(2000)
    clock = Shifted()
    clock.ahead = 300  # when the killed kernel would have looked again
    client = Client(environ=sim.environ(), folder=folder, policy=FAST, clock=clock)
    assert client.store.loss is None
    assert client.store.check() == ""
    assert mark("first prompt") in client.get("first").wait(60).answers()
    assert mark("second prompt") in client.get("paid").wait(60).answers()
    assert len(sim.ledger()) == 2
    client.close()


def test_two_clients_of_a_process_share_the_connection_to_the_last(make_client):
    """It is closed with the last client; a closed client does nothing more with it."""
    first, second = make_client(), make_client()
    assert first.store._db is second.store._db
    first.close()
    first.close()
    with pytest.raises(sqlite3.ProgrammingError):
        first.store.batches()
    assert second.store.batches() == []
    second.close()
    with pytest.raises(sqlite3.ProgrammingError):
        second.store._db.execute("SELECT 1")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps its locks")
def test_locks_that_somebody_elses_code_gave_up_lose_nothing(make_client, tmp_path, sim):
    """The user copied the folder in the kernel, and a terminal took the log: nothing is sent."""
    client = make_client()
    client.submit(name="x", over=["a"], model=MODEL).wait(60)
    shutil.copytree(client.store.folder, tmp_path / "copy")
    terminal(client.store.folder.parent)
    assert not Path(f"{client.store.path}-wal").exists()
    with pytest.raises(StoreProblem, match="restart the kernel") as said:
        client.submit(name="y", over=["b"], model=MODEL)
    assert "\n" not in str(said.value)
    client.close()
    client = make_client()
    assert client.store.loss is None
    assert mark("a") in client.get("x").answers()[0]
    client.submit(name="y", over=["b"], model=MODEL).wait(60)
    assert len(sim.ledger()) == 2


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be deleted there")
def test_who_was_cut_off_takes_nothing_back_from_the_next(tmp_path):
    """SQLite copies its log into the journal as it closes, here over what others wrote since."""
    store = Store(tmp_path, time.time)
    store.salt()
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.settle_loss()
    for end in ("-wal", "-shm"):
        Path(f"{store.path}{end}").unlink()
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from jupyter_llm_batch.storage.store import Store\n"
        "s = Store(Path(sys.argv[1]), time.time); s.add_server('a', 'http://a'); s.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    store.close()
    later = Store(tmp_path, time.time)
    assert later.servers() == {"a": "http://a"}
    later.close()


def test_a_journal_that_somebody_is_just_making_is_not_empty(tmp_path, monkeypatch):
    """What another process has written and not committed is waited for: nothing was lost."""
    (tmp_path / "batches" / "one").mkdir(parents=True)
    place = location.Place(kind="nfs4", remote=True)  # no log: the file grows with the commit
    monkeypatch.setattr(location, "place_of", lambda _: place)
    script = (
        "import sqlite3, sys; from pathlib import Path; from importlib.resources import files\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN IMMEDIATE')\n"
        "text = files('jupyter_llm_batch.storage').joinpath('schema.sql').read_text()\n"
        "[db.execute(each) for each in text.split(';\\n') if each.strip()]\n"
        "db.execute(f'PRAGMA user_version = {sys.argv[2]}'); print('made', flush=True)\n"
        "sys.stdin.read(); db.execute('COMMIT'); db.close()\n"
    )
    path = tmp_path / "journal.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path), str(migrations.SCHEMA_VERSION)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "made\n"
    assert path.stat().st_size == 0
    migrate = migrations.migrate

    def once_it_is_made(*args):
        child.communicate("")
        return migrate(*args)

    monkeypatch.setattr(migrations, "migrate", once_it_is_made)
    store = Store(tmp_path, time.time)
    assert store.loss is None
    assert store.losses() is None
    store.close()
