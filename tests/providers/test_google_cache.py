"""``--cache`` on Gemini: an explicit cache where it pays, one per job, gone with the job."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from IPython.core.interactiveshell import InteractiveShell
from support import mark, until

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Usage
from jupyter_llm_batch.costs import prices
from jupyter_llm_batch.notebook import extension
from jupyter_llm_batch.providers.google import cache as caches
from jupyter_llm_batch.providers.google import requests, results

MODEL = "google:gemini-2.5-flash"
LONG = "You know everything about cats. " * 300
#: A cache of this model pays from 411 rows on; more than 5,000 rows do not go inline.
PAYS, MANY = 420, 5_001


def ask(client, rows=PAYS, **options):
    over = [f"item {i}" for i in range(rows)]
    given = {"name": "x", "over": over, "model": MODEL, "system": LONG, "cache": "1h"}
    return client.submit("Q {{ item }}", **(given | options))


def made(sim):
    return [r for r in sim.requests() if r["method"] == "POST" and "cachedContents" in r["path"]]


def kept(sim, version="v1"):
    """Return the caches that the account has now."""
    request = urllib.request.Request(
        f"{sim.google_url}/{version}/cachedContents", headers={"x-goog-api-key": sim.key}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer).get("cachedContents", [])


def held(client, handle):
    """Return the caches that the jobs of a batch name."""
    jobs = client.store.jobs(handle.id)
    return [name for job in jobs if (name := caches.split(job.upload_id)[1])]


def body_of(**fields):
    return json.dumps(
        {"name": "cachedContents/c", "usageMetadata": {"totalTokenCount": 10**6}, **fields}
    )


# -- whether


def test_a_cache_pays_when_it_saves_more_than_its_storage():
    """Written once at the full price, stored for 49 hours, read by every row."""
    rows = (0.30 + 49 * 1.00) / (0.15 - 0.03)
    assert 410 < rows < 411
    assert not caches.pays("gemini-2.5-flash", 410)
    assert caches.pays("gemini-2.5-flash", 411)
    assert caches.pays("models/gemini-2.5-pro", 1_000)
    assert not caches.pays("gemini-2.5-pro", 400)


@pytest.mark.parametrize(
    "model",
    ["gemini-4-argon", "gemini-2.5-flash-image", "gemini-3.8-flash-tts", "unheard-of-flash", "x"],
)
def test_a_model_whose_storage_price_is_unknown_pays_for_no_cache(model):
    """Nobody can say that it would save anything."""
    assert not caches.pays(model, 10**9)


def test_a_model_without_batch_prices_pays_for_no_cache():
    """genai-prices falls back to the full price, which would be a guess."""
    assert not caches.pays("gemini-3-pro-preview", 10**9)


@pytest.mark.parametrize(
    "options",
    [
        {"rows": 300},
        {"system": "Be brief about cats. " * 150},
        {"cache": None},
        {"params": {"tools": [{"googleSearch": {}}]}},
        {"system": None},
    ],
    ids=["few", "short", "not-wanted", "tools", "nothing"],
)
def test_what_does_not_pay_is_left_to_implicit_caching(client, sim, options):
    """Nothing is made, and the rows are answered as ever."""
    handle = ask(client, **options).wait(90)
    assert handle.snapshot().ok == options.get("rows", PAYS)
    assert not made(sim)


def test_what_a_cache_cost_is_told_from_its_own_figures():
    """Its tokens at the full price, and USD 1 for a million tokens and an hour."""
    cache = caches.read(body_of(createTime="2026-11-01T00:00:00.123456789Z").encode())
    end = datetime(2026, 11, 1, 3, tzinfo=UTC).timestamp() + 0.123456
    assert float(cache.cost("gemini-2.5-flash", end)) == pytest.approx(0.30 + 3 * 1.00)
    assert cache.cost("gemini-4-argon", end) is None
    assert caches.read(body_of().encode()).cost("gemini-2.5-flash", end) is None


# -- lines


def test_a_line_refers_to_the_cache_and_keeps_all_else():
    """Only the constant instruction is replaced, byte for byte."""
    recipe = Recipe(system='S "quoted" é', max_tokens=5)
    lines = [requests.encoder(recipe)(f"x-{i}", f'"systemInstruction":{i}') for i in range(2)]
    instruction = caches.shared(lines[0])
    assert json.loads(instruction) == {"parts": [{"text": 'S "quoted" é'}]}
    for before, after in zip(
        lines, caches.refer(lines, instruction, "cachedContents/c"), strict=True
    ):
        request = json.loads(before)["request"]
        del request["systemInstruction"]
        assert json.loads(after)["request"] == {"cachedContent": "cachedContents/c"} | request
        assert before.endswith(after[after.index(b'"generationConfig"') :])


def test_a_row_that_adds_to_the_instruction_goes_without():
    """Its own system message would stand beside the cache, which Gemini refuses."""
    encode = requests.encoder(Recipe(system="S"))
    plain = encode("x-0", "p")
    own = encode("x-1", [{"role": "system", "content": "T"}, {"role": "user", "content": "p"}])
    instruction = caches.shared(plain)
    assert [*caches.refer([own], instruction, "cachedContents/c")] == [own]


def test_a_body_with_tools_goes_without():
    """A reference may not stand beside tools."""
    encode = requests.encoder(Recipe(raw=True))
    body = {"systemInstruction": {"parts": [{"text": "S"}]}, "contents": [], "tools": [{}]}
    line = encode("x-0", body)
    assert [*caches.refer([line], caches.shared(line), "cachedContents/c")] == [line]
    assert caches.shared(encode("x-1", {"contents": []})) == b""


def test_what_travels_in_the_upload_id_is_told_apart():
    """The names of a file and of a cache, of either, or of neither."""
    for file in (None, "files/f"):
        for cache in (None, "cachedContents/c"):
            assert caches.split(caches.join(file, cache)) == (file, cache)


def test_embeddings_have_no_cache():
    """There is no system prompt to keep."""
    with pytest.raises(UsageProblem, match="no --cache"):
        requests.validate(Recipe(endpoint="embeddings", cache="1h"))


# -- jobs


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("rows", [PAYS, MANY], ids=["inline", "file"])
def test_rows_read_the_cache_and_it_is_gone_with_the_job(make_client, sim, rows, version):
    """One cache; every row is billed once, with the prompt at the cached price."""
    client = make_client(environ=sim.environ() | {"GOOGLE_GENAI_API_VERSION": version})
    handle = ask(client, rows)
    handle.wait(240)
    assert len(made(sim)) == 1
    assert f"/{version}/cachedContents" in made(sim)[0]["path"]
    assert len(held(client, handle)) == 1
    assert kept(sim, version) == []
    shown = zip(range(rows), handle.answers(), strict=True)
    assert all(mark(f"Q item {i}") in text for i, text in shown)
    tokens = (len(LONG) + 3) // 4
    assert {entry["cached_tokens"] for entry in sim.ledger()} == {tokens}
    assert len(sim.ledger()) == rows
    (job,) = client.store.jobs(handle.id)
    assert job.usage.cached == rows * tokens
    assert job.usage.input > job.usage.cached
    assert handle.snapshot().cached > 0.9
    assert job.released
    read = prices.list_cost("google", "gemini-2.5-flash", job.usage)
    extra = float(job.cost) - float(read.batch)
    assert extra >= tokens * 0.30 / 1e6  # writing it, and storing it for this moment
    assert extra < tokens * 1.30 / 1e6
    assert float(job.saved) == pytest.approx(float(read.saved))
    total = client.cost("x").total  # the ledger says the same as the panel, the budget too
    assert (total.paid, total.batch) == (Decimal(job.cost), Decimal(job.saved))
    assert float(total.cache) == pytest.approx(float(read.cache) - extra)
    assert client.store.spending.committed(0.0)[0] == pytest.approx(float(job.cost))
    folder = client.store.folder_of(handle.id)
    assert not [*folder.glob("*.cached*")]
    assert b"cachedContent" not in (folder / job.payload).read_bytes()


def test_the_magic_asks_for_it_too(make_client, sim, tmp_path, monkeypatch):
    """``%%llm_batch --cache`` is the same door."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "jupyter_llm_batch")
    try:
        controller = extension._loaded[id(shell)][0].commands().controller
        controller.use(make_client())
        shell.user_ns |= {"items": [f"item {i}" for i in range(PAYS)], "said": LONG}
        cell = f"%%llm_batch x --over items --model {MODEL} --system-from said --cache --wait\n"
        assert shell.run_cell(cell + "Q {{ item }}", store_history=False).success
        assert mark("Q item 3") in shell.user_ns["x"][3]
        shown = shell.run_cell("%llm_batch show x 3", store_history=False)
        assert shown.success
    finally:
        extension.unload(shell)
        if shell.history_manager:
            shell.history_manager.end_session()
    assert len(made(sim)) == 1
    assert kept(sim) == []
    assert min(entry["cached_tokens"] for entry in sim.ledger()) > 0


def test_a_lost_answer_makes_no_second_cache(client, sim):
    """It is looked for in the listing."""
    sim.fault(method="POST", path="*/cachedContents", action="accept_then_status", status=500)
    handle = ask(client).wait(90)
    assert handle.snapshot().ok == PAYS
    assert len(made(sim)) == 1
    assert len(held(client, handle)) == 1
    assert kept(sim) == []


def test_a_restart_makes_no_second_cache(make_client, sim):
    """The cache that an upload made before it broke off is taken again."""
    sim.fault(method="POST", path="/google/upload/*", action="status", status=503, times=1000)
    client = make_client()
    handle = ask(client, MANY)
    until(lambda: client.store.jobs(handle.id)[0].failures)
    client.close()
    assert len(kept(sim)) == 1
    sim.clear_faults()
    client = make_client()
    (handle,) = client.resume()
    assert handle.wait(240).snapshot().ok == MANY
    assert len(made(sim)) == 1
    assert kept(sim) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "status": 400},
        {"action": "status", "status": 403},
        {"action": "status", "status": 404},
        {"action": "status", "status": 429},
        {"action": "status", "status": 503},
        {"action": "drop"},
    ],
    ids=lambda fault: str(fault.get("status", "drop")),
)
def test_a_cache_that_cannot_be_made_is_done_without(client, sim, fault):
    """The job goes as it would have gone."""
    sim.fault(method="POST", path="*/cachedContents", times=1000, **fault)
    handle = ask(client).wait(90)
    assert handle.snapshot().ok == PAYS
    assert held(client, handle) == []
    assert len(client.store.jobs(handle.id)) == 1


def test_a_cache_that_cannot_be_deleted_is_left_to_expire(client, sim):
    """The batch ends all the same; nothing is tried for ever."""
    sim.fault(method="DELETE", path="*/cachedContents/*", action="status", status=503, times=1000)
    handle = ask(client).wait(90)
    assert handle.snapshot().ok == PAYS
    assert len(kept(sim)) == 1


def test_a_cache_outlives_its_job(make_client, sim):
    """Or the last rows of a job that takes two days would fail."""
    sim.behave(seconds=47 * 3600)
    client = make_client()
    handle = ask(client)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    assert len(kept(sim)) == 1
    sim.advance(48 * 3600 - 60)
    until(lambda: handle.done)
    assert handle.snapshot().ok == PAYS
    assert handle.snapshot().cached > 0.9


def test_cancelling_deletes_the_cache(make_client, sim):
    """A cancelled job is over as well."""
    sim.behave(seconds=3600)
    client = make_client()
    handle = ask(client)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    assert len(kept(sim)) == 1
    handle.cancel()
    until(lambda: sim.advance(60) or handle.done)  # the cancel may arrive at any moment
    assert kept(sim) == []


def test_a_failed_job_deletes_its_cache(client, sim):
    """So does one that was refused as a whole."""
    sim.behave(next_outcome="failed:INTERNAL")
    handle = ask(client, retry=0)
    until(lambda: handle.done)
    assert client.store.jobs(handle.id)[0].state is JobState.FAILED
    assert len(made(sim)) == 1
    assert kept(sim) == []


def test_rows_whose_cache_is_gone_are_sent_again_without(make_client, sim):
    """Nothing was billed for them; the next round carries the prompt itself."""
    sim.behave(seconds=3600)
    client = make_client()
    handle = ask(client)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    (cache,) = kept(sim)
    request = urllib.request.Request(
        f"{sim.google_url}/v1/{cache['name']}",
        method="DELETE",
        headers={"x-goog-api-key": sim.key},
    )
    urllib.request.urlopen(request).close()
    sim.behave(seconds=0)
    sim.advance(3600)
    until(lambda: handle.done)
    assert handle.snapshot().ok == PAYS
    first, second = client.store.jobs(handle.id)
    assert (first.usage, second.rows, second.cache) == (Usage(), PAYS, None)
    assert len(made(sim)) == 1
    assert len(sim.ledger()) == PAYS


def test_a_create_that_is_refused_for_its_cache_is_made_without(client, sim):
    """A refusal creates nothing, so that it may be sent again."""
    told = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": (
        "Model gemini-2.5-flash does not support cached content with batch prediction."
    )}}  # fmt: skip
    sim.fault(method="POST", path="*:batchGenerateContent", action="status", status=400, body=told)
    handle = ask(client).wait(90)
    assert handle.snapshot().ok == PAYS
    assert held(client, handle) == []
    assert kept(sim) == []
    assert len(sim.ledger()) == PAYS


def test_a_row_that_fails_for_its_cache_may_be_sent_again():
    """Other refusals stay what they are."""
    said = b"CachedContent not found (or permission denied)"
    gone = b'{"key":"x-0","error":{"code":7,"message":"%b"}}' % said
    wrong = b'{"key":"x-0","error":{"code":3,"message":"Request contains an invalid argument."}}'
    assert results.parse(gone).transient
    assert not results.parse(gone).billed
    assert not results.parse(wrong).transient


def test_a_journal_of_before_opens():
    """Its jobs asked for no cache."""
    old = {
        "id": "b-r0-j1", "batch_id": "b", "round": 0, "number": 1, "provider": "google",
        "model": "m", "endpoint": "chat", "rows": 1, "bytes": 1, "payload": "p",
    }  # fmt: skip
    job = msgspec.convert(old, Job)
    assert (job.cache, job.released) == (None, False)


def test_the_simulator_refuses_what_gemini_refuses(sim):
    """A small cache, another model's, one beside a system prompt, one that is gone."""

    def call(path, body):
        request = urllib.request.Request(
            f"{sim.google_url}/v1beta/{path}",
            data=json.dumps(body).encode(),
            headers={"x-goog-api-key": sim.key},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)["error"]

    said = {"parts": [{"text": LONG}]}
    small = call("cachedContents", {"model": "models/gemini-2.5-pro", "contents": [
        {"parts": [{"text": "Hi"}]}]})  # fmt: skip
    assert small["message"].startswith("Cached content is too small. total_token_count=1,")
    cache = call("cachedContents", {"model": "models/gemini-2.5-pro", "systemInstruction": said})
    asked = {"cachedContent": cache["name"], "contents": [{"parts": [{"text": "Hi"}]}]}
    told = call("models/gemini-2.5-pro:generateContent", asked)
    usage = told["usageMetadata"]
    assert usage["cachedContentTokenCount"] == cache["usageMetadata"]["totalTokenCount"]
    assert call("models/gemini-2.5-flash:generateContent", asked)["code"] == 400
    twice = call("models/gemini-2.5-pro:generateContent", asked | {"systemInstruction": said})
    assert "can not be used" in twice["message"]
    unknown = call(
        "models/gemini-2.5-pro:generateContent", asked | {"cachedContent": "cachedContents/no"}
    )
    assert unknown["code"] == 403
