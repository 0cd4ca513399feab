"""Being told that a batch is done: once, and nothing of its contents."""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support import until

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.storage import trust
from jupyter_llm_batch.submission import notify_target

MODEL = "openai:gpt-5-mini"


class Hook:
    """A web server that keeps what it gets."""

    def __init__(self, status=200, headers=None):
        self.got = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers["Content-Length"])
                got.append((dict(self.headers), self.rfile.read(size)))
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?batch=secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def make_hook():
    """Return web servers that are closed with the test."""
    made = []

    def make(**options):
        made.append(Hook(**options))
        return made[-1]

    yield make
    for hook in made:
        hook.close()


def run(client, notified, name="x", **options):
    handle = client.submit(name=name, over=["top secret prompt"], model=MODEL, notify=notified,
                           **options)  # fmt: skip
    handle.wait(60)
    return handle


def came_of(client, handle):
    """Wait until the notice was tried, and return what came of it."""
    end = time.monotonic() + 30
    while True:
        found = [
            e["detail"] for e in client.store.events.of_batch(handle.id) if e["event"] == "notice"
        ]
        if found:
            return found
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_url_gets_counts_and_no_contents(client, make_hook):
    """Name, state and counts as JSON, once; no prompt, no answer, no key."""
    hook = make_hook()
    handle = run(client, hook.url)
    assert came_of(client, handle) == ["sent: HTTP 200"]
    ((headers, body),) = hook.got
    told = json.loads(body)
    assert set(told) == {"name", "state", "rows", "ok", "failed", "simulated", "text"}
    assert (told["name"], told["state"], told["ok"]) == ("x", "done", 1)
    assert b"secret prompt" not in body
    everything = str(headers) + body.decode()
    assert client.environ["OPENAI_API_KEY"] not in everything
    assert handle.answers()[0] not in everything


def test_it_is_told_once_across_restarts_and_watchers(make_client, make_hook):
    """Later clients on the journal find that the end was told."""
    hook = make_hook()
    client = make_client()
    handle = run(client, hook.url)
    came_of(client, handle)
    client.close()
    for _ in range(2):
        later = make_client()
        later.poller()
        run(later, "", name="y", resubmit=True)  # its poller has looked around since
        later.close()
    assert len(hook.got) == 1


def test_an_end_that_nobody_told_is_told_after_a_restart(make_client, make_hook):
    """Whoever ended the batch died before it took the telling on: the next process does it."""
    hook = make_hook()
    client = make_client()
    handle = run(client, "")
    shape = handle.record.shape
    client.close()
    later = make_client()
    later.store.use_again(handle.id, shape=shape, notify=hook.url)
    later.poller()
    came_of(later, handle)
    assert len(hook.got) == 1


def test_only_one_process_takes_it_on(make_client):
    """Claiming is one transaction: of two, one gets it, and a new end may be told again."""
    first, second = make_client(), make_client()
    handle = run(first, "")
    claims = [each.store.events.claim_notice(handle.id) for each in (first, second)]
    assert claims == [True, False]


def test_a_redirect_is_not_followed(client, make_hook):
    """Facts go to the URL that the user gave and to no other."""
    other = make_hook()
    hook = make_hook(status=307, headers={"Location": other.url})
    handle = run(client, hook.url)
    assert came_of(client, handle) == ["failed: HTTP 307"]
    assert len(hook.got) == 1
    assert other.got == []


def test_a_dead_url_harms_nothing_and_is_not_quoted(client):
    """The batch is done all the same, and the journal's note holds no secret of the URL."""
    handle = run(client, "http://127.0.0.1:9/hook?batch=secret")
    (note,) = came_of(client, handle)
    assert note.startswith("failed")
    assert "secret" not in note
    assert handle.done


@pytest.fixture
def new_process(tmp_path, monkeypatch):
    """Forget what the user set in this process, as a restarted kernel does."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(trust, "_here", set())
    return lambda: monkeypatch.setattr(trust, "_here", set())


def brought_along(make_client, command):
    """Have a batch end whose command stands in the journal only; return client and batch."""
    client = make_client()
    handle = run(client, "")
    shape = handle.record.shape
    client.close()
    client = make_client()
    client.store.use_again(handle.id, shape=shape, notify=command)
    client.poller()
    until(lambda: client.store.events.unnotified(0.0) == [])
    return client, handle


def test_a_command_that_a_journal_brings_along_is_not_run(make_client, tmp_path, new_process):
    """A data folder may be anybody's: the batch says in one line that nothing was run."""
    (tmp_path / "tell.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    client, handle = brought_along(make_client, f"{sys.executable} {tmp_path / 'tell.py'}")
    until(lambda: "was not run" in client.store.batch(handle.id).notice)
    assert "\n" not in client.get("x").snapshot().notice
    assert not (tmp_path / "ran").exists()


def test_a_command_that_the_user_set_runs_after_a_restart(make_client, tmp_path, new_process):
    """It is remembered outside the data folder, as a hash, for this user alone."""
    (tmp_path / "tell.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    command = f"{sys.executable} {tmp_path / 'tell.py'}"
    client = make_client()
    client.preview("a", name="y", model=MODEL, notify=command)
    client.close()
    new_process()
    client, handle = brought_along(make_client, command)
    assert came_of(client, handle) == ["sent: exit code 0"]
    assert (tmp_path / "ran").exists()
    (kept,) = (each for each in (tmp_path / "config").rglob("*") if each.is_file())
    assert kept.read_bytes() == b""
    assert not kept.stat().st_mode & 0o077


def test_a_draft_of_a_journal_makes_no_command_this_users_own(make_client, tmp_path, new_process):
    """Sending what was collected elsewhere runs nothing, unlike a cell with the command."""
    client = make_client()
    client.add("a", name="x", model=MODEL, notify=f"{sys.executable} -c pass")
    for path in (tmp_path / "config").rglob("*"):
        path.is_file() and path.unlink()
    new_process()
    handle = client.submit_draft("x").wait(60)
    until(lambda: "was not run" in client.store.batch(handle.id).notice)


def test_a_command_gets_facts_in_its_environment(client, tmp_path, new_process):
    """No shell: the words stay as they were written, the facts are variables."""
    out = tmp_path / "told; touch hacked.json"
    script = tmp_path / "tell.py"
    script.write_text(
        "import json, os, sys\n"
        "json.dump({k: v for k, v in os.environ.items() if k.startswith('LLM_BATCH_')},"
        " open(sys.argv[1], 'w'))\n"
    )
    handle = run(client, f"{sys.executable} {script} '{out}'")
    assert came_of(client, handle) == ["sent: exit code 0"]
    told = json.loads(out.read_text())
    assert (told["LLM_BATCH_NAME"], told["LLM_BATCH_STATE"], told["LLM_BATCH_OK"]) == (
        "x", "done", "1",
    )  # fmt: skip
    assert sorted(each.name for each in tmp_path.iterdir() if "told" in each.name) == [out.name]


@pytest.mark.skipif(sys.platform != "linux", reason="notify-send is of Linux")
def test_the_desktop_is_told_by_its_own_program(client, tmp_path, monkeypatch):
    """`desktop` runs notify-send with the name and the counts as words of their own."""
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/shown\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    came_of(client, run(client, "desktop"))
    shown = (tmp_path / "shown").read_text().splitlines()
    assert shown[-2:] == ["x is done", "1 of 1 rows answered"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("ftp://host/x", "https"),
        ("https://", "https"),
        ("no-such-program --flag", "no-such-program"),
        ("'open", "quot"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(client, sim, wanted, words):
    """A wrong --notify is one line, and nothing was sent."""
    with pytest.raises(UsageProblem, match=words):
        client.submit(name="x", over=["a"], model=MODEL, notify=wanted)
    assert not sim.requests()


def test_a_default_is_used_and_can_be_switched_off(make_client, make_hook):
    """`Settings.notify` holds for every batch; `off` is for one."""
    hook = make_hook()
    client = make_client(settings=Settings(notify=hook.url))
    assert run(client, None, name="a").record.notify == hook.url
    assert run(client, "off", name="b").record.notify == ""
    assert notify_target.check("DESKTOP") == "desktop"
