"""A batch killed or frozen at every point of its life: nothing is paid twice, nothing is lost."""

import os
import shutil

import pytest
from campaign.harness import lane as make_lane
from campaign.scenarios import MODELS, SCENARIOS

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
def test_killed_at_every_point(lane, provider, scenario, record_property):
    """Wherever it is killed, each row is billed at most once and each paid answer is bound."""
    names = lane.points(provider, scenario)
    missed = [name for name in names if not lane.kill_at(provider, scenario, name)]
    record_property("kills", len(names) - len(missed))
    assert len(missed) <= len(names) // 20, missed
