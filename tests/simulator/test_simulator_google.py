"""The simulated Gemini API, driven by Google's own SDK and by plain HTTP."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from support import ANY

from jupyter_llm_batch.simulator import Simulator, mark

MODEL = "gemini-2.5-flash"
BATCH = f"models/{MODEL}:batchGenerateContent"
FILE_TYPE = {"mime_type": "application/jsonl"}


@pytest.fixture(params=["v1", "v1beta"])
def version(request):
    return request.param


@pytest.fixture
def sdk(sim, version):
    options = {"base_url": sim.google_url, "api_version": version}
    client = genai.Client(enterprise=False, api_key="sim-dummy-key", http_options=options)
    yield client
    client.close()


@pytest.fixture
def http(sim):
    headers = {"x-goog-api-key": "sim-dummy-key"}
    with httpx2.Client(base_url=f"{sim.google_url}/v1", headers=headers) as client:
        yield client


def said(text):
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


def inline(*prompts):
    return [said(text) | {"metadata": {"key": f"k{n}"}} for n, text in enumerate(prompts)]


def create(http, *requests, method="batchGenerateContent", **batch):
    """Create an inline job from raw requests and return the answer."""
    items = [{"request": each, "metadata": {"key": f"k{n}"}} for n, each in enumerate(requests)]
    body = {"batch": {"inputConfig": {"requests": {"requests": items}}} | batch}
    return http.post(f"models/{MODEL}:{method}", json=body)


def uploaded(sdk, tmp_path, *lines):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return sdk.files.upload(file=path, config=FILE_TYPE)


# -- jobs


def test_an_inline_job_gives_its_answers_in_order(sdk):
    """Each response stands where its request stood and carries its metadata."""
    prompts = [f"prompt {n}" for n in range(12)]
    job = sdk.batches.create(model=MODEL, src=inline(*prompts), config={"display_name": "mine"})
    assert job.state is types.JobState.JOB_STATE_PENDING
    job = sdk.batches.get(name=job.name)
    assert (job.state, job.display_name) == (types.JobState.JOB_STATE_SUCCEEDED, "mine")
    for number, answer in enumerate(job.dest.inlined_responses):
        assert answer.metadata == {"key": f"k{number}"}
        assert mark(prompts[number]) in answer.response.text


def test_a_file_job_gives_a_file(sdk, tmp_path):
    """The results are downloaded under a name that nothing else of the File API takes."""
    lines = [{"key": f"k{n}", "request": said(f"p{n}")} for n in range(5)]
    file = uploaded(sdk, tmp_path, *lines)
    job = sdk.batches.create(model=MODEL, src=file.name)
    job = sdk.batches.get(name=job.name)
    assert job.dest.file_name == f"files/batch-{job.name.removeprefix('batches/')}"
    assert len(job.dest.file_name.removeprefix("files/")) == 42
    raw = sdk.files.download(file=job.dest.file_name).splitlines()
    orders = {tuple(json.loads(line)) for line in raw}
    assert orders == {("key", "response"), ("response", "key")}
    texts = {each["key"]: each["response"]["candidates"] for each in map(json.loads, raw)}
    for number in range(5):
        assert mark(f"p{number}") in texts[f"k{number}"][0]["content"]["parts"][0]["text"]
    for call in (sdk.files.get, sdk.files.delete):
        with pytest.raises(errors.ClientError, match="cannot be more than 40 characters"):
            call(name=job.dest.file_name)


def test_the_operation_looks_as_it_was_recorded(http, sim):
    """Counts are strings and left out when zero, and the output is there twice."""
    sim.behave(seconds=100)
    job = create(http, said("a"), said("b [[sim:fail-400]]"), displayName="mine").json()
    assert set(job) == {"name", "metadata"}
    assert job["metadata"]["batchStats"] == {"requestCount": "2", "pendingRequestCount": "2"}
    assert job["metadata"]["state"] == "BATCH_STATE_PENDING"
    sim.advance(50)
    assert http.get(job["name"]).json()["metadata"]["state"] == "BATCH_STATE_RUNNING"
    sim.advance(60)
    job = http.get(job["name"]).json()
    metadata = job["metadata"]
    assert metadata["batchStats"] == {
        "requestCount": "2",
        "successfulRequestCount": "1",
        "failedRequestCount": "1",
    }
    assert job["done"] is True
    assert {key: job["response"][key] for key in metadata["output"]} == metadata["output"]
    first, second = metadata["output"]["inlinedResponses"]["inlinedResponses"]
    assert first["response"]["usageMetadata"]["serviceTier"] == "standard"
    assert second["error"]["code"] == 3
    assert metadata["endTime"] > metadata["createTime"]
    assert metadata["createTime"].endswith("Z")


def test_listings_leave_inline_answers_out_and_come_in_pages(sdk, http):
    """The SDK's pager walks them, newest first."""
    names = [create(http, said(f"p{n}")).json()["name"] for n in range(5)]
    listed = [job.name for job in sdk.batches.list(config={"page_size": 2})]
    assert listed == names[::-1]
    page = http.get("batches", params={"pageSize": 2}).json()
    assert all(
        "output" not in job["metadata"] and "response" not in job for job in page["operations"]
    )
    assert http.get("batches", params={"pageToken": "nonsense"}).status_code == 400


def test_a_key_sees_its_own_jobs_and_files_only(sdk, http, sim, tmp_path):
    """Another key's objects are not there for it."""
    file = uploaded(sdk, tmp_path, {"key": "k", "request": said("a")})
    name = create(http, said("a")).json()["name"]
    other = {"x-goog-api-key": "sim-other"}
    assert http.get("batches", headers=other).json() == {}
    assert http.get("files", headers=other).json() == {}
    assert http.get(name, headers=other).status_code == 404
    told = http.get(file.name, headers=other)
    assert told.status_code == 403
    assert "may not exist" in told.text
    assert http.get("files").json()["files"][0]["name"] == file.name


def test_a_cancelled_job_keeps_what_was_done(sdk, sim):
    """Rows that were not reached are in no answer and on no bill."""
    sim.behave(seconds=100)
    job = sdk.batches.create(model=MODEL, src=inline(*(f"p{n}" for n in range(10))))
    sim.advance(50)
    assert sdk.batches.cancel(name=job.name) is None
    sim.advance(1000)
    job = sdk.batches.get(name=job.name)
    assert job.state is types.JobState.JOB_STATE_CANCELLED
    assert 0 < len(job.dest.inlined_responses) < 10
    assert len(sim.ledger()) == len(job.dest.inlined_responses)


def test_a_job_expires_after_two_days_without_answers(sdk, http, sim):
    """Nothing is delivered, counted or billed."""
    sim.behave(seconds=1e6)
    job = sdk.batches.create(model=MODEL, src=inline("a", "b"))
    sim.advance(47 * 3600)
    assert sdk.batches.get(name=job.name).state is types.JobState.JOB_STATE_RUNNING
    sim.advance(2 * 3600)
    told = http.get(job.name).json()
    assert told["metadata"]["state"] == "BATCH_STATE_EXPIRED"
    assert told["metadata"]["batchStats"] == {"requestCount": "2", "pendingRequestCount": "2"}
    assert "output" not in told["metadata"]
    assert sim.ledger() == []


def test_a_job_with_failed_rows_may_be_called_partial(http, sim):
    """By a switch; a job without failures has succeeded all the same."""
    sim.behave(partial_state=True)
    states = []
    for prompt in ("a [[sim:fail-500]]", "a"):
        name = create(http, said(prompt), said("b")).json()["name"]
        states.append(http.get(name).json()["metadata"]["state"])
    assert states == ["BATCH_STATE_PARTIALLY_SUCCEEDED", "BATCH_STATE_SUCCEEDED"]


def test_a_row_can_come_back_as_cancelled(http):
    """With code 1, in a job that succeeded."""
    name = create(http, said("a [[sim:expire]]")).json()["name"]
    job = http.get(name).json()
    (row,) = job["response"]["inlinedResponses"]["inlinedResponses"]
    assert row["error"] == {"code": 1, "message": "The operation was cancelled."}
    assert job["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"


def test_an_unknown_field_in_a_file_fails_the_job(sdk, http, tmp_path):
    """Only when it is read, and with its name."""
    good = {"key": "k0", "request": said("a")}
    for request, name in (
        (said("b") | {"config": {}}, "config"),
        (said("b") | {"generation_config": {"budget": 0}}, "budget"),
    ):
        file = uploaded(sdk, tmp_path, good, {"key": "k1", "request": request})
        job = sdk.batches.create(model=MODEL, src=file.name)
        told = http.get(job.name).json()
        assert told["metadata"]["state"] == "BATCH_STATE_FAILED"
        assert f"no such field: '{name}'" in told["error"]["message"]
        assert "response" not in told


def test_an_unknown_field_inline_is_refused_at_once(http):
    """Nothing is created; the address of the field is told."""
    told = create(http, said("a"), said("b") | {"config": {}})
    assert told.status_code == 400
    assert (
        'Unknown name "config" at \'batch.input_config.requests.requests[1]'
        in told.json()["error"]["message"]
    )
    assert http.get("batches").json() == {}


def test_both_spellings_are_accepted(http):
    """Camel case and snake case mean the same, at each level of our own names."""
    request = said("a b c d e f g") | {
        "system_instruction": {"parts": [{"text": "S"}]},
        "generation_config": {"max_output_tokens": 3, "thinking_config": {"thinking_budget": 9}},
    }
    name = create(http, request).json()["name"]
    (row,) = http.get(name).json()["response"]["inlinedResponses"]["inlinedResponses"]
    assert row["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    usage = row["response"]["usageMetadata"]
    assert usage["candidatesTokenCount"] == 3
    assert usage["thoughtsTokenCount"] > 0
    items = {"requests": [{"request": request}]}
    body = {"batch": {"display_name": "x", "input_config": {"requests": items}}}
    assert http.post(f"models/{MODEL}:batchGenerateContent", json=body).status_code == 200


def test_embeddings_have_their_own_job(http, sdk):
    """Vectors of the asked length, under the name that the SDK reads."""
    requests = [{"content": {"parts": [{"text": t}]}, "outputDimensionality": 8} for t in "ab"]
    name = create(http, *requests, method="asyncBatchEmbedContent").json()["name"]
    job = sdk.batches.get(name=name)
    vectors = [each.response.embedding.values for each in job.dest.inlined_embed_content_responses]
    assert [len(vector) for vector in vectors] == [8, 8]
    assert vectors[0] != vectors[1]


def test_the_ledger_says_who_asked_what(http, sim):
    """One entry per executed row, with its key and its request's hash."""
    name = create(http, said("a"), said("b [[sim:fail-400]]"), said("a")).json()["name"]
    http.get(name)
    first, second = sim.ledger()
    assert (first["custom_id"], second["custom_id"]) == ("k0", "k2")
    assert first["body_sha"] == second["body_sha"]
    assert (first["provider"], first["endpoint"], first["model"], first["mode"]) == (
        "google", "generateContent", MODEL, "batch",
    )  # fmt: skip
    assert first["prompt_mark"] == mark("a")
    assert first["batch_id"] == name.removeprefix("batches/")


def test_a_long_shared_prefix_is_cached(http):
    """The second row with the same system prompt reads it from the cache."""
    system = {"systemInstruction": {"parts": [{"text": "word " * 2000}]}}
    name = create(http, said("a") | system, said("b") | system).json()["name"]
    rows = http.get(name).json()["response"]["inlinedResponses"]["inlinedResponses"]
    first, second = (row["response"]["usageMetadata"] for row in rows)
    assert "cachedContentTokenCount" not in first
    assert second["cachedContentTokenCount"] >= 1024


def test_a_restart_keeps_jobs_and_answers(tmp_path):
    """Another process with the same folder gives the same answers."""
    headers = {"x-goog-api-key": "sim-dummy-key"}

    def client(sim):
        return httpx2.Client(base_url=f"{sim.google_url}/v1", headers=headers)

    with Simulator(keys=ANY, seconds=0, state=tmp_path) as sim, client(sim) as http:
        name = create(http, said("a")).json()["name"]
        before = http.get(name).json()
    with Simulator(keys=ANY, seconds=0, state=tmp_path) as sim, client(sim) as http:
        assert http.get(name).json() == before


# -- files


def test_an_upload_comes_in_pieces(sdk, http, sim, tmp_path):
    """More than one piece of 8 MiB arrives whole; the pieces carry no key."""
    path = tmp_path / "large.jsonl"
    line = json.dumps({"key": "k", "request": said("x" * 10_000)}) + "\n"
    path.write_text(line * 900)
    file = sdk.files.upload(file=path, config=FILE_TYPE | {"display_name": "large"})
    assert (file.size_bytes, file.display_name) == (path.stat().st_size, "large")
    assert file.expiration_time - file.create_time == timedelta(hours=48)
    pieces = [seen for seen in sim.requests() if seen["path"].startswith("/google-upload/")]
    assert len(pieces) == 2
    job = sdk.batches.create(model=MODEL, src=file.name)
    stats = http.get(job.name).json()["metadata"]["batchStats"]
    assert stats["requestCount"] == "900"
    sdk.files.delete(name=file.name)
    assert [*sdk.files.list()] == []


def test_an_upload_can_be_wrong_in_many_ways(http, sim):
    """Other protocols, offsets and addresses are refused."""
    upload = sim.google_url + "/upload/v1/files"
    assert http.post(upload, content=b"x").status_code == 400
    start = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    url = http.post(upload, headers=start, json={"file": {}}).headers["x-goog-upload-url"]
    assert url.startswith(sim.url)
    wrong = {"X-Goog-Upload-Command": "upload", "X-Goog-Upload-Offset": "5"}
    assert httpx2.post(url, headers=wrong, content=b"x").status_code == 400
    assert httpx2.post(url + "0", headers=wrong, content=b"x").status_code == 404


def test_uploads_expire(sdk, http, sim, tmp_path):
    """After two days a file is gone, and a job cannot be made of it."""
    file = uploaded(sdk, tmp_path, {"key": "k", "request": said("a")})
    sim.advance(49 * 3600)
    with pytest.raises(errors.ClientError, match="may not exist"):
        sdk.batches.create(model=MODEL, src=file.name)


# -- answers at once


def test_content_is_generated_at_once(sdk, sim):
    """Marked as simulated, with usage, and on the bill."""
    answer = sdk.models.generate_content(model=MODEL, contents="hello")
    assert mark("hello") in answer.text
    assert answer.usage_metadata.prompt_token_count > 0
    (entry,) = sim.ledger()
    assert (entry["mode"], entry["custom_id"]) == ("realtime", None)


def test_a_schema_is_honoured(sdk):
    """Both kinds of schema, in the SDK's and in JSON's form."""
    schema = {
        "type": "object",
        "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}},
        "required": ["mood"],
    }
    for name in ("response_json_schema", "response_schema"):
        config = {"response_mime_type": "application/json", name: schema}
        answer = sdk.models.generate_content(model=MODEL, contents="I love it", config=config)
        assert json.loads(answer.text) == {"mood": "good"}


def test_the_model_can_refuse_and_the_prompt_can_be_blocked(sdk):
    """A withheld answer has a reason, a blocked prompt has no candidates."""
    answer = sdk.models.generate_content(model=MODEL, contents="[[sim:refuse]]")
    assert answer.candidates[0].finish_reason is types.FinishReason.SAFETY
    assert not answer.text
    answer = sdk.models.generate_content(model=MODEL, contents="[[sim:filter]]")
    assert answer.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
    assert not answer.candidates


def test_thoughts_are_parts_of_their_own(sdk):
    """They are shown on request, counted apart, and no part of the text."""
    config = {"thinking_config": {"include_thoughts": True}}
    answer = sdk.models.generate_content(model=MODEL, contents="hello", config=config)
    thought, spoken = answer.candidates[0].content.parts
    assert thought.thought
    assert answer.text == spoken.text
    assert answer.usage_metadata.thoughts_token_count > 0


def test_tokens_are_counted_and_models_listed(sdk):
    """The counters and the list that notebooks begin with."""
    assert sdk.models.count_tokens(model=MODEL, contents="a few words").total_tokens > 0
    assert f"models/{MODEL}" in {model.name for model in sdk.models.list()}
    assert sdk.models.get(model=MODEL).name == f"models/{MODEL}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vectors = sdk.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
    assert len(vectors.embeddings) == 2


@pytest.mark.parametrize(
    ("fate", "code"), [("fail-400", 400), ("fail-429", 429), ("fail-500", 500)]
)
def test_refusals_have_googles_shape(http, fate, code):
    """Code, message and status; a 429 says nowhere how long to wait."""
    told = http.post(f"models/{MODEL}:generateContent", json=said(f"[[sim:{fate}]]"))
    error = told.json()["error"]
    assert (told.status_code, error["code"]) == (code, code)
    assert error["status"] in {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL"}
    assert "retry-after" not in told.headers


def test_keys_are_checked_and_never_repeated(http):
    """No key, and a real one, are refused each in its own way."""
    with httpx2.Client() as bare:
        told = bare.get(http.base_url.join("models"))
    assert (told.status_code, told.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    told = http.get("models", headers={"x-goog-api-key": "AIzaSyReal"})
    assert (told.status_code, "AIza" in told.text) == (400, False)
    assert told.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "models/unknown-1:batchGenerateContent", {}, 404),
        ("POST", "models/unknown-1:generateContent", {}, 404),
        ("GET", "models/unknown-1", None, 404),
        ("POST", BATCH, {}, 400),
        ("POST", BATCH, {"batch": 3}, 400),
        ("POST", BATCH, {"batch": {"inputConfig": {"requests": 3}}}, 400),
        ("POST", f"models/{MODEL}:generateContent", {}, 400),
        ("POST", f"models/{MODEL}:generateContent", {"contents": [3]}, 400),
        ("POST", f"models/{MODEL}:embedContent", {"content": {"parts": []}}, 400),
        ("GET", "batches/nobody", None, 404),
        ("POST", "batches/nobody:cancel", None, 404),
        ("GET", "files/batch-x:download", None, 403),
        ("GET", "nothing/here", None, 404),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(http, method, path, body, status):
    """Each with Google's status and never with a 500."""
    assert http.request(method, path, json=body).status_code == status
