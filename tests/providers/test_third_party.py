"""The adapter of docs/providers.md, installed as a package of somebody else's and used."""

import ast
import asyncio
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_acme import FakeAcme
from support import KEYS

from jupyter_llm_batch.providers import Adapter, UsageProblem
from jupyter_llm_batch.providers.base import completed

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


@pytest.fixture
def server():
    """The server, on loopback."""
    with FakeAcme(KEY) as made:
        yield made


def code():
    """Return what the document has: adapter, real time, contract test, and the entry point."""
    text = (ROOT / "docs" / "providers.md").read_text()
    blocks = re.findall(r"```(python|toml)\n(.*?)```", text, re.DOTALL)
    toml = next(block for kind, block in blocks if kind == "toml")
    adapter, realtime, contract = (block for kind, block in blocks if kind == "python")
    return adapter, realtime, contract, toml


@pytest.fixture
def run(tmp_path, server):
    """Install the adapter as a distribution and return what runs code beside it."""
    adapter, realtime, contract, toml = code()
    site = tmp_path / "site"
    info = site / "acme_batch-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_batch.py").write_text(adapter)
    (site / "acme_now.py").write_text(realtime)
    (site / "test_acme.py").write_text(contract)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-batch\nVersion: 1.0\n")
    group = re.search(r'entry-points\."(.*?)"', toml)[1]
    name, target = re.search(r'^(\w+) = "(.*?)"', toml, re.MULTILINE).groups()
    entries = f"[{group}]\n{name} = {target}\n{name}_now = acme_now:AcmeInRealTime\n"
    (info / "entry_points.txt").write_text(entries)
    path = os.pathsep.join(map(str, (site, ROOT, ROOT / "tests")))
    environ = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}

    def run(script, key=KEY):
        command = ["-c", textwrap.dedent(script), str(tmp_path / "data")]
        if not script:
            command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(site / "test_acme.py")]
        return subprocess.run(
            [sys.executable, *command],
            cwd=site,
            env=environ
            | {
                "PYTHONPATH": path,
                "ACME_API_KEY": key,
            }
            | {"ACME_BASE_URL": f"http://127.0.0.1:{server.server_port}"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_the_adapter_in_the_document_is_short():
    """A provider needs no more than seventy lines."""
    lines = [each for each in code()[0].splitlines() if each.strip()]
    assert len(lines) <= 70


def test_all_that_an_adapter_imports_is_in_one_place():
    """Nothing of ours but `jupyter_llm_batch.providers` and, for its tests, `.testing`."""
    for block in code()[:3]:
        for node in ast.walk(ast.parse(block)):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not module.startswith("jupyter_llm_batch") or module in {
                "jupyter_llm_batch.providers",
                "jupyter_llm_batch.providers.testing",
            }
            assert not isinstance(node, ast.Import) or "jupyter_llm_batch" not in node.names[0].name


def test_the_adapter_in_the_document_keeps_the_contract(run):
    """The shipped tests pass; the two that its fake server cannot serve are skipped."""
    done = run("")
    assert "13 passed, 2 skipped" in done.stdout, done.stdout + done.stderr


def test_real_time_is_refused_in_one_line_without_it(run, server):
    """`--realtime`, `--sample` and `--deadline` say so before anything is sent."""
    script = SCRIPT.partition("handle =")[0] + textwrap.dedent("""
        for more in ({"realtime": True}, {"sample": 1}, {"deadline": "1h"}):
            try:
                client.submit(name="x", **cell, **more)
            except LLMBatchError as error:
                print(error)
    """)
    done = run(script)
    assert done.stdout.splitlines() == [
        f"acme has no real time, which {option} needs: leave {option} out"
        for option in ("--realtime", "--sample", "--deadline")
    ], done.stderr
    assert server.batches == {}


def test_a_few_lines_add_real_time(run, server):
    """The second example answers every row, and nothing becomes a batch."""
    script = SCRIPT.replace("acme:acme-1", "acme_now:acme-1").replace(
        '"retry": 0}', '"retry": 0, "realtime": True}'
    )
    done = run(script)
    assert done.stdout.splitlines()[:2] == [
        "['SAY A', None, 'SAY C']",
        "['ok', 'failed', 'ok']",
    ], done.stderr
    assert server.batches == {}


def test_an_adapter_of_its_own_class_gets_the_defaults():
    """An adapter that does not derive from ours is completed; one that lacks a must is told."""
    adapter = SimpleNamespace(**dict.fromkeys(Adapter.__abstractmethods__, print), name="x")
    whole = completed("x", adapter)
    assert asyncio.run(whole.forget(None)) is None
    del adapter.create
    with pytest.raises(UsageProblem, match="the adapter of 'x' has no create"):
        completed("x", adapter)


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
