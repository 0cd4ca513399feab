"""The README's notebook in JupyterLab, with the kernel restarted and killed in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from playwright.sync_api import expect
from support import until

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).parents[2] / "example_notebooks"
QUICKSTART = EXAMPLES / "quickstart.ipynb"
LOAD, ROWS, BATCH, WAIT, HEAD, SLEEP = 1, 3, 5, 7, 9, 14


@pytest.fixture
def simulated(jupyter_server):
    """The folder of the simulator that the notebooks of this server share; ended afterwards."""
    folder = jupyter_server.notebooks.parent / "data" / "llm_batch" / "simulator"
    yield folder
    address = json.loads((folder / "simulator.json").read_text())
    os.kill(address["pid"], signal.SIGTERM)
    until(lambda: has_ended(address["pid"]))
    for data in (folder.parent / "simulated", folder):
        for file in sorted(data.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()


def has_ended(pid):
    """Whether a process is over; its parent, the kernel, may not have noticed yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def ledger(folder):
    found = json.loads((folder / "simulator.json").read_text())
    request = urllib.request.Request(
        f"http://127.0.0.1:{found['port']}/_sim/ledger/summary",
        headers={"Authorization": f"Bearer {found['key']}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def place(lab, name, extra):
    """Copy the quickstart beside the server, with further cells at its end."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in extra]
    nbformat.write(notebook, lab.server.notebooks / name)


def bar_of(panel):
    """Return how far the panel's bar is, as a screen reader hears it."""
    return int(panel.locator("[role=progressbar]").get_attribute("aria-valuenow"))


def test_the_quickstart_survives_a_restart(lab, simulated):
    """A panel that moves while a cell sleeps, a restart, the panel again, answers billed once."""
    place(lab, "quickstart.ipynb", ["import time; time.sleep(5)"])
    lab.open("quickstart.ipynb")
    lab.run(LOAD)
    lab.run(ROWS)
    lab.run(BATCH)
    panel = lab.panel(BATCH)
    expect(panel).to_contain_text("sentiment")
    expect(panel).to_contain_text("simulated")
    expect(panel).to_contain_text("safe to close", timeout=20_000)
    expect(panel).to_contain_text("running", timeout=20_000)

    lab.run(SLEEP, wait=False)
    expect(lab.cell(SLEEP).locator(".jp-InputPrompt").first).to_have_text("[*]:")
    before = bar_of(panel)
    lab.page.wait_for_timeout(2500)
    expect(lab.cell(SLEEP).locator(".jp-InputPrompt").first).to_have_text("[*]:")
    assert bar_of(panel) > before
    lab.screenshot("panel-running-light", panel)
    lab.screenshot("quickstart-running-light")
    lab.theme("dark")
    lab.screenshot("panel-running-dark", panel)
    lab.theme("light")

    lab.restart()
    expect(panel).to_contain_text("restarted or lost; the batch is still running at the provider")
    expect(panel.get_by_role("button", name="Cancel")).to_be_hidden()
    lab.run(LOAD)
    back = lab.panel(LOAD)
    expect(back).to_contain_text("sentiment")
    lab.screenshot("quickstart-restarted-light")
    lab.run(WAIT, seconds=90)
    expect(lab.output(WAIT)).to_contain_text("300 of 300", timeout=30_000)
    lab.run(HEAD)
    expect(lab.output(HEAD)).to_contain_text("simulated")
    assert lab.output(HEAD).locator("tbody tr").count() == 5
    lab.screenshot("quickstart-done-light")
    lab.screenshot("panel-done-light", lab.output(WAIT))
    lab.theme("dark")
    lab.screenshot("panel-done-dark", lab.output(WAIT))
    lab.screenshot("quickstart-done-dark")
    lab.theme("light")
    assert ledger(simulated)["rows"] == 300
    assert ledger(simulated)["max_per_body"] == 1

    lab.run(ROWS)
    lab.run(BATCH)
    expect(lab.output(BATCH)).to_contain_text("no new cost")
    assert ledger(simulated)["rows"] == 300

    lab.save()
    lab.reopen()
    expect(lab.output(WAIT)).to_contain_text("300 of 300")
    expect(lab.output(WAIT)).not_to_contain_text("model not found")
    lab.screenshot("quickstart-reopened-light")


def test_the_quickstart_survives_a_restart_in_notebook_7(notebook7, simulated):
    """The panel moves while a cell sleeps, and after a restart panel and answers are there."""
    place(notebook7, "seven.ipynb", ["import time; time.sleep(5)"])
    notebook7.open("seven.ipynb")
    for cell in (LOAD, ROWS, BATCH):
        notebook7.run(cell)
    panel = notebook7.panel(BATCH)
    expect(panel).to_contain_text("running", timeout=20_000)
    notebook7.run(SLEEP, wait=False)
    before = bar_of(panel)
    notebook7.page.wait_for_timeout(2500)
    expect(notebook7.cell(SLEEP).locator(".jp-InputPrompt").first).to_have_text("[*]:")
    assert bar_of(panel) > before
    notebook7.screenshot("notebook7-running-light")
    notebook7.restart()
    notebook7.run(LOAD)
    expect(notebook7.panel(LOAD)).to_contain_text("sentiment")
    notebook7.run(WAIT, seconds=90)
    expect(notebook7.output(WAIT)).to_contain_text("300 of 300", timeout=30_000)
    notebook7.run(HEAD)
    assert notebook7.output(HEAD).locator("tbody tr").count() == 5
    notebook7.screenshot("notebook7-done-light")
    summary = ledger(simulated)
    assert (summary["rows"], summary["max_per_body"]) == (300, 1)


def test_a_killed_kernel_loses_nothing(lab, simulated):
    """SIGKILL while the batch runs; the next kernel finishes it, every row billed once."""
    place(lab, "killed.ipynb", ["import os; print('pid', os.getpid())", "len(sentiment)"])
    lab.open("killed.ipynb")
    lab.run(LOAD)
    lab.run(ROWS)
    lab.run(BATCH)
    expect(lab.panel(BATCH)).to_contain_text("safe to close", timeout=20_000)
    lab.run(SLEEP)
    pid = int(re.search(r"pid (\d+)", lab.output(SLEEP).inner_text()).group(1))
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        lab.page.wait_for_timeout(100)
    # The server starts a new kernel by itself; JupyterLab says so in a dialog.
    lab.page.locator(".jp-Dialog button").last.click(timeout=60_000)
    lab.idle()
    lab.run(LOAD)
    lab.run(WAIT, seconds=90)
    lab.run(SLEEP + 1)
    expect(lab.output(SLEEP + 1)).to_contain_text("300")
    summary = ledger(simulated)
    assert (summary["rows"], summary["max_per_body"]) == (300, 1)


def test_a_batch_outlives_kernel_and_server(lab, simulated):
    """Kernel killed by the system, server stopped and started: panel and answers are there."""
    place(lab, "stopped.ipynb", ["import os; print('pid', os.getpid())"])
    lab.open("stopped.ipynb")
    lab.run(LOAD)
    lab.run(ROWS)
    lab.run(BATCH)
    expect(lab.panel(BATCH)).to_contain_text("safe to close", timeout=20_000)
    lab.run(SLEEP)
    pid = int(re.search(r"pid (\d+)", lab.output(SLEEP).inner_text()).group(1))
    lab.save()
    os.kill(pid, signal.SIGKILL)
    lab.page.goto("about:blank")
    lab.server.restart()
    lab.open("stopped.ipynb")
    lab.run(LOAD)
    expect(lab.panel(LOAD)).to_contain_text("sentiment")
    lab.run(WAIT, seconds=90)
    expect(lab.output(WAIT)).to_contain_text("300 of 300", timeout=30_000)
    lab.run(HEAD)
    expect(lab.output(HEAD)).to_contain_text("simulated")
    summary = ledger(simulated)
    assert (summary["rows"], summary["max_per_body"]) == (300, 1)


def test_three_providers_answer_side_by_side(lab, simulated):
    """The example with three batches and a routed one runs from top to bottom in JupyterLab."""
    notebook = nbformat.read(EXAMPLES / "three_providers.ipynb", as_version=4)
    nbformat.write(notebook, lab.server.notebooks / "three_providers.ipynb")
    lab.open("three_providers.ipynb")
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            lab.run(number, seconds=90)
            expect(
                lab.cell(number).locator(".jp-RenderedText[data-mime-type*=stderr]")
            ).to_have_count(0)
    routed = next(
        n
        for n, cell in enumerate(notebook.cells)
        if "--route" in cell.source and cell.cell_type == "code"
    )
    expect(lab.output(routed)).to_contain_text("300 of 300", timeout=30_000)
    expect(lab.output(routed)).to_contain_text("3 models")
    lab.screenshot("routed-light", lab.output(routed))
    assert ledger(simulated)["rows"] == 1200


def test_what_it_costs_is_shown_before_while_and_after(lab, simulated):
    """Estimate, a sample and its button, comparison, chart and advice, in light and dark."""
    notebook = nbformat.read(EXAMPLES / "what_it_costs.ipynb", as_version=4)
    nbformat.write(notebook, lab.server.notebooks / "costs.ipynb")
    lab.open("costs.ipynb")

    def number(words):
        return next(n for n, cell in enumerate(notebook.cells) if words in cell.source)

    for cell in (number("%load_ext"), number("import pandas")):
        lab.run(cell)
    dry, sample, rest = number("--dry-run\n"), number("--sample 5"), number("submit sorted")
    lab.run(dry)
    expect(lab.output(dry)).to_contain_text("cost as a batch")
    lab.run(sample)
    panel = lab.panel(sample)
    expect(panel).to_contain_text("the sample of 5 took", timeout=60_000)
    assert ledger(simulated)["rows"] == 5
    lab.screenshot("sample-light", panel)
    panel.get_by_role("button", name="Send the rest").click()
    expect(lab.output(sample)).to_contain_text("200 of 200 answered", timeout=60_000)
    assert ledger(simulated)["rows"] == 200
    for words in ("%%llm_batch by_haiku", "compare sorted", "cost --by", "%llm_batch advise"):
        lab.run(number(words), seconds=90)
    assert rest
    chart = lab.output(number("cost --by"))
    expect(chart).to_contain_text("simulated, no real money")
    expect(lab.output(number("compare"))).to_contain_text("agree")
    expect(lab.output(number("%llm_batch advise"))).to_contain_text(
        "Counted on what was done already"
    )
    for theme in ("light", "dark"):
        lab.theme(theme)
        for name, words in (
            ("estimate", "--dry-run\n"), ("compare", "compare sorted"), ("chart", "cost --by"),
            ("advise", "%llm_batch advise"),
        ):  # fmt: skip
            lab.screenshot(f"costs-{name}-{theme}", lab.output(number(words)))
    lab.theme("light")
