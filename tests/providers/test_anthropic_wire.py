"""Anthropic's request lines: what goes into the params of each row."""

from __future__ import annotations

import base64
import json

import pytest

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.providers.anthropic import requests as wire

MODEL = "claude-haiku-4-5"


def params(content, model=MODEL, **recipe):
    line = wire.encoder(Recipe(**recipe), model)("b-1", content)
    read = json.loads(line)
    assert list(read) == ["custom_id", "params"]
    assert read["custom_id"] == "b-1"
    return read["params"]


def user(content):
    return {"role": "user", "content": content}


def test_a_prompt_is_one_user_message_with_the_default_bound():
    """Model, bound and message, and nothing else."""
    assert params("hello") == {
        "model": MODEL,
        "max_tokens": wire.MAX_TOKENS,
        "messages": [user("hello")],
    }


def test_system_bound_and_parameters_stand_beside_the_messages():
    """What all rows share stands in each line; a parameter wins over the bound."""
    made = params("p", system="S", max_tokens=9, params={"stop_sequences": ["x"]})
    assert made["system"] == "S"
    assert made["max_tokens"] == 9
    assert made["stop_sequences"] == ["x"]
    assert params("p", max_tokens=9, params={"max_tokens": 5})["max_tokens"] == 5


def test_lines_of_several_models_may_stand_together():
    """Every line names its own model."""
    assert [params("p", model)["model"] for model in ("m1", "m2")] == ["m1", "m2"]


def test_system_messages_move_out_of_the_conversation():
    """The API has no system role: those messages follow the common system prompt."""
    messages = [
        {"role": "system", "content": "one"},
        user("hi"),
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "ho"},
        user("hey"),
    ]
    made = params(messages, system="S")
    assert [block["text"] for block in made["system"]] == ["S", "one", "two"]
    assert made["messages"] == [messages[1], messages[3], messages[4]]
    assert params([user("hi")], system="S")["system"] == "S"
    assert "system" not in params([user("hi")])


def test_images_and_files_become_blocks():
    """Our neutral parts turn into Anthropic's; everything else is left as it is."""
    text = base64.b64encode("naïve".encode()).decode()
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image", "media_type": "image/png", "data": "QUJD"},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "file", "media_type": "application/pdf", "data": "QUJD"},
        {"type": "file", "media_type": "text/csv", "data": text},
        {"type": "file", "media_type": "image/jpeg", "data": "QUJD"},
        {"type": "file", "url": "https://example.com/a.pdf"},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "brand_new", "x": 1},
    ]
    (message,) = params([user(parts)])["messages"]
    png = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    jpeg = {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"}
    plain = {"type": "text", "media_type": "text/plain", "data": "naïve"}
    assert message["content"] == [
        parts[0],
        {"type": "image", "source": png},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "document", "source": pdf},
        {"type": "document", "source": plain},
        {"type": "image", "source": jpeg},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        parts[7],
        parts[8],
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "media_type": "image/tiff", "data": "QUJD"},
        {"type": "file", "media_type": "application/zip", "data": "QUJD"},
        {"type": "file", "media_type": "text/plain", "data": "/w=="},
        {"type": "image", "data": "QUJD"},
    ],
)
def test_media_that_anthropic_does_not_take_are_named(part):
    """A part that no block can hold is one line for the user."""
    with pytest.raises(UsageProblem, match=r"Anthropic takes|UTF-8"):
        params([user([part])])


def test_an_object_that_only_allows_more_is_closed():
    """Closing it asks for less, and every answer still follows the schema that was meant."""
    properties = {"a": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "additionalProperties": True}
    wire.validate(Recipe(schema=schema))
    assert params("p", schema=schema)["output_config"]["format"]["schema"] == {
        **schema,
        "additionalProperties": False,
    }


def test_a_schema_is_closed_and_goes_into_the_output_config():
    """Every object says that it has no further properties; other settings stay."""
    schema = {
        "type": "object",
        "properties": {
            "properties": {"type": "string", "enum": ["a"]},
            "kids": {"type": "array", "items": {"type": "object", "properties": {}}},
            "maybe": {"anyOf": [{"$ref": "#/$defs/D"}, {"type": "null"}]},
        },
        "$defs": {"D": {"type": "object", "properties": {}, "additionalProperties": True}},
        "default": {"properties": {}},
    }
    before = json.dumps(schema)
    made = params("p", schema=schema, params={"output_config": {"effort": "low"}})
    config = made["output_config"]
    assert config["effort"] == "low"
    assert config["format"]["type"] == "json_schema"
    sent = config["format"]["schema"]
    assert sent["additionalProperties"] is False
    assert sent["properties"]["kids"]["items"]["additionalProperties"] is False
    assert sent["$defs"]["D"]["additionalProperties"] is False
    assert sent["properties"]["properties"] == schema["properties"]["properties"]
    assert "default" not in sent
    assert json.dumps(schema) == before


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_a_cached_prefix_is_the_system_prompt(ttl):
    """The mark stands on the common block, before what only one row has."""
    mark = {"type": "ephemeral", "ttl": ttl}
    block = {"type": "text", "text": "S", "cache_control": mark}
    assert params("p", system="S", cache=ttl)["system"] == [block]
    messages = [{"role": "system", "content": "own"}, user("p")]
    own = {"type": "text", "text": "own"}
    assert params(messages, system="S", cache=ttl)["system"] == [block, own]


def test_raw_bodies_are_params():
    """A body wins over what all rows share."""
    body = {"messages": [user("hi")], "max_tokens": 3, "model": "other"}
    assert params(body, raw=True) == body
    assert params({"messages": [user("hi")]}, raw=True) == {
        "model": MODEL,
        "max_tokens": wire.MAX_TOKENS,
        "messages": [user("hi")],
    }


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"endpoint": "embeddings"}, "embeddings"),
        ({"params": {"stream": True}}, "stream"),
        ({"params": {"temperature": 1}}, "ANTHROPIC_CUSTOM_HEADERS='anthropic-version: 2023-06-01"),
        ({"params": {"top_p": 1}}, "2026-10-21"),
        ({"params": {"top_k": 1}}, "top_k"),
        ({"params": {"speed": "fast"}}, "speed"),
        ({"params": {"max_tokens": 0}}, "at least 1"),
        ({"max_tokens": 0}, "at least 1"),
        ({"params": {"messages": []}}, "messages"),
        ({"params": {"model": "m"}}, "model"),
        ({"params": {"system": "s"}, "system": "S"}, "system"),
        ({"params": {"output_config": {"format": {}}}, "schema": {}}, "twice"),
        ({"params": {"output_config": 1}}, "object"),
        ({"schema": {"type": "object"}}, "name the fields"),
        (
            {
                "schema": {
                    "type": "object",
                    "properties": {"d": {"additionalProperties": {"type": "string"}}},
                }
            },
            "name the fields",
        ),
        ({"cache": "5m"}, "--system"),
        ({"cache": "2h", "system": "S"}, "5m, 1h"),
        ({"cache": "5m", "raw": True}, "--raw"),
        ({"system": "S", "raw": True}, "--raw"),
        ({"schema": {}, "raw": True}, "--raw"),
        ({"params": {"x": object()}}, "JSON"),
    ],
)
def test_a_recipe_that_no_batch_takes_is_one_line(recipe, words):
    """Each mistake is named with its remedy."""
    with pytest.raises(UsageProblem) as caught:
        wire.validate(Recipe(**recipe))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["chat", "messages"])
def test_both_names_of_the_endpoint_are_taken(endpoint):
    """They are the same endpoint and mean the same."""
    wire.validate(Recipe(endpoint=endpoint))
    assert wire.meaning(Recipe(endpoint=endpoint), MODEL) == wire.meaning(Recipe(), MODEL)


def test_the_old_api_version_takes_sampling_parameters():
    """Whoever asks for the old version may use what it has, in raw bodies too."""
    wire.validate(Recipe(params={"temperature": 0.5}), sampling=True)
    body = {"messages": [user("p")], "top_p": 0.5}
    with pytest.raises(UsageProblem, match="top_p"):
        params(body, raw=True)
    line = wire.encoder(Recipe(raw=True), MODEL, sampling=True)("b-1", body)
    assert json.loads(line)["params"]["top_p"] == 0.5


@pytest.mark.parametrize(
    "content",
    [[], {}, {"a": 1}, ["text"], [{"content": "x"}], [{"role": "system", "content": "s"}]],
)
def test_contents_that_are_no_conversation_are_refused(content):
    """Anything but a text or messages with a user's word is one line for the user."""
    with pytest.raises(UsageProblem):
        params(content)


def test_the_meaning_is_the_one_of_the_first_release():
    """The record must never change, or answers would be bought again."""
    recipe = Recipe(system="S", max_tokens=5, params={"b": 1, "a": [2]}, cache="1h")
    assert wire.meaning(recipe, "m") == (
        b'v1{"endpoint":"chat","max_tokens":5,"model":"m","params":{"a":[2],"b":1},'
        b'"provider":"anthropic","raw":false,"system":"S"}'
    )


def test_the_meaning_knows_schemas_but_no_cache_hints():
    """A schema is part of what is asked; where something is cached is not."""
    plain = wire.meaning(Recipe(system="S"), MODEL)
    assert wire.meaning(Recipe(system="S", cache="5m"), MODEL) == plain
    assert wire.meaning(Recipe(system="S", params={"cache_control": {}}), MODEL) == plain
    schemas = [{"type": "object"}, {"type": "string"}]
    assert len({plain, *(wire.meaning(Recipe(system="S", schema=s), MODEL) for s in schemas)}) == 3


def test_a_prompt_is_shown_without_its_system_messages():
    """People see what was asked, images by their kind."""
    encode = wire.encoder(Recipe(system="S"), MODEL)
    parts = [{"type": "text", "text": "look"}, {"type": "image", "url": "https://x/y"}]
    assert wire.prompt_of(encode("b-1", [user(parts)])) == "look\n[image https://x/y]"
    assert wire.prompt_of(b'{"params":1}\n') == '{"params":1}'
