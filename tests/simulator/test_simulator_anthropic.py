"""Anthropic's simulated endpoints, asked by the real SDK and by plain HTTP."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

import anthropic
import httpx2
import pytest
from support import ANY, DUMMY_KEY, mark

from jupyter_llm_batch.simulator import Simulator

MODEL = "claude-haiku-4-5"
BATCHES = "/anthropic/v1/messages/batches"
DAY = 86_400


@pytest.fixture
def sim():
    """A simulator whose batches are done at the first poll."""
    with Simulator(keys=ANY, seconds=0) as simulator:
        yield simulator


@pytest.fixture
def client(sim):
    """The real SDK, without retries."""
    with anthropic.Anthropic(
        api_key=DUMMY_KEY, base_url=sim.anthropic_url, max_retries=0
    ) as client:
        yield client


def params(prompt="hello", **more):
    body = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    return {**body, **more}


def requests(*bodies):
    return [{"custom_id": f"r-{n}", "params": body} for n, body in enumerate(bodies)]


def http(sim, method, path, *, body=None, key=True, version="2026-10-21", **headers):
    """Send one plain request."""
    given = {"x-api-key": DUMMY_KEY} if key else {}
    given |= {"anthropic-version": version} if version else {}
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return httpx2.request(method, sim.url + path, content=content, headers=given | headers)


def results(client, batch_id):
    """Return the results of an ended batch by custom_id, as the SDK reads them."""
    return {line.custom_id: line.result for line in client.messages.batches.results(batch_id)}


def finish(client, *bodies):
    """Create a batch, which ends at once, and return it with its results."""
    made = client.messages.batches.create(requests=requests(*bodies))
    return client.messages.batches.retrieve(made.id), results(client, made.id)


# -- the life of a batch -----------------------------------------------------------------------


def test_a_batch_is_answered_in_another_order(client):
    """Each line is bound to its request by its id alone."""
    prompts = [f"prompt {n}" for n in range(30)]
    made = client.messages.batches.create(requests=requests(*map(params, prompts)))
    assert made.processing_status == "in_progress"
    ended = client.messages.batches.retrieve(made.id)
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.processing) == (30, 0)
    found = results(client, made.id)
    assert list(found) != [f"r-{n}" for n in range(30)]
    for number, prompt in enumerate(prompts):
        message = found[f"r-{number}"].message
        assert mark(prompt) in message.content[0].text
        assert message.usage.service_tier == "batch"
        assert message.model == "claude-haiku-4-5-20251001"


def test_nothing_is_counted_before_the_end(sim, client):
    """All rows are processing until the batch ends, and each poll asks for a pause."""
    sim.behave(seconds=1000)
    made = client.messages.batches.create(requests=requests(params(), params("b")))
    sim.advance(500)
    answer = client.messages.batches.with_raw_response.retrieve(made.id)
    assert answer.headers["retry-after"] == "10"
    assert answer.parse().request_counts.to_dict() == {
        "processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0,
    }  # fmt: skip
    assert answer.parse().results_url is None
    with pytest.raises(anthropic.NotFoundError):
        client.get(f"/v1/messages/batches/{made.id}/results", cast_to=httpx2.Response)
    sim.advance(500)
    ended = client.messages.batches.with_raw_response.retrieve(made.id)
    assert "retry-after" not in ended.headers
    assert ended.parse().request_counts.succeeded == 2


@pytest.mark.parametrize(("seconds", "most", "expected"), [(3, 10, "3"), (100, 0, None)])
def test_the_pause_is_a_switch(seconds, most, expected):
    """A short life is not waited for in vain, and no pause may be asked for at all."""
    with Simulator(keys=ANY, seconds=seconds, anthropic_retry_after=most) as sim:
        made = http(sim, "POST", BATCHES, body={"requests": requests(params())}).json()
        polled = http(sim, "GET", f"{BATCHES}/{made['id']}")
        assert polled.headers.get("retry-after") == expected


def test_results_come_from_our_own_origin_as_a_named_file(sim, client):
    """The address is absolute; type and name are those that were recorded."""
    ended, _ = finish(client, params())
    assert ended.results_url == f"{sim.url}{BATCHES}/{ended.id}/results"
    answer = http(sim, "GET", f"{BATCHES}/{ended.id}/results")
    assert answer.headers["content-type"] == "application/x-jsonl"
    name = f"attachment; filename*=utf-8''{ended.id}_results.jsonl"
    assert answer.headers["content-disposition"] == name


def test_rows_end_in_every_way(client):
    """Errors lie two levels deep; rows that did not run cost nothing."""
    ends = ["ok", "[[sim:fail-400]]", "[[sim:fail-429]]", "[[sim:fail-500]]", "[[sim:timeout]]",
            "[[sim:expire]]", "[[sim:refuse]]", "[[sim:length]]", "[[sim:missing]]"]  # fmt: skip
    ended, found = finish(client, *(params(f"x {end}") for end in ends))
    types = [found[f"r-{n}"].type if f"r-{n}" in found else None for n in range(len(ends))]
    assert types == ["succeeded", *["errored"] * 4, "expired", "succeeded", "succeeded", None]
    kinds = [found[f"r-{n}"].error.error.type for n in range(1, 5)]
    assert kinds == ["invalid_request_error", "rate_limit_error", "api_error", "timeout_error"]
    assert found["r-1"].error.type == "error"
    reasons = [found[f"r-{n}"].message.stop_reason for n in (0, 6, 7)]
    assert reasons == ["end_turn", "refusal", "max_tokens"]
    counts = ended.request_counts
    assert (counts.succeeded, counts.errored, counts.expired) == (4, 4, 1)


def test_a_cancel_ends_rows_as_canceled_even_before_any_ran(sim, client):
    """The answers that were reached stay; all other rows are listed too."""
    sim.behave(seconds=1000)
    early = client.messages.batches.create(requests=requests(*map(params, "abcd")))
    late = client.messages.batches.create(requests=requests(*map(params, "abcd")))
    assert client.messages.batches.cancel(early.id).processing_status == "canceling"
    sim.advance(500)
    canceling = client.messages.batches.cancel(late.id)
    assert canceling.cancel_initiated_at is not None
    assert canceling.request_counts.processing == 4
    sim.advance(1000)
    for batch, done in ((early, 0), (late, 2)):
        counts = client.messages.batches.retrieve(batch.id).request_counts
        assert (counts.succeeded, counts.canceled) == (done, 4 - done)
        types = sorted(result.type for result in results(client, batch.id).values())
        assert types == ["canceled"] * (4 - done) + ["succeeded"] * done
    assert len(sim.ledger()) == 2
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.cancel(late.id)


def test_rows_that_a_day_did_not_suffice_for_are_expired(sim, client):
    """A stuck batch ends after 24 hours."""
    sim.behave(seconds=1000, stuck=True)
    made = client.messages.batches.create(requests=requests(params(), params("b")))
    sim.advance(DAY + 1)
    assert client.messages.batches.retrieve(made.id).request_counts.expired == 2
    assert {result.type for result in results(client, made.id).values()} == {"expired"}
    assert sim.ledger() == []


def test_results_are_kept_for_29_days_from_the_creation(sim, client):
    """Then the batch is archived: it is still there, its results are not."""
    ended, _ = finish(client, params())
    sim.advance(29 * DAY)
    archived = client.messages.batches.retrieve(ended.id)
    assert archived.archived_at is not None
    assert archived.results_url is None
    assert http(sim, "GET", f"{BATCHES}/{ended.id}/results").status_code == 404


def test_only_an_ended_batch_can_be_deleted(sim, client):
    """A deleted batch is gone with its results."""
    sim.behave(seconds=1000)
    made = client.messages.batches.create(requests=requests(params()))
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.delete(made.id)
    sim.advance(1000)
    assert client.messages.batches.delete(made.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(made.id)


def test_listings_are_paged_in_both_directions(sim, client):
    """Newest first, by the id after or before which the page lies."""
    ids = [client.messages.batches.create(requests=requests(params())).id for _ in range(5)]
    newest = ids[::-1]
    first = client.messages.batches.list(limit=2)
    assert [batch.id for batch in first.data] == newest[:2]
    assert (first.has_more, first.first_id, first.last_id) == (True, newest[0], newest[1])
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == newest
    before = client.messages.batches.list(before_id=newest[3], limit=2)
    assert [batch.id for batch in before.data] == newest[1:3]
    for limit in (0, 1001):
        assert http(sim, "GET", f"{BATCHES}?limit={limit}").status_code == 400


def test_a_batch_outlives_the_server(tmp_path):
    """A restarted simulator goes on where it was."""
    with Simulator(keys=ANY, seconds=0, state=tmp_path) as sim:
        made = http(sim, "POST", BATCHES, body={"requests": requests(params())}).json()
    with Simulator(keys=ANY, seconds=0, state=tmp_path) as sim:
        ended = http(sim, "GET", f"{BATCHES}/{made['id']}").json()
        assert ended["request_counts"]["succeeded"] == 1
        assert mark("hello") in http(sim, "GET", f"{BATCHES}/{made['id']}/results").text


# -- what is refused ---------------------------------------------------------------------------


def test_both_kinds_of_key_header_are_taken_and_others_are_not(sim):
    """A bearer key and an ``x-api-key`` are the same account; a real key is never let in."""
    made = http(sim, "POST", BATCHES, body={"requests": requests(params())}).json()
    bearer = {"Authorization": f"Bearer {DUMMY_KEY}"}
    assert http(sim, "GET", f"{BATCHES}/{made['id']}", key=False, **bearer).status_code == 200
    other = {"x-api-key": "sim-other"}
    assert http(sim, "GET", f"{BATCHES}/{made['id']}", key=False, **other).status_code == 404
    for headers in ({}, {"x-api-key": "sk-ant-real"}):
        answer = http(sim, "GET", BATCHES, key=False, **headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize("version", [None, "2020-01-01"])
def test_a_version_must_be_named(sim, version):
    """Requests without a known version are refused."""
    assert http(sim, "GET", BATCHES, version=version).status_code == 400


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sampling_parameters_went_with_the_new_version(sim, client, name):
    """At once they are a 400, in a batch an errored row; the old version takes them."""
    body = params(**{name: 1})
    assert http(sim, "POST", "/anthropic/v1/messages", body=body).status_code == 400
    _, found = finish(client, body, params())
    assert found["r-0"].error.error.type == "invalid_request_error"
    assert found["r-1"].type == "succeeded"
    old = http(sim, "POST", "/anthropic/v1/messages", body=body, version="2023-06-01")
    assert old.status_code == 200
    made = http(
        sim, "POST", BATCHES, body={"requests": requests(body)}, version="2023-06-01"
    ).json()
    assert results(client, made["id"])["r-0"].type == "succeeded"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        {},
        {"requests": []},
        {"requests": [{"custom_id": "a"}]},
        {"requests": [{"custom_id": "a b", "params": params()}]},
        {"requests": [{"custom_id": "x" * 65, "params": params()}]},
        {"requests": [{"custom_id": "", "params": params()}]},
        {"requests": [{"custom_id": "a", "params": params()}] * 2},
    ],
)
def test_one_bad_id_refuses_the_whole_create(sim, body):
    """Nothing is created, and nothing is left on the disk."""
    answer = http(sim, "POST", BATCHES, body=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert http(sim, "GET", BATCHES).json()["data"] == []


def test_too_many_rows_are_refused(sim):
    """The limit of a batch is a switch."""
    sim.behave(max_rows=1)
    body = {"requests": requests(params(), params("b"))}
    assert http(sim, "POST", BATCHES, body=body).status_code == 400


def test_a_batch_that_was_told_to_fail_is_refused_at_once(sim):
    """There is no batch that fails as a whole after it was created."""
    sim.behave(next_outcome="failed:anything")
    body = {"requests": requests(params())}
    assert http(sim, "POST", BATCHES, body=body).status_code == 400
    assert http(sim, "POST", BATCHES, body=body).status_code == 200


def test_a_body_in_many_lines_is_taken(sim, client):
    """How the JSON is laid out does not matter."""
    body = json.dumps({"requests": requests(params("a\nb"), params("c"))}, indent=2).encode()
    made = http(sim, "POST", BATCHES, body=body).json()
    assert mark("a\nb") in results(client, made["id"])["r-0"].message.content[0].text


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"max_tokens": None}, "invalid_request_error"),
        ({"messages": []}, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": ""}]}, "invalid_request_error"),
        ({"messages": [{"role": "system", "content": "s"}]}, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "invalid_request_error"),
        ({"stream": True}, "invalid_request_error"),
        ({"model": "unknown-model"}, "not_found_error"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "invalid_request_error",
        ),
    ],
)
def test_params_are_looked_at_after_the_batch_is_accepted(client, more, kind):
    """A row that the endpoint refuses is errored at the end and costs nothing."""
    body = {key: value for key, value in params(**more).items() if value is not None}
    _, found = finish(client, body, params())
    assert found["r-0"].error.error.type == kind
    assert found["r-1"].type == "succeeded"


# -- answers -----------------------------------------------------------------------------------


def test_a_schema_is_followed(client):
    """The answer is an object of the schema's form."""
    schema = {
        "type": "object",
        "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}},
        "required": ["mood"],
        "additionalProperties": False,
    }
    body = params(output_config={"format": {"type": "json_schema", "schema": schema}})
    _, found = finish(client, body)
    assert json.loads(found["r-0"].message.content[0].text)["mood"] in {"good", "bad"}


def test_a_bound_cuts_the_answer(client):
    """No more tokens come back than were allowed."""
    _, found = finish(client, params("hello", max_tokens=3))
    message = found["r-0"].message
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_a_marked_prefix_is_read_by_later_batches(sim, client, ttl):
    """The rows of one batch run side by side and each write; what a batch wrote later ones read."""
    hint = {"type": "ephemeral", "ttl": ttl}
    system = [{"type": "text", "text": "x" * 8000, "cache_control": hint}]
    for written, read in ((2000, 0), (0, 2000)):
        _, found = finish(client, *(params(p, system=system) for p in "abc"))
        for result in found.values():
            usage = result.message.usage
            assert usage.cache_creation_input_tokens == written
            assert usage.cache_read_input_tokens == read
            assert usage.input_tokens < 100
            hour = usage.cache_creation.ephemeral_1h_input_tokens
            assert hour == (written if ttl == "1h" else 0)
    entries = sim.ledger()
    assert sum(entry["cache_write_tokens"] for entry in entries) == 6000
    assert sum(entry["cached_tokens"] for entry in entries) == 6000
    assert all(entry["input_tokens"] > 2000 for entry in entries)


def test_a_short_prefix_and_an_unmarked_one_are_not_kept(client):
    """Only what is marked and long enough goes into the cache."""
    mark_ = {"type": "ephemeral"}
    short = [{"type": "text", "text": "x" * 400, "cache_control": mark_}]
    for system in (short, "x" * 8000):
        _, found = finish(client, *(params(p, system=system) for p in "ab"))
        for result in found.values():
            assert result.message.usage.cache_creation_input_tokens == 0
            assert result.message.usage.cache_read_input_tokens == 0


def test_messages_are_answered_at_once_too(sim, client):
    """The same answer, another tier, and an entry in the ledger of its own mode."""
    message = client.messages.create(**params("now"))
    assert mark("now") in message.content[0].text
    assert message.usage.service_tier == "standard"
    (entry,) = sim.ledger()
    assert (entry["mode"], entry["provider"], entry["batch_id"]) == ("realtime", "anthropic", None)
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**params("[[sim:fail-429]]"))
    assert len(sim.ledger()) == 1


def test_tokens_are_counted_as_they_are_billed(sim, client):
    """The count is the input of the answer, and it is free."""
    asked = {"model": MODEL, "messages": params("some words")["messages"]}
    counted = client.messages.count_tokens(**asked).input_tokens
    assert sim.ledger() == []
    assert client.messages.create(**params("some words")).usage.input_tokens == counted


def test_models_say_that_they_take_batches(client):
    """Some are listed, any is known unless its name says otherwise."""
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve("claude-new-9").capabilities.batch.supported
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("unknown-model")


def test_replies_carry_a_request_id_and_the_simulated_time(sim):
    """The date is that of the clock that can be put forward."""
    sim.advance(40 * DAY)
    answer = http(sim, "GET", BATCHES)
    assert answer.headers["request-id"].startswith("req_")
    made = http(sim, "POST", BATCHES, body={"requests": requests(params())})
    month = made.json()["created_at"][:7]
    assert parsedate_to_datetime(answer.headers["date"]).isoformat()[:7] == month
