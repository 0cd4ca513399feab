"""Several kernels with one notebook: one drives, the others see; a dead one is replaced."""

import os
import signal

import pytest
from campaign.scenarios import PROVIDERS

pytestmark = pytest.mark.timeout(600)

STORIES = [
    *((provider, "one_job") for provider in PROVIDERS),
    ("openai", "a_collected_cell"),
    ("anthropic", "an_adopted_batch"),
]


@pytest.mark.parametrize(("provider", "story"), STORIES)
def test_eight_kernels_at_once(lane, provider, story):
    """Of eight processes that run the same cells at once one sends them; all see the answers."""
    order = lane.begin(provider, story)
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


@pytest.mark.parametrize("seed", range(6))
def test_kernels_at_once_killed_here_and_there(lane, tally, seed):
    """Whoever comes last finds each row paid once, each answer, and nothing half done."""
    _, killed = lane.crowd(seed)
    tally("kills among kernels at once", killed)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_busy_kernel_killed_here_and_there(lane, tally, provider):
    """The journal is opened twice, loaded again and read by a terminal: nothing is paid twice."""
    names = lane.points(provider, "a_busy_kernel")
    late = [name for name in names if name.startswith("after commit accepted")][-1]
    for name in [*names[:: len(names) // 4], late]:
        lane.kill_at(provider, "a_busy_kernel", name)
        tally("kills of a busy kernel", 1)
