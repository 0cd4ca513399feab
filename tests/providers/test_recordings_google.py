"""What Gemini really said, replayed over HTTP and read by the adapter."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from recordings import NEEDED, RECORDINGS
from replay import Replay

from jupyter_llm_batch.core.errors import OutOfQuota, Refused
from jupyter_llm_batch.core.job import Counts, Job, Phase
from jupyter_llm_batch.core.result import Outcome, Usage
from jupyter_llm_batch.providers.registry import make

pytestmark = NEEDED


def replayed(exchanges, steps):
    """Run `steps(adapter)` against recorded answers; return its value and what was asked."""

    async def main(adapter):
        try:
            return await steps(adapter)
        finally:
            await adapter.close()

    with Replay(exchanges) as server:
        environ = {
            "GEMINI_API_KEY": "AIza-replayed",
            "GOOGLE_GEMINI_BASE_URL": server.url,
            "GOOGLE_GENAI_API_VERSION": "v1beta",
        }
        return asyncio.run(main(make("google", environ))), server.asked


def test_a_recorded_inline_batch_is_understood(tmp_path):
    """Every poll is read, and every answer of the job becomes a line that is read."""
    exchanges = json.loads((RECORDINGS / "gemini/rubyllm_inline_complete.json").read_text())
    payload = tmp_path / "job.jsonl"
    sent = exchanges[0]["request"]["body"]["batch"]
    items = sent["inputConfig"]["requests"]["requests"]
    # Ours is the same request under our own name for the key.
    lines = [{"key": each["metadata"]["custom_id"], "request": each["request"]} for each in items]
    payload.write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = Job(
        id="job",
        batch_id="b",
        round=0,
        number=0,
        provider="google",
        model="gemini-2.5-flash",
        endpoint="chat",
        rows=2,
        bytes=payload.stat().st_size,
        payload=payload.name,
    )

    async def steps(adapter):
        assert await adapter.upload(job, payload) is None
        seen = [await adapter.create(job, payload, None, sent["displayName"])]
        while seen[-1].phase is Phase.ACTIVE and len(seen) < len(exchanges):
            seen.append(await adapter.retrieve(seen[0].remote_id))
        sink = io.BytesIO()
        for part, ref in seen[-1].parts.items():
            await adapter.fetch(seen[0].remote_id, part, ref, sink)
        lines = sink.getvalue().splitlines()
        return seen, lines, [adapter.parse(line, "chat") for line in lines]

    (seen, lines, parsed), requests = replayed(exchanges, steps)
    created = json.loads(requests[0].body)["batch"]
    ours = created["inputConfig"]["requests"]["requests"]
    assert created["displayName"] == sent["displayName"]
    assert [each["request"] for each in ours] == [each["request"] for each in items]
    states = ["BATCH_STATE_PENDING", "BATCH_STATE_RUNNING", "BATCH_STATE_SUCCEEDED"]
    assert [remote.state for remote in seen] == states
    assert seen[0].counts == Counts(total=2)
    assert seen[-1].counts == Counts(total=2, done=2)
    assert seen[-1].label == sent["displayName"]
    assert seen[-1].created_at == pytest.approx(1787150052.26787)
    answers = exchanges[-1]["response"]["body"]["response"]["inlinedResponses"]
    for line, answer in zip(lines, answers["inlinedResponses"], strict=True):
        # All that Google said of the row, and in front of it the name by which it is bound.
        assert json.loads(line) == {"key": answer["metadata"]["custom_id"], **answer}
    assert [result.custom_id for result in parsed] == ["0", "1"]
    assert [result.text for result in parsed] == ["4", "Jupiter"]
    assert {result.outcome for result in parsed} == {Outcome.OK}
    assert parsed[0].usage == Usage(input=13, output=44, reasoning=43)
    assert (parsed[0].model, parsed[0].finish_reason) == ("gemini-2.5-flash", "STOP")


def test_a_recorded_result_file_is_understood():
    """It arrives byte for byte, and its lines are read whatever the order of their names."""
    text = (RECORDINGS / "gemini/cookbook_file_results_generate.jsonl").read_text()
    name = "files/batch-0123456789abcdefghijklmnopqrstuvwxyz"
    request = {"method": "GET", "uri": f"/v1beta/{name}:download?alt=media"}
    exchange = {"request": request, "response": {"status": 200, "headers": {}, "body": text}}

    async def steps(adapter):
        sink = io.BytesIO()
        await adapter.fetch("batches/b", "output", name, sink)
        return sink.getvalue()

    raw, asked = replayed([exchange], steps)
    assert raw.decode() == text
    assert [each.path for each in asked] == [f"/v1beta/{name}:download"]
    parsed = [make("google", {}).parse(line, "chat") for line in raw.splitlines()]
    assert [result.custom_id for result in parsed] == ["request_1", "request_2"]
    assert {(result.outcome, result.finish_reason) for result in parsed} == {(Outcome.OK, "STOP")}
    assert parsed[0].text.startswith("AI learns patterns")
    assert parsed[1].usage == Usage(input=9, output=1243, reasoning=1180)


def reported(kind):
    entries = json.loads((RECORDINGS / "reported_in_issues.json").read_text())
    (found,) = [entry["value"] for entry in entries if entry["kind"].startswith(kind)]
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("Gemini 429", OutOfQuota), ("Gemini files.get on a batch result file", Refused)],
)
def test_reported_errors_are_understood(kind, expected):
    """What users met is told in one line and with the right consequence."""
    body = reported(kind)
    exchange = {
        "request": {"method": "GET", "uri": "/v1beta/batches/b"},
        "response": {"status": body["error"]["code"], "headers": {}, "body": body},
    }

    async def steps(adapter):
        with pytest.raises(expected) as caught:
            await adapter.retrieve("batches/b")
        return caught.value

    error, _ = replayed([exchange], steps)
    assert type(error) is expected
    assert error.code == body["error"]["status"]
    assert "\n" not in str(error)
