"""What the providers really said, replayed over HTTP to the real SDK and read by the adapters."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import pytest
from recordings import NEEDED, RECORDINGS
from replay import Replay

from jupyter_llm_batch.core.errors import Refused
from jupyter_llm_batch.core.job import Counts, Job, Phase
from jupyter_llm_batch.core.result import Outcome, Usage
from jupyter_llm_batch.providers.openai import objects, results
from jupyter_llm_batch.providers.openai import requests as wire
from jupyter_llm_batch.providers.registry import make

pytestmark = NEEDED


def recorded(name):
    return json.loads((RECORDINGS / name).read_text())


def replayed(exchanges, endpoint, tmp_path):
    """Carry one job through a recording: upload, create, poll to the end, fetch and parse."""
    with Replay(exchanges) as server:
        return asyncio.run(_carry(server.url, exchanges, endpoint, tmp_path))


async def _carry(url, exchanges, endpoint, tmp_path):
    file_id = exchanges[0]["response"]["body"]["id"]
    payload = tmp_path / "job.jsonl"
    payload.write_bytes(b"{}\n")
    job = Job(
        id="job", batch_id="b", round=0, number=0, provider="openai", model="any",
        endpoint=endpoint, rows=1, bytes=3, payload=payload.name,
    )  # fmt: skip
    adapter = make("openai", {"OPENAI_API_KEY": "sk-replayed", "OPENAI_BASE_URL": f"{url}/v1"})
    assert await adapter.upload(job, payload) == file_id
    seen = [await adapter.create(job, payload, file_id, "label")]
    polls = sum(
        exchange["request"]["method"] == "GET" and "/batches/" in exchange["request"]["uri"]
        for exchange in exchanges
    )
    seen += [await adapter.retrieve(seen[0].remote_id) for _ in range(polls)]
    lines, parsed = b"", []
    for part, ref in seen[-1].parts.items():
        sink = io.BytesIO()
        await adapter.fetch(seen[0].remote_id, part, ref, sink)
        lines += sink.getvalue()
        parsed += [adapter.parse(line, endpoint) for line in sink.getvalue().splitlines()]
    if any(exchange["request"]["uri"].endswith("/cancel") for exchange in exchanges):
        seen.append(await adapter.cancel(seen[0].remote_id))
    await adapter.close()
    return seen, lines, parsed


def test_a_recorded_chat_batch_is_understood(tmp_path):
    """Every poll and every line of a real chat batch is read, and the bytes arrive verbatim."""
    exchanges = recorded("openai/curator_basic_batch_completion.json")
    seen, lines, parsed = replayed(exchanges, "chat", tmp_path)
    states = ["validating", "validating", "in_progress", "in_progress", "finalizing", "completed"]
    assert [remote.state for remote in seen] == states
    assert [remote.phase for remote in seen] == [Phase.ACTIVE] * 5 + [Phase.ENDED]
    assert seen[0].counts == Counts()
    assert seen[-1].counts == Counts(total=3, done=3)
    assert seen[-1].expires_at == 1736576175
    assert seen[-1].keep_until == 1736489783 + 30 * 86400
    assert lines.decode() == exchanges[-1]["response"]["body"]
    assert [result.custom_id for result in parsed] == ["0", "1", "2"]
    assert {result.outcome for result in parsed} == {Outcome.OK}
    assert parsed[0].text is not None
    assert parsed[0].text.startswith("Spaghetti is a type of pasta")
    assert (parsed[0].finish_reason, parsed[0].model) == ("stop", "gpt-3.5-turbo-0125")
    assert parsed[0].usage == Usage(input=10, output=72)


def test_a_recorded_embedding_batch_is_understood(tmp_path):
    """The vectors of a real embedding batch are read in full."""
    exchanges = recorded("openai/rubyllm_embeddings_complete.json")
    seen, lines, parsed = replayed(exchanges, "embeddings", tmp_path)
    assert (seen[0].state, seen[-1].state) == ("validating", "completed")
    assert lines.decode() == exchanges[-1]["response"]["body"]
    assert {result.custom_id: len(result.vector or ()) for result in parsed} == {
        "0": 1536,
        "1": 256,
    }
    assert sum(result.usage.input for result in parsed) == 13
    assert parsed[0].model == "text-embedding-3-small"


def test_a_recorded_cancel_is_understood(tmp_path):
    """A real cancel during validation answers at once that the batch is being cancelled."""
    exchanges = recorded("openai/curator_batch_cancel.json")
    seen, _, parsed = replayed(exchanges, "chat", tmp_path)
    assert seen[-1].state == "cancelling"
    assert seen[-1].phase is Phase.ACTIVE
    assert parsed == []


def reported(kind):
    entries = recorded("reported_in_issues.json")
    return [entry["value"] for entry in entries if entry["kind"].startswith(kind)]


def test_reported_failures_of_whole_batches_are_understood():
    """Lack of room is told apart from a file that will never be accepted."""
    phases = {}
    for error in reported("batch.failed errors.data entry"):
        batch = {"id": "batch_1", "status": "failed", "errors": {"data": [error]}}
        remote = objects.read_remote(json.dumps(batch).encode())
        phases[error["code"]] = remote.phase
        assert remote.error is not None
        assert error["message"] in remote.error
    assert phases == {"token_limit_exceeded": Phase.LATER, "invalid_json_line": Phase.FAILED}


def test_a_reported_batch_whose_rows_all_failed_is_understood():
    """A completed batch may have no output file at all."""
    (batch,) = reported("batch object: completed, every request failed")
    remote = objects.read_remote(json.dumps(batch).encode())
    assert remote.phase is Phase.ENDED
    assert list(remote.parts) == ["errors"]
    assert remote.counts == Counts(total=9, failed=9)


def test_a_documented_expired_line_is_understood():
    """A row that was not reached in time cost nothing and may be sent again."""
    (line,) = reported("error-file line, expired request")
    result = results.parse(json.dumps(line).encode(), "chat")
    assert (result.custom_id, result.outcome) == ("request-3", Outcome.EXPIRED)
    assert result.transient
    assert not result.billed


# -- all of it ---------------------------------------------------------------------------------


def test_every_recording_is_replayed_somewhere():
    """Each file there is named by a test, and the index names each file."""
    files = [path for path in RECORDINGS.rglob("*") if path.suffix in {".json", ".jsonl"}]
    assert files
    index = (RECORDINGS / "INDEX.md").read_text()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_recordings*.py"))
    for path in files:
        assert path.name in tests, f"{path.name} is replayed by no test"
        assert path.name in index, f"{path.name} stands in no index"


def test_every_reported_shape_is_read_somewhere():
    """Each kind of entry is asked for by a test."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_recordings*.py"))
    asked = re.findall(r'"([^"\n]{8,})"', tests)
    for entry in recorded("reported_in_issues.json"):
        assert any(entry["kind"].startswith(each) for each in asked), entry["kind"]


def test_every_documented_state_has_a_phase():
    """The schema's states are all known: three end with results, one fails, the rest run."""
    schema = recorded("openai/openapi_batches_files_uploads.json")["components"]["schemas"]
    phases = {}
    for state in schema["Batch"]["properties"]["status"]["enum"]:
        remote = objects.read_remote(json.dumps({"id": "batch_1", "status": state}).encode())
        phases.setdefault(str(remote.phase), set()).add(state)
    assert phases == {
        "active": {"validating", "in_progress", "finalizing", "cancelling"},
        "ended": {"completed", "expired", "cancelled"},
        "failed": {"failed"},
    }


def test_a_create_is_what_the_schema_takes(tmp_path):
    """Our fields are documented ones, none that is demanded is missing, and paths are taken."""
    schema = recorded("openai/openapi_batches_files_uploads.json")["components"]["schemas"]
    wanted = schema["CreateBatchRequest"]
    exchanges = recorded("openai/curator_basic_batch_completion.json")
    with Replay(exchanges) as server:
        asyncio.run(_carry(server.url, exchanges, "chat", tmp_path))
        (sent,) = [json.loads(each.body) for each in server.asked if each.path == "/v1/batches"]
    assert set(wanted["required"]) <= sent.keys() <= wanted["properties"].keys()
    assert sent["completion_window"] in wanted["properties"]["completion_window"]["enum"]
    assert all(len(key) <= 64 and len(value) <= 512 for key, value in sent["metadata"].items())
    for path in wanted["properties"]["endpoint"]["enum"]:
        assert wire.path(path) == path
    assert sent["endpoint"] in wanted["properties"]["endpoint"]["enum"]


@pytest.mark.parametrize("code", ["invalid_json_line", "empty_file", "too_many_tasks"])
def test_documented_validation_codes_fail_the_whole_batch(code):
    """None of them is worth waiting for, and each is told."""
    (codes,) = reported("documented validation codes")
    assert code in codes
    for each in codes:
        problem = {"code": each, "message": f"because of {each}", "line": 3}
        batch = {"id": "batch_1", "status": "failed", "errors": {"data": [problem]}}
        remote = objects.read_remote(json.dumps(batch).encode())
        assert (remote.phase, remote.error) == (Phase.FAILED, f"line 3: because of {each}")


def uploaded(status, body, tmp_path):
    """Upload to a server that gives one recorded answer."""
    payload = tmp_path / "job.jsonl"
    payload.write_bytes(b"{}\n")
    job = Job(
        id="j", batch_id="b", round=0, number=0, provider="openai", model="any", endpoint="chat",
        rows=1, bytes=3, payload=payload.name,
    )  # fmt: skip
    exchange = {
        "request": {"method": "POST", "uri": "/v1/files"},
        "response": {"status": status, "headers": {}, "body": body},
    }

    async def main(url):
        adapter = make("openai", {"OPENAI_API_KEY": "sk-replayed", "OPENAI_BASE_URL": f"{url}/v1"})
        try:
            return await adapter.upload(job, payload)
        finally:
            await adapter.close()

    with Replay([exchange]) as server:
        return asyncio.run(main(server.url))


def test_a_reported_refusal_of_an_upload_is_told(tmp_path):
    """A file that is none of a batch is refused for good."""
    (answer,) = reported("files.create rejected")
    with pytest.raises(Refused, match=r"Invalid file format for Batch API\. Must be \.jsonl"):
        uploaded(answer["status"], answer["body"], tmp_path)


def test_a_reported_upload_of_bad_lines_is_accepted(tmp_path):
    """Lines are looked at when the batch is there, so the upload's answer is like any other."""
    (answer,) = reported("files.create accepts malformed lines")
    assert uploaded(200, answer, tmp_path) == answer["id"]
