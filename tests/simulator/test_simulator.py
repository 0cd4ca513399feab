"""The simulator behaves as OpenAI does, as the real SDK sees it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import re
import shutil
import struct

import httpx2
import jsonschema
import openai
import pytest
import recordings
from support import ANY, DUMMY_KEY

from jupyter_llm_batch.simulator import Simulator, mark
from jupyter_llm_batch.simulator.world.ledger import body_sha

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
RECORDINGS = recordings.RECORDINGS / "openai"


@pytest.fixture
def sim():
    """A simulator whose batches take 100 seconds, which tests let pass with ``advance``."""
    with Simulator(keys=ANY, seconds=100) as simulator:
        yield simulator


@pytest.fixture
def client(sim):
    with connect(sim) as sdk:
        yield sdk


def connect(sim, key=DUMMY_KEY):
    return openai.OpenAI(base_url=sim.openai_url, api_key=key, max_retries=0)


def chat_body(prompt, **more):
    return {"model": "gpt-5-mini", "messages": [{"role": "user", "content": prompt}], **more}


def lines(bodies, url=CHAT, ids=None):
    ids = ids or [f"r{number}" for number in range(len(bodies))]
    return "".join(
        json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}) + "\n"
        for custom_id, body in zip(ids, bodies, strict=True)
    )


def upload(client, text):
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch")


def submit(client, text, url=CHAT, **more):
    return client.batches.create(
        input_file_id=upload(client, text).id,
        endpoint=url,
        completion_window="24h",
        **more,
    )


def read(client, file_id):
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def finish(sim, client, text, url=CHAT):
    """Run a batch to its end and return it with its output and error lines."""
    batch = submit(client, text, url)
    sim.advance(100)
    batch = client.batches.retrieve(batch.id)
    outputs = read(client, batch.output_file_id) if batch.output_file_id else []
    errors = read(client, batch.error_file_id) if batch.error_file_id else []
    return batch, outputs, errors


def shape(value):
    """Return what a recording fixes: keys in their order and kinds of values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__


# The life of a batch


def test_a_batch_walks_through_its_states_by_the_clock(sim, client):
    """A batch is validated, runs with moving counts, is finalized and completed."""
    batch = submit(client, lines([chat_body(f"p{n}") for n in range(10)]))
    seen = []
    for _ in range(13):
        now = client.batches.retrieve(batch.id)
        seen.append((now.status, now.request_counts.total, now.request_counts.completed))
        sim.advance(9)
    assert seen[:2] == [("validating", 0, 0), ("validating", 0, 0)]
    assert seen[2] == ("in_progress", 10, 1)
    assert [count for _, _, count in seen[2:10]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert seen[10] == ("finalizing", 10, 10)
    assert seen[12] == ("completed", 10, 10)


def test_with_zero_seconds_a_batch_is_done_at_the_first_poll():
    """``seconds=0`` completes a batch at once, though its creation still says validating."""
    with Simulator(keys=ANY, seconds=0) as sim, connect(sim) as client:
        batch = submit(client, lines([chat_body("hello")]))
        assert batch.status == "validating"
        assert client.batches.retrieve(batch.id).status == "completed"


def test_times_are_those_of_the_story_not_of_the_look(sim, client):
    """A batch that is looked at late tells when things happened."""
    batch = submit(client, lines([chat_body("hello")]))
    sim.advance(5000)
    late = client.batches.retrieve(batch.id)
    start = batch.created_at
    assert late.expires_at == start + 86400
    assert late.in_progress_at - start in (10, 11)
    assert late.finalizing_at - start in (90, 91)
    assert late.completed_at - start in (100, 101)


def test_every_answer_is_bound_to_its_row_and_the_order_is_shuffled(sim, client):
    """Output lines come in another order, each with the hash of its own prompt."""
    prompts = [f"question {number}" for number in range(50)]
    _, outputs, _ = finish(sim, client, lines([chat_body(prompt) for prompt in prompts]))
    ids = [line["custom_id"] for line in outputs]
    assert sorted(ids, key=lambda text: int(text[1:])) == [f"r{n}" for n in range(50)]
    assert ids != sorted(ids, key=lambda text: int(text[1:]))
    for line in outputs:
        content = line["response"]["body"]["choices"][0]["message"]["content"]
        prompt = prompts[int(line["custom_id"][1:])]
        assert content.endswith(f"(simulated {hashlib.sha256(prompt.encode()).hexdigest()[:8]})")


def test_model_and_usage_are_filled_in_as_the_provider_does(sim, client):
    """The model is null before validation and dated after; usage is zero until the end."""
    batch = submit(client, lines([chat_body("one"), chat_body("two")]))
    assert batch.model is None
    assert batch.usage.total_tokens == 0
    sim.advance(50)
    running = client.batches.retrieve(batch.id)
    assert running.model == "gpt-5-mini-2025-08-07"
    assert running.usage.total_tokens == 0
    sim.advance(50)
    done = client.batches.retrieve(batch.id)
    rows = [line["response"]["body"]["usage"] for line in read(client, done.output_file_id)]
    assert done.usage.input_tokens == sum(row["prompt_tokens"] for row in rows)
    assert done.usage.output_tokens == sum(row["completion_tokens"] for row in rows)
    assert done.usage.total_tokens == sum(row["total_tokens"] for row in rows)


def test_cancelling_keeps_what_is_done_and_bills_only_that(sim, client):
    """A cancelled batch has its done rows in the output and the others as batch_cancelled."""
    batch = submit(client, lines([chat_body(f"p{n}") for n in range(10)]))
    sim.advance(50)
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.batches.cancel(batch.id).status == "cancelling"
    sim.advance(26)
    done = client.batches.retrieve(batch.id)
    outputs, errors = read(client, done.output_file_id), read(client, done.error_file_id)
    assert done.status == "cancelled"
    assert done.cancelled_at - done.cancelling_at in (25, 26)
    assert (done.request_counts.completed, len(outputs), len(errors)) == (5, 5, 5)
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert {line["response"] for line in errors} == {None}
    assert {row["custom_id"] for row in sim.ledger()} == {row["custom_id"] for row in outputs}


def test_a_long_batch_takes_ten_minutes_to_cancel():
    """Cancelling lasts a quarter of the batch's life, and ten minutes at the most."""
    with Simulator(keys=ANY, seconds=36000) as sim, connect(sim) as client:
        batch = submit(client, lines([chat_body("hello")]))
        client.batches.cancel(batch.id)
        sim.advance(595)
        assert client.batches.retrieve(batch.id).status == "cancelling"
        sim.advance(6)
        assert client.batches.retrieve(batch.id).status == "cancelled"


def test_a_batch_cancelled_while_validating_has_no_files(sim, client):
    """Nothing was read yet, so there is nothing to collect and nothing to pay."""
    batch = submit(client, lines([chat_body("hello")]))
    assert client.batches.cancel(batch.id).status == "cancelling"
    sim.advance(30)
    done = client.batches.retrieve(batch.id)
    assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)
    assert sim.ledger() == []


def test_a_batch_that_is_over_can_not_be_cancelled(sim, client):
    """Cancelling a completed batch is a conflict."""
    batch, _, _ = finish(sim, client, lines([chat_body("hello")]))
    with pytest.raises(openai.ConflictError, match="completed"):
        client.batches.cancel(batch.id)


def test_a_stuck_batch_expires_after_a_day_and_keeps_what_is_done(sim, client):
    """What was done before the batch got stuck is in the output, the rest is batch_expired."""
    batch = submit(client, lines([chat_body(f"p{n}") for n in range(10)]))
    sim.advance(50)
    sim.behave(stuck=True)
    sim.advance(86400 - 60)
    assert client.batches.retrieve(batch.id).request_counts.completed == 5
    sim.advance(60)
    done = client.batches.retrieve(batch.id)
    errors = read(client, done.error_file_id)
    assert done.status == "expired"
    assert done.expired_at == done.expires_at
    assert len(read(client, done.output_file_id)) == 5
    assert [line["error"]["code"] for line in errors] == ["batch_expired"] * 5
    assert len(sim.ledger()) == 5


def test_a_batch_goes_on_where_it_was_stuck(sim, client):
    """Time in which it was stuck does not count for its life."""
    batch = submit(client, lines([chat_body("hello")]))
    sim.advance(50)
    sim.behave(stuck=True)
    sim.advance(1000)
    sim.behave(stuck=False)
    assert client.batches.retrieve(batch.id).status == "in_progress"
    sim.advance(50)
    assert client.batches.retrieve(batch.id).status == "completed"


def test_files_and_batches_vanish_after_their_retention(sim, client):
    """After 30 days the batch and its output are gone, as are files with a term of their own."""
    batch = submit(
        client,
        lines([chat_body("hello")]),
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    sim.advance(100)
    done = client.batches.retrieve(batch.id)
    sim.advance(3600)
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.content(done.output_file_id)
    assert client.files.retrieve(batch.input_file_id).status == "processed"
    sim.advance(30 * 86400)
    with pytest.raises(openai.NotFoundError, match="No batch found"):
        client.batches.retrieve(batch.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(batch.input_file_id)


def test_deleting_the_input_file_does_not_harm_a_running_batch(sim, client):
    """A batch keeps its own copy of the input."""
    batch = submit(client, lines([chat_body("hello")]))
    client.files.delete(batch.input_file_id)
    sim.advance(100)
    assert client.batches.retrieve(batch.id).request_counts.completed == 1


# Validation


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (lines([chat_body("a")]) + "{broken\n", "invalid_json_line", 2),
        (lines([chat_body("a"), chat_body("b")], ids=["x", "x"]), "duplicate_custom_id", 2),
        (lines([chat_body("a")]) + lines([{}], RESPONSES, ["y"]), "url_mismatch", 2),
        (lines([chat_body("a"), chat_body("b") | {"model": "gpt-5"}]), "model_mismatch", 2),
        ("\n", "empty_file", None),
        (lines([chat_body(str(n)) for n in range(4)]), "too_many_tasks", None),
        (lines([chat_body("word " * 200)]), "token_limit_exceeded", None),
    ],
)
def test_a_bad_file_fails_the_batch_after_it_was_created(sim, client, text, code, line):
    """Each of the seven validation failures arrives asynchronously, with its code and line."""
    sim.behave(max_rows=3, enqueued_token_limit=100)
    batch = submit(client, text)
    assert batch.status == "validating"
    sim.advance(10)
    failed = client.batches.retrieve(batch.id)
    assert failed.status == "failed"
    assert failed.failed_at is not None
    assert [(error.code, error.line) for error in failed.errors.data] == [(code, line)]
    assert (failed.output_file_id, failed.error_file_id) == (None, None)
    assert sim.ledger() == []


def test_the_queue_holds_tokens_of_all_batches_of_a_model(sim, client):
    """A second batch fails while the first fills the queue, and not when that one is over."""
    sim.behave(enqueued_token_limit=150)
    text = lines([chat_body("word " * 80)])
    first, second = submit(client, text), submit(client, text)
    sim.advance(20)
    assert client.batches.retrieve(first.id).status == "in_progress"
    failed = client.batches.retrieve(second.id)
    assert failed.errors.data[0].message.startswith("Enqueued token limit reached for gpt-5-mini")
    sim.advance(100)
    third = submit(client, text)
    sim.advance(20)
    assert client.batches.retrieve(third.id).status == "in_progress"


def test_embedding_inputs_are_counted_as_tasks(sim, client):
    """A batch of few rows with many inputs is too large."""
    sim.behave(max_inputs=5)
    body = {"model": "text-embedding-3-small", "input": ["a", "b", "c"]}
    batch = submit(client, lines([body, body], EMBEDDINGS), EMBEDDINGS)
    sim.advance(10)
    assert client.batches.retrieve(batch.id).errors.data[0].code == "too_many_tasks"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/nonsense"}, "endpoint"),
        ({"completion_window": "48h"}, "completion_window"),
        ({"input_file_id": "file-absent"}, "input_file_id"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after"),
    ],
)
def test_a_wrong_create_call_is_refused_at_once(client, change, param):
    """Wrong parameters are a 400 that names the parameter, and create nothing."""
    good = {
        "input_file_id": upload(client, lines([chat_body("a")])).id,
        "endpoint": CHAT,
        "completion_window": "24h",
    }
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(**good | change)
    assert caught.value.param == param
    assert client.batches.list().data == []


# Rows


@pytest.mark.parametrize(
    ("directive", "status", "code"),
    [("fail-400", 400, "invalid_value"), ("fail-429", 429, "rate_limit_exceeded"),
     ("fail-500", 500, None)],
)  # fmt: skip
def test_a_row_that_the_endpoint_refuses_has_a_response_and_no_error(
    sim, client, directive, status, code
):
    """The first shape of an error line: ``error`` is null, the response says why."""
    text = lines([chat_body(f"[[sim:{directive}]]"), chat_body("fine")])
    batch, outputs, errors = finish(sim, client, text)
    assert batch.status == "completed"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    assert [line["custom_id"] for line in outputs] == ["r1"]
    assert errors[0]["error"] is None
    assert errors[0]["response"]["status_code"] == status
    assert errors[0]["response"]["body"]["error"]["code"] == code
    assert [row["custom_id"] for row in sim.ledger()] == ["r1"]


@pytest.mark.parametrize(
    ("directive", "code"), [("expire", "batch_expired"), ("timeout", "request_timeout")]
)
def test_a_row_that_was_never_run_has_an_error_and_no_response(sim, client, directive, code):
    """The second shape of an error line: ``response`` is null; the row is not billed."""
    _, _, errors = finish(sim, client, lines([chat_body(f"[[sim:{directive}]]")]))
    assert errors[0]["response"] is None
    assert errors[0]["error"]["code"] == code
    assert sim.ledger() == []


def test_a_batch_whose_rows_all_failed_is_completed_without_output(sim, client):
    """``completed`` does not mean that there are answers."""
    batch, _, errors = finish(sim, client, lines([chat_body("[[sim:fail-400]]")] * 3))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert (batch.request_counts.failed, len(errors)) == (3, 3)


@pytest.mark.parametrize(
    ("directive", "finish_reason", "refused"),
    [("refuse", "stop", True), ("length", "length", False), ("filter", "content_filter", False)],
)
def test_answers_that_are_no_answers_are_billed(sim, client, directive, finish_reason, refused):
    """Refusals and cut-off answers are successful rows that cost money."""
    _, outputs, _ = finish(sim, client, lines([chat_body(f"[[sim:{directive}]]")]))
    choice = outputs[0]["response"]["body"]["choices"][0]
    assert choice["finish_reason"] == finish_reason
    assert (choice["message"]["refusal"] is not None) is refused
    assert (choice["message"]["content"] is None) is refused
    assert len(sim.ledger()) == 1


def test_missing_duplicate_and_broken_lines_are_billed_once(sim, client):
    """A lost row is in neither file, a doubled one is there twice, a broken one is no JSON."""
    names = ["missing", "duplicate", "badline"]
    text = lines([chat_body(f"[[sim:{name}]]") for name in names], ids=names)
    batch = submit(client, text)
    sim.advance(100)
    batch = client.batches.retrieve(batch.id)
    output = client.files.content(batch.output_file_id).text.splitlines()
    assert batch.error_file_id is None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    readable = []
    for line in output:
        try:
            readable.append(json.loads(line)["custom_id"])
        except ValueError:
            assert "badline" in line
    assert readable == ["duplicate", "duplicate"]
    assert len(output) == 3
    assert sorted(row["custom_id"] for row in sim.ledger()) == sorted(names)


def test_a_directive_with_a_count_wears_off(sim, client):
    """``x1`` fails the first run of a prompt, and the retry succeeds."""
    text = lines([chat_body("tell me [[sim:fail-500 x1]]")])
    assert finish(sim, client, text)[0].request_counts.failed == 1
    assert finish(sim, client, text)[0].request_counts.completed == 1


def test_rates_draw_failures_anew_for_a_retry(sim, client):
    """About the asked share of rows fails, the same in each simulator, others in a retry."""
    sim.behave(fail_rate=0.3, expire_rate=0.2)
    text = lines([chat_body(f"p{number}") for number in range(400)])
    _, _, errors = finish(sim, client, text)
    expired = {line["custom_id"] for line in errors if line["error"]}
    refused = {line["custom_id"] for line in errors if line["response"]}
    assert 90 < len(refused) < 150
    assert 50 < len(expired) < 110
    _, _, again = finish(sim, client, text)
    assert refused & {line["custom_id"] for line in again if line["response"]} != refused
    with (
        Simulator(keys=ANY, seconds=0, fail_rate=0.3, expire_rate=0.2) as other,
        connect(other) as sdk,
    ):
        _, _, same = finish(other, sdk, text)
    assert refused == {line["custom_id"] for line in same if line["response"]}


def test_an_unknown_model_fails_its_rows(sim, client):
    """Names that begin with ``unknown`` do not exist; any other name does."""
    body = {"messages": [{"role": "user", "content": "hi"}]}
    _, _, errors = finish(sim, client, lines([body | {"model": "unknown-1"}]))
    assert errors[0]["response"]["status_code"] == 404
    assert errors[0]["response"]["body"]["error"]["code"] == "model_not_found"
    _, outputs, _ = finish(sim, client, lines([body | {"model": "my-own-model"}]))
    assert outputs[0]["response"]["body"]["model"] == "my-own-model"


def test_a_row_with_a_bad_body_fails_alone(sim, client):
    """A body that the endpoint does not take is a failed row, not a failed batch."""
    bad = {"model": "gpt-5-mini", "messages": []}
    streaming = chat_body("x", stream=True)
    batch, _, errors = finish(sim, client, lines([bad, streaming, chat_body("good")]))
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 2)
    assert {line["response"]["status_code"] for line in errors} == {400}


# Answers


def test_answers_pick_an_option_that_the_prompt_offers(client):
    """A prompt that offers options gets one of them, by mood where they are moods."""

    def ask(text, system="You are terse."):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
        return answer.choices[0].message.content.split(" (simulated ")[0]

    question = "Is this review positive, negative or mixed? One word.\n\n"
    assert ask(question + "I love it, great value") == "positive"
    assert ask(question + "Terrible. It broke.") == "negative"
    assert ask(question + "Great screen, awful battery") == "mixed"
    assert ask("Does it rain in Spain? Answer yes or no.") in ("yes", "no")
    assert ask("Paris", system="Say city, country, or river.") in ("city", "country", "river")
    assert ask("Tell me a fact.").endswith(".")


def test_content_in_parts_counts_as_its_joined_text(client):
    """Text parts of one message are one prompt; images are part of it without text."""
    parts = [
        {"type": "text", "text": "one "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "text", "text": "two"},
    ]
    answer = client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": parts}]
    )
    assert f"{mark('one two')}; saw 1 image " in answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 85


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_cuts_the_answer(client, name):
    """A limit ends the answer with ``length`` and bounds what is billed; the mark stays."""
    answer = client.chat.completions.create(**chat_body("Tell me a fact."), **{name: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3
    assert mark("Tell me a fact.") in answer.choices[0].message.content


SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["positive", "negative", "mixed"]},
        "kind": {"const": "review"},
        "score": {"type": "integer", "minimum": 3, "maximum": 5},
        "even": {"type": "integer", "exclusiveMinimum": 6, "exclusiveMaximum": 9, "multipleOf": 8},
        "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "below": {"type": "number", "maximum": -5},
        "sure": {"type": "boolean"},
        "nothing": {"type": "null"},
        "note": {"type": ["string", "null"], "maxLength": 12},
        "long": {"type": "string", "minLength": 60},
        "when": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 3},
        "set": {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
        "pair": {
            "type": "array",
            "prefixItems": [{"type": "string"}, {"type": "integer"}],
            "items": False,
            "minItems": 2,
        },
        "either": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/person"}]},
        "merged": {"allOf": [{"$ref": "#/$defs/person"}, {"required": ["name"]}]},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "tree": {"$ref": "#/$defs/node"},
        "chain": {"$ref": "#/$defs/chain"},
    },
    "required": ["label", "kind", "score", "tree", "chain"],
    "additionalProperties": False,
    "$defs": {
        "person": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "node": {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["children"],
        },
        "chain": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/chain"}, {"type": "null"}]}},
            "required": ["next"],
        },
    },
}


def test_structured_answers_are_valid_for_their_schema(client):
    """A JSON schema is answered with valid JSON: the same for the same prompt, other for others."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    check = jsonschema.Draft202012Validator(
        SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    texts = []
    for prompt in ["I love it", "terrible", "third", "I love it"]:
        answer = client.chat.completions.create(**chat_body(prompt), response_format=form)
        texts.append(answer.choices[0].message.content)
        check.validate(json.loads(texts[-1]))
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3
    assert json.loads(texts[0])["label"] == "positive"
    assert json.loads(texts[1])["label"] == "negative"
    assert mark("I love it") in json.loads(texts[0])["long"]


def test_the_sdk_parses_structured_answers_of_both_endpoints(client):
    """The SDK's own pydantic parsing takes the answers of chat and of responses."""
    import pydantic

    class Review(pydantic.BaseModel):
        label: str
        stars: int = pydantic.Field(ge=1, le=5)
        topics: list[str]

    chat = client.chat.completions.parse(**chat_body("great"), response_format=Review)
    assert 1 <= chat.choices[0].message.parsed.stars <= 5
    answer = client.responses.parse(model="gpt-5-mini", input="great", text_format=Review)
    assert mark("great") in answer.output_parsed.label


def test_responses_answer_strings_and_messages(client):
    """The responses endpoint takes a string or messages, and says when it was cut off."""
    plain = client.responses.create(model="gpt-5-mini", input="hello", instructions="Be brief.")
    assert mark("hello") in plain.output_text
    assert (plain.status, plain.instructions) == ("completed", "Be brief.")
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "input_text", "text": "second"}]},
    ]
    assert mark("second") in client.responses.create(model="gpt-5-mini", input=messages).output_text
    cut = client.responses.create(model="gpt-5-mini", input="hello", max_output_tokens=2)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    refused = client.responses.create(model="gpt-5-mini", input="[[sim:refuse]]")
    assert refused.output[0].content[0].type == "refusal"


def test_responses_work_in_a_batch(sim, client):
    """A batch of responses has their bodies in its output."""
    body = {"model": "gpt-5-mini", "input": "hello"}
    _, outputs, _ = finish(sim, client, lines([body], RESPONSES), RESPONSES)
    response = openai.types.responses.Response.model_validate(outputs[0]["response"]["body"])
    assert mark("hello") in response.output_text
    assert sim.ledger()[0]["endpoint"] == RESPONSES


def test_embeddings_are_unit_vectors_and_similar_texts_are_near(client):
    """Vectors have length one, the asked size and both encodings; no two texts share one."""
    texts = ["the cat sat on the mat", "a cat sat on a mat", "quarterly tax filing rules"]
    made = client.embeddings.create(model="text-embedding-3-small", input=texts)
    vectors = [item.embedding for item in made.data]
    assert [len(vector) for vector in vectors] == [1536] * 3
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in vectors)

    def nearness(one, other):
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert nearness(vectors[0], vectors[1]) > nearness(vectors[0], vectors[2]) + 0.2
    assert vectors[0] != vectors[1]
    small = client.embeddings.create(
        model="text-embedding-3-large", input="x", dimensions=100, encoding_format="float"
    )
    assert len(small.data[0].embedding) == 100
    assert math.isclose(math.hypot(*small.data[0].embedding), 1, abs_tol=1e-5)


def test_embeddings_are_encoded_as_base64_on_request(sim, client):
    """In a batch, base64 holds the same little-endian floats as the list."""
    body = {"model": "text-embedding-3-small", "input": "x", "dimensions": 8}
    bodies = [body, body | {"encoding_format": "base64"}]
    _, outputs, _ = finish(sim, client, lines(bodies, EMBEDDINGS), EMBEDDINGS)
    by_id = {line["custom_id"]: line["response"]["body"]["data"][0] for line in outputs}
    floats = struct.unpack("<8f", base64.b64decode(by_id["r1"]["embedding"]))
    assert floats == pytest.approx(by_id["r0"]["embedding"])


def test_a_long_shared_prefix_is_cached_from_its_second_use(sim, client):
    """A prefix of 1,024 tokens is counted as cached when it was sent before."""
    system = {"role": "system", "content": "rules and more rules " * 300}
    for number in range(2):
        messages = [system, {"role": "user", "content": f"question {number}"}]
        client.chat.completions.create(model="gpt-5-mini", messages=messages)
    first, second = sim.ledger()
    assert first["cached_tokens"] == 0
    assert 1024 <= second["cached_tokens"] <= second["input_tokens"]


# Keys, files, lists


def test_only_dummy_keys_are_let_in(sim):
    """No key and a real key are 401s; the latter echoes a part of the key, as OpenAI does."""
    with pytest.raises(openai.AuthenticationError) as caught:
        connect(sim, "sk-abcdefghijklmnopqrstuvwxyz").models.list()
    assert "Incorrect API key provided: sk-ab***yz. You can find" in caught.value.body["message"]
    assert caught.value.code == "invalid_api_key"
    assert httpx2.get(f"{sim.openai_url}/models").status_code == 401


def test_each_key_has_its_own_objects(sim, client):
    """Another key sees neither files nor batches."""
    batch, _, _ = finish(sim, client, lines([chat_body("hello")]))
    stranger = connect(sim, "sim-other")
    assert stranger.batches.list().data == []
    assert stranger.files.list().data == []
    for call in (
        lambda: stranger.batches.retrieve(batch.id),
        lambda: stranger.batches.cancel(batch.id),
        lambda: stranger.files.content(batch.output_file_id),
        lambda: stranger.files.delete(batch.input_file_id),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    assert client.files.retrieve(batch.input_file_id).id == batch.input_file_id


def test_the_list_of_batches_comes_in_pages_newest_first(sim, client):
    """Pages hold 1 to 100 batches, 20 by default, and the SDK walks through them."""
    file = upload(client, lines([chat_body("hello")]))
    made = [
        client.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"n": str(n)}
        ).id
        for n in range(25)
    ]
    page = client.batches.list()
    assert [batch.id for batch in page.data] == made[:4:-1]
    assert page.has_more
    assert [batch.id for batch in client.batches.list(limit=7)] == made[::-1]
    raw = json.loads(client.batches.with_raw_response.list(limit=2).text)
    assert (raw["first_id"], raw["last_id"]) == (made[-1], made[-2])
    for limit in (0, 101):
        with pytest.raises(openai.BadRequestError):
            client.batches.list(limit=limit)


def test_the_list_of_files_can_be_filtered_and_turned(sim, client):
    """Files are listed newest first, by purpose if asked, and deleted ones are gone."""
    batch, _, _ = finish(sim, client, lines([chat_body("hello")]))
    assert [file.id for file in client.files.list()] == [batch.output_file_id, batch.input_file_id]
    assert client.files.list(order="asc").data[0].id == batch.input_file_id
    assert [file.purpose for file in client.files.list(purpose="batch_output")] == ["batch_output"]
    assert client.files.delete(batch.input_file_id).deleted
    assert [file.id for file in client.files.list()] == [batch.output_file_id]


def test_uploads_must_be_jsonl_and_may_expire(sim, client):
    """Another file type is refused, lines are not looked at, a term is kept."""
    with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
        client.files.create(file=("in.txt", b"{}"), purpose="batch")
    file = client.files.create(
        file=("in.jsonl", b"not json"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (file.status, file.bytes, file.filename) == ("processed", 8, "in.jsonl")
    assert file.expires_at == file.created_at + 3600
    assert upload(client, "x").expires_at - file.created_at in (2592000, 2592001)
    sim.behave(max_file_bytes=10)
    with pytest.raises(openai.APIStatusError) as caught:
        client.files.create(file=("in.jsonl", b"x" * 11), purpose="batch")
    assert caught.value.status_code == 413


@pytest.mark.parametrize("size", [0, 1, 1_048_570, 1_048_576, 3_000_001])
def test_a_file_comes_back_byte_for_byte(client, size):
    """Uploads survive chunk borders and content that looks like a form's own delimiters."""
    content = (b"\r\n--boundary\r\n\r\n--" * (size // 10 + 1))[:size]
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert file.bytes == size
    assert client.files.content(file.id).read() == content


def test_downloads_are_streamed_with_length_and_name(sim, client):
    """A download says how long it is and is named after its batch."""
    batch, _, _ = finish(sim, client, lines([chat_body("[[sim:fail-400]]"), chat_body("b")]))
    for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
        with client.files.with_streaming_response.content(file_id) as response:
            size = sum(len(chunk) for chunk in response.iter_bytes())
            assert int(response.headers["content-length"]) == size
            assert response.headers["content-type"] == "application/octet-stream"
            assert response.headers["content-disposition"] == (
                f'attachment; filename="{batch.id}_{kind}.jsonl"'
            )


def test_models_are_listed_and_any_name_exists(client):
    """A handful of models is listed; a name that begins with ``unknown`` does not exist."""
    assert "gpt-5-mini" in [model.id for model in client.models.list()]
    assert client.models.retrieve("some/model").id == "some/model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("unknown-x")
    assert caught.value.code == "model_not_found"


def test_real_time_calls_fail_on_request(client):
    """The directives for failures apply to calls that answer at once, too."""
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**chat_body("[[sim:fail-400]]"))
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**chat_body("[[sim:fail-429]]"))
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="gpt-5-mini", input="[[sim:fail-500 x1]]")
    assert client.responses.create(model="gpt-5-mini", input="[[sim:fail-500 x1]]").output_text


def test_an_address_that_does_not_exist_is_a_404_in_the_providers_words(sim, client):
    """Unknown paths and methods are answered as OpenAI does."""
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.audio.speech.create(input="x", model="tts-1", voice="alloy")
    assert httpx2.get(f"{sim.url}/elsewhere").status_code == 404


def test_a_page_that_calls_itself_another_host_is_refused(sim):
    """A name that only resolves to loopback is not let in."""
    key = {"authorization": f"Bearer {sim.key}"}
    answer = httpx2.get(f"{sim.url}/_sim/requests", headers=key | {"host": "evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("sign", [{"origin": "http://evil.example"}, {"origin": "null"},
                                  {"sec-fetch-site": "cross-site"}])  # fmt: skip
def test_a_web_page_is_refused(sim, sign):
    """What a browser sends for a page is refused, also with the key, and nothing is changed."""
    headers = {"authorization": f"Bearer {sim.key}", "content-type": "text/plain", **sign}
    for path in ("/_sim/reset", "/openai/v1/responses"):
        assert httpx2.post(f"{sim.url}{path}", headers=headers, content=b"{}").status_code == 403


def test_each_simulator_has_a_key_of_its_own(tmp_path):
    """Another's key opens neither the providers' endpoints nor the control API."""
    with Simulator(seconds=0, state=tmp_path) as sim, Simulator(seconds=0) as other:
        assert sim.key != other.key
        for key in ("", other.key, "sim-dummy-key"):
            with (
                openai.OpenAI(base_url=sim.openai_url, api_key=key or "none", max_retries=0) as sdk,
                pytest.raises(openai.AuthenticationError),
            ):
                sdk.models.list()
            for headers in ({"x-api-key": key}, {"x-goog-api-key": key}):
                for url in (f"{sim.anthropic_url}/v1/models", f"{sim.google_url}/v1/batches"):
                    assert httpx2.get(url, headers=headers).status_code in {400, 401, 403}
            control = {"authorization": f"Bearer {key}"} if key else {}
            assert httpx2.get(f"{sim.url}/_sim/requests", headers=control).status_code == 401
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        key = sim.key
    with Simulator(state=tmp_path) as again:
        assert again.key == key


def test_the_async_client_works_as_well(sim):
    """Twenty calls at once through the async SDK get their own answers each."""

    async def run():
        async with openai.AsyncOpenAI(base_url=sim.openai_url, api_key=DUMMY_KEY) as client:
            calls = [client.chat.completions.create(**chat_body(f"p{n}")) for n in range(20)]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]

    for number, content in enumerate(asyncio.run(run())):
        assert mark(f"p{number}") in content


# Ledger


def test_the_ledger_has_one_entry_per_executed_row(sim, client):
    """Entries name provider, model, row, batch, prompt, body and tokens."""
    body = chat_body("hello")
    batch, outputs, _ = finish(sim, client, lines([body]))
    client.chat.completions.create(**body)
    in_batch, at_once = sim.ledger()
    assert in_batch == {
        "provider": "openai",
        "endpoint": CHAT,
        "model": "gpt-5-mini",
        "custom_id": "r0",
        "batch_id": batch.id,
        "prompt_mark": mark("hello"),
        "body_sha": body_sha(body),
        "input_tokens": outputs[0]["response"]["body"]["usage"]["prompt_tokens"],
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": outputs[0]["response"]["body"]["usage"]["completion_tokens"],
        "mode": "batch",
        "at": in_batch["at"],
    }
    assert (at_once["mode"], at_once["custom_id"], at_once["batch_id"]) == ("realtime", None, None)
    assert at_once["body_sha"] == in_batch["body_sha"]


def test_the_summary_shows_what_was_bought_twice(sim, client):
    """Two batches with the same row show as two rows of one body."""
    text = lines([chat_body("hello"), chat_body("other")])
    finish(sim, client, text)
    finish(sim, client, lines([chat_body("hello")]))
    summary = sim.summary()
    assert (summary["rows"], summary["distinct_bodies"], summary["max_per_body"]) == (3, 2, 2)
    assert summary["duplicate_custom_ids"] == {"r0": 2}
    assert summary["input_tokens"] == sum(row["input_tokens"] for row in sim.ledger())


def test_the_ledger_counts_batches_that_nobody_looked_at(sim, client):
    """A batch that ends is billed whether or not its client still lives."""
    submit(client, lines([chat_body("hello")]))
    assert sim.ledger() == []
    sim.advance(100)
    assert len(sim.ledger()) == 1


def test_state_outlives_the_server(tmp_path):
    """A restarted simulator knows clock, files, batches (also running ones) and ledger."""
    text = lines([chat_body(f"p{n}") for n in range(10)] + [chat_body("[[sim:fail-400]]")])
    with Simulator(keys=ANY, seconds=100, state=tmp_path) as sim, connect(sim) as client:
        done, _, _ = finish(sim, client, text)
        running = submit(client, text)
        sim.advance(50)
        before = client.batches.retrieve(running.id)
        key_files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert all(DUMMY_KEY.encode() not in path.read_bytes() for path in key_files)
        assert [path.name for path in key_files if sim.key.encode() in path.read_bytes()] == ["key"]
    with Simulator(keys=ANY, seconds=1, state=tmp_path) as sim, connect(sim) as client:
        assert client.batches.retrieve(running.id).request_counts == before.request_counts
        assert len(read(client, done.output_file_id)) == 10
        sim.advance(50)
        after = client.batches.retrieve(running.id)
        assert (after.status, after.request_counts.completed) == ("completed", 10)
        assert {row["batch_id"] for row in sim.ledger()} == {done.id, running.id}
        assert [batch.id for batch in client.batches.list()] == [running.id, done.id]


def test_a_crash_between_bill_and_batch_bills_once(tmp_path):
    """A simulator that died between billing a batch and noting its end bills it once."""
    with Simulator(keys=ANY, seconds=100, state=tmp_path / "state") as sim, connect(sim) as client:
        batch = submit(client, lines([chat_body(f"p{n}") for n in range(10)]))
        sim.advance(50)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        shutil.copytree(tmp_path / "state" / "batches", tmp_path / "before")
        sim.advance(50)
        assert len(sim.ledger()) == 10
    shutil.rmtree(tmp_path / "state" / "batches")
    shutil.copytree(tmp_path / "before", tmp_path / "state" / "batches")
    with Simulator(keys=ANY, state=tmp_path / "state") as sim, connect(sim) as client:
        assert client.batches.retrieve(batch.id).status == "completed"
        assert len(sim.ledger()) == 10


def test_files_of_the_simulator_are_private(tmp_path):
    """Folders are 0700 and files 0600."""
    with Simulator(keys=ANY, seconds=0, state=tmp_path / "state") as own, connect(own) as sdk:
        finish(own, sdk, lines([chat_body("hello")]))
        modes = {
            (path.is_dir(), path.stat().st_mode & 0o777)
            for path in [tmp_path / "state", *(tmp_path / "state").rglob("*")]
        }
    assert modes == {(True, 0o700), (False, 0o600)}


def test_reset_forgets_everything(sim, client):
    """After a reset there is no batch, no file, no bill, and the first switches are back."""
    finish(sim, client, lines([chat_body("hello")]))
    sim.behave(seconds=5, fail_rate=1)
    sim.reset()
    assert (client.batches.list().data, client.files.list().data, sim.ledger()) == ([], [], [])
    assert client.chat.completions.create(**chat_body("fine")).choices


def test_many_rows_with_large_texts_pass(sim, client):
    """A batch of thousands of rows ends with an answer to each, and others are served meanwhile."""
    text = lines([chat_body(f"{number} " + "text " * 200) for number in range(3000)])
    batch, outputs, _ = finish(sim, client, text)
    assert batch.request_counts.completed == 3000
    assert len({line["custom_id"] for line in outputs}) == 3000
    assert sim.summary()["max_per_body"] == 1


# Recordings


def recording(name):
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"no recording {path}")
    return json.loads(path.read_text())


def test_batches_and_files_have_the_fields_of_the_recording(sim, client):
    """Fields, their order, nulls and kinds are those of the newest recording."""
    upload_, create, *polls, content = recording("rubyllm_embeddings_complete.json")
    bodies = [
        {"model": "text-embedding-3-small", "input": "Ruby is a programmer best friend"},
        {"model": "text-embedding-3-small", "input": "Batches come back", "dimensions": 256},
    ]
    sent = ("in.jsonl", lines(bodies, EMBEDDINGS).encode())
    file = json.loads(client.files.with_raw_response.create(file=sent, purpose="batch").text)
    assert same_order(file, upload_["response"]["body"])
    answer = client.batches.with_raw_response.create(
        input_file_id=file["id"], endpoint=EMBEDDINGS, completion_window="24h"
    )
    made = json.loads(answer.text)
    assert same_order(made, create["response"]["body"])
    sim.advance(100)
    answer = client.batches.with_raw_response.retrieve(made["id"])
    done, real = json.loads(answer.text), polls[-1]["response"]["body"]
    assert same_order(done, real)
    assert set(polls[-1]["response"]["headers"]) <= set(answer.headers)
    for made_up, recorded in ((done, real),):
        assert re.sub("[0-9a-f]", "0", made_up["id"]) == re.sub("[0-9a-f]", "0", recorded["id"])
        assert len(made_up["output_file_id"]) == len(recorded["output_file_id"])
    raw = client.files.content(done["output_file_id"]).text.splitlines()
    ours = sorted((json.loads(line) for line in raw), key=lambda line: line["custom_id"])
    theirs = [json.loads(line) for line in content["response"]["body"].splitlines()]
    assert [same_order(one, other) for one, other in zip(ours, theirs, strict=True)] == [True, True]
    assert raw[0].startswith('{"id": "batch_req_')


def test_chat_lines_have_the_fields_of_the_recording(sim, client):
    """Output lines of chat completions have the recorded fields, but for the fingerprint."""
    recorded = recording("curator_basic_batch_completion.json")[-1]["response"]["body"]
    theirs = json.loads(recorded.splitlines()[0])
    _, ours, _ = finish(sim, client, lines([chat_body("Spagetti")]))
    assert ours[0]["response"]["body"].pop("system_fingerprint") == "simulated"
    assert theirs["response"]["body"].pop("system_fingerprint") is None
    assert same_order(ours[0], theirs)
    assert len(ours[0]["response"]["body"]["id"]) == len(theirs["response"]["body"]["id"])


def test_cancelling_has_the_fields_of_the_recording(sim, client):
    """A batch cancelled while validating looks as it did then, and has the newer fields."""
    theirs = recording("curator_batch_cancel.json")[-1]["response"]["body"]
    batch = submit(client, lines([chat_body("x")]), metadata={"request_file": "r.jsonl"})
    ours = json.loads(client.batches.with_raw_response.cancel(batch.id).text)
    del ours["model"], ours["usage"]
    assert same_order(ours, theirs)


def same_order(ours, theirs):
    """Compare two JSON values by keys in their order and kinds of values."""
    assert json.dumps(shape(ours)) == json.dumps(shape(theirs))
    return True
