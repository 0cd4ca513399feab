"""Submit to answers on Gemini: what must hold for money, over real HTTP against the simulator."""

from __future__ import annotations

import json
import time

import pytest
from support import mark, until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.errors import UsageProblem

MODEL = "google:gemini-2.5-flash"
CREATE = "*:batchGenerateContent"
#: More rows than go inline.
MANY = 5_001


def submit(client, over, name="x", **options):
    return client.submit(name=name, over=over, model=MODEL, **options)


def run(client, over, name="x", **options):
    return submit(client, over, name, **options).wait(60)


def billed(sim):
    """Return how often each request was billed."""
    counts = {}
    for entry in sim.ledger():
        counts[entry["body_sha"]] = counts.get(entry["body_sha"], 0) + 1
    return counts


def asked(sim, method, end):
    return [r for r in sim.requests() if r["method"] == method and r["path"].endswith(end)]


def events(client, handle):
    return [event["event"] for event in client.store.events.of_batch(handle.id)]


def pass_time(handle, sim, seconds=5):
    """Let simulated time pass until the batch is over."""
    end = time.monotonic() + 30
    while not handle.done and time.monotonic() < end:
        sim.advance(seconds)
        time.sleep(0.05)
    assert handle.done


@pytest.mark.parametrize("rows", [30, MANY], ids=["inline", "file"])
def test_each_answer_stands_where_its_prompt_stood(client, sim, rows):
    """Small jobs carry their requests, large ones a file; every row is billed once."""
    prompts = [f"prompt {i}" for i in range(rows)]
    answers = run(client, prompts).answers()
    assert all(mark(p) in a for p, a in zip(prompts, answers, strict=True))
    assert len(asked(sim, "POST", "/upload/v1/files")) == (rows == MANY)
    assert len(asked(sim, "GET", ":download")) == (rows == MANY)
    assert set(billed(sim).values()) == {1}


def test_answers_are_bound_by_their_key_and_not_by_their_place(make_client, sim):
    """A job whose inline answers come back in another order gives the same rows."""
    sim.behave(seconds=30)
    client = make_client()
    prompts = [f"prompt {i}" for i in range(20)]
    handle = submit(client, prompts)
    until(lambda: "accepted" in events(client, handle))
    (job,) = client.store.jobs(handle.id)
    client.close()  # or it might have looked before the answer below is set
    sim.advance(60)
    told = json.loads(_get(sim, job.remote_id))
    for place in (told["metadata"]["output"], told["response"]):
        place["inlinedResponses"]["inlinedResponses"].reverse()
    path = f"/google/v1/{job.remote_id}"
    sim.fault(method="GET", path=path, action="status", status=200, body=told, times=1000)
    (handle,) = make_client().resume()
    handle.wait(60)
    assert sim.faults()[0]["met"] > 1
    assert all(mark(p) in a for p, a in zip(prompts, handle.answers(), strict=True))


def _get(sim, name):
    import urllib.request

    request = urllib.request.Request(
        f"{sim.google_url}/v1/{name}", headers={"x-goog-api-key": sim.key}
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def test_every_row_ends_as_exactly_one_outcome(client, sim):
    """ok, failed, refused, cancelled by the provider, missing: their sum is what was sent."""
    prompts = [
        "fine", "a [[sim:fail-400]]", "b [[sim:refuse]]", "c [[sim:expire]]", "d [[sim:missing]]",
        "e [[sim:fail-500]]", "f [[sim:length]]", "g [[sim:duplicate]]", "h [[sim:filter]]",
        "i [[sim:badline]]", "j [[sim:timeout]]",
    ]  # fmt: skip
    handle = run(client, prompts, retry=0)
    assert [result.outcome for result in handle.results()] == [
        Outcome.OK, Outcome.FAILED, Outcome.REFUSED, Outcome.CANCELLED, Outcome.MISSING,
        Outcome.FAILED, Outcome.OK, Outcome.OK, Outcome.REFUSED, Outcome.FAILED, Outcome.FAILED,
    ]  # fmt: skip
    snapshot = handle.snapshot()
    assert (snapshot.ok, snapshot.failed, snapshot.waiting) == (3, 8, 0)
    assert set(billed(sim).values()) == {1}


def test_rows_that_google_cancelled_are_sent_again(client, sim):
    """Code 1, 4 and 13 cost nothing and pass; what may have been billed is left alone."""
    prompts = ["a [[sim:expire x1]]", "b [[sim:fail-500 x1]]", "c [[sim:timeout x1]]",
               "d [[sim:fail-400 x1]]", "e [[sim:missing x1]]", "f"]  # fmt: skip
    handle = run(client, prompts)
    ok, failed, missing = Outcome.OK, Outcome.FAILED, Outcome.MISSING
    assert [result.outcome for result in handle.results()] == [ok, ok, ok, failed, missing, ok]
    assert [(job.round, job.rows) for job in client.store.jobs(handle.id)] == [(0, 6), (1, 3)]
    assert set(billed(sim).values()) == {1}


def test_a_partially_succeeded_job_is_collected(client, sim):
    """Its rows are what they are."""
    sim.behave(partial_state=True)
    handle = run(client, ["a", "b [[sim:fail-400]]"], retry=0)
    assert [result.outcome for result in handle.results()] == [Outcome.OK, Outcome.FAILED]


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "accept_then_status", "status": 500},
        {"action": "accept_then_status", "status": 503},
        {"action": "accept_then_drop"},
        {"action": "truncate"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
@pytest.mark.parametrize("rows", [2, MANY], ids=["inline", "file"])
def test_a_create_with_unknown_outcome_is_looked_up(client, sim, fault, rows):
    """Accepted but not answered: found by its display name, never sent again."""
    sim.fault(method="POST", path=CREATE, times=1, **fault)
    handle = run(client, [f"p{i}" for i in range(rows)])
    assert events(client, handle)[2:5] == ["intent", "lost", "found"]
    assert set(billed(sim).values()) == {1}
    assert len(asked(sim, "POST", ":batchGenerateContent")) == 1


def test_a_create_that_never_arrived_is_sent_again_after_settling(client, sim):
    """A lost request is repeated only after the listing had time to show it."""
    sim.fault(method="POST", path=CREATE, times=1, action="drop")
    handle = run(client, ["a"])
    seen = events(client, handle)[2:8]
    assert seen == ["intent", "lost", "absent", "uploaded", "intent", "accepted"]
    assert list(billed(sim).values()) == [1]


def test_a_kernel_killed_while_it_creates_leaves_one_job(make_client, sim):
    """The next one finds what the first one sent, by its label."""
    sim.behave(seconds=30)
    sim.fault(method="POST", path=CREATE, times=1, action="accept_then_freeze")
    client = make_client()
    handle = submit(client, ["a", "b"])
    until(lambda: "intent" in events(client, handle) and asked(sim, "POST", "Content"))
    client.close()
    sim.clear_faults()
    again = make_client()
    there = again.resume()[0]
    until(lambda: "found" in events(again, there))
    pass_time(there, sim)
    assert all(mark(p) in a for p, a in zip("ab", there.answers(), strict=True))
    assert set(billed(sim).values()) == {1}
    assert len(asked(sim, "POST", ":batchGenerateContent")) == 1


def test_a_busy_provider_is_asked_again(client, sim):
    """A 429 proves that nothing was created."""
    sim.fault(method="POST", path=CREATE, times=2, action="status", status=429)
    handle = run(client, ["a"])
    assert events(client, handle).count("not-created") == 2
    assert list(billed(sim).values()) == [1]


def test_an_upload_that_is_gone_is_repeated(client, sim):
    """Google keeps files two days and tells of missing ones by a 403; nothing was created."""
    told = {"error": {"code": 403, "message": "No permission, or it may not exist."}}
    sim.fault(method="POST", path=CREATE, times=1, action="status", status=403, body=told)
    handle = run(client, [f"p{i}" for i in range(MANY)])
    assert {result.outcome for result in handle.results()} == {Outcome.OK}
    assert len(asked(sim, "POST", "/upload/v1/files")) == 2
    assert set(billed(sim).values()) == {1}


def test_a_full_queue_is_waited_for(client, sim):
    """A job that failed for lack of quota is sent again later."""
    sim.behave(next_outcome="failed:RESOURCE_EXHAUSTED")
    handle = run(client, ["a"])
    assert "no-room" in events(client, handle)
    assert list(billed(sim).values()) == [1]


def test_a_failed_job_ends_with_googles_reason(client, sim):
    """Every row has failed, unbilled, and says why."""
    sim.behave(next_outcome="failed:INTERNAL")
    handle = run(client, ["a", "b"])
    assert [result.outcome for result in handle.results()] == [Outcome.FAILED] * 2
    assert "INTERNAL" in handle.results()[0].error
    assert sim.ledger() == []


def test_an_unknown_model_fails_with_one_line(client, sim):
    """A refused create is the last word, and nothing was bought."""
    handle = client.submit(name="x", over=["a"], model="google:unknown-1").wait(60)
    assert handle.results()[0].outcome is Outcome.FAILED
    assert "'unknown-1'" in handle.results()[0].error
    assert "GOOGLE_GENAI_API_VERSION" in handle.results()[0].error
    assert sim.ledger() == []


def test_an_expired_job_is_sent_again(client, sim):
    """It has no results and cost nothing; the next round brings the answers."""
    sim.behave(next_outcome="expired:0.5")
    handle = run(client, ["a", "b", "c", "d"])
    assert [result.outcome for result in handle.results()] == [Outcome.OK] * 4
    assert [(job.round, job.rows) for job in client.store.jobs(handle.id)] == [(0, 4), (1, 4)]
    assert set(billed(sim).values()) == {1}


def test_an_expired_job_without_retries_is_expired(client, sim):
    """Not missing: missing rows may have been billed."""
    sim.behave(next_outcome="expired")
    handle = run(client, ["a", "b"], retry=0)
    assert [result.outcome for result in handle.results()] == [Outcome.EXPIRED] * 2


@pytest.mark.parametrize("rows", [40, MANY], ids=["inline", "file"])
def test_cancel_keeps_what_is_done(make_client, sim, rows):
    """A cancelled batch is collected; rows that did not run are cancelled and not billed."""
    sim.behave(seconds=30)
    client = make_client()
    handle = submit(client, [f"p{i}" for i in range(rows)])
    until(lambda: "accepted" in events(client, handle))
    sim.advance(12)
    handle.cancel()
    pass_time(handle, sim)
    outcomes = [result.outcome for result in handle.results()]
    done = outcomes.count(Outcome.OK)
    assert 0 < done < rows
    assert set(outcomes) == {Outcome.OK, Outcome.CANCELLED}
    assert len(sim.ledger()) == done
    assert handle.record.round == 0


def test_a_new_client_goes_on(make_client, sim):
    """What was unfinished is finished by the next kernel."""
    sim.behave(seconds=30)
    client = make_client()
    submit(client, ["a", "b"])
    client.close()
    again = make_client()
    handle = again.resume()[0]
    pass_time(handle, sim)
    assert mark("b") in handle.answers()[1]
    assert set(billed(sim).values()) == {1}


def test_several_jobs_are_collected_though_listings_hold_no_answers(make_client, sim):
    """Jobs that end between two listings are fetched one by one."""
    sim.behave(seconds=2)
    client = make_client()
    handles = [submit(client, [f"p{i}"], name=f"b{i}") for i in range(5)]
    for number, handle in enumerate(handles):
        assert mark(f"p{number}") in handle.wait(60).answers()[0]
    assert asked(sim, "GET", "/batches")
    assert set(billed(sim).values()) == {1}


@pytest.mark.parametrize("rows", [30, MANY], ids=["inline", "file"])
def test_passing_faults_lose_nothing(client, sim, rows):
    """Errors of uploads, polls and torn downloads are waited out."""
    sim.fault(method="POST", path="*/upload/*", action="status", status=500)
    sim.fault(method="GET", path="*/batches/*", times=2, action="status", status=503)
    sim.fault(method="GET", path="*/batches/*", times=2, action="truncate")
    sim.fault(method="GET", path="*:download", times=1, action="truncate")
    sim.fault(method="GET", path="*:download", times=1, action="truncate", shorten_length=True)
    handle = run(client, [f"p{i}" for i in range(rows)])
    assert {result.outcome for result in handle.results()} == {Outcome.OK}
    assert set(billed(sim).values()) == {1}
    met = [fault for fault in sim.faults() if "batches" in fault["path"] or rows == MANY]
    assert all(fault["met"] == fault["times"] for fault in met)


def test_embeddings_come_back_as_vectors(client, sim):
    """`embed` starts the other kind of batch; the vectors are of the asked length."""
    handle = client.submit(
        name="e", over=["a", "b"], model="google:gemini-embedding-001", embed=True,
        params={"output_dimensionality": 16},
    ).wait(60)  # fmt: skip
    vectors = handle.answers()
    assert [len(vector) for vector in vectors] == [16, 16]
    assert list(vectors[0]) != list(vectors[1])
    assert len(asked(sim, "POST", ":asyncBatchEmbedContent")) == 1


def test_messages_raw_bodies_and_options_reach_the_wire(client):
    """The request lines on the disk are what was meant."""
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]
    assert mark("hello") in run(client, [messages], name="m").answers()[0]
    body = {"contents": [{"parts": [{"text": "raw one"}]}]}
    assert mark("raw one") in run(client, [body], name="r", raw=True).answers()[0]
    options = {"system": "Be brief", "max_tokens": 50, "params": {"top_p": 0.5}}
    handle = run(client, ["p"], name="o", **options)
    line = (client.store.folder_of(handle.id) / "r0-j1.jsonl").read_text()
    request = json.loads(line)["request"]
    assert request["systemInstruction"] == {"parts": [{"text": "Be brief"}]}
    assert request["generationConfig"] == {"maxOutputTokens": 50, "topP": 0.5}


def test_the_same_cell_attaches(client, sim):
    """The same prompts under the same name send and cost nothing, new rows only themselves."""
    run(client, ["a", "b"])
    assert submit(client, ["a", "b"]).attached
    assert run(client, ["b", "c"]).record.reused == 1
    assert len(sim.ledger()) == 3


def test_another_key_pauses(make_client, sim):
    """Under another account a batch waits; it is neither lost nor sent again."""
    sim.behave(seconds=30)
    client = make_client()
    handle = submit(client, ["a"])
    until(lambda: "accepted" in events(client, handle))
    client.close()
    other = make_client(environ=sim.environ() | {"GOOGLE_API_KEY": "sim-another"})
    assert other.resume()[0].snapshot().state == "paused"
    other.close()
    back = make_client().resume()[0]
    pass_time(back, sim)
    assert mark("a") in back.answers()[0]
    assert list(billed(sim).values()) == [1]


def test_a_missing_key_names_the_variable(make_client, sim):
    """Without a key nothing is written; the message says where to get one."""
    client = make_client(environ={}, simulated=False)
    with pytest.raises(UsageProblem, match=r"GEMINI_API_KEY.*https://"):
        submit(client, ["a"])
    assert client.batches() == []
