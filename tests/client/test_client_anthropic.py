"""Submit to answers on Anthropic, where a lost create leaves no label to find it by."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import anthropic
import msgspec
import pytest
from support import ANY, FAST, mark, until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.errors import NotConfirmed, UsageProblem
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.simulator import Simulator

MODEL = "anthropic:claude-haiku-4-5"
BATCHES = "/anthropic/v1/messages/batches"

ACCEPTED_BUT_LOST = [
    pytest.param({"action": "accept_then_status", "status": 500}, id="500"),
    pytest.param({"action": "accept_then_status", "status": 504}, id="504"),
    pytest.param({"action": "accept_then_drop"}, id="drop"),
]


@pytest.fixture
def sim():
    """A simulator whose batches are done at the first poll and whose polls ask for no pause."""
    with Simulator(keys=ANY, seconds=0, anthropic_retry_after=0) as simulator:
        yield simulator


def submit(client, over, name="x", **options):
    return client.submit(name=name, over=over, model=MODEL, **options)


def run(client, over, **options):
    return submit(client, over, **options).wait(60)


def billed(sim):
    """Return how often each prompt of ours was billed."""
    counts = {}
    for entry in sim.ledger():
        if not entry["custom_id"].startswith("stranger"):
            counts[entry["body_sha"]] = counts.get(entry["body_sha"], 0) + 1
    return counts


def creates(sim):
    return [r for r in sim.requests() if (r["method"], r["path"]) == ("POST", BATCHES)]


def events(client, handle):
    return [event["event"] for event in client.store.events.of_batch(handle.id)]


def let_time_pass(handle, sim):
    """Let simulated time pass until the batch is over."""

    def over():
        sim.advance(5)
        return handle.done

    until(over)


def stranger(sim, rows):
    """Create a batch that is not ours, under the same account, and return its id."""
    environ = sim.environ()
    other = anthropic.Anthropic(
        api_key=environ["ANTHROPIC_API_KEY"], base_url=environ["ANTHROPIC_BASE_URL"], max_retries=0
    )
    params = {
        "model": "claude-haiku-4-5",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "theirs"}],
    }
    requests = [{"custom_id": f"stranger-{n}", "params": params} for n in range(rows)]
    with other:
        return other.messages.batches.create(requests=requests).id


# -- what comes back ---------------------------------------------------------------------------


def test_a_list_comes_back_as_a_list(client):
    """Each answer stands where its prompt stood, although the results are shuffled."""
    prompts = [f"prompt {i}" for i in range(30)]
    answers = run(client, prompts).answers()
    assert all(mark(p) in a for p, a in zip(prompts, answers, strict=True))


def test_options_reach_the_wire(client):
    """System prompt, token bound and parameters stand in the params of each line."""
    handle = run(client, ["p"], system="Be brief", max_tokens=50, params={"stop_sequences": ["x"]})
    folder = client.store.folder_of(handle.id)
    params = json.loads((folder / "r0-j1.jsonl").read_text())["params"]
    assert params == {
        "model": "claude-haiku-4-5",
        "max_tokens": 50,
        "stop_sequences": ["x"],
        "system": "Be brief",
        "messages": [{"role": "user", "content": "p"}],
    }


def test_a_schema_is_followed_and_what_is_written_to_a_cache_counts(client, sim):
    """The answers are objects of the schema; a mark of the user's own is passed on and counted."""
    schema = {
        "type": "object",
        "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}},
        "required": ["mood"],
    }
    hint = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "x" * 8000, "cache_control": hint}]
    handle = run(client, ["a", "b", "c"], schema=schema, params={"system": system})
    assert [result.parsed["mood"] in {"good", "bad"} for result in handle.results()] == [True] * 3
    (job,) = client.store.jobs(handle.id)
    usage = job.usage
    assert (usage.cache_write, usage.cache_write_1h, usage.cached) == (6000, 6000, 0)
    assert usage.input > 6000


def test_every_row_ends_as_exactly_one_outcome(client, sim):
    """ok, failed, refused, expired, missing: their sum is what was submitted."""
    prompts = [
        "fine", "a [[sim:fail-400]]", "b [[sim:refuse]]", "c [[sim:expire]]", "d [[sim:missing]]",
        "e [[sim:fail-500]]", "f [[sim:length]]", "g [[sim:duplicate]]",
    ]  # fmt: skip
    handle = run(client, prompts, retry=0)
    assert [result.outcome for result in handle.results()] == [
        Outcome.OK, Outcome.FAILED, Outcome.REFUSED, Outcome.EXPIRED, Outcome.MISSING,
        Outcome.FAILED, Outcome.OK, Outcome.OK,
    ]  # fmt: skip
    assert max(billed(sim).values()) == 1


def test_unbilled_passing_failures_are_retried_as_a_round(client, sim):
    """Expired rows and server errors are sent again; permanent and maybe-billed rows are not."""
    prompts = ["a [[sim:expire x1]]", "b [[sim:fail-500 x1]]", "c [[sim:fail-400 x1]]",
               "d [[sim:missing x1]]", "e"]  # fmt: skip
    handle = run(client, prompts)
    outcomes = [result.outcome for result in handle.results()]
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.MISSING, Outcome.OK]
    assert [(job.round, job.rows) for job in client.store.jobs(handle.id)] == [(0, 5), (1, 2)]
    assert max(billed(sim).values()) == 1


def test_a_batch_that_expires_keeps_what_was_done(client, sim):
    """Rows that were not reached cost nothing and are sent again."""
    sim.behave(next_outcome="expired:0.5")
    handle = run(client, [f"p{i}" for i in range(8)])
    assert {result.outcome for result in handle.results()} == {Outcome.OK}
    assert [(job.round, job.rows) for job in client.store.jobs(handle.id)] == [(0, 8), (1, 4)]
    assert list(billed(sim).values()) == [1] * 8


def test_cancel_keeps_what_is_done(client, sim):
    """A cancelled batch is collected; rows that did not run are cancelled and not billed."""
    sim.behave(seconds=30)
    handle = submit(client, [f"p{i}" for i in range(40)])
    until(lambda: "accepted" in events(client, handle))
    sim.advance(12)
    handle.cancel()
    let_time_pass(handle, sim)
    results = handle.results()
    done = [result for result in results if result.outcome is Outcome.OK]
    assert 0 < len(done) < 40
    assert {result.outcome for result in results} == {Outcome.OK, Outcome.CANCELLED}
    assert len(sim.ledger()) == len(done)


def test_a_running_batch_shows_no_progress(client, sim):
    """Anthropic counts nothing before the end, and no false 0 % is shown."""
    sim.behave(seconds=30)
    handle = submit(client, ["a", "b"])
    until(lambda: "accepted" in events(client, handle))
    sim.advance(15)
    handle.refresh()
    until(lambda: handle.snapshot().state == "running")
    assert handle.snapshot().progress is None
    assert handle.snapshot().safe_to_close
    let_time_pass(handle, sim)
    assert handle.snapshot().ok == 2


# -- never twice -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ACCEPTED_BUT_LOST)
def test_a_lost_create_is_found_by_its_rows(client, sim, fault):
    """Accepted but not answered: its results name our rows, and it is never sent again."""
    sim.fault(method="POST", path=BATCHES, **fault)
    handle = run(client, ["a", "b"])
    assert events(client, handle)[2:5] == ["intent", "lost", "found"]
    assert len(creates(sim)) == 1
    assert list(billed(sim).values()) == [1, 1]
    assert mark("b") in handle.answers()[1]


def test_a_lost_create_that_still_runs_asks_the_user_and_waits(client, sim):
    """While nothing proves whose batch it is, nothing is sent; its end brings the proof."""
    sim.behave(seconds=30)
    sim.fault(method="POST", path=BATCHES, action="accept_then_drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    assert "resolve" in handle.snapshot().words
    assert "msgbatch_" in handle.snapshot().words
    (job,) = client.store.jobs(handle.id)
    assert job.state is JobState.UNKNOWN
    let_time_pass(handle, sim)
    assert events(client, handle)[2:5] == ["intent", "lost", "found"]
    assert client.store.jobs(handle.id)[0].error is None
    assert len(creates(sim)) == 1
    assert list(billed(sim).values()) == [1, 1]


def test_a_create_that_never_arrived_is_sent_again_after_settling(client, sim):
    """An empty listing, once it had time to settle, proves that nothing was created."""
    sim.fault(method="POST", path=BATCHES, action="drop")
    handle = run(client, ["a"])
    assert events(client, handle)[2:8] == [
        "intent", "lost", "absent", "uploaded", "intent", "accepted",
    ]  # fmt: skip
    assert list(billed(sim).values()) == [1]


def test_a_listing_that_lags_is_given_time(make_client, sim):
    """A batch that shows late is still found, not bought again."""
    sim.behave(listing_delay=1.0)
    sim.fault(method="POST", path=BATCHES, action="accept_then_drop")
    client = make_client(policy=msgspec.structs.replace(FAST, settle=20.0))
    handle = run(client, ["a"])
    assert events(client, handle)[2:5] == ["intent", "lost", "found"]
    assert list(billed(sim).values()) == [1]


def test_a_stranger_of_the_same_size_is_not_taken_for_ours(client, sim):
    """Among batches of as many rows, older and newer, the one whose results name ours is taken."""
    sim.behave(seconds=30)
    theirs = {stranger(sim, 2)}
    sim.fault(method="POST", path=BATCHES, action="accept_then_drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    theirs.add(stranger(sim, 2))
    let_time_pass(handle, sim)
    assert events(client, handle)[2:5] == ["intent", "lost", "found"]
    assert client.store.jobs(handle.id)[0].remote_id not in theirs
    assert all(mark(p) in a for p, a in zip("ab", handle.answers(), strict=True))
    assert list(billed(sim).values()) == [1, 1]


def test_nothing_is_sent_again_while_a_stranger_may_be_ours(client, sim):
    """A create that never arrived waits for the end of a batch that looks like it."""
    sim.behave(seconds=30)
    stranger(sim, 2)
    sim.fault(method="POST", path=BATCHES, action="drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    looks = len([r for r in sim.requests() if (r["method"], r["path"]) == ("GET", BATCHES)])

    def looked_again():
        seen = [r for r in sim.requests() if (r["method"], r["path"]) == ("GET", BATCHES)]
        return len(seen) > looks + 4

    until(looked_again)  # well past the settling time
    assert len(creates(sim)) == 2  # the stranger's and the lost one
    let_time_pass(handle, sim)
    assert events(client, handle)[2:5] == ["intent", "lost", "absent"]
    assert list(billed(sim).values()) == [1, 1]


def test_batches_of_other_sizes_do_not_matter(client, sim):
    """A stranger with another number of rows cannot be ours: nobody is asked."""
    sim.behave(seconds=30)
    stranger(sim, 3)
    sim.fault(method="POST", path=BATCHES, action="drop")
    handle = submit(client, ["a", "b"])
    until(lambda: "absent" in events(client, handle))
    let_time_pass(handle, sim)
    assert list(billed(sim).values()) == [1, 1]


def test_our_own_batches_are_no_candidates(client, sim):
    """A batch that the journal knows is not the lost one, however alike they are."""
    sim.behave(seconds=30)
    first = submit(client, ["a"], name="first")
    until(lambda: "accepted" in events(client, first))
    sim.fault(method="POST", path=BATCHES, action="drop")
    second = submit(client, ["b"], name="second")
    until(lambda: "absent" in events(client, second))
    let_time_pass(first, sim)
    let_time_pass(second, sim)
    assert list(billed(sim).values()) == [1, 1]


def test_a_lost_retry_is_not_confused_with_the_first_round(client, sim):
    """The first round's batch names the same rows; the journal knows that it is another."""
    sim.fault(method="POST", path=BATCHES, after=1, action="drop")
    handle = run(client, ["a [[sim:expire x1]]", "b [[sim:expire x1]]"])
    first, second = client.store.jobs(handle.id)
    assert first.remote_id != second.remote_id
    assert "absent" in events(client, handle)
    assert {result.outcome for result in handle.results()} == {Outcome.OK}
    assert list(billed(sim).values()) == [1, 1]


def test_a_kernel_that_died_while_submitting_finds_its_batch(make_client, sim):
    """A job found in the middle of its create is looked up, not sent."""
    sim.fault(method="POST", path=BATCHES, action="accept_then_freeze")
    client = make_client()
    handle = submit(client, ["a", "b"])
    until(lambda: len(creates(sim)) == 1)
    client.close()
    sim.clear_faults()
    again = make_client()
    found = again.resume()[0].wait(60)
    assert "lost" in events(again, found)
    assert "found" in events(again, found)
    assert mark("b") in found.answers()[1]
    assert len(creates(sim)) == 1
    assert list(billed(sim).values()) == [1, 1]
    assert handle.id == found.id


def test_a_new_client_goes_on(make_client, sim):
    """What was unfinished is finished by the next kernel."""
    sim.behave(seconds=30)
    client = make_client()
    submit(client, ["a", "b"])
    client.close()
    again = make_client()
    handle = again.resume()[0]
    let_time_pass(handle, sim)
    assert mark("b") in handle.answers()[1]
    assert list(billed(sim).values()) == [1, 1]


@pytest.mark.parametrize("status", [429, 529])
def test_a_busy_provider_is_asked_again(client, sim, status):
    """429 and 529 prove that nothing was created."""
    sim.fault(method="POST", path=BATCHES, times=2, action="status", status=status)
    handle = run(client, ["a"])
    assert events(client, handle).count("not-created") == 2
    assert list(billed(sim).values()) == [1]


def test_a_refused_create_fails_for_good(client, sim):
    """A 400 is the provider's last word and is shown."""
    sim.fault(method="POST", path=BATCHES, action="status", status=400)
    handle = run(client, ["a"])
    assert handle.results()[0].outcome is Outcome.FAILED
    assert sim.ledger() == []


def test_a_truncated_download_is_fetched_again(client, sim):
    """No row is called missing because of a torn download."""
    sim.fault(method="GET", path="*/results", times=2, action="truncate")
    sim.fault(method="GET", path="*/results", times=1, action="truncate", shorten_length=True)
    handle = run(client, [f"p{i}" for i in range(20)])
    assert all(result.outcome is Outcome.OK for result in handle.results())
    assert max(billed(sim).values()) == 1


def test_many_jobs_are_polled_with_one_listing(make_client, sim):
    """Several running jobs cost one listing a look, not a request each."""
    sim.behave(seconds=4)
    client = make_client(policy=msgspec.structs.replace(FAST, poll=0.3, jitter=0.0))
    handles = [submit(client, [f"p{i}"], name=f"b{i}") for i in range(8)]
    for handle in handles:
        handle.wait(60)
    gets = [r["path"] for r in sim.requests() if r["method"] == "GET" and "batches" in r["path"]]
    polls = [path for path in gets if not path.endswith("/results")]
    assert len([path for path in polls if path == BATCHES]) > len(polls) / 2


def test_a_removed_parameter_is_told_before_anything_is_sent(client, make_client, sim):
    """Sampling parameters need the old API version, which the headers variable asks for."""
    with pytest.raises(UsageProblem, match="ANTHROPIC_CUSTOM_HEADERS"):
        submit(client, ["a"], params={"temperature": 0.5})
    assert sim.requests() == []
    headers = {"ANTHROPIC_CUSTOM_HEADERS": "anthropic-version: 2023-06-01"}
    old = make_client(environ=sim.environ() | headers)
    assert mark("a") in run(old, ["a"], params={"temperature": 0.5}).answers()[0]


def test_an_unknown_model_is_refused_before_anything_is_sent(client, sim):
    """Not hours later, as many errors as there are rows."""
    handle = client.submit(name="x", over=["a"], model="anthropic:unknown-model").wait(60)
    assert "unknown-model" in handle.results()[0].error
    assert creates(sim) == []


def test_the_user_decides_that_it_was_created(client, sim):
    """`resolve` with the provider's id goes on with that batch at once; nothing is sent again."""
    sim.behave(seconds=30)
    sim.fault(method="POST", path=BATCHES, action="accept_then_drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    ((job, candidates),) = handle.lost()
    assert [remote.remote_id for remote in candidates]
    handle.resolve(candidates[0].remote_id)
    assert client.store.jobs(handle.id)[0].state is JobState.RUNNING
    with pytest.raises(UsageProblem, match="nothing to resolve"):
        handle.resolve(job.id)
    let_time_pass(handle, sim)
    assert len(creates(sim)) == 1
    assert list(billed(sim).values()) == [1, 1]


def test_the_user_decides_that_nothing_was_created(client, sim):
    """`resolve` without an id sends the rows again, although a stranger looks like ours."""
    sim.behave(seconds=30)
    stranger(sim, 2)
    sim.fault(method="POST", path=BATCHES, action="drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    with pytest.raises(NotConfirmed, match="then you pay twice"):
        handle.resolve()
    handle.resolve(confirm=True)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    let_time_pass(handle, sim)
    assert all(mark(p) in a for p, a in zip("ab", handle.answers(), strict=True))
    assert list(billed(sim).values()) == [1, 1]


def test_another_jobs_id_is_not_taken(client, sim):
    """An id that the journal knows cannot be given to a second job."""
    known = run(client, ["x", "y"], name="first")
    sim.behave(seconds=30)
    sim.fault(method="POST", path=BATCHES, action="accept_then_drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    with pytest.raises(UsageProblem, match="another job's"):
        handle.resolve(client.store.jobs(known.id)[0].remote_id)
    assert client.store.jobs(handle.id)[0].state is JobState.UNKNOWN


def test_a_batch_of_another_size_is_not_taken(client, sim):
    """A user's slip of the pen binds no stranger's answers, and the job stays undecided."""
    sim.behave(seconds=30)
    sim.fault(method="POST", path=BATCHES, action="accept_then_drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    with pytest.raises(UsageProblem, match="has 3 rows and this job has 2: it cannot be"):
        handle.resolve(stranger(sim, 3))
    assert client.store.jobs(handle.id)[0].state is JobState.UNKNOWN
    let_time_pass(handle, sim)
    assert list(billed(sim).values()) == [1, 1]


def test_no_look_up_ends_while_the_user_decides(client, sim):
    """What a look-up finds meanwhile and what the user says are one event, not two."""
    sim.behave(seconds=30)
    sim.fault(method="POST", path=BATCHES, action="accept_then_drop")
    handle = submit(client, ["a", "b"])
    until(lambda: handle.snapshot().state == "attention")
    ((job, (remote,)),) = handle.lost()
    sim.fault(method="GET", path=f"{BATCHES}/{remote.remote_id}", action="freeze")
    with ThreadPoolExecutor() as pool:
        decision = pool.submit(handle.resolve, remote.remote_id)
        until(lambda: sim.faults()[-1]["met"])
        sim.advance(60)  # a look-up that began now would find it
        steps = client.poller()._tasks.steps
        until(lambda: job.id in steps or "found" in events(client, handle))
        sim.clear_faults()
        decision.result()
    handle.wait(60)
    assert events(client, handle).count("found") == 1
