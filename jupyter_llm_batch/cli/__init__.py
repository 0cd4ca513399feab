"""``jupyter llm-batch``: batches from a terminal, for servers and cron. Imports no IPython."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from ..printing import plain
    from .commands import run

    with plain():
        return run(arguments)
