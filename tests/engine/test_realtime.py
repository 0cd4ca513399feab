"""`--realtime`: the same batch through the ordinary endpoints, durable row by row."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import mark, until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.ids import custom_id
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.core.request import Mode
from jupyter_llm_batch.providers import registry
from jupyter_llm_batch.storage.realtime_log import Past, RowLog

MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]
OPENAI = MODELS[0]

#: What one request of each provider ends with.
PATHS = ["*/chat/completions", "*/v1/messages", "*:generateContent"]


def start(client, over, model=OPENAI, name="x", **options):
    options = {"realtime": True, "max_tokens": 200} | options
    return client.submit(name=name, over=over, model=model, **options)


def run(client, over, model=OPENAI, **options):
    return start(client, over, model, **options).wait(60)


def billed(sim):
    """Return how often each prompt was billed, by the simulator's mark."""
    return Counter(entry["prompt_mark"] for entry in sim.ledger())


def prompts(number):
    return [f"prompt {i}" for i in range(number)]


@pytest.mark.parametrize("model", MODELS)
def test_a_list_is_answered_row_by_row(client, sim, model):
    """Each answer stands where its prompt stood; each was asked once and in real time."""
    asked = prompts(40)
    answers = run(client, asked, model).answers()
    assert all(mark(p) in a for p, a in zip(asked, answers, strict=True))
    assert {entry["mode"] for entry in sim.ledger()} == {"realtime"}
    assert set(billed(sim).values()) == {1}
    assert len(billed(sim)) == 40


@pytest.mark.parametrize("model", MODELS)
def test_every_row_ends_as_exactly_one_outcome(client, model):
    """A refused request, a declined one and one that broke are told apart, as in a batch."""
    over = ["fine", "a [[sim:fail-400]]", "b [[sim:refuse]]", "c [[sim:fail-500]]"]
    handle = run(client, over, model, retry=0)
    results = handle.results()
    assert [result.outcome for result in results] == [
        Outcome.OK, Outcome.FAILED, Outcome.REFUSED, Outcome.MISSING,
    ]  # fmt: skip
    # Nobody knows whether a request that broke on the other side is on the bill.
    assert [result.billed for result in results] == [True, False, True, True]


def test_embeddings_and_responses_work_too(client):
    """The endpoint of the line is the endpoint that is asked."""
    handle = start(client, ["a", "b"], "openai:text-embedding-3-small", embed=True, max_tokens=None)
    assert all(len(vector) > 8 for vector in handle.wait(60).answers())
    handle = run(client, ["hey"], endpoint="responses", name="r")
    assert mark("hey") in handle.answers()[0]
    handle = start(
        client, ["a"], "google:gemini-embedding-001", name="g", embed=True, max_tokens=None
    )
    assert len(handle.wait(60).answers()[0]) > 8


def test_the_same_cell_attaches_whether_batch_or_real_time(client, sim):
    """What was asked in real time is not asked again as a batch, nor the other way round."""
    run(client, ["a", "b"])
    handle = client.submit(name="x", over=["a", "b"], model=OPENAI, max_tokens=200)
    assert handle.attached
    client.submit(name="x", over=["a", "b", "c"], model=OPENAI, max_tokens=200).wait(60)
    assert set(billed(sim).values()) == {1}


def test_it_costs_the_full_price(client):
    """Real time costs what real time costs, and nothing is saved."""
    both = ["p", "q"]
    real = run(client, both, name="r").snapshot()
    batch = client.submit(name="b", over=both, model=OPENAI, max_tokens=200).wait(60).snapshot()
    assert real.cost == pytest.approx(2 * batch.cost)
    assert not real.saved
    assert real.cost == pytest.approx(batch.cost + batch.saved)


def test_a_rate_limit_is_kept_and_loses_nothing(client, sim):
    """Under a limit of ten requests per window, all rows are answered and billed once."""
    sim.behave(rate_limit=10, rate_seconds=0.3)
    for model in MODELS[::2]:
        asked = [f"{model} {i}" for i in range(35)]
        answers = run(client, asked, model, name=f"x{model[0]}").answers()
        assert all(mark(p) in a for p, a in zip(asked, answers, strict=True))
    assert set(billed(sim).values()) == {1}


def test_a_row_that_is_always_turned_away_ends_as_failed(client):
    """A 429 that never ends fails its row, unbilled, and holds up no other."""
    handle = run(client, ["a", "b [[sim:fail-429]]", "c"], retry=0)
    results = handle.results()
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.FAILED, Outcome.OK]
    assert not results[1].billed
    assert handle.snapshot().errors[0].kind == "failed: turned_away"


@pytest.mark.parametrize(("model", "path"), [*zip(MODELS, PATHS, strict=True)])
def test_an_answer_that_got_lost_is_not_asked_for_again(client, sim, model, path):
    """The connection broke after the request was taken: the row is missing, and billed once."""
    sim.fault(action="accept_then_drop", path=path, times=1, after=2)
    handle = run(client, prompts(6), model)
    outcomes = Counter(result.outcome for result in handle.results())
    assert outcomes == {Outcome.OK: 5, Outcome.MISSING: 1}
    assert set(billed(sim).values()) == {1}
    assert handle.retry(confirm=True) == 1
    handle.wait(60)
    assert Counter(result.outcome for result in handle.results()) == {Outcome.OK: 6}
    jobs = client.store.jobs(handle.id)
    assert [job.mode for job in jobs] == [Mode.REALTIME, Mode.REALTIME]


def test_an_outage_stops_the_asking(client, sim):
    """While everything breaks, only a few rows are risked; after it, the others are asked."""
    sim.fault(action="status", status=503, path=PATHS[0], times=6)
    handle = run(client, prompts(40))
    outcomes = Counter(result.outcome for result in handle.results())
    assert outcomes == {Outcome.OK: 34, Outcome.MISSING: 6}


def test_nobody_at_home_means_waiting(make_client, sim):
    """A refused connection asks nothing; the panel says so, and a cancel ends it unbilled."""
    client = make_client(environ=sim.environ() | {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    handle = start(client, prompts(3))
    until(lambda: client.store.jobs(handle.id)[0].error)
    assert "cannot be reached" in client.store.jobs(handle.id)[0].error
    assert "real time at OpenAI" in handle.snapshot().words
    handle.cancel().wait(60)
    assert {result.outcome for result in handle.results()} == {Outcome.CANCELLED}


def test_an_unknown_model_asks_nothing(client, sim):
    """A mistyped model ends the job with one line instead of one error per row."""
    handle = run(client, prompts(20), "openai:unknown-model", retry=0)
    assert {result.outcome for result in handle.results()} == {Outcome.FAILED}
    assert "does not know the model" in handle.snapshot().words
    asked = [seen for seen in sim.requests() if seen["path"].endswith("/chat/completions")]
    assert not asked


def test_cancelling_keeps_what_is_under_way(client, sim):
    """After a cancel nothing more is asked; what was asked is awaited and kept."""
    sim.behave(realtime_seconds=0.2)
    handle = start(client, prompts(300))
    until(lambda: handle.snapshot().progress)
    handle.cancel().wait(60)
    outcomes = Counter(result.outcome for result in handle.results())
    assert set(outcomes) == {Outcome.OK, Outcome.CANCELLED}
    assert outcomes[Outcome.OK] == len(sim.ledger())


def test_the_panel_says_that_this_kernel_works(client, sim):
    """Real time is not safe to close; the counts rise while it goes on."""
    sim.behave(realtime_seconds=1)
    handle = start(client, prompts(100))
    until(lambda: handle.snapshot().progress)
    shot = handle.snapshot()
    assert shot.words.startswith("real time at OpenAI")
    assert not shot.safe_to_close
    assert shot.realtime
    sim.behave(realtime_seconds=0)
    handle.wait(60)
    assert not handle.snapshot().realtime


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support import FAST
from jupyter_llm_batch.client.client import Client
client = Client(environ={environ!r}, folder=Path({folder!r}), notebook="nb.ipynb", simulated=True,
                policy=FAST)
over = [f"prompt {{i}}" for i in range({rows})]
client.submit(name="x", over=over, model={model!r}, realtime=True, max_tokens=200).wait(60)
"""


def kernel(sim, folder, rows, model=OPENAI):
    """Start a process that submits in real time and waits."""
    tests = str(Path(__file__).parents[1])
    script = SCRIPT.format(
        tests=tests, environ=sim.environ(), folder=str(folder), rows=rows, model=model
    )
    return subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(
        Path(tests).parent)})  # fmt: skip


@pytest.mark.parametrize("after", [1, 7, 23, 55])
@pytest.mark.parametrize("model", MODELS)
def test_a_killed_kernel_loses_and_pays_nothing_twice(make_client, sim, tmp_path, model, after):
    """SIGKILL in the middle, a new kernel goes on: each row billed once at most.

    What was billed is answered, or missing where its answer never reached this machine; all that
    was not asked yet is asked by the second kernel.
    """
    sim.behave(realtime_seconds=0.05)
    process = kernel(sim, tmp_path / "data", 80, model)
    until(lambda: len(sim.ledger()) >= after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    client = make_client()
    handle = client.get("x").wait(60)
    results = handle.results()
    outcomes = Counter(result.outcome for result in results)
    assert set(outcomes) <= {Outcome.OK, Outcome.MISSING}
    assert outcomes[Outcome.MISSING] <= 64
    bills = billed(sim)
    assert set(bills.values()) == {1}
    for row, result in enumerate(results):
        if result.outcome is Outcome.MISSING:
            assert "in real time" in result.error
        if result.outcome is Outcome.OK:
            assert mark(f"prompt {row}") in result.text
            assert bills[mark(f"prompt {row}")] == 1
    assert handle.retry(confirm=True) == outcomes[Outcome.MISSING] or not outcomes[Outcome.MISSING]


def test_a_frozen_kernel_that_wakes_asks_nothing_more(make_client, sim, tmp_path):
    """SIGSTOP, another kernel takes over and ends it, SIGCONT: each row was billed once."""
    sim.behave(realtime_seconds=0.05)
    process = kernel(sim, tmp_path / "data", 60)
    until(lambda: len(sim.ledger()) >= 8)
    process.send_signal(signal.SIGSTOP)
    ahead = [0.0]
    import time

    client = make_client(clock=lambda: time.time() + ahead[0])
    ahead[0] = 60.0  # the lease of the frozen kernel is stale by now
    handle = client.get("x").wait(60)
    process.send_signal(signal.SIGCONT)
    process.wait(60)
    outcomes = Counter(result.outcome for result in handle.results())
    assert set(outcomes) <= {Outcome.OK, Outcome.MISSING}
    assert set(billed(sim).values()) == {1}


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_answer_that_comes_while_others_are_collected_counts(
    client, sim, monkeypatch, cancelled
):
    """A process that was frozen and wakes then writes its answer into a log of its own."""
    ends = client.poller()._polling._driver._collector
    reconcile, collect = ends._reconcile, ends._collect_here

    def wake(job):
        folder = client.store.folder_of(job.batch_id)
        row, line = next(
            (row, line) for line in Past(folder, job).lines() for row in Past(folder, job).open
        )
        theirs = re.sub(
            rb'(?<=")[a-z0-9]+-[0-9]+(?=")', custom_id(job.batch_id, row).encode(), line
        )
        log = RowLog(folder, job, 0, [])
        log.answered(row, theirs, ok=True)
        log.close()

    async def woken_while_reading(batch, job, adapter):
        found = await reconcile(batch, job, adapter)
        if Past(client.store.folder_of(job.batch_id), job).open:
            wake(job)
        return found

    async def woken_before(held, batch, job, adapter):
        wake(job)
        await collect(held, batch, job, adapter)

    if cancelled:
        monkeypatch.setattr(ends, "_collect_here", woken_before)
        sim.behave(realtime_seconds=0.2)
    else:
        monkeypatch.setattr(ends, "_reconcile", woken_while_reading)
    sim.fault(action="accept_then_drop", path=PATHS[0], times=1, after=2)
    handle = start(client, prompts(60 if cancelled else 3))
    if cancelled:
        until(lambda: handle.snapshot().progress)
        handle.cancel()
    outcomes = Counter(result.outcome for result in handle.wait(60).results())
    assert set(outcomes) == ({Outcome.OK, Outcome.CANCELLED} if cancelled else {Outcome.OK})
    assert outcomes[Outcome.OK] == len(sim.ledger())


def test_what_is_left_is_what_a_batch_leaves(make_client):
    """After a real-time job its folder holds requests and answers, the log is gone."""
    client = make_client()
    handle = run(client, prompts(5))
    job = client.store.jobs(handle.id)[0]
    assert job.state is JobState.DONE
    assert job.remote_id is None
    folder = client.store.folder_of(handle.id)
    left = sorted(path.name for path in folder.glob("r0-*") if ".sent." not in path.name)
    assert left == ["r0-j1.jsonl", "r0-j1.output.jsonl"]


def test_a_server_without_batches_gets_the_hint(make_client, sim):
    """A compatible server that knows no files ends the job with the option that helps."""
    url = sim.openai_url.replace("/openai/v1", "/openai/v9")
    client = make_client(environ=sim.environ() | {"OPENAI_BASE_URL": url})
    handle = client.submit(name="x", over=["a"], model="openai:llama3", retry=0).wait(60)
    assert "takes no batches" in handle.snapshot().words
    assert "--realtime" in handle.snapshot().words


def test_a_local_server_works_without_batches(make_client, sim):
    """--base-url is enough, its key is found by its name, and it goes on after a restart."""
    server = registry.server_name(sim.openai_url)
    environ = {f"{server.upper()}_API_KEY": sim.environ()["OPENAI_API_KEY"]}
    sim.fault(action="status", status=404, path="*/files*", times=None)
    sim.behave(realtime_seconds=0.05)
    client = make_client(environ=environ)
    over = [f"p {i}" for i in range(40)]
    ask = {"name": "x", "over": over, "model": "llama3:8b", "base_url": sim.openai_url}
    handle = client.submit(realtime=True, **ask)
    until(lambda: handle.snapshot().progress or handle.done)
    client.close()
    handle = make_client(environ=environ).get("x").wait(60)
    assert all(mark(p) in text for p, text in zip(over, handle.answers(), strict=True))
    assert handle.record.models[0].endswith(":llama3:8b")
    assert sim.summary()["max_per_body"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "localhost"}, "is no address"),
        ({"base_url": "http://me:secret@localhost/v1"}, "keys go into variables"),
        ({"base_url": "http://localhost/v1", "model": ""}, "needs --model"),
        ({"base_url": "https://llm.example.org/v1"}, "LLM_EXAMPLE_ORG_API_KEY is not set"),
    ],
)
def test_a_base_url_that_cannot_be_used_is_one_line(make_client, options, words):
    """What is wrong with it, and for a server elsewhere the name of its key."""
    client = make_client(environ={}, simulated=False)
    with pytest.raises(UsageProblem, match=words):
        client.submit(**{"name": "x", "over": ["a"], "model": "llama3"} | options)
    assert "secret" not in str(client.store.servers())


def test_the_magic_knows_the_option(sim, tmp_path):
    """`--realtime` of the cell is `realtime` of the client."""
    from jupyter_llm_batch.core.cell_options import cell_parser
    from jupyter_llm_batch.notebook.options import submit_options, words

    args = cell_parser().parse(words("x --realtime -m openai:gpt-5-mini"))
    assert submit_options(args, {})["realtime"] is True
