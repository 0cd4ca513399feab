"""Gemini's jobs and result lines."""

from __future__ import annotations

import json

import pytest
from google.genai.types import FinishReason, JobState

from jupyter_llm_batch.core.job import Counts, Phase
from jupyter_llm_batch.core.result import Outcome, ToolCall, Usage
from jupyter_llm_batch.providers.google import objects
from jupyter_llm_batch.providers.google.results import parse


def read(answer, key="b-1"):
    return parse(json.dumps({"key": key} | answer).encode())


def generated(*parts, finish="STOP", **more):
    candidate = {"content": {"role": "model", "parts": [*parts]}, "finishReason": finish}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 3}
    return {"response": {"candidates": [candidate], "usageMetadata": usage} | more}


def test_the_text_is_what_was_said_and_not_what_was_thought():
    """Text parts are joined, parts of thinking left out, and thinking is output that is paid."""
    usage = {
        "promptTokenCount": 5, "toolUsePromptTokenCount": 2, "cachedContentTokenCount": 4,
        "candidatesTokenCount": 3, "thoughtsTokenCount": 7,
    }  # fmt: skip
    parts = [{"text": "hm", "thought": True}, {"text": "4"}, {"text": "2"}]
    result = read(generated(*parts, usageMetadata=usage, modelVersion="gemini-x"))
    assert (result.custom_id, result.outcome, result.text) == ("b-1", Outcome.OK, "42")
    assert (result.finish_reason, result.model, result.billed) == ("STOP", "gemini-x", True)
    assert result.reasoning == "hm"
    assert result.usage == Usage(input=7, output=10, cached=4, reasoning=7)


def test_a_function_call_is_an_answer():
    """It has a name, arguments and mostly no id."""
    result = read(generated({"functionCall": {"name": "f", "args": {"x": 1}}}))
    assert result.tool_calls == (ToolCall(name="f", arguments={"x": 1}),)
    assert (result.outcome, result.text) == (Outcome.OK, None)
    named = read(generated({"text": "so"}, {"functionCall": {"name": "f", "id": "c"}}))
    assert (named.text, named.tool_calls) == ("so", (ToolCall(name="f", id="c"),))


def test_a_cut_answer_is_an_answer():
    """Gemini's own word says that it was cut, also when all went into thinking."""
    cut = read(generated({"text": "a"}, finish="MAX_TOKENS"))
    assert (cut.outcome, cut.text, cut.finish_reason) == (Outcome.OK, "a", "MAX_TOKENS")
    empty = read({"response": {"candidates": [{"finishReason": "MAX_TOKENS"}]}})
    assert (empty.outcome, empty.text, empty.truncated) == (Outcome.OK, "", True)


def test_several_candidates_are_kept():
    """With candidateCount the first answer counts, and all of them are there."""
    candidates = [
        {"content": {"parts": [{"text": text}]} if text else {}, "finishReason": reason}
        for text, reason in (("", "SAFETY"), ("b", "STOP"), ("c", "STOP"))
    ]
    result = read({"response": {"candidates": candidates}})
    assert (result.outcome, result.text) == (Outcome.OK, "b")
    assert result.choices == [None, "b", "c"]


def test_an_answer_of_something_else_says_of_what():
    """An image alone is no text; the error says where it is."""
    result = read(generated({"inlineData": {"mimeType": "image/png", "data": "aGk="}}))
    assert (result.outcome, result.code, result.billed) == (Outcome.FAILED, "no_text", True)
    assert "inline_data" in result.error


@pytest.mark.parametrize("reason", [each.value for each in FinishReason])
def test_no_reason_loses_text(reason):
    """Whatever reason the SDK knows, what was said stays, and only a refusal is no answer."""
    result = read(generated({"text": "so"}, finish=reason))
    assert result.text == "so"
    assert result.outcome in {Outcome.OK, Outcome.REFUSED}
    assert result.finish_reason == reason


@pytest.mark.parametrize(
    "reason",
    [
        "SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII", "IMAGE_SAFETY",
        "MODEL_ARMOR",
    ],
)  # fmt: skip
def test_a_withheld_answer_is_refused(reason):
    """The reason is the code, and what was used may have been billed."""
    result = read(generated(finish=reason))
    assert (result.outcome, result.code, result.billed) == (Outcome.REFUSED, reason, True)
    assert reason in result.error
    assert not result.transient


def test_a_blocked_prompt_is_refused():
    """Without candidates the feedback tells; without usage nothing was billed."""
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    free = read({"response": blocked})
    assert (free.outcome, free.code, free.billed) == (Outcome.REFUSED, "SAFETY", False)
    assert read({"response": blocked | {"usageMetadata": {"promptTokenCount": 3}}}).billed


def test_an_answer_without_text_is_a_failure_that_was_billed():
    """What ends for another reason and says nothing is no empty answer."""
    result = read(generated(finish="MALFORMED_FUNCTION_CALL"))
    assert (result.outcome, result.code, result.billed) == (Outcome.FAILED, "no_text", True)


@pytest.mark.parametrize("shape", ["field", "bare"])
@pytest.mark.parametrize(
    ("code", "outcome", "billed", "transient"),
    [
        (1, Outcome.CANCELLED, False, True),
        (4, Outcome.FAILED, False, True),
        (8, Outcome.FAILED, False, True),
        (13, Outcome.FAILED, False, True),
        (14, Outcome.FAILED, False, True),
        (500, Outcome.FAILED, False, True),
        (503, Outcome.FAILED, False, True),
        (3, Outcome.FAILED, False, False),
        (400, Outcome.FAILED, False, False),
        (5, Outcome.FAILED, False, False),
        (7, Outcome.FAILED, False, False),
        (77, Outcome.FAILED, True, False),
    ],
)
def test_an_error_says_whether_it_is_worth_another_try(shape, code, outcome, billed, transient):
    """Known codes cost nothing; one never seen before may stand for work that was done."""
    status = {"code": code, "message": "told\nso"}
    result = read({"error": status} if shape == "field" else status)
    assert (result.outcome, result.billed, result.transient) == (outcome, billed, transient)
    assert result.error == "told so"
    assert result.code


def test_an_embedding_is_a_vector():
    """The values arrive, and the tokens however they are counted."""
    result = read({"response": {"embedding": {"values": [0.5, 1]}, "tokenCount": "4"}})
    assert (result.vector, result.text, result.usage.input) == ([0.5, 1.0], None, 4)
    usage = {"usageMetadata": {"promptTokenCount": 6}}
    assert read({"response": {"embedding": {"values": [1]}} | usage}).usage.input == 6


@pytest.mark.parametrize(
    "line",
    [
        b'{"response":{"candidates":[{"con',
        b'{"key":"b-9","response":{"candidates":',
        b'{"key":"b-9"}',
        b'{"key":"b-9","response":{}}',
        b'{"key":"b-9","response":3}',
        b'{"key":null,"response":{}}',
        b"[]",
    ],
)
def test_an_unknown_shape_is_kept_as_billed(line):
    """What cannot be read may have been paid for; its key is found where it can be."""
    result = parse(line)
    assert (result.outcome, result.code, result.billed) == (Outcome.FAILED, "unreadable", True)
    assert result.custom_id == ("b-9" if b"b-9" in line else "")


def test_half_a_surrogate_pair_does_not_cost_the_answer():
    """Models do emit them; the rest of the answer is read."""
    line = json.dumps({"key": "b-1"} | generated({"text": "a\ud83d"})).encode()
    assert parse(line).text == "a?"


# -- jobs


def job(state="BATCH_STATE_SUCCEEDED", stats=None, output=None, **more):
    metadata = {"displayName": "label", "state": state, "createTime": "2026-08-19T14:34:12.26787Z"}
    if stats is not None:
        metadata["batchStats"] = stats
    if output is not None:
        metadata["output"] = output
    return json.dumps({"name": "batches/x", "metadata": metadata} | more).encode()


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_"])
@pytest.mark.parametrize(
    ("state", "phase", "rest"),
    [
        ("PENDING", Phase.ACTIVE, None),
        ("RUNNING", Phase.ACTIVE, None),
        ("CANCELLING", Phase.ACTIVE, None),
        ("NEVER_SEEN", Phase.ACTIVE, None),
        ("SUCCEEDED", Phase.ENDED, None),
        ("PARTIALLY_SUCCEEDED", Phase.ENDED, None),
        ("CANCELLED", Phase.ENDED, Outcome.CANCELLED),
        ("EXPIRED", Phase.ENDED, Outcome.EXPIRED),
        ("FAILED", Phase.FAILED, None),
    ],
)
def test_a_state_has_a_phase_and_speaks_for_the_rows_without_a_line(prefix, state, phase, rest):
    """Unknown states are waited for; an ended job is always asked for its answers."""
    remote = objects.read_remote(job(prefix + state))
    assert (remote.state, remote.phase, remote.rest) == (prefix + state, phase, rest)
    assert remote.parts == ({"output": "inline"} if phase is Phase.ENDED else {})
    assert remote.label == "label"
    assert remote.expires_at - remote.created_at == 48 * 3600
    assert remote.keep_until is None


@pytest.mark.parametrize("state", [each.value for each in JobState])
def test_every_state_of_the_sdk_has_a_phase(state):
    """Those that end a job are the known ones; all others are waited for."""
    expected = Phase.ACTIVE
    if state.endswith(("SUCCEEDED", "CANCELLED", "EXPIRED")):
        expected = Phase.ENDED
    elif state.endswith("FAILED"):
        expected = Phase.FAILED
    assert objects.read_remote(job(state)).phase is expected


def test_an_operation_that_is_done_is_over_whatever_its_state():
    """A state never seen before does not keep a job waiting that says it is done."""
    output = {"responsesFile": "files/batch-x"}
    done = objects.read_remote(job("BATCH_STATE_NEVER_SEEN", output=output, done=True))
    assert (done.phase, done.parts) == (Phase.ENDED, {"output": "files/batch-x"})
    error = {"code": 3, "message": "no"}
    failed = objects.read_remote(job("BATCH_STATE_NEVER_SEEN", done=True, error=error))
    assert (failed.phase, failed.error) == (Phase.FAILED, "no")


def test_counts_are_strings_and_left_out_when_zero():
    """Without statistics nothing is known, which is not the same as zero."""
    remote = objects.read_remote(job(stats={"requestCount": "5", "successfulRequestCount": "4"}))
    assert remote.counts == Counts(total=5, done=4)
    assert objects.read_remote(job()).counts is None


def test_the_result_file_is_found_in_either_place():
    """The output stands in the metadata and in the response; one of them is enough."""
    output = {"responsesFile": "files/batch-x"}
    for told in (job(output=output), job(response=output)):
        assert objects.read_remote(told).parts == {"output": "files/batch-x"}


def test_a_failed_job_says_why_and_whether_to_wait():
    """Its error is told; lack of quota passes; answers that are there are collected."""
    error = {"code": 3, "message": "no such field: 'x'"}
    failed = objects.read_remote(job("BATCH_STATE_FAILED", error=error))
    assert (failed.phase, failed.error) == (Phase.FAILED, "no such field: 'x'")
    full = objects.read_remote(job("BATCH_STATE_FAILED", error={"code": 8, "message": "quota"}))
    assert full.phase is Phase.LATER
    stats = {"requestCount": "2", "successfulRequestCount": "1"}
    partly = objects.read_remote(job("BATCH_STATE_FAILED", stats, error={"code": 8}))
    assert partly.phase is Phase.ENDED
    output = {"responsesFile": "files/batch-x"}
    assert objects.read_remote(job("BATCH_STATE_FAILED", output=output)).phase is Phase.ENDED


def test_inline_answers_become_lines_bound_by_their_key():
    """However the answer is laid out and ordered, each line is one line with its own key."""
    items = [
        {"response": {"x": "a\nb"}, "metadata": {"key": "r-1"}},
        {"metadata": {"key": "r-0", "more": "1"}, "error": {"code": 13}},
        {"response": {}, "metadata": {"custom_id": "0"}},
        {"response": {}},
        3,
    ]
    told = json.loads(job(output={"inlinedResponses": {"inlinedResponses": items}}))
    file, lines = objects.inline_lines(json.dumps(told, indent=2).encode())
    assert file is None
    lines = [*lines]
    assert all(line.count(b"\n") == 1 for line in lines)
    assert [json.loads(line) for line in lines] == [
        {"key": "r-1", "response": {"x": "a\nb"}},
        {"key": "r-0", "metadata": {"key": "r-0", "more": "1"}, "error": {"code": 13}},
        {"key": "0", "metadata": {"custom_id": "0"}, "response": {}},
        {"key": "3", "response": {}},
        3,
    ]


def test_inline_embeddings_are_found_under_either_name():
    """The wire has used both fields for them."""
    items = {"inlinedResponses": [{"response": {"embedding": {}}, "metadata": {"key": "k"}}]}
    for field in ("inlinedEmbedContentResponses", "inlinedResponses"):
        _, lines = objects.inline_lines(job(response={field: items}))
        assert len([*lines]) == 1


def test_what_is_no_job_is_no_job():
    """A page of a proxy, an error or another object is never taken for a batch."""
    for body in (b"<html>", b"{}", b'{"error":{"code":500}}', b"[]"):
        with pytest.raises(ValueError, match=r".+"):
            objects.read_remote(body)
