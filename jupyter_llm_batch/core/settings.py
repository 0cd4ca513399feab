"""User settings and folders. Imports little, because `%load_ext` reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The defaults a user may set; ``%config LLMBatch`` in a notebook.

    Attributes
    ----------
    model
        ``provider:model`` used when a cell names none.
    data_dir
        Folder of journal and payloads; empty for ``llm_batch`` in Jupyter's data folder.
    poll_seconds
        Shortest interval between two polls of a running job (seconds); `refresh` polls at once.
        A wait that the provider asks for is always kept.
    max_tokens
        Upper bound of output tokens per answer; None leaves it to the provider.
    at_once
        Most concurrent real-time requests to one account.
    retry
        Rounds of automatic retry for rows that the provider did not bill.
    reask
        Rounds for rows that may have been billed.
    notify
        How to notify that a batch is done: ``desktop``, a URL, or a command line; see `notify`.
    delete_uploads
        Delete files at the provider when all answers are collected.
    keep_days
        Days after which local data of ended batches is deleted on load; 0 keeps it for ever.
    servers
        OpenAI-compatible servers: names for ``name:model`` and their base URLs. The key of a server
        ``groq`` is ``GROQ_API_KEY``.
    media_folders
        Further folders, besides the notebook's, from which ``--image`` and ``--file`` may read.
    monthly_budget
        USD that all batches of this journal may cost in a calendar month; None sets no bound.
    prices
        The user's own prices; see `prices.PriceBook`.
    discounts
        Shares that are taken off a provider's or a model's prices.
    """

    model: str = ""
    data_dir: str = ""
    poll_seconds: float = 30.0
    max_tokens: int | None = None
    at_once: int = 64
    retry: int = 2
    reask: int = 0
    notify: str = ""
    delete_uploads: bool = False
    keep_days: float = 0.0
    servers: Mapping[str, str] = field(default_factory=dict)
    media_folders: Sequence[str] = ()
    monthly_budget: float | None = None
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    discounts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Absolute now, so that a later change of the working folder does not lose the batches.
        object.__setattr__(self, "data_dir", absolute_path(self.data_dir))

    def folder(self) -> Path:
        """Return the folder of the journal."""
        if self.data_dir:
            return Path(self.data_dir)
        from jupyter_core.paths import jupyter_data_dir

        return Path(_first_meant(jupyter_data_dir())) / "llm_batch"


def absolute_path(path: str) -> str:
    """Return a user's path as an absolute one; empty stays empty."""
    return str(Path(path).expanduser().absolute()) if path else ""


@cache
def _first_meant(path: str) -> str:
    """Return a path from the environment, resolved when this process first used it."""
    return absolute_path(path)
