"""The live tests: listed in the docs, sound code, and never passed without a provider."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from support import KEYS

ROOT = Path(__file__).parents[2]


def live_tests():
    """Return the live tests with their docstrings."""
    tree = ast.parse((ROOT / "tests" / "client" / "test_live.py").read_text())
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def run(**environ):
    """Run the live tests in a process of their own; return it and the tests' outcomes."""
    kept = {name: value for name, value in os.environ.items()
            if not name.endswith("_API_KEY") and not name.startswith("LLM_BATCH_LIVE")}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-v", "-rs",
         str(ROOT / "tests" / "client" / "test_live.py")],
        env=kept | environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"}, cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    return done, re.findall(r"::(test_\w+) (PASSED|SKIPPED|FAILED|ERROR)", done.stdout)


def simulated(sim):
    """Return the variables by which the live tests meet the simulator."""
    return sim.environ() | {
        "AZURE_OPENAI_ENDPOINT": f"{sim.url}/azure",
        "AZURE_OPENAI_API_KEY": KEYS["azure"],
        "LLM_BATCH_LIVE": "1",
        "LLM_BATCH_LIVE_AZURE": "deployment",
    }


def test_the_document_lists_the_live_tests():
    """Every live test is in docs/unverified.md, and every test named there exists."""
    text = (ROOT / "docs" / "unverified.md").read_text()
    assert set(re.findall(r"`(test_\w+)`", text)) == set(live_tests())


def test_every_live_test_says_what_it_costs():
    """Whoever starts one has been told what it may cost."""
    assert all("Costs " in text for text in live_tests().values())


def test_without_a_key_every_live_test_is_skipped_loudly():
    """The reason says what stays unverified and what would try it."""
    done, outcomes = run()
    assert {outcome for _, outcome in outcomes} == {"SKIPPED"}, done.stdout
    assert len(outcomes) == len(live_tests())
    assert done.stdout.count("UNVERIFIED of") >= len(outcomes)


def test_a_server_on_this_machine_proves_nothing(sim):
    """With every variable set but a loopback address, nothing is sent and nothing passes."""
    done, outcomes = run(**simulated(sim))
    assert {outcome for _, outcome in outcomes} == {"SKIPPED"}, done.stdout
    assert "proves nothing" in done.stdout
    assert sim.requests() == []


def test_the_live_tests_run_through(sim):
    """Against the simulator, where asked for, each runs to its end, and none passes."""
    done, outcomes = run(**simulated(sim), LLM_BATCH_LIVE_SIMULATED="1")
    assert {outcome for _, outcome in outcomes} == {"SKIPPED"}, done.stdout
    ran = sum(int(count) for count in re.findall(r"SKIPPED \[(\d+)\] .*ran through", done.stdout))
    assert ran == len(live_tests()) - 1  # one needs a batch of weeks ago
