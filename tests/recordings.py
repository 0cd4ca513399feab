"""Where recordings of the providers' real traffic lie: beside the repository, and not in it."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "recordings"
RECORDINGS = Path(os.environ.get("LLM_BATCH_RECORDINGS") or _BESIDE)

#: Skips the tests of a module, with the reason, where there are none.
NEEDED = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason=f"no recordings of real traffic at {RECORDINGS}"
)
