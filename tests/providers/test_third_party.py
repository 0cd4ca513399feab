"""The adapter of docs/providers.md, installed as a package of somebody else's and used."""

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support import KEYS

ROOT = Path(__file__).parents[2]
KEY = KEYS["odd"]

SCRIPT = """
import sys
from pathlib import Path
import jupyter_llm_batch as llm_batch
from jupyter_llm_batch.core.errors import LLMBatchError
from jupyter_llm_batch.core.policy import Policy

client = llm_batch.Client(
    folder=Path(sys.argv[1]), notebook="nb",
    policy=Policy(poll=0.02, poll_longest=0.05, retry=0.02, retry_longest=0.1, settle=0.2),
)
cell = {"text": "Say {{ item }}", "over": ["a", "fail b", "c"], "model": "acme:acme-1", "retry": 0}
handle = client.submit(name="x", **cell)
handle.wait(60)
print(handle.answers())
print([str(each.outcome) for each in handle.results()])
print(client.submit(name="x", **cell).attached)
try:
    client.submit(name="y", over=["a"], model="acme:acme-1", embed=True)
except LLMBatchError as error:
    print(error)
"""


class Acme(BaseHTTPRequestHandler):
    """A small batch server: answers each prompt in capitals; the state is the server object's."""

    def log_message(self, *args):
        pass

    def _reply(self, body, status=200):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self):
        batches, path = self.server.batches, urlsplit(self.path).path
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        if self.headers["Authorization"] != f"Bearer {self.server.key}":
            self._reply({"error": f"wrong key {self.headers['Authorization']}"}, 401)
        elif (self.command, path) == ("POST", "/batches"):
            made = {"id": f"b{len(batches)}", "state": "running", "label": body["label"]}
            batches[made["id"]] = made, body["requests"]
            if self.server.lose > 0:
                self.server.lose -= 1
                self.close_connection = True  # the batch exists, and nobody is told
                return
            self._reply(made)
        elif path == "/batches":
            self._reply({"batches": [made for made, _ in batches.values()]})
        elif path.endswith("/results"):
            self._reply(b"".join(line(each) for each in batches[path.split("/")[2]][1]))
        else:
            made = batches[path.split("/")[2]][0]
            made["state"] = "cancelled" if path.endswith("/cancel") else "done"
            self._reply(made)

    do_GET = do_POST = _handle  # noqa: N815


def line(request):
    prompt = request["prompt"]
    answer = {"error": "no"} if "fail" in prompt else {"text": prompt.upper()}
    return json.dumps({"id": request["id"], **answer}).encode() + b"\n"


@pytest.fixture
def server():
    """The server, on loopback."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), Acme)
    made.batches, made.key, made.lose = {}, KEY, 0
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def code():
    """Return the adapter and the entry point as the document has them."""
    text = (ROOT / "docs" / "providers.md").read_text()
    blocks = dict(re.findall(r"```(python|toml)\n(.*?)```", text, re.DOTALL))
    return blocks["python"], blocks["toml"]


@pytest.fixture
def run(tmp_path, server):
    """Install the adapter as a distribution and return what runs code beside it."""
    python, toml = code()
    site = tmp_path / "site"
    info = site / "acme_batch-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_batch.py").write_text(python)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-batch\nVersion: 1.0\n")
    group = re.search(r'entry-points\."(.*?)"', toml)[1]
    name, target = re.search(r'^(\w+) = "(.*?)"', toml, re.MULTILINE).groups()
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    environ = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}

    def run(script, key=KEY):
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "data")],
            env=environ
            | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "ACME_API_KEY": key}
            | {"ACME_BASE_URL": f"http://127.0.0.1:{server.server_port}"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_the_adapter_in_the_document_is_short():
    """A provider needs no more than eighty lines."""
    lines = [each for each in code()[0].splitlines() if each.strip()]
    assert len(lines) <= 80


def test_a_package_of_somebody_else_is_a_provider(run, server):
    """Its model answers, failed rows are told, the cell attaches, its own refusals are one line."""
    done = run(SCRIPT)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["['SAY A', None, 'SAY C']", "['ok', 'failed', 'ok']", "True"], done.stderr
    assert "acme answers plain prompts" in lines[3]
    assert len(server.batches) == 1
    assert KEY not in done.stdout + done.stderr


def test_a_create_whose_answer_is_lost_is_found_and_paid_once(run, server):
    """The short adapter keeps the promise: the lost create is looked up by its label."""
    server.lose = 1
    done = run(SCRIPT)
    assert done.stdout.startswith("['SAY A'"), done.stderr
    assert len(server.batches) == 1


def test_its_key_is_concealed_like_ours(run, server):
    """A server that repeats the refused key, of no known form, leads to a message without it."""
    server.key = "another"
    script = SCRIPT.partition("handle.wait")[0] + textwrap.dedent("""
        import time
        while not (error := client.store.jobs(handle.id)[0].error):
            time.sleep(0.02)
        print(error)
        print(handle)
    """)
    done = run(script)
    assert "401" in done.stdout, done.stderr
    assert "[key]" in done.stdout
    assert KEY not in done.stdout + done.stderr


def test_without_its_key_the_adapter_says_where_to_get_one(run, server):
    """The adapter's own words come out of `submit`, and nothing is sent."""
    done = run(SCRIPT, key="")
    assert "ACME_API_KEY is not set: get a key at https://acme.example/keys" in done.stderr
    assert server.batches == {}
