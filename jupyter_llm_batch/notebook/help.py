"""The texts of ``%%llm_batch?`` and ``%llm_batch?``."""

from __future__ import annotations

import textwrap

from ..core.option import Option
from ..core.option_table import OPTIONS

_CELL_START = """\
Send a cell's prompts as a batch: half the price, answers within 24 hours.

    %%llm_batch NAME [--over ROWS] [-m PROVIDER:MODEL] [options]
    prompt, a Jinja2 template: {{ column }} is the row's field

The cell returns at once; the answers land in the variable NAME when they are there, in the shape
of the input. Running the same cell again never pays again.

Examples
--------
    %%llm_batch sentiment --model openai:gpt-5-mini --over reviews
    Is this review positive, negative or mixed? One word.

    {{ text }}

`reviews` is a DataFrame with a column `text`; `sentiment` will be the same DataFrame with the
column `answer` (and `error`, `finish_reason`).

    %%llm_batch haiku -m openai:gpt-5-mini --over ["spring", "autumn"]
    A haiku about {{ item }}.

    %%llm_batch ideas -m openai:gpt-5-mini --split --wait
    Three names for a cat.
    ---
    Three names for a dog.

    %%llm_batch receipts -m openai:gpt-5-mini --over df --image photo --file invoice
    Does the receipt from {{ shop }} belong to this invoice? Yes or no.

The columns `photo` and `invoice` hold paths, URLs, bytes or PIL images.

Rows
----
DataFrame (pandas, polars, pyarrow): columns are the template's variables.
list, tuple, Series, generator: {{ item }}; a dict's values, with {{ key }}.
list of dicts, dataclasses, pydantic models: their fields.
Any variable of the notebook is visible too; {{ row.x }} is always the row's field x.

Options
-------
"""

_CELL_END = """\
The same from Python, after `import jupyter_llm_batch as llm_batch`: options are arguments of
`llm_batch.submit(TEXT, name="NAME", over=ROWS, ...)`, with - written as _ (--as is `column`,
--param is `params`); `llm_batch.preview` is --dry-run, `llm_batch.add` is --add, and a system
prompt of a variable is `system=VARIABLE`.

Without a key: `%llm_batch simulator` first. More: `%llm_batch?`
"""

#: Columns before the words about an option, and of a line.
_INDENT, _WIDTH = 28, 100


def _about(option: Option) -> str:
    """Return the lines of the help about one option."""
    words = textwrap.wrap(
        option.text,
        _WIDTH - _INDENT,
        break_on_hyphens=False,
        break_long_words=False,
    )
    first = f"{option.usage:<{_INDENT - 1}} "
    if len(first) > _INDENT:
        return "\n".join([first.rstrip(), *(" " * _INDENT + line for line in words)])
    return first + f"\n{'':{_INDENT}}".join(words)


CELL_HELP = "\n".join(
    [
        _CELL_START.rstrip(),
        *(_about(option) for option in OPTIONS if "cell" in option.lines),
        "",
        _CELL_END,
    ]
)

LINE_HELP = """\
Look after batches.

    %llm_batch                        every batch of this notebook, live, and what --add collected;
                                      --all: of every notebook of this user (those of others are
                                      only shown)
    %llm_batch run NAME --over ITEMS  a batch of ready prompts or message lists, without a
                                      template; --raw: the items are request bodies; further
                                      options as for %%llm_batch, but --split and --add
    %llm_batch status NAME            its panel, again
    %llm_batch wait NAME              block until done; interrupting stops only the waiting
    %llm_batch submit NAME            send what `%%llm_batch NAME --add` collected, or what waits
                                      after a --sample; --wait blocks until the answers are there,
                                      --max-cost USD sends nothing that may cost more, --resubmit
                                      pays again although it was submitted before, --yes goes
                                      ahead with what was asked about
    %llm_batch results NAME           bind the answers now (--partial: what is there so far)
    %llm_batch show NAME ROW          the exact prompt, the answer with its tool calls and what
                                      the model thought, the tokens, the raw line; ROW is its
                                      position (or index label; of an adopted batch: custom_id)
    %llm_batch errors NAME            rows without an answer, and answers that were cut: which,
                                      why, and what to do
    %llm_batch retry NAME             send rows without an answer again; asks first where some of
                                      them may have been billed: --yes sends all, --unbilled only
                                      those that were not
    %llm_batch cancel NAME            cancel at the provider; what is done is still collected
                                      (--duplicates: only a second batch of the same rows, which a
                                      panel points out; --yes: also a batch that another kernel of
                                      this folder sent)
    %llm_batch deadline NAME          --in 6h: what is not back by then is finished in real time
                                      (--max-cost USD: if it costs no more, else it asks);
                                      --finish: do so at once; --off: no deadline, it runs as a
                                      batch
    %llm_batch resolve NAME           a submission whose outcome is unknown: shows what it may
                                      have become; --as-created ID or --as-absent --yes decides
    %llm_batch adopt PROVIDER:ID NAME  take over a batch that was created elsewhere; its answers
                                      come as a dict by custom_id; PROVIDER:{id} takes the ID
                                      from a variable; --wait blocks until they are there
    %llm_batch cost [NAME]            what was spent and saved in all notebooks, or by one batch of
                                      this one: table and chart (--by day, month, provider, model,
                                      batch or notebook; --csv FILE)
    %llm_batch compare A B            two batches over the same rows: agreement, differences (--rows
                                      N of them, 10 by default), cost
    %llm_batch advise                 what would have been cheaper, by your own figures
    %llm_batch history                past and present batches, and what --add collected (--all: of
                                      this user)
    %llm_batch forget NAME            delete local data (or --older-than 30d; --all: of every
                                      notebook); the same cell then pays again, so that answers
                                      that were paid for are deleted with --yes only
    %llm_batch export NAME FILE       answers to .csv, .jsonl or .parquet; --spreadsheet escapes
                                      what Excel would run as a formula; of a frame with the
                                      input's columns
    %llm_batch login PROVIDER         asks for its key, and keeps it in the computer's keyring where
                                      there is one, else for this kernel
    %llm_batch logout PROVIDER        forgets the key of a login
    %llm_batch doctor                 whether batches can be sent, and why not: keys, connection,
                                      versions, journal, front end, each with its remedy;
                                      --check-keys: try each key (costs nothing); --report: write
                                      a report (no keys, prompts or answers); --settle: after a
                                      damaged journal, you know what was lost, continue
    %llm_batch simulator              simulated providers on this machine: no key, no cost
                                      (--seconds N: how long a batch takes); --off: back to the
                                      real providers
    %llm_batch help                   this text

`%llm_batch SUBCOMMAND --help` lists the options of one.

Examples
--------
    %llm_batch simulator --seconds 5
    %llm_batch run capitals --over ["France", "Peru"] --model openai:gpt-5-mini --wait
    %llm_batch status capitals
    %llm_batch show capitals 1
    %llm_batch errors capitals
    %llm_batch retry capitals --unbilled
    %llm_batch results capitals --partial
    %llm_batch submit report --wait --max-cost 2.50
    %llm_batch deadline capitals --in 6h --max-cost 1
    %llm_batch compare capitals capitals#2 --rows 20
    %llm_batch cost --by model --csv spent.csv
    %llm_batch adopt openai:batch_abc123 nightly --wait
    %llm_batch resolve capitals --as-absent --yes
    %llm_batch export capitals answers.parquet
    %llm_batch forget --older-than 90d --all --yes
    %llm_batch simulator --off

Money: %config LLMBatch.monthly_budget = 50 refuses what may exceed it, in all kernels together;
%config LLMBatch.prices = {'openai:my-model': {'input': 0.3, 'output': 1.0}} sets prices of your
own (USD per million tokens), %config LLMBatch.discounts = {'openai': 0.1} takes shares off.

NAME is the latest version of a batch; `NAME#1` names its first. How to submit: `%%llm_batch?`

Defaults
--------
`%config LLMBatch` shows them, `%config LLMBatch.model = 'openai:gpt-5-mini'` sets one for the next
cells; they may stand in an IPython profile. Those marked * take effect after
`%reload_ext jupyter_llm_batch`.

    model            PROVIDER:MODEL of cells that name none
    max_tokens       --max-tokens for every cell; 0 leaves it to the provider
    retry, reask     --retry (2) and --reask (0) for every cell
    notify           --notify for every cell
    monthly_budget   USD that nothing may exceed; None sets no bound
    prices, discounts  see Money
    servers          see the end
    media_folders    --media-folder for every cell
    keep_days        90 forgets ended batches of this notebook on load, never unfinished ones or
                     answers that nobody has looked at; 0 keeps them
    delete_uploads   True deletes files at the provider once all answers are collected (OpenAI:
                     input and results, Anthropic: the batch, Google: the input)
    data_dir *       folder of journal and answers
    poll_seconds *   shortest interval between two looks at a job (30)
    at_once *        most requests under way at once in real time (64)

From a terminal: `jupyter llm-batch --help`.

Keys are the SDKs' own variables (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY; for azure:
AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT, its models are deployments), looked for in the
environment, in Colab's secrets, and in the keyring when the package `keyring` is installed.

Any OpenAI-compatible server with a batch API, its key in GROQ_API_KEY:
%config LLMBatch.servers = {'groq': 'https://api.groq.com/openai/v1'}, then -m groq:MODEL
"""
