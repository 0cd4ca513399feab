"""What comes back of a row: its parts, its raw line, and the shape in which it is bound."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jupyter_llm_batch import Outcome, ToolCall
from jupyter_llm_batch.client import results, rows
from jupyter_llm_batch.core.result import Result
from jupyter_llm_batch.core.row_codes import WAITING
from jupyter_llm_batch.storage import files

MODEL = "openai:gpt-5-mini"
MODELS = [MODEL, "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]
EMBEDDERS = ["openai:text-embedding-3-small", "google:gemini-embedding-001"]


def run(client, over, name="x", model=MODEL, **options):
    return client.submit(name=name, over=over, model=model, **options).wait(60)


def size_of(model, dimensions):
    name = "dimensions" if model.startswith("openai") else "output_dimensionality"
    return {name: dimensions}


@pytest.mark.parametrize("model", MODELS)
def test_a_result_holds_its_raw_line(client, model):
    """The line is there as the provider sent it, and its parts agree with it."""
    handle = run(client, ["a", "[[sim:fail-400]]", "b"], model=model)
    for result in handle.results():
        read = json.loads(result.raw)
        assert result.custom_id in {read.get("custom_id"), read.get("key")}
        assert not result.raw.endswith(b"\n")
        if result.outcome is Outcome.OK:
            assert result.text in result.raw.decode()
            assert result.usage.input > 0
            assert result.model


@pytest.mark.parametrize("model", MODELS)
def test_answers_are_bound_without_raw_lines_and_thoughts(client, model):
    """What is bound holds the answers alone, so that memory stays flat."""
    handle = run(client, ["[[sim:think]] a"], model=model)
    (whole,) = handle.results()
    (bound,) = results.read(client.store, handle.record)
    assert (bound.raw, bound.reasoning) == (None, None)
    assert whole.raw is not None
    assert (whole.text, whole.usage) == (bound.text, bound.usage)
    if not model.startswith("openai"):
        assert whole.reasoning == "The request was considered."


def test_a_row_without_a_line_has_no_raw_line(client):
    """A missing row has an outcome and nothing else."""
    handle = run(client, ["[[sim:missing]]", "a"])
    missing, _ = handle.results()
    assert (missing.outcome, missing.raw) == (Outcome.MISSING, None)


@pytest.mark.parametrize("model", MODELS)
def test_one_row_is_read_alone(client, model):
    """It is the same result as among all others, also when it comes from an earlier batch."""
    over = ["a", "[[sim:fail-400]]", "[[sim:tool]]"]
    first = run(client, over, model=model, retry=0)
    again = run(client, [*over, "new"], model=model, retry=0)
    for handle in (first, again):
        batch = handle.record
        for row, result in enumerate(handle.results()):
            assert rows.read_row(client.store, batch, row) == result


def test_a_row_that_is_asked_again_has_no_result_yet(client, sim):
    """While it waits its old line does not count."""
    handle = run(client, ["[[sim:fail-400]]"], retry=0)
    sim.behave(stuck=True)
    handle.retry(confirm=True)
    assert client.store.pack(handle.id, "outcomes")[0] == WAITING
    assert rows.read_row(client.store, handle.record, 0) is None
    sim.behave(stuck=False)


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_call_is_bound_as_text_and_kept_as_an_object(client, model):
    """A column of answers stays one of texts; `results` has name and arguments."""
    frame = pd.DataFrame({"text": ["[[sim:tool]] a", "b"]})
    handle = client.submit("{{ text }}", name="x", over=frame, model=model).wait(60)
    called, said = handle.answers()["answer"]
    (call,) = json.loads(called)
    assert set(call) == {"name", "id", "arguments"}
    assert isinstance(said, str)
    (found,) = handle.results()[0].tool_calls
    assert isinstance(found, ToolCall)
    assert found.name == call["name"] == "simulated_tool"
    assert handle.snapshot().samples[0].answer == "simulated_tool({})"


@pytest.mark.parametrize(
    ("model", "params"), [(MODEL, {"n": 2}), ("google:gemini-2.5-flash", {"candidateCount": 2})]
)
def test_several_answers_are_bound_as_a_list(client, model, params):
    """Who asks for more than one answer a row gets them all, in every shape."""
    lists = run(client, ["a", "b", "[[sim:fail-400]]"], model=model, params=params, retry=0)
    first, second, failed = lists.answers()
    assert (len(first), len(second), failed) == (2, 2, None)
    assert first[0] != first[1]
    for number, make in enumerate((pd.DataFrame, pl.DataFrame, pa.table)):
        frame = make({"text": ["a", "b"]})
        handle = client.submit("{{ text }}", name=f"f{number}", over=frame, model=model,
                               params=params).wait(60)  # fmt: skip
        column = handle.answers()["answer"]
        found = column.to_pylist() if make is pa.table else list(column)
        assert [len(each) for each in found] == [2, 2]


def test_a_tool_call_does_not_follow_a_schema(client):
    """It was billed, is a failure of its own kind, and its call is kept."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    (result,) = run(client, ["[[sim:tool]]"], schema=schema, retry=0).results()
    assert (result.outcome, result.code, result.billed) == (Outcome.FAILED, "schema", True)
    assert "calls a tool" in result.error
    assert result.tool_calls[0].name == "simulated_tool"


@pytest.mark.parametrize("model", EMBEDDERS)
def test_vectors_have_the_shape_of_the_input(client, model):
    """Lists of floats, NumPy arrays in pandas, fixed-size lists in polars and pyarrow."""
    more = {"model": model, "embed": True, "params": size_of(model, 8)}
    assert [len(each) for each in run(client, ["a", "b"], **more).answers()] == [8, 8]
    keyed = run(client, {"k": "a"}, name="d", **more).answers()
    assert isinstance(keyed["k"], list)
    assert isinstance(keyed["k"][0], float)

    def embedded(frame, name):
        return client.submit("{{ text }}", name=name, over=frame, **more).wait(60).answers()

    series = client.submit("{{ item }}", name="s", over=pd.Series(["a", "b"], index=["i", "j"]),
                           **more).wait(60).answers()  # fmt: skip
    assert isinstance(series["j"], np.ndarray)
    column = embedded(pd.DataFrame({"text": ["a", "b"]}), "p")["answer"]
    assert np.stack(list(column)).shape == (2, 8)
    assert embedded(pl.DataFrame({"text": ["a"]}), "q")["answer"].dtype == pl.Array(pl.Float64, 8)
    kind = embedded(pa.table({"text": ["a"]}), "r").schema.field("answer").type
    assert (pa.types.is_fixed_size_list(kind), kind.list_size) == (True, 8)


def test_base64_vectors_are_the_same(client):
    """How vectors travel changes nothing that is bound."""
    more = {"model": EMBEDDERS[0], "embed": True}
    plain = run(client, ["a"], params={"dimensions": 8}, **more).answers()
    packed = run(client, ["a"], name="y", params={"dimensions": 8, "encoding_format": "base64"},
                 **more).answers()  # fmt: skip
    assert packed[0] == pytest.approx(plain[0], abs=1e-6)


def test_a_row_of_several_inputs_gives_several_vectors(client):
    """A raw body may hold a list of inputs; every row then has a list of vectors."""
    bodies = [{"input": ["a", "b", "c"], "dimensions": 4}, {"input": "d", "dimensions": 4}]
    found = run(client, bodies, model=EMBEDDERS[0], embed=True, raw=True).answers()
    assert [len(each) for each in found] == [3, 1]
    assert {len(vector) for row in found for vector in row} == {4}


def test_jobs_of_embeddings_are_split_by_inputs(client, monkeypatch):
    """The limit counts inputs, of which one row may hold many; tokens of one text are one."""
    adapter = client.adapter("openai")
    limits = adapter.limits("embeddings")
    small = type(limits)(requests=5, bytes=limits.bytes, line_bytes=limits.bytes,
                         weigh=limits.weigh)  # fmt: skip
    monkeypatch.setattr(adapter, "limits", lambda _endpoint: small)
    inputs = [["a", "b"], ["c", "d"], ["e", "f"], "g", [1, 2, 3, 4, 5, 6], [[1, 2], [3]]]
    bodies = [{"input": each, "dimensions": 2} for each in inputs]
    handle = run(client, bodies, model=EMBEDDERS[0], embed=True, raw=True)
    assert [job.rows for job in client.store.jobs(handle.id)] == [2, 3, 1]
    assert [len(each) for each in handle.answers()] == [2, 2, 2, 1, 1, 2]


def test_a_retry_of_embeddings_is_split_by_inputs_too(client, sim, monkeypatch):
    """A round of its own keeps to the same limit."""
    adapter = client.adapter("openai")
    limits = adapter.limits("embeddings")
    bodies = [{"input": ["[[sim:fail-400 x1]] a", str(n)], "dimensions": 2} for n in range(3)]
    handle = run(client, bodies, model=EMBEDDERS[0], embed=True, raw=True, retry=0)
    small = type(limits)(requests=4, bytes=limits.bytes, line_bytes=limits.bytes,
                         weigh=limits.weigh)  # fmt: skip
    monkeypatch.setattr(adapter, "limits", lambda _endpoint: small)
    assert handle.retry(confirm=True) == 3
    handle.wait(60)
    assert [job.rows for job in client.store.jobs(handle.id)] == [3, 2, 1]


def test_the_text_of_a_result_shows_calls_as_calls():
    """For people a call looks like one, whatever its arguments are."""
    call = ToolCall(name="f", id="1", arguments={"a": [1]})
    made = Result(custom_id="x", outcome=Outcome.OK, text="So:", tool_calls=(call,))
    assert made.said == 'So:\nf({"a":[1]})'
    assert str(ToolCall(name="f")) == "f()"
    assert str(ToolCall(name="f", arguments="{torn")) == "f({torn)"


def test_an_answer_after_a_failed_line_of_its_row_is_read(client):
    """Whatever else a provider says about a row: its answer is what was paid for."""
    handle = run(client, ["a", "[[sim:fail-400]]"])
    folder = client.store.folder_of(handle.id)
    (line,) = (folder / "r0-j1.errors.jsonl").read_bytes().splitlines(keepends=True)
    output = folder / "r0-j1.output.jsonl"
    ids = [result.custom_id.encode() for result in handle.results()]
    output.write_bytes(line.replace(ids[1], ids[0]) + output.read_bytes())
    (job,) = client.store.jobs(handle.id)
    held = client.store.leases.acquire(handle.id, client.poller().owner)
    client.store.note(held, job, sums=job.sums | {"output": files.checksum(output)})
    client.store.leases.release(held)
    found = results.read(client.store, handle.record)
    assert [result.outcome for result in found] == [Outcome.OK, Outcome.FAILED]
    assert rows.read_row(client.store, handle.record, 0).outcome is Outcome.OK
