"""What `cost`, `compare`, `advise` and ``--dry-run`` do."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from ..client import session
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..core.text import many, money
from ..costs.budget import month_start
from ..submission.options import Options
from . import parsers
from .controller import Controller
from .tables import money as money_tables
from .tables import show


class MoneyCommands:
    """Subcommands about money; nothing here sends anything."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def cost(self, found: list[str]) -> None:
        """Show what was spent and saved, or write it to a file."""
        args = parsers.of("cost").parse(found)
        client = self._controller.client
        ledger = client.cost(args.name)
        if args.csv:
            path = Path(args.csv).expanduser()
            path.write_text(ledger.csv(), encoding="utf-8")
            print(f"{many(len(ledger.lines), 'line')} written to {path}")
            return
        budget = ""
        if client.settings.monthly_budget is not None and not args.name:
            spent, promised = client.journal.committed(month_start(time.time()))
            budget = (
                f"monthly budget: {money(client.settings.monthly_budget)}, of which "
                f"{money(spent)} are spent and {money(promised)} are promised to batches under way"
            )
        by = args.by or ("model" if args.name else "day")
        money_tables.ledger(ledger, by, title=args.name or "all batches", budget=budget)

    def compare(self, found: list[str]) -> None:
        """Show how two batches over the same rows differ."""
        args = parsers.of("compare").parse(found)
        compared = self._controller.client.compare(args.left, args.right)
        money_tables.comparison(compared, differences=max(0, args.rows))

    def advise(self, found: list[str]) -> None:
        """Show what would have been cheaper."""
        parsers.of("advise").parse(found)
        _ = self._controller.client  # the one that is asked
        money_tables.advice(session.advise())

    def preview(self, text: str | None, args: Namespace, options: Options) -> None:
        """Show what a line would send and cost (``--dry-run``)."""
        client, wanted = self._controller.client, args.count or 0
        plan = client.preview(text, name=args.name, **options)
        show.preview(plan)
        if wanted and plan.samples:
            money_tables.counted(client.provider_checks.count_tokens(plan, wanted))
