"""What the README says is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_llm_batch.cli.commands import make_parser as cli_parser
from jupyter_llm_batch.core.cell_options import cell_parser
from jupyter_llm_batch.notebook import parsers
from jupyter_llm_batch.providers import registry

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code, tmp_path):
    """Each Python block runs as it stands, on the simulator."""
    environment = os.environ | {"JUPYTER_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stdout


def test_scripts_exist():
    """The two commands of the README are files of the repository."""
    for command in ("scripts/quickstart", "scripts/test"):
        assert f"bash {command}" in README
        assert (ROOT / command).is_file()
    assert "bash scripts/test" in (ROOT / ".ci" / "run").read_text()


def test_pictures_exist():
    """Every picture that is shown is there."""
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_options_exist():
    """No option is praised that the magic, the command or the campaign does not know."""
    known = {
        *cell_parser().options(),
        *(option for name in ("retry", "doctor") for option in parsers.of(name).options()),
        "--raw",
        "--help",
        "--no-browser",
        "--port",
    }
    known |= {"--every", "--freezes", "--kills", "--crowds", "--seed", "--fast"}
    terminal = cli_parser()._subparsers._group_actions[0].choices["watch"]
    known |= {option for action in terminal._actions for option in action.option_strings}
    assert {*re.findall(r"--[a-z][a-z-]+", README)} <= known


def test_the_provider_table_is_the_code():
    """Rows and bytes of one job stand in the table as the adapters have them."""
    head, rows_line, bytes_line = (
        next(line for line in README.splitlines() if line.startswith(start))
        for start in ("| | OpenAI", "| rows in one job", "| bytes in one job")
    )
    names = [cell.strip() for cell in head.strip("|").split("|")][1:]
    by_title = {"OpenAI": "openai", "Anthropic": "anthropic", "Google Gemini": "google"}
    for number, name in enumerate(names, start=1):
        limits = registry.make(by_title[name], {}).limits("chat")
        assert f"{limits.requests:,}" in rows_line.strip("|").split("|")[number]
        size = bytes_line.strip("|").split("|")[number]
        assert f"{limits.bytes // 10**6:,} MB" in size, (name, size)
