"""Anthropic's result lines: one raw line in, one result out."""

from __future__ import annotations

import json

import pytest

from jupyter_llm_batch.core.result import Outcome, ToolCall, Usage
from jupyter_llm_batch.providers.anthropic.results import parse


def read(result, custom_id="b-1"):
    return parse(json.dumps({"custom_id": custom_id, "result": result}).encode())


def message(*content, reason="end_turn", **more):
    usage = {"input_tokens": 3, "output_tokens": 2}
    body = {"model": "m-1", "content": list(content), "stop_reason": reason, "usage": usage}
    return {"type": "succeeded", "message": {**body, **more}}


def text(said):
    return {"type": "text", "text": said}


def test_an_answer_is_its_text_blocks():
    """Text is joined, thinking is kept apart from it, and what is redacted is left out."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    redacted = {"type": "redacted_thinking", "data": "x"}
    result = read(message(thought, redacted, text("Hello"), text(" you")))
    assert (result.outcome, result.text, result.reasoning) == (Outcome.OK, "Hello you", "hm")
    assert result.finish_reason == "end_turn"
    assert (result.model, result.usage, result.billed) == ("m-1", Usage(input=3, output=2), True)


@pytest.mark.parametrize(
    ("reason", "truncated"),
    [
        ("max_tokens", True),
        ("model_context_window_exceeded", True),
        ("stop_sequence", False),
        ("pause_turn", False),
        ("never_seen", False),
    ],
)
def test_reasons_are_anthropics_own_words(reason, truncated):
    """They are kept as they are, and a cut answer is still an answer."""
    result = read(message(text("x"), reason=reason))
    assert (result.finish_reason, result.truncated) == (reason, truncated)
    assert (result.outcome, result.text) == (Outcome.OK, "x")


def test_an_answer_cut_while_thinking_is_empty_and_cut():
    """All tokens spent on thinking still count as an answer that was cut."""
    result = read(message({"type": "thinking", "thinking": "hm"}, reason="max_tokens"))
    assert (result.outcome, result.text, result.finish_reason) == (Outcome.OK, "", "max_tokens")
    assert (result.truncated, result.reasoning) == (True, "hm")


def test_a_tool_call_has_name_id_and_arguments():
    """What the model wants to call is an answer; the server's own tools were called already."""
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    other = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    result = read(message(other, call, reason="tool_use"))
    assert result.tool_calls == (ToolCall(name="f", id="t", arguments={"a": 1}),)
    assert (result.outcome, result.text, result.finish_reason) == (Outcome.OK, None, "tool_use")
    assert read(message(text("so"), call, reason="tool_use")).text == "so"
    assert "server_tool_use" in read(message(other, reason="pause_turn")).error


def test_an_answer_without_text_is_a_failure_that_was_paid_for():
    """There is nothing to bind, and the tokens are billed."""
    result = read(message())
    assert (result.outcome, result.code, result.billed) == (Outcome.FAILED, "no_text", True)


def test_a_refusal_is_told_with_its_explanation():
    """A refusal is no answer, and it is billed."""
    details = {"type": "refusal", "category": "bio", "explanation": "not this"}
    result = read(message(text("No."), reason="refusal", stop_details=details))
    assert (result.outcome, result.error, result.code) == (Outcome.REFUSED, "not this", "refusal")
    assert (result.billed, result.transient, result.text) == (True, False, "No.")
    assert read(message(text("No."), reason="refusal")).error == "No."
    silent = read(message(reason="refusal", stop_details=None))
    assert (silent.outcome, silent.text) == (Outcome.REFUSED, None)
    assert silent.error


def test_tokens_of_the_cache_are_part_of_the_input():
    """Anthropic counts fresh, read and written input apart; we count them together."""
    usage = {
        "input_tokens": 5,
        "cache_creation_input_tokens": 70,
        "cache_read_input_tokens": 600,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 8,
        "output_tokens_details": {"thinking_tokens": 6},
    }
    assert read(message(text("x"), usage=usage)).usage == Usage(
        input=675, output=8, cached=600, reasoning=6, cache_write=70, cache_write_1h=30
    )
    assert Usage(cache_write=1, cache_write_1h=1) + Usage(cache_write=2) == Usage(
        cache_write=3, cache_write_1h=1
    )


@pytest.mark.parametrize(
    ("kind", "transient"),
    [
        ("invalid_request_error", False),
        ("authentication_error", False),
        ("permission_error", False),
        ("not_found_error", False),
        ("request_too_large", False),
        ("billing_error", False),
        ("never_seen_error", False),
        ("api_error", True),
        ("overloaded_error", True),
        ("rate_limit_error", True),
        ("timeout_error", True),
    ],
)
def test_an_errored_row_cost_nothing(kind, transient):
    """The error lies two levels deep; only what passes is worth another try by itself."""
    error = {"type": "error", "error": {"type": kind, "message": "why\nso"}, "request_id": "r"}
    result = read({"type": "errored", "error": error})
    assert (result.outcome, result.code, result.error) == (Outcome.FAILED, kind, "why so")
    assert (result.billed, result.transient) == (False, transient)
    flat = read({"type": "errored", "error": {"type": kind, "message": "why"}})
    assert (flat.code, flat.error) == (kind, "why")


def test_the_cause_of_an_error_is_its_code():
    """A code that names the cause says more than the broad type."""
    details = {"error_code": "image_dimensions_too_large"}
    error = {"type": "invalid_request_error", "message": "m", "details": details}
    result = read({"type": "errored", "error": {"type": "error", "error": error}})
    assert result.code == "image_dimensions_too_large"


def test_rows_that_were_not_reached_cost_nothing():
    """Expired rows are sent again by themselves; a cancel was meant."""
    expired, canceled = read({"type": "expired"}), read({"type": "canceled"})
    assert (expired.outcome, expired.billed, expired.transient) == (Outcome.EXPIRED, False, True)
    assert (canceled.outcome, canceled.billed, canceled.transient) == (
        Outcome.CANCELLED,
        False,
        False,
    )


@pytest.mark.parametrize(
    "result",
    [
        {"type": "brand_new", "message": {"content": 1}},
        {"type": "brand_new"},
        {"type": "succeeded"},
        {"type": "succeeded", "message": {"content": 5}},
        {"type": "succeeded", "message": None},
        {},
        None,
    ],
)
def test_a_result_never_seen_before_may_have_been_paid_for(result):
    """Its row keeps its id, is not sent again by itself, and does not raise."""
    found = read(result)
    assert (found.custom_id, found.outcome) == ("b-1", Outcome.FAILED)
    assert (found.billed, found.transient) == (True, False)


def test_an_unknown_type_is_shown():
    """The provider's own word says what it was."""
    assert read({"type": "brand_new"}).code == "brand_new"


def test_odd_blocks_and_half_pairs_are_no_obstacle():
    """Blocks of other kinds are skipped, and halves of surrogate pairs replaced."""
    odd = [{"type": "text", "text": 5}, {"type": "web_search_tool_result", "content": [1]}]
    assert read(message(*odd, text("x"))).text == "x"
    raw = json.dumps({"custom_id": "b-1", "result": message(text("a\ud83d"))}).encode()
    assert parse(raw).text == "a?"


@pytest.mark.parametrize("line", [b"", b"{", b'{"custom_id":"b-7","result":{"type":"succ', b"[]"])
def test_a_torn_line_keeps_what_can_be_read(line):
    """The id is found even in a line that is no JSON."""
    result = parse(line)
    assert result.custom_id == ("b-7" if b"b-7" in line else "")
    assert (result.outcome, result.code) == (Outcome.FAILED, "unreadable")
