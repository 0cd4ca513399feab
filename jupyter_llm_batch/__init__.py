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

from . import identity as _identity  # noqa: F401 - the working folder is taken now

if TYPE_CHECKING:
    from .client import Client as Client
    from .errors import LLMBatchError as LLMBatchError
    from .errors import NotReady as NotReady
    from .errors import UsageProblem as UsageProblem
    from .failing import Failure as Failure
    from .handle import BatchHandle as BatchHandle
    from .models import Outcome as Outcome
    from .models import Result as Result
    from .models import Snapshot as Snapshot
    from .models import ToolCall as ToolCall
    from .models import Usage as Usage
    from .previewing import Preview as Preview
    from .session import add as add
    from .session import adopt as adopt
    from .session import advise as advise
    from .session import batches as batches
    from .session import collected as collected
    from .session import compare as compare
    from .session import cost as cost
    from .session import forget as forget
    from .session import get as get
    from .session import login as login
    from .session import logout as logout
    from .session import preview as preview
    from .session import retry as retry
    from .session import simulate as simulate
    from .session import submit as submit
    from .session import submit_draft as submit_draft
    from .session import track as track
    from .session import untrack as untrack
    from .settings import Settings as Settings

#: Where each public name lives. Imported on first use, so that loading costs next to nothing.
_HOMES = {
    "BatchHandle": "handle",
    "Client": "client",
    "Failure": "failing",
    "LLMBatchError": "errors",
    "NotReady": "errors",
    "Outcome": "models",
    "Preview": "previewing",
    "Result": "models",
    "Settings": "settings",
    "Snapshot": "models",
    "ToolCall": "models",
    "Usage": "models",
    "UsageProblem": "errors",
    "add": "session",
    "adopt": "session",
    "advise": "session",
    "batches": "session",
    "collected": "session",
    "compare": "session",
    "cost": "session",
    "forget": "session",
    "get": "session",
    "login": "session",
    "logout": "session",
    "preview": "session",
    "retry": "session",
    "simulate": "session",
    "submit": "session",
    "submit_draft": "session",
    "track": "session",
    "untrack": "session",
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
