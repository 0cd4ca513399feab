"""What `%llm_batch doctor` looks at: servers that answer or do not, the front end, the journal."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support import KEYS

from jupyter_llm_batch.client import connectivity, journal_facts
from jupyter_llm_batch.core import trouble
from jupyter_llm_batch.core.errors import StoreProblem
from jupyter_llm_batch.notebook import clients, doctor

#: Nothing listens there.
DEAD = "http://127.0.0.1:9/v1"


@pytest.fixture
def shell(bare_shell):
    """A shell whose controller works with the client that a test puts there."""
    return bare_shell


@pytest.fixture
def server():
    """A server that answers its first `server.parties` requests only when all of them are there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.seen.append((self.path, dict(self.headers)))
            server.all_there.wait(30)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.all_there = [], threading.Barrier(1)
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def rows(shell, client, capsys):
    """Run `doctor` and return its lines by what they are about."""
    shell.controller.use(client)
    capsys.readouterr()
    result = shell.run_cell("%llm_batch doctor", store_history=False)
    assert result.success, result.error_in_exec
    out = capsys.readouterr().out.replace("\\n", "\n")
    return {" ".join(line.split("  ")[0].split()): line for line in out.splitlines()}


def test_doctor_tries_the_connections_of_providers_with_a_key(shell, make_client, sim, capsys):
    """A server that answers is said to; one that does not has its remedy; without a key: no try."""
    environ = {**sim.environ(), "ANTHROPIC_BASE_URL": DEAD}
    del environ["GEMINI_API_KEY"]
    found = rows(shell, make_client(environ=environ), capsys)
    assert "reachable (HTTP 401)" in found["openai connection"]
    assert "no answer" in found["anthropic connection"]
    assert "is the server running, and ANTHROPIC_BASE_URL right?" in found["anthropic connection"]
    assert "google connection" not in found
    assert sim.ledger() == []


def test_servers_of_the_settings_are_tried_without_a_key_too(shell, make_client, server, capsys):
    """`LLMBatch.servers` are looked at whether or not their key is there."""
    elsewhere = f"http://0.0.0.0:{server.server_port}/v1"  # not said to be this machine
    shell.controller.config.servers = {"mine": elsewhere, "gone": DEAD}
    found = rows(shell, make_client(), capsys)
    assert "missing" in found["mine key"]
    assert "not usable (HTTP 404)" in found["mine connection"]
    assert "is %config LLMBatch.servers right?" in found["mine connection"]
    assert "%config LLMBatch.servers right?" in found["gone connection"]


def test_no_key_is_sent_and_all_are_asked_at_once(server):
    """The requests carry no key, no password and no query, and wait for none of each other."""
    server.all_there = threading.Barrier(3)
    secret = KEYS["odd"]
    host = server.url.removeprefix("http://")
    addresses = {
        "a": f"{server.url}/a",
        "b": f"http://me:{secret}@{host}/b",
        "c": f"{server.url}/c?k={secret}",
    }
    found = asyncio.run(connectivity.look(addresses, {}))
    assert {each.status for each in found.values()} == {404}
    assert sorted(path for path, _ in server.seen) == ["/a/models", "/b/models", "/c/models"]
    for _, headers in server.seen:
        assert not {"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"} & {
            name.lower() for name in headers
        }
    assert secret not in str(server.seen)


def reach(url, setting="ACME_BASE_URL"):
    return asyncio.run(connectivity.look({"acme": url}, {"acme": setting}))["acme"]


def test_each_obstacle_has_its_remedy(monkeypatch):
    """A dead server, an unknown name, no address, and a proxy that is not there."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert "is the server running, and ACME_BASE_URL right?" in reach(DEAD).remark
    assert "are the network and the VPN up" in reach("http://nowhere.invalid").remark
    for url in ("nowhere", "ftp://x", "http://[::1"):
        assert reach(url).remark == "no usable address: correct ACME_BASE_URL"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    said = reach("http://nowhere.invalid").remark
    assert "is the proxy in HTTP_PROXY right? NO_PROXY=nowhere.invalid goes without it" in said


def test_a_server_that_says_nothing_is_left_in_time(server, monkeypatch):
    """Who takes the connection and never answers is said to."""
    server.all_there = threading.Barrier(2)  # nobody else comes
    monkeypatch.setattr(connectivity, "PATIENCE", 0.2)
    found = reach(server.url)
    server.all_there.abort()
    assert found.status is None
    assert found.remark.startswith("no answer within 0.2 s: ")


def test_the_front_end_has_its_remedy(shell, monkeypatch):
    """A terminal, a notebook, and one that lacks what live panels need."""
    assert "JupyterLab" in doctor._front_end(shell.controller)[1]
    shell.kernel = object()
    assert doctor._front_end(shell.controller)[0] == "notebook: live panels"
    assert "reload the page" in doctor._front_end(shell.controller)[1]
    monkeypatch.setattr(doctor, "_WIDGETS", ("ipywidgets", "no_such_widget"))
    assert doctor._front_end(shell.controller) == (
        "notebook: panels without buttons",
        "pip install no_such_widget",
    )
    del shell.kernel


def test_a_journal_that_is_read_only_has_its_remedy(shell, make_client, monkeypatch, capsys):
    """Another folder takes loading again, and that is said."""
    monkeypatch.setattr(journal_facts.os, "access", lambda *_: False)
    shell.controller.use(make_client())
    capsys.readouterr()
    shell.run_cell("%llm_batch doctor", store_history=False)
    assert "and then %reload_ext jupyter_llm_batch" in capsys.readouterr().out


# -- the verdict -----------------------------------------------------------------------------------


def said(shell, capsys, line="%llm_batch doctor"):
    """Run a line; return its first line of output, and all of it."""
    capsys.readouterr()
    result = shell.run_cell(line, store_history=False)
    assert result.success, result.error_in_exec
    out = capsys.readouterr().out.replace("\\n", "\n")
    return out.splitlines()[0], out


def test_the_verdict_comes_first(shell, make_client, sim, capsys):
    """One line says whether batches can be sent, and by whom."""
    environ = {**sim.environ(), "ANTHROPIC_BASE_URL": DEAD}
    shell.controller.use(make_client(environ=environ))
    first, _ = said(shell, capsys)
    assert first.startswith("Ready: google, openai. Not usable: anthropic: no answer, ")


def test_without_a_key_the_verdict_says_what_to_do(shell, make_client, sim, capsys):
    """No key is the first thing that a newcomer has to know."""
    urls = {name: value for name, value in sim.environ().items() if "KEY" not in name}
    shell.controller.use(make_client(environ=urls))
    first, _ = said(shell, capsys)
    assert first.startswith("Not ready: no provider has a key. `%llm_batch login openai`")


def test_keys_are_tried_where_that_is_wanted(shell, make_client, sim, capsys):
    """A refused key is told with the provider's words, an accepted one too; nothing is paid."""
    path = f"{urlsplit(sim.openai_url).path}/batches"
    sim.fault(action="status", status=401, method="GET", path=path, times=None)
    environ = {**sim.environ()}
    del environ["ANTHROPIC_API_KEY"]
    shell.controller.use(make_client(environ=environ))
    first, out = said(shell, capsys, "%llm_batch doctor --check-keys")
    assert "openai: " in first.partition("Not usable")[2]
    assert "401" in first
    lines = {" ".join(line.split("  ")[0].split()): line for line in out.splitlines()}
    assert "not accepted" in lines["openai key"]
    assert " accepted" in lines["google key"]
    assert sim.ledger() == []


def test_doctor_survives_a_journal_that_cannot_be_opened(shell, monkeypatch, capsys):
    """The verdict says so, and what does not need the journal is told all the same."""

    def broken(*_, **__):
        raise StoreProblem("the journal cannot be used now: no room")

    monkeypatch.setattr(clients, "Client", broken)
    shell.controller.clients._client = None
    first, out = said(shell, capsys)
    assert first.startswith("Not ready: the journal cannot be used")
    assert "front end" in out


def test_doctor_survives_whatever_breaks_a_part_of_it(shell, make_client, monkeypatch, capsys):
    """The part is a line that says so, and a report about it is written without contents."""

    def broken(*_):
        raise KeyError("what is the secret prompt")

    shell.controller.use(make_client())
    monkeypatch.setattr(journal_facts.location, "place_of", broken)
    shell.controller.client.submit(
        name="x", over=["a secret prompt"], model="openai:gpt-5-mini"
    ).wait(60)
    first, out = said(shell, capsys)
    trouble.defects.clear()
    assert first.startswith("Ready: ")
    assert "cannot be examined" in out
    path = Path(out.partition("Report: ")[2].partition(" holds ")[0])
    text = path.read_text()
    assert "place_of" in text
    assert "openai chat batch done" in text
    assert "secret" not in text
    assert path.stat().st_mode & 0o077 == 0
