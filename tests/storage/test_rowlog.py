"""The log of a real-time job: whole records only, and torn ones are read with doubt."""

import json

import pytest

from jupyter_llm_batch.core.job import Job
from jupyter_llm_batch.storage import realtime_log
from jupyter_llm_batch.storage.realtime_log import Past, RowLog

JOB = Job(
    id="batch-r0-j1", batch_id="batch", round=0, number=1, provider="openai", model="m",
    endpoint="chat", rows=200, bytes=1, payload="r0-j1.jsonl",
)  # fmt: skip


def answer(row, text="fine"):
    """Return the result line of a row."""
    return json.dumps({"custom_id": f"batch-{row}", "text": text}).encode() + b"\n"


@pytest.fixture
def write(tmp_path):
    """Write a file of the log as it may be found."""

    def write(kind, data, token=1):
        (tmp_path / f"r0-j1.{kind}.{token}").write_bytes(data)
        return Past(tmp_path, JOB)

    return write


def test_what_is_written_is_read(tmp_path):
    """Intents, answers, and what became of requests without one."""
    log = RowLog(tmp_path, JOB, 3, left := [])
    log.asking([0, 1, 2, 3, 4])
    log.answered(0, answer(0), ok=True)
    log.answered(1, answer(1), ok=False)
    log.not_executed(2)
    log.unclear(3, "the line\nbroke")
    log.given_up(4, "turned away")
    log.close()
    past = Past(tmp_path, JOB)
    assert left == []
    assert past.answered == {0: True, 1: False}
    assert past.open == {3: "the line broke"}
    assert past.given_up == {4: "turned away"}
    assert [*past.lines()] == [answer(0), answer(1)]


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        (b"+4\n+5+6\n+7\n", {4, 5, 6, 7}),
        (b"+4\n+5\n-+6\n", {4, 5, 6}),
        (b"+4\n-4+6\n", {4, 6}),
        (b"+4\n?4 the line br+6\n", {4, 6}),
        (b"+4\n!5+6\n", {4, 6}),
        (b"+4\n+6", {4, 6}),
        (b"+4\n-4", {4}),
        (b"+4\n\0\0\0\n", {4}),
    ],
)
def test_a_torn_intent_counts_as_asked(write, found, rows):
    """Whatever a full disk has left of a record: what may have gone out is not sent again."""
    assert {*write("asked", found).open} == rows


def test_what_was_taken_back_twice_is_taken_back_once(write):
    """A record that is written anew after a failed sync changes nothing."""
    assert {*write("asked", b"+4\n-4\n-4\n+4\n").open} == {4}
    assert write("asked", b"+4\n-4\n-4\n").untouched


@pytest.mark.parametrize(
    ("torn", "lost"),
    [(b'1 ok {"custom_id": "batch-1", "te', 1), (b"1", 1), (b"1 ok", 1), (b'1 ok {"a": 1', 1)],
)
def test_a_torn_answer_does_not_take_the_next_one_along(write, torn, lost):
    """The next one in its line is bound, by its own id; the torn one's row stays open."""
    write("asked", b"+0\n+1\n+2\n+12\n")
    past = write("answers", b"0 ok " + answer(0) + torn + b"2 ok " + answer(2))
    assert {*past.answered} == {0, 2}
    assert [*past.lines()] == [answer(0), answer(2)]
    assert {*past.open} == {lost, 12}


def test_an_answer_without_its_newline_is_whole(write):
    """Only its end is missing."""
    past = write("answers", b"0 ok " + answer(0).strip())
    assert [*past.lines()] == [answer(0)]


def test_a_moment_is_a_moment(tmp_path):
    """What is written after it was looked at is not among its lines."""
    log = RowLog(tmp_path, JOB, 3, [])
    log.asking([0, 1])
    log.answered(0, answer(0), ok=True)
    past = Past(tmp_path, JOB)
    log.answered(1, answer(1), ok=True)
    assert [*past.lines()] == [answer(0)]
    log.close()


def test_a_log_with_an_answer_that_was_not_collected_stays(tmp_path):
    """It came after the collecting began; what was collected may go."""
    log = RowLog(tmp_path, JOB, 3, [])
    log.asking([0, 1])
    log.answered(0, answer(0), ok=True)
    realtime_log.tidy(tmp_path, JOB, {0})  # row 1 may still be under way
    log.answered(1, answer(1), ok=True)
    log.close()
    realtime_log.tidy(tmp_path, JOB, {0})
    assert {*Past(tmp_path, JOB).answered} == {0, 1}
    realtime_log.tidy(tmp_path, JOB, {0, 1})
    assert [*tmp_path.iterdir()] == []
