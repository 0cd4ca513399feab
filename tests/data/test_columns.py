"""One odd value costs its row, or its column the type, and never another row."""

import json
import math

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answering import LINES, Answering, openai
from fuzz import there
from pydantic import BaseModel, field_validator

from jupyter_llm_batch.client import export
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.data import columns, structured
from jupyter_llm_batch.notebook import unchanged

WIDE = 2**53 + 1
ODD = {
    "beyond 64 bits": [1, 2**64, -5, None],
    "beyond floats": [10**400, 1.5, None],
    "unsigned": [1, 12345678901234567890, None],
    "wide beside a float": [WIDE, 1.5, None],
    "text and numbers": ["1", 1, None, 1.5],
    "numbers and text": [1, "1", None],
    "a number that is true": [True, 1, None],
    "lists with gaps": [[1.0, 2.0], [1.0, None], None, [1, 2.5]],
    "lists of anything": [[1, "x"], [[]], [None], None],
    "wide in lists": [[WIDE, 1.5], [1.0]],
    "objects": [{"a": 1, "b": {"c": [1]}}, {"a": None, "b": None}, None],
    "objects that differ": [{"a": 1}, {"a": "x"}, None],
    "objects and lists": [{"a": 1}, [1], "x", None],
    "empty objects": [{}, {}, None],
    "no numbers": [math.inf, 1.0, None],
    "all missing": [None, None],
    "deep": [json.loads("[" * 60 + "]" * 60), None],
    "many keys": [{str(i): i} for i in range(300)],
}


def read(column):
    """Return what a column of any library holds; JSON text in columns of JSON is read."""
    if isinstance(column, pd.Series):
        if column.isna().all():  # text, of which pandas 3 says NaN
            return [None] * len(column)
        return [there(value) for value in column.tolist()]
    if isinstance(column, pl.Series):
        return [there(value) for value in column.to_list()]
    found = column.to_pylist()
    if isinstance(column.type, pa.JsonType):
        found = [None if each is None else json.loads(each) for each in found]
    return [there(value) for value in found]


def kinds(value):
    """Return what each part of a value is: `True` is no number, and text is none either."""
    if isinstance(value, list):
        return [kinds(each) for each in value]
    if isinstance(value, dict):
        return {key: kinds(each) for key, each in value.items()}
    return "number" if type(value) in (int, float) else type(value).__name__


MAKERS = {
    "pandas": columns.for_pandas,
    "polars": lambda values: columns.for_polars("x", values),
    "pyarrow": columns.for_pyarrow,
}


@pytest.mark.parametrize("library", MAKERS)
@pytest.mark.parametrize("name", ODD)
def test_no_value_is_changed(library, name):
    """Whatever values a column is made of, it holds them exactly, in their order."""
    values = ODD[name]
    found = read(MAKERS[library](values))
    assert found == [there(value) for value in values]
    assert kinds(found) == kinds([there(value) for value in values])


def test_types_are_as_narrow_as_the_values_allow():
    """Columns of one kind have its type, so that the fallback is for odd values only."""
    plain = {"i": [1, None], "f": [1.5, 2], "s": ["a", None], "l": [[1], []], "d": [{"a": 1}]}
    made = {name: str(columns.for_pyarrow(values).type) for name, values in plain.items()}
    assert made == {
        "i": "int64", "f": "double", "s": "string", "l": "list<item: int64>",
        "d": "struct<a: int64>",
    }  # fmt: skip
    assert [str(columns.for_pandas(plain[name]).dtype) for name in "if"] == ["Int64", "float64"]
    assert columns.for_polars("x", plain["d"]).dtype == pl.Struct({"a": pl.Int64})


@pytest.fixture
def answering(tmp_path):
    """A journal that batches are collected into."""
    here = Answering(tmp_path / "data")
    yield here
    here.close()


ANYTHING = {"type": "object", "properties": {"v": {}}, "required": ["v"]}
INPUTS = {
    "list": None,
    "pandas": pd.DataFrame({"n": range(4)}),
    "polars": pl.DataFrame({"n": range(4)}),
    "pyarrow": pa.table({"n": range(4)}),
}


@pytest.mark.parametrize("library", INPUTS)
@pytest.mark.parametrize("provider", LINES)
def test_an_answer_that_cannot_be_read_is_one_failed_row(answering, provider, library):
    """Brackets without end fail their row, with its raw line, and the batch ends."""
    texts = ['{"v": 1}', "[" * 1200, '{"v": 12345678901234567890}', '{"v": "x"}']
    batch = answering.collect(
        provider,
        lambda name, row: LINES[provider](name, texts[row]),
        rows=4,
        schema=ANYTHING,
        over=INPUTS[library],
    )
    assert answering.tally(batch) == {"ok": 3, "failed": 1}
    found = answering.read(batch, whole=True)
    assert [result.outcome for result in found] == ["ok", "failed", "ok", "ok"]
    assert (found[1].text, found[1].billed) == (texts[1], True)
    assert texts[1].encode() in found[1].raw
    assert "nested too deeply" in found[1].error
    bound = answering.bound(batch)
    values = [each and each["v"] for each in bound] if library == "list" else read(
        bound.column("v").combine_chunks() if library == "pyarrow" else bound["v"]
    )  # fmt: skip
    assert values == [1, None, 12345678901234567890, "x"]


def test_arguments_of_a_call_that_cannot_be_read_cost_no_other_row(answering):
    """Brackets without end as a tool's arguments leave the other rows their answers."""

    def line(name, row):
        if row:
            return openai(name, "fine")
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[" * 1200}}
        return openai(name, None, tool_calls=[call])

    batch = answering.collect("openai", line, rows=2)
    first, second = answering.read(batch)
    assert (first.billed, second.text) == (True, "fine")
    assert sum(answering.tally(batch).values()) == 2
    assert answering.bound(batch)[1] == "fine"


def test_what_a_reader_trips_over_is_one_failed_row():
    """An exception of any kind while one line is parsed is that row's reason, under its id."""

    def parse(line, _endpoint):
        raise AttributeError("no such thing")

    for line in (
        b'{"custom_id": "b-7", "x": 1}',
        b'{"key": "b-7"',
        b'{"custom_id": "b-7"' + b"[" * 9000,
    ):
        result = structured.with_schema_check(parse, None)(line, "chat")
        assert (result.custom_id, result.outcome, result.billed) == ("b-7", Outcome.FAILED, True)
        assert "AttributeError" in result.error


class Picky(BaseModel):
    v: int

    @field_validator("v")
    @classmethod
    def trips(cls, value):
        """Raise what pydantic does not expect."""
        if value == 2:
            raise LookupError("not in my table")
        return value


def test_a_validator_of_the_users_concerns_one_row(answering):
    """What a class raises for one answer leaves that answer a dict, and the others objects."""
    schema = structured.read_schema(Picky)[0]
    batch = answering.collect(
        "openai", lambda name, row: openai(name, json.dumps({"v": row + 1})), rows=3, schema=schema
    )
    assert answering.bound(batch, kind=Picky) == [Picky(v=1), {"v": 2}, Picky(v=3)]


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_a_series_gets_plain_values(answering, library):
    """A polars or pyarrow series of validated answers holds their fields, whatever their class."""
    over = pl.Series([1, 2]) if library == "polars" else pa.chunked_array([[1, 2]])
    batch = answering.collect(
        "openai",
        lambda name, row: openai(name, json.dumps({"v": row})),
        rows=2,
        schema=structured.read_schema(Picky)[0],
        over=over,
    )
    bound = answering.bound(batch, kind=Picky)
    assert (bound.to_list() if library == "polars" else bound.to_pylist()) == [{"v": 0}, {"v": 1}]


def test_a_schema_that_names_no_fields_gives_a_column_of_objects(answering):
    """Objects of any fields are in the answer column, where there are no fields to be columns."""
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    batch = answering.collect(
        "openai",
        lambda name, row: openai(name, json.dumps({f"k{row}": row})),
        rows=2,
        schema=schema,
        over=pd.DataFrame({"n": [1, 2]}),
    )
    assert answering.bound(batch)["answer"].tolist() == [{"k0": 0}, {"k1": 1}]


def test_a_column_of_objects_is_untouched_until_it_is_changed():
    """A polars frame with odd answers is ours as long as nobody has changed it."""
    frame = pl.DataFrame({"n": [1, 2]}).with_columns(columns.for_polars("v", ["x", 1]))
    kept = unchanged.keep(frame)
    assert unchanged.is_untouched(frame, kept)
    changed = frame.with_columns(columns.for_polars("v", ["x", 2]))
    assert not unchanged.is_untouched(changed, kept)
    assert not unchanged.is_untouched(frame.drop("v"), kept)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_odd_columns_are_exported_exactly(tmp_path, library):
    """A file holds what the column held: JSON lines as values, Parquet as JSON, CSV as text."""
    values = ["1", 1, WIDE, 1.5, {"a": 1}]
    made = MAKERS[library](values)
    frame = {
        "pandas": lambda: pd.DataFrame({"v": made}),
        "polars": lambda: pl.DataFrame({"v": made}),
        "pyarrow": lambda: pa.table({"v": made}),
    }[library]()
    lines = export.write_frame(frame, tmp_path / "x.jsonl").read_text().splitlines()
    assert [json.loads(line)["v"] for line in lines] == values
    table = pq.read_table(export.write_frame(frame, tmp_path / "x.parquet"))
    assert [json.loads(each) for each in table.column(0).to_pylist()] == values
    text = export.write_frame(frame, tmp_path / "x.csv").read_text().splitlines()
    assert text == ["v", "1", "1", str(WIDE), "1.5", '"{""a"":1}"']


UNKNOWN_TO_FILES = {
    "categories of intervals": (
        lambda: pd.DataFrame({"n": [1, 2], "v": pd.cut([1, 2], 2)}),
        {"left": 0.999, "right": 1.5},
    ),
    "128 bits": (
        lambda: pl.DataFrame({"n": [1, 2], "v": [2**100, None]}, schema_overrides={"v": pl.Int128}),
        2**100,
    ),
}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", UNKNOWN_TO_FILES)
def test_a_column_that_a_format_does_not_know_is_exported_as_text(tmp_path, name, ending):
    """Paid answers reach a file whatever columns of the input stand beside them."""
    make, expected = UNKNOWN_TO_FILES[name]
    path = export.write_frame(make(), tmp_path / f"x.{ending}")
    if ending == "jsonl":
        found = json.loads(path.read_text().splitlines()[0])["v"]
    elif ending == "parquet":
        table = pq.read_table(path)
        assert table.column("n").to_pylist() == [1, 2]
        found = json.loads(table.column("v").to_pylist()[0])
    else:
        found = json.loads(pd.read_csv(path, dtype={"v": str})["v"][0])
    assert found == expected


@pytest.mark.parametrize("provider", LINES)
def test_a_request_that_cannot_be_shown_holds_up_nothing(answering, provider):
    """Samples of prompts are a courtesy: a request of any form costs none of the answers."""
    requests = b'{"body": ' + b"[" * 3000 + b'\n{"params": {"messages": 1}, "request": 1}\n'
    batch = answering.collect(
        provider, lambda name, _: LINES[provider](name, "fine"), rows=2, requests=requests
    )
    assert answering.tally(batch) == {"ok": 2}
    assert answering.bound(batch) == ["fine", "fine"]
