"""What was parsed while it was collected is handed to whoever reads it next, once."""

import pytest
from support import mark

from jupyter_llm_batch.core.job import Job
from jupyter_llm_batch.core.result import Outcome, Result
from jupyter_llm_batch.providers.openai import results
from jupyter_llm_batch.storage import parsed_cache

MODEL = "openai:gpt-5-mini"


def job(number, **sums):
    return Job(
        id=f"x-r0-j{number}", batch_id="x", round=0, number=number, provider="openai", model="m",
        endpoint="chat", rows=1, bytes=10, payload="p", sums=sums,
    )  # fmt: skip


def parsed(size, *texts):
    made = parsed_cache.Parsed()
    for text in texts:
        made.add(
            Result(custom_id="x-0", outcome=Outcome.OK, text=text, reasoning="hm"),
            size // len(texts),
        )
    return made


def test_each_job_is_handed_out_once_and_without_reasoning():
    """The second reader parses the file."""
    held = parsed_cache.Recent()
    held.keep(job(1), parsed(10, "a"))
    (result,) = held.take(job(1))
    assert (result.text, result.reasoning) == ("a", None)
    assert held.take(job(1)) is None


def test_files_that_are_others_by_now_are_parsed():
    """What was mended or fetched again is read from where it lies."""
    held = parsed_cache.Recent()
    held.keep(job(1, output="3-abc"), parsed(10, "a"))
    assert held.take(job(1, output="4-def")) is None


def test_later_jobs_take_the_place_of_earlier_ones():
    """The lines of all that is held are no more than the room; a larger job is not held at all."""
    held = parsed_cache.Recent()
    for number, size in enumerate((parsed_cache.ROOM // 2, parsed_cache.ROOM // 2, 10)):
        held.keep(job(number), parsed(size, "a"))
    held.keep(job(9), parsed(parsed_cache.ROOM + 2, "a", "b"))
    assert [held.take(job(number)) is not None for number in (0, 1, 2, 9)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_lines_are_parsed_once_until_they_are_read_again(make_client, monkeypatch):
    """A notebook that binds what has just come back parses nothing; later readers do."""
    client, count = make_client(), []
    parse = results.parse
    monkeypatch.setattr(results, "parse", lambda *given: count.append(1) or parse(*given))
    handle = client.submit(name="x", over=["a", "b"], model=MODEL).wait(60)
    first = handle.answers()
    assert len(count) == 2
    assert handle.answers() == first
    assert len(count) == 4
    assert all(mark(prompt) in answer for prompt, answer in zip("ab", first, strict=True))


@pytest.mark.parametrize("schema", [None, {"type": "object", "properties": {}}])
def test_it_reads_the_same_either_way(make_client, schema):
    """Answers, refusals and failures do not differ from what another kernel reads."""
    client = make_client()
    prompts = ["a", "b [[sim:refuse]]", "c [[sim:fail-400]]", "d [[sim:missing]]"]
    options = {} if schema is None else {"schema": schema}
    handle = client.submit(name="x", over=prompts, model=MODEL, **options).wait(60)
    first, errors = handle.answers(), handle.failures()
    client.close()
    again = make_client().get("x")
    assert again.answers() == first
    assert again.failures() == errors
