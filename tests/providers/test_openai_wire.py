"""OpenAI's request lines."""

from __future__ import annotations

import json

import pytest

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.providers.openai import requests as wire

MODEL = "gpt-5-mini"


def line(content, /, *, custom_id="r-1", **recipe):
    """Encode one request and decode it again."""
    return json.loads(wire.encoder(Recipe(**recipe), MODEL)(custom_id, content))


def body(content, /, **recipe):
    return line(content, **recipe)["body"]


def test_a_line_is_what_the_endpoint_takes():
    """A text becomes one JSON line: custom_id first, method, url, and a user message."""
    encoded = wire.encoder(Recipe(), MODEL)("b-7", 'say "hi"\n\u2028')
    assert encoded.startswith(b'{"custom_id":"b-7",')
    assert encoded.endswith(b"}\n")
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded) == {
        "custom_id": "b-7",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": MODEL,
            "messages": [{"role": "user", "content": 'say "hi"\n\u2028'}],
        },
    }


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            {"system": "Be brief", "max_tokens": 9},
            {
                "max_completion_tokens": 9,
                "messages": [
                    {"role": "system", "content": "Be brief"},
                    {"role": "user", "content": "x"},
                ],
            },
        ),
        (
            {"endpoint": "responses", "system": "Be brief", "max_tokens": 9},
            {"instructions": "Be brief", "max_output_tokens": 9, "input": "x"},
        ),
        ({"endpoint": "embeddings", "params": {"dimensions": 3}}, {"dimensions": 3, "input": "x"}),
        ({"endpoint": "completions", "max_tokens": 9}, {"max_tokens": 9, "prompt": "x"}),
        ({"endpoint": "moderations"}, {"input": "x"}),
        (
            {"endpoint": "/v1/chat/completions"},
            {"messages": [{"role": "user", "content": "x"}]},
        ),
        (
            {"max_tokens": 9, "params": {"max_tokens": 4}},
            {"max_tokens": 4, "messages": [{"role": "user", "content": "x"}]},
        ),
    ],
)
def test_each_endpoint_has_its_own_places(recipe, expected):
    """System prompt, bound of tokens and content go where the endpoint takes them."""
    wire.validate(Recipe(**recipe))
    assert body("x", **recipe) == {"model": MODEL, **expected}


def test_messages_follow_the_system_prompt():
    """A list of messages is sent as it is, after the shared system prompt."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert body(messages)["messages"] == messages
    sent = body(messages, system="S")["messages"]
    assert sent == [{"role": "system", "content": "S"}, *messages]


def test_a_raw_body_wins_over_the_batch():
    """In raw mode the body's own model and parameters win, and the batch fills what is absent."""
    recipe = {"raw": True, "max_tokens": 5, "params": {"seed": 1, "user": "u"}}
    own = {"model": "mine", "messages": [], "seed": 2, "max_tokens": 7}
    assert body(own, **recipe) == {**own, "user": "u"}
    filled = body({"messages": []}, **recipe)
    expected = {"model": MODEL, "max_completion_tokens": 5, "seed": 1, "user": "u", "messages": []}
    assert filled == expected


def test_subclasses_of_str_and_numpy_scalars_are_plain_values():
    """Values of numpy and subclasses of str are sent as the text and the numbers they are."""
    numpy = pytest.importorskip("numpy")
    assert body(numpy.str_("x"))["messages"][0]["content"] == "x"
    assert body({"seed": numpy.int64(3)}, raw=True)["seed"] == 3


@pytest.mark.parametrize(
    ("content", "recipe", "words"),
    [
        ("half \ud83d", {}, "surrogate"),
        ([{"role": "user", "content": "\ud83d"}], {}, "surrogate"),
        ([object()], {}, "JSON"),
        ([], {}, "non-empty"),
        ({"messages": []}, {}, "--raw"),
        ("text", {"raw": True}, "dict"),
        ({}, {"raw": True}, "non-empty"),
        ({"stream": True, "messages": []}, {"raw": True}, "stream"),
        (["a", "b"], {"endpoint": "embeddings"}, "one text per row"),
    ],
)
def test_a_content_that_cannot_be_sent_is_a_usage_problem(content, recipe, words):
    """What no request can carry is refused before anything is sent, in one line."""
    with pytest.raises(UsageProblem, match=words) as caught:
        line(content, **recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"params": {"stream": True}}, "stream"),
        ({"params": {"messages": []}}, "messages"),
        ({"params": {"model": "x"}}, "model"),
        ({"params": {"x": object()}}, "JSON"),
        ({"endpoint": "embeddings", "system": "s"}, "system"),
        ({"endpoint": "embeddings", "max_tokens": 1}, "max-tokens"),
        ({"endpoint": "responses", "system": "s", "params": {"instructions": "t"}}, "instructions"),
        ({"endpoint": "talk"}, "no endpoint"),
        ({"endpoint": "/v1/images/generations"}, "--raw"),
        ({"raw": True, "system": "s"}, "--raw"),
    ],
)
def test_a_recipe_that_openai_cannot_take_is_a_usage_problem(recipe, words):
    """The recipe is judged before the first row."""
    with pytest.raises(UsageProblem, match=words):
        wire.validate(Recipe(**recipe))


def test_several_answers_per_row_are_allowed():
    """The parameter n passes; the first answer is the row's."""
    wire.validate(Recipe(params={"n": 3}))


def test_the_meaning_is_golden():
    """The record of what is meant never changes, or an upgrade would buy everything again."""
    recipe = Recipe(
        system="Sei höflich", max_tokens=20, params={"temperature": 0.5, "stop": ["a"], "seed": 1}
    )
    assert wire.meaning(recipe, MODEL) == (
        b'v1{"endpoint":"chat","max_tokens":20,"model":"gpt-5-mini",'
        b'"params":{"seed":1,"stop":["a"],"temperature":0.5},"provider":"openai","raw":false,'
        b'"system":"Sei h\\u00f6flich"}'
    )
    assert wire.meaning(Recipe(), "m") == (
        b'v1{"endpoint":"chat","max_tokens":null,"model":"m","params":{},'
        b'"provider":"openai","raw":false,"system":null}'
    )


def test_cache_hints_and_names_of_the_same_endpoint_do_not_change_the_meaning():
    """What only changes the cost, or says the same in other words, is no new request."""
    plain = wire.meaning(Recipe(), MODEL)
    assert wire.meaning(Recipe(params={"prompt_cache_key": "k"}), MODEL) == plain
    assert wire.meaning(Recipe(endpoint="/v1/chat/completions"), MODEL) == plain
    assert wire.meaning(Recipe(params={"seed": 1}), MODEL) != plain


@pytest.mark.parametrize(
    ("content", "recipe", "expected"),
    [
        ("plain", {"system": "hidden"}, "plain"),
        ("plain", {"endpoint": "responses"}, "plain"),
        ("plain", {"endpoint": "embeddings"}, "plain"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            {},
            "user: a\n\nassistant: b",
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
            {},
            "a\n[image_url]",
        ),
    ],
)
def test_a_prompt_is_shown_as_text(content, recipe, expected):
    """People see the prompt, not the JSON around it."""
    encoded = wire.encoder(Recipe(**recipe), MODEL)("r-1", content)
    assert wire.prompt_of(encoded) == expected


def test_an_unreadable_request_line_is_shown_as_it_is():
    """A damaged line is shown rather than raised about."""
    assert wire.prompt_of(b'{"body": \xff') == '{"body": \ufffd'
