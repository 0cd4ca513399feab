"""Downloads that stay incomplete: what any of them brought is kept and read."""

import json
from collections import Counter

import pytest
from support import mark

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.core.result import Result
from jupyter_llm_batch.storage import partial_downloads

MODEL = "openai:gpt-5-mini"
CONTENT = {"method": "GET", "path": "*/files/*/content"}
SHORT = {**CONTENT, "action": "truncate", "at_line": True, "shorten_length": True}


@pytest.mark.parametrize("then", ["gone", "shorter"])
def test_a_later_download_takes_nothing_away(make_client, sim, then):
    """Rows that a first download brought are answered, after a restart too; none is paid again."""
    sim.fault(**SHORT, keep=0.7)
    if then == "gone":
        sim.fault(**CONTENT, action="status", status=404, times=None)
    else:
        sim.fault(**SHORT, keep=0.3, times=None)
    client = make_client()
    over = [f"prompt {row}" for row in range(10)]
    handle = client.submit(name="x", over=over, model=MODEL, retry=0).wait(60)
    outcomes = Counter(result.outcome for result in handle.results())
    assert outcomes == {Outcome.OK: 7, Outcome.MISSING: 3}
    state = client.store.jobs(handle.id)[0].state
    assert state is (JobState.GONE if then == "gone" else JobState.DONE)
    client.close()
    found = make_client().get("x").results()
    assert Counter(result.outcome for result in found) == outcomes
    for prompt, result in zip(over, found, strict=True):
        assert result.outcome is Outcome.MISSING or mark(prompt) in result.text
    assert sim.summary()["max_per_body"] == 1


def line(row, *, ok=True):
    """Return a result line."""
    return json.dumps({"id": f"r-{row}", "ok": ok}).encode() + b"\n"


def parse(data):
    """Read a result line."""
    try:
        read = json.loads(data)
    except ValueError:
        return Result(custom_id="", outcome=Outcome.FAILED)
    outcome = Outcome.OK if read["ok"] else Outcome.FAILED
    return Result(custom_id=read["id"], outcome=outcome)


@pytest.fixture
def path(tmp_path):
    """The place of a result file."""
    return tmp_path / "r0-j1.output.jsonl"


def keep(path, *data):
    path.write_bytes(b"".join(data))
    partial_downloads.put_aside(path)


def test_of_every_row_one_line_is_taken_and_an_answer_wins(path):
    """Whatever order they came in; lines that are cut off or garbled give nothing."""
    keep(path, line(1), line(2, ok=False), b"\xff\xfe\n", line(3)[:-5])
    keep(path, line(2), line(1, ok=False), line(4, ok=False))
    path.write_bytes(line(4, ok=False) + line(5)[:9])
    partial_downloads.join(path, parse, list)
    assert sorted(path.read_bytes().splitlines(keepends=True)) == [
        line(1), line(2), line(4, ok=False),
    ]  # fmt: skip
    assert len(partial_downloads.of(path)) == 3  # what came stays as it came
    partial_downloads.join(path, parse, list)
    assert len(partial_downloads.of(path)) == 3


def test_another_owner_is_left_alone(path):
    """Nothing is moved or written when the lease is lost."""
    keep(path, line(1))
    path.write_bytes(line(2))
    with pytest.raises(ZeroDivisionError):
        partial_downloads.join(path, parse, lambda: 1 // 0)
    assert path.read_bytes() == line(2)
    assert len(partial_downloads.of(path)) == 1
    assert partial_downloads.names(path.with_name("r0-j1.jsonl")) == ["output"]
