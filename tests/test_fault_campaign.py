"""The wire fails in every way: nothing is paid twice, nothing is lost, and the batch ends."""

import os
import shutil

import pytest
from campaign.faults import FAULTS, mix
from campaign.harness import lane as make_lane
from campaign.scenarios import MODELS, SCENARIOS

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    pytest.mark.timeout(600),
]

#: No file is uploaded there.
WITHOUT_UPLOAD = {"anthropic", "google"}


@pytest.fixture(scope="module")
def lane():
    """A simulator, and a process that children are forked from."""
    lane = make_lane()
    yield lane
    lane.close()
    shutil.rmtree(lane.folder, ignore_errors=True)


@pytest.mark.parametrize("provider", MODELS)
def test_each_fault_alone(lane, provider):
    """Every fault is met, and the end is that of an undisturbed run."""
    for name, fault in FAULTS.items():
        if not (name.startswith("upload") and provider in WITHOUT_UPLOAD):
            assert lane.endure(provider, "one_job", fault), name


@pytest.mark.parametrize("provider", MODELS)
def test_faults_at_random(lane, provider):
    """Several faults at once change nothing in the end either."""
    for seed, scenario in enumerate(sorted(SCENARIOS) * 2):
        try:
            lane.endure(provider, scenario, *mix(seed))
        except AssertionError as error:
            error.add_note(f"{scenario} with the mix of seed {seed}")
            raise
