"""A private Jupyter server, Chromium, and a page object that drives a notebook like a person.

The fixture ``lab`` is all that a test needs::

    def test_something(lab):
        lab.write("demo.ipynb", ["1 + 1"])
        lab.open("demo.ipynb")
        lab.run(0)
        expect(lab.output(0)).to_contain_text("2")

When a test ends, `lab` fails it if the page asked for anything outside this machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "test-artifacts"

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

#: True when the open notebook is connected to a kernel that has nothing to do.
_IDLE = """() => {
  const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
  return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""


class JupyterServer:
    """A server with its own folders, port and token.

    Parameters
    ----------
    home
        An empty folder for everything that the server and its kernels write.
    """

    def __init__(self, home: Path) -> None:
        self.notebooks = home / "notebooks"
        self.notebooks.mkdir()
        self.port = _free_port()
        self.token = secrets.token_hex(16)
        self._log = home / "server.log"
        settings = home / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        # The question about news would lie over what is to be seen.
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        self._home = home
        self._command = [
            *(sys.executable, "-m", "jupyter", "lab", "--allow-root", "--no-browser"),
            *("--ip=127.0.0.1", f"--port={self.port}", "--ServerApp.port_retries=0"),
            f"--ServerApp.root_dir={self.notebooks}",
            f"--IdentityProvider.token={self.token}",
            "--ServerApp.disable_check_xsrf=True",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
        ]
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | _environment(self._home),
                cwd=self.notebooks,
            )

    def restart(self) -> None:
        """Stop the server with its kernels, and start it again at the same address."""
        self.stop()
        self._start()
        self.wait()

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self, seconds: float = 60) -> None:
        """Return when the server answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.api("GET", "/api/status")
            except (urllib.error.URLError, ConnectionError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"no Jupyter server:\n{self._log.read_text()[-3000:]}")
                time.sleep(0.1)
            else:
                return

    def api(self, method: str, path: str) -> Any:
        """Call the server's REST interface."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def shut_down_kernels(self) -> None:
        """End all sessions and kernels."""
        for kernel in self.api("GET", "/api/kernels"):
            self.api("DELETE", f"/api/kernels/{kernel['id']}")

    def stop(self) -> None:
        """End the server; it ends its kernels."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Lab:
    """JupyterLab with one notebook open, as a person uses it."""

    #: Where a notebook is opened, and what the address ends with.
    _way, _end = "lab/tree", "&reset"

    def __init__(self, page: Page, server: JupyterServer) -> None:
        self.page = page
        self.server = server
        self.name = ""
        self.left_the_machine: list[str] = []
        page.route("**/*", self._guard)

    def _guard(self, route: Route) -> None:
        if route.request.url.startswith((f"{self.server.url}/", "data:", "blob:")):
            route.continue_()
        else:
            self.left_the_machine.append(route.request.url)
            route.abort()

    # -- the file ------------------------------------------------------------------------------

    def write(self, name: str, cells: list[str]) -> None:
        """Make a notebook of code cells."""
        nb = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}},
        )
        nbformat.write(nb, self.server.notebooks / name)

    def read(self) -> nbformat.NotebookNode:
        """Return the open notebook as it was saved last."""
        return nbformat.read(self.server.notebooks / self.name, as_version=4)

    def open(self, name: str) -> None:
        """Open a notebook in a fresh workspace and wait for its kernel."""
        self.name = name
        address = f"{self.server.url}/{self._way}/{name}?token={self.server.token}{self._end}"
        self.page.goto(address, wait_until="domcontentloaded")
        self.idle()

    def reload(self) -> None:
        """Reload the page; the kernel goes on."""
        self.page.reload(wait_until="domcontentloaded")
        self.idle()

    def reopen(self) -> None:
        """Open the saved notebook as if on another day: new page, new kernel."""
        self.page.goto("about:blank")
        self.server.shut_down_kernels()
        self.open(self.name)

    def save(self) -> None:
        """Save, and return when the file is written."""
        self.command("docmanager:save")

    # -- the kernel ----------------------------------------------------------------------------

    def idle(self, seconds: float = 60) -> None:
        """Wait until the notebook is there and its kernel has nothing to do."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=seconds * 1000)
        self.page.wait_for_function(_IDLE, timeout=seconds * 1000)

    def run(self, index: int, *, wait: bool = True, seconds: float = 60) -> None:
        """Run a cell; without `wait`, return while it runs."""
        select = """index => {
          const notebook = window.jupyterapp.shell.currentWidget.content;
          notebook.deselectAll();
          notebook.activeCellIndex = index;
        }"""
        self.page.evaluate(select, index)
        self.command("notebook:run-cell", wait=wait)
        if wait:
            prompt = self.cell(index).locator(".jp-InputPrompt").first
            expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=seconds * 1000)

    def run_all(self) -> None:
        """Run all cells, and return when the last one is through."""
        self.command("notebook:run-all-cells")

    def restart(self) -> None:
        """Restart the kernel through the menu."""
        self.page.locator(".lm-MenuBar-item", has_text="Kernel").click()
        self.page.locator(".lm-Menu-item", has_text=re.compile("^Restart Kernel…")).click()
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self.idle()

    # -- what is seen --------------------------------------------------------------------------

    def cell(self, index: int) -> Locator:
        """Return a cell, source included."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """Return all that a cell has put out."""
        return self.cell(index).locator(".jp-OutputArea").first

    def panel(self, index: int) -> Locator:
        """Return the live panel in a cell's output."""
        return self.output(index).locator(".llmb-panel")

    def theme(self, name: str) -> None:
        """Switch to ``"light"`` or ``"dark"``."""
        self.command("apputils:change-theme", theme=f"JupyterLab {name.title()}")
        light = "true" if name == "light" else "false"
        body = f'body[data-jp-theme-light="{light}"]'
        self.page.wait_for_selector(body, state="attached")

    def screenshot(self, name: str, part: Locator | None = None) -> Path:
        """Take a picture of the page or of a part of it into ``test-artifacts``."""
        path = ARTIFACTS / f"{name}.png"
        (part or self.page).screenshot(path=path)
        return path

    def command(self, name: str, *, wait: bool = True, **arguments: Any) -> None:
        """Execute one of JupyterLab's commands; with `wait`, until it is done."""
        run = """([name, args, wait]) => {
          const done = window.jupyterapp.commands.execute(name, args).then(() => null);
          return wait ? done : null;
        }"""
        self.page.evaluate(run, [name, arguments, wait])


class Notebook7(Lab):
    """The same notebook in Jupyter Notebook 7, which shows nothing else."""

    _way, _end = "notebooks", ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(home: Path) -> dict[str, str]:
    """Return variables that keep the server and its kernels inside `home`."""
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    variables = {name: str(home / folder) for name, folder in folders.items()}
    try:
        importlib.metadata.version("jupyter-llm-batch")
    except importlib.metadata.PackageNotFoundError:
        variables["PYTHONPATH"] = str(ROOT)
    return variables


def _chromium() -> str | None:
    """Return the browser to start; None leaves it to Playwright's own download."""
    wanted = os.environ.get("CHROMIUM")
    if wanted:
        return wanted
    system = Path("/usr/bin/chromium")
    return str(system) if system.exists() else None


@pytest.fixture(scope="session")
def jupyter_server(tmp_path_factory):
    server = JupyterServer(tmp_path_factory.mktemp("jupyter"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser():
    # Not for the session: while Playwright runs, no other test in this process has a loop.
    with sync_playwright() as playwright:
        chromium: Browser = playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
        yield chromium
        chromium.close()


def _driven(kind: type[Lab], server: JupyterServer, browser: Browser) -> Iterator[Lab]:
    ARTIFACTS.mkdir(exist_ok=True)
    context = browser.new_context(viewport={"width": 1200, "height": 900}, device_scale_factor=2)
    driver = kind(context.new_page(), server)
    yield driver
    context.close()
    server.shut_down_kernels()
    assert driver.left_the_machine == []


@pytest.fixture
def lab(jupyter_server, browser):
    yield from _driven(Lab, jupyter_server, browser)


@pytest.fixture
def notebook7(jupyter_server, browser):
    yield from _driven(Notebook7, jupyter_server, browser)
