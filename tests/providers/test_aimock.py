"""The OpenAI adapter and the client against aimock, a server that others wrote.

It is installed by npm, once, into pytest's cache; without node or npm's registry these tests are
skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support import FAST

from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.job import Counts, Job, JobState, Phase
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.providers.openai import requests as wire
from jupyter_llm_batch.providers.registry import make

PACKAGE, VERSION, COMMAND = "@copilotkit/aimock", "1.43.0", "llmock"
MODEL = "gpt-5-mini"
#: What every row of a batch is answered.
ANSWER = "Mock batch completion"


@pytest.fixture(scope="session")
def command(pytestconfig):
    """Return the installed command."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no node and npm here, which aimock needs")
    folder = Path(pytestconfig.cache.mkdir(f"aimock-{VERSION}"))
    found = folder / "node_modules" / ".bin" / COMMAND
    if not found.exists():
        install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
        done = subprocess.run(
            [*install, str(folder), f"{PACKAGE}@{VERSION}"],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if not found.exists():
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-200:]}")
    return [node, str(found)]


@pytest.fixture(scope="module")
def url(command, tmp_path_factory):
    """Return the address of a running server."""
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "fixtures.json").write_text('{"fixtures": []}')
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "-p", "0", "-f", "fixtures.json"], cwd=folder, stdout=file, stderr=file
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(10)


def _address(process, log):
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for word in log.read_text().split():
            if word.startswith("http://"):
                with contextlib.suppress(urllib.error.URLError):
                    urllib.request.urlopen(f"{word}/v1/batches").close()
                    return word
        time.sleep(0.05)
    raise AssertionError(f"aimock did not start: {log.read_text()}")


def environ(url, outcome):
    return {
        "OPENAI_API_KEY": "test",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_CUSTOM_HEADERS": f"X-AIMock-Batch-Outcome: {outcome}",
    }


#: How each outcome ends: phase, counts, what the rows that have a line are, what the others are.
ENDS = {
    "completed": (Phase.ENDED, Counts(total=2, done=2), Outcome.OK, None),
    "failed": (Phase.ENDED, Counts(total=2, failed=2), Outcome.FAILED, Outcome.FAILED),
    "expired": (Phase.ENDED, Counts(total=2), None, Outcome.EXPIRED),
    "cancelled": (Phase.ENDED, Counts(total=2), None, Outcome.CANCELLED),
}


@pytest.mark.parametrize("outcome", ENDS)
def test_the_adapter_carries_a_job_to_its_end(url, outcome, tmp_path):
    """Upload, create, look-up, polls and downloads; the end is told as it is."""
    phase, counts, told, rest = ENDS[outcome]
    payload = tmp_path / "job.jsonl"
    encode = wire.encoder(Recipe(), MODEL)
    payload.write_bytes(b"".join(encode(f"b-{n}", f"prompt {n}") for n in range(2)))
    job = Job(
        id="b-r0-j1", batch_id="b", round=0, number=1, provider="openai", model=MODEL,
        endpoint="chat", rows=2, bytes=payload.stat().st_size, payload=payload.name,
    )  # fmt: skip

    async def main():
        adapter = make("openai", environ(url, outcome))
        upload_id = await adapter.upload(job, payload)
        made = await adapter.create(job, payload, upload_id, f"label-{outcome}")
        assert (made.state, made.phase, made.counts) == ("validating", Phase.ACTIVE, Counts())
        found = await adapter.find(f"label-{outcome}", job, time.time() - 60)
        assert found is not None
        assert found.remote_id == made.remote_id
        running = await adapter.retrieve(made.remote_id)
        while running.phase is Phase.ACTIVE:
            running = await adapter.retrieve(made.remote_id)
        sink = io.BytesIO()
        for part, ref in running.parts.items():
            await adapter.fetch(made.remote_id, part, ref, sink)
        again = await adapter.cancel(made.remote_id)
        await adapter.close()
        return (
            running,
            again,
            [adapter.parse(line, "chat") for line in sink.getvalue().splitlines()],
        )

    ended, again, results = asyncio.run(main())
    assert (ended.state, ended.phase, ended.counts, ended.rest) == (outcome, phase, counts, rest)
    assert (again.state, again.phase) == (outcome, phase)
    assert [result.outcome for result in results] == ([told, told] if told else [])
    assert {result.custom_id for result in results} == ({"b-0", "b-1"} if told else set())


def test_the_adapter_cancels_a_job(url, tmp_path):
    """A cancel of a job that has not ended is taken, and the job ends as cancelled."""
    payload = tmp_path / "job.jsonl"
    payload.write_bytes(wire.encoder(Recipe(), MODEL)("b-0", "prompt"))
    job = Job(
        id="b-r0-j1", batch_id="b", round=0, number=1, provider="openai", model=MODEL,
        endpoint="chat", rows=1, bytes=payload.stat().st_size, payload=payload.name,
    )  # fmt: skip

    async def main():
        adapter = make("openai", environ(url, "completed"))
        made = await adapter.create(job, payload, await adapter.upload(job, payload), "label")
        cancelled = await adapter.cancel(made.remote_id)
        ended = await adapter.retrieve(made.remote_id)
        while ended.phase is Phase.ACTIVE:
            ended = await adapter.retrieve(made.remote_id)
        await adapter.close()
        return cancelled, ended

    cancelled, ended = asyncio.run(main())
    assert cancelled.state in {"cancelling", "cancelled"}
    assert (ended.state, ended.rest) == ("cancelled", Outcome.CANCELLED)


@pytest.fixture
def client_of(url, tmp_path):
    made = []

    def make_client(outcome):
        client = Client(
            environ=environ(url, outcome), folder=tmp_path / outcome, notebook="n", policy=FAST
        )
        made.append(client)
        return client

    yield make_client
    for client in made:
        client.close()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("completed", Outcome.OK),
        ("failed", Outcome.FAILED),
        ("expired", Outcome.EXPIRED),
        ("cancelled", Outcome.CANCELLED),
    ],
)
def test_a_batch_ends_as_the_server_says(client_of, outcome, expected):
    """Every row has its outcome, and an answer where there is one."""
    client = client_of(outcome)
    handle = client.submit(name="x", over=["a", "b"], model=f"openai:{MODEL}", retry=0).wait(60)
    assert [result.outcome for result in handle.results()] == [expected] * 2
    answers = [ANSWER] * 2 if expected is Outcome.OK else [None] * 2
    assert handle.answers() == answers
    (job,) = client.store.jobs(handle.id)
    assert job.state is JobState.DONE


def test_a_running_batch_is_cancelled(client_of):
    """A cancel ends the batch there and here, whatever it would have become."""
    client = client_of("completed")
    handle = client.submit(name="x", over=["a", "b"], model=f"openai:{MODEL}", retry=0)
    handle.cancel().wait(60)
    outcomes = {result.outcome for result in handle.results()}
    assert outcomes <= {Outcome.CANCELLED, Outcome.OK}
    assert len(outcomes) == 1
