"""OpenAI's result lines and batch objects; `test_recordings` holds real ones."""

from __future__ import annotations

import base64
import json
from array import array

import pytest

from jupyter_llm_batch.core.job import Phase
from jupyter_llm_batch.core.result import Outcome, ToolCall, Usage
from jupyter_llm_batch.providers.openai import objects, results
from jupyter_llm_batch.providers.openai import requests as wire


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
            None,
            "tool_calls",
        ),
        (chat({"content": None, "refusal": "No,\nsorry"}), "chat", "refused", None, "stop"),
        (chat({"content": ""}, "content_filter"), "chat", "refused", None, "content_filter"),
        (chat({"content": "Y"}, "content_filter"), "chat", "ok", "Y", "content_filter"),
        (chat({"content": None}), "chat", "failed", None, "stop"),
        (response([THOUGHT, said(TEXT, TEXT)]), "responses", "ok", "YesYes", "completed"),
        (
            response(
                [said(TEXT)], "incomplete", incomplete_details={"reason": "max_output_tokens"}
            ),
            "responses",
            "ok",
            "Yes",
            "max_output_tokens",
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
            "completed",
        ),
        (response([THOUGHT, CALL]), "responses", "ok", None, "completed"),
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
    assert read.truncated == (reason in {"length", "max_output_tokens"})


FUNCTION = {"name": "weather", "arguments": '{"city": "Bonn"}'}


@pytest.mark.parametrize(
    ("text", "endpoint", "expected"),
    [
        (
            chat({"tool_calls": [{"id": "t", "type": "function", "function": FUNCTION}]}),
            "chat",
            ToolCall(name="weather", id="t", arguments={"city": "Bonn"}),
        ),
        (
            chat({"tool_calls": [{"id": "t", "type": "custom",
                                  "custom": {"name": "sh", "input": "ls -l"}}]}),
            "chat",
            ToolCall(name="sh", id="t", arguments="ls -l"),
        ),
        (
            chat({"function_call": FUNCTION}, "function_call"),
            "chat",
            ToolCall(name="weather", arguments={"city": "Bonn"}),
        ),
        (
            chat({"tool_calls": [{"id": "t", "function": {"name": "f", "arguments": '{"a": '}}]}),
            "chat",
            ToolCall(name="f", id="t", arguments='{"a": '),
        ),
        (
            response([THOUGHT, {"type": "function_call", "call_id": "c"} | FUNCTION]),
            "responses",
            ToolCall(name="weather", id="c", arguments={"city": "Bonn"}),
        ),
        (
            response([{"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"}]),
            "responses",
            ToolCall(name="sh", id="c", arguments="ls"),
        ),
        (
            response([
                {"type": "computer_call", "call_id": "c", "action": {"type": "wait"}},
                {"type": "computer_call_output", "call_id": "c"},
            ]),
            "responses",
            ToolCall(name="computer_call", id="c", arguments={"type": "wait"}),
        ),
    ],
)  # fmt: skip
def test_a_tool_call_has_name_id_and_arguments(text, endpoint, expected):
    """Every kind of call is read, its arguments as an object where they are one."""
    read = parse(text, endpoint)
    assert (read.outcome, read.text, read.tool_calls) == ("ok", None, (expected,))


def test_a_call_may_stand_beside_text():
    """What was said before a call is the text."""
    call = {"id": "t", "type": "function", "function": FUNCTION}
    read = parse(chat({"content": "Let me see.", "tool_calls": [call]}, "tool_calls"))
    assert (read.text, len(read.tool_calls)) == ("Let me see.", 1)
    assert read.said == 'Let me see.\nweather({"city":"Bonn"})'


@pytest.mark.parametrize(
    ("text", "endpoint", "expected"),
    [
        (chat({"content": "Yes", "reasoning_content": "hm"}), "chat", "hm"),
        (chat({"content": "Yes", "reasoning": "hm"}), "chat", "hm"),
        (chat({"content": "Yes", "reasoning": {"odd": 1}}), "chat", None),
        (response([THOUGHT, said(TEXT)]), "responses", "hm"),
        (
            response([
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "A"},
                                                  {"type": "summary_text", "text": "B"}]},
                said(TEXT),
            ]),
            "responses",
            "A\n\nB",
        ),
    ],
)  # fmt: skip
def test_thoughts_are_kept_apart_from_the_answer(text, endpoint, expected):
    """Reasoning is no part of the text; its own words are taken before their summary."""
    read = parse(text, endpoint)
    assert (read.text, read.reasoning) == ("Yes", expected)


def test_what_was_said_before_a_refusal_is_kept():
    """A refusal has no answer, and yet its text."""
    read = parse(response([said(TEXT, {"type": "refusal", "refusal": "No more"})]), "responses")
    assert (read.outcome, read.text, read.error) == ("refused", "Yes", "No more")


def test_an_answer_of_something_else_says_of_what():
    """An image alone is no text; the error says where it is."""
    read = parse(response([{"type": "image_generation_call", "result": "aGk="}]), "responses")
    assert (read.outcome, read.code) == ("failed", "no_text")
    assert read.error is not None
    assert "image_generation_call" in read.error


def test_the_words_of_a_refusal_are_the_error():
    """A refusal's own words are the row's error, on one line."""
    read = parse(chat({"content": None, "refusal": "No,\nsorry"}))
    assert (read.error, read.code) == ("No, sorry", "refusal")


def test_the_first_of_several_answers_counts():
    """With n above 1 the first choice is the row's answer, and the others are kept."""
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in "ab"]
    read = parse(answer({"choices": choices}))
    assert (read.text, read.choices) == ("a", ["a", "b"])
    assert parse(answer({"choices": choices[:1]})).choices is None


def test_one_answer_among_refusals_is_enough():
    """When the first choice was withheld, the row has the answer of the second."""
    withheld = {"message": {"content": ""}, "finish_reason": "content_filter"}
    given = {"message": {"content": "b"}, "finish_reason": "stop"}
    read = parse(answer({"choices": [withheld, given]}))
    assert (read.outcome, read.text, read.choices) == ("ok", "b", [None, "b"])
    assert parse(answer({"choices": [withheld, withheld]})).outcome == "refused"


@pytest.mark.parametrize("packed", [False, True])
def test_a_vector_is_read_from_floats_and_from_base64(packed):
    """An embedding comes as a list of floats or as base64 of its bytes."""
    vector = [0.5, -0.25]
    sent = base64.b64encode(array("f", vector).tobytes()).decode() if packed else vector
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    read = parse(answer({"data": [{"embedding": sent}], "usage": usage}), "embeddings")
    assert (read.outcome, read.vector, read.usage) == ("ok", vector, Usage(input=6))
    assert read.vectors is None


def test_a_row_of_several_inputs_has_several_vectors():
    """They stand in the order of the inputs, whatever the order of the answer."""
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    read = parse(answer({"data": data}), "embeddings")
    assert (read.vector, read.vectors) == ([1.0], [[1.0], [2.0]])


def test_a_torn_vector_is_unreadable():
    """Bytes that are no whole number of floats make no vector."""
    sent = base64.b64encode(b"abcdef").decode()
    assert parse(answer({"data": [{"embedding": sent}]}), "embeddings").code == "unreadable"


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
        ({"status": "failed", "error_file_id": "f"}, "ended"),
        ({"status": "failed", "errors": {"data": [{"code": "token_limit_exceeded"}]}}, "later"),
    ],
)
def test_every_state_has_a_phase(fields, phase):
    """Unknown states are active, and lack of room is no failure."""
    assert remote(**fields).phase == phase
    assert remote(**fields).state == fields["status"]


def test_a_batch_may_tell_little():
    """Without counts, metadata, files and times nothing is known, and nothing raises."""
    bare = remote(request_counts=None, metadata=None, output_file_id=None, errors=None)
    assert (bare.counts, bare.label, bare.parts, bare.error) == (None, None, {}, None)
    assert (bare.created_at, bare.expires_at, bare.keep_until) == (None, None, None)
    assert remote(metadata={"llm_batch": 5}).label is None


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
