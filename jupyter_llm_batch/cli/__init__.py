"""``jupyter llm-batch``: batches from a terminal, for servers and cron.

Belongs here: subcommands, their output and exit codes. Does not: IPython, or what a script needs
too (`client`). Read `commands` first.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from ..core.printing import adapt_output
    from .commands import run

    with adapt_output():
        return run(arguments)
