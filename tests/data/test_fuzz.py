"""Batches of any lines, schemas and values, a few of them; `fuzz` tries as many as one likes."""

import fuzz
import pytest
from answering import LINES


@pytest.mark.parametrize("provider", LINES)
def test_every_batch_ends_and_good_rows_are_bound_exactly(tmp_path, provider):
    """Whatever comes back: the batch ends, counts add up, and no good row loses its value."""
    fuzz.run(provider, tmp_path, 15)
