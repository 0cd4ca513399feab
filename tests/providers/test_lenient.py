"""A readable answer is never lost to what stands beside it."""

from __future__ import annotations

import json

import pytest
from odd_lines import CANDIDATE, CHAT, MESSAGE, RESPONSE, VECTOR, as_written

from jupyter_llm_batch.core import loose_json
from jupyter_llm_batch.core.result import Outcome, Usage
from jupyter_llm_batch.data import structured
from jupyter_llm_batch.providers import usage
from jupyter_llm_batch.providers.registry import reader
from jupyter_llm_batch.providers.shared.reasons import why


def read(line, provider="openai", endpoint="chat"):
    raw = line if isinstance(line, bytes) else as_written(line)
    return reader(provider).parse(raw, endpoint)


def body(message="Yes", finish="stop", **more):
    choice = {"message": {"content": message}, "finish_reason": finish}
    return {"choices": [choice]} | more


def chat(status=200, **fields):
    return {"custom_id": "b-1", "response": {"status_code": status, "body": fields}}


@pytest.mark.parametrize(
    "line",
    [
        chat(**body(usage={"prompt_tokens": 9.0, "completion_tokens": "2"})),
        as_written(chat(**body(usage={"prompt_tokens": 9, "completion_tokens": 2}))).replace(
            b'"finish_reason"', b'"logprobs": [-Infinity, NaN], "finish_reason"'
        ),
        chat(200.0, **body(usage={"prompt_tokens": 9, "completion_tokens": 2})),
        chat("200", **body(usage={"prompt_tokens": 9, "completion_tokens": 2})),
        chat(201, **body(usage={"prompt_tokens": 9, "completion_tokens": 2})),
        chat(None, **body(usage={"prompt_tokens": 9, "completion_tokens": 2})),
        chat(500, **body(usage={"prompt_tokens": 9, "completion_tokens": 2})),
        {"custom_id": "b-1", "response": {"body": body(
            usage={"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": "odd"})}},
        {"custom_id": "b-1", "response": body(  # as Fireworks writes it
            usage={"prompt_tokens": 9, "completion_tokens": 2})},
        {"custom_id": "b-1", "response": {"status_code": 200, "body": json.dumps(body(
            usage={"prompt_tokens": 9, "completion_tokens": 2}))}},
        chat(**body([{"type": "text", "text": "Yes"}, None], model={"id": 1},
                    usage={"prompt_tokens": 9, "completion_tokens": 2, "cost": [1]})),
        b"\xef\xbb\xbf" + as_written(
            chat(**body(usage={"prompt_tokens": 9, "completion_tokens": 2}))),
        as_written(chat(**body(usage={"prompt_tokens": 9, "completion_tokens": 2}))).replace(
            b'"choices"', b'"deep": ' + b"[" * 5000 + b"]" * 5000 + b', "choices"'
        ),
    ],
)  # fmt: skip
def test_an_answer_counts_whatever_stands_beside_it(line):
    """Counts as floats or text, odd statuses, NaN and any depth cost neither answer nor bill."""
    result = read(line)
    assert (result.custom_id, result.outcome, result.text) == ("b-1", Outcome.OK, "Yes")
    assert (result.usage, result.billed) == (Usage(input=9, output=2), True)


@pytest.mark.parametrize("odd", [-5, 10**25, "x", True, float("inf"), [], {}])
def test_a_count_without_sense_is_no_count(odd):
    """Tokens below zero or beyond any sense are read as not told."""
    result = read(chat(**body(usage={"prompt_tokens": odd, "completion_tokens": 2})))
    assert (result.outcome, result.usage) == (Outcome.OK, Usage(output=2))


def test_an_integer_is_an_id_too():
    """A custom_id that is a number names its row by its digits."""
    assert read({**CHAT, "custom_id": 17}).custom_id == "17"
    assert read(b'{"custom_id": 17, "response": ').custom_id == "17"


@pytest.mark.parametrize("endpoint", ["/chat/completions", "https://host/v1/chat/completions", ""])
def test_the_form_of_a_body_says_what_it_is(endpoint):
    """Under an endpoint of another name a chat's body is still a chat's."""
    assert read(CHAT, endpoint=endpoint).text == "Yes"
    assert read(RESPONSE, endpoint=endpoint).text == "Yes"
    assert read(VECTOR, endpoint=endpoint).vector == [0.5, 1.0]
    assert read(RESPONSE, endpoint="chat").text == "Yes"


def test_vectors_with_a_gap_are_kept():
    """What an encoder writes for no number is no number."""
    line = as_written(VECTOR).replace(b"0.5", b"NaN")
    vector = read(line, endpoint="embeddings").vector
    assert vector[0] != vector[0]
    assert vector[1] == 1


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (chat(error={"code": 502, "message": "upstream"}), "502", "upstream"),
        (chat(**body("", "error")), "error", "broke off"),
        (chat(choices=[{"message": {"content": ""}, "finish_reason": "error",
                        "error": {"code": 502, "message": "upstream"}}]), "502", "upstream"),
        (chat(**body(None, "stop", error={"code": "x", "message": "no"})), "x", "no"),
        (chat(400, object="error", message="bad", type="BadRequestError", code=400), "400", "bad"),
        (chat(404, detail="Not Found"), "404", "Not Found"),
        (chat(422, detail=[{"loc": ["body", "model"], "msg": "field required", "type": "missing"}]),
         "missing", "body.model: field required"),
        (chat(400, error=["too long", "too odd"]), "400", "too long; too odd"),
        ({"custom_id": "b-1", "response": {"status_code": 400, "body": [
            {"error": {"code": 400, "message": "bad key", "status": "INVALID_ARGUMENT"}}]}},
         "400", "bad key"),
        ({"custom_id": "b-1", "response": {"status_code": 413, "body":
            "<html><head><title>413 Request Entity Too Large</title></head><body>…</body></html>"}},
         "413", "413 Request Entity Too Large"),
        ({"custom_id": "b-1", "response": {"status_code": 502, "body":
            "<!DOCTYPE html><style>b {}</style><h1>Bad&nbsp;gateway</h1><script>x()</script>"}},
         "502", "Bad gateway"),
    ],
)  # fmt: skip
def test_other_servers_say_why_in_their_own_form(given, code, told):
    """The reason is found, short and without tags; nothing of it passes for an answer."""
    result = read(given)
    assert (result.custom_id, result.outcome, result.code) == ("b-1", Outcome.FAILED, code)
    assert told in result.error
    assert "<" not in result.error


def test_what_fails_under_a_success_may_have_been_billed():
    """Only what was surely turned away is sent again by itself."""
    failed = read(chat(error={"code": 502, "message": "upstream"}))
    assert (failed.billed, failed.transient) == (True, False)
    turned_away = read(chat(error={"code": 429, "message": "slow down"}))
    assert (turned_away.billed, turned_away.transient) == (False, True)
    used = read(chat(500, error={"message": "x"}, usage={"prompt_tokens": 9}))
    assert (used.billed, used.transient, used.usage) == (True, False, Usage(input=9))


@pytest.mark.parametrize(
    ("provider", "line"),
    [
        ("anthropic", {"custom_id": "b-1", "result": {"type": "errored", "error": {
            "detail": "too long"}}}),
        ("anthropic", {"custom_id": "b-1", "result": {"type": "errored", "error": [
            {"message": "too long"}]}}),
        ("google", {"key": "b-1", "error": [{"error": {"message": "too long"}}], "x": 1}),
        ("google", {"key": "b-1", "response": {"error": {"code": 5, "message": "too long"}}}),
    ],
)  # fmt: skip
def test_reasons_in_other_forms_are_found_for_every_provider(provider, line):
    """An error in an unknown form is told in its own words."""
    result = read(line, provider)
    assert (result.custom_id, result.outcome) == ("b-1", Outcome.FAILED)
    assert "too long" in result.error


def test_a_message_counts_whatever_its_type_is_called():
    """Where there is a message, that is the answer."""
    line = json.loads(json.dumps(MESSAGE))
    line["result"]["type"] = "brand_new"
    assert read(line, "anthropic").text == "Yes"


def test_an_answer_without_a_key_is_read():
    """Of an answer without a name nobody knows the row, and yet it is an answer."""
    result = read({"response": CANDIDATE["response"]}, "google")
    assert (result.custom_id, result.outcome, result.text) == ("", Outcome.OK, "Yes")


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('```json\n{"a": "x"}\n```', {"a": "x"}),
        (' ```\r\n{"a": "x"}```\n', {"a": "x"}),
        ('{"a": "x\\ud83d"}', {"a": "x?"}),
        ('{"a": "```"}', {"a": "```"}),
    ],
)
def test_an_answer_that_follows_its_schema_may_be_fenced_or_cut_in_an_emoji(text, value):
    """A fence, or half a surrogate pair inside, does not make an answer invalid."""
    parse = structured.with_schema_check(reader("openai").parse, SCHEMA)
    result = parse(as_written(chat(**body(text))), "chat")
    assert (result.outcome, result.parsed) == (Outcome.OK, value)


def test_a_structured_answer_is_whole_or_refused():
    """What is nested without bound is not quietly made shallow."""
    text = '{"a": "x", "b": ' + "[" * 3000 + "]" * 3000 + "}"
    result = structured.with_schema_check(reader("openai").parse, SCHEMA)(
        as_written(chat(**body(text))), "chat"
    )
    assert (result.outcome, result.code) == (Outcome.FAILED, "schema")


@pytest.mark.parametrize("text", ["[" * 500 + "]" * 500, '{"a": [NaN, -Infinity]}', "9" * 5000])
def test_loose_json_is_json(text):
    """Any depth, NaN and long numbers are read; what is torn is not."""
    assert loose_json.is_json(text.encode())
    assert not loose_json.is_json(text.encode()[:-1] + b"[")
    assert loose_json.is_json(loose_json.dumps(loose_json.loads(text)))


def test_tracked_usage_is_read_as_leniently():
    """Odd counts beside good ones do not lose those, in whole answers and in streams."""
    told = [b'data: {"model": "m", "usage": {"prompt_tokens": 9.0, "completion_tokens": null}}']
    assert usage.read("openai", [b"data: [DONE]", *told]) == ("m", Usage(input=9))


def test_nothing_has_no_reason():
    """Where no words are, none are made up."""
    for value in (None, {}, [], "", True, {"error": None}, {"error": {"a": {"b": {}}}}):
        assert why(value) == (None, None)
