"""Structured output: asked for in the provider's form, held against the schema on return."""

import dataclasses
import functools
import json
from typing import Literal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel
from support import mark
from typing_extensions import TypedDict

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.result import Outcome, Result
from jupyter_llm_batch.data import structured
from jupyter_llm_batch.providers import registry

MODEL = "openai:gpt-5-mini"


class Review(BaseModel):
    mood: Literal["positive", "negative"]
    stars: int
    why: str | None = None


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Name(TypedDict):
    first: str
    last: str


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Review, ["mood", "stars", "why"]), (Point, ["x", "y"]), (Name, ["first", "last"])],
)
def test_every_kind_of_schema_is_read(kind, names):
    """Models, dataclasses and TypedDicts become JSON schemas with their fields in order."""
    schema, name = structured.read_schema(kind)
    assert structured.schema_fields(schema) == names
    assert name == kind.__name__


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (int, "not a type"),
        ("Review", "not a str"),
        ({"type": "array"}, "must describe an object"),
        ({"type": "object", "properties": {"a": {"type": 3}}}, "not a valid JSON schema"),
    ],
)
def test_what_is_no_schema_is_refused(wrong, words):
    """The message says what a schema may be."""
    with pytest.raises(UsageProblem, match=words):
        structured.read_schema(wrong)


def answered(text, **more):
    return lambda line, endpoint: Result(custom_id="b-0", outcome=Outcome.OK, text=text, **more)


@pytest.mark.parametrize(
    ("first", "refused"), [({"$ref": "#/$defs/b"}, True), ({"type": "string"}, False)]
)
def test_references_that_go_round_in_a_circle_are_refused(client, sim, first, refused):
    """No answer could follow them, so that each row would be paid for and fail."""
    schema = {
        "$defs": {"a b": first, "b": {"$ref": "#/$defs/a%20b"}},
        "type": "object", "properties": {"x": {"$ref": "#/$defs/a%20b"}},
        "required": ["x"], "additionalProperties": False,
    }  # fmt: skip
    if refused:
        with pytest.raises(UsageProblem, match="leads nowhere"):
            client.submit(name="x", over=["a"], model="openai:gpt-5-mini", schema=schema)
        assert not sim.ledger()
    else:
        structured.read_schema(schema)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mood": "fine", "stars": 3}', "mood"),
        ('{"mood": "positive"}', "stars"),
        ('{"mood": "positive", "stars": "3"}', "stars"),
        ("positive", "no JSON"),
    ],
)
def test_answers_that_break_the_schema_fail_and_keep_their_text(text, words):
    """They are failed, billed, and say why."""
    parse = structured.with_schema_check(answered(text), structured.read_schema(Review)[0])
    result = parse(b"", "chat")
    assert (result.outcome, result.code, result.billed) == (Outcome.FAILED, "schema", True)
    assert words in result.error
    assert result.text == text


def test_a_cut_answer_says_so():
    """Truncation is named as the reason, not the broken JSON."""
    parse = structured.with_schema_check(answered('{"mood": "po', finish_reason="length"),
                            structured.read_schema(Review)[0])  # fmt: skip
    assert "cut off" in parse(b"", "chat").error


def test_null_for_an_optional_field_is_no_error():
    """Strict mode answers null where the user's own field is optional but not nullable."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a"],
    }
    result = structured.with_schema_check(answered('{"a": "x", "b": null}'), schema)(b"", "chat")
    assert result.parsed == {"a": "x"}


def test_a_list_gets_objects_of_the_users_class(client):
    """Answers are validated objects; after a restart without the class they are dicts."""
    handle = client.submit(name="x", over=["a", "b"], model=MODEL, schema=Review).wait(60)
    answers = handle.answers()
    assert all(isinstance(answer, Review) for answer in answers)
    client.context.kinds.clear()
    assert handle.answers() == [answer.model_dump() for answer in answers]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_frame_gets_columns_with_types(client, make):
    """The schema's fields take the place of the answer column, numbers as numbers."""
    frame = make({"text": ["a", "b", "c [[sim:fail-400]]"]})
    handle = client.submit("{{ text }}", name="x", over=frame, model=MODEL, schema=Review)
    out = handle.wait(60).answers()
    assert list(out.columns) == ["text", "mood", "stars", "why", "error", "finish_reason"]
    assert str(out["stars"].dtype) == "Int64"
    assert set(out["mood"][:2]) <= {"positive", "negative"}


def test_the_request_asks_for_the_schema(client):
    """Chat and responses get it in their own form, strict."""
    for endpoint, path in (
        ("chat", ("response_format", "json_schema", "schema")),
        ("responses", ("text", "format", "schema")),
    ):
        handle = client.submit(
            name=endpoint, over=["a"], model=MODEL, schema=Review, endpoint=endpoint
        ).wait(60)
        file = client.store.folder_of(handle.id) / "r0-j1.jsonl"
        found = json.loads(file.read_text())["body"]
        for key in path:
            found = found[key]
        assert found["additionalProperties"] is False
        assert handle.results()[0].parsed["stars"] is not None


def test_broken_answers_are_asked_again_only_when_told(client, sim):
    """A cut answer was billed: `reask` asks again, the default does not."""
    prompts = ["a", "b [[sim:length x1]]"]
    first = client.submit(name="x", over=prompts, model=MODEL, schema=Review).wait(60)
    assert [result.outcome for result in first.results()] == ["ok", "failed"]
    assert first.record.round == 0
    sim.reset()
    second = client.submit(name="y", over=prompts, model=MODEL, schema=Review, reask=1).wait(60)
    assert [result.outcome for result in second.results()] == ["ok", "ok"]
    assert len(sim.ledger()) == 3


def test_a_field_that_is_a_column_already_is_refused(client, sim):
    """The message names the field and the remedy; nothing is sent."""
    frame = pd.DataFrame({"stars": [1]})
    with pytest.raises(UsageProblem, match=r"'stars'.*rename"):
        client.submit("{{ stars }}", name="x", over=frame, model=MODEL, schema=Review)
    assert sim.requests() == []


def test_a_schema_does_not_go_with_embeddings(client):
    """Endpoints without structured output say so."""
    with pytest.raises(UsageProblem, match="--schema"):
        client.submit(name="x", over=["a"], model=MODEL, schema=Review, embed=True)


def test_answers_still_carry_their_mark(client):
    """Structured answers are bound to their prompts like all others."""
    handle = client.submit(name="x", over=["a", "b"], model=MODEL, schema=Name).wait(60)
    for prompt, result in zip(["a", "b"], handle.results(), strict=True):
        assert mark(prompt) in result.text


def test_a_line_that_is_no_text_has_failed_and_may_have_been_paid():
    """It raises nothing, so that who reads the file again can go on to the next line."""
    adapter = registry.make("openai", {"OPENAI_API_KEY": "sk-none"})
    line = b'{"custom_id": "abc-0", "response": {"status_code": 200, "body": {"caf\xff": 1}}}'
    result = structured.with_schema_check(adapter.parse, None)(line, "chat")
    assert (result.custom_id, result.outcome, result.billed) == ("abc-0", Outcome.FAILED, True)


class Figures(BaseModel):
    """Answers that no word can be added to."""

    stars: int
    sure: bool
    mood: Literal["positive", "negative"]


def reasons(made):
    """Return the column `finish_reason` of any library's frame, None where there is none."""
    column = made["finish_reason"]
    return [
        None if pd.isna(each) else each for each in getattr(column, "to_pylist", lambda: column)()
    ]


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_what_cannot_say_that_it_is_simulated_says_so_beside(
    make_client, tmp_path, make, simulated
):
    """Numbers, choices and vectors of the simulator are marked in `finish_reason`, others never."""
    client = make_client(simulated=simulated)
    run = functools.partial(client.submit, "{{ text }}", over=make({"text": ["a", "b"]}))
    figures = run(name="figures", model=MODEL, schema=Figures).wait(60)
    vectors = run(name="vectors", model="openai:text-embedding-3-small", embed=True).wait(60)
    words = run(name="words", model=MODEL).wait(60)
    for handle, reason in [
        (figures, "stop (simulated)" if simulated else "stop"),
        (vectors, "simulated" if simulated else None),
        (words, "stop"),  # the texts say it themselves
    ]:
        assert reasons(handle.answers()) == [reason] * 2
        assert reasons(handle.frame(costs=True)) == [reason] * 2
        path = handle.export(tmp_path / f"{handle.name}.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["finish_reason"] for line in lines] == [reason] * 2
