"""``%llm_batch doctor``: whether batches can be sent, what is missing, and what to do about it.

It is run when something is broken, so that nothing that is broken may end it: each part of it
that fails is a line that says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from ..client import connectivity, defect_report
from ..core import trouble
from ..core.errors import LLMBatchError, UsageProblem
from ..core.text import local_time
from ..providers import registry
from ..providers.shared import addresses
from .tables.grid import grid

if TYPE_CHECKING:
    from ..client.client import Client
    from ..client.journal_facts import JournalFacts
    from .controller import Controller

_PACKAGES = ("jupyter-llm-batch", "openai", "anthropic", "google-genai", "ipywidgets", "anywidget")

_WIDGETS = ("ipywidgets", "anywidget")


class _Findings(msgspec.Struct):
    """What was found: the table, and what the verdict is made of.

    Attributes
    ----------
    keys
        Providers with a key.
    usable
        Those of them whose server is there and, where that was tried, takes the key.
    wrong
        What keeps every batch from being sent.
    hints
        What keeps a provider with a key from being used.
    """

    rows: list[list[str]] = msgspec.field(default_factory=list)
    keys: list[str] = msgspec.field(default_factory=list)
    usable: list[str] = msgspec.field(default_factory=list)
    wrong: list[str] = msgspec.field(default_factory=list)
    hints: list[str] = msgspec.field(default_factory=list)

    def part(self, what: str, look: Callable[[], list[list[str]]]) -> None:
        """Add what a part of the examination finds, or why it cannot be made."""
        try:
            self.rows += look()
        except Exception as error:  # noqa: BLE001 - whatever is broken, the rest is told
            self.rows.append([what, "cannot be examined", trouble.describe_error(error)])
            if trouble.is_defect(error):
                trouble.report_defect(error, f"doctor: {what}")


def show(controller: Controller, *, check_keys: bool = False, report: bool = False) -> None:
    """Display whether batches can be sent, and the state of all that they need.

    Parameters
    ----------
    check_keys
        Try each key by a call that costs nothing.
    report
        Write a report, also when no internal error was met.
    """
    found = _Findings()
    client: Client | None = None
    try:
        client = controller.client
    except Exception as error:  # noqa: BLE001 - a journal that cannot be opened, for instance
        found.wrong.append(f"the journal cannot be used: {trouble.describe_error(error)}")
        found.rows.append(["journal", "cannot be used", trouble.describe_error(error)])
    if client is not None:
        the = client
        found.part("providers", lambda: _providers(the, found, check_keys=check_keys))
    found.part("packages", _packages)
    if client is not None:
        found.part("journal", lambda: _journal(the.journal.facts(), found))
        found.part("notebook", lambda: _notebook(the))
    found.part("front end", lambda: [["front end", *_front_end(controller)]])
    print(_verdict(found))
    grid(["what", "state", "remark"], found.rows)
    if trouble.defects or report or _has_defects(client):
        _write(client)


def _verdict(found: _Findings) -> str:
    """Return in one line whether batches can be sent, and else why not."""
    if found.wrong:
        return f"Not ready: {found.wrong[0]}"
    if not found.keys:
        return (
            "Not ready: no provider has a key. `%llm_batch login openai` asks for one; "
            "`%llm_batch simulator` needs none"
        )
    if not found.usable:
        return f"Not ready: {'; '.join(found.hints) or 'no provider can be used'}"
    but = f". Not usable: {'; '.join(found.hints)}" if found.hints else ""
    return f"Ready: {', '.join(found.usable)}{but}"


def _write(client: Client | None) -> None:
    try:
        path = client.journal.write_report() if client is not None else defect_report.write(None)
    except Exception as error:  # noqa: BLE001 - a full disk, for instance
        print(f"The report could not be written: {trouble.describe_error(error)}")
    else:
        print(
            f"Report: {path} holds tracebacks, versions and states of jobs; no keys, prompts or "
            "answers. Send it to us with a few words about what you did."
        )


def _has_defects(client: Client | None) -> bool:
    try:
        return client is not None and client.journal.has_defects()
    except Exception:  # noqa: BLE001 - the journal may be what is broken
        return False


def _packages() -> list[list[str]]:
    rows = []
    for package in _PACKAGES:
        try:
            rows.append([package, version(package), ""])
        except PackageNotFoundError:
            rows.append([package, "missing", f"pip install {package}"])
    return [*rows, ["python", sys.version.split()[0], ""]]


def _notebook(client: Client) -> list[list[str]]:
    return [
        ["notebook", client.notebook, "batches are found under this name"],
        ["server", "simulated" if client.simulated else "real providers", ""],
    ]


def _providers(client: Client, found: _Findings, *, check_keys: bool) -> list[list[str]]:
    """Return whether each provider has its key, and whether its server can be reached."""
    servers = client.settings.servers
    rows: list[list[str]] = []
    places = dict(servers)
    checks: dict[str, connectivity.Reach] = {}
    for name in registry.names(servers):
        try:
            adapter = client.provider_checks.adapter(name)
            account = client.provider_checks.account(adapter)
            adapter.check_key()
            found.keys.append(name)
            places[name] = account.base_url
            origin = client.keys.origin(addresses.key_variables(name))
            if client.simulated and client.keys.closed:
                origin = "simulated"
            origin = origin or "none needed"
            row = [f"{name} key", "present", f"{origin}; server {account.base_url}"]
            if check_keys:
                checks[name] = client.provider_checks.check_key(adapter)
                row[1] = "accepted" if checks[name].status == 200 else "not accepted"
                if checks[name].status != 200:
                    row[2] = f"{checks[name].remark}; {row[2]}"
            rows.append(row)
        except UsageProblem as problem:
            rows.append([f"{name} key", "missing", str(problem)])
        except LLMBatchError as problem:
            rows.append([f"{name} key", "?", str(problem)])
        except Exception as error:  # noqa: BLE001 - the other providers are told
            rows.append([f"{name} key", "cannot be examined", trouble.describe_error(error)])
            if trouble.is_defect(error):
                trouble.report_defect(error, f"doctor: {name}")
    settings = {name: registry.address_of(name, servers) for name in places}
    known = {name: url for name, url in sorted(places.items()) if url}
    reached = client.provider_checks.reach(known, settings)
    for name, reach in reached.items():
        rows.append([f"{name} connection", reach.words, reach.remark])
    for name in found.keys:
        check, reach = checks.get(name), reached.get(name, connectivity.Reach(well=True))
        if check is not None and not check.well:
            found.hints.append(f"{name}: {check.remark}")
        elif check is None and not reach.well:
            found.hints.append(f"{name}: {reach.words}, {reach.remark}")
        else:
            found.usable.append(name)
    return rows


def _journal(facts: JournalFacts, found: _Findings) -> list[list[str]]:
    """Return what there is to know about the journal."""
    place = facts.place
    modes = {"wal": "write-ahead log", "delete": "rollback journal"}
    where = f"on {place.kind}, a network file system" if place.remote else place.kind
    rows = [
        ["journal", f"{facts.size / 1e6:,.1f} MB", str(facts.folder)],
        ["journal schema", str(facts.schema_version), ""],
        ["journal mode", modes.get(facts.mode, facts.mode), where],
    ]
    wrong = facts.wrong
    remedy = "restart the kernel: it is set aside, and what can be read of it is recovered"
    rows.append(["journal check", "damaged" if wrong else "OK", f"{wrong}; {remedy}" * bool(wrong)])
    if wrong:
        found.wrong.append(f"the journal is damaged: {remedy}")
    if not facts.writable:
        remedy = (
            "%config LLMBatch.data_dir = '...' and then %reload_ext jupyter_llm_batch choose "
            "another folder"
        )
        rows.append(["journal", "read-only", remedy])
        found.wrong.append(f"the journal in {facts.folder} is read-only: {remedy}")
    loss = facts.loss
    if loss is not None:
        at = local_time(loss.at, "%d %b %H:%M")
        rows.append(["journal lost", at, loss.words])
        if loss.folders:
            advice = (
                f"put a copy back as {facts.path} (one from before an upgrade lies in "
                f"{facts.folder / 'backups'}); answers are in {facts.folder / 'batches'} as the "
                "provider sent them; `%llm_batch doctor --settle` says that you know, and no cell "
                "asks any more"
            )
            rows.append(["what to do", "", advice])
    return rows


def _front_end(controller: Controller) -> tuple[str, str]:
    """Return how panels are shown here, and what to do where that is less than it could be."""
    if getattr(controller.shell, "kernel", None) is None:
        return "terminal: panels are lines of text", "they are live in JupyterLab and Notebook"
    if "google.colab" in sys.modules:
        return "Colab: panels without buttons", "`%llm_batch cancel`, `retry`, ... do the same"
    if lacking := [each for each in _WIDGETS if find_spec(each) is None]:
        return "notebook: panels without buttons", f"pip install {' '.join(lacking)}"
    remedy = (
        "if a panel stays a line of text: reload the page, and install ipywidgets and anywidget "
        "where the server runs, too"
    )
    return "notebook: live panels", remedy
