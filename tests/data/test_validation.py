"""Answers are held against their schema within bounds, and nothing is fetched for it."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TypedDict

import pytest
from answering import Answering, openai
from support import run

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.data import structured, validation


def an_object(**properties):
    """Return the schema of an object with all of these fields."""
    return {"type": "object", "properties": properties, "required": [*properties]}


@pytest.fixture
def asked():
    """The address of a server that counts who asks for a schema, and the paths asked for."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "string"}')

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("where", ["{url}/x.json", "file:///etc/hostname", "x.json", "ftp://x/y"])
def test_a_reference_that_leads_outside_is_refused_and_never_fetched(asked, where):
    """One line names the reference and the remedy; neither then nor later is anything fetched."""
    url, paths = asked
    for schema in (
        an_object(a={"$ref": where.format(url=url)}),
        {"$id": f"{url}/base.json", **an_object(a={"items": {"$ref": where.format(url=url)}})},
    ):
        with pytest.raises(UsageProblem, match="nothing is fetched: copy"):
            structured.read_schema(schema)
        with pytest.raises(validation.UnusableSchema):
            validation.compile_validator(schema)
    assert paths == []


def test_a_field_may_be_called_like_a_keyword():
    """Fields named `$ref`, `pattern` or `$id` are fields like others."""
    schema = an_object(**{name: {"type": "string"} for name in ("$ref", "pattern", "$id")})
    structured.read_schema(schema)
    validation.compile_validator(schema)({"$ref": "http://x", "pattern": "(", "$id": "y"})


@pytest.fixture
def answering(tmp_path):
    """A journal that batches are collected into."""
    here = Answering(tmp_path / "data")
    yield here
    here.close()


def test_answers_stay_when_their_schema_cannot_be_used(answering, asked):
    """A batch whose schema refers to what is gone is bound as it came, and the panel can say so."""
    url, paths = asked
    schema = an_object(a={"$ref": f"{url}/gone.json"})
    texts = ['{"a": 1}', '{"b": 2}']
    batch = answering.collect(
        "openai", lambda name, row: openai(name, texts[row]), rows=2, schema=schema
    )
    assert answering.tally(batch) == {"ok": 2}
    assert answering.bound(batch) == [{"a": 1}, {"b": 2}]
    assert "nothing is fetched" in structured.schema_problem(schema)
    assert paths == []


def test_what_was_accepted_once_stays_an_answer(answering, monkeypatch):
    """A row that the journal counts as answered is bound, however strict its schema is today."""
    schema = an_object(a={"type": "integer"})
    batch = answering.collect(
        "openai", lambda name, _: openai(name, '{"a": "x"}'), rows=1, schema=None
    )
    import msgspec

    later = msgspec.structs.replace(
        batch, recipe=msgspec.structs.replace(batch.recipe, schema=schema)
    )
    answering.store.recent.take(answering.store.jobs(batch.id)[0])
    assert answering.bound(later) == [{"a": "x"}]


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(x+x+)+y", "^(?:a|aa)*$", "(.*)*z"])
def test_a_pattern_takes_time_in_proportion_to_the_text(pattern):
    """Patterns that take Python's expressions for ever are decided at once."""
    check = validation.compile_validator(an_object(a={"type": "string", "pattern": pattern}))
    with pytest.raises(ValueError, match="must match pattern"):
        check({"a": "a" * 50_000 + "x" * 50_000 + "!"})


def test_patterns_are_checked():
    """A text that does not match is named with the pattern, wherever the pattern stands."""
    part = {"type": "string", "pattern": "^[a-z]+$"}
    check = validation.compile_validator(an_object(a=part, b={"type": "array", "items": part}))
    check({"a": "x", "b": ["y"]})
    with pytest.raises(ValueError, match=r"must match pattern \^\[a-z\]\+\$"):
        check({"a": "x", "b": ["y", "Z"]})
    # What looks around cannot be decided in linear time, so that it is not checked at all.
    validation.compile_validator(an_object(a={"type": "string", "pattern": "^(?!x)"}))({"a": "x"})


@pytest.mark.parametrize("text", ["a" * 3_000_000, "a@" * 1_000_000, "a." * 1_000_000])
def test_a_format_looks_at_texts_of_a_bounded_length(text):
    """A text of a megabyte is not searched for an address."""
    check = validation.compile_validator(
        an_object(a={"format": "email"}, b={"format": "idn-email"})
    )
    check({"a": text, "b": text})
    with pytest.raises(ValueError, match="must be email"):
        check({"a": "nobody", "b": "a@b.c"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/$defs/A"},
        an_object(a={"$ref": "#/nowhere"}),
        {"type": "object", "properties": 5},
        an_object(a={"pattern": "("}),
        an_object(a={"enum": [object()]}),
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "array"}}},
    ],
)
def test_a_schema_that_cannot_be_used_is_one_line(wrong):
    """Whatever is wrong with a schema is said before anything is sent."""
    with pytest.raises(UsageProblem) as caught:
        structured.read_schema(wrong)
    assert str(caught.value).startswith("--schema")
    assert "\n" not in str(caught.value)


def test_a_schema_that_holds_itself_is_refused():
    """A dict that is a part of itself is one line, too."""
    schema = an_object(a={})
    schema["properties"]["a"] = schema
    with pytest.raises(UsageProblem, match="--schema cannot be sent"):
        structured.read_schema(schema)


class Old(TypedDict):
    a: str


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="only before Python 3.12")
def test_a_typed_dict_of_an_old_python_says_what_to_write(shell, sim):
    """One line names the import; nothing is sent."""
    shell.user_ns["Old"] = Old
    result = run(shell, '%%llm_batch x --over ["a"] --schema Old\nsay {{ item }}')
    assert "`from typing_extensions import TypedDict`" in str(result.error_in_exec)
    assert sim.requests() == []


def test_numbers_beyond_all_floats_fail_their_row_alone(answering):
    """A number that cannot be divided is a reason, not an exception."""
    schema = an_object(a={"type": "number", "multipleOf": 0.5})
    values = [10**400, 2, 1.25]
    batch = answering.collect(
        "openai",
        lambda name, row: openai(name, json.dumps({"a": values[row]})),
        rows=3,
        schema=schema,
    )
    assert sum(answering.tally(batch).values()) == 3
    assert answering.bound(batch)[1:] == [{"a": 2}, None]


@pytest.mark.parametrize(
    "text", ["```json\n" + " " * 1_000_000 + "x", "```" * 300_000, "{" * 90_000]
)
def test_an_answer_that_is_no_json_is_read_in_one_pass(answering, text):
    """Models that fill an answer with blanks or brackets cost their row, and no time."""
    schema = an_object(a={"type": "integer"})
    batch = answering.collect("openai", lambda name, _: openai(name, text), rows=1, schema=schema)
    assert answering.tally(batch) == {"failed": 1}
