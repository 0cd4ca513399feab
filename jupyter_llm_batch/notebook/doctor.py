"""``%llm_batch doctor``: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .. import filesystems, payloads, providers, reaching
from ..errors import LLMBatchError, UsageProblem
from ..wording import local_time
from .grids import grid

if TYPE_CHECKING:
    from ..client import Client
    from ..store import Store
    from .book import Book

_PACKAGES = ("jupyter-llm-batch", "openai", "anthropic", "google-genai", "ipywidgets", "anywidget")

_WIDGETS = ("ipywidgets", "anywidget")


def report(book: Book) -> None:
    """Display the state of everything a batch needs; keys are never shown."""
    client = book.client
    rows = _providers(client)
    for package in _PACKAGES:
        try:
            rows.append([package, version(package), ""])
        except PackageNotFoundError:
            rows.append([package, "missing", f"pip install {package}"])
    rows.append(["python", sys.version.split()[0], ""])
    size = payloads.size_of(client.store.folder)
    rows.append(["journal", f"{size / 1e6:,.1f} MB", str(client.store.folder)])
    rows += _journal(client.store)
    rows.append(["notebook", client.notebook, "batches are found under this name"])
    rows.append(["server", "simulated" if client.simulated else "real providers", ""])
    rows.append(["front end", *_front_end(book)])
    grid(["what", "state", "remark"], rows)


def _providers(client: Client) -> list[list[str]]:
    """Return whether each provider has its key, and whether its server can be reached."""
    servers = client.settings.servers
    rows: list[list[str]] = []
    places = dict(servers)
    for name in providers.names(servers):
        try:
            adapter = client.adapter(name, ask=True)
            account = adapter.account(client.store.salt())
            adapter.check_key()
            places[name] = account.base_url
            origin = client.keys.origin(providers.key_variables(name))
            if client.simulated and client.keys.closed:
                origin = "simulated"
            origin = origin or "none needed"
            rows.append([f"{name} key", "present", f"{origin}; server {account.base_url}"])
        except UsageProblem as problem:
            rows.append([f"{name} key", "missing", str(problem)])
        except LLMBatchError as problem:
            rows.append([f"{name} key", "?", str(problem)])
    settings = {name: providers.address_of(name, servers) for name in places}
    known = {name: url for name, url in sorted(places.items()) if url}
    found = client.background.call(reaching.look(known, settings)).result()
    for name, reach in found.items():
        state = "no answer" if reach.status is None else f"answers (HTTP {reach.status})"
        rows.append([f"{name} connection", state, reach.remark])
    return rows


def _journal(store: Store) -> list[list[str]]:
    """Return what there is to know about the journal itself."""
    place = filesystems.place_of(store.folder)
    modes = {"wal": "write-ahead log", "delete": "rollback journal"}
    where = f"on {place.kind}, a network file system" if place.remote else place.kind
    rows = [
        ["journal schema", str(store.schema_version()), ""],
        ["journal mode", modes.get(store.mode, store.mode), where],
    ]
    wrong = store.check()
    remedy = "restart the kernel: it is set aside, and what can be read of it is recovered"
    rows.append(
        ["journal check", "damaged" if wrong else "whole", f"{wrong}; {remedy}" * bool(wrong)]
    )
    if not os.access(store.folder, os.W_OK):
        remedy = (
            "%config LLMBatch.data_dir = '...' and then %reload_ext jupyter_llm_batch choose "
            "another folder"
        )
        rows.append(["journal", "read-only", remedy])
    loss = store.losses()
    if loss is not None:
        at = local_time(loss.at, "%d %b %H:%M")
        rows.append(["journal lost", at, loss.words])
        if loss.folders:
            advice = (
                f"put a copy back as {store.path} (one from before an upgrade lies in "
                f"{store.folder / 'backups'}); answers are in {store.folder / 'batches'} as the "
                "provider sent them; `%llm_batch doctor --settle` says that you know, and no cell "
                "asks any more"
            )
            rows.append(["what to do", "", advice])
    return rows


def _front_end(book: Book) -> tuple[str, str]:
    """Return how panels are shown here, and what to do where that is less than it could be."""
    if getattr(book.shell, "kernel", None) is None:
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
