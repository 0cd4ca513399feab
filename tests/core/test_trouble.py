"""Trouble that passes is waited out and said, trouble that lasts stops, defects are reported."""

import re

import msgspec
import pytest
from support import FAST, KEYS, Shifted, mark, until

from jupyter_llm_batch.core import trouble
from jupyter_llm_batch.core.errors import (
    Blocked,
    Busy,
    Halted,
    IllegalEvent,
    KeyRefused,
    Refused,
    StoreProblem,
    Unclear,
    Vanished,
)
from jupyter_llm_batch.core.job import Account, Job, JobState
from jupyter_llm_batch.core.policy import Policy
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.engine.waits import Waits
from jupyter_llm_batch.providers.openai import adapter

MODEL = "openai:gpt-5-mini"


def ask(client, over=("a", "b"), name="x", **options):
    return client.submit(name=name, over=[*over], **{"model": MODEL} | options)


def job_of(handle):
    return handle._context.store.jobs(handle.id)[0]


def creates(sim):
    seen = sim.requests()
    return [each for each in seen if each["method"] == "POST" and each["path"].endswith("/batches")]


# -- the three kinds -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AttributeError("x"), "defect"),
        (KeyError("x"), "defect"),
        (IllegalEvent("x"), "defect"),
        (RuntimeError("x"), "defect"),
        (OSError(28, "No space left on device"), "passing"),
        (TimeoutError(), "passing"),
        (MemoryError(), "passing"),
        (RuntimeError("can't start new thread"), "passing"),
        (RuntimeError("cannot schedule new futures after shutdown"), "passing"),
        (StoreProblem("x"), "passing"),
        (Busy("x"), "passing"),
        (Unclear("x"), "passing"),
        (Vanished("x"), "passing"),
        (KeyRefused("x"), "lasting"),
        (Refused("x"), "lasting"),
        (Blocked("x"), "lasting"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_each_error_is_of_one_kind(error, kind):
    """What is no fault of network, provider, disk or user is one of ours."""
    assert trouble.is_defect(error) == (kind == "defect")
    assert trouble.is_lasting(error) == (kind == "lasting")


# -- defects ---------------------------------------------------------------------------------------


@pytest.fixture
def lenient(monkeypatch):
    """As in a user's kernel: a defect is reported and shown, not raised."""
    monkeypatch.delenv(trouble.STRICT)
    yield
    trouble.defects.clear()


def broken(monkeypatch, method, times):
    """Let a method of the adapter fail as a misspelt name does; return what it met."""
    whole, met = getattr(adapter.OpenAI, method), []

    async def fails(self, *args, **more):
        met.append(args)
        if len(met) <= times:
            return self.no_such_attribute
        return await whole(self, *args, **more)

    monkeypatch.setattr(adapter.OpenAI, method, fails)
    return met


def test_under_tests_whoever_waits_gets_the_defect(client, monkeypatch):
    """A misspelt name fails a test at once, by its own traceback."""
    broken(monkeypatch, "fetch", 99)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        ask(client).wait(60)
    assert "no_such_attribute" in trouble.defects[0].traceback
    trouble.defects.clear()


@pytest.mark.usefixtures("lenient")
def test_a_defect_is_tried_a_few_times_and_then_rests(make_client, sim, monkeypatch, caplog):
    """The panel says so in red, other batches go on, and when the user asks it goes on."""
    client = make_client(policy=msgspec.structs.replace(FAST, defect=0.01, defect_tries=2))
    met = broken(monkeypatch, "fetch", 2)
    handle = ask(client)
    with pytest.raises(Halted, match=r"internal error \(AttributeError\), nothing was lost: "):
        client.watching.wait(handle.record, 60)
    assert len(met) == 2
    shot = handle.snapshot()
    assert (shot.state, shot.safe_to_close, shot.remaining) == ("stopped", False, None)
    assert "no_such_attribute" in caplog.text
    monkeypatch.undo()
    assert mark("z") in ask(client, ["z"], "other").wait(60).answers()[0]
    assert not handle.done
    assert all(handle.wait(60).answers())
    assert len(creates(sim)) == 2


@pytest.mark.usefixtures("lenient")
def test_a_defect_while_it_is_sent_pays_once(make_client, sim, monkeypatch):
    """The create may have reached the provider: it is looked up, never repeated."""
    client = make_client(policy=msgspec.structs.replace(FAST, defect=0.01))
    whole = adapter.OpenAI.create

    async def fails(self, *args):
        await whole(self, *args)
        return {}["request of row 0"]

    monkeypatch.setattr(adapter.OpenAI, "create", fails)
    assert all(ask(client).wait(60).answers())
    assert len(creates(sim)) == 1
    assert trouble.defects[0].name == "KeyError"
    assert "row 0" not in trouble.defects[0].traceback.splitlines()[-1]


# -- trouble that lasts ----------------------------------------------------------------------------

#: As long as nobody does anything, what has stopped is not tried again in these tests.
PATIENT = msgspec.structs.replace(FAST, recheck=3600.0)


def test_a_wrong_key_stops_at_once_and_another_one_goes_on(make_client, sim):
    """The wait ends with the remedy, nothing was sent, and with a key it is sent once."""
    env = {**sim.environ()}
    client = make_client(environ=env, policy=PATIENT)
    sim.fault(action="status", status=401, path="*/files", times=None)
    handle = ask(client)
    with pytest.raises(Halted, match=r"stopped: .*401.*nothing was sent.*status x. to continue"):
        handle.wait(60)
    assert handle.snapshot().state == "stopped"
    uploads = [each for each in sim.requests() if each["path"].endswith("/files")]
    assert len(uploads) == 1
    sim.clear_faults()
    env["OPENAI_API_KEY"] = KEYS["openai"]
    client.poller().wake()
    until(lambda: handle.done)
    assert len(creates(sim)) == 1


def test_a_key_refused_while_it_runs_fails_no_row(make_client, sim):
    """An accepted batch is stopped in red while its polls are refused; refresh goes on."""
    sim.behave(seconds=1000)
    client = make_client(policy=PATIENT)
    handle = ask(client)
    until(lambda: job_of(handle).state is JobState.RUNNING)
    sim.fault(action="status", status=403, method="GET", path="*/batches/*", times=None)
    handle.refresh()
    with pytest.raises(Halted, match=r"stopped: .*403.*still at OpenAI"):
        client.watching.wait(handle.record, 60)
    shot = handle.snapshot()
    assert (shot.state, shot.failed, shot.safe_to_close) == ("stopped", 0, False)
    sim.clear_faults()
    sim.advance(2000)
    handle.refresh()
    until(lambda: handle.done)
    assert all(handle.answers())
    assert len(creates(sim)) == 1


def test_what_has_stopped_is_tried_again_by_itself_rarely(make_client, sim):
    """A key that the provider accepts again later needs nobody."""
    client = make_client(policy=msgspec.structs.replace(FAST, recheck=0.05))
    sim.fault(action="status", status=401, path="*/files", times=2)
    handle = ask(client)
    until(lambda: handle.done)
    assert all(handle.answers())


def test_a_cell_that_waits_ends_with_the_remedy_of_a_wrong_key(shell, make_client, sim, capsys):
    """`--wait` raises the line, and the cell again goes on once the key is right."""
    shell.controller.use(make_client(policy=PATIENT))
    sim.fault(action="status", status=401, path="*/files", times=None)
    cell = "%llm_batch run y --over ['a'] --wait"
    result = shell.run_cell(cell, store_history=False)
    assert "stopped" in str(result.error_in_exec)
    assert "401" in str(result.error_in_exec)
    sim.clear_faults()
    assert shell.run_cell(cell, store_history=False).success
    assert mark("a") in shell.user_ns["y"][0]
    assert len(creates(sim)) == 1


# -- trouble that passes ---------------------------------------------------------------------------


def test_polls_that_fail_are_said_with_their_reason(make_client, sim):
    """A running batch whose polls fail names the last error and since when, and looks unwell."""
    sim.behave(seconds=1000)
    client = make_client(policy=msgspec.structs.replace(FAST, retry=3600.0, retry_longest=3600.0))
    handle = ask(client)
    until(lambda: job_of(handle).state is JobState.RUNNING)
    sim.fault(action="status", status=500, method="GET", path="*/batches/*", times=None)
    until(lambda: job_of(handle).failures)
    shot = handle.snapshot()
    assert shot.state == "attention"
    assert "answered 500" in shot.words
    assert "since " in shot.words
    assert "trying again in " in shot.words
    assert (shot.safe_to_close, shot.remaining) == (False, None)


# -- clocks ----------------------------------------------------------------------------------------


class Seconds:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def planned(**more):
    return Job(
        id="j", batch_id="b", round=0, number=0, provider="openai", model="m", endpoint="chat",
        rows=1, bytes=1, payload="p", **more,
    )  # fmt: skip


def test_a_wait_ends_by_a_clock_that_nobody_sets():
    """Set back by half an hour meanwhile, the clock on the wall makes no wait longer."""
    mono = Seconds()
    waits = Waits(Policy(), mono)
    assert waits.left(planned(), 1_300.0, 1_000.0) == 300.0
    mono.now = 299.0
    assert waits.left(planned(), 1_300.0, 1_000.0 + 299 - 1_800) == 1.0
    mono.now = 300.0
    assert waits.left(planned(), 1_300.0, 1_000.0 + 300 - 1_800) == 0.0


def test_what_lies_further_ahead_than_any_wait_is_due():
    """A new process that finds such a moment knows that the clock was set back."""
    policy, now = Policy(), 1e9
    waits = Waits(policy, Seconds())
    longest = policy.longest(stopped=False)
    assert waits.left(planned(), now + longest + 1, now) == 0.0
    assert waits.left(planned(), now + longest, now) == longest
    day = planned(asked_until=now + 86400)
    assert waits.left(day, now + 86400, now) == 86400.0
    assert waits.left(planned(asked_until=now + 1e6), now + 1e6, now) == 0.0


def test_polling_goes_on_when_the_clock_is_set_back(make_client, sim):
    """An hour back: the next look comes as if nothing had happened."""
    clock = Shifted()
    sim.behave(seconds=1000)
    handle = ask(make_client(clock=clock))
    until(lambda: job_of(handle).state is JobState.RUNNING)
    clock.ahead = -3600.0
    sim.advance(2000)
    assert all(handle.wait(60).answers())


def test_rests_grow_and_end_when_the_user_asks():
    """A defect is tried again after 5 s and 50 s, and then not by itself."""
    mono = Seconds()
    waits = Waits(Policy(), mono)
    waits.defect("j")
    assert waits.resting("j") == 5.0
    waits.defect("j")
    assert waits.resting("j") == 50.0
    waits.defect("j")
    assert waits.has_given_up("j")
    waits.take_up("j")
    assert not waits.resting("j")


def test_another_key_is_a_reason_to_try_again():
    """A job that has stopped is tried under each account once."""
    one, other = Account(base_url="u", fingerprint="1"), Account(base_url="u", fingerprint="2")
    waits = Waits(Policy(), Seconds())
    assert waits.may_have_changed(planned(), one)
    waits.tries(planned(), one)
    assert not waits.may_have_changed(planned(), one)
    assert waits.may_have_changed(planned(), other)


# -- incomplete downloads --------------------------------------------------------------------------


def test_a_short_download_is_said_and_its_answers_can_be_had(shell, make_client, sim, capsys):
    """The panel says how much came, and `--partial` binds that before the rest is there."""
    patient = msgspec.structs.replace(FAST, retry=3600.0, retry_longest=3600.0)
    shell.controller.use(make_client(policy=patient))
    cut = {"action": "truncate", "shorten_length": True, "at_line": True}
    sim.fault(method="GET", path="*/content", times=None, **cut)
    assert shell.run_cell("%llm_batch run y --over list('abcd')", store_history=False).success
    handle = shell.controller.client.get("y")
    until(lambda: handle.snapshot().state == "attention")  # counted first, and said right after
    shot = handle.snapshot()
    assert job_of(handle).fetches
    assert not shot.safe_to_close
    assert re.search(r"only [123] of 4 results have arrived, .*results y --partial", shot.words)
    line = "%llm_batch results y --partial"
    assert shell.run_cell(line, store_history=False).success
    there = [answer for answer in shell.user_ns["y"] if answer is not None]
    assert 0 < len(there) < 4
    assert f"y holds {len(there)} of 4 answers so far" in capsys.readouterr().out


def test_two_equal_downloads_are_all_that_there_is(make_client, sim):
    """What a provider hands out twice, byte for byte, is not asked for four times more."""
    client = make_client(policy=msgspec.structs.replace(FAST, same_fetch=0.0))
    cut = {"action": "truncate", "shorten_length": True, "at_line": True}
    sim.fault(method="GET", path="*/content", times=None, **cut)
    handle = ask(client, "abcd").wait(60)
    fetched = [each for each in sim.requests() if each["path"].endswith("/content")]
    assert len(fetched) == 2
    outcomes = sorted(result.outcome for result in handle.results())
    assert set(outcomes) == {Outcome.MISSING, Outcome.OK}
    assert len(creates(sim)) == 1
