"""The table of options of ``%%llm_batch`` and ``%llm_batch run``.

A new option is an entry here and a line in `submission.options.Options`. The parser, ``--help``,
``%%llm_batch?``, Tab, the magic's arguments, what ``--add`` merges, and what panel and ``history``
show derive from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .batch import Batch
from .option import Option, all_of, highest, last, lowest, whether_any
from .option_values import count, money, parameter, positive, time_span, usd

#: What ``--cache`` alone means: a batch takes longer than five minutes.
CACHE = "1h"

OPTIONS = (
    Option(
        flags=("-m", "--model"),
        metavar="PROVIDER:MODEL",
        default="",
        brief="the model",
        text="the model; %config LLMBatch.model sets a default",
    ),
    Option(
        flags=("--base-url",),
        metavar="URL",
        brief="an OpenAI-compatible server that has the model",
        text="an OpenAI-compatible server that has the model, for instance a local one: "
        "--base-url http://localhost:11434/v1 -m llama3 --realtime",
    ),
    Option(
        flags=("--over",),
        metavar="EXPR",
        evaluated=True,
        brief="rows: a variable or any Python expression",
        text="rows: a variable or any Python expression",
    ),
    Option(
        flags=("--route",),
        metavar="EXPR",
        evaluated=True,
        untried=True,
        brief="the model of each row: a column, a function or a list",
        text="the model of each row: a column, a function of the row, or a list; one batch spans "
        "models and providers; a frame gets the column `model` (`answer_model` where that name is "
        "taken)",
    ),
    Option(
        flags=("--as",),
        metavar="NAME",
        dest="column",
        default="answer",
        brief="name of the answer column",
        text="name of the answer column (answer)",
    ),
    Option(
        flags=("--image",),
        metavar="COL",
        repeats=True,
        brief="column of images",
        text="a column of images beside the text: paths, URLs, bytes, PIL images, ids of uploaded "
        "files, or lists of these; with a plain list `item`, and a variable where there is no such "
        "column; may be repeated",
    ),
    Option(
        flags=("--file",),
        metavar="COL",
        repeats=True,
        brief="column of files, such as PDFs",
        text="the same for PDFs, texts and what else the model takes",
    ),
    Option(
        flags=("--media-folder",),
        metavar="FOLDER",
        repeats=True,
        brief="where rows may name files, besides the notebook's folder",
        text="rows may name files of this folder, too, besides the notebook's own (in hidden "
        "folders only where they are named); may be repeated",
    ),
    Option(
        flags=("--system",),
        metavar="TEXT",
        brief="system prompt",
        text="system prompt, sent as it is",
    ),
    Option(
        flags=("--system-from",),
        metavar="VAR",
        here=False,
        brief="variable that holds the system prompt",
        text="the system prompt is in this variable",
    ),
    Option(
        flags=("--max-tokens",),
        metavar="N",
        read=positive,
        shown=True,
        brief="most output tokens per answer",
        text="most output tokens per answer",
    ),
    Option(
        flags=("--param",),
        metavar="KEY=VALUE",
        read=parameter,
        repeats=True,
        here=False,
        brief="request parameter; the value is JSON, or else a string",
        text="any request parameter; the value is JSON, or else a string; PROVIDER:KEY=VALUE goes "
        "to that provider only",
    ),
    Option(
        flags=("--endpoint",),
        metavar="NAME",
        default="",
        shown=True,
        brief="chat, responses, embeddings, or a path",
        text="chat (default), responses, embeddings, or a provider's path",
    ),
    Option(
        flags=("--embed",),
        brief="embeddings instead of answers",
        text="embeddings instead of answers: vectors come back, as lists of floats, NumPy arrays "
        "(pandas) or fixed-size lists (polars, pyarrow)",
    ),
    Option(
        flags=("--schema",),
        metavar="NAME",
        evaluated=True,
        brief="structured output: a model, dataclass or JSON schema",
        text="structured output: a pydantic model, dataclass, TypedDict or JSON schema of the "
        "notebook; a frame gets its fields as columns (beside a field `error` the reason of a "
        "failure is in `answer_error`)",
    ),
    Option(
        flags=("--cache",),
        choices=("5m", "1h"),
        bare=CACHE,
        shown=True,
        brief="cache what all prompts begin with (default 1h)",
        text="cache what all prompts begin with (system prompt, first part of the cell) for an "
        "hour or 5 minutes; Gemini keeps a long system prompt until the job is over, if that pays",
    ),
    Option(
        flags=("--skip-null",),
        shown=True,
        brief="leave out rows with an empty cell",
        text="leave out rows with an empty cell",
    ),
    Option(
        flags=("--split",),
        lines=("cell",),
        brief="several prompts, divided by --- lines",
        text="the cell holds several prompts, divided by lines of ---",
    ),
    Option(
        flags=("--raw",),
        lines=("run",),
        brief="the items are request bodies",
        text="the items are request bodies",
    ),
    Option(
        flags=("--add",),
        lines=("cell",),
        here=False,
        once=True,
        brief="collect only; `%%llm_batch submit NAME` sends",
        text="collect only; the same NAME in other cells adds to it, `%llm_batch submit NAME` "
        "sends; one cell's answers have its shape, those of several cells are a list",
    ),
    Option(
        flags=("--realtime",),
        untried=True,
        field="realtime",
        merge=whether_any,
        shown=True,
        brief="ask at once, at full price, not as a batch",
        text="send at once to the ordinary endpoints, at full price: the same answers and safety, "
        "but this kernel has to keep running",
    ),
    Option(
        flags=("--sample",),
        metavar="N",
        read=positive,
        field="sample",
        merge=highest,
        shown=True,
        brief="send N rows now, in real time; the rest waits for your OK",
        text="send N rows at once, in real time; their answers, their cost and what the rest will "
        "cost stand in the panel, with Send the rest and Stop",
    ),
    Option(
        flags=("--random",),
        untried=True,
        brief="choose the sample at random",
        text="choose the rows of --sample at random",
    ),
    Option(
        flags=("--deadline",),
        metavar="6h",
        write=time_span,
        untried=True,
        field="deadline",
        merge=lowest,
        shown=True,
        brief="rows that are not done by then are finished in real time",
        text="rows that are not done by then are cancelled, collected, and finished in real time",
    ),
    Option(
        flags=("--deadline-max-cost",),
        metavar="USD",
        read=usd,
        write=money,
        untried=True,
        field="deadline_cost",
        merge=lowest,
        shown=True,
        brief="with --deadline: only if that costs no more",
        text="with --deadline: finish in real time only if that costs no more, else ask",
    ),
    Option(
        flags=("--dry-run",),
        here=False,
        once=True,
        brief="show prompts, split and cost, send nothing",
        text="show the first prompts, the split and the cost, send nothing",
    ),
    Option(
        flags=("--count",),
        metavar="N",
        read=positive,
        here=False,
        once=True,
        brief="with --dry-run: count N rows at the provider",
        text="with --dry-run: have the providers count the tokens of N rows",
    ),
    Option(
        flags=("--max-cost",),
        metavar="USD",
        read=usd,
        write=money,
        field="max_cost",
        merge=lowest,
        shown=True,
        brief="send nothing that may cost more",
        text="send nothing that may cost more, every round of --reask included",
    ),
    Option(
        flags=("--wait",),
        here=False,
        brief="block until the answers are there",
        text="block until the answers are there (Run All, papermill)",
    ),
    Option(
        flags=("--dedupe",),
        field="dedupe",
        merge=whether_any,
        shown=True,
        brief="send equal prompts once",
        text="send equal prompts once; their rows share the answer",
    ),
    Option(
        flags=("--reuse",),
        metavar="NAME",
        repeats=True,
        untried=True,
        field="reuse",
        merge=all_of,
        shown=True,
        brief="take paid answers of another batch",
        text="take paid answers of another batch (NOTEBOOK::NAME of another notebook)",
    ),
    Option(
        flags=("--retry",),
        metavar="N",
        read=count,
        field="retries",
        merge=highest,
        shown=True,
        brief="rounds of retry for rows not billed (default 2)",
        text="rounds of automatic retry for rows that were not billed (2)",
    ),
    Option(
        flags=("--reask",),
        metavar="N",
        read=count,
        field="reasks",
        merge=highest,
        shown=True,
        brief="rounds for rows maybe billed (default 0)",
        text="rounds for rows that may have been billed: answers that break the schema, were cut "
        "off or never came back (0)",
    ),
    Option(
        flags=("--notify",),
        metavar="HOW",
        bare="desktop",
        field="notify",
        merge=last,
        renewed=True,
        brief="notify when it is done: desktop, a URL, or a command line",
        text="notify, once, when it is done: `desktop` (notify-send, osascript or PowerShell where "
        "the kernel runs), a URL that gets a small JSON object (name, state, counts; `env:NAME` "
        "where the variable NAME holds the URL), or a command line in quotes (the same in "
        "LLM_BATCH_NAME, _STATE, _ROWS, _OK, _FAILED); `off` for nothing. A command runs only on "
        "the machine where it was set",
    ),
    Option(
        flags=("--resubmit",),
        once=True,
        brief="pay again although this was submitted before",
        text="pay again although this was submitted before",
    ),
    Option(
        flags=("--yes",),
        here=False,
        once=True,
        brief="go ahead with what was asked about before sending",
        text="go ahead with what was asked about before sending: another batch has answers to "
        "these prompts, or a model's name looks misspelt; running the cell again attaches as ever",
    ),
)


def merged_fields(cells: Sequence[Any]) -> dict[str, Any]:
    """Return the fields that options fill in `Ask`, merged over what ``--add`` keeps of cells."""
    return {
        option.field: option.merge([getattr(cell, option.field) for cell in cells])
        for option in OPTIONS
        if option.merge is not None
    }


def renewed(batch: Batch, ask: Any) -> dict[str, Any]:
    """Return what running a cell again changes in its batch, where it is given."""
    options = [option for option in OPTIONS if option.renewed]
    named = {option.field: getattr(ask, option.field) for option in options if option.field}
    shown = {option.flag: ask.shown[option.flag] for option in options if option.flag in ask.shown}
    changes = {field: value for field, value in named.items() if value}
    return {**changes, "options": batch.options | shown} if shown else changes


def shown_values(options: Mapping[str, Any], ask: Any) -> dict[str, Any]:
    """Return the options of a submission that its batch keeps for people to see, by flag."""
    return {
        option.flag: getattr(ask, option.field) if option.field else options[option.name]
        for option in OPTIONS
        if option.shown and options.get(option.name) not in (None, "", False, [], ())
    }


def merged_shown(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the shown options of several ``--add`` cells as one."""
    found = {}
    for option in OPTIONS:
        values = [cell[option.flag] for cell in cells if option.flag in cell]
        if values:
            found[option.flag] = (option.merge or last)(values)
    return found


def as_typed(values: Mapping[str, Any]) -> str:
    """Return shown options as one line: ``--retry 3 --dedupe``."""
    words = []
    for option in OPTIONS:
        value = values.get(option.flag)
        several = [] if value is None else value if isinstance(value, list) else [value]
        words += [f"{option.flag} {option.write(each)}" for each in several if each is not True]
        words += [option.flag for each in several if each is True]
    return " ".join(words)
