"""What the environment may bring: certificates, proxies, folders, names, outputs, threads."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import mark, ok, until

from jupyter_llm_batch.client import connectivity
from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core import identity
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.engine.background import Background
from jupyter_llm_batch.providers.google import adapter
from jupyter_llm_batch.providers.shared import network

MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]
KEYS = {
    "OPENAI_API_KEY": "sim-0penAiKey0fTheTests7x",
    "ANTHROPIC_API_KEY": "sim-ant-Anthr0picKey0fTests",
    "GEMINI_API_KEY": "sim-AIza-Go0gleKey0fTheTests",
}
#: What breaks every HTTP client that is built, and what says so.
BROKEN = {
    "SSL_CERT_FILE": ("/nowhere/ca.pem", "/nowhere/ca.pem"),
    "ALL_PROXY": ("socks5://user:hidden@127.0.0.1:9", "socksio"),
    "HTTPS_PROXY": ("gopher://127.0.0.1:9", "gopher://"),
}


@pytest.fixture(params=BROKEN)
def broken(request, monkeypatch):
    """An environment in which no client can be built; return variable and what names its fault."""
    for name in [*os.environ]:
        if name.upper().endswith("_PROXY") or name.startswith("SSL_CERT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(request.param, BROKEN[request.param][0])
    monkeypatch.setattr(network, "find_spec", lambda _: None)
    return request.param, BROKEN[request.param][1]


@pytest.mark.parametrize("model", MODELS)
def test_a_broken_environment_is_one_line_before_anything_is_sent(broken, tmp_path, model):
    """Variable and fault are named, no password is, and no batch is made."""
    client = Client(environ=KEYS, folder=tmp_path / "data", notebook="nb.ipynb")
    with pytest.raises(UsageProblem) as said:
        client.submit(name="x", over=["a"], model=model)
    words = str(said.value)
    assert all(each in words for each in broken)
    assert "\n" not in words
    assert "hidden" not in words
    assert client.batches() == []
    client.close()


def test_a_batch_on_its_way_waits_for_a_better_environment(make_client, sim, monkeypatch, broken):
    """Its panel has the line, nothing is tried meanwhile, and no answer is lost."""
    client = make_client()
    sim.behave(seconds=1000)
    handle = client.submit(name="x", over=["a"], model=MODELS[0])
    until(lambda: client.store.jobs(handle.id)[0].remote_id)
    monkeypatch.setattr(network, "_is_local", lambda _: False)
    until(lambda: broken[0] in str(handle.snapshot()))
    sim.advance(2000)
    monkeypatch.undo()
    client.poller()
    handle.refresh()
    assert mark("a") in handle.wait(60).answers()[0]


@pytest.mark.parametrize("model", MODELS)
def test_a_server_of_this_machine_needs_nothing_of_the_environment(broken, client, model):
    """The simulator answers whatever is said of proxies and certificates."""
    assert mark("a") in client.submit("a", name="x", model=model).wait(60).answers()
    assert mark("b") in client.submit("b", name="y", model=model, realtime=True).wait(60).answers()


def test_looking_at_servers_outlives_a_broken_environment(broken, client, sim):
    """What `doctor` shows is the line for those outside, and an answer of those on this machine."""
    places = {"openai": sim.openai_url, "google": "https://192.0.2.1"}
    found = client.context.background.call(connectivity.look(places, {})).result()
    assert found["openai"].status is not None
    assert broken[0] in found["google"].remark


def test_a_file_without_a_certificate_is_named(tmp_path, monkeypatch):
    """It is there, and is no list of certificates; what is mended counts at once."""
    import certifi

    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(UsageProblem, match="holds no certificate"):
        network.check("https://192.0.2.1")
    path.write_bytes(Path(certifi.where()).read_bytes())
    network.check("https://192.0.2.1")


def test_a_file_for_gemini_needs_nothing_of_the_environment(broken, client, monkeypatch):
    """Nor does the SDK's own client, which uploads."""
    monkeypatch.setattr(adapter, "_INLINE_ROWS", 0)
    assert mark("a") in client.submit("a", name="x", model=MODELS[2]).wait(60).answers()


# -- folders and names -----------------------------------------------------------------------------


def test_a_relative_folder_is_where_it_was_when_it_was_set(bare_shell, tmp_path, monkeypatch):
    """`%cd` and `os.chdir` move neither the setting nor a client's journal."""
    monkeypatch.chdir(tmp_path)
    ok(bare_shell, "%config LLMBatch.data_dir = 'here'")
    settings = Settings(data_dir="there")
    client = Client(folder=Path("third"), environ={})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert bare_shell.controller.config.settings().folder() == tmp_path / "here"
    assert settings.folder() == tmp_path / "there"
    assert client.store.folder == tmp_path / "third"
    client.close()


def test_a_relative_folder_of_jupyter_stays_the_same(tmp_path, monkeypatch):
    """What `JUPYTER_DATA_DIR` means is taken once in a process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTER_DATA_DIR", f"{tmp_path.name}-data")
    before = Settings().folder()
    assert before.is_absolute()
    monkeypatch.chdir("/")
    assert Settings().folder() == before


@pytest.mark.skipif(os.name == "nt", reason="paths are text there")
def test_a_notebook_whose_name_is_no_text_has_batches(make_client):
    """A byte of its path that is no UTF-8 stands in the journal as an escape."""
    odd = os.fsdecode(b"/home/caf\xe9.ipynb")
    assert identity._of_path(odd).name == "/home/caf\\udce9.ipynb"
    client = make_client(notebook=odd)
    handle = client.submit(name="x", over=["a"], model=MODELS[0]).wait(60)
    assert handle.record.notebook == "/home/caf\\udce9.ipynb"
    client.close()
    assert [each.name for each in make_client(notebook=odd).batches()] == ["x"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_a_folder_whose_name_is_no_text_is_as_good_as_another(make_client, tmp_path):
    """A journal there is used, and set aside when it is damaged."""
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    client = make_client(folder=folder)
    client.submit(name="x", over=["a"], model=MODELS[0]).wait(60)
    client.close()
    client.store.path.write_bytes(b"no database, and longer than a header of one" * 10)
    client = make_client(folder=folder)
    assert "caf" in client.store.loss.words
    client.store.loss.words.encode()


# -- terminals and threads -------------------------------------------------------------------------

TERMINAL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def cell(text):
    shell.run_cell(text).raise_error()
cell("%load_ext jupyter_llm_batch")
cell("%%llm_batch x -m openai:gpt-5-mini\\nWhat is a caf\u00e9?")
cell("%llm_batch")
cell("%llm_batch show x 0")
try:
    print(chr(233))
except UnicodeEncodeError:
    print("the user's own output is as before")
"""


def test_a_terminal_of_ascii_shows_what_it_can(tmp_path, sim):
    """Nothing raises; other letters are escapes, and the stream is left as it was."""
    env = os.environ | sim.environ() | {
        "PYTHONIOENCODING": "ascii", "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", TERMINAL], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "caf\\xe9" in done.stdout
    assert done.stdout.isascii()
    assert "the user's own output is as before" in done.stdout
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter_llm_batch.cli", "list", "--all"],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr


def test_a_thread_that_cannot_start_is_started_with_the_next_cell(shell, sim, monkeypatch, capsys):
    """The cell says that nothing is sent yet, and no batch stays behind."""
    client = shell.controller.client
    monkeypatch.setattr(client.context, "background", Background())
    start, tries = threading.Thread.start, []

    def refuse(thread):
        if thread.name == "llm-batch" and len(tries) < 2:
            tries.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    ok(shell, "%%llm_batch x -m openai:gpt-5-mini\na")
    assert "nothing is sent yet" in capsys.readouterr().out
    assert sim.requests() == []
    ok(shell, "1")
    until(lambda: client.get("x").done)
    assert mark("a") in client.get("x").answers()
    client.close()
    client.context.background.stop()
