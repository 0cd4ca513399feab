"""The search for keys that ends a run finds them, with and without processes of pytest-xdist."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]

CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
import leaks

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(leaks.Search(config), "search-for-keys")
"""

#: Bodies of a test, and what the search says of them; `{key}` is put together by the test itself.
LEAKS = {
    "nothing": ("tmp_path.joinpath('a').write_text('nothing')", ""),
    "file": ("tmp_path.joinpath('a').write_bytes(b'x' * 5000 + key.encode())", "test_it0"),
    "print": ("print(key)", "Captured stdout"),
    "log": ("import logging; logging.warning(key)", "Captured log"),
}


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("leak", LEAKS)
def test_a_key_that_is_left_behind_fails_the_run(leak, processes, tmp_path):
    """Every test passes, and yet the run fails where a key is in a file, an output or a log."""
    body, told = LEAKS[leak]
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(HERE)))
    (tmp_path / "test_it.py").write_text(
        f"from support import KEYS\ndef test_it(tmp_path):\n    key = KEYS['odd']\n    {body}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", processes, "-p", "no:cacheprovider",
         "--basetemp", str(tmp_path / "base"), "test_it.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    shutil.rmtree(tmp_path / "base", ignore_errors=True)  # the run around this one is searched too
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == bool(told)
    assert ("keys were left behind" in done.stdout) == bool(told)
    assert told in done.stdout
