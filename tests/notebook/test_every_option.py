"""Every option of the table reaches the request, the journal, and what people are shown."""

import base64

import msgspec
import pandas as pd
import pytest
from support import ok

from jupyter_llm_batch.core.cell_options import Parser, add_options
from jupyter_llm_batch.core.errors import LLMBatchError
from jupyter_llm_batch.core.option_table import OPTIONS, as_typed, merged_fields, renewed
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.notebook.options import submit_options, words
from jupyter_llm_batch.notebook.panel import static_html
from jupyter_llm_batch.submission import read_options
from jupyter_llm_batch.submission.drafts import Part
from jupyter_llm_batch.submission.options import Options
from jupyter_llm_batch.submission.spec import Ask

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
#: What each option is given, with what else its line needs; a switch needs nothing.
GIVEN = {
    "--model": "anthropic:claude-haiku-4-5",
    "--over": "df",
    "--route": "who",
    "--as": "label",
    "--image": "photo",
    "--file": "paper",
    "--media-folder": "{folder} --image path",
    "--system": "'Be brief'",
    "--system-from": "rules",
    "--max-tokens": "7",
    "--param": "seed=7",
    "--endpoint": "responses",
    "--schema": "schema",
    "--cache": "5m",
    "--skip-null": "--over gaps",
    "--raw": "--over bodies",
    "--sample": "1",
    "--random": "--sample 1",
    "--deadline": "6h",
    "--deadline-max-cost": "2.50 --deadline 6h",
    "--count": "1",
    "--max-cost": "2.50",
    "--reuse": "earlier",
    "--retry": "3",
    "--reask": "1",
    "--notify": "desktop",
    "--base-url": "http://localhost:11434/v1",
}
#: What the client does by itself, in tests of their own; the rest is Python's `wait`, `preview`, …
OF_THE_CLIENT = {"--base-url", "--resubmit", "--yes", "--add", "--dry-run", "--count", "--wait"}
SHOWN = [option for option in OPTIONS if option.shown]


def by_flag(option):
    return option.flag


@pytest.fixture
def names(tmp_path):
    """The variables of a notebook, for every option."""
    path = tmp_path / "elsewhere" / "a.png"
    path.parent.mkdir()
    path.write_bytes(PNG)
    columns = {"text": ["a", "b"], "who": ["openai:gpt-5-nano"] * 2, "photo": [PNG] * 2}
    frame = pd.DataFrame({**columns, "paper": [b"%PDF-1.4"] * 2, "path": [str(path)] * 2})
    return {
        "folder": str(path.parent),
        "df": frame,
        "gaps": frame.assign(text=["a", None]),
        "schema": {"type": "object", "properties": {"mood": {"type": "string"}}},
        "rules": "Be kind",
        "bodies": [{"messages": [{"role": "user", "content": "a"}]}],
    }


def asked(text, names, *, line, without=""):
    """Return what a line asks for, as plain values; without one option if that is named."""
    parser = Parser("%%llm_batch")
    parser.add_argument("name")
    add_options(parser, "run" if "--raw" in line else "cell")
    options = submit_options(parser.parse(words(line)), names)
    options.pop(without, None)
    try:
        found = read_options.ask(text, "x", options, Settings(model="openai:gpt-5-mini"))
        plain = {name: getattr(found, name) for name in Ask.__struct_fields__}
        models = None if found.models is None else [*found.models]
        return {
            **plain,
            "contents": [*found.contents],
            "models": models,
            "rows": None,
            "shown": None,
        }
    except LLMBatchError as error:
        return str(error)


@pytest.mark.parametrize("option", OPTIONS, ids=by_flag)
def test_an_option_changes_what_is_asked_for(option, names):
    """A value that the line names is used: without it something else would be sent."""
    if option.flag in OF_THE_CLIENT:
        assert option.flag not in {each.flag for each in OPTIONS if each.field}
        return
    rest = GIVEN.get(option.flag, "").format(**names)
    over = "" if "--over" in rest or option.flag in {"--over", "--split"} else "--over df"
    text = (
        None
        if option.flag == "--raw"
        else "a\n---\nb"
        if option.flag == "--split"
        else "say {{ text }}"
    )
    line = f"x {over} {option.flag} {rest}"
    name = {"--system-from": "system", "--param": "params"}.get(option.flag, option.name)
    assert asked(text, names, line=line) != asked(text, names, line=line, without=name)


def test_python_has_every_option():
    """`Client.submit` takes what the table says, and says so in its docstring."""
    expected = {option.name for option in OPTIONS if option.here}
    there = set(Options.__annotations__)
    assert there == expected | {"params", "confirm", "namespace"}
    listed = {
        name.strip()
        for line in (Options.__doc__ or "").splitlines()
        if line.startswith("    ") and not line.startswith("     ")
        for name in line.split(",")
    }
    assert there <= listed


@pytest.mark.parametrize("option", SHOWN, ids=by_flag)
def test_a_shown_option_is_kept_and_shown(option, shell, make_client, capsys):
    """The journal, the panel, the summary of a saved notebook and `history` name it."""
    shell.user_ns["df"] = pd.DataFrame({"text": ["a", "b"]})
    ok(shell, "%%llm_batch earlier --over df --wait\nsay {{ text }}")
    rest = GIVEN.get(option.flag, "")
    typed = option.flag if not rest or "--over" in rest else f"{option.flag} {rest}"
    sample = "" if option.flag == "--sample" else "--wait"
    bound = "" if option.flag == "--max-tokens" else "--max-tokens 9"
    ok(shell, f"%%llm_batch x --over df {typed} {bound} {sample} --yes\ntell {{{{ text }}}}")
    handle = shell.controller.client.get("x")
    flags = {word for word in words(typed) if word[:2] == "--"}
    assert set(handle.record.options) == {*flags, "--max-tokens"}
    wanted = as_typed(handle.record.options)
    assert set(wanted.split()) == {*typed.split(), "--max-tokens", "9"} - (
        {"9"} if option.flag == "--max-tokens" else set()
    )
    assert handle.snapshot().options == wanted
    assert wanted in static_html.render(handle.snapshot())
    capsys.readouterr()
    ok(shell, "%llm_batch history")
    assert wanted in capsys.readouterr().out
    assert make_client().get("x").record.options == handle.record.options


def test_drafts_merge_every_option_that_has_a_rule():
    """What `--add` keeps of a cell has the field of each option, and the batch gets the merged."""
    fields = {option.field for option in OPTIONS if option.merge}
    assert fields <= set(Part.__struct_fields__)
    assert fields <= set(Ask.__struct_fields__)

    class Cell(msgspec.Struct):
        retries: int = 0
        reasks: int = 0
        realtime: bool = False
        sample: int = 0
        deadline: float | None = None
        deadline_cost: float | None = None
        max_cost: float | None = None
        dedupe: bool = False
        reuse: list[str] = []
        notify: str = ""

    first = Cell(retries=1, deadline=60.0, reuse=["a"], notify="desktop", dedupe=True)
    second = Cell(retries=3, deadline=30.0, reuse=["b", "a"], max_cost=2.0, sample=5)
    assert merged_fields([first, second]) == {
        "retries": 3, "reasks": 0, "realtime": False, "sample": 5, "deadline": 30.0,
        "deadline_cost": None, "max_cost": 2.0, "dedupe": True, "reuse": ["a", "b"],
        "notify": "desktop",
    }  # fmt: skip


def test_collected_cells_show_their_options_together(shell):
    """`--add` cells with different options are shown with what holds for all of them."""
    ok(shell, "%%llm_batch x --add --retry 1\na")
    ok(shell, "%%llm_batch x --add --retry 3 --deadline 90m\nb")
    ok(shell, "%llm_batch submit x --wait")
    assert as_typed(shell.controller.client.get("x").record.options) == "--deadline 90m --retry 3"


def test_attaching_keeps_the_options_that_the_batch_was_sent_with(shell):
    """Another `--retry` in the same cell changes nothing, and nothing else is shown."""
    ok(shell, "%%llm_batch x --retry 1 --wait\na")
    ok(shell, "%%llm_batch x --retry 3 --notify off --wait\na")
    record = shell.controller.client.get("x").record
    assert record.options == {"--retry": 1}
    assert {each.flag for each in OPTIONS if each.renewed} == {"--notify"}
    ask = Ask(name="x", contents=[], rows=None, shape=record.shape, recipe=record.recipe)
    assert renewed(record, ask) == {}
    assert renewed(record, msgspec.structs.replace(ask, notify="desktop")) == {"notify": "desktop"}
