"""The pages that are drawn from the code are those that the code draws now."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_drawn_pages_are_up_to_date():
    """Else: run `python scripts/draw_architecture.py` and read what it has changed."""
    script = ROOT / "scripts" / "draw_architecture.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}run: python scripts/draw_architecture.py"


def test_contributing_names_files_that_exist():
    """A path in CONTRIBUTING.md that was moved sends a newcomer nowhere."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = {word for word in text.split("`") if "/" in word and " " not in word and "." in word}
    assert len(paths) > 15
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert not missing
