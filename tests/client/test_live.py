"""What only the providers themselves can answer: see docs/unverified.md.

Each test spends money, at most what its docstring says, and runs only with ``LLM_BATCH_LIVE=1`` and
the provider's key in the environment. A batch may take hours: ``LLM_BATCH_LIVE_MINUTES`` says how
long a test waits (60). What a provider did is noted as a property of the test (``--junitxml``).

Against a server on this machine nothing is proven, so such a run is skipped. With
``LLM_BATCH_LIVE_SIMULATED=1`` the code runs there all the same, and is then reported as skipped.
"""

import asyncio
import contextlib
import functools
import io
import json
import os
import time

import httpx2
import pytest

from jupyter_llm_batch import Client
from jupyter_llm_batch.core.errors import ProviderError
from jupyter_llm_batch.core.job import Job, Phase
from jupyter_llm_batch.core.policy import Policy
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.providers.google import adapter, cache
from jupyter_llm_batch.providers.registry import make
from jupyter_llm_batch.providers.shared.addresses import is_loopback, key_variables

pytestmark = pytest.mark.timeout(0)

SIMULATED = os.environ.get("LLM_BATCH_LIVE_SIMULATED") == "1"
SECONDS = 60 * float(os.environ.get("LLM_BATCH_LIVE_MINUTES", "60"))
PAUSE = 0.05 if SIMULATED else 15.0

#: The cheapest model of each; the environment may name another, as it must for Azure.
MODELS = {
    "openai": os.environ.get("LLM_BATCH_LIVE_OPENAI", "gpt-5-nano"),
    "anthropic": os.environ.get("LLM_BATCH_LIVE_ANTHROPIC", "claude-haiku-4-5"),
    "google": os.environ.get("LLM_BATCH_LIVE_GOOGLE", "gemini-2.5-flash-lite"),
    "azure": os.environ.get("LLM_BATCH_LIVE_AZURE", ""),
}


class Live:
    """One provider under the real key, and small steps of its batches."""

    def __init__(self, provider, folder, note):
        self.provider, self.model, self.folder, self._note = (
            provider,
            MODELS[provider],
            folder,
            note,
        )
        self.adapter = make(provider, os.environ)
        self.url = self.adapter.account(b"").base_url

    def note(self, text):
        """Keep what the provider did with the report of the test."""
        self._note(f"{self.provider} says", text)

    def submit(self, prompts, **options):
        """Run a batch the way a user does, and return its handle."""
        pace = Policy(poll=PAUSE, poll_longest=2 * PAUSE, retry=PAUSE) if SIMULATED else None
        client = Client(folder=self.folder / "data", notebook="live", policy=pace)
        try:
            handle = client.submit(
                name="live", over=prompts, model=f"{self.provider}:{self.model}",
                **{"max_tokens": 500} | options,
            )  # fmt: skip
            handle.wait(SECONDS)
            return handle.results(), handle.snapshot()
        finally:
            client.close()

    def steps(self, work):
        """Run `work` with the adapter in a loop of its own."""

        async def main():
            try:
                return await work()
            finally:
                await self.adapter.close()

        return asyncio.run(main())

    def job(self, lines):
        """Write request lines down as a job."""
        (self.folder / "job.jsonl").write_bytes(b"".join(lines))
        return Job(
            id="job-live", batch_id="live", round=0, number=0, provider=self.provider,
            model=self.model, endpoint="chat", rows=len(lines), bytes=sum(map(len, lines)),
            payload="job.jsonl",
        )  # fmt: skip

    def line(self, custom_id, prompt, **recipe):
        """Return one request line."""
        return self.adapter.encoder(Recipe(**{"max_tokens": 500} | recipe), self.model)(
            custom_id, prompt
        )

    async def start(self, lines, label="llm-batch-live"):
        """Upload and create a job."""
        job, payload = self.job(lines), self.folder / "job.jsonl"
        return await self.adapter.create(
            job, payload, await self.adapter.upload(job, payload), label
        )

    async def end(self, remote):
        """Wait until a job has ended, and return it with its raw lines."""
        end = time.monotonic() + SECONDS
        while remote.phase is Phase.ACTIVE:
            assert time.monotonic() < end, f"not ended in time: {remote.remote_id}"
            await asyncio.sleep(PAUSE)
            remote = await self.adapter.retrieve(remote.remote_id)
        lines = []
        for part, ref in remote.parts.items():
            sink = io.BytesIO()
            await self.adapter.fetch(remote.remote_id, part, ref, sink)
            lines += sink.getvalue().splitlines()
        return remote, lines

    def ask(self, method, path, body=None, **headers):
        """Send one plain request; return status, JSON and headers."""
        key = next(os.environ[name] for name in key_variables(self.provider) if name in os.environ)
        auth = {
            "anthropic": {"x-api-key": key, "anthropic-version": "2023-06-01"},
            "google": {"x-goog-api-key": key},
        }.get(self.provider, {"Authorization": f"Bearer {key}"})
        answer = httpx2.request(
            method, self.url + path, json=body, headers=auth | headers, timeout=120, trust_env=False
        )
        try:
            return answer.status_code, answer.json(), answer.headers
        except ValueError:
            return answer.status_code, {}, answer.headers


@pytest.fixture
def live(request, tmp_path, record_property):
    """The provider that the test's name begins with, or a skip that says what stays unverified."""
    provider = request.node.name.split("_")[1]
    what = " ".join(request.node.name.split("_")[2:])
    unverified = f"UNVERIFIED of {provider}: {what}"
    names = key_variables(provider)
    if os.environ.get("LLM_BATCH_LIVE") != "1":
        pytest.skip(f"{unverified} (LLM_BATCH_LIVE=1 and {names[0]} try it)")
    if not any(os.environ.get(name) for name in names):
        pytest.skip(f"{unverified} ({names[0]} is not set)")
    if not MODELS[provider]:
        pytest.skip(f"{unverified} (LLM_BATCH_LIVE_{provider.upper()} has to name the model)")
    found = Live(provider, tmp_path, record_property)
    if is_loopback(found.url) and not SIMULATED:
        pytest.skip(f"{unverified} ({found.url} is on this machine and proves nothing)")
    return found


def proof(test):
    """Have a test that ran against a simulator reported as skipped, never as passed."""

    @functools.wraps(test)
    def run(live, **fixtures):
        test(live, **fixtures)
        if is_loopback(live.url):
            pytest.skip(f"UNVERIFIED of {live.provider}: it ran through, but against {live.url}")

    return run


def answers(live, **options):
    """Ask two questions in a batch and check that the answers come back with their usage."""
    results, snapshot = live.submit(["Say only: yes", "Say only: no"], **options)
    assert [each.outcome for each in results] == [Outcome.OK, Outcome.OK]
    assert all(each.text and each.usage.output for each in results)
    live.note(f"{snapshot.line}; finish reasons {[each.finish_reason for each in results]}")


# -- OpenAI ----------------------------------------------------------------------------------------


@proof
def test_openai_batch(live):
    """Submit to answers works. Costs less than 0.001 USD."""
    answers(live)


@proof
def test_openai_custom_id_of_64(live):
    """Ids of 64 characters come back whole. Costs less than 0.001 USD."""
    name = "x" * 64
    _, lines = live.steps(lambda: chain(live, [live.line(name, "Say only: yes")]))
    assert [json.loads(line)["custom_id"] for line in lines] == [name]


@proof
def test_openai_cached_tokens_in_a_batch(live):
    """Whether a long shared prefix is read from the cache. Costs less than 0.01 USD."""
    prefix = "The quick brown fox jumps over the lazy dog. " * 300
    results, _ = live.submit([prefix + "Say only: yes", prefix + "Say only: no"] * 2)
    assert all(each.outcome is Outcome.OK for each in results)
    live.note(f"cached {[each.usage.cached for each in results]} of "
              f"{[each.usage.input for each in results]} tokens")  # fmt: skip


async def chain(live, lines):
    """Start a job and wait for its end."""
    return await live.end(await live.start(lines))


# -- Anthropic -------------------------------------------------------------------------------------


@proof
def test_anthropic_batch(live):
    """Submit to answers works. Costs less than 0.001 USD."""
    answers(live)


@proof
def test_anthropic_sampling_in_a_batch(live):
    """Whether a temperature is refused with the batch or in its row. Costs under 0.001 USD."""
    request = {"model": live.model, "max_tokens": 5, "temperature": 0.5,
               "messages": [{"role": "user", "content": "Say only: yes"}]}  # fmt: skip
    status, body, _ = live.ask(
        "POST", "/v1/messages/batches", {"requests": [{"custom_id": "r-0", "params": request}]},
        **{"anthropic-version": "2026-10-21"},
    )  # fmt: skip
    if status == 200:
        _, lines = live.steps(lambda: ended(live, body["id"]))
        live.note(f"accepted; the row is {json.loads(lines[0])['result']}")
    else:
        assert status == 400
        live.note(f"the whole batch is refused: {body}")


@proof
def test_anthropic_rate_limit_headers(live):
    """Which limits of batches this account has. Costs nothing."""
    status, _, headers = live.ask("GET", "/v1/messages/batches?limit=1")
    assert status == 200
    limits = {name: value for name, value in headers.items() if "ratelimit" in name}
    live.note(f"{limits or 'no limits are told'}")


@proof
def test_anthropic_long_output(live):
    """Whether max_tokens may be 300,000 in a batch. Costs less than 0.001 USD: one short answer."""
    request = {"model": live.model, "max_tokens": 300_000,
               "messages": [{"role": "user", "content": "Say only: yes"}]}  # fmt: skip
    status, body, _ = live.ask(
        "POST", "/v1/messages/batches", {"requests": [{"custom_id": "r-0", "params": request}]},
        **{"anthropic-beta": "output-300k-2026-03-24"},
    )  # fmt: skip
    if status == 200:
        _, lines = live.steps(lambda: ended(live, body["id"]))
        live.note(f"accepted; the row is {lines[0][:300]!r}")
    else:
        live.note(f"refused with {status}: {body}")


async def ended(live, remote_id):
    """Wait for a job that was created otherwise."""
    return await live.end(await live.adapter.retrieve(remote_id))


# -- Google ----------------------------------------------------------------------------------------


@proof
def test_google_batch(live):
    """Submit to answers works. Costs less than 0.001 USD."""
    answers(live)


@proof
def test_google_v1_has_batches(live):
    """The listing of batches exists below /v1. Costs nothing."""
    found = {version: live.ask("GET", f"/{version}/batches?pageSize=1")[0]
             for version in ("v1", "v1beta")}  # fmt: skip
    live.note(f"{found}")
    assert found["v1"] == 200


@proof
def test_google_failed_row_in_a_file(live, monkeypatch):
    """A row that fails is read as failed from a result file. Costs less than 0.001 USD."""
    monkeypatch.setattr(adapter, "_INLINE_ROWS", 0)
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    parts = [image, {"text": "[[sim:fail-400]]"}]
    broken = {"contents": [{"role": "user", "parts": parts}]}
    lines = [live.line("r-0", "Say only: yes"), live.line("r-1", broken, raw=True)]
    remote, raw = live.steps(lambda: chain(live, lines))
    results = {each.custom_id: each for each in (live.adapter.parse(line, "chat") for line in raw)}
    live.note(f"{remote.state}: {raw[-1][:500]!r}")
    assert results["r-0"].outcome is Outcome.OK
    assert results["r-1"].outcome is Outcome.FAILED


@proof
def test_google_rows_in_a_job(live, monkeypatch):
    """A job of 20,000 rows is taken; it is cancelled at once. Costs less than 0.05 USD."""
    lines = [live.line(f"r-{number}", "Say only: yes", max_tokens=5) for number in range(20_000)]
    monkeypatch.setattr(adapter, "_INLINE_ROWS", 0)

    async def work():
        remote = await live.start(lines)
        with contextlib.suppress(ProviderError):  # over already
            await live.adapter.cancel(remote.remote_id)
        return await live.adapter.retrieve(remote.remote_id)

    remote = live.steps(work)
    live.note(f"taken: {remote.state}, {remote.counts}")


def create_google(live, batch):
    """Create a batch of one inline request with `batch` merged in, and cancel it at once."""
    request = {"contents": [{"role": "user", "parts": [{"text": "Say only: yes"}]}]}
    settings = batch.pop("generationConfig", None)
    if settings:
        request["generationConfig"] = settings
    requests = {"requests": [{"request": request, "metadata": {"key": "r-0"}}]}
    body = {"batch": {"displayName": "live", "inputConfig": {"requests": requests}, **batch}}
    path = f"/v1/models/{live.model}:batchGenerateContent"
    status, answer, _ = live.ask("POST", path, body)
    if status == 200:
        live.ask("POST", f"/v1/{answer['name']}:cancel")
    live.note(f"{status}: {json.dumps(answer)[:500]}")
    assert status in {200, 400}


@proof
def test_google_priority(live):
    """What a batch with a priority is answered. Costs less than 0.001 USD."""
    create_google(live, {"priority": "5"})


@proof
def test_google_snake_case(live):
    """What names in snake_case inside a request are answered. Costs less than 0.001 USD."""
    create_google(live, {"generationConfig": {"thinkingConfig": {"thinking_budget": 0}}})


@proof
def test_google_explicit_cache_in_a_batch(live, monkeypatch):
    """Whether rows of a batch may read an explicit cache. Costs less than 0.01 USD.

    As long as the cache is deleted at the end; stored to its own end it costs up to 1.50 USD.
    """
    monkeypatch.setattr(cache, "pays", lambda *_: True)
    system = "The quick brown fox jumps over the lazy dog. " * 600
    results, snapshot = live.submit(["Say only: yes", "Say only: no"], system=system, cache="1h")
    assert all(each.outcome is Outcome.OK for each in results)
    live.note(f"cached {[each.usage.cached for each in results]}; {snapshot.line}")
    status, answer, _ = live.ask("GET", "/v1beta/cachedContents")
    live.note(f"left: {status} {json.dumps(answer)[:500]}")


@proof
def test_google_results_are_kept(live):
    """The results of an old batch can still be had. Costs nothing."""
    name = os.environ.get("LLM_BATCH_LIVE_GOOGLE_OLD")
    if not name:
        pytest.skip(
            "UNVERIFIED of google: results are kept "
            "(LLM_BATCH_LIVE_GOOGLE_OLD=batches/... has to name a batch of weeks ago)"
        )
    remote, lines = live.steps(lambda: ended(live, name))
    live.note(f"created {remote.created_at}, {len(lines)} lines are there")
    assert lines


# -- Azure -----------------------------------------------------------------------------------------


@proof
def test_azure_batch(live):
    """Submit to answers works with a Global-Batch deployment. Costs less than 0.001 USD."""
    answers(live)


@proof
def test_azure_listing_order(live):
    """Whether listings begin with the newest. Costs nothing; needs two batches or more."""
    status, body, _ = live.ask("GET", "/batches?limit=20")
    assert status == 200
    times = [each["created_at"] for each in body["data"]]
    live.note(f"newest first: {times == sorted(times, reverse=True)}; {len(times)} batches")


@proof
def test_azure_keeps_metadata(live):
    """The label of a new batch is in the listing. Costs less than 0.001 USD."""
    label = f"live-{time.time_ns()}"

    async def work():
        made = await live.start([live.line("r-0", "Say only: yes")], label)
        found = await live.adapter.find(label, live.job([b"x"]), time.time() - 60)
        await live.adapter.cancel(made.remote_id)
        return made, found

    made, found = live.steps(work)
    assert found is not None
    assert found.remote_id == made.remote_id


@proof
def test_azure_cancelled_rows(live):
    """What a cancelled job says of rows it did not reach. Costs less than 0.01 USD."""

    async def work():
        lines = [live.line(f"r-{number}", "Say only: yes") for number in range(50)]
        made = await live.start(lines)
        try:
            await live.adapter.cancel(made.remote_id)
        except ProviderError as error:
            live.note(f"cancel: {error}")
        return await live.end(await live.adapter.retrieve(made.remote_id))

    remote, lines = live.steps(work)
    live.note(f"{remote.state}, rest {remote.rest}, {len(lines)} of 50 lines")
