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
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ANY

from jupyter_llm_batch.core.errors import (
    Busy,
    Incomplete,
    KeyRefused,
    OutOfQuota,
    ProviderError,
    Refused,
    Unclear,
    UsageProblem,
    Vanished,
)
from jupyter_llm_batch.core.ids import Ranges
from jupyter_llm_batch.core.job import Job, Phase, Remote
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Outcome, Result
from jupyter_llm_batch.engine import lookup
from jupyter_llm_batch.providers import Adapter
from jupyter_llm_batch.providers.registry import make
from jupyter_llm_batch.providers.testing import ProviderContract
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
    odd
        How a row ends whose result has a type that nobody knows: answered where it holds an answer.
    keeps_expired
        Whether a job that expires gives the answers that it has.
    truncated
        The provider's word for an answer that was cut, by endpoint.
    tool
        Parameters that offer the tool of `WEATHER`, by endpoint.
    thinks
        The endpoints whose answers may hold what the model thought.
    several
        Parameters that ask for three answers.
    embeds
        A model for embeddings; empty when there are none.
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
    odd: Outcome = Outcome.FAILED
    keeps_expired: bool = True
    truncated: Mapping[str, str] = field(default_factory=lambda: {"chat": "length"})
    tool: Any = None
    thinks: tuple[str, ...] = ()
    several: Mapping[str, Any] = field(default_factory=dict)
    embeds: str = ""

    def recipe(self, **more: Any) -> Recipe:
        return Recipe(**{"max_tokens": self.max_tokens} | more)

    def adapter(self, environ: Mapping[str, str]) -> Adapter:
        return make(self.name, environ)


#: The arguments of the function that a row may call.
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

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
        truncated={"chat": "length", "responses": "max_output_tokens"},
        tool={
            "chat": {
                "tools": [
                    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
                ]
            },
            "responses": {
                "tools": [{"type": "function", "name": "weather", "parameters": WEATHER}],
                "tool_choice": "required",
            },
        },
        thinks=("responses",),
        several={"n": 3},
        embeds="text-embedding-3-small",
    ),
    Spec(
        name="anthropic",
        model="claude-haiku-4-5",
        key="ANTHROPIC_API_KEY",
        base_url="ANTHROPIC_BASE_URL",
        create="/anthropic/v1/messages/batches",
        content="*/results",
        unknown="msgbatch_0123456789abcdef",
        odd=Outcome.OK,
        truncated={"chat": "max_tokens"},
        tool={"chat": {"tools": [{"name": "weather", "input_schema": WEATHER}]}},
        thinks=("chat",),
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
        truncated={"chat": "MAX_TOKENS"},
        tool={
            "chat": {
                "tools": [{"functionDeclarations": [{"name": "weather", "parameters": WEATHER}]}]
            }
        },
        thinks=("chat",),
        several={"candidateCount": 3},
        embeds="gemini-embedding-001",
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
    "[[sim:empty]]": (Outcome.FAILED, True, False),
    "[[sim:odd]]": (Outcome.FAILED, True, False),
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
    with Simulator(keys=ANY, seconds=0) as simulator:
        yield simulator


class Case:
    """One job of one provider, and the steps of its life."""

    def __init__(self, spec: Spec, folder: Path, environ: Mapping[str, str]) -> None:
        self.spec = spec
        self.adapter = spec.adapter(environ)
        self._payload = folder / "job.jsonl"
        self.lines: dict[str, bytes] = {}

    def prepare(
        self, prompts: list[Any], endpoint: str = "chat", model: str = "", **more: Any
    ) -> Job:
        recipe = self.spec.recipe(endpoint=endpoint, **more)
        model = model or self.spec.model
        self.adapter.validate(recipe, model)
        encode = self.adapter.encoder(recipe, model)
        lines = [encode(f"r-{number}", prompt) for number, prompt in enumerate(prompts)]
        self._payload.write_bytes(b"".join(lines))
        self.job = Job(
            id="job-1",
            batch_id="r",
            round=0,
            number=0,
            provider=self.spec.name,
            model=model,
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
        return await lookup.find(self.adapter, self.job, rows, (), label, since, set())

    async def collect(self, remote: Remote) -> dict[str, Result]:
        found = {}
        for part, ref in remote.parts.items():
            sink = io.BytesIO()
            await self.adapter.fetch(remote.remote_id, part, ref, sink)
            for line in sink.getvalue().splitlines():
                result = self.adapter.parse(line, self.job.endpoint)
                self.lines[result.custom_id] = line
                found[result.custom_id] = result
        return found

    def answers(self) -> dict[str, Result]:
        """Carry the prepared job to its end and return its results."""

        async def steps() -> dict[str, Result]:
            made = await self.start()
            return await self.collect(await self.adapter.retrieve(made.remote_id))

        found: dict[str, Result] = self.run(steps)
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


# -- the tests that other packages run, too


class TestContract(ProviderContract):
    """What `jupyter_llm_batch.providers.testing` demands of any adapter."""

    key = "sim-key-of-the-contract"

    @pytest.fixture(autouse=True)
    def _server(self, spec, sim):
        self.spec, self.sim = spec, sim
        self.model, self.recipe, self.address = spec.model, spec.recipe(), spec.base_url

    def adapter_of(self, environ):
        return self.spec.adapter(environ)

    def url(self):
        return self.sim.environ()[self.spec.base_url]

    def created(self):
        return len(creates(self.sim, self.spec))

    def lose_the_next_answer(self):
        self.sim.fault(method="POST", path=self.spec.create, action="accept_then_drop")
        return True


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
    fates["[[sim:odd]]"] = (spec.odd, True, False)
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
    cut = results[f"r-{prompts.index('[[sim:length]]')}"]
    assert (cut.finish_reason, cut.truncated) == (spec.truncated[endpoint], True)
    assert cut.text


@pytest.mark.parametrize(("spec", "endpoint"), endpoints(), indirect=["spec"])
def test_every_part_of_an_answer_is_kept(spec, endpoint, case):
    """Calls with name and arguments, thoughts apart from the text, citations in the raw line."""
    prompts = ["[[sim:tool]] a", "[[sim:think]] b", "[[sim:cite]] c"]
    case.prepare(prompts, endpoint, params=spec.tool[endpoint])
    called, thought, cited = (case.answers()[f"r-{number}"] for number in range(3))
    assert (called.outcome, called.text) == (Outcome.OK, None)
    ((name, arguments),) = [(call.name, call.arguments) for call in called.tool_calls]
    assert name == "weather"
    assert isinstance(arguments["city"], str)
    assert called.said.startswith('weather({"city":')
    assert thought.outcome is Outcome.OK
    assert thought.usage.reasoning > 0
    assert thought.usage.output > thought.usage.reasoning - 1
    if "tool_choice" not in spec.tool[endpoint]:
        assert mark(prompts[1]) in thought.text
    if endpoint in spec.thinks:
        assert thought.reasoning == "The request was considered."
        assert "considered" not in (thought.text or "")
    assert cited.outcome is Outcome.OK
    assert b"https://example.com/source" in case.lines["r-2"]


def test_several_answers_to_one_request_are_kept(spec, case):
    """The first is the row's text; all of them stand beside it in their order."""
    if not spec.several:
        pytest.skip("this provider gives one answer to a request")
    case.prepare(["one", "two"], params=spec.several)
    results = case.answers()
    for number, prompt in enumerate(["one", "two"]):
        result = results[f"r-{number}"]
        assert result.choices is not None
        assert result.choices[0] == result.text
        assert len(set(result.choices)) == 3
        assert all(mark(prompt) in (text or "") for text in result.choices)


def test_embeddings_are_vectors_or_refused_in_one_line(spec, case):
    """Each text has its vector, of the length that was asked for; or the line names who has."""
    if not spec.embeds:
        with pytest.raises(UsageProblem, match=r"OpenAI or Google") as caught:
            case.adapter.validate(spec.recipe(endpoint="embeddings", max_tokens=None), spec.model)
        assert "\n" not in str(caught.value)
        return
    params = {"dimensions": 8} if spec.name == "openai" else {"output_dimensionality": 8}
    case.prepare(["a", "b"], "embeddings", spec.embeds, params=params)
    results = case.answers()
    vectors = [results[f"r-{number}"].vector for number in range(2)]
    assert [len(vector or ()) for vector in vectors] == [8, 8]
    assert vectors[0] != vectors[1]
    assert {result.outcome for result in results.values()} == {Outcome.OK}
    assert all(result.usage.input > 0 for result in results.values())


def test_a_job_whose_rows_all_failed_has_every_reason(case):
    """It ended like any other, though there may be no file of answers at all."""
    case.prepare(["[[sim:fail-400]]"] * 3)
    results = case.answers()
    assert {result.outcome for result in results.values()} == {Outcome.FAILED}
    assert len(results) == 3
    assert all(result.error and not result.billed for result in results.values())


#: What a status says about a call: refused, to be waited for, or perhaps done.
STATUSES = {
    400: Refused, 401: KeyRefused, 402: OutOfQuota, 403: KeyRefused, 404: Vanished, 408: Unclear,
    409: Unclear, 412: Refused, 413: Refused, 422: Refused, 429: Busy, 499: Unclear, 500: Unclear,
    501: Unclear, 502: Unclear, 503: Unclear, 504: Unclear, 529: Busy,
}  # fmt: skip


def test_every_status_says_what_is_known(spec, case, sim):
    """Whatever the body: JSON of another server, a page, or nothing."""
    bodies = ["<html>Bad gateway</html>", "", {"error": "no"}, {"error": {"message": "no"}}, [1]]

    async def steps():
        for number, (status, expected) in enumerate(STATUSES.items()):
            body = bodies[number % len(bodies)]
            sim.fault(method="GET", action="status", status=status, body=body)
            with pytest.raises(ProviderError) as caught:
                await case.adapter.retrieve(spec.unknown)
            assert type(caught.value) is expected, (status, body)
            assert caught.value.status == status
            assert "<html>" not in str(caught.value)
            assert "\n" not in str(caught.value)

    case.run(steps)


def test_a_wait_may_be_told_in_several_ways(spec, case, sim):
    """Seconds, fractions, a date, milliseconds; nonsense is no wait, and a day is the longest."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    waits = [
        ({"retry-after": "7"}, 7.0), ({"retry-after": "0.5"}, 0.5), ({"retry-after": soon}, 90.0),
        ({"retry-after-ms": "1500"}, 1.5), ({"retry-after": "-3"}, 0.0), ({}, None),
        ({"retry-after": "soon"}, None), ({"retry-after": "1e12"}, 86400.0),
    ]  # fmt: skip

    async def steps():
        for headers, expected in waits:
            sim.fault(method="GET", action="status", status=429, headers=headers, body="")
            with pytest.raises(Busy) as caught:
                await case.adapter.retrieve(spec.unknown)
            assert caught.value.retry_after == pytest.approx(expected, abs=5), headers

    case.run(steps)


def test_a_page_that_is_no_answer_is_unclear(spec, case, sim):
    """A proxy's sign-in page with status 200 is neither a job, nor a listing, nor a cancel."""
    page = {"action": "status", "status": 200, "body": "<html>Sign in</html>"}

    async def steps():
        sim.fault(method="GET", **page)
        with pytest.raises(Unclear):
            await case.adapter.retrieve(spec.unknown)
        sim.fault(method="GET", **page)
        with pytest.raises(Unclear):
            [remote async for remote in case.adapter.list(0)]
        sim.fault(method="POST", **page)
        if spec.name != "google":  # which answers a cancel with nothing, and nothing is read
            with pytest.raises(Unclear):
                await case.adapter.cancel(spec.unknown)

    case.run(steps)


def test_a_cancel_of_what_is_not_there_is_told(spec, case):
    """It is gone, which is no error of the connection."""

    async def steps():
        with pytest.raises(Vanished):
            await case.adapter.cancel(spec.unknown)

    case.run(steps)


def test_a_listing_without_jobs_is_empty(case):
    """Nothing is listed and nothing is found."""
    case.prepare(["prompt"])

    async def steps():
        assert [remote async for remote in case.adapter.list(0)] == []
        assert await case.find("label-1", 0) is None

    case.run(steps)


def test_an_empty_file_of_results_holds_no_rows(spec, case, sim):
    """It is a whole download; that rows are missing from it is for others to say."""
    case.prepare(["prompt"])

    async def steps():
        made = await case.start()
        ended = await case.adapter.retrieve(made.remote_id)
        if ended.parts.get("output") == "inline":
            pytest.skip("small jobs of this provider have no file")
        sim.fault(method="GET", path=spec.content, action="status", status=200, body="")
        return await case.collect(ended)

    assert case.run(steps) == {}


def test_a_job_says_how_long_its_results_are_kept(spec, case):
    """The end of its window is known from the start; its results outlive it."""
    case.prepare(["prompt"])

    async def steps():
        made = await case.start()
        return made, await case.adapter.retrieve(made.remote_id)

    made, ended = case.run(steps)
    window = 2 * 86400 if spec.name == "google" else 86400
    assert made.expires_at - made.created_at == pytest.approx(window, abs=2)
    if spec.name == "google":
        assert ended.keep_until is None
    else:
        assert ended.keep_until - made.created_at > 28 * 86400


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


@pytest.mark.parametrize("hours", [-30, -2, 2, 30])
def test_a_lost_create_is_found_whatever_our_clock_said(case, sim, hours):
    """A clock that was wrong, and perhaps set since, must not hide what was bought."""
    case.prepare(["prompt"])

    async def steps():
        upload_id = await case.upload()
        made = await case.create(upload_id)
        sim.advance(60)  # over, so that results can tell whose it is
        return made, await case.find("label-1", made.created_at + hours * 3600)

    made, found = case.run(steps)
    assert found.remote_id == made.remote_id


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
