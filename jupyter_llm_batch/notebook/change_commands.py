"""What the subcommands do that change a batch: `retry`, `cancel`, `adopt`, `forget` and others."""

from __future__ import annotations

import time
from pathlib import Path

from ..client.decisions import check_ended
from ..core.errors import UsageProblem
from ..core.option_values import time_span
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..core.text import count, many
from ..submission.options import span
from . import parsers
from .controller import Controller
from .options import filled
from .tables import show


class ChangeCommands:
    """Subcommands that send, cancel, decide, delete or write something."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def retry(self, found: list[str]) -> None:
        """Send rows without an answer again; maybe-billed ones only with ``--yes``."""
        args = parsers.of("retry").parse(found)
        handle = self._controller.client.get(args.name)
        check_ended(handle.record)
        client, only = self._controller.client, args.unbilled or not args.yes
        if not args.yes:
            client.library.check_own(handle.record, "retry")
        if only and not args.unbilled:
            client.library.check_retry(handle.record)
        show.before_retry(client, handle, unbilled=only)
        if self._controller.retry(handle, unbilled=only) or not handle.done:
            self._controller.panels.show(handle.snapshot())

    def cancel(self, found: list[str]) -> None:
        """Cancel a batch, or only the second batches of its rows."""
        args = parsers.of("cancel").parse(found)
        handle = self._controller.client.get(args.name)
        if args.duplicates:
            gone = handle.cancel_duplicates()
            print(f"{handle.name}: {', '.join(gone) or 'no second batch'} cancelled")
            return
        if handle.done:
            print(f"nothing to cancel: {handle!r}")
            return
        handle.cancel(confirm=args.yes)
        print(
            f"{handle.name}: cancelling; rows already done are collected and "
            "paid for, the others are not billed"
        )

    def resolve(self, found: list[str]) -> None:
        """Show or decide what became of a job whose response was lost."""
        args = parsers.of("resolve").parse(found)
        handle = self._controller.client.get(args.name)
        if args.as_created or args.as_absent:
            job = handle.resolve(args.as_created or "", confirm=args.yes)
            goes = f"continues as {args.as_created}" if args.as_created else "is sent again"
            print(f"{handle.name}: the job of {many(job.rows, 'row')} {goes}")
        else:
            show.lost(handle)

    def adopt(self, found: list[str]) -> None:
        """Take over a batch that was created elsewhere."""
        args = parsers.of("adopt").parse(found)
        self._controller.check_name(args.name)
        self._controller.binder.check_free(args.name)
        remote = filled(args.remote, self._controller.scope.names, "adopt")
        handle = self._controller.started(self._controller.client.adopt(remote, args.name))
        if args.wait:
            self._controller.wait_in_cell(handle)

    def deadline(self, found: list[str]) -> None:
        """Set, lift or bring forward the deadline of a batch."""
        args = parsers.of("deadline").parse(found)
        handle = self._controller.client.get(args.name)
        if args.finish:
            handle.finish()
            print(
                f"{handle.name}: what is not back is cancelled and collected, then the rest is "
                "asked in real time"
            )
        elif args.off:
            handle.set_deadline(None)
            print(f"{handle.name}: no deadline; it runs as a batch")
        elif args.span:
            handle.set_deadline(time.time() + span(args.span, "--in"), args.max_cost)
            print(f"{handle.name}: what is not back in {args.span} is finished in real time")
        else:
            print(repr(handle))

    def forget(self, found: list[str]) -> None:
        """Delete local data of batches, or what ``--add`` collected."""
        args = parsers.of("forget").parse(found)
        if (args.name is None) == (args.older_than is None) or (args.name and args.all):
            raise UsageProblem("%llm_batch forget NAME, or %llm_batch forget --older-than 30d")
        client = self._controller.client
        if args.name is not None and client.drop_draft(args.name):
            print(f"{args.name}: what was collected is deleted; nothing of it was sent")
            return
        if args.name is not None:
            handles = [client.get(args.name)]
        else:
            handles = client.library.older_than(args.older_than, everywhere=args.all)
        if args.name is not None and not args.yes:
            client.library.check_own(handles[0].record, "forget")
        if not args.yes:
            client.library.check_forget(handles)
        for handle in handles:
            name = handle.name
            try:
                client.forget(handle, confirm=True)
            except UsageProblem as problem:
                if args.name is not None:
                    raise
                print(f"{name}: kept, since {problem}")
                continue
            print(f"{name}: local data deleted; what the provider holds is not touched")
        if not handles:
            print(f"No batches older than {time_span(args.older_than)}")

    def export(self, found: list[str]) -> None:
        """Write the answers of a batch to a file."""
        args = parsers.of("export").parse(found)
        handle = self._controller.client.get(args.name)
        replaced = Path(args.file).expanduser().exists()
        path = handle.export(args.file, spreadsheet=args.spreadsheet)
        snapshot = handle.snapshot()
        rows = many(handle.record.rows, "row")
        if snapshot.ok < handle.record.rows:
            rows += f", {count(snapshot.ok)} of them with an answer,"
        print(f"{handle.name}: {rows} written to {path}{' (replaced)' if replaced else ''}")
