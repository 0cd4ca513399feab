"""LLM batch jobs in notebooks: half the price, nothing lost when the kernel restarts.

In a notebook: ``%load_ext jupyter_llm_batch``, then ``%%llm_batch?`` explains the cell magic.
From Python::

    import jupyter_llm_batch as llm_batch

    batch = llm_batch.submit("Translate: {{ text }}", over=df, name="german",
                             model="openai:gpt-5-mini")
    batch.wait().frame()

`preview` shows what would be sent and what it would cost, `add` and `submit_draft` collect parts
and send them as one, `get`, `batches` and `collected` find what there is.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from .core import identity as _identity  # noqa: F401 - the working folder is taken now

if TYPE_CHECKING:
    from .client.client import Client as Client
    from .client.failures import Failure as Failure
    from .client.handle import BatchHandle as BatchHandle
    from .client.session import add as add
    from .client.session import adopt as adopt
    from .client.session import advise as advise
    from .client.session import batches as batches
    from .client.session import collected as collected
    from .client.session import compare as compare
    from .client.session import cost as cost
    from .client.session import forget as forget
    from .client.session import get as get
    from .client.session import login as login
    from .client.session import logout as logout
    from .client.session import preview as preview
    from .client.session import retry as retry
    from .client.session import simulate as simulate
    from .client.session import submit as submit
    from .client.session import submit_draft as submit_draft
    from .client.session import track as track
    from .client.session import untrack as untrack
    from .core.errors import LLMBatchError as LLMBatchError
    from .core.errors import NotReady as NotReady
    from .core.errors import UsageProblem as UsageProblem
    from .core.result import Outcome as Outcome
    from .core.result import Result as Result
    from .core.result import ToolCall as ToolCall
    from .core.result import Usage as Usage
    from .core.settings import Settings as Settings
    from .core.snapshot import Snapshot as Snapshot
    from .submission.preview import Preview as Preview

#: Where each public name lives. Imported on first use, so that loading costs next to nothing.
_HOMES = {
    "BatchHandle": "client.handle",
    "Client": "client.client",
    "Failure": "client.failures",
    "LLMBatchError": "core.errors",
    "NotReady": "core.errors",
    "Outcome": "core.result",
    "Preview": "submission.preview",
    "Result": "core.result",
    "Settings": "core.settings",
    "Snapshot": "core.snapshot",
    "ToolCall": "core.result",
    "Usage": "core.result",
    "UsageProblem": "core.errors",
    "add": "client.session",
    "adopt": "client.session",
    "advise": "client.session",
    "batches": "client.session",
    "collected": "client.session",
    "compare": "client.session",
    "cost": "client.session",
    "forget": "client.session",
    "get": "client.session",
    "login": "client.session",
    "logout": "client.session",
    "preview": "client.session",
    "retry": "client.session",
    "simulate": "client.session",
    "submit": "client.session",
    "submit_draft": "client.session",
    "track": "client.session",
    "untrack": "client.session",
}

__all__ = [  # noqa: PLE0604 - computed once, from the table above
    *sorted(_HOMES),
    "load_ipython_extension",
    "unload_ipython_extension",
]

# Nothing of ours may print into somebody else's cell.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("jupyter-llm-batch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and go on with what is unfinished; nothing else."""
    from .notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take everything back; batches go on at their providers."""
    from .notebook.extension import unload

    unload(shell)
