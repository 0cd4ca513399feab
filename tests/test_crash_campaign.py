"""A batch killed or frozen at every point of its life: nothing is paid twice, nothing is lost."""

import os
import shutil
import signal

import pytest
from campaign.harness import lane as make_lane
from campaign.scenarios import PROVIDERS, plays

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def lane():
    """A simulator, and a process that children are forked from."""
    lane = make_lane()
    yield lane
    lane.close()
    shutil.rmtree(lane.folder, ignore_errors=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("provider", MODELS)
def test_killed_at_every_point(lane, provider, scenario, tally):
    """Wherever it is killed, each row is billed at most once and each paid answer is bound."""
    names = lane.points(provider, scenario)
    missed = [name for name in names if not lane.kill_at(provider, scenario, name)]
    tally("kills", len(names) - len(missed))
    assert len(missed) <= len(names) // 20, missed


@pytest.mark.parametrize("scenario", ["one_job", "several_jobs", "a_retry_round"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_frozen_at_every_point(lane, provider, scenario, tally):
    """Whoever is woken after another process took over changes nothing and creates nothing.

    Not inside of a transaction: SQLite's lock then keeps everybody out until the wake.
    """
    names = lane.points(provider, scenario)
    names = [name for name in names if not name.startswith("before commit")]
    missed = [name for name in names if not lane.freeze_at(provider, scenario, name)]
    tally("freezes", len(names) - len(missed))
    assert len(missed) <= len(names) // 20, missed


@pytest.mark.parametrize("provider", PROVIDERS)
def test_eight_kernels_at_once(lane, provider):
    """Of eight processes that run the same cell at once one sends it; all see the answers."""
    order = lane.begin(provider, "one_job")
    kernels = [lane.start(order) for _ in range(8)]
    for kernel in kernels:
        assert lane.await_end(kernel) == 0, lane.report(order, kernel)
        lane.check(order, lane.report(order, kernel))
    assert lane.deeds(order)[1] == 1
    lane.end(order)


def test_a_dead_owner_is_replaced_at_once(lane):
    """A watching kernel takes over from a killed one without waiting for its lease to go stale."""
    order = lane.begin("openai", "one_job")
    lane.sim.behave(seconds=1000)
    first = lane.start(order)
    lane.await_journal(order, "accepted")
    second = lane.start(order)
    os.kill(first, signal.SIGKILL)
    lane.await_end(first)
    lane.sim.advance(2000)
    assert lane.await_end(second) == 0
    lane.check(order, lane.report(order, second))
    assert lane.deeds(order)[1] == 1
    lane.end(order)
