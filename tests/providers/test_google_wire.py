"""Gemini's request lines."""

from __future__ import annotations

import json

import pytest

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.providers.google import requests as wire

MODEL = "gemini-2.5-flash"
USER = [{"role": "user", "parts": [{"text": "x"}]}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def request(content, /, **recipe):
    """Encode one request, decode it again, and return what is in it."""
    line = wire.encoder(Recipe(**recipe))("r-1", content)
    assert line.count(b"\n") == 1
    read = json.loads(line)
    assert list(read) == ["key", "request"]
    assert read["key"] == "r-1"
    return read["request"]


def test_a_line_is_what_the_batch_takes():
    """A text becomes one JSON line: the key first, then a user turn."""
    encoded = wire.encoder(Recipe())("b-7", 'say "hi"\n\u2028')
    assert encoded.startswith(b'{"key":"b-7","request":{')
    assert encoded.endswith(b"}\n")
    assert json.loads(encoded)["request"] == {
        "contents": [{"role": "user", "parts": [{"text": 'say "hi"\n\u2028'}]}]
    }


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            {"system": "Be brief", "max_tokens": 9},
            {
                "systemInstruction": {"parts": [{"text": "Be brief"}]},
                "generationConfig": {"maxOutputTokens": 9},
            },
        ),
        (
            {"params": {"temperature": 0, "top_p": 0.5, "stopSequences": ["a"], "seed": 1}},
            {
                "generationConfig": {
                    "temperature": 0, "topP": 0.5, "stopSequences": ["a"], "seed": 1,
                }
            },
        ),
        (
            {"params": {"thinking_config": {"thinkingBudget": 0}, "safety_settings": []}},
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}, "safetySettings": []},
        ),
        ({"params": {"some_new_thing": 1}}, {"some_new_thing": 1}),
        (
            {"max_tokens": 9, "params": {"generation_config": {"top_k": 3, "maxOutputTokens": 4}}},
            {"generationConfig": {"maxOutputTokens": 4, "topK": 3}},
        ),
        (
            {"schema": SCHEMA, "schema_name": "S"},
            {
                "generationConfig": {
                    "responseMimeType": "application/json", "responseJsonSchema": SCHEMA,
                }
            },
        ),
    ],
)  # fmt: skip
def test_each_parameter_has_its_own_place(recipe, expected):
    """Settings go into generationConfig in camel case, all else beside it as it is."""
    wire.validate(Recipe(**recipe))
    assert request("x", **recipe) == {**expected, "contents": USER}


def test_an_embedding_is_a_content_with_its_settings_beside_it():
    """Embeddings have no generationConfig and one content."""
    recipe = {"endpoint": "embeddings", "params": {"output_dimensionality": 8, "taskType": "X"}}
    wire.validate(Recipe(**recipe))
    assert request("x", **recipe) == {
        "outputDimensionality": 8,
        "taskType": "X",
        "content": {"parts": [{"text": "x"}]},
    }


def test_messages_become_contents():
    """An assistant is a model here, system messages join the system prompt, parts pass."""
    messages = [
        {"role": "system", "content": "S2"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "parts": [{"text": "c"}, {"functionResponse": {"name": "f"}}]},
    ]
    assert request(messages, system="S1") == {
        "systemInstruction": {"parts": [{"text": "S1"}, {"text": "S2"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "a"}]},
            {"role": "model", "parts": [{"text": "b"}]},
            {"role": "user", "parts": [{"text": "c"}, {"functionResponse": {"name": "f"}}]},
        ],
    }
    assert "systemInstruction" not in request([{"role": "user", "content": "a"}])


def test_images_and_files_have_geminis_form():
    """Bytes become inlineData, addresses fileData."""
    parts = [
        {"type": "image", "media_type": "image/png", "data": "AAAA"},
        {"type": "file", "media_type": "application/pdf", "url": "https://x/y.pdf"},
        {"type": "image", "url": "https://x/y"},
    ]
    sent = request([{"role": "user", "content": parts}])["contents"][0]["parts"]
    assert sent == [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x/y.pdf"}},
        {"fileData": {"fileUri": "https://x/y"}},
    ]


def test_a_raw_body_wins_over_the_batch():
    """In raw mode the body's own settings win, whatever their spelling; the batch fills in."""
    recipe = {"raw": True, "max_tokens": 5, "params": {"seed": 1, "safetySettings": [1]}}
    own = {"contents": USER, "generation_config": {"max_output_tokens": 7}}
    assert request(own, **recipe) == {
        "safetySettings": [1],
        "generationConfig": {"maxOutputTokens": 7, "seed": 1},
        "contents": USER,
    }


@pytest.mark.parametrize(
    ("content", "recipe", "words"),
    [
        ("half \ud83d", {}, "surrogate"),
        ([{"role": "user", "content": "\ud83d"}], {}, "surrogate"),
        ([object()], {}, "role"),
        ([{"role": "user"}], {}, "content"),
        ([{"role": "user", "content": [object()]}], {}, "part"),
        ([{"role": "system", "content": "s"}], {}, "system prompt only"),
        ([], {}, "non-empty"),
        ({"contents": []}, {}, "--raw"),
        ("text", {"raw": True}, "dict"),
        ({}, {"raw": True}, "non-empty"),
        (["a", "b"], {"endpoint": "embeddings"}, "one text per row"),
    ],
)
def test_a_content_that_cannot_be_sent_is_a_usage_problem(content, recipe, words):
    """What no request can carry is refused before anything is sent, in one line."""
    with pytest.raises(UsageProblem, match=words) as caught:
        request(content, **recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"params": {"stream": True}}, "stream"),
        ({"params": {"contents": []}}, "contents"),
        ({"params": {"model": "x"}}, "model"),
        ({"params": {"x": object()}}, "JSON"),
        ({"params": {"generationConfig": 3}}, "generationConfig"),
        ({"endpoint": "embeddings", "system": "s"}, "system"),
        ({"endpoint": "embeddings", "schema": SCHEMA}, "schema"),
        ({"endpoint": "embeddings", "max_tokens": 1}, "max-tokens"),
        ({"endpoint": "responses"}, "no endpoint"),
        ({"system": "s", "params": {"system_instruction": "t"}}, "system_instruction"),
        ({"schema": SCHEMA, "params": {"response_schema": {}}}, "response_schema"),
        ({"raw": True, "system": "s"}, "--raw"),
        ({"raw": True, "schema": SCHEMA}, "--raw"),
        ({"endpoint": "embeddings", "cache": "5m"}, "no --cache"),
    ],
)
def test_a_recipe_that_gemini_cannot_take_is_a_usage_problem(recipe, words):
    """The recipe is judged before the first row."""
    with pytest.raises(UsageProblem, match=words):
        wire.validate(Recipe(**recipe))


def test_an_inline_create_holds_every_request_under_its_key():
    """The lines of the payload become requests with metadata, unchanged, beside our label."""
    encode = wire.encoder(Recipe(system="S"))
    lines = [encode(f"r-{number}", f"é {number}") for number in range(3)]
    body = json.loads(wire.inline(lines, "label-1"))
    assert list(body) == ["batch"]
    assert body["batch"]["displayName"] == "label-1"
    assert body["batch"]["inputConfig"] == {
        "requests": {
            "requests": [
                {"request": json.loads(line)["request"], "metadata": {"key": f"r-{number}"}}
                for number, line in enumerate(lines)
            ]
        }
    }


def test_the_meaning_is_golden():
    """The record of what is meant never changes, or an upgrade would buy everything again."""
    recipe = Recipe(
        system="Sei höflich", max_tokens=20, params={"temperature": 0.5, "stopSequences": ["a"]}
    )
    assert wire.meaning(recipe, MODEL) == (
        b'v1{"endpoint":"chat","max_tokens":20,"model":"gemini-2.5-flash",'
        b'"params":{"stopSequences":["a"],"temperature":0.5},"provider":"google","raw":false,'
        b'"system":"Sei h\\u00f6flich"}'
    )
    assert wire.meaning(Recipe(schema={"type": "object"}, schema_name="S"), "m") == (
        b'v1{"endpoint":"chat","max_tokens":null,"model":"m","params":{},'
        b'"provider":"google","raw":false,"schema":{"type":"object"},"system":null}'
    )


def test_the_full_name_of_a_model_means_the_same():
    """``models/x`` and ``x`` are one model, in the meaning and on the wire."""
    assert wire.meaning(Recipe(), "models/m") == wire.meaning(Recipe(), "m")
    assert wire.path("models/m") == wire.path("m") == "models/m"
    assert wire.path("tunedModels/t") == "tunedModels/t"


@pytest.mark.parametrize(
    ("content", "recipe", "expected"),
    [
        ("plain", {"system": "hidden"}, "plain"),
        ("plain", {"endpoint": "embeddings"}, "plain"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            {},
            "user: a\n\nmodel: b",
        ),
        (
            [{"role": "user", "content": ["a", {"type": "image", "url": "u"}]}],
            {},
            "a\n[fileData u]",
        ),
    ],
)
def test_a_prompt_is_shown_as_text(content, recipe, expected):
    """People see the prompt, not the JSON around it."""
    assert wire.prompt_of(wire.encoder(Recipe(**recipe))("r-1", content)) == expected


def test_an_unreadable_request_line_is_shown_as_it_is():
    """A damaged line is shown rather than raised about."""
    for line in (b'{"request": \xff', b'{"request":{"contents":[3]}}', b"[]"):
        assert wire.prompt_of(line) == line.decode(errors="replace")
