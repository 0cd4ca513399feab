"""The Anthropic adapter's own facts; `test_provider_contract` holds what all adapters share."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import pkgutil
import time
from datetime import UTC, datetime
from email.utils import formatdate

import anthropic
import httpx2
import pytest
from replay import Replay
from support import ANY

from jupyter_llm_batch.core.errors import (
    Busy,
    KeyRefused,
    OutOfQuota,
    ProviderError,
    Refused,
    Unclear,
    Undecided,
    UsageProblem,
    Vanished,
)
from jupyter_llm_batch.core.job import Counts, Job, Phase
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.providers.anthropic import client as anthropic_client
from jupyter_llm_batch.providers.anthropic import objects
from jupyter_llm_batch.providers.anthropic import requests as wire
from jupyter_llm_batch.providers.registry import make
from jupyter_llm_batch.simulator import Simulator

MODEL = "claude-haiku-4-5"
BATCHES = "/v1/messages/batches"
REQUEST = httpx2.Request("POST", f"http://h{BATCHES}")


def prepared(tmp_path, rows=2, text="prompt", model=MODEL):
    encode = wire.encoder(Recipe(), MODEL)
    payload = tmp_path / "job.jsonl"
    with payload.open("wb") as file:
        for number in range(rows):
            file.write(encode(f"r-{number}", f"{text} {number}"))
    job = Job(
        id="job-1",
        batch_id="r",
        round=0,
        number=0,
        provider="anthropic",
        model=model,
        endpoint="chat",
        rows=rows,
        bytes=payload.stat().st_size,
        payload=payload.name,
    )
    return job, payload


def batch(remote_id="msgbatch_1", state="in_progress", created=None, rows=2, **more):
    counts = {"processing": rows, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    at = datetime.fromtimestamp(created or time.time(), UTC).isoformat()
    record = {"id": remote_id, "processing_status": state, "request_counts": counts}
    return {**record, "created_at": at, "results_url": None, **more}


def exchange(method, path, body, status=200, headers=None):
    response = {"status": status, "headers": headers or {}, "body": body}
    return {"request": {"method": method, "uri": path}, "response": response}


def connected(server, **environ):
    base = {"ANTHROPIC_API_KEY": "sk-ant-test-key", "ANTHROPIC_BASE_URL": server.url}
    return make("anthropic", base | environ)


# -- account -----------------------------------------------------------------------------------


def test_a_missing_key_names_its_variable_and_where_to_get_one():
    """Without a key the user is told which variable to set, also by a network call."""
    adapter = make("anthropic", {})
    with pytest.raises(UsageProblem, match=r"ANTHROPIC_API_KEY .*platform\.claude\.com/settings"):
        adapter.check_key()
    with pytest.raises(KeyRefused, match="ANTHROPIC_API_KEY"):
        asyncio.run(adapter.retrieve("msgbatch_1"))


def test_a_key_that_no_header_can_carry_is_a_usage_problem():
    """The variable that holds it is named."""
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        make("anthropic", {variable: " sk-good\n"}).check_key()
        with pytest.raises(UsageProblem, match=variable):
            make("anthropic", {variable: "sk\u2013dash"}).check_key()


def asked_for(environ):
    """Let an adapter ask a server of ours for a batch, and return the request's headers."""
    with Replay([]) as server:
        adapter = make("anthropic", {"ANTHROPIC_BASE_URL": server.url} | environ)
        with pytest.raises(Vanished):
            asyncio.run(adapter.retrieve("msgbatch_1"))
        (asked,) = server.asked
    return asked.headers


def test_the_processes_own_variables_never_leak_in(monkeypatch, tmp_path):
    """Key, token, address, headers, profile and proxy of the process are not those given."""
    folder = tmp_path / "config"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "default.json").write_text('{"base_url": "http://127.0.0.1:1/process"}')
    for name, value in {
        "ANTHROPIC_API_KEY": "sk-ant-process",
        "ANTHROPIC_AUTH_TOKEN": "sk-ant-process-token",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1/process",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Process: process\nanthropic-version: 2023-06-01",
        "ANTHROPIC_CONFIG_DIR": str(folder),
        "ANTHROPIC_PROFILE": "default",
        "HTTP_PROXY": "http://127.0.0.1:1/process",
        "http_proxy": "http://127.0.0.1:1/process",
    }.items():
        monkeypatch.setenv(name, value)
    headers = asked_for({"ANTHROPIC_API_KEY": "sim-key"})
    assert headers["authorization"] == "Bearer sim-key"
    assert "process" not in str(headers)
    with pytest.raises(KeyRefused):
        asyncio.run(make("anthropic", {}).retrieve("msgbatch_1"))
    assert make("anthropic", {}).account(b"").base_url == "https://api.anthropic.com"


def test_the_processes_headers_leave_the_sdks_own_version(monkeypatch):
    """A header that only the process asks for is not sent, and what it replaced is back."""
    from anthropic._constants import ANTHROPIC_API_VERSION

    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "anthropic-version: 2023-06-01")
    assert asked_for({"ANTHROPIC_API_KEY": "k"})["anthropic-version"] == ANTHROPIC_API_VERSION


def test_custom_headers_and_tokens_are_sent():
    """The given environment's headers go out; a token serves where there is no key."""
    headers = asked_for(
        {
            "ANTHROPIC_AUTH_TOKEN": "token-1",
            "ANTHROPIC_CUSTOM_HEADERS": "Anthropic-Version: 2023-06-01\nx-team: a:b",
        }
    )
    assert headers["authorization"] == "Bearer token-1"
    assert headers.get_all("anthropic-version") == ["2023-06-01"]
    assert headers["x-team"] == "a:b"


def test_the_account_tells_keys_servers_and_workspaces_apart():
    """Spelling of the address does not matter; key, server and workspace do."""
    environ = {"ANTHROPIC_API_KEY": "sk-ant-1"}
    account = make("anthropic", environ).account(b"salt")
    same = environ | {"ANTHROPIC_BASE_URL": "HTTPS://API.anthropic.com/"}
    assert make("anthropic", same).account(b"salt") == account
    workspace = {"ANTHROPIC_CUSTOM_HEADERS": "anthropic-workspace-id: wrkspc_1"}
    assert make("anthropic", environ | workspace).account(b"salt").organisation == "wrkspc_1"


# -- create ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 5000])
def test_a_create_carries_the_lines_of_the_payload(tmp_path, rows):
    """One request with its length announced, whose list holds the lines in their order."""
    job, payload = prepared(tmp_path, rows, text="a\nb \u2028 " + "x" * 400)
    with Replay([exchange("POST", BATCHES, batch())]) as server:
        made = asyncio.run(connected(server).create(job, payload, None, "label"))
        (asked,) = server.asked
    assert made.remote_id == "msgbatch_1"
    assert asked.headers["content-length"] == str(len(asked.body))
    assert "transfer-encoding" not in asked.headers
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["authorization"] == "Bearer sk-ant-test-key"
    lines = [json.loads(line) for line in payload.read_bytes().splitlines()]
    assert json.loads(asked.body) == {"requests": lines}


def test_a_create_is_not_redirected(tmp_path):
    """A body that is streamed goes out once; an answer that sends elsewhere made nothing."""
    job, payload = prepared(tmp_path)
    headers = {"location": "/elsewhere"}
    with Replay([exchange("POST", BATCHES, "", 307, headers)]) as server:
        with pytest.raises(Refused):
            asyncio.run(connected(server).create(job, payload, None, "label"))
        assert len(server.asked) == 1


def test_an_upload_asks_only_for_the_model(tmp_path):
    """Nothing is uploaded; a model that is not there, or takes no batches, is told at once."""
    job, payload = prepared(tmp_path)
    path = f"/v1/models/{MODEL}"
    able = {"id": MODEL, "capabilities": {"batch": {"supported": True}}}
    unable = {"id": MODEL, "capabilities": {"batch": {"supported": False}}}
    gone = {"type": "error", "error": {"type": "not_found_error", "message": f"model: {MODEL}"}}

    def upload(*exchanges, job=job):
        with Replay([*exchanges]) as server:
            adapter = connected(server)

            async def twice():
                assert await adapter.upload(job, payload) is None
                assert await adapter.upload(job, payload) is None

            asyncio.run(twice())
            return [asked.path for asked in server.asked]

    assert upload(exchange("GET", path, able)) == [path]
    with pytest.raises(Refused, match="no batches"):
        upload(exchange("GET", path, unable))
    with pytest.raises(Refused, match=f"'{MODEL}'.*https://"):
        upload(exchange("GET", path, gone, 404))
    assert upload() == [path, path]  # a server without models has no say
    assert upload(exchange("GET", path, "", 500)) == [path, path]
    mixed, _ = prepared(tmp_path, model="mixed")
    assert upload(job=mixed) == []


# -- look-up -----------------------------------------------------------------------------------


def found(listing, rows=2, since=None, date=None):
    """Return the ids that a look-up names, for a listing of (id, age against since, rows)."""
    since = since or time.time()
    data = [batch(name, created=since + age, rows=n) for name, age, n in listing]
    headers = {"date": date} if date else {}
    body = {"data": data, "has_more": False}
    job = Job(
        id="j", batch_id="b", round=0, number=0, provider="anthropic", model=MODEL,
        endpoint="chat", rows=rows, bytes=1, payload="p",
    )  # fmt: skip
    with Replay([exchange("GET", BATCHES, body, headers=headers)]) as server:
        adapter = connected(server)
        try:
            assert asyncio.run(adapter.find("label", job, since)) is None
        except Undecided as doubt:
            return [remote.remote_id for remote in doubt.candidates]
    return []


def test_candidates_are_of_the_right_size():
    """Other numbers of rows are no candidates; age excludes none that a wrong clock could mean."""
    day = 86400
    listing = [("young", day, 2), ("b", 300, 2), ("size", 5, 3), ("a", -60, 2), ("old", -day, 2)]
    assert found([*listing, ("ancient", -8 * day, 2)]) == ["young", "b", "a", "old"]
    assert found([("size", 5, 3)]) == []
    assert found([]) == []


@pytest.mark.parametrize("ahead", [7200, -7200])
def test_a_wrong_clock_of_ours_hides_nothing(ahead):
    """Whatever the server says what time it is, and whatever it was when we sent."""
    since = time.time()
    date = formatdate(since + ahead, usegmt=True)
    for when in (since, since - ahead):
        assert found([("mine", 2, 2)], since=when, date=date) == ["mine"]
        assert found([("mine", ahead + 2, 2)], since=when, date=date) == ["mine"]


def test_the_listing_is_read_page_by_page(tmp_path):
    """A candidate beyond the first page is found, and all of them come newest first."""
    job, payload = prepared(tmp_path, rows=1)
    (tmp_path / "two").mkdir()
    two, payload_of_two = prepared(tmp_path / "two")
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("anthropic", sim.environ())

        async def main():
            before = time.time()
            first = await adapter.create(two, payload_of_two, None, "label")
            made = [await adapter.create(job, payload, None, "label") for _ in range(101)]
            with pytest.raises(Undecided) as caught:
                await adapter.find("label", two, before)
            assert [each.remote_id for each in caught.value.candidates] == [first.remote_id]
            listed = [remote.remote_id async for remote in adapter.list(before)]
            assert listed == [each.remote_id for each in (*reversed(made), first)]
            assert [remote async for remote in adapter.list(before + 3600)] == []
            await adapter.close()

        asyncio.run(main())
        pages = [r for r in sim.requests() if (r["method"], r["path"][-8:]) == ("GET", "/batches")]
        assert len(pages) == 5


# -- what a batch says -------------------------------------------------------------------------


def test_counts_are_unknown_until_the_end():
    """All rows "processing" is no progress; at the end every row is done or failed."""
    running = objects.read_remote(json.dumps(batch(rows=9)).encode())
    assert (running.phase, running.counts, running.parts) == (Phase.ACTIVE, None, {})
    counts = {"processing": 0, "succeeded": 4, "errored": 1, "canceled": 2, "expired": 3}
    done = batch(state="ended", request_counts=counts, results_url="https://elsewhere/x")
    ended = objects.read_remote(json.dumps(done).encode())
    assert ended.phase is Phase.ENDED
    assert ended.counts == Counts(total=10, done=4, failed=6)
    assert ended.parts == {"results": "msgbatch_1"}


def test_a_batch_without_counts_is_read_all_the_same():
    """What a server does not tell is not known; the results are there."""
    done = batch(state="ended", results_url="https://elsewhere/x")
    del done["request_counts"]
    ended = objects.read_remote(json.dumps(done).encode())
    assert (ended.phase, ended.counts, ended.parts) == (
        Phase.ENDED, None, {"results": "msgbatch_1"},
    )  # fmt: skip


def test_an_archived_batch_has_no_results_any_more():
    """Without an address there is nothing to fetch."""
    archived = batch(state="ended", archived_at="2026-01-01T00:00:00Z")
    assert objects.read_remote(json.dumps(archived).encode()).parts == {}


@pytest.mark.parametrize("state", ["pondering", "canceling"])
def test_unfinished_and_unknown_states_are_active(state):
    """A state never seen before is waited for."""
    remote = objects.read_remote(json.dumps(batch(state=state, created_at="soon")).encode())
    assert (remote.phase, remote.state, remote.created_at) == (Phase.ACTIVE, state, None)


def test_results_are_fetched_from_our_own_server_only():
    """The address of the results may name any host; the key is not sent there."""
    done = batch(state="ended", results_url="http://127.0.0.1:1/steal")
    lines = '{"custom_id":"r-0"}\n'
    path = f"{BATCHES}/msgbatch_1"
    exchanges = [exchange("GET", path, done), exchange("GET", f"{path}/results", lines)]
    with Replay(exchanges) as server:
        adapter = connected(server)

        async def main():
            remote = await adapter.retrieve("msgbatch_1")
            sink = io.BytesIO()
            for part, ref in remote.parts.items():
                await adapter.fetch("msgbatch_1", part, ref, sink)
            return sink.getvalue().decode()

        assert asyncio.run(main()) == lines
        assert [asked.path for asked in server.asked] == [path, f"{path}/results"]


def test_a_poll_says_when_to_come_again():
    """Anthropic asks for a pause in answers that are no errors."""
    answer = exchange("GET", f"{BATCHES}/msgbatch_1", batch(), headers={"retry-after": "10"})
    with Replay([answer]) as server:
        assert asyncio.run(connected(server).retrieve("msgbatch_1")).poll_after == 10.0


def test_an_ended_batch_is_returned_by_cancel_as_it_is(tmp_path):
    """Cancelling what has ended is no error: there is nothing left to cancel."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("anthropic", sim.environ())

        async def main():
            made = await adapter.create(job, payload, None, "label")
            await adapter.retrieve(made.remote_id)
            return await adapter.cancel(made.remote_id)

        assert asyncio.run(main()).phase is Phase.ENDED


def test_an_adapter_is_usable_again_after_close(tmp_path):
    """Closing lets go of connections only."""
    job, payload = prepared(tmp_path)
    with Simulator(keys=ANY, seconds=0) as sim:
        adapter = make("anthropic", sim.environ())

        async def once():
            made = await adapter.create(job, payload, None, "label")
            await adapter.close()
            return made.remote_id

        assert asyncio.run(once()) != asyncio.run(once())


def test_limits_stay_within_what_anthropic_takes():
    """A job holds at most 100,000 rows, stays under 256 MB, and may mix models."""
    limits = make("anthropic", {}).limits("chat")
    assert limits.requests <= 100_000
    assert limits.bytes < 256_000_000
    assert not limits.one_model
    assert not limits.labelled


# -- errors ------------------------------------------------------------------------------------


def sdk_errors():
    """Return every exception class of the SDK, those beside the types included."""
    for module in pkgutil.walk_packages(anthropic.types.__path__, "anthropic.types."):
        if module.name.endswith("_error"):
            importlib.import_module(module.name)
    waiting, seen = [anthropic.AnthropicError], []
    while waiting:
        kind = waiting.pop()
        if kind not in seen:
            seen.append(kind)
            waiting += kind.__subclasses__()
    return seen


async def translated(exc):
    with pytest.raises(ProviderError) as caught:
        async with anthropic_client.translate("Anthropic"):
            raise exc
    return caught.value


#: What each status says about a request: refused, wait, or perhaps executed.
STATUSES = {
    307: Refused, 400: Refused, 401: KeyRefused, 402: OutOfQuota, 403: KeyRefused, 404: Vanished,
    408: Unclear, 409: Unclear, 412: Refused, 413: Refused, 422: Refused, 429: Busy, 431: Refused,
    499: Unclear, 500: Unclear, 501: Unclear, 503: Unclear, 504: Unclear, 529: Busy,
}  # fmt: skip


def test_every_exception_of_the_sdk_is_translated():
    """None escapes; those with a status follow the status, all others are unclear."""
    kinds = sdk_errors()
    assert len(kinds) > 40
    for kind in kinds:
        expected = Unclear
        if issubclass(kind, anthropic.APIStatusError):
            status = getattr(kind, "status_code", 500)
            status = status if isinstance(status, int) else 500
            exc = kind("told", response=httpx2.Response(status, request=REQUEST), body=None)
            expected = STATUSES[status]
        else:
            exc = kind.__new__(kind)  # constructors differ; only the class is looked at
        assert type(asyncio.run(translated(exc))) is expected, kind


def status_error(status, body=None, headers=None):
    """Make the SDK's exception for an HTTP answer as the SDK makes it."""
    answered = httpx2.Response(status, request=REQUEST, json=body, headers=headers)
    client = anthropic.AsyncAnthropic(api_key="sk-x", base_url="http://h")
    return client._make_status_error_from_response(answered)


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_a_status_says_whether_something_was_created(status, expected):
    """A structured 4xx, 429 and 529 prove that nothing was created; other 5xx prove nothing."""
    exc = asyncio.run(translated(status_error(status)))
    assert type(exc) is expected
    assert exc.status == status


def error(kind, message="no", code=None):
    details = {"details": {"error_code": code}} if code else {}
    return {"type": "error", "error": {"type": kind, "message": message, **details}}


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (429, error("rate_limit_error"), Busy, "rate_limit_error"),
        (429, error("rate_limit_error", code="ramp_limit_exceeded"), Busy, "ramp_limit_exceeded"),
        (
            429,
            error("rate_limit_error", code="enforced_spend_limit_reached"),
            OutOfQuota,
            "enforced_spend_limit_reached",
        ),
        (400, error("invalid_request_error"), Refused, "invalid_request_error"),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low to access the API."),
            OutOfQuota,
            "invalid_request_error",
        ),
        (400, error("billing_error"), OutOfQuota, "billing_error"),
        (413, error("request_too_large"), Refused, "request_too_large"),
        (529, error("overloaded_error"), Busy, "overloaded_error"),
    ],
)
def test_the_cause_of_an_error_decides(status, body, expected, code):
    """A spend limit and an empty account are told from a mistake and from a busy hour."""
    exc = asyncio.run(translated(status_error(status, body)))
    assert (type(exc), exc.code) == (expected, code)


def test_the_providers_words_are_told_without_keys():
    """The message is Anthropic's own, on one line, with every piece of a key removed."""
    body = error("authentication_error", "invalid\nx-api-key sk-ant-api03-abcdef")
    exc = asyncio.run(translated(status_error(401, body, {"retry-after": "3"})))
    assert "invalid x-api-key [key]" in str(exc)
    assert "ANTHROPIC_API_KEY" in str(exc)
    assert exc.retry_after == 3.0
