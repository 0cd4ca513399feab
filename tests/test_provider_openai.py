"""The OpenAI adapter's own facts; `test_provider_contract` holds what all adapters share."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from array import array
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import httpx2
import msgspec
import openai
import pytest
from replay import Replay

from jupyter_llm_batch.errors import (
    Busy,
    Incomplete,
    KeyRefused,
    OutOfQuota,
    ProviderError,
    Refused,
    Unclear,
    UsageProblem,
    Vanished,
)
from jupyter_llm_batch.models import Job, Outcome, Phase, Recipe, Usage
from jupyter_llm_batch.providers import make
from jupyter_llm_batch.providers import openai as adapter_module
from jupyter_llm_batch.providers import openai_objects as objects
from jupyter_llm_batch.providers import openai_results as results
from jupyter_llm_batch.providers import openai_wire as wire
from jupyter_llm_batch.providers.translation import from_transport, retry_after
from jupyter_llm_batch.simulator import Simulator

MODEL = "gpt-5-mini"


def line(content, /, *, custom_id="r-1", **recipe):
    """Encode one request and decode it again."""
    return json.loads(wire.encoder(Recipe(**recipe), MODEL)(custom_id, content))


def body(content, /, **recipe):
    return line(content, **recipe)["body"]


# -- requests


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


# -- results


def answer(body, status=200, **more):
    response = {"status_code": status, "request_id": "q", "body": body}
    return json.dumps({"id": "x", "custom_id": "r-1", "response": response, "error": None, **more})


def chat(message=None, finish_reason="stop", **more):
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    choice = {"index": 0, "message": message or {"content": "Yes"}, "finish_reason": finish_reason}
    return answer({"model": "m-1", "choices": [choice], "usage": usage} | more)


def response(output, status="completed", **more):
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    return answer({"model": "m-1", "status": status, "output": output, "usage": usage} | more)


def said(*parts):
    return {"type": "message", "role": "assistant", "content": list(parts)}


THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "x", "text": "hm"}]}
TEXT = {"type": "output_text", "text": "Yes", "annotations": []}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
TOKENS = Usage(input=10, output=5, cached=4, reasoning=3)


def parse(text, endpoint="chat"):
    return results.parse(text.encode(), endpoint)


@pytest.mark.parametrize(
    ("text", "endpoint", "outcome", "expected", "reason"),
    [
        (chat(), "chat", "ok", "Yes", "stop"),
        (chat(), "/v1/chat/completions", "ok", "Yes", "stop"),
        (chat({"content": "Ye"}, "length"), "chat", "ok", "Ye", "length"),
        (chat({"content": None}, "length"), "chat", "ok", "", "length"),
        (
            chat({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
            "chat",
            "ok",
            "ab",
            "stop",
        ),
        (
            chat({"content": None, "tool_calls": [{"id": "t"}]}, "tool_calls"),
            "chat",
            "ok",
            '[{"id":"t"}]',
            "tool_calls",
        ),
        (chat({"content": None, "refusal": "No,\nsorry"}), "chat", "refused", None, "stop"),
        (chat({"content": ""}, "content_filter"), "chat", "refused", None, "content_filter"),
        (chat({"content": "Y"}, "content_filter"), "chat", "ok", "Y", "content_filter"),
        (chat({"content": None}), "chat", "failed", None, "stop"),
        (response([THOUGHT, said(TEXT, TEXT)]), "responses", "ok", "YesYes", "stop"),
        (
            response(
                [said(TEXT)], "incomplete", incomplete_details={"reason": "max_output_tokens"}
            ),
            "responses",
            "ok",
            "Yes",
            "length",
        ),
        (
            response([], "incomplete", incomplete_details={"reason": "content_filter"}),
            "responses",
            "refused",
            None,
            "content_filter",
        ),
        (
            response([said({"type": "refusal", "refusal": "No"})]),
            "responses",
            "refused",
            None,
            "stop",
        ),
        (response([THOUGHT, CALL]), "responses", "ok", json.dumps([CALL]), "tool_calls"),
    ],
)
def test_an_answer_is_read(text, endpoint, outcome, expected, reason):
    """Text, refusal, cut and tool call are told apart, and every one of them was billed."""
    read = parse(text, endpoint)
    got = read.text and read.text.replace(" ", "")
    assert (read.outcome, got) == (outcome, expected and expected.replace(" ", ""))
    assert (read.finish_reason, read.model, read.usage) == (reason, "m-1", TOKENS)
    assert read.billed
    assert not read.transient
    assert (read.error is None) == (outcome == "ok")


def test_the_words_of_a_refusal_are_the_error():
    """A refusal's own words are the row's error, on one line."""
    read = parse(chat({"content": None, "refusal": "No,\nsorry"}))
    assert (read.error, read.code) == ("No, sorry", "refusal")


def test_the_first_of_several_answers_counts():
    """With n above 1 the first choice is the row's answer."""
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in "ab"]
    assert parse(answer({"choices": choices})).text == "a"


@pytest.mark.parametrize("packed", [False, True])
def test_a_vector_is_read_from_floats_and_from_base64(packed):
    """An embedding comes as a list of floats or as base64 of its bytes."""
    vector = [0.5, -0.25]
    sent = base64.b64encode(array("f", vector).tobytes()).decode() if packed else vector
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    read = parse(answer({"data": [{"embedding": sent}], "usage": usage}), "embeddings")
    assert (read.outcome, read.vector, read.usage) == ("ok", vector, Usage(input=6))


def test_other_endpoints_answer_with_text_or_json():
    """Completions give their text, moderations their verdict, unknown endpoints their body."""
    old = answer({"choices": [{"text": "Yes", "finish_reason": "length"}]})
    assert parse(old, "completions").text == "Yes"
    assert (
        parse(answer({"results": [{"flagged": False}]}), "moderations").text == '{"flagged":false}'
    )
    assert parse(answer({"made": 1}), "/v1/videos").text == '{"made":1}'


def refusal(status, code="invalid_value", message="Bad\nvalue sk-abcdefgh"):
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return answer({"error": error}, status)


def unreached(code):
    error = {"code": code, "message": "Why."}
    return json.dumps({"id": "x", "custom_id": "r-1", "response": None, "error": error})


@pytest.mark.parametrize(
    ("text", "endpoint", "outcome", "code", "billed", "transient"),
    [
        (refusal(400), "chat", "failed", "invalid_value", False, False),
        (refusal(400, None), "responses", "failed", "invalid_request_error", False, False),
        (refusal(404), "embeddings", "failed", "invalid_value", False, False),
        (refusal(400, "content_filter"), "chat", "refused", "content_filter", False, False),
        (refusal(429), "chat", "failed", "invalid_value", False, True),
        (refusal(500), "chat", "failed", "invalid_value", False, True),
        (answer(None, 0), "chat", "failed", "0", False, True),
        (answer("Bad gateway", 502), "chat", "failed", "502", False, True),
        (unreached("batch_expired"), "chat", "expired", "batch_expired", False, True),
        (unreached("batch_cancelled"), "chat", "cancelled", "batch_cancelled", False, False),
        (unreached("request_timeout"), "chat", "failed", "request_timeout", False, True),
        (unreached("never_seen"), "chat", "failed", "never_seen", True, False),
        (
            response([], "failed", error={"code": "server_error", "message": "x"}, usage=None),
            "responses",
            "failed",
            "server_error",
            False,
            True,
        ),
        (
            response([], "failed", error={"code": "server_error", "message": "x"}),
            "responses",
            "failed",
            "server_error",
            True,
            False,
        ),
        (response([], "in_progress"), "responses", "failed", "in_progress", True, False),
    ],
)
def test_a_failure_says_whether_it_was_billed(text, endpoint, outcome, code, billed, transient):
    """Both shapes of error lines are read, and what may have been charged is never called free."""
    read = parse(text, endpoint)
    assert (read.custom_id, read.outcome, read.code) == ("r-1", outcome, code)
    assert (read.billed, read.transient) == (billed, transient)
    assert read.error
    assert "\n" not in read.error
    assert "sk-abc" not in read.error


@pytest.mark.parametrize("endpoint", [*wire.PATHS, "/v1/videos"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"custom_id": "r-1", "resp',
        '{"custom_id": "r-1"}',
        '{"custom_id": "r-1", "response": 5}',
        '{"custom_id": "r-1", "response": {"status_code": "x"}}',
        '{"custom_id": "r-1", "response": {"status_code": 200, "body": null}}',
        '{"custom_id": "r-1", "response": {"status_code": 200, "body": "text"}}',
        '{"custom_id": "r-1", "response": {"status_code": 200, "body": [1]}}',
        "[" * 100_000,
    ],
)
def test_a_strange_line_is_a_failed_row_and_may_have_been_billed(text, endpoint):
    """A shape never seen before becomes a failed row that nobody sends again by itself."""
    read = results.parse(text.encode(), endpoint)
    if endpoint == "/v1/videos" and '"body": [' in text:
        return  # of an unknown endpoint any body is an answer
    assert (read.outcome, read.code, read.billed) == (Outcome.FAILED, "unreadable", True)
    assert read.custom_id == ("r-1" if "r-1" in text else "")


def test_half_a_surrogate_pair_does_not_cost_the_answer():
    """An answer cut in the middle of an emoji is kept, with a mark where the half was."""
    text = chat({"content": "A \\ud83d"}).replace("\\\\ud83d", "\\ud83d")
    assert "\\ud83d" in text
    assert parse(text).text == "A ?"


# -- batch objects


def remote(**fields):
    return objects.read_remote(
        json.dumps({"id": "batch_1", "status": "in_progress"} | fields).encode()
    )


def test_a_batch_object_is_read():
    """State, counts, label, parts and times are taken over; results are kept for 30 days."""
    read = remote(
        status="completed",
        created_at=100,
        expires_at=86500,
        completed_at=200,
        request_counts={"total": 3, "completed": 2, "failed": 1},
        metadata={"llm_batch": "mine"},
        output_file_id="file-1",
        error_file_id=None,
    )
    assert (read.remote_id, read.state, read.phase) == ("batch_1", "completed", Phase.ENDED)
    assert read.counts is not None
    assert (read.counts.total, read.counts.done, read.counts.failed) == (3, 2, 1)
    assert (read.label, read.parts) == ("mine", {"output": "file-1"})
    assert (read.created_at, read.expires_at) == (100, 86500)
    assert read.keep_until == 200 + 30 * 86400


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({"status": "validating"}, "active"),
        ({"status": "finalizing"}, "active"),
        ({"status": "cancelling"}, "active"),
        ({"status": "never_seen"}, "active"),
        ({"status": "expired"}, "ended"),
        ({"status": "cancelled"}, "ended"),
        ({"status": "failed"}, "failed"),
        ({"status": "failed", "output_file_id": "f"}, "ended"),
        ({"status": "failed", "errors": {"data": [{"code": "token_limit_exceeded"}]}}, "later"),
    ],
)
def test_every_state_has_a_phase(fields, phase):
    """Unknown states are active, and lack of room is no failure."""
    assert remote(**fields).phase == phase
    assert remote(**fields).state == fields["status"]


def test_rows_that_no_file_mentions_have_the_fate_of_the_batch():
    """A batch cancelled before any row ran has no files: its rows are cancelled, not missing."""
    assert remote(status="cancelled").rest is Outcome.CANCELLED
    assert remote(status="expired", output_file_id="f").rest is Outcome.EXPIRED
    assert remote(status="expired", error_file_id="f").rest is None
    assert remote(status="completed").rest is None


def test_the_errors_of_a_failed_batch_become_one_line():
    """Row errors are joined with their line numbers, and many of them are counted."""
    rows = [{"code": "invalid_json_line", "line": n, "message": f"Bad\n{n}."} for n in range(1, 8)]
    told = remote(status="failed", errors={"object": "list", "data": rows}).error
    assert told is not None
    assert told.startswith("line 1: Bad 1.; line 2: Bad 2.;")
    assert told.endswith("and 2 more")
    assert remote(errors={"data": None}).error is None


@pytest.mark.parametrize("text", [b"<html>", b"[]", b"{}", b'{"object":"list","data":[]}', b"\xff"])
def test_what_is_no_batch_object_is_not_read_as_one(text):
    """A page of a proxy or an error object never passes for a batch."""
    with pytest.raises(ValueError, match=r".*"):
        objects.read_remote(text)


# -- errors


REQUEST = httpx2.Request("POST", "http://h/v1/batches")


#: What each of httpx2's exceptions says about a request: never sent, or perhaps arrived.
TRANSPORT = {
    httpx2.ConnectError: Busy,
    httpx2.ConnectTimeout: Busy,
    httpx2.PoolTimeout: Busy,
    httpx2.ProxyError: Busy,
    httpx2.UnsupportedProtocol: Refused,
    httpx2.InvalidURL: Refused,
    httpx2.LocalProtocolError: Refused,
    httpx2.HTTPError: Unclear,
    httpx2.RequestError: Unclear,
    httpx2.TransportError: Unclear,
    httpx2.TimeoutException: Unclear,
    httpx2.ReadTimeout: Unclear,
    httpx2.WriteTimeout: Unclear,
    httpx2.NetworkError: Unclear,
    httpx2.ReadError: Unclear,
    httpx2.WriteError: Unclear,
    httpx2.CloseError: Unclear,
    httpx2.ProtocolError: Unclear,
    httpx2.RemoteProtocolError: Unclear,
    httpx2.DecodingError: Unclear,
    httpx2.TooManyRedirects: Unclear,
    httpx2.HTTPStatusError: Unclear,
    httpx2.SSEError: Unclear,
}

#: What each of the SDK's exceptions becomes; those with a status follow the status.
SDK = {
    openai.OpenAIError: Unclear,
    openai.APIError: Unclear,
    openai.APIConnectionError: Unclear,
    openai.APITimeoutError: Unclear,
    openai.APIResponseValidationError: Unclear,
    openai.LengthFinishReasonError: Unclear,
    openai.ContentFilterFinishReasonError: Unclear,
    openai.BadRequestError: Refused,
    openai.AuthenticationError: KeyRefused,
    openai.OAuthError: KeyRefused,
    openai.PermissionDeniedError: KeyRefused,
    openai.NotFoundError: Vanished,
    openai.ConflictError: Unclear,
    openai.UnprocessableEntityError: Refused,
    openai.RateLimitError: Busy,
    openai.InternalServerError: Unclear,
}


def subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


async def translated(exc):
    with pytest.raises(ProviderError) as caught:
        async with adapter_module.translate("OpenAI"):
            raise exc
    return caught.value


def status_error(status, body=None, headers=None):
    """Make the SDK's exception for an HTTP answer as the SDK makes it."""
    answered = httpx2.Response(status, request=REQUEST, json=body, headers=headers)
    client = openai.AsyncOpenAI(api_key="sk-x", base_url="http://h/v1")
    return client._make_status_error_from_response(answered)


def test_every_exception_of_the_transport_is_translated():
    """No exception class of httpx2 is unmapped, and each is judged by what it proves."""
    known = {httpx2.HTTPError, httpx2.InvalidURL, *subclasses(httpx2.HTTPError)}
    assert known == set(TRANSPORT)
    for kind, expected in TRANSPORT.items():
        exc = (
            kind("told", request=REQUEST, response=httpx2.Response(500, request=REQUEST))
            if kind is httpx2.HTTPStatusError
            else kind("told")
        )
        assert type(asyncio.run(translated(exc))) is expected, kind
        wrapped = openai.APIConnectionError(request=REQUEST)
        wrapped.__cause__ = exc
        assert type(asyncio.run(translated(wrapped))) is expected, kind


def test_every_exception_of_the_sdk_is_translated():
    """No exception class of the SDK escapes; those never met in our calls are unclear."""
    for kind in (openai.OpenAIError, *subclasses(openai.OpenAIError)):
        if issubclass(kind, openai.APIStatusError):
            status = getattr(kind, "status_code", 500)
            answered = httpx2.Response(status, request=REQUEST)
            args = {"response": answered, "body": None}
            exc = kind(**args) if kind is openai.OAuthError else kind("told", **args)
        else:
            exc = kind.__new__(kind)  # constructors differ; only the class is looked at
        expected = SDK.get(kind, Unclear)
        assert type(asyncio.run(translated(exc))) is expected, kind


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (307, None, Refused),
        (400, {"error": {"message": "no"}}, Refused),
        (400, {"error": {"message": "no", "code": "billing_hard_limit_reached"}}, OutOfQuota),
        (401, None, KeyRefused),
        (402, None, OutOfQuota),
        (403, None, KeyRefused),
        (404, None, Vanished),
        (408, None, Unclear),
        (409, None, Unclear),
        (413, None, Refused),
        (429, None, Busy),
        (429, {"error": {"message": "no", "type": "insufficient_quota"}}, OutOfQuota),
        (500, None, Unclear),
        (503, None, Unclear),
        (529, None, Busy),
    ],
)
def test_a_status_says_whether_something_was_created(status, body, expected):
    """A structured 4xx, 429 and 529 prove that nothing was created; other 5xx prove nothing."""
    exc = asyncio.run(translated(status_error(status, body)))
    assert type(exc) is expected
    assert exc.status == status


def test_the_providers_words_are_told_on_one_line_without_keys():
    """The message is the provider's own, on one line, with every piece of a key removed."""
    body = {"error": {"message": "Incorrect API key\nprovided: sk-pr*****abcd.", "code": "bad_key"}}
    exc = asyncio.run(translated(status_error(401, body)))
    assert "Incorrect API key provided: [key]" in str(exc)
    assert "\n" not in str(exc)
    assert exc.code == "bad_key"
    header = httpx2.LocalProtocolError("Illegal header value b'Bearer sk-secret-123\\n'")
    assert "secret" not in str(from_transport(header, "OpenAI", "OPENAI_BASE_URL"))


def test_a_certificate_that_is_not_trusted_means_nothing_was_sent():
    """TLS failures before the request are told apart from connections lost after it."""
    refused = ssl.SSLCertVerificationError("self-signed")
    assert type(from_transport(refused, "OpenAI", "X")) is Busy
    assert type(from_transport(ssl.SSLError("broken"), "OpenAI", "X")) is Unclear


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "9e9"}, 86400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": format_datetime(datetime.fromtimestamp(1090, UTC), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(10, UTC), usegmt=True)}, 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(headers, expected):
    """Seconds and dates are understood, nonsense is ignored, and no wait is above a day."""
    assert retry_after(headers, now=1000.0) == expected


# -- account


def test_a_missing_key_names_its_variable_and_where_to_get_one():
    """Without a key the user is told which variable to set, also by a network call."""
    adapter = make("openai", {})
    with pytest.raises(UsageProblem, match=r"OPENAI_API_KEY .*platform\.openai\.com/api-keys"):
        adapter.check_key()
    with pytest.raises(KeyRefused, match="OPENAI_API_KEY"):
        asyncio.run(adapter.retrieve("batch_1"))


def test_a_key_that_no_header_can_carry_is_a_usage_problem():
    """A key with a typographic dash or a control character is noticed before it is sent."""
    make("openai", {"OPENAI_API_KEY": " sk-good-enough\n"}).check_key()
    for key in ("sk\u2013dash", "sk-a\x00b"):
        with pytest.raises(UsageProblem, match="OPENAI_API_KEY"):
            make("openai", {"OPENAI_API_KEY": key}).check_key()


def test_the_account_tells_organisations_and_servers_apart():
    """Spelling of the address does not matter; organisation, project and server do."""
    environ = {"OPENAI_API_KEY": "sk-one-two-three"}
    account = make("openai", environ).account(b"salt")
    assert account.base_url == "https://api.openai.com/v1"
    same = environ | {"OPENAI_BASE_URL": "HTTPS://API.openai.com/v1/"}
    assert make("openai", same).account(b"salt") == account
    other = environ | {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj_2"}
    assert make("openai", other).account(b"salt").organisation == "org-1/proj_2"


def test_an_address_that_is_none_is_a_usage_problem():
    """A base URL that cannot be parsed is refused with its variable's name."""
    with pytest.raises(UsageProblem, match="OPENAI_BASE_URL"):
        make("openai", {"OPENAI_BASE_URL": "http://[::1/v1"})


# -- wire


def prepared(tmp_path: Path, model=MODEL, rows=2):
    encode = wire.encoder(Recipe(), model)
    payload = tmp_path / "job.jsonl"
    payload.write_bytes(b"".join(encode(f"r-{n}", f"prompt {n}") for n in range(rows)))
    job = Job(
        id="job-1",
        batch_id="b",
        round=0,
        number=0,
        provider="openai",
        model=model,
        endpoint="chat",
        rows=rows,
        bytes=payload.stat().st_size,
        payload=payload.name,
    )
    return job, payload


def seen(sim, method, end):
    found = [item for item in sim.requests() if item["method"] == method]
    return [item for item in found if item["path"].endswith(end)]


def asked_for(environ):
    """Let an adapter ask a server of ours for a batch, and return the request's headers."""
    with Replay([]) as server:
        adapter = make("openai", {"OPENAI_BASE_URL": f"{server.url}/v1"} | environ)
        with pytest.raises(Vanished):
            asyncio.run(adapter.retrieve("batch_1"))
        (asked,) = server.asked
    return asked.headers


def test_the_processes_own_variables_never_leak_in(monkeypatch):
    """Key, address, organisation and proxy of the process do not mix into the given account."""
    for name, value in {
        "OPENAI_API_KEY": "sk-real-key-of-the-process",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/process",
        "OPENAI_ORG_ID": "org-process",
        "OPENAI_PROJECT_ID": "proj-process",
        "OPENAI_ADMIN_KEY": "sk-admin-process",
        "HTTP_PROXY": "http://127.0.0.1:1/process",
        "http_proxy": "http://127.0.0.1:1/process",
    }.items():
        monkeypatch.setenv(name, value)
    headers = asked_for({"OPENAI_API_KEY": "sim-key"})
    assert headers["authorization"] == "Bearer sim-key"
    assert "openai-organization" not in headers
    assert "process" not in str(headers)
    account = make("openai", {"OPENAI_API_KEY": "sim-key"}).account(b"")
    assert account.base_url == "https://api.openai.com/v1"


def test_organisation_and_project_are_sent():
    """The organisation and project of the given environment go out as headers."""
    environ = {"OPENAI_API_KEY": "sk-abcdefg", "OPENAI_ORG_ID": "o", "OPENAI_PROJECT_ID": "p"}
    headers = asked_for(environ)
    assert (headers["openai-organization"], headers["openai-project"]) == ("o", "p")


def test_an_upload_is_named_after_its_job_and_is_the_payload(tmp_path):
    """The file goes up as it lies on the disk, under the job's name, with purpose batch."""
    job, payload = prepared(tmp_path)
    uploaded = {
        "request": {"method": "POST", "uri": "/v1/files"},
        "response": {"status": 200, "headers": {}, "body": {"id": "file-1"}},
    }
    with Replay([uploaded]) as server:
        environ = {"OPENAI_API_KEY": "sk-abcdefg", "OPENAI_BASE_URL": f"{server.url}/v1"}
        assert asyncio.run(make("openai", environ).upload(job, payload)) == "file-1"
        asked = server.asked[-1]
    assert b'filename="job-1.jsonl"' in asked.body
    assert payload.read_bytes() in asked.body
    assert b'name="purpose"\r\n\r\nbatch\r\n' in asked.body
    assert b"expires_after" not in asked.body


def test_a_create_is_what_the_endpoint_takes(tmp_path):
    """File, path of the endpoint, window and our label go out, and nothing else."""
    job, payload = prepared(tmp_path)
    made = {
        "request": {"method": "POST", "uri": "/v1/batches"},
        "response": {"status": 200, "headers": {}, "body": {"id": "b", "status": "validating"}},
    }
    with Replay([made]) as server:
        environ = {"OPENAI_API_KEY": "sk-abcdefg", "OPENAI_BASE_URL": f"{server.url}/v1"}
        asyncio.run(make("openai", environ).create(job, payload, "file-1", "label-1"))
        (asked,) = server.asked
    assert json.loads(asked.body) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"llm_batch": "label-1"},
    }


def test_an_unknown_model_is_refused_before_anything_is_uploaded(tmp_path):
    """A model that the server does not know is one line for the user, and nothing was sent."""
    job, payload = prepared(tmp_path, model="gpt-5-mnii")
    error = {"error": {"message": "The model does not exist", "code": "model_not_found"}}
    with Simulator(seconds=0) as sim:
        sim.fault(method="GET", path="*/models/*", action="status", status=404, body=error)
        adapter = make("openai", sim.environ())
        with pytest.raises(Refused, match=r"'gpt-5-mnii'.*/models$"):
            asyncio.run(adapter.upload(job, payload))
        assert not seen(sim, "POST", "/files")


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "status": 404},
        {"action": "status", "status": 403},
        {"action": "status", "status": 500},
        {"action": "drop"},
    ],
)
def test_a_server_that_cannot_say_which_models_it_has_is_no_obstacle(tmp_path, fault):
    """Only a clear "no such model" stops an upload."""
    job, payload = prepared(tmp_path)
    with Simulator(seconds=0) as sim:
        sim.fault(method="GET", path="*/models/*", **fault)
        adapter = make("openai", sim.environ())
        assert asyncio.run(adapter.upload(job, payload))


def test_a_known_model_is_asked_for_once(tmp_path):
    """The jobs of one batch share one look-up of their model."""
    job, payload = prepared(tmp_path)
    with Simulator(seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def main():
            await adapter.upload(job, payload)
            await adapter.upload(job, payload)

        asyncio.run(main())
        assert len(seen(sim, "GET", f"/models/{MODEL}")) == 1


def test_an_ended_batch_is_returned_by_cancel_as_it_is(tmp_path):
    """Cancelling what has ended is no error: there is nothing left to cancel."""
    job, payload = prepared(tmp_path)
    with Simulator(seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def main():
            upload_id = await adapter.upload(job, payload)
            made = await adapter.create(job, payload, upload_id, "label")
            await adapter.retrieve(made.remote_id)
            return await adapter.cancel(made.remote_id)

        assert asyncio.run(main()).phase is Phase.ENDED


def test_the_listing_is_read_page_by_page_until_it_is_too_old(tmp_path):
    """A lost batch is found beyond the first page, and older pages are not asked for."""
    job, payload = prepared(tmp_path, rows=1)
    with Simulator(seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def main():
            upload_id = await adapter.upload(job, payload)
            for number in range(101):
                made = await adapter.create(job, payload, upload_id, f"label-{number}")
            found = await adapter.find("label-0", job, made.created_at - 60)
            pages = len(seen(sim, "GET", "/batches"))
            listed = [remote async for remote in adapter.list(made.created_at + 3600)]
            return found, pages, listed

        found, pages, listed = asyncio.run(main())
        assert found is not None
        assert found.label == "label-0"
        assert pages == 2
        assert listed == []


def test_a_download_that_is_cut_is_incomplete(tmp_path):
    """A connection lost in the middle of a result file is not the end of the file."""
    job, payload = prepared(tmp_path, rows=50)
    with Simulator(seconds=0) as sim:
        adapter = make("openai", sim.environ())

        class Collected(bytearray):
            write = bytearray.extend

        async def main():
            upload_id = await adapter.upload(job, payload)
            made = await adapter.create(job, payload, upload_id, "label")
            ended = await adapter.retrieve(made.remote_id)
            sim.fault(method="GET", path="*/content", action="truncate", keep=0.4)
            with pytest.raises(Incomplete):
                await adapter.fetch(made.remote_id, "output", ended.parts["output"], Collected())
            whole = Collected()
            await adapter.fetch(made.remote_id, "output", ended.parts["output"], whole)
            sim.fault(method="GET", path="*/content", action="status", status=503)
            with pytest.raises(Unclear):
                await adapter.fetch(made.remote_id, "output", ended.parts["output"], Collected())
            await adapter.close()
            return whole

        lines = asyncio.run(main()).splitlines()
        assert {adapter.parse(line, "chat").outcome for line in lines} == {Outcome.OK}
        assert len(lines) == 50


def test_an_adapter_is_usable_again_after_close(tmp_path):
    """Closing lets go of connections only."""
    job, payload = prepared(tmp_path)
    with Simulator(seconds=0) as sim:
        adapter = make("openai", sim.environ())

        async def once():
            upload_id = await adapter.upload(job, payload)
            await adapter.close()
            return upload_id

        assert asyncio.run(once()) != asyncio.run(once())


def test_limits_stay_within_what_openai_takes():
    """A job holds at most 50,000 rows and stays under 200 MB."""
    limits = make("openai", {}).limits("chat")
    assert limits.requests <= 50_000
    assert limits.bytes < 200_000_000
    assert limits.one_model
    assert limits.labelled
    assert msgspec.structs.asdict(limits)["settle"] > 0
