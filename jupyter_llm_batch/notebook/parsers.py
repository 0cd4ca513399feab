"""What each subcommand of ``%llm_batch`` takes: one parser each, read by commands and by Tab."""

from __future__ import annotations

from collections.abc import Callable

from ..core.cell_options import Parser, add_options
from ..core.option_values import days, seconds, usd
from ..costs.ledger import GROUPS


def of(command: str) -> Parser:
    """Return the parser of a subcommand; one that is not listed takes nothing."""
    parser = Parser(f"%llm_batch {command}")
    if command in _NAMED:
        parser.add_argument("name", help="name of the batch")
    _FURTHER.get(command, _nothing)(parser)
    return parser


#: Subcommands whose first argument is a batch.
_NAMED = frozenset(
    {
        "run", "status", "wait", "submit", "results", "show", "errors", "retry", "cancel",
        "deadline", "resolve", "export",
    }
)  # fmt: skip


def _nothing(_parser: Parser) -> None:
    pass


def _submit(parser: Parser) -> None:
    add = parser.add_argument
    add("--resubmit", action="store_true", help="pay again although this was submitted before")
    add("--yes", action="store_true", help="go ahead with what was asked about before sending")
    add("--wait", action="store_true", help="block until the answers are there")
    add("--max-cost", type=usd, metavar="USD", help="send nothing that may cost more")


def _retry(parser: Parser) -> None:
    add = parser.add_argument
    add("--yes", action="store_true", help="also rows that may have been billed")
    add("--unbilled", action="store_true", help="only rows that were not billed")


def _cancel(parser: Parser) -> None:
    parser.add_argument("--yes", action="store_true", help="also if this kernel did not send it")
    parser.add_argument(
        "--duplicates", action="store_true", help="only second batches of the same rows"
    )


def _results(parser: Parser) -> None:
    parser.add_argument("--partial", action="store_true", help="what is there so far")


def _show(parser: Parser) -> None:
    parser.add_argument("row", metavar="ROW", help="position, index label or custom_id")


def _deadline(parser: Parser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--in", dest="span", metavar="6h", help="from now on")
    choice.add_argument("--finish", action="store_true", help="finish in real time now")
    choice.add_argument("--off", action="store_true", help="let it run as a batch")
    parser.add_argument(
        "--max-cost", type=usd, metavar="USD", help="with --in: if it costs no more; else it asks"
    )


def _resolve(parser: Parser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--as-created", metavar="ID", help="the provider's id of the job")
    choice.add_argument("--as-absent", action="store_true", help="nothing was created")
    parser.add_argument("--yes", action="store_true", help="with --as-absent: send it again")


def _adopt(parser: Parser) -> None:
    parser.add_argument("remote", metavar="PROVIDER:ID", help="the provider's id of the batch")
    parser.add_argument("name", help="name of the batch here")
    parser.add_argument("--wait", action="store_true", help="block until the answers are there")


def _cost(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", default="", help="only this batch")
    parser.add_argument("--by", choices=GROUPS, help="what to sum up by")
    parser.add_argument("--csv", metavar="FILE", help="write the lines to a file")


def _compare(parser: Parser) -> None:
    parser.add_argument("left", metavar="A", help="name of a batch")
    parser.add_argument("right", metavar="B", help="name of another")
    parser.add_argument("--rows", type=int, default=10, metavar="N", help="differences to show")


def _history(parser: Parser) -> None:
    parser.add_argument("--all", action="store_true", help="of every notebook of this user")


def _forget(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", help="name of the batch")
    parser.add_argument("--older-than", type=days, metavar="30d", help="all that are so old")
    parser.add_argument("--all", action="store_true", help="with --older-than: of every notebook")
    parser.add_argument("--yes", action="store_true", help="delete answers that were paid for")


def _export(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help=".csv, .jsonl or .parquet")
    parser.add_argument(
        "--spreadsheet", action="store_true", help="escape text that Excel would run as a formula"
    )


def _provider(parser: Parser) -> None:
    parser.add_argument("provider", metavar="PROVIDER", help="whose key")


def _doctor(parser: Parser) -> None:
    parser.add_argument("--settle", action="store_true", help="you know what was lost")
    parser.add_argument("--check-keys", action="store_true", help="try each key; costs nothing")
    parser.add_argument("--report", action="store_true", help="write a report about this kernel")


def _simulator(parser: Parser) -> None:
    parser.add_argument("--seconds", type=seconds, default=8.0, metavar="N", help="life of a batch")
    parser.add_argument("--off", action="store_true", help="back to the real providers")


_FURTHER: dict[str, Callable[[Parser], None]] = {
    "run": lambda parser: add_options(parser, "run"),
    "submit": _submit,
    "results": _results,
    "retry": _retry,
    "cancel": _cancel,
    "show": _show,
    "deadline": _deadline,
    "resolve": _resolve,
    "adopt": _adopt,
    "cost": _cost,
    "compare": _compare,
    "history": _history,
    "forget": _forget,
    "export": _export,
    "login": _provider,
    "logout": _provider,
    "doctor": _doctor,
    "simulator": _simulator,
}
