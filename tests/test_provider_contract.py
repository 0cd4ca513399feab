"""What every adapter promises; a provider joins by adding an entry to `SPECS`.

All of it runs over real HTTP through the provider's real SDK, against the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_llm_batch import lookup
from jupyter_llm_batch.errors import (
    Busy,
    Incomplete,
    KeyRefused,
    ProviderError,
    Refused,
    Unclear,
    UsageProblem,
    Vanished,
)
from jupyter_llm_batch.models import Job, Outcome, Phase, Recipe, Remote, Result
from jupyter_llm_batch.planning import Ranges
from jupyter_llm_batch.providers import Adapter, make
from jupyter_llm_batch.simulator import Simulator, mark


@dataclass(frozen=True)
class Spec:
    """Where the providers differ.

    Attributes
    ----------
    key, base_url
        Names of the SDK's variables.
    create
        Path of the create request, for faults and counting.
    content
        Path of a results download.
    unknown
        An id of the provider's form that it never gave out.
    endpoints
        The endpoints that the round trip takes.
    max_tokens
        Bound of output tokens, where the provider demands one.
    skipped
        How a row ends that a completed job did not get to.
    keeps_expired
        Whether a job that expires gives the answers that it has.
    """

    name: str
    model: str
    key: str
    base_url: str
    create: str
    content: str
    unknown: str
    endpoints: tuple[str, ...] = ("chat",)
    max_tokens: int | None = None
    skipped: Outcome = Outcome.EXPIRED
    keeps_expired: bool = True

    def recipe(self, **more: Any) -> Recipe:
        return Recipe(**{"max_tokens": self.max_tokens} | more)

    def adapter(self, environ: Mapping[str, str]) -> Adapter:
        return make(self.name, environ)


SPECS = [
    Spec(
        name="openai",
        model="gpt-5-mini",
        key="OPENAI_API_KEY",
        base_url="OPENAI_BASE_URL",
        create="/openai/v1/batches",
        content="*/content",
        unknown="batch_0123456789abcdef",
        endpoints=("chat", "responses"),
    ),
    Spec(
        name="anthropic",
        model="claude-haiku-4-5",
        key="ANTHROPIC_API_KEY",
        base_url="ANTHROPIC_BASE_URL",
        create="/anthropic/v1/messages/batches",
        content="*/results",
        unknown="msgbatch_0123456789abcdef",
    ),
    Spec(
        name="google",
        model="gemini-2.5-flash",
        key="GEMINI_API_KEY",
        base_url="GOOGLE_GEMINI_BASE_URL",
        create="/google/v1/models/gemini-2.5-flash:batchGenerateContent",
        content="*/batches/*",
        unknown="batches/0123456789abcdef",
        skipped=Outcome.CANCELLED,
        keeps_expired=False,
    ),
]

#: Rows that the simulator ends in a certain way: outcome, billed, transient.
FATES = {
    "plain": (Outcome.OK, True, False),
    "[[sim:length]]": (Outcome.OK, True, False),
    "[[sim:refuse]]": (Outcome.REFUSED, True, False),
    "[[sim:fail-400]]": (Outcome.FAILED, False, False),
    "[[sim:fail-500]]": (Outcome.FAILED, False, True),
    "[[sim:expire]]": (Outcome.EXPIRED, False, True),
    "[[sim:badline]]": (Outcome.FAILED, True, False),
}

#: Prompts that break whoever builds JSON by hand or splits text into lines carelessly.
ODD = [
    "",
    " ",
    'a "quoted" \\ text',
    "two\nlines\r\n",
    "\u2028\u2029\x85",
    "\x00\x1f",
    "😀 {{ x }}",
]


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request):
    return request.param


@pytest.fixture
def sim():
    with Simulator(seconds=0) as simulator:
        yield simulator


class Case:
    """One job of one provider, and the steps of its life."""

    def __init__(self, spec: Spec, folder: Path, environ: Mapping[str, str]) -> None:
        self.spec = spec
        self.adapter = spec.adapter(environ)
        self._payload = folder / "job.jsonl"

    def prepare(self, prompts: list[str], endpoint: str = "chat") -> Job:
        encode = self.adapter.encoder(self.spec.recipe(endpoint=endpoint), self.spec.model)
        lines = [encode(f"r-{number}", prompt) for number, prompt in enumerate(prompts)]
        self._payload.write_bytes(b"".join(lines))
        self.job = Job(
            id="job-1",
            batch_id="r",
            round=0,
            number=0,
            provider=self.spec.name,
            model=self.spec.model,
            endpoint=endpoint,
            rows=len(prompts),
            bytes=self._payload.stat().st_size,
            payload=self._payload.name,
        )
        return self.job

    async def upload(self) -> str | None:
        return await self.adapter.upload(self.job, self._payload)

    async def create(self, upload_id: str | None, label: str = "label-1") -> Remote:
        return await self.adapter.create(self.job, self._payload, upload_id, label)

    async def start(self) -> Remote:
        return await self.create(await self.upload())

    async def find(self, label: str, since: float) -> Remote | None:
        rows = Ranges([(0, self.job.rows)])
        return await lookup.find(self.adapter, self.job, rows, (), label, since)

    async def collect(self, remote: Remote) -> dict[str, Result]:
        found = {}
        for part, ref in remote.parts.items():
            sink = io.BytesIO()
            await self.adapter.fetch(remote.remote_id, part, ref, sink)
            for line in sink.getvalue().splitlines():
                result = self.adapter.parse(line, self.job.endpoint)
                found[result.custom_id] = result
        return found

    def run(self, steps: Callable[[], Any]) -> Any:
        async def main() -> Any:
            try:
                return await steps()
            finally:
                await self.adapter.close()

        return asyncio.run(main())


@pytest.fixture
def case(spec, sim, tmp_path):
    return Case(spec, tmp_path, sim.environ())


def creates(sim, spec):
    return [
        seen for seen in sim.requests() if seen["method"] == "POST" and seen["path"] == spec.create
    ]


# -- pure


def test_a_line_is_one_line_of_json_that_gives_its_prompt_back(spec):
    """Whatever the prompt holds, its line is one line, holds the id, and shows the same prompt."""
    adapter = spec.adapter({})
    encode = adapter.encoder(spec.recipe(system="S"), spec.model)
    for prompt in ODD:
        line = encode("b7-12", prompt)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert "b7-12" in json.dumps(json.loads(line))
        assert adapter.prompt_of(line) == prompt
        assert encode("b7-12", prompt) == line


@given(prompt=st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_survives_the_encoder(prompt):
    """A text that Unicode can carry reaches the line unchanged."""
    for spec in SPECS:
        adapter = spec.adapter({})
        line = adapter.encoder(spec.recipe(), spec.model)("r-1", prompt)
        assert adapter.prompt_of(line) == prompt


def test_messages_are_taken_as_they_are(spec):
    """A list of messages is a content as good as a text."""
    messages = [{"role": "user", "content": "first"}, {"role": "user", "content": "second"}]
    adapter = spec.adapter({})
    shown = adapter.prompt_of(adapter.encoder(spec.recipe(), spec.model)("r-1", messages))
    assert "first" in shown
    assert "second" in shown


def test_what_no_request_can_carry_is_a_usage_problem(spec):
    """Half a surrogate pair and a body without raw mode are refused, each with one line."""
    encode = spec.adapter({}).encoder(spec.recipe(), spec.model)
    for content in ("half \ud83d", {"a": 1}, []):
        with pytest.raises(UsageProblem) as caught:
            encode("r-1", content)
        assert "\n" not in str(caught.value)


def test_a_recipe_that_cannot_be_a_batch_is_refused(spec):
    """Streams and unknown endpoints are refused before anything is written."""
    adapter = spec.adapter({})
    adapter.validate(spec.recipe(), spec.model)
    for recipe in (spec.recipe(params={"stream": True}), spec.recipe(endpoint="no-such-thing")):
        with pytest.raises(UsageProblem):
            adapter.validate(recipe, spec.model)


def test_the_meaning_depends_on_what_is_meant_and_on_nothing_else(spec):
    """Equal recipes mean the same under every account; each part of a recipe counts."""
    plain = spec.adapter({}).meaning(spec.recipe(), spec.model)
    assert spec.adapter({spec.key: "sim-other"}).meaning(spec.recipe(), spec.model) == plain
    assert plain.startswith(b"v1")
    adapter = spec.adapter({})
    others = [
        adapter.meaning(spec.recipe(), "another-model"),
        adapter.meaning(spec.recipe(system="S"), spec.model),
        adapter.meaning(spec.recipe(max_tokens=77), spec.model),
        adapter.meaning(spec.recipe(params={"stop": ["x"]}), spec.model),
        adapter.meaning(spec.recipe(raw=True), spec.model),
    ]
    assert len({plain, *others}) == len(others) + 1
    ordered = [{"a": 1, "b": 2}, {"b": 2, "a": 1}]
    assert len({adapter.meaning(spec.recipe(params=each), spec.model) for each in ordered}) == 1


@given(
    line=st.binary(max_size=200),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["custom_id", "response", "error", "result", "key", "body", "status_code"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
)
@settings(max_examples=300, deadline=None)
def test_no_line_makes_the_parser_raise(line, value):
    """Bytes of any kind and JSON of any shape become a result."""
    for spec in SPECS:
        adapter = spec.adapter({})
        for raw in (line, json.dumps(value).encode()):
            for endpoint in spec.endpoints:
                assert isinstance(adapter.parse(raw, endpoint), Result)


# -- account


def test_a_missing_key_is_named_with_the_way_to_get_one(spec):
    """Without a key the problem names the variable and a page."""
    with pytest.raises(UsageProblem, match=rf"{spec.key}.*https://"):
        spec.adapter({}).check_key()
    spec.adapter({spec.key: "sim-something"}).check_key()


def test_an_account_is_recognised_without_its_key(spec):
    """The fingerprint is the same for the same key and salt, and gives nothing of the key away."""
    environ = {spec.key: "sim-secret-of-mine", spec.base_url: "http://127.0.0.1:1/v1"}
    account = spec.adapter(environ).account(b"salt")
    assert spec.adapter(environ).account(b"salt") == account
    assert spec.adapter(environ).account(b"other") != account
    assert spec.adapter(environ | {spec.key: "sim-x"}).account(b"salt") != account
    elsewhere = environ | {spec.base_url: "http://127.0.0.1:2/v1"}
    assert spec.adapter(elsewhere).account(b"salt") != account
    told = f"{account}{spec.adapter(environ)!r}{msgspec.json.encode(account).decode()}"
    assert "secret" not in told


# -- the life of a job


def endpoints():
    return [
        pytest.param(spec, endpoint, id=f"{spec.name}-{endpoint}")
        for spec in SPECS
        for endpoint in spec.endpoints
    ]


@pytest.mark.parametrize(("spec", "endpoint"), endpoints(), indirect=["spec"])
def test_every_answer_belongs_to_its_prompt(spec, endpoint, case):
    """Through upload, create, poll and fetch, each result carries the answer to its own prompt."""
    prompts = [f"prompt {number}" for number in range(20)] + ["prompt 0", "é 😀"]
    case.prepare(prompts, endpoint)

    async def steps():
        made = await case.start()
        ended = await case.adapter.retrieve(made.remote_id)
        assert ended.phase is Phase.ENDED
        return await case.collect(ended)

    results = case.run(steps)
    assert set(results) == {f"r-{number}" for number in range(len(prompts))}
    for number, prompt in enumerate(prompts):
        result = results[f"r-{number}"]
        assert result.outcome is Outcome.OK
        assert mark(prompt) in (result.text or "")
        assert result.usage.input > 0
        assert result.usage.output > 0
        assert result.billed


@pytest.mark.parametrize(("spec", "endpoint"), endpoints(), indirect=["spec"])
def test_every_end_of_a_row_is_told_apart(spec, endpoint, case):
    """Outcome, whether it may have been billed, and whether it is worth another try."""
    fates = FATES | {"[[sim:expire]]": (spec.skipped, False, True)}
    prompts = list(fates)
    case.prepare(prompts, endpoint)

    async def steps():
        made = await case.start()
        return await case.collect(await case.adapter.retrieve(made.remote_id))

    results = case.run(steps)
    for number, (prompt, expected) in enumerate(fates.items()):
        result = results[f"r-{number}"]
        assert (result.outcome, result.billed, result.transient) == expected, prompt
        assert (result.error is None) == (result.outcome is Outcome.OK), prompt
    assert results[f"r-{prompts.index('[[sim:length]]')}"].finish_reason in {"length", "max_tokens"}


@pytest.mark.parametrize(
    ("fault", "expected", "made"),
    [
        ({"action": "drop"}, Unclear, 0),
        ({"action": "accept_then_drop"}, Unclear, 1),
        ({"action": "accept_then_status", "status": 500}, Unclear, 1),
        ({"action": "accept_then_status", "status": 504}, Unclear, 1),
        ({"action": "accept_then_status", "status": 408}, Unclear, 1),
        ({"action": "truncate"}, Unclear, 1),
        ({"action": "status", "status": 200, "body": "<html>Sign in</html>"}, Unclear, 0),
        ({"action": "status", "status": 429, "headers": {"retry-after": "17"}}, Busy, 0),
        ({"action": "status", "status": 529}, Busy, 0),
        ({"action": "status", "status": 400}, Refused, 0),
        ({"action": "status", "status": 401}, KeyRefused, 0),
    ],
    ids=lambda value: str(value.get("status", value["action"])) if isinstance(value, dict) else "",
)
def test_a_create_goes_out_once_and_says_what_is_known(spec, case, sim, fault, expected, made):
    """One request whatever happens; only what proves that nothing was made may say so."""
    case.prepare(["prompt"])
    before = time.time()

    async def steps():
        upload_id = await case.upload()
        sim.fault(method="POST", path=spec.create, **fault)
        with pytest.raises(expected) as caught:
            await case.create(upload_id)
        assert type(caught.value) is expected
        found = await case.find("label-1", before)
        return caught.value, found

    error, found = case.run(steps)
    assert len(creates(sim, spec)) == 1
    assert (found is not None) == bool(made)
    if found is not None and case.adapter.limits("chat").labelled:
        assert found.label == "label-1"
    assert error.retry_after == (17.0 if "headers" in fault else None)
    assert "\n" not in str(error)


def test_a_lost_create_is_found_by_its_own_label_only(case, sim):
    """The look-up finds this job and not another one like it."""
    case.prepare(["prompt"])
    if not case.adapter.limits("chat").labelled:
        pytest.skip("this provider keeps no label")
    before = time.time()

    async def steps():
        upload_id = await case.upload()
        mine = await case.create(upload_id, "mine")
        await case.create(upload_id, "theirs")
        assert await case.adapter.find("nobody", case.job, before) is None
        return mine, await case.adapter.find("mine", case.job, before)

    mine, found = case.run(steps)
    assert found.remote_id == mine.remote_id


def test_a_listing_serves_for_polling(case):
    """Jobs are listed newest first with what `retrieve` would say of them."""
    case.prepare(["prompt"])
    before = time.time()

    async def steps():
        upload_id = await case.upload()
        first = await case.create(upload_id, "one")
        second = await case.create(upload_id, "two")
        listed = [remote async for remote in case.adapter.list(before)]
        return first, second, listed, await case.adapter.retrieve(first.remote_id)

    first, second, listed, polled = case.run(steps)
    assert {remote.remote_id for remote in listed} == {first.remote_id, second.remote_id}
    assert next(remote for remote in listed if remote.remote_id == first.remote_id) == polled


def test_a_cancelled_job_keeps_what_was_done(case, sim):
    """After a cancel every row has an outcome: an answer, or cancelled."""
    prompts = [f"prompt {number}" for number in range(10)]
    case.prepare(prompts)
    sim.behave(seconds=1000.0)

    async def steps():
        made = await case.start()
        sim.advance(500)
        cancelling = await case.adapter.cancel(made.remote_id)
        assert cancelling is None or cancelling.phase is Phase.ACTIVE
        sim.advance(1000)
        ended = await case.adapter.retrieve(made.remote_id)
        return ended, await case.collect(ended)

    ended, results = case.run(steps)
    assert ended.phase is Phase.ENDED
    outcomes = [results[f"r-{n}"].outcome if f"r-{n}" in results else ended.rest for n in range(10)]
    assert set(outcomes) == {Outcome.OK, Outcome.CANCELLED}


def test_rows_that_were_not_reached_in_time_are_expired(spec, case, sim):
    """What was done before the window closed is kept; the rest cost nothing."""
    case.prepare([f"prompt {number}" for number in range(8)])
    sim.behave(next_outcome="expired:0.5")

    async def steps():
        made = await case.start()
        ended = await case.adapter.retrieve(made.remote_id)
        return ended, await case.collect(ended)

    ended, results = case.run(steps)
    assert ended.phase is Phase.ENDED
    outcomes = [results[f"r-{n}"].outcome if f"r-{n}" in results else ended.rest for n in range(8)]
    done = 4 if spec.keeps_expired else 0
    assert sorted(outcomes) == [Outcome.EXPIRED] * (8 - done) + [Outcome.OK] * done
    assert len(sim.ledger()) == done


def test_an_unknown_state_is_active(case, sim):
    """A state never seen before is kept, shown, and waited for."""
    case.prepare(["prompt"])
    sim.behave(seconds=1000.0, unknown_state="pondering")

    async def steps():
        made = await case.start()
        sim.advance(500)
        return await case.adapter.retrieve(made.remote_id)

    remote = case.run(steps)
    assert remote.phase is Phase.ACTIVE
    assert "pondering" in remote.state.lower()


def test_a_vanished_job_is_told_from_a_busy_server(spec, case, sim):
    """Only a 404 says that something is gone; results past their retention are."""
    case.prepare(["prompt"])

    async def steps():
        with pytest.raises(Vanished):
            await case.adapter.retrieve(spec.unknown)
        made = await case.start()
        sim.fault(method="GET", action="status", status=503, times=1)
        with pytest.raises(Unclear):
            await case.adapter.retrieve(made.remote_id)
        ended = await case.adapter.retrieve(made.remote_id)
        assert ended.phase is Phase.ENDED
        # A provider that does not say how long it keeps results keeps them for weeks.
        kept = ended.keep_until or time.time() + 45 * 86400
        sim.advance(kept - time.time() + 86400)
        with pytest.raises(Vanished):
            await case.collect(ended)

    case.run(steps)


def test_a_download_is_whole_or_incomplete(spec, case, sim):
    """A connection lost in the middle of the results is noticed, and a second try brings all."""
    case.prepare([f"prompt {number}" for number in range(40)])

    async def steps():
        made = await case.start()
        ended = await case.adapter.retrieve(made.remote_id)
        sim.fault(method="GET", path=spec.content, action="truncate", keep=0.5)
        with pytest.raises(Incomplete):
            await case.collect(ended)
        return await case.collect(ended)

    assert len(case.run(steps)) == 40


def test_a_refused_key_is_told_without_the_key(spec, sim, tmp_path):
    """The provider's 401 names the variable to mend and never the key."""
    environ = sim.environ() | {spec.key: "sk-ant-not-simulated-abcdef"}
    case = Case(spec, tmp_path, environ)

    async def steps():
        with pytest.raises(KeyRefused) as caught:
            await case.adapter.retrieve(spec.unknown)
        return str(caught.value)

    told = case.run(steps)
    assert spec.key in told
    assert "simulated-abcdef" not in told
    assert "cdef" not in told


def test_nobody_listening_is_busy(spec, tmp_path):
    """A connection that was never made proves that nothing happened."""
    environ = {spec.key: "sim-dummy", spec.base_url: "http://127.0.0.1:1/v1"}
    case = Case(spec, tmp_path, environ)
    case.prepare(["prompt"])

    async def steps():
        with pytest.raises(Busy):
            await case.adapter.retrieve(spec.unknown)
        with pytest.raises(Busy):
            await case.create("file-1")
        with pytest.raises(ProviderError):
            await case.adapter.fetch(spec.unknown, "output", "file-1", io.BytesIO())

    case.run(steps)


def test_no_request_is_ever_repeated_by_the_sdk(case, sim):
    """Retries are the poller's: no request carries a retry count above zero."""
    case.prepare(["prompt"])
    sim.fault(method="GET", action="status", status=500, times=2)

    async def steps():
        made = await case.start()
        for _ in range(2):
            with contextlib.suppress(Unclear):
                await case.adapter.retrieve(made.remote_id)

    case.run(steps)
    assert {seen["retry_count"] for seen in sim.requests()} <= {"0", None}
