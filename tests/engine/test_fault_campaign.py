"""The wire fails in every way: nothing is paid twice, nothing is lost, and the batch ends."""

import pytest
from campaign.faults import FAULTS, mix
from campaign.scenarios import MODELS, plays

pytestmark = pytest.mark.timeout(600)

#: No file is uploaded there.
WITHOUT_UPLOAD = {"anthropic", "google"}

#: Of the mixes; the long campaign takes any.
SEEDS = (0, 1)


@pytest.mark.parametrize("provider", MODELS)
def test_each_fault_alone(lane, provider):
    """Every fault is met, and the end is that of an undisturbed run."""
    for name, fault in FAULTS.items():
        if not (name.startswith("upload") and provider in WITHOUT_UPLOAD):
            assert lane.endure(provider, "one_job", fault), name


@pytest.mark.parametrize(("provider", "scenario"), plays())
def test_faults_at_random(lane, provider, scenario):
    """Several faults at once change nothing in the end either."""
    for seed in SEEDS:
        try:
            lane.endure(provider, scenario, *mix(seed))
        except AssertionError as error:
            error.add_note(f"with the mix of seed {seed}")
            raise
