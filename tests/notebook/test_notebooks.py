"""The example notebooks run from top to bottom, as `jupyter execute` runs them."""

import json
import os
import signal
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "example_notebooks").glob("*.ipynb"))


def run(notebook, folder):
    """Execute a notebook, and end the simulator that it started."""
    try:
        nbclient.NotebookClient(
            notebook, timeout=120, kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute()  # fmt: skip
    finally:
        for address in folder.rglob("simulator.json"):
            os.kill(json.loads(address.read_text())["pid"], signal.SIGTERM)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_example_notebooks_run(path, tmp_path, monkeypatch):
    """No cell fails, and the saved notebook shows the end of the batch, not its beginning."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(path.parent.parent))
    notebook = nbformat.read(path, as_version=4)
    run(notebook, tmp_path)
    shown = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert any("answered" in html for html in shown)
    for cell in notebook.cells:
        assert not [o for o in cell.get("outputs", []) if o.output_type == "error"]


def test_a_batch_that_ends_while_another_cell_runs_is_kept(tmp_path, monkeypatch):
    """The panel of its own cell becomes the summary in the file that `jupyter execute` saves."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    cells = [
        "%load_ext jupyter_llm_batch\n%llm_batch simulator --seconds 0",
        "%%llm_batch x --over ['a', 'b']\nQ {{ item }}",
        """import time
magics = get_ipython().magics_manager.registry['LLMBatchMagics']
while magics.commands().controller.panels._views:
    time.sleep(0.05)""",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    run(notebook, tmp_path)
    (panel,) = [each for each in notebook.cells[1].outputs if "data" in each]
    assert "2 of 2 answered" in panel["data"]["text/html"]
