"""What the tests share: a simulator, clients on it, and a search for keys after the last test."""

import os
import shutil
import signal
from collections import Counter

import leaks
import pytest
from IPython.core.interactiveshell import InteractiveShell
from support import ANY, FAST

from jupyter_llm_batch.client import session
from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core import trouble
from jupyter_llm_batch.notebook import extension
from jupyter_llm_batch.simulator import Simulator


def pytest_configure(config):
    """Have the run searched for keys at its end; among xdist's processes by the first.

    Tests interrupt themselves and children, which a shell's background job would not notice.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(leaks.Search(config), "search-for-keys")


#: What `scripts/test --fast` leaves out, by its path: the marker, and where such tests stand.
SLOW = {
    "campaign": ("test_crash_", "test_fault_campaign", "test_kernels_at_once"),
    "kernel": ("test_ends", "test_notebooks", "test_identity", "test_one_connection", "test_cli."),
    "scale": ("test_scale", "test_fuzz.", "test_live"),
}


def pytest_collection_modifyitems(items):
    """Mark the slow tests."""
    for item in items:
        for marker, names in SLOW.items():
            if item.path.name.startswith(names):
                item.add_marker(getattr(pytest.mark, marker))


#: Whoever waits for a batch that meets a defect of ours gets that; child processes, too.
os.environ[trouble.STRICT] = "1"


@pytest.fixture(autouse=True)
def interrupts():
    """Have Ctrl-C interrupt, whatever an earlier test has left behind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_defect():
    """Fail a test in which a defect of ours was met, wherever that was."""
    trouble.defects.clear()
    yield
    met = [*trouble.defects]
    trouble.defects.clear()
    assert not met, "\n\n".join(f"{each.where}\n{each.traceback}" for each in met)


@pytest.fixture(autouse=True)
def _no_client_of_another_test(monkeypatch):
    """Begin every test like a new process: no client is in use."""
    monkeypatch.setattr(session, "_current", None)


@pytest.fixture
def sim():
    """A simulator whose batches are done at the first poll."""
    with Simulator(keys=ANY, seconds=0) as simulator:
        yield simulator


@pytest.fixture
def make_client(sim, tmp_path):
    """Return clients on one journal and one simulator; later ones are like restarted kernels."""
    made = []

    def make(**more):
        options = {
            "environ": sim.environ(), "folder": tmp_path / "data", "notebook": "nb.ipynb",
            "simulated": True, "policy": FAST,
        }  # fmt: skip
        client = Client(**(options | more))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client):
    """One client."""
    return make_client()


@pytest.fixture
def bare_shell(tmp_path, monkeypatch):
    """A shell with the extension loaded; `controller` is what the magics work on."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "jupyter_llm_batch")
    shell.controller = extension._loaded[id(shell)][0].commands().controller
    yield shell
    extension.unload(shell)
    if shell.history_manager:
        shell.history_manager.end_session()


@pytest.fixture
def shell(bare_shell, make_client):
    """A shell with a client on the simulator."""
    bare_shell.controller.config.model = "openai:gpt-5-mini"
    bare_shell.controller.use(make_client())
    return bare_shell


@pytest.fixture(scope="module")
def lane():
    """A simulator, and a process that children are forked from (`campaign`)."""
    if not hasattr(os, "fork"):
        pytest.skip("children are forked")
    from campaign import harness

    lane = harness.lane()
    yield lane
    lane.close()
    shutil.rmtree(lane.folder, ignore_errors=True)


@pytest.fixture
def tally(request):
    """Count something of which the summary tells the total."""

    def count(what, number):
        request.node.user_properties.append(("tally", (what, number)))

    return count


def pytest_terminal_summary(terminalreporter):
    """Print what tests have counted, also when they ran in several processes."""
    totals = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "tally":
                totals[value[0]] += value[1]
    for what, number in totals.items():
        terminalreporter.write_line(f"campaign: {number} {what} survived")
