"""Batch objects as other servers write them: none is unreadable, and none holds up the others."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_lines import ODD, STEPS, as_written, changed
from recordings import NEEDED, RECORDINGS
from replay import Replay

from jupyter_llm_batch.cli import report
from jupyter_llm_batch.core.errors import Busy, Refused
from jupyter_llm_batch.core.job import Job, Phase
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.core.text import local_time
from jupyter_llm_batch.providers.anthropic import objects as anthropic_objects
from jupyter_llm_batch.providers.google import objects as google_objects
from jupyter_llm_batch.providers.openai import objects as openai_objects
from jupyter_llm_batch.providers.registry import make
from jupyter_llm_batch.providers.shared.moments import seconds

BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": "file-1",
    "status": "in_progress",
    "output_file_id": None,
    "error_file_id": None,
    "created_at": 1_760_000_000,
    "expires_at": 1_760_086_400,
    "request_counts": {"total": 3, "completed": 1, "failed": 0},
    "metadata": {"llm_batch": "mine"},
}
MESSAGES = {
    "id": "msgbatch_1",
    "processing_status": "in_progress",
    "request_counts": {"processing": 3, "succeeded": 0},
    "created_at": "2026-11-01T10:00:00Z",
    "ended_at": None,
    "results_url": None,
}
JOB = {
    "name": "batches/1",
    "metadata": {
        "model": "models/gemini-2.5-flash",
        "displayName": "mine",
        "createTime": "2026-11-01T10:00:00.123456789Z",
        "batchStats": {"requestCount": "3", "successfulRequestCount": "1"},
        "state": "BATCH_STATE_RUNNING",
        "output": {"responsesFile": "files/batch-1"},
    },
    "done": False,
    "error": None,
}


def openai(**fields):
    return openai_objects.read_remote(as_written(BATCH | fields))


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({"status": "COMPLETED"}, "ended"),
        ({"status": "BATCH_STATUS_SUCCESS"}, "ended"),
        ({"status": "TIMEOUT_EXCEEDED"}, "ended"),
        ({"status": "Canceled"}, "ended"),
        ({"status": "FAILED"}, "failed"),
        ({"status": "QUEUED"}, "active"),
        ({"status": "CANCELLATION_REQUESTED"}, "active"),
        ({"status": "wrapped_up"}, "active"),
        ({"status": "wrapped_up", "completed_at": "2026-11-01T10:00:00Z"}, "ended"),
        ({"status": "wrapped_up", "output_file_id": "f"}, "ended"),
        ({"status": 7}, "active"),
        ({"status": None}, "active"),
    ],
)
def test_states_of_other_servers_are_understood(fields, phase):
    """Capitals, prefixes and other words mean the same; a word never seen is judged by the rest."""
    assert openai(**fields).phase == phase


def test_what_expired_or_was_cancelled_is_told_in_any_spelling():
    """Rows without a line have the fate of their batch."""
    assert openai(status="TIMEOUT_EXCEEDED").rest is Outcome.EXPIRED
    assert openai(status="Canceled").rest is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (1_760_000_000, 1_760_000_000),
        ("1760000000", 1_760_000_000),
        (1_760_000_000_000, 1_760_000_000),
        ("2025-10-09T08:53:20Z", 1_760_000_000),
        ("2025-10-09T08:53:20", 1_760_000_000),
        ("2025-10-09T10:53:20.000000000+02:00", 1_760_000_000),
        (1e18, None),
        (10**400, None),
        (-1, None),
        (0, None),
        ("0001-01-01T00:00:00+14:00", None),
        ("soon", None),
        (True, None),
        (float("nan"), None),
        ([], None),
    ],
)
def test_a_moment_is_read_in_every_form(given, read):
    """Numbers, their text, milliseconds and ISO 8601; what lies beyond any sense is not told."""
    assert seconds(given) == read
    assert openai(created_at=given).created_at == read


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ("", None),
        ([], None),
        ({"data": []}, None),
        ("no such model", "no such model"),
        ([{"code": 5, "message": "no"}], "no"),
        ({"data": [{"code": "c", "line": 2, "message": "no"}, "and"]}, "line 2: no; and"),
        ({"code": 400, "message": "no"}, "no"),
        ({"data": [{"code": 1001}]}, "1001"),
    ],
)
def test_errors_of_a_batch_come_in_every_form(errors, told):
    """A text, a list and an object are errors; an empty one is none."""
    assert openai(status="FAILED", errors=errors).error == told


@pytest.mark.parametrize("metadata", ["", [], None, 5, {"llm_batch": 5}, "{not json", '{"a": 1}'])
def test_metadata_of_any_form_holds_no_label_of_ours(metadata):
    """What is no label of ours is none."""
    assert openai(metadata=metadata).label is None
    assert openai(metadata='{"llm_batch": "mine"}').label == "mine"


@pytest.mark.parametrize("name", ["job", "batch", "data", "result"])
def test_an_envelope_is_opened(name):
    """A create or poll that is answered inside of another object is read all the same."""
    read = openai_objects.read_remote(as_written({name: BATCH, "warning": ""}))
    assert (read.remote_id, read.label) == ("batch_1", "mine")
    assert openai_objects.read_remote(b'{"id": 17}').remote_id == "17"


@pytest.mark.parametrize("body", [{"error": BATCH}, {"id": "req_1", "error": {"message": "x"}}])
def test_an_error_is_no_batch(body):
    """The id of a request that failed is no batch's."""
    with pytest.raises(ValueError, match="id"):
        openai_objects.read_remote(as_written(body))


def pages():
    whole = {"has_more": True}
    return [
        (openai_objects.read_page, whole | {"data": [None, {"id": None}, BATCH]}),
        (openai_objects.read_page, whole | {"batches": [{"job": BATCH}, 5]}),
        (anthropic_objects.read_page, whole | {"data": [{"id": []}, MESSAGES, "x"]}),
        (google_objects.read_page, {"nextPageToken": "t", "operations": [None, {}, JOB]}),
    ]


@pytest.mark.parametrize(("read", "page"), pages())
def test_one_unreadable_object_holds_up_no_other(read, page):
    """The objects of a page are read one by one."""
    found, more = read(as_written(page))
    assert len(found) == 1
    assert more in {True, "t"}


READERS = {
    "openai": (openai_objects.read_remote, BATCH, lambda read: read.remote_id == "batch_1"),
    "anthropic": (
        anthropic_objects.read_remote,
        MESSAGES,
        lambda read: read.remote_id[:4] == "msgb",
    ),
    "google": (google_objects.read_remote, JOB, lambda read: read.remote_id == "batches/1"),
}


@pytest.mark.parametrize("provider", READERS)
def test_a_changed_object_is_read_by_its_id(provider):
    """Whatever stands in the other fields, an object that has its id is read."""
    read, base, holds = READERS[provider]
    name = "name" if provider == "google" else "id"

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(STEPS)
    def check(steps):
        body = changed(base, steps)
        body[name] = base[name]
        body.pop("error", None)
        remote = read(as_written(body))
        assert holds(remote)
        for at in (remote.created_at, remote.expires_at, remote.keep_until):
            assert at is None or 0 < at < 5e9
        if remote.counts:
            assert 0 <= remote.counts.total <= 10**12

    check()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([read for read, _ in pages()]), ODD)
def test_a_page_is_read_or_refused(read, odd):
    """A page that is none is a ValueError, never another one."""
    for page in (odd, {"data": [odd], "operations": [odd]}, {"data": odd, "operations": odd}):
        try:
            found, _ = read(as_written(page))
        except ValueError:
            continue
        assert all(each for each in found)


def test_unknown_words_of_the_others_end_with_what_they_have():
    """A results address, or an end, says that a batch is over."""
    over = MESSAGES | {"processing_status": "CLOSED", "results_url": "https://x"}
    assert anthropic_objects.read_remote(as_written(over)).phase is Phase.ENDED
    assert anthropic_objects.read_remote(
        as_written(MESSAGES | {"processing_status": "ENDED"})
    ).phase is Phase.ENDED  # fmt: skip
    over = json.loads(json.dumps(JOB))
    over["metadata"] |= {"state": "BATCH_STATE_CLOSED", "endTime": "2026-11-01T10:00:00Z"}
    assert google_objects.read_remote(as_written(over)).phase is Phase.ENDED


def test_inline_answers_with_odd_values_become_lines():
    """NaN beside an answer costs neither it nor the others."""
    item = '{"response": {"candidates": [{"avgLogprobs": NaN}]}, "metadata": {"key": "b-1"}}'
    held = f'{{"inlinedResponses": [{item}, 5]}}'
    body = f'{{"name": "batches/1", "response": {{"inlinedResponses": {held}}}}}'
    file, lines = google_objects.inline_lines(body.encode())
    assert file is None
    first, second = lines
    assert json.loads(first)["key"] == "b-1"
    assert second == b"5\n"


@pytest.mark.parametrize("at", [1e18, -1e18, float("inf"), float("nan"), None])
def test_a_date_that_no_calendar_has_is_unknown(at):
    """A journal that holds one can still be listed, in a notebook and in a terminal."""
    assert local_time(at) == "unknown"
    assert report.iso(at) is None


# -- uploads -------------------------------------------------------------------------------------


def create(statuses, tmp_path):
    """Create a batch at a server whose file has each of these states in turn."""
    payload = tmp_path / "job.jsonl"
    payload.write_text("{}\n")
    job = Job(
        id="job", batch_id="b", round=0, number=0, provider="azure", model="m", endpoint="chat",
        rows=1, bytes=3, payload=payload.name,
    )  # fmt: skip
    root, waits = "https://h/openai/v1", []

    def exchange(method, path, body):
        response = {"status": 200, "headers": {}, "body": body}
        return {"request": {"method": method, "uri": f"{root}/{path}"}, "response": response}

    first, *later = statuses
    file = {"id": "file-1", "status_details": "line 1 is no JSON"}
    exchanges = [
        exchange("POST", "files", file | {"status": first}),
        *(exchange("GET", "files/file-1", file | {"status": each}) for each in later),
        exchange("POST", "batches", {"job": BATCH | {"status": "VALIDATING"}}),
    ]

    async def steps(adapter):
        try:
            upload = await adapter.upload(job, payload)
            while True:
                try:
                    return await adapter.create(job, payload, upload, "mine")
                except Busy as error:
                    waits.append(error)
        finally:
            await adapter.close()

    with Replay(exchanges) as server:
        environ = {"AZURE_OPENAI_API_KEY": "sim-key-of-azure", "AZURE_OPENAI_ENDPOINT": server.url}
        created = asyncio.run(steps(make("azure", environ)))
        assert all("processing" in str(each) and each.retry_after for each in waits)
        return created, [(each.method, each.path.rpartition("v1/")[2]) for each in server.asked]


def test_an_upload_that_is_pending_is_waited_for(tmp_path):
    """The create goes out once, when the server is through with the file."""
    created, asked = create(["pending", "pending", "running", "processed"], tmp_path)
    assert (created.remote_id, created.phase) == ("batch_1", Phase.ACTIVE)
    assert asked.count(("GET", "files/file-1")) == 3
    assert asked.count(("POST", "batches")) == 1


def test_an_upload_that_the_server_cannot_use_is_refused_with_its_reason(tmp_path):
    """Nothing is created of a file that is in error."""
    with pytest.raises(Refused, match="line 1 is no JSON"):
        create(["pending", "error"], tmp_path)


# -- what was recorded ---------------------------------------------------------------------------


def replayed(name, remote_id):
    """Retrieve a recorded batch, and return it with its parsed lines."""

    class Sink(list):
        write = list.append

    async def steps(adapter):
        try:
            remote = await adapter.retrieve(remote_id)
            sink = Sink()
            for part, ref in remote.parts.items():
                await adapter.fetch(remote_id, part, ref, sink)
                sink.append(b"\n")
            lines = b"".join(sink).splitlines()
            return remote, [adapter.parse(line, remote.endpoint) for line in lines if line.strip()]
        finally:
            await adapter.close()

    exchanges = json.loads((RECORDINGS / "found" / name).read_text())
    with Replay(exchanges) as server:
        environ = {"OPENAI_API_KEY": "sk-replayed", "OPENAI_BASE_URL": f"{server.url}/v1"}
        return asyncio.run(steps(make("openai", environ)))


@NEEDED
def test_a_batch_object_with_three_fields_is_read():
    """Id, state and file are enough to bring the answers home."""
    remote, results = replayed("batchling_sparse_object.json", "batch-123")
    assert (remote.phase, remote.counts, remote.created_at) == (Phase.ENDED, None, None)
    assert results
    assert {each.outcome for each in results} == {Outcome.OK}


@NEEDED
def test_answers_and_a_line_of_an_error_file_are_read():
    """Two rows have answers, and the third its reason."""
    _, results = replayed("litellm_ok_plus_issue302_error.json", "batch_mix")
    assert [each.outcome for each in results] == [Outcome.OK, Outcome.OK, Outcome.FAILED]
    assert results[2].error
