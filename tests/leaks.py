"""Searches everything that a run wrote or said for the fake keys of its tests.

One process does it, after the last test of all: its temporary folder holds those of the other
processes of pytest-xdist, and their reports, with what was printed and logged, come to it.
"""

import mmap
import os
import re
from pathlib import Path

import pytest
from support import DUMMY_KEY, KEYS

ARTIFACTS = Path(__file__).parent.parent / "test-artifacts"

#: What must be in no file and no output.
WANTED = (*KEYS.values(), DUMMY_KEY)


#: Keys that simulators made for themselves, and the files where these tell them.
_OWN = re.compile(rb"sim-[0-9a-f]{32}")
_TOLD = {"key", "simulator.json", "simulator.log"}


def in_text(text):
    """Return the keys that stand in `text`."""
    found = [key for key in WANTED if key in text]
    return found + [key.decode() for key in _OWN.findall(text.encode(errors="replace"))]


def in_files(folder):
    """Yield ``(path, key)`` for every file below `folder` that holds a key."""
    # Folders may vanish meanwhile, which `walk` takes in its stride.
    for path in (Path(root, name) for root, _, names in os.walk(folder) for name in names):
        try:
            if path.is_symlink() or not path.is_file() or not path.stat().st_size:
                continue
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                for key in WANTED:
                    if data.find(key.encode()) >= 0:
                        yield path, key
                if path.name not in _TOLD and (own := _OWN.search(data)):
                    yield path, own[0].decode()
        except OSError:
            continue  # a socket, or gone meanwhile


class Search:
    """A plugin of pytest that fails a run which left a key somewhere."""

    def __init__(self, config):
        self._config = config
        self._found = []

    def pytest_runtest_logreport(self, report):
        """Look through what a test printed and logged, wherever it ran."""
        for name, text in report.sections:
            self._found += [f"{report.nodeid}: {name}: {key}" for key in in_text(text)]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        """Look through the folders, and fail the run that has left a key."""
        factory = getattr(self._config, "_tmp_path_factory", None)
        folders = [ARTIFACTS] if ARTIFACTS.is_dir() else []
        if factory is not None and factory._basetemp is not None:
            folders.append(factory._basetemp)
        self._searched = folders
        for folder in folders:
            self._found += [f"{path}: {key}" for path, key in in_files(folder)]
        if self._found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        """Say where."""
        if self._found:
            terminalreporter.section("keys were left behind", red=True, bold=True)
            for line in self._found:
                terminalreporter.write_line(line)
