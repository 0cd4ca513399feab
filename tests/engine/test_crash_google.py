"""A batch at Gemini, killed or frozen at every point: nothing is paid twice or lost."""

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("scenario", ["one_job", "several_jobs", "rows_in_real_time"])
def test_killed_at_every_point(lane, scenario, tally):
    """Wherever it is killed, no row is billed twice and each answer that came is bound."""
    tally("kills", lane.everywhere("kills", "google", scenario))


def test_a_retry_round_of_files_killed_at_every_point(lane, tally):
    """The same for a large batch, which Gemini takes as a file."""
    tally("kills", lane.everywhere("kills", "google-file", "a_retry_round"))


def test_frozen_at_every_point(lane, tally):
    """Whoever is woken after another process took over changes nothing and creates nothing.

    One that froze inside a transaction keeps everybody out until the wake, and they say so.
    """
    tally("freezes", lane.everywhere("freezes", "google", "one_job"))
