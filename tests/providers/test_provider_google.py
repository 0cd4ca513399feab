"""The Gemini adapter's own facts; `test_provider_contract` holds what all adapters share."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import ssl
import warnings
from pathlib import Path

import httpx2
import msgspec
import pytest
from google.genai import errors as sdk_errors
from replay import Replay

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
from jupyter_llm_batch.core.job import Job, Phase
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.providers.google import requests as wire
from jupyter_llm_batch.providers.google.client import translate
from jupyter_llm_batch.providers.registry import make

MODEL = "gemini-2.5-flash"
#: More rows than go inline.
MANY = 5_001
CREATE = f"/v1/models/{MODEL}:batchGenerateContent"


def test_a_missing_key_names_its_variable_and_where_to_get_one():
    """Without a key the user is told which variable to set, also by a network call."""
    adapter = make("google", {})
    with pytest.raises(UsageProblem, match=r"GEMINI_API_KEY .*aistudio\.google\.com/apikey"):
        adapter.check_key()
    with pytest.raises(KeyRefused, match="GEMINI_API_KEY"):
        asyncio.run(adapter.retrieve("batches/1"))
    with pytest.raises(UsageProblem, match="GOOGLE_API_KEY"):
        make("google", {"GOOGLE_API_KEY": "AIza\u2013dash"}).check_key()


def test_the_account_tells_servers_and_keys_apart():
    """Spelling of the address does not matter; the key that is used and the server do."""
    account = make("google", {"GEMINI_API_KEY": "one"}).account(b"salt")
    assert account.base_url == "https://generativelanguage.googleapis.com"
    url = {"GOOGLE_GEMINI_BASE_URL": "HTTPS://GenerativeLanguage.googleapis.com/"}
    assert make("google", url | {"GEMINI_API_KEY": "one"}).account(b"salt") == account
    both = {"GEMINI_API_KEY": "two", "GOOGLE_API_KEY": "one"}
    assert make("google", both).account(b"salt") == account
    with pytest.raises(UsageProblem, match="GOOGLE_GEMINI_BASE_URL"):
        make("google", {"GOOGLE_GEMINI_BASE_URL": "http://[::1/"})


def test_limits_stay_within_what_google_takes():
    """A job stays under 2 GB and has one model and a label."""
    limits = make("google", {}).limits("chat")
    assert limits.bytes < 2_000_000_000
    assert limits.line_bytes < 20_000_000
    assert (limits.requests, limits.one_model, limits.labelled) == (50_000, True, True)


# -- requests


def prepared(tmp_path: Path, rows=2, endpoint="chat", model=MODEL):
    encode = wire.encoder(Recipe(endpoint=endpoint))
    payload = tmp_path / "job.jsonl"
    payload.write_bytes(b"".join(encode(f"r-{n}", f"prompt {n}") for n in range(rows)))
    job = Job(
        id="job-1",
        batch_id="b",
        round=0,
        number=0,
        provider="google",
        model=model,
        endpoint=endpoint,
        rows=rows,
        bytes=payload.stat().st_size,
        payload=payload.name,
    )
    return job, payload


def answer(method, path, body="", status=200, **headers):
    return {
        "request": {"method": method, "uri": path},
        "response": {"status": status, "headers": headers, "body": body},
    }


def made(state="BATCH_STATE_PENDING"):
    return {"name": "batches/b1", "metadata": {"state": state, "displayName": "label-1"}}


def asked(exchanges, steps, **environ):
    """Run `steps(adapter)` against recorded answers; return its value and what was asked."""

    async def main(adapter):
        try:
            return await steps(adapter)
        finally:
            await adapter.close()

    with Replay(exchanges) as server:
        for exchange in exchanges:
            headers = exchange["response"]["headers"]
            if "x-goog-upload-url" in headers:
                headers["x-goog-upload-url"] = f"{server.url}/up"
        settings = {"GEMINI_API_KEY": "sim-key", "GOOGLE_GEMINI_BASE_URL": server.url} | environ
        value = asyncio.run(main(make("google", settings)))
        return value, server.asked


UPLOAD = [
    answer("POST", "/upload/v1/files", **{"x-goog-upload-url": "", "x-goog-upload-status": "a"}),
    answer("POST", "/up", {"file": {"name": "files/f1"}}, **{"x-goog-upload-status": "final"}),
]


@pytest.mark.parametrize(
    ("endpoint", "method"),
    [("chat", "batchGenerateContent"), ("embeddings", "asyncBatchEmbedContent")],
)
def test_a_small_job_carries_its_requests(tmp_path, endpoint, method):
    """Nothing is uploaded; one create holds every request under its key, and our label."""
    job, payload = prepared(tmp_path, endpoint=endpoint)

    async def steps(adapter):
        assert await adapter.upload(job, payload) is None
        return await adapter.create(job, payload, None, "label-1")

    remote, (request,) = asked([answer("POST", f"/v1/models/{MODEL}:{method}", made())], steps)
    assert remote.remote_id == "batches/b1"
    body = json.loads(request.body)
    assert body == json.loads(wire.inline(payload.read_bytes().splitlines(), "label-1"))
    assert request.headers["x-goog-api-key"] == "sim-key"


@pytest.mark.parametrize("endpoint", ["chat", "embeddings"])
def test_a_large_job_is_uploaded_as_it_lies_on_the_disk(tmp_path, endpoint):
    """The file goes up as JSONL under the job's name, and the create names it."""
    job, payload = prepared(tmp_path, MANY, endpoint)
    path = f"/v1/models/{MODEL}:{wire.METHODS[endpoint]}"
    exchanges = [answer("GET", f"/v1/models/{MODEL}", {}), *UPLOAD, answer("POST", path, made())]

    async def steps(adapter):
        upload_id = await adapter.upload(job, payload)
        assert upload_id == "files/f1"
        return await adapter.create(job, payload, upload_id, "label-1")

    _, (_, start, piece, create) = asked(exchanges, steps)
    assert start.headers["x-goog-upload-header-content-type"] == "application/jsonl"
    assert json.loads(start.body)["file"]["display_name"] == "job-1"
    assert piece.body == payload.read_bytes()
    config = {"fileName": "files/f1"}
    assert json.loads(create.body) == {"batch": {"displayName": "label-1", "inputConfig": config}}


@pytest.mark.parametrize("rows", [2, MANY], ids=["inline", "file"])
def test_embeddings_keep_their_settings_in_every_kind_of_job(sim, tmp_path, rows):
    """Dimensions and task stand beside the content, inline and in a file."""
    recipe = Recipe(
        endpoint="embeddings",
        params={"output_dimensionality": 4, "task_type": "CLUSTERING", "title": "t"},
    )
    encode = wire.encoder(recipe)
    payload = tmp_path / "job.jsonl"
    payload.write_bytes(b"".join(encode(f"r-{n}", f"text {n}") for n in range(rows)))
    request = json.loads(payload.open("rb").readline())["request"]
    content = {"parts": [{"text": "text 0"}]}
    settings = {"outputDimensionality": 4, "taskType": "CLUSTERING", "title": "t"}
    assert request == {"content": content, **settings}
    job, _ = prepared(tmp_path, 1)
    job = msgspec.structs.replace(
        job, model="gemini-embedding-001", endpoint="embeddings", rows=rows
    )
    payload.write_bytes(b"".join(encode(f"r-{n}", f"text {n}") for n in range(rows)))

    async def steps(adapter):
        ended = await through(adapter, job, payload)
        lines = Collected()
        await adapter.fetch(ended.remote_id, "output", ended.parts["output"], lines)
        return [adapter.parse(line, "embeddings") for line in lines.splitlines()]

    found = simulated(sim, steps)
    assert {result.custom_id for result in found} == {f"r-{n}" for n in range(rows)}
    assert {len(result.vector) for result in found} == {4}


def test_a_job_of_many_bytes_is_uploaded_too(tmp_path):
    """20 MB are the limit of a create; rows that are few can still be large."""
    job, payload = prepared(tmp_path, 1)
    payload.write_bytes(wire.encoder(Recipe())("r-0", "x" * 18_000_000))
    job = msgspec.structs.replace(job, bytes=payload.stat().st_size)
    upload_id, requests = asked(
        [answer("GET", f"/v1/models/{MODEL}", {}), *UPLOAD], _up(job, payload)
    )
    assert upload_id == "files/f1"
    pieces = [request.body for request in requests if request.path == "/up"]
    assert len(pieces) == 1  # this server says "final" at once
    assert len(pieces[0]) == 8 * 1024 * 1024


def _up(job, payload):
    return lambda adapter: adapter.upload(job, payload)


@pytest.mark.parametrize(
    ("given", "version"),
    [(None, "v1"), ("", "v1"), ("beta", "v1beta"), ("v1beta", "v1beta"), ("v1alpha", "v1alpha")],
)
def test_the_version_of_the_api_is_honoured(given, version):
    """``v1`` unless the SDK's variable says otherwise."""
    environ = {} if given is None else {"GOOGLE_GENAI_API_VERSION": given}
    exchange = answer("GET", f"/{version}/batches/b1", made())
    remote, _ = asked([exchange], lambda adapter: adapter.retrieve("batches/b1"), **environ)
    assert remote.state == "BATCH_STATE_PENDING"


def test_the_processes_own_variables_never_leak_in(tmp_path, monkeypatch, capfd, recwarn):
    """Key, address, mode and proxy of the process do not mix in, and nothing is printed."""
    for name, value in {
        "GOOGLE_API_KEY": "AIza-real-key-of-the-process",
        "GEMINI_API_KEY": "AIza-other-key-of-the-process",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1/process",
        "GOOGLE_GENAI_API_VERSION": "process",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_CLOUD_PROJECT": "process",
        "HTTP_PROXY": "http://127.0.0.1:1/process",
        "http_proxy": "http://127.0.0.1:1/process",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a kernel
    job, payload = prepared(tmp_path, MANY)
    file = {"name": "files/f1", "state": "NEVER_SEEN"}
    done = answer("POST", "/up", {"file": file}, **{"x-goog-upload-status": "final"})
    exchanges = [answer("GET", f"/v1/models/{MODEL}", {}), UPLOAD[0], done]
    upload_id, requests = asked(exchanges, _up(job, payload))
    assert upload_id == "files/f1"
    assert requests[0].headers["x-goog-api-key"] == "sim-key"
    assert requests[1].headers["x-goog-api-key"] == "sim-key"
    assert all("process" not in str(request.headers) for request in requests)
    assert make("google", {}).account(b"").base_url == "https://generativelanguage.googleapis.com"
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_an_unknown_model_is_refused_before_anything_is_uploaded(tmp_path):
    """A model that Google does not know is one line for the user, and nothing was sent."""
    job, payload = prepared(tmp_path, MANY, model="gemini-2.5-flahs")
    error = {"error": {"code": 404, "message": "is not found", "status": "NOT_FOUND"}}
    exchanges = [answer("GET", "/v1/models/gemini-2.5-flahs", error, 404), *UPLOAD]

    async def steps(adapter):
        with pytest.raises(Refused, match=r"'gemini-2.5-flahs'.*v1beta") as caught:
            await adapter.upload(job, payload)
        assert not isinstance(caught.value, Vanished)

    _, requests = asked(exchanges, steps)
    assert len(requests) == 1


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_server_that_cannot_say_which_models_it_has_is_no_obstacle(tmp_path, status):
    """Only a clear "no such model" stops an upload."""
    job, payload = prepared(tmp_path, MANY)
    exchanges = [answer("GET", f"/v1/models/{MODEL}", "<html>", status), *UPLOAD]
    assert asked(exchanges, _up(job, payload))[0] == "files/f1"


@pytest.mark.parametrize(
    "exchanges",
    [
        [answer("POST", "/upload/v1/files")],
        [UPLOAD[0], answer("POST", "/up", "x", **{"x-goog-upload-status": "final"})],
        [UPLOAD[0], answer("POST", "/up", {}, **{"x-goog-upload-status": "final"})],
        [UPLOAD[0], answer("POST", "/up", {"file": {}}, **{"x-goog-upload-status": "final"})],
        [UPLOAD[0], answer("POST", "/up", "", **{"x-goog-upload-status": "cancelled"})],
    ],
    ids=["no address", "no json", "no file", "no name", "not final"],
)
def test_an_upload_that_went_wrong_is_unclear(tmp_path, exchanges):
    """Whatever the SDK stumbles over is one of our errors."""
    job, payload = prepared(tmp_path, MANY)

    async def steps(adapter):
        with pytest.raises(Unclear):
            await adapter.upload(job, payload)

    asked(exchanges, steps)


def test_only_downloads_follow_redirects():
    """As in the SDK results may lie elsewhere; no create is ever sent to another address."""
    moved = {"location": "/elsewhere"}
    exchanges = [
        answer("GET", "/v1/files/batch-b1:download", "", 302, **moved),
        answer("GET", "/v1/batches/b1", "", 302, **moved),
        answer("GET", "/elsewhere", '{"key":"r-1"}\n'),
    ]

    async def steps(adapter):
        with pytest.raises(Refused, match="302"):
            await adapter.retrieve("batches/b1")
        sink = Collected()
        await adapter.fetch("batches/b1", "output", "files/batch-b1", sink)
        return sink

    assert asked(exchanges, steps)[0] == b'{"key":"r-1"}\n'


# -- errors


def failing(status, body, **headers):
    """Return our error for one answer to a create."""
    exchange = answer("GET", "/v1/batches/b1", body, status, **headers)

    async def steps(adapter):
        with pytest.raises(ProviderError) as caught:
            await adapter.retrieve("batches/b1")
        return caught.value

    return asked([exchange], steps)[0]


def error(code, message, status, *details):
    return {"error": {"code": code, "message": message, "status": status, "details": [*details]}}


def test_a_wrong_key_is_a_400_here():
    """Google refuses a key with 400 and a reason; it is no fault of the request."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    body = error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", info)
    told = failing(400, body)
    assert type(told) is KeyRefused
    assert "GEMINI_API_KEY" in str(told)
    assert type(failing(400, error(400, "no", "INVALID_ARGUMENT"))) is Refused


def test_a_file_that_is_gone_is_told_by_a_403():
    """So Google speaks of files that it does not have; the upload is then repeated."""
    message = "You do not have permission to access the File abc or it may not exist."
    assert type(failing(403, error(403, message, "PERMISSION_DENIED"))) is Vanished
    assert type(failing(403, error(403, "no", "PERMISSION_DENIED"))) is KeyRefused


def test_a_429_says_whether_quota_is_used_up_and_how_long_to_wait():
    """The wait stands in a header or in the body, or nowhere."""
    quota = "You exceeded your current quota, please check your plan and billing details."
    told = failing(429, error(429, quota, "RESOURCE_EXHAUSTED"))
    assert (type(told), told.retry_after) == (OutOfQuota, None)
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    told = failing(429, error(429, "slow down", "RESOURCE_EXHAUSTED", delay))
    assert (type(told), told.retry_after, told.code) == (Busy, 34.5, "RESOURCE_EXHAUSTED")
    headers = {"retry-after": "7"}
    assert failing(429, error(429, "", "", delay), **headers).retry_after == 7


@pytest.mark.parametrize(
    "body",
    ["", "<html>Bad</html>", "[]", "[1,2]", '"text"', "3", '{"error":"x"}', '{"error":{}}',
     '{"error":{"details":3}}', '{"message":{"a":1},"status":5}'],
)  # fmt: skip
def test_an_error_of_any_shape_is_told_in_one_line(body):
    """A proxy's page or odd JSON does not hide the status."""
    told = failing(503, body)
    assert type(told) is Unclear
    assert "503" in str(told)
    assert "<" not in str(told)


def raised(exc):
    async def main():
        async with translate("Google", "(hint)"):
            raise exc

    with pytest.raises(ProviderError) as caught:
        asyncio.run(main())
    return type(caught.value)


def test_every_exception_of_the_sdk_is_translated():
    """No class of the SDK's errors, httpx2's or ssl's gets through."""
    response = httpx2.Response(418, json={})
    for name, kind in inspect.getmembers(sdk_errors, inspect.isclass):
        if not issubclass(kind, Exception) or issubclass(kind, Warning):
            continue
        if issubclass(kind, sdk_errors.APIError):
            assert raised(kind(418, {}, response)) is Refused, name
        else:
            assert raised(kind("told")) is Unclear, name
    for name, kind in inspect.getmembers(httpx2, inspect.isclass):
        if issubclass(kind, httpx2.RequestError):
            assert issubclass(raised(kind("told")), ProviderError), name
    assert raised(httpx2.InvalidURL("told")) is Refused
    assert raised(ssl.SSLError("told")) is Unclear
    assert raised(KeyError("told")) is Unclear


# -- with the simulator


def simulated(sim, steps):
    async def main(adapter):
        try:
            return await steps(adapter)
        finally:
            await adapter.close()

    return asyncio.run(main(make("google", sim.environ())))


class Collected(bytearray):
    write = bytearray.extend


async def through(adapter, job, payload, label="label-1"):
    upload_id = await adapter.upload(job, payload)
    created = await adapter.create(job, payload, upload_id, label)
    return await adapter.retrieve(created.remote_id)


def test_a_result_file_is_streamed_and_checked(sim, tmp_path):
    """A download that is cut is incomplete; the whole one holds every row."""
    job, payload = prepared(tmp_path, MANY)

    async def steps(adapter):
        ended = await through(adapter, job, payload)
        assert ended.parts["output"].startswith("files/batch-")
        for fault in ({"keep": 0.4}, {"keep": 0.4, "shorten_length": True}):
            sim.fault(method="GET", path="*:download", action="truncate", **fault)
        with pytest.raises(Incomplete):
            await adapter.fetch(ended.remote_id, "output", ended.parts["output"], Collected())
        torn = Collected()
        await adapter.fetch(ended.remote_id, "output", ended.parts["output"], torn)
        assert not torn.endswith(b"\n")  # for the line check of whoever keeps it
        sim.fault(method="GET", path="*:download", action="status", status=503)
        with pytest.raises(Unclear):
            await adapter.fetch(ended.remote_id, "output", ended.parts["output"], Collected())
        whole = Collected()
        await adapter.fetch(ended.remote_id, "output", ended.parts["output"], whole)
        return whole

    results = [
        make("google", {}).parse(line, "chat") for line in simulated(sim, steps).splitlines()
    ]
    assert {result.custom_id for result in results} == {f"r-{n}" for n in range(MANY)}
    assert {result.outcome for result in results} == {Outcome.OK}


def test_an_inline_answer_that_is_no_whole_text_is_incomplete(sim, tmp_path):
    """Even when the announced length fits."""
    job, payload = prepared(tmp_path)

    async def steps(adapter):
        ended = await through(adapter, job, payload)
        sim.fault(method="GET", action="truncate", keep=0.9, shorten_length=True)
        with pytest.raises(Incomplete):
            await adapter.fetch(ended.remote_id, "output", "inline", Collected())

    simulated(sim, steps)


def test_a_job_seen_in_a_listing_is_collected_all_the_same(sim, tmp_path):
    """Listings leave inline answers out; what they name leads to the answers."""
    job, payload = prepared(tmp_path)

    async def steps(adapter):
        ended = await through(adapter, job, payload)
        (listed,) = [remote async for remote in adapter.list(0)]
        assert listed == ended
        lines = Collected()
        await adapter.fetch(listed.remote_id, "output", listed.parts["output"], lines)
        return lines

    assert len(simulated(sim, steps).splitlines()) == 2


def test_an_ended_job_without_answers_gives_none(sim, tmp_path):
    """An expired job is collected like any other, and is empty."""
    job, payload = prepared(tmp_path)
    sim.behave(next_outcome="expired:0.5")

    async def steps(adapter):
        ended = await through(adapter, job, payload)
        lines = Collected()
        await adapter.fetch(ended.remote_id, "output", ended.parts["output"], lines)
        return ended, lines

    ended, lines = simulated(sim, steps)
    assert (ended.phase, ended.rest, lines) == (Phase.ENDED, Outcome.EXPIRED, b"")


def test_every_page_of_the_listing_is_looked_through(sim, tmp_path):
    """A lost batch is found on whatever page it stands, since no order is documented."""
    job, payload = prepared(tmp_path, rows=1)

    async def steps(adapter):
        for number in range(101):
            made = await adapter.create(job, payload, None, f"label-{number}")
        found = await adapter.find("label-0", job, made.created_at - 60)
        lost = await adapter.find("label-101", job, made.created_at - 60)
        return found, lost

    found, lost = simulated(sim, steps)
    assert found.label == "label-0"
    assert lost is None
    listings = [seen for seen in sim.requests() if seen["path"] == "/google/v1/batches"]
    assert len(listings) == 4


def test_a_cancel_of_what_is_over_is_refused(sim, tmp_path):
    """The poll that follows tells how it ended."""
    job, payload = prepared(tmp_path)

    async def steps(adapter):
        ended = await through(adapter, job, payload)
        with pytest.raises(Refused):
            await adapter.cancel(ended.remote_id)

    simulated(sim, steps)


def test_an_adapter_is_usable_again_after_close(sim, tmp_path):
    """Closing lets go of connections only, also those of the SDK."""
    job, payload = prepared(tmp_path, MANY)
    adapter = make("google", sim.environ())

    async def once():
        upload_id = await adapter.upload(job, payload)
        await adapter.close()
        return upload_id

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(once()) != asyncio.run(once())
