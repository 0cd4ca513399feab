"""``jupyter llm-batch`` as real processes beside real kernels' stand-ins."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import FAST, mark, until

from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.job import JobState

ROOT = Path(__file__).parents[2]
MODEL = "openai:gpt-5-mini"

#: Stands for a kernel: submits, says so when the provider has the batch, then stays.
KERNEL = """
import sys, time
from pathlib import Path
from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.policy import Policy
folder, notebook, name, rows, model = sys.argv[1:]
client = Client(folder=Path(folder), notebook=notebook, policy=Policy(poll=0.05))
handle = client.submit("Say {{ item }}", name=name, over=[f"p{i}" for i in range(int(rows))],
                       model=model)
while not handle.snapshot().safe_to_close:
    time.sleep(0.01)
print(handle.id, flush=True)
time.sleep(600)
"""


class Desk:
    """A journal, a simulator, and processes on both."""

    def __init__(self, sim, folder):
        self.sim = sim
        self.folder = folder
        self.processes = []
        self.env = {
            **{key: value for key, value in os.environ.items() if "LLM" not in key},
            **sim.environ(), "PYTHONPATH": str(ROOT), "JUPYTER_DATA_DIR": str(folder / "none"),
            "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

    def kernel(self, name="x", notebook="/n/a.ipynb", rows=6, model=MODEL):
        """Start a stand-in of a kernel; return it and its batch's id when that is accepted."""
        process = self.start(
            [sys.executable, "-c", KERNEL, str(self.folder), notebook, name, str(rows), model]
        )
        return process, process.stdout.readline().strip()

    def start(self, command, **more):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
        process = subprocess.Popen(command, env=self.env, **options)
        self.processes.append(process)
        return process

    def command(self, *words):
        options = ["--data-dir", str(self.folder), "--poll-seconds", "1"]
        return [sys.executable, "-m", "jupyter_llm_batch.cli", *words, *options]

    def cli(self, *words):
        """Start the command line."""
        return self.start(self.command(*words))

    def run(self, *words, code=0):
        """Run the command line to its end."""
        done = subprocess.run(
            self.command(*words), env=self.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def abandoned(self, name="x", notebook="/n/a.ipynb", rows=6, model=MODEL):
        """Leave a batch behind that the provider has and nobody drives."""
        client = self.client(notebook=notebook)
        over = [f"p{i}" for i in range(rows)]
        handle = client.submit("Say {{ item }}", name=name, over=over, model=model, resubmit=True)
        until(lambda: handle.snapshot().safe_to_close)
        client.close()
        return handle.id

    def client(self, **more):
        """Open the journal in this process."""
        options = {"environ": self.sim.environ(), "notebook": "/n/a.ipynb", "policy": FAST}
        return Client(folder=self.folder, **(options | more))

    def creates(self):
        """Return how many batches were asked for at the providers."""
        return sum(
            each["method"] == "POST" and each["path"].endswith("/batches")
            for each in self.sim.requests()
        )


@pytest.fixture
def desk(sim, tmp_path):
    """A desk whose processes are ended with the test."""
    made = Desk(sim, tmp_path / "data")
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_watch_takes_over_from_a_killed_kernel(desk):
    """The answers of a batch whose kernel was killed are collected, and it is sent once."""
    desk.sim.behave(seconds=1)
    kernel, batch_id = desk.kernel()
    kernel.kill()
    kernel.wait()
    done = desk.run("watch")
    assert "6 of 6 answered" in done.stdout
    assert desk.creates() == 1
    client = desk.client()
    handle = client.get("x")
    assert handle.id == batch_id
    assert handle.answers() == [a for a in handle.answers() if a]
    assert all(mark(f"Say p{i}") in each for i, each in enumerate(handle.answers()))
    client.close()


def test_watch_looks_on_while_a_kernel_drives(desk):
    """A batch that a living kernel drives is watched to its end, not taken away."""
    desk.sim.behave(seconds=3600)
    kernel, batch_id = desk.kernel()
    watcher = desk.cli("watch", "--json")
    first = json.loads(watcher.stdout.readline())
    assert first["driven_by"]["pid"] == kernel.pid
    desk.sim.advance(4000)
    out, _ = watcher.communicate(timeout=120)
    last = json.loads(out.splitlines()[-1])
    assert last["finished"]
    assert last["id"] == batch_id
    assert kernel.poll() is None


def test_two_watchers_end_with_the_same_news(desk):
    """Two watchers at once: one drives, one looks on, both see the end, the batch is paid once."""
    desk.sim.behave(seconds=1, anthropic_retry_after=0)
    desk.abandoned()
    desk.abandoned(name="y", model="anthropic:claude-haiku-4-5")
    both = [desk.cli("watch", "x", "y", "--json") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        last = {each["name"]: each["state"] for each in map(json.loads, out.splitlines())}
        assert last == {"x": "done", "y": "done"}
    assert desk.creates() == 2
    assert desk.sim.summary()["duplicate_custom_ids"] == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_watch_and_leaves_the_batch(desk, number):
    """The exit code names the signal, the lease is given back, and nothing is cancelled."""
    desk.sim.behave(seconds=600)
    batch_id = desk.abandoned()
    watcher = desk.cli("watch", "--json")
    client = desk.client()
    until(lambda: (found := client.store.leases.driver(batch_id)) and found.pid == watcher.pid)
    watcher.send_signal(number)
    _, err = watcher.communicate(timeout=90)
    assert watcher.returncode == 128 + number
    assert "keep running at their providers" in err
    assert "Traceback" not in err
    rows = client.store.rows("SELECT lease_owner FROM batch WHERE id = ?", batch_id)
    assert rows[0][0] is None
    assert client.store.jobs(batch_id)[0].state is JobState.RUNNING
    assert not [each for each in desk.sim.requests() if "cancel" in each["path"]]
    client.close()


def test_once_does_what_is_due_and_ends(desk):
    """For cron: a first run finds it under way (4), a later one collects it (0)."""
    desk.sim.behave(seconds=3600)
    desk.abandoned()
    assert desk.run("watch", "--once", code=4).stdout == ""
    desk.sim.advance(4000)
    assert "6 of 6 answered" in desk.run("watch", "--once").stdout
    assert desk.run("watch", "--once").stdout == ""


def test_without_a_terminal_only_ends_and_problems_are_told(desk):
    """A watch into a pipe prints one line for each batch that ended, and one when it is stuck."""
    desk.sim.behave(seconds=1)
    for name in ("x", "y"):
        desk.abandoned(name=name)
    lines = desk.run("watch").stdout.splitlines()
    assert len(lines) == 2
    assert all("6 of 6 answered" in line for line in lines)
    desk.sim.behave(seconds=600)
    desk.abandoned(name="z")
    del desk.env["OPENAI_API_KEY"]
    (line,) = desk.run("watch", code=3).stdout.splitlines()
    assert "paused" in line
    desk.env["OPENAI_API_KEY"] = desk.sim.environ()["OPENAI_API_KEY"]
    desk.env["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    (line,) = desk.run("watch", code=3).stdout.splitlines()
    assert "another openai account or base URL" in line


def test_a_refused_key_ends_a_watch(desk):
    """What only another key can mend is not waited for: it is told, and the code is 3."""
    desk.sim.behave(seconds=600)
    desk.abandoned()
    body = {"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}}
    desk.sim.fault(action="status", status=401, path="*/batches*", body=body, times=None)
    done = desk.run("watch", code=3)
    assert "stopped" in done.stdout + done.stderr
    assert "key" in done.stderr


def test_rows_without_an_answer_are_an_exit_code(desk):
    """A batch that ended with failed rows ends a watch with 1."""
    desk.sim.behave(fail_rate=1.0)
    desk.abandoned()
    desk.run("watch", code=1)


def test_a_missing_key_is_an_exit_code_and_takes_no_lease(desk):
    """Without the key a watch says which, ends with 3, and leaves the batch to others."""
    desk.sim.behave(seconds=600)
    batch_id = desk.abandoned()
    del desk.env["OPENAI_API_KEY"]
    done = desk.run("watch", code=3)
    assert "OPENAI_API_KEY" in done.stderr
    client = desk.client()
    assert client.store.leases.driver(batch_id) is None
    client.close()


def test_list_names_every_notebook_and_writes_json(desk):
    """Batches of all notebooks, unfinished ones first of all; `--json` has the same keys always."""
    desk.sim.behave(seconds=600)
    first = desk.abandoned(notebook="/n/a.ipynb")
    second = desk.abandoned(notebook="/n/b.ipynb")
    text = desk.run("list").stdout
    assert "/n/a.ipynb" in text
    assert second in text
    assert "nobody looks after 2" in text
    found = json.loads(desk.run("list", "--json").stdout)
    assert [each["id"] for each in found] == [first, second]
    assert set(found[0]) == {
        "id", "notebook", "name", "version", "models", "simulated", "state", "words", "finished",
        "rows", "ok", "cut", "failed", "waiting", "retryable", "cost_usd", "saved_usd",
        "submitted_at", "finished_at", "keep_until", "driven_by", "notice", "jobs", "options",
    }  # fmt: skip
    assert found[0]["submitted_at"].endswith("Z")
    assert found[0]["keep_until"].endswith("Z")


def test_list_numbers_the_first_of_several_versions(desk):
    """A bare name would mean the latest."""
    desk.sim.behave(seconds=600)
    desk.abandoned()
    client = desk.client()
    client.submit("Tell {{ item }}", name="x", over=["a"], model=MODEL)
    client.close()
    said = desk.run("list").stdout
    assert "x#1" in said
    assert "x#2" in said


def test_simulated_batches_are_pointed_out(desk):
    """Who looks without --simulated hears that there are some."""
    desk.client(simulated=True).close()
    assert "--simulated looks at simulated ones" in desk.run("list").stdout
    assert "--simulated looks at" in desk.run("fetch", "x", code=2).stderr
    assert "--simulated" not in desk.run("list", "--simulated").stdout


def test_a_reader_that_has_seen_enough_is_no_error(desk):
    """`jupyter llm-batch list --json | head` ends without a word."""
    desk.client().close()
    reader, writer = os.pipe()
    os.close(reader)
    process = desk.start(desk.command("list", "--json"), stdout=writer)
    os.close(writer)
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 141


def test_a_sample_that_waits_is_decided_in_its_notebook(desk):
    """`watch` says what is asked, and where; `resolve` decides about lost submissions only."""
    client = desk.client()
    over = ["a", "b", "c"]
    handle = client.submit("Say {{ item }}", name="x", over=over, model=MODEL, sample=1)
    until(lambda: "send" in handle.snapshot().choices)
    client.close()
    err = desk.run("watch", "--once", code=3).stderr
    assert "in its notebook" in err
    assert "%llm_batch submit x" in err
    assert "resolve" not in err


def test_a_name_of_two_notebooks_is_asked_about(desk):
    """Equal names are told apart by notebook, its end, or an id; else the choices are named."""
    desk.sim.behave(seconds=600)
    first = desk.abandoned(notebook="/n/a.ipynb")
    second = desk.abandoned(notebook="/n/b.ipynb")
    err = desk.run("cancel", "x", code=2).stderr
    assert first in err
    assert "/n/b.ipynb::x" in err
    desk.run("cancel", "b.ipynb::x")
    watching = desk.cli("watch", second[:6])
    until(lambda: any(each["path"].endswith("/cancel") for each in desk.sim.requests()))
    desk.sim.advance(700)
    assert watching.wait(120) == 1
    client = desk.client()
    assert client.store.batch(second).finished_at
    assert not client.store.batch(first).cancel_requested
    client.close()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_fetch_collects_and_writes(desk, ending, tmp_path):
    """One look at the provider, and the answers lie in a file."""
    desk.sim.behave(seconds=3600)
    desk.abandoned()
    desk.run("fetch", "x", code=4)
    desk.sim.advance(4000)
    path = tmp_path / f"out.{ending}"
    desk.run("fetch", "x", "--to", str(path))
    import pandas as pd

    read = {"csv": pd.read_csv, "parquet": pd.read_parquet,
            "jsonl": lambda p: pd.read_json(p, lines=True)}[ending]  # fmt: skip
    answers = list(read(path)["answer"])
    assert all(mark(f"Say p{i}") in each for i, each in enumerate(answers))


def test_resolve_shows_candidates_and_decides(desk):
    """An undecided submission ends a watch with 3; the user's word lets it go on, paid once."""
    path = "/anthropic/v1/messages/batches"
    desk.sim.behave(seconds=3600, anthropic_retry_after=0)
    desk.sim.fault(method="POST", path=path, action="accept_then_drop")
    client = desk.client()
    handle = client.submit(name="x", over=["a", "b"], model="anthropic:claude-haiku-4-5")
    until(lambda: handle.snapshot().state == "attention")
    client.close()
    assert f"resolve {handle.id}" in desk.run("watch", code=3).stderr
    (job,) = json.loads(desk.run("resolve", "x", "--json", code=3).stdout)
    (candidate,) = job["candidates"]
    assert candidate["id"] in desk.run("resolve", "x", code=3).stdout
    assert "add --yes to send them again" in desk.run("resolve", "x", "--as-absent", code=2).stderr
    desk.run("resolve", "x", "--as-created", candidate["id"], code=4)
    desk.sim.advance(4000)
    assert "2 of 2 answered" in desk.run("watch").stdout
    assert desk.creates() == 1


def test_a_pipe_gets_lines_and_a_terminal_gets_bars(desk):
    """Control codes go to a terminal only."""
    import pty

    desk.sim.behave(seconds=1)
    desk.abandoned()
    master, slave = pty.openpty()
    desk.env["TERM"] = "xterm"
    process = desk.start(desk.command("watch"), stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(master)
    assert process.wait(30) == 0
    assert b"\x1b[" in seen
    assert b"done" in seen
    desk.abandoned(name="y")
    assert "\x1b" not in desk.run("watch").stdout


def test_jupyter_finds_the_command(desk, tmp_path):
    """`jupyter llm-batch` runs the console script that the package names."""
    script = tmp_path / "jupyter-llm-batch"
    script.write_text(
        f"#!{sys.executable}\nfrom jupyter_llm_batch.cli import main\nraise SystemExit(main())\n"
    )
    script.chmod(0o755)
    env = {**desk.env, "PATH": f"{tmp_path}{os.pathsep}{desk.env['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "llm-batch", "list"],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nothing is under way" in done.stdout


def test_the_command_line_imports_no_ipython(desk):
    """Servers need no IPython to collect answers."""
    script = (
        "import sys; from jupyter_llm_batch.cli import main; main(['list']); "
        "print([m for m in ('IPython', 'ipywidgets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=desk.env, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
