"""What no catalogue of faults holds: clocks, sleep, outages of hours, quotas, patience."""

import httpx2
import msgspec
import pytest
from support import ANY, FAST, Shifted, mark, until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.core.policy import Policy
from jupyter_llm_batch.providers.shared import network
from jupyter_llm_batch.simulator import Simulator

DAY = 86400.0
MODELS = {
    "openai": "openai:gpt-5-mini",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-3.8-flash",
}
CREATE = r"^.*/batches$|:batchGenerateContent$"
LOOK = r"^.*/batches/[^/]+$"
FETCH = r"^.*(/content|/results)$"


@pytest.fixture
def sim():
    """A simulator whose batches are done at the first poll and whose polls ask for no pause."""
    with Simulator(keys=ANY, seconds=0, anthropic_retry_after=0) as simulator:
        yield simulator


@pytest.fixture(params=MODELS)
def model(request):
    """One model of each provider."""
    return MODELS[request.param]


def events(handle):
    return [event["event"] for event in handle._context.store.events.of_batch(handle.id)]


def job_of(handle):
    return handle._context.store.jobs(handle.id)[0]


def creates(sim):
    paths = [seen["path"] for seen in sim.requests() if seen["method"] == "POST"]
    return [path for path in paths if path.endswith(("batches", ":batchGenerateContent"))]


def billed(sim):
    return [entry["prompt_mark"] for entry in sim.ledger()]


# -- patience --------------------------------------------------------------------------------------


def test_short_downloads_are_counted_apart_from_outages(client, sim):
    """After an outage of any length, a download that comes short is still fetched again."""
    outage = Policy().fetches + 2
    sim.fault(method="GET", path="*/content", times=outage, action="status", status=503)
    sim.fault(method="GET", path="*/content", action="truncate", shorten_length=True, at_line=True)
    handle = client.submit(name="x", over=["a", "b", "c"], model=MODELS["openai"]).wait(120)
    assert [result.outcome for result in handle.results()] == [Outcome.OK] * 3
    assert job_of(handle).fetches == 1


def test_a_download_that_stays_garbled_ends(client, sim):
    """Patience has an end: the row that never came whole has failed, the others are bound."""
    sim.fault(method="GET", path="*/content", times=None, action="corrupt", keep=0.4)
    handle = client.submit(name="x", over=["a", "b", "c"], model=MODELS["openai"]).wait(120)
    assert job_of(handle).fetches == Policy().fetches
    outcomes = sorted(result.outcome for result in handle.results())
    assert outcomes == [Outcome.FAILED, Outcome.OK, Outcome.OK]
    assert len(creates(sim)) == 1


def test_a_garbled_download_is_fetched_again(client, sim):
    """A line that arrives as no JSON is no answer that failed: the next download has it whole."""
    sim.fault(method="GET", path="*/content", times=2, action="corrupt", keep=0.4)
    handle = client.submit(name="x", over=["a", "b", "c"], model=MODELS["openai"]).wait(120)
    assert all(mark(p) in a for p, a in zip("abc", handle.answers(), strict=True))


@pytest.mark.parametrize("keep", [0.05, 0.2])
def test_bytes_that_are_no_text_are_fetched_again(client, sim, keep):
    """A download garbled inside a name is no reason to stumble over the same file for ever."""
    sim.fault(method="GET", path="*/content", times=2, action="corrupt", keep=keep)
    sim.fault(method="GET", path="*:download", times=2, action="corrupt", keep=keep)
    handle = client.submit(name="x", over=["a", "b", "c"], model=MODELS["openai"]).wait(120)
    assert all(mark(p) in a for p, a in zip("abc", handle.answers(), strict=True))


def test_an_old_job_that_is_unknown_for_a_moment_is_not_gone(make_client, sim, model):
    """A few 404s, as gateways in trouble give them, are waited out at any age."""
    clock = Shifted()
    sim.behave(seconds=30)
    handle = make_client(clock=clock).submit(name="x", over=["a"], model=model)
    until(lambda: job_of(handle).state is JobState.RUNNING)
    clock.ahead = 2 * 3600.0
    few = Policy().absences - 1
    sim.fault(method="GET", path=LOOK, times=few, action="status", status=404)
    until(lambda: sim.faults()[0]["met"] == few)
    sim.advance(60)
    assert mark("a") in handle.wait(120).answers()[0]


def test_results_that_are_unknown_for_a_moment_are_not_gone(client, sim):
    """The file of the answers may be late: it is asked for again before rows are missing."""
    sim.fault(method="GET", path="*/content", times=3, action="status", status=404)
    handle = client.submit(name="x", over=["a"], model=MODELS["openai"]).wait(120)
    assert mark("a") in handle.answers()[0]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_results_that_are_gone_end_as_missing(client, sim, provider):
    """A deleted result file ends the rows as missing, maybe billed, and nothing is sent again."""
    sim.fault(method="GET", path=FETCH, times=None, action="status", status=404)
    handle = client.submit(name="x", over=["a", "b"], model=MODELS[provider], retry=2).wait(120)
    assert [result.outcome for result in handle.results()] == [Outcome.MISSING] * 2
    assert job_of(handle).state is JobState.GONE
    assert len(creates(sim)) == 1


# -- clocks ----------------------------------------------------------------------------------------


def test_a_clock_that_is_set_does_not_settle_a_lost_create(make_client, sim):
    """A day forward on the wall gives a listing no time to show what was accepted."""
    clock = Shifted()
    sim.behave(listing_delay=1.5)
    sim.fault(method="POST", path=CREATE, action="accept_then_drop")
    client = make_client(clock=clock, policy=msgspec.structs.replace(FAST, settle=6.0))
    handle = client.submit(name="x", over=["a"], model=MODELS["openai"])
    until(lambda: "lost" in events(handle))
    clock.ahead = DAY
    handle.wait(120)
    assert events(handle)[2:5] == ["intent", "lost", "found"]
    assert len(billed(sim)) == 1


def test_a_night_between_two_polls(make_client, sim, model):
    """A laptop that slept a day finds its answers, whatever it was doing."""
    clock = Shifted()
    sim.behave(seconds=3600)
    handle = make_client(clock=clock).submit(name="x", over=["a", "b"], model=model)
    until(lambda: job_of(handle).state is JobState.RUNNING)
    sim.advance(DAY)
    clock.ahead = DAY
    handle.wait(120)
    assert all(mark(p) in a for p, a in zip("ab", handle.answers(), strict=True))
    assert sorted(billed(sim)) == sorted(map(mark, "ab"))


def test_a_laptop_that_wakes_looks_by_itself(make_client, sim):
    """Nobody wakes the loop: it sees that the hour it meant to wait for is long past."""
    clock = Shifted()
    sim.behave(seconds=3600)
    policy = msgspec.structs.replace(FAST, poll=3600.0, poll_longest=7200.0)
    handle = make_client(clock=clock, policy=policy).submit(
        name="x", over=["a"], model=MODELS["openai"]
    )
    until(lambda: job_of(handle).not_before > clock() + 600)
    sim.advance(DAY)
    clock.ahead = DAY
    until(lambda: handle.done)
    assert handle.done


def test_a_clock_that_is_set_back_years_stops_nothing(make_client, sim, model):
    """What was to be done in a far future that was none is done now."""
    clock = Shifted()
    clock.ahead = 3650 * DAY
    sim.behave(seconds=30)
    client = make_client(clock=clock, policy=msgspec.structs.replace(FAST, poll=0.5))
    handle = client.submit(name="x", over=["a"], model=model)
    until(lambda: job_of(handle).state is JobState.RUNNING)
    clock.ahead = 0.0
    sim.advance(60)
    assert mark("a") in handle.wait(120).answers()[0]
    assert len(billed(sim)) == 1


def test_an_absurd_wait_is_cut_to_a_day(make_client, sim, model):
    """A provider that asks for years is asked again after a day, and no earlier."""
    clock = Shifted()
    sim.fault(
        method="POST", path=CREATE, action="status", status=429, headers={"Retry-After": "1e12"}
    )
    handle = make_client(clock=clock).submit(name="x", over=["a"], model=model)
    until(lambda: "not-created" in events(handle))
    until(lambda: "uploaded" in events(handle) and job_of(handle).state is JobState.PLANNED)
    assert 0.9 * DAY < job_of(handle).not_before - clock() <= DAY
    clock.ahead = DAY
    assert mark("a") in handle.wait(120).answers()[0]
    assert len(billed(sim)) == 1


# -- never faster than the provider asks -----------------------------------------------------------


def looks(sim, handle):
    """Return how often a job of the batch was asked about."""
    remote_id = job_of(handle).remote_id
    return sum(remote_id in seen["path"] for seen in sim.requests() if seen["method"] == "GET")


@pytest.mark.parametrize("kind", ["a wait on its 200", "a 429"])
def test_refresh_asks_no_sooner_than_the_provider_wants(make_client, sim, kind):
    """Whoever presses Refresh again and again: a wait that the provider asked for is kept."""
    clock = Shifted()
    client = make_client(clock=clock)
    sim.behave(seconds=600, anthropic_retry_after=500)
    if kind == "a 429":
        sim.behave(anthropic_retry_after=0)
        wait = {"status": 429, "headers": {"Retry-After": "500"}}
        sim.fault(method="GET", path="*/batches/msgbatch*", action="status", **wait)
    asked = client.submit(name="x", over=["a"], model=MODELS["anthropic"])
    beside = client.submit(name="y", over=["b"], model=MODELS["openai"])
    until(lambda: job_of(beside).remote_id and job_of(asked).asked_until > clock() + 100)
    before = looks(sim, asked)
    for _ in range(3):
        asked.refresh()
        seen = looks(sim, beside)
        until(lambda seen=seen: looks(sim, beside) > seen + 2)
    assert looks(sim, asked) == before == 1
    clock.ahead = 501
    until(lambda: looks(sim, asked) > before)
    asked.cancel()
    beside.cancel()


def test_a_clock_set_back_does_not_stretch_the_providers_wait(make_client, sim):
    """What the provider asked for counts from now on, when the clock says that it is years away."""
    clock = Shifted()
    clock.ahead = 400 * DAY
    sim.behave(seconds=600, anthropic_retry_after=500)
    handle = make_client(clock=clock).submit(name="x", over=["a"], model=MODELS["anthropic"])
    until(lambda: job_of(handle).asked_until > clock() + 100)
    clock.ahead = 0.0
    sim.advance(700)
    assert mark("a") in handle.wait(120).answers()[0]


# -- outages ---------------------------------------------------------------------------------------


def test_no_network_for_hours(make_client, sim, tmp_path, model):
    """While nothing can be reached a batch waits, says so, and goes on as if nothing had been."""
    away = Simulator(keys=ANY, seconds=30, anthropic_retry_after=0, state=tmp_path / "sim").start()
    handle = make_client(environ=away.environ()).submit(name="x", over=["a"], model=model)
    until(lambda: job_of(handle).state is JobState.RUNNING)
    away.stop()
    until(lambda: job_of(handle).failures > 12)
    assert "cannot be reached" in job_of(handle).error
    with Simulator(
        keys=ANY, anthropic_retry_after=0, state=tmp_path / "sim", port=away.port
    ) as back:
        back.advance(60)
        assert mark("a") in handle.wait(120).answers()[0]
        assert len(billed(back)) == 1


def test_no_network_from_the_start(make_client, tmp_path, model):
    """A batch that could not be sent is sent, once, when the network comes."""
    away = Simulator(keys=ANY, seconds=0, anthropic_retry_after=0, state=tmp_path / "sim").start()
    away.stop()
    handle = make_client(environ=away.environ()).submit(name="x", over=["a"], model=model)
    until(lambda: job_of(handle).failures > 5)
    with Simulator(
        keys=ANY, seconds=0, anthropic_retry_after=0, state=tmp_path / "sim", port=away.port
    ) as back:
        assert mark("a") in handle.wait(120).answers()[0]
        assert len(billed(back)) == 1


@pytest.mark.parametrize("action", ["freeze", "accept_then_freeze"])
def test_a_create_that_is_not_answered_in_time(client, sim, model, action, monkeypatch):
    """A timeout says nothing about what became of the create: it is looked up."""
    monkeypatch.setattr(network, "timeout", lambda **_: httpx2.Timeout(0.4))
    sim.fault(method="POST", path=CREATE, action=action)
    handle = client.submit(name="x", over=["a", "b"], model=model).wait(120)
    assert "lost" in events(handle)
    assert ("found" if action == "accept_then_freeze" else "absent") in events(handle)
    assert sorted(billed(sim)) == sorted(map(mark, "ab"))


@pytest.mark.parametrize(
    ("provider", "status"),
    [("openai", 404), ("openai", 429), ("google", 429)],
)
def test_a_create_that_is_accepted_and_then_denied_is_not_repeated(client, sim, provider, status):
    """Before a create is repeated a listing is read: a gateway may have said what is not so."""
    sim.fault(method="POST", path=CREATE, action="accept_then_status", status=status, times=2)
    handle = client.submit(name="x", over=["a", "b"], model=MODELS[provider]).wait(120)
    assert [mark("a") in handle.answers()[0], mark("b") in handle.answers()[1]] == [True, True]
    assert len(creates(sim)) == 1
    assert sorted(billed(sim)) == sorted(map(mark, "ab"))
    assert "found" in events(handle)


QUOTAS = {
    "openai": (429, {"error": {"message": "No quota left.", "code": "insufficient_quota"}}),
    "anthropic": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the API.",
            },
        },
    ),
    "google": (429, {"error": {"code": 429, "message": "None.", "status": "RESOURCE_EXHAUSTED"}}),
}


@pytest.mark.parametrize("provider", QUOTAS)
def test_a_used_up_quota_is_waited_for(client, sim, provider):
    """Quota and credit come back: the job waits with the provider's words and is sent then."""
    status, body = QUOTAS[provider]
    sim.fault(method="POST", path=CREATE, times=3, action="status", status=status, body=body)
    handle = client.submit(name="x", over=["a"], model=MODELS[provider]).wait(120)
    assert events(handle).count("not-created") == 3
    assert mark("a") in handle.answers()[0]
    assert len(billed(sim)) == 1


def test_a_state_that_nobody_knows_is_waited_out(client, sim, model):
    """A new word of the provider's for a running batch is shown and ends nothing."""
    sim.behave(seconds=30, unknown_state="pondering")
    handle = client.submit(name="x", over=["a"], model=model)
    until(lambda: job_of(handle).remote_state and "ponder" in job_of(handle).remote_state.lower())
    assert job_of(handle).state is JobState.RUNNING
    sim.behave(unknown_state="")
    sim.advance(60)
    assert mark("a") in handle.wait(120).answers()[0]


def test_lines_of_strangers_and_doubles_change_nothing(client, sim, model):
    """Unknown and repeated lines are counted and bind nothing; the order does not matter."""
    sim.behave(extra_rows=3, seed=7)
    prompts = ["a", "b [[sim:duplicate]]", "c"]
    handle = client.submit(name="x", over=prompts, model=model).wait(120)
    assert all(mark(p) in a for p, a in zip(prompts, handle.answers(), strict=True))
    (collected,) = [e for e in client.store.events.of_batch(handle.id) if e["event"] == "collected"]
    assert "lines of unknown or repeated rows" in collected["detail"]


def test_an_upload_that_is_always_gone_is_not_repeated_for_ever(client, sim):
    """A create that is answered by 404 uploads again a few times, then the job is rejected."""
    sim.fault(method="POST", path="*/batches", times=None, action="status", status=404)
    handle = client.submit(name="x", over=["a"], model=MODELS["openai"], retry=0).wait(120)
    assert job_of(handle).state is JobState.FAILED
    assert len(creates(sim)) == Policy().uploads + 1
    assert [result.outcome for result in handle.results()] == [Outcome.FAILED]
    assert not sim.ledger()
