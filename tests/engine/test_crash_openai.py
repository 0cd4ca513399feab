"""A batch at OpenAI, killed or frozen at every point: nothing is paid twice or lost."""

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    "scenario", ["one_job", "collected_cells", "a_routed_batch", "rows_in_real_time"]
)
def test_killed_at_every_point(lane, scenario, tally):
    """Wherever it is killed, no row is billed twice and each answer that came is bound."""
    tally("kills", lane.everywhere("kills", "openai", scenario))


def test_frozen_at_every_point(lane, tally):
    """Whoever is woken after another process took over changes nothing and creates nothing.

    One that froze inside a transaction keeps everybody out until the wake, and they say so.
    """
    tally("freezes", lane.everywhere("freezes", "openai", "one_job"))
