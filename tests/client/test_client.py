"""Submit to answers over real HTTP against the simulator."""

import json
import logging
import time

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support import FAST, KEYS, mark

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.errors import NotFound, NotReady, UsageProblem
from jupyter_llm_batch.core.job import JobState

MODEL = "openai:gpt-5-mini"


def run(client, over, text=None, name="x", **options):
    return client.submit(text, name=name, over=over, model=MODEL, **options).wait(60)


def billed(sim):
    """Return how often each request body was billed."""
    counts = {}
    for entry in sim.ledger():
        counts[entry["body_sha"]] = counts.get(entry["body_sha"], 0) + 1
    return counts


# -- shapes ----------------------------------------------------------------------------------------


def test_a_list_comes_back_as_a_list(client):
    """Each answer stands where its prompt stood."""
    prompts = [f"prompt {i}" for i in range(30)]
    answers = run(client, prompts).answers()
    assert isinstance(answers, list)
    assert all(mark(p) in a for p, a in zip(prompts, answers, strict=True))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_frame_comes_back_as_its_own_kind(client, library):
    """Same library, same columns and order, the answers and their reasons after them."""
    data = {"text": [f"t{i}" for i in range(9)], "n": list(range(9))}
    frame = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[library](data)
    out = run(client, frame, "Say {{ text }}").answers()
    assert type(out) is type(frame)
    columns = out.column_names if library == "pyarrow" else list(out.columns)
    assert columns == ["text", "n", "answer", "error", "finish_reason"]
    answers = out["answer"].to_pylist() if library == "pyarrow" else list(out["answer"])
    assert all(mark(f"Say t{i}") in answer for i, answer in enumerate(answers))


def test_answers_find_their_rows_whatever_became_of_the_input(make_client):
    """Duplicate index and prompts, nulls, then mutation, deletion and a restart."""
    frame = pd.DataFrame(
        {"text": ["a", "b", "a", None, "c"], "n": [1.5, None, 3, 4, 5]}, index=[7, 7, 3, 9, 9]
    )
    original = frame.copy(deep=True)
    client = make_client()
    handle = client.submit("Q {{ text }}", name="x", over=frame, model=MODEL, skip_null=True)
    frame["text"] = "changed"
    del frame
    handle.wait(60)
    client.close()
    out = make_client().get("x").answers()
    pd.testing.assert_frame_equal(out[["text", "n"]], original)
    for text, answer in zip(original["text"], out["answer"], strict=True):
        assert pd.isna(answer) if pd.isna(text) else mark(f"Q {text}") in answer


def test_other_shapes(client):
    """A dict keeps its keys, a Series its index, a generator is a list, one prompt is one text."""
    assert list(run(client, {"k": "v", 3: "w"}, "{{ key }} {{ item }}", name="d").answers()) == [
        "k",
        3,
    ]
    series = run(client, pd.Series(["p", "q"], index=["i", "j"]), "{{ item }}", name="s").answers()
    assert list(series.index) == ["i", "j"]
    assert mark("q") in series["j"]
    assert len(run(client, (f"g{i}" for i in range(3)), name="g").answers()) == 3
    one = client.submit("just {{ who }}", name="o", model=MODEL, namespace={"who": "me"}).wait(60)
    assert mark("just me") in one.answers()
    split = client.submit("one\n---\ntwo", name="p", model=MODEL, split=True).wait(60)
    assert [mark("one") in split.answers()[0], mark("two") in split.answers()[1]] == [True, True]


def test_messages_and_raw_bodies(client, sim):
    """Ready message lists and request bodies go out as they are."""
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]
    assert mark("hello") in run(client, [messages], name="m").answers()[0]
    body = {"messages": [{"role": "user", "content": "raw one"}], "temperature": 0.5}
    assert mark("raw one") in run(client, [body], name="r", raw=True).answers()[0]


def test_embeddings_come_back_as_vectors(client):
    """`embed` sends texts to the embeddings endpoint."""
    handle = client.submit(
        name="e", over=["a", "b"], model="openai:text-embedding-3-small", embed=True
    ).wait(60)
    vectors = handle.answers()
    assert len(vectors) == 2
    assert all(isinstance(vector[0], float) and len(vector) > 8 for vector in vectors)


def test_the_responses_endpoint(client):
    """`endpoint="responses"` gives text like chat does."""
    assert mark("hey") in run(client, ["hey"], endpoint="responses", system="s").answers()[0]


def test_options_reach_the_wire(client):
    """System prompt, token bound and parameters stand in the request."""
    handle = run(client, ["p"], system="Be brief", max_tokens=50, params={"temperature": 0.5})
    folder = client.store.folder_of(handle.id)
    body = json.loads((folder / "r0-j1.jsonl").read_text())["body"]
    assert body["messages"][0] == {"role": "system", "content": "Be brief"}
    assert body["max_completion_tokens"] == 50
    assert body["temperature"] == 0.5


# -- outcomes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("inf"), [float("nan")], {"a": {"b": float("-inf")}}])
def test_a_parameter_that_json_cannot_hold_is_refused(client, sim, value):
    """It would go out as null, and be paid for."""
    with pytest.raises(UsageProblem, match=r"params: seed is .* which JSON cannot hold"):
        client.submit(name="x", over=["a"], model="openai:gpt-5-mini", params={"seed": value})
    assert sim.requests() == []


def test_every_row_ends_as_exactly_one_outcome(client, sim):
    """ok, failed, refused, expired, missing: their sum is what was submitted."""
    prompts = [
        "fine", "a [[sim:fail-400]]", "b [[sim:refuse]]", "c [[sim:expire]]", "d [[sim:missing]]",
        "e [[sim:fail-500]]", "f [[sim:length]]", "g [[sim:duplicate]]",
    ]  # fmt: skip
    handle = run(client, prompts, retry=0)
    outcomes = [result.outcome for result in handle.results()]
    assert outcomes == [
        Outcome.OK, Outcome.FAILED, Outcome.REFUSED, Outcome.EXPIRED, Outcome.MISSING,
        Outcome.FAILED, Outcome.OK, Outcome.OK,
    ]  # fmt: skip
    snapshot = handle.snapshot()
    assert (snapshot.ok, snapshot.failed, snapshot.waiting) == (3, 5, 0)
    cut = [kind.rows for kind in snapshot.errors if kind.kind.startswith("cut")]
    assert sum(cut) == snapshot.cut == 1  # an answer, and yet named
    assert sum(kind.rows for kind in snapshot.errors) == 5 + 1
    assert max(billed(sim).values()) == 1


def test_unbilled_passing_failures_are_retried_as_a_round(client, sim):
    """Expired rows and server errors are sent again; permanent and maybe-billed rows are not."""
    prompts = ["a [[sim:expire x1]]", "b [[sim:fail-500 x1]]", "c [[sim:fail-400 x1]]",
               "d [[sim:missing x1]]", "e"]  # fmt: skip
    handle = run(client, prompts)
    outcomes = [result.outcome for result in handle.results()]
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.MISSING, Outcome.OK]
    jobs = client.store.jobs(handle.id)
    assert [(job.round, job.rows) for job in jobs] == [(0, 5), (1, 2)]
    assert [kind.kind for kind in handle.snapshot().errors] == [
        "failed: invalid_value", "missing",
    ]  # fmt: skip
    assert max(billed(sim).values()) == 1


def test_automatic_retry_ends_after_its_rounds(client):
    """Two rounds by default, none with `retry=0`."""
    handle = run(client, ["a [[sim:expire]]"])
    assert handle.record.round == 2
    assert handle.results()[0].outcome is Outcome.EXPIRED
    assert run(client, ["b [[sim:expire]]"], name="y", retry=0).record.round == 0


def test_retry_sends_what_has_no_answer(client, sim):
    """A retry asked for takes every row without an answer and mends the batch."""
    handle = run(client, ["a", "b [[sim:fail-400 x1]]", "c [[sim:missing x1]]"], retry=0)
    before = handle.answers()
    assert handle.retry(confirm=True) == 2
    after = handle.wait(60).answers()
    assert after[0] == before[0]
    assert all(after)
    assert handle.snapshot().errors == []
    assert handle.retry(confirm=True) == 0


def test_a_rejected_batch_fails_with_its_reason(client, sim):
    """A validation failure ends every row as failed, unbilled, with the provider's words."""
    sim.behave(next_outcome="failed:invalid_json_line")
    handle = run(client, ["a", "b"])
    assert [result.outcome for result in handle.results()] == [Outcome.FAILED] * 2
    assert "JSON" in handle.results()[0].error
    assert sim.ledger() == []


def test_a_full_queue_is_waited_for(client, sim):
    """`token_limit_exceeded` is no failure: the job is sent again later."""
    sim.behave(next_outcome="failed:token_limit_exceeded")
    handle = client.submit(name="x", over=["a"], model=MODEL)
    events = _events_until(client, handle, "no-room")
    assert "no-room" in events
    handle.wait(60)
    assert mark("a") in handle.answers()[0]


def _events_until(client, handle, wanted):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        events = [event["event"] for event in client.store.events.of_batch(handle.id)]
        if wanted in events:
            return events
        time.sleep(0.01)
    return events


def test_cancel_keeps_what_is_done(make_client, sim):
    """A cancelled batch is collected; rows that did not run are cancelled and not billed."""
    sim.behave(seconds=30)
    client = make_client()
    handle = client.submit(name="x", over=[f"p{i}" for i in range(40)], model=MODEL)
    _events_until(client, handle, "accepted")
    sim.advance(12)
    handle.cancel()
    sim_wait(client, handle, sim)
    results = handle.results()
    done = [result for result in results if result.outcome is Outcome.OK]
    assert 0 < len(done) < 40
    assert {result.outcome for result in results} == {Outcome.OK, Outcome.CANCELLED}
    assert len(sim.ledger()) == len(done)
    assert handle.record.round == 0


def sim_wait(client, handle, sim):
    """Let simulated time pass until the batch is over."""
    end = time.monotonic() + 30
    while not handle.done and time.monotonic() < end:
        sim.advance(5)
        time.sleep(0.05)
    assert handle.done


# -- never twice -----------------------------------------------------------------------------------


def test_the_same_cell_attaches(client, sim):
    """The same prompts under the same name send and cost nothing."""
    first = run(client, ["a", "b"])
    again = client.submit(name="x", over=["a", "b"], model=MODEL)
    assert again.attached
    assert again.id == first.id
    assert "no new cost" in again.notice
    assert len(sim.ledger()) == 2


def test_changed_rows_send_only_what_is_new(client, sim):
    """Rows with a paid answer are used again, in whatever order they stand now."""
    run(client, ["a", "b", "a"])
    handle = run(client, ["c", "a", "b", "a", "a"])
    assert handle.record.reused == 3
    answers = handle.answers()
    assert all(mark(p) in a for p, a in zip("cabaa", answers, strict=True))
    assert len(sim.ledger()) == 5


def test_rows_under_way_are_not_sent_again(make_client, sim):
    """A changed input while the first batch runs waits for that batch's answers."""
    sim.behave(seconds=30)
    client = make_client()
    client.submit(name="x", over=["a", "b"], model=MODEL)
    handle = client.submit(name="x", over=["a", "b", "c"], model=MODEL)
    assert handle.record.reused == 2
    sim_wait(client, handle, sim)
    assert all(mark(p) in a for p, a in zip("abc", handle.answers(), strict=True))
    assert max(billed(sim).values()) == 1


def test_rows_that_may_be_billed_are_not_asked_again_by_a_changed_cell(client, sim):
    """A missing row stays missing until the user says retry."""
    run(client, ["a", "m [[sim:missing x1]]"])
    handle = run(client, ["a", "m [[sim:missing x1]]", "z"])
    assert [result.outcome for result in handle.results()] == ["ok", "missing", "ok"]
    assert handle.retry(confirm=True) == 1
    assert handle.wait(60).results()[1].outcome is Outcome.OK


def test_the_hint_to_cancel_means_the_earlier_version(client, sim):
    """Its bare name is the later one's by now."""
    sim.behave(seconds=1000)
    client.submit("Wrogn {{ item }}", name="x", over=["a"], model=MODEL)
    later = client.submit("Right {{ item }}", name="x", over=["a"], model=MODEL)
    assert "`%llm_batch cancel x#1` stops it" in later.notice
    client.get("x#1").cancel()
    assert not later.record.cancel_requested


def test_a_changed_prompt_is_a_new_version(client, sim):
    """Another prompt or model makes version 2 and shares nothing."""
    run(client, ["a"], "Q {{ item }}")
    second = run(client, ["a"], "R {{ item }}")
    assert second.name == "x#2"
    assert second.record.reused == 0
    assert mark("Q a") in client.get("x#1").answers()[0]
    assert mark("R a") in client.get("x").answers()[0]


def test_resubmit_pays_again(client, sim):
    """`resubmit` is the only way to buy the same thing twice."""
    run(client, ["a"])
    run(client, ["a"], resubmit=True)
    assert list(billed(sim).values()) == [2]


def test_the_same_prompt_twice_is_asked_twice(client, sim):
    """Equal prompts in one input stay separate requests."""
    run(client, ["a", "a"])
    assert list(billed(sim).values()) == [2]


def test_attaching_follows_the_frame_of_today(client):
    """The same prompts from a frame with another column or index answer in its new shape."""
    frame = pd.DataFrame({"text": ["a", "b"]})
    run(client, frame, "{{ text }}")
    frame["extra"] = [1, 2]
    out = client.submit("{{ text }}", name="x", over=frame, model=MODEL, column="reply").answers()
    assert list(out.columns) == ["text", "extra", "reply", "error", "finish_reason"]


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "accept_then_status", "status": 500},
        {"action": "accept_then_status", "status": 504},
        {"action": "accept_then_drop"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_a_create_with_unknown_outcome_is_looked_up(client, sim, fault):
    """Accepted but not answered: found by its label, never sent again."""
    sim.fault(method="POST", path="*/batches", times=1, **fault)
    handle = run(client, ["a", "b"])
    events = [event["event"] for event in client.store.events.of_batch(handle.id)]
    assert events[2:5] == ["intent", "lost", "found"]
    assert max(billed(sim).values()) == 1
    creates = [r for r in sim.requests() if r["method"] == "POST" and r["path"].endswith("batches")]
    assert len(creates) == 1


def test_a_create_that_never_arrived_is_sent_again_after_settling(client, sim):
    """A lost request is repeated only after the listing had time to show it."""
    sim.fault(method="POST", path="*/batches", times=1, action="drop")
    handle = run(client, ["a"])
    events = [event["event"] for event in client.store.events.of_batch(handle.id)]
    assert events[2:8] == ["intent", "lost", "absent", "uploaded", "intent", "accepted"]
    assert list(billed(sim).values()) == [1]


@pytest.mark.parametrize("status", [429, 529])
def test_a_busy_provider_is_asked_again(client, sim, status):
    """429 and 529 prove that nothing was created."""
    sim.fault(method="POST", path="*/batches", times=2, action="status", status=status)
    handle = run(client, ["a"])
    events = [event["event"] for event in client.store.events.of_batch(handle.id)]
    assert events.count("not-created") == 2
    assert list(billed(sim).values()) == [1]


def test_a_refused_create_fails_for_good(client, sim):
    """A 400 is the provider's last word and is shown."""
    sim.fault(method="POST", path="*/batches", times=1, action="status", status=400)
    handle = run(client, ["a"])
    assert handle.results()[0].outcome is Outcome.FAILED
    assert sim.ledger() == []


def test_a_truncated_download_is_fetched_again(client, sim):
    """No row is called missing because of a torn download."""
    sim.fault(method="GET", path="*/content", times=2, action="truncate")
    handle = run(client, [f"p{i}" for i in range(20)])
    assert all(result.outcome is Outcome.OK for result in handle.results())
    assert max(billed(sim).values()) == 1


def test_passing_faults_while_polling_lose_nothing(client, sim):
    """Errors of polls and downloads are waited out."""
    sim.fault(method="GET", path="*/batches/*", times=3, action="status", status=503)
    sim.fault(method="GET", path="*/content", times=1, action="status", status=500)
    assert mark("a") in run(client, ["a"]).answers()[0]


def test_another_key_pauses(make_client, sim):
    """Under another account a batch waits; it is neither lost nor sent again."""
    sim.behave(seconds=30)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODEL)
    _events_until(client, handle, "accepted")
    client.close()
    other = make_client(environ=sim.environ() | {"OPENAI_API_KEY": "sim-another"})
    there = other.resume()[0]
    snapshot = there.snapshot()
    assert snapshot.state == "paused"
    assert "another openai account" in snapshot.line.lower() + snapshot.words.lower()
    other.close()
    client = make_client()
    back = client.resume()[0]
    sim_wait(client, back, sim)
    assert mark("a") in back.answers()[0]
    assert list(billed(sim).values()) == [1]


def test_a_vanished_batch_is_gone_not_sent_again(make_client, sim):
    """404 long after submission ends the rows as missing."""
    sim.behave(seconds=30)
    later = [0.0]
    client = make_client(clock=lambda: time.time() + later[0])
    handle = client.submit(name="x", over=["a"], model=MODEL)
    _events_until(client, handle, "accepted")
    sim.fault(method="GET", path="*/batches/*", times=1000, action="status", status=404)
    later[0] = 3600.0
    handle.wait(60)
    assert client.store.jobs(handle.id)[0].state is JobState.GONE
    assert handle.results()[0].outcome is Outcome.MISSING
    assert handle.record.round == 0


# -- restart ---------------------------------------------------------------------------------------


def test_a_new_client_goes_on(make_client, sim):
    """What was unfinished is finished by the next kernel, and the old one's rows are kept."""
    sim.behave(seconds=30)
    client = make_client()
    client.submit(name="x", over=["a", "b"], model=MODEL)
    client.close()
    again = make_client()
    handle = again.resume()[0]
    sim_wait(again, handle, sim)
    assert mark("b") in handle.answers()[1]
    assert max(billed(sim).values()) == 1


def test_two_clients_do_not_drive_the_same_batch(make_client, sim):
    """One drives, the other watches, and both see the end."""
    sim.behave(seconds=2)
    first, second = make_client(), make_client()
    handle = first.submit(name="x", over=["a"], model=MODEL)
    watched = second.get("x")
    seen = []
    second.context.listen(seen.append)
    second.resume()
    handle.wait(60)
    watched.wait(60)
    assert watched.answers() == handle.answers()
    assert len([r for r in sim.requests() if r["path"].endswith("/batches")]) == 1
    assert list(billed(sim).values()) == [1]


# -- the rest --------------------------------------------------------------------------------------


def test_many_jobs_are_polled_with_one_listing(make_client, sim, monkeypatch):
    """Several running jobs of a provider cost one listing a look, not a request each."""
    sim.behave(seconds=4)
    client = make_client(policy=msgspec.structs.replace(FAST, poll=0.3, jitter=0.0))
    handles = [client.submit(name=f"b{i}", over=[f"p{i}"], model=MODEL) for i in range(8)]
    for handle in handles:
        handle.wait(60)
    gets = [r["path"] for r in sim.requests() if r["method"] == "GET" and "batches" in r["path"]]
    listings = [path for path in gets if path.endswith("/batches")]
    assert len(listings) > len(gets) / 2


def test_a_preview_writes_and_sends_nothing(client, sim, tmp_path):
    """`preview` shows prompts and split and leaves no trace."""
    preview = client.preview("Q {{ item }}", name="x", over=["a", "b"], model=MODEL)
    assert preview.prompts == ["Q a", "Q b"]
    assert [rows for rows, _ in preview.jobs] == [2]
    assert client.batches() == []
    assert not list(client.store.folder.rglob("*.jsonl"))
    assert sim.requests() == []


def test_a_failed_submission_leaves_no_trace(client, sim):
    """A bad row is named, nothing is written, nothing is sent."""
    with pytest.raises(UsageProblem, match="row 1"):
        client.submit("{{ x }}", name="x", over=[{"x": 1}, {"y": 2}], model=MODEL)
    assert client.batches() == []
    assert not list(client.store.folder.rglob("*.jsonl*"))
    assert sim.requests() == []


def test_collected_cells_are_sent_together(client, sim):
    """`add` in several cells, one batch; a cell run again replaces its own part."""
    client.add("one", name="x", key="a", model=MODEL)
    client.add("two", name="x", key="b", model=MODEL)
    assert client.add("uno", name="x", key="a", model=MODEL) == 2
    with pytest.raises(NotFound, match="submit x"):
        client.get("x")
    handle = client.submit_draft("x").wait(60)
    assert [mark(p) in a for p, a in zip(["uno", "two"], handle.answers(), strict=True)] == [
        True,
        True,
    ]
    with pytest.raises(NotFound):
        client.submit_draft("x")


def test_answers_that_are_not_there_say_so(make_client, sim):
    """Asking early raises one line that says how far the batch is."""
    sim.behave(seconds=1000)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODEL)
    with pytest.raises(NotReady, match="wait"):
        handle.answers()
    with pytest.raises(NotReady, match="not done after"):
        handle.wait(0.05)
    assert handle.answers(partial=True) == [None]


async def _awaited(handle):
    return await handle


def test_a_batch_can_be_awaited(client):
    """`await batch` returns when it is done, on a loop that is not ours."""
    import asyncio

    handle = client.submit(name="x", over=["a"], model=MODEL)
    assert asyncio.run(_awaited(handle)).done


def test_frame_of_a_list(client):
    """`frame()` of input that was no frame has a row per answer."""
    frame = run(client, ["a", "b"]).frame()
    assert list(frame["outcome"]) == ["ok", "ok"]
    assert mark("b") in frame["answer"][1]


def test_forget_keeps_what_others_use(client):
    """A batch whose answers a later one uses cannot be forgotten before it."""
    run(client, ["a"])
    run(client, ["a", "b"])
    with pytest.raises(UsageProblem, match="x#2"):
        client.forget(client.get("x#1"), confirm=True)
    client.forget(client.get("x#2"), confirm=True)
    client.forget(client.get("x#1"), confirm=True)
    assert client.batches() == []
    assert not list(client.store.folder.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "not a name"}, "variable name"),
        ({"name": "class"}, "variable name"),
        ({"name": "print"}, "Python built-in"),
        ({"model": ""}, "--model"),
        ({"model": "gpt5"}, "PROVIDER|provider"),
        ({"model": "opanai:gpt-5"}, "did you mean 'openai'"),
        ({"over": []}, "empty|no rows|nothing"),
        ({"over": "text"}, "str|text"),
        ({"over": None}, "None"),
        ({"over": ["a", 3]}, "row 1"),
        ({"text": "   \n"}, "empty|blank|nothing"),
        ({"text": "{{ nam }}", "over": [{"name": "x"}]}, "did you mean.*name|name"),
        ({"over": ["a\ud800"]}, "row 0.*surrogate"),
        ({"over": ["x" * 200_000_000]}, "row 0 is 200"),
        ({"over": ["a"], "endpoint": "embeddings", "system": "s"}, "system"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_sends_nothing(client, sim, options, words):
    """Each mistake is named with its remedy before anything leaves the machine."""
    import re

    call = {"name": "x", "over": ["a"], "model": MODEL} | options
    text = call.pop("text", None)
    with pytest.raises(UsageProblem) as caught:
        client.submit(text, **call)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert sim.requests() == []
    assert client.batches() == []


def test_a_missing_key_names_the_variable(make_client, sim):
    """Without a key nothing is written; the message says where to get one."""
    client = make_client(environ={}, simulated=False)
    with pytest.raises(UsageProblem, match=r"OPENAI_API_KEY.*https://"):
        client.submit(name="x", over=["a"], model=MODEL)
    assert client.batches() == []


def test_a_key_is_written_nowhere(make_client, sim, tmp_path, caplog):
    """Neither journal, payloads, logs, snapshots nor messages hold the key or a part of it."""
    caplog.set_level(logging.DEBUG)
    key = KEYS["openai"]
    client = make_client(environ=sim.environ() | {"OPENAI_API_KEY": key})
    handle = run(client, ["a", "b [[sim:fail-400]]"])
    wrong = make_client(
        environ=sim.environ() | {"OPENAI_API_KEY": "sk" + key.removeprefix("sim")}, notebook="other"
    )
    refused = wrong.submit(name="y", over=["a"], model=MODEL)
    end = time.monotonic() + 20
    while not wrong.store.jobs(refused.id)[0].error and time.monotonic() < end:
        time.sleep(0.05)
    assert wrong.store.jobs(refused.id)[0].error
    seen = [repr(handle), repr(refused), str(handle.snapshot()), str(refused.snapshot())]
    seen += [
        str(wrong.store.jobs(refused.id)),
        str(client.store.events.of_batch(handle.id)),
        caplog.text,
    ]
    written = [file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file()]
    for part in (key, key[4:12], key[-8:]):
        assert not [text for text in seen if part in text]
        assert not [data for data in written if part.encode() in data]


def test_two_kernels_that_submit_at_the_same_moment_pay_once(make_client, sim):
    """A plan made before another kernel's submission is not sent; the cell attaches then."""
    first, second = make_client(), make_client()

    def rows():
        yield "a"
        second.submit(name="x", over=["a", "b"], model=MODEL).wait(60)  # while the first renders
        yield "b"

    with pytest.raises(UsageProblem, match="same moment"):
        first.submit(name="x", over=rows(), model=MODEL)
    assert first.submit(name="x", over=["a", "b"], model=MODEL).attached
    assert max(billed(sim).values()) == 1
    assert len(list(first.store.folder.glob("batches/*"))) == 1


def test_attaching_undoes_no_decision(make_client, sim, monkeypatch):
    """What is decided while a cell's rows are rendered again stands, and its shape is new."""
    sim.behave(seconds=1000)
    client = make_client()
    handle = client.submit(name="x", over=["a"], model="openai:gpt-5-mini", deadline="6h")
    plan = client._submitter._plan

    def slow(*args, **options):
        planned = plan(*args, **options)
        client.get("x").set_deadline(None)
        return planned

    monkeypatch.setattr(client._submitter, "_plan", slow)
    again = client.submit(name="x", over={"k": "a"}, model="openai:gpt-5-mini", deadline="6h")
    assert again.attached
    assert handle.record.deadline is None
    assert handle.record.shape.kind == "dict"
