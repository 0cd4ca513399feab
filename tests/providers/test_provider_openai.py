"""The OpenAI adapter's own facts; `test_provider_contract` holds what all adapters share."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from replay import Replay
from support import ANY

from jupyter_llm_batch.core.errors import (
    Incomplete,
    KeyRefused,
    Refused,
    Unclear,
    UsageProblem,
    Vanished,
)
from jupyter_llm_batch.core.job import Job, Phase
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.providers.openai import requests as wire
from jupyter_llm_batch.providers.registry import make
from jupyter_llm_batch.simulator import Simulator

MODEL = "gpt-5-mini"


def test_a_missing_key_names_its_variable_and_where_to_get_one():
    """Without a key the user is told which variable to set, also by a network call."""
    adapter = make("openai", {})
    with pytest.raises(UsageProblem, match=r"OPENAI_API_KEY .*platform\.openai\.com/api-keys"):
        adapter.check_key()
    with pytest.raises(KeyRefused, match="OPENAI_API_KEY"):
        asyncio.run(adapter.retrieve("batch_1"))


def test_a_key_that_no_header_can_carry_is_a_usage_problem():
    """A key with a typographic dash or a control character is noticed before it is sent."""
    make("openai", {"OPENAI_API_KEY": " sk-good-enough\n"}).check_key()
    for key in ("sk\u2013dash", "sk-a\x00b"):
        with pytest.raises(UsageProblem, match="OPENAI_API_KEY"):
            make("openai", {"OPENAI_API_KEY": key}).check_key()


def test_the_account_tells_organisations_and_servers_apart():
    """Spelling of the address does not matter; organisation, project and server do."""
    environ = {"OPENAI_API_KEY": "sk-one-two-three"}
    account = make("openai", environ).account(b"salt")
    assert account.base_url == "https://api.openai.com/v1"
    same = environ | {"OPENAI_BASE_URL": "HTTPS://API.openai.com/v1/"}
    assert make("openai", same).account(b"salt") == account
    other = environ | {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj_2"}
    assert make("openai", other).account(b"salt").organisation == "org-1/proj_2"


def test_an_address_that_is_none_is_a_usage_problem():
    """A base URL that cannot be parsed is refused with its variable's name."""
    with pytest.raises(UsageProblem, match="OPENAI_BASE_URL"):
        make("openai", {"OPENAI_BASE_URL": "http://[::1/v1"})


def prepared(tmp_path: Path, model=MODEL, rows=2):
    encode = wire.encoder(Recipe(), model)
    payload = tmp_path / "job.jsonl"
    payload.write_bytes(b"".join(encode(f"r-{n}", f"prompt {n}") for n in range(rows)))
    job = Job(
        id="job-1",
        batch_id="b",
        round=0,
        number=0,
        provider="openai",
        model=model,
        endpoint="chat",
        rows=rows,
        bytes=payload.stat().st_size,
        payload=payload.name,
    )
    return job, payload


def seen(sim, method, end):
    found = [item for item in sim.requests() if item["method"] == method]
    return [item for item in found if item["path"].endswith(end)]


def asked_for(environ):
    """Let an adapter ask a server of ours for a batch, and return the request's headers."""
    with Replay([]) as server:
        adapter = make("openai", {"OPENAI_BASE_URL": f"{server.url}/v1"} | environ)
        with pytest.raises(Vanished):
            asyncio.run(adapter.retrieve("batch_1"))
        (asked,) = server.asked
    return asked.headers


def test_the_processes_own_variables_never_leak_in(monkeypatch):
    """Key, address, organisation and proxy of the process do not mix into the given account."""
    for name, value in {
        "OPENAI_API_KEY": "sk-real-key-of-the-process",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/process",
        "OPENAI_ORG_ID": "org-process",
        "OPENAI_PROJECT_ID": "proj-process",
        "OPENAI_ADMIN_KEY": "sk-admin-process",
        "OPENAI_CUSTOM_HEADERS": "X-Of: process\nOpenAI-Project: proj-process",
        "HTTP_PROXY": "http://127.0.0.1:1/process",
        "http_proxy": "http://127.0.0.1:1/process",
    }.items():
        monkeypatch.setenv(name, value)
    headers = asked_for({"OPENAI_API_KEY": "sim-key"})
    assert headers["authorization"] == "Bearer sim-key"
    assert "openai-organization" not in headers
    assert "process" not in str(headers)
    account = make("openai", {"OPENAI_API_KEY": "sim-key"}).account(b"")
    assert account.base_url == "https://api.openai.com/v1"


def test_organisation_and_project_are_sent():
    """The organisation and project of the given environment go out as headers."""
    environ = {"OPENAI_API_KEY": "sk-abcdefg", "OPENAI_ORG_ID": "o", "OPENAI_PROJECT_ID": "p"}
    headers = asked_for(environ)
    assert (headers["openai-organization"], headers["openai-project"]) == ("o", "p")


def test_headers_of_the_users_own_are_sent():
    """A proxy may want headers; an organisation among them says whose batches they are."""
    own = "X-Gateway: yes\nOpenAI-Organization: org-1\nno header"
    environ = {"OPENAI_API_KEY": "sk-abcdefg", "OPENAI_CUSTOM_HEADERS": own}
    headers = asked_for(environ)
    assert (headers["x-gateway"], headers["openai-organization"]) == ("yes", "org-1")
    assert make("openai", environ).account(b"").organisation == "org-1"


def test_an_upload_is_named_after_its_job_and_is_the_payload(tmp_path):
    """The file goes up as it lies on the disk, under the job's name, with purpose batch."""
    job, payload = prepared(tmp_path)
    uploaded = {
        "request": {"method": "POST", "uri": "/v1/files"},
        "response": {"status": 200, "headers": {}, "body": {"id": "file-1"}},
    }
    with Replay([uploaded]) as server:
        environ = {"OPENAI_API_KEY": "sk-abcdefg", "OPENAI_BASE_URL": f"{server.url}/v1"}
        assert asyncio.run(make("openai", environ).upload(job, payload)) == "file-1"
        asked = server.asked[-1]
    assert b'filename="job-1.jsonl"' in asked.body
    assert payload.read_bytes() in asked.body
    assert b'name="purpose"\r\n\r\nbatch\r\n' in asked.body
    assert b"expires_after" not in asked.body


def test_a_create_is_what_the_endpoint_takes(tmp_path):
    """File, path of the endpoint, window and our label go out, and nothing else."""
    job, payload = prepared(tmp_path)
    made = {
        "request": {"method": "POST", "uri": "/v1/batches"},
        "response": {"status": 200, "headers": {}, "body": {"id": "b", "status": "validating"}},
    }
    with Replay([made]) as server:
        environ = {"OPENAI_API_KEY": "sk-abcdefg", "OPENAI_BASE_URL": f"{server.url}/v1"}
        asyncio.run(make("openai", environ).create(job, payload, "file-1", "label-1"))
        (asked,) = server.asked
    assert json.loads(asked.body) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"llm_batch": "label-1"},
    }


def test_an_unknown_model_is_refused_before_anything_is_uploaded(tmp_path):
    """A model that the server does not know is one line for the user, and nothing was sent."""
    job, payload = prepared(tmp_path, model="gpt-5-mnii")
    error = {"error": {"message": "The model does not exist", "code": "model_not_found"}}
    with Simulator(keys=ANY, seconds=0) as sim:
        sim.fault(method="GET", path="*/models/*", action="status", status=404, body=error)
        adapter = make("openai", sim.environ())
        with pytest.raises(Refused, match=r"'gpt-5-mnii'.*/models$"):
            asyncio.run(adapter.upload(job, payload))
        assert not seen(sim, "POST", "/files")


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "status": 404},
        {"action": "status", "status": 403},
        {"action": "status", "status": 500},
        {"action": "drop"},
    ],
)
def test_a_server_that_cannot_say_which_models_it_has_is_no_obstacle(tmp_path, fault):
    """Only a clear "no such model" stops an upload."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        sim.fault(method="GET", path="*/models/*", **fault)
        adapter = make("openai", sim.environ())
        assert asyncio.run(adapter.upload(job, payload))


def test_a_known_model_is_asked_for_once(tmp_path):
    """The jobs of one batch share one look-up of their model."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def main():
            await adapter.upload(job, payload)
            await adapter.upload(job, payload)

        asyncio.run(main())
        assert len(seen(sim, "GET", f"/models/{MODEL}")) == 1


def test_an_ended_batch_is_returned_by_cancel_as_it_is(tmp_path):
    """Cancelling what has ended is no error: there is nothing left to cancel."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def main():
            upload_id = await adapter.upload(job, payload)
            made = await adapter.create(job, payload, upload_id, "label")
            await adapter.retrieve(made.remote_id)
            return await adapter.cancel(made.remote_id)

        assert asyncio.run(main()).phase is Phase.ENDED


def test_the_listing_is_read_page_by_page_until_it_is_too_old(tmp_path):
    """A lost batch is found beyond the first page, and older pages are not asked for."""
    job, payload = prepared(tmp_path, rows=1)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def main():
            upload_id = await adapter.upload(job, payload)
            for number in range(101):
                made = await adapter.create(job, payload, upload_id, f"label-{number}")
            found = await adapter.find("label-0", job, made.created_at - 60)
            pages = len(seen(sim, "GET", "/batches"))
            listed = [remote async for remote in adapter.list(made.created_at + 3600)]
            return found, pages, listed

        found, pages, listed = asyncio.run(main())
        assert found is not None
        assert found.label == "label-0"
        assert pages == 2
        assert listed == []


def test_a_download_that_is_cut_is_incomplete(tmp_path):
    """A connection lost in the middle of a result file is not the end of the file."""
    job, payload = prepared(tmp_path, rows=50)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("openai", sim.environ())

        class Collected(bytearray):
            write = bytearray.extend

        async def main():
            upload_id = await adapter.upload(job, payload)
            made = await adapter.create(job, payload, upload_id, "label")
            ended = await adapter.retrieve(made.remote_id)
            sim.fault(method="GET", path="*/content", action="truncate", keep=0.4)
            with pytest.raises(Incomplete):
                await adapter.fetch(made.remote_id, "output", ended.parts["output"], Collected())
            whole = Collected()
            await adapter.fetch(made.remote_id, "output", ended.parts["output"], whole)
            sim.fault(method="GET", path="*/content", action="status", status=503)
            with pytest.raises(Unclear):
                await adapter.fetch(made.remote_id, "output", ended.parts["output"], Collected())
            await adapter.close()
            return whole

        lines = asyncio.run(main()).splitlines()
        assert {adapter.parse(line, "chat").outcome for line in lines} == {Outcome.OK}
        assert len(lines) == 50


def test_an_adapter_is_usable_again_after_close(tmp_path):
    """Closing lets go of connections only."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def once():
            upload_id = await adapter.upload(job, payload)
            await adapter.close()
            return upload_id

        assert asyncio.run(once()) != asyncio.run(once())


def test_limits_stay_within_what_openai_takes():
    """A job holds at most 50,000 rows and stays under 200 MB."""
    limits = make("openai", {}).limits("chat")
    assert limits.requests <= 50_000
    assert limits.bytes < 200_000_000
    assert limits.one_model
    assert limits.labelled
    assert msgspec.structs.asdict(limits)["settle"] > 0


#: What makes a batch fail as a whole, after its create was accepted.
CODES = [
    "invalid_json_line", "duplicate_custom_id", "url_mismatch", "model_mismatch", "empty_file",
    "too_many_tasks", "token_limit_exceeded",
]  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_a_batch_that_fails_as_a_whole_says_why(code, tmp_path):
    """It is accepted first; only lack of room is worth another try later."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("openai", sim.environ())
        sim.behave(next_outcome=f"failed:{code}")

        async def main():
            made = await adapter.create(job, payload, await adapter.upload(job, payload), "label")
            ended = await adapter.retrieve(made.remote_id)
            await adapter.close()
            return made, ended

        made, ended = asyncio.run(main())
    assert made.phase is Phase.ACTIVE
    assert ended.phase is (Phase.LATER if code == "token_limit_exceeded" else Phase.FAILED)
    assert ended.error
    assert ended.parts == {}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, "<html>Sign in</html>", Unclear),
        (200, {}, Unclear),
        (200, {"object": "file"}, Unclear),
        (413, {"error": {"message": "File is too large"}}, Refused),
        (507, "", Unclear),
    ],
)
def test_an_odd_answer_to_an_upload_is_told(status, body, expected, tmp_path):
    """No answer of any kind passes for an uploaded file."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("openai", sim.environ())
        sim.fault(method="POST", path="*/files", action="status", status=status, body=body)

        async def main():
            with pytest.raises(expected) as caught:
                await adapter.upload(job, payload)
            await adapter.close()
            return caught.value

        assert "\n" not in str(asyncio.run(main()))


def test_embeddings_are_limited_by_inputs():
    """A row of a list counts as many; tokens, texts and rows of other endpoints as one."""
    adapter = make("openai", {})
    assert adapter.limits("chat").weigh is None
    weigh = adapter.limits("/v1/embeddings").weigh
    assert weigh is not None
    given = ["a", [], ["a"], ["a", "b"], [1, 2, 3], [[1, 2], [3]]]
    lines = [json.dumps({"body": {"input": each}}).encode() for each in given]
    assert [weigh(line) for line in lines] == [1, 1, 1, 2, 1, 2]
    assert weigh(b'{"body":{}}') == 1
