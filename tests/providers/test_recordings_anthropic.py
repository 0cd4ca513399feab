"""What Anthropic really said, replayed over HTTP to the real SDK and read by the adapter."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from recordings import NEEDED, RECORDINGS
from replay import Replay

from jupyter_llm_batch.core.job import Counts, Job, Phase
from jupyter_llm_batch.core.result import Outcome, Usage
from jupyter_llm_batch.providers.registry import make

FOLDER = RECORDINGS / "anthropic"

pytestmark = NEEDED


def recorded(name):
    return json.loads((FOLDER / name).read_text())


def replayed(exchanges, tmp_path):
    """Carry one job through a recording: create, poll to the end, fetch and parse, cancel."""
    sent = exchanges[0]["request"]["body"]
    payload = tmp_path / "job.jsonl"
    payload.write_text("".join(json.dumps(line) + "\n" for line in sent["requests"]))
    job = Job(
        id="job",
        batch_id="b",
        round=0,
        number=0,
        provider="anthropic",
        model="mixed",
        endpoint="chat",
        rows=len(sent["requests"]),
        bytes=payload.stat().st_size,
        payload=payload.name,
    )
    addresses = [exchange["request"]["uri"] for exchange in exchanges]

    async def main(url):
        environ = {"ANTHROPIC_API_KEY": "sk-ant-replayed", "ANTHROPIC_BASE_URL": url}
        adapter = make("anthropic", environ)
        seen = [await adapter.create(job, payload, None, "label")]
        remote_id = seen[0].remote_id
        polls = sum(address.endswith(remote_id) for address in addresses)
        seen += [await adapter.retrieve(remote_id) for _ in range(polls)]
        lines, parsed = b"", []
        for part, ref in seen[-1].parts.items():
            sink = io.BytesIO()
            await adapter.fetch(remote_id, part, ref, sink)
            lines += sink.getvalue()
            parsed += [adapter.parse(line, "chat") for line in sink.getvalue().splitlines()]
        if any(address.endswith("/cancel") for address in addresses):
            seen.append(await adapter.cancel(remote_id))
        await adapter.close()
        return seen, lines, parsed

    with Replay(exchanges) as server:
        outcome = asyncio.run(main(server.url))
        assert json.loads(server.asked[0].body) == sent
        return outcome


@pytest.mark.parametrize(
    ("name", "created", "tokens"),
    [
        (
            "curator_basic_batch_completion.json",
            1736661554.154311,
            [(11, 273), (10, 259), (10, 313)],
        ),
        ("rubyllm_complete.json", 1787150691.493319, [(20, 5), (19, 4)]),
    ],
)
def test_a_recorded_batch_is_understood(name, created, tokens, tmp_path):
    """Every poll and every line of a real batch is read, and the bytes arrive verbatim."""
    exchanges = recorded(name)
    seen, lines, parsed = replayed(exchanges, tmp_path)
    rows = len(tokens)
    assert [remote.state for remote in seen] == ["in_progress", "in_progress", "ended"]
    assert [remote.phase for remote in seen] == [Phase.ACTIVE, Phase.ACTIVE, Phase.ENDED]
    assert [remote.poll_after for remote in seen] == [None, 10.0, None]
    assert [remote.counts for remote in seen] == [None, None, Counts(total=rows, done=rows)]
    assert seen[0].created_at == pytest.approx(created)
    assert seen[0].expires_at == pytest.approx(created + 86400)
    assert seen[0].keep_until == pytest.approx(created + 29 * 86400)
    assert lines.decode() == exchanges[-1]["response"]["body"]
    assert [result.custom_id for result in parsed] == [str(n) for n in range(rows)]
    assert {(r.outcome, r.finish_reason, r.billed) for r in parsed} == {
        (Outcome.OK, "end_turn", True)
    }
    assert [r.usage for r in parsed] == [Usage(input=i, output=o) for i, o in tokens]


def test_recorded_answers_are_read_in_full(tmp_path):
    """Text and dated model of real answers."""
    _, _, parsed = replayed(recorded("rubyllm_complete.json"), tmp_path)
    assert [(result.text, result.model) for result in parsed] == [
        ("4", "claude-haiku-4-5-20251001"),
        ("Jupiter", "claude-haiku-4-5-20251001"),
    ]


def test_a_recorded_cancel_is_understood(tmp_path):
    """A real cancel answers at once that the batch is being cancelled, and counts nothing."""
    seen, _, parsed = replayed(recorded("curator_batch_cancel.json"), tmp_path)
    assert seen[-1].state == "canceling"
    assert seen[-1].phase is Phase.ACTIVE
    assert seen[-1].counts is None
    assert parsed == []
