"""What the line magic offers, tells and shows: the same in help, on Tab and in the parsers."""

import re

import pytest
from IPython.core.completer import CompletionContext
from IPython.core.error import UsageError
from support import mark, until

from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.cell_options import cell_parser
from jupyter_llm_batch.core.errors import LLMBatchError
from jupyter_llm_batch.notebook import commands, extension, parsers
from jupyter_llm_batch.notebook.config import LLMBatch
from jupyter_llm_batch.notebook.help import CELL_HELP, LINE_HELP
from jupyter_llm_batch.notebook.options import words

MODEL = "openai:gpt-5-mini"
NAMES = sorted(commands.Commands(None).commands)


@pytest.fixture
def shell(bare_shell, make_client):
    """A shell with a client of its own notebook on the simulator."""
    bare_shell.controller.config.model = MODEL
    bare_shell.controller.use(make_client(notebook=bare_shell.controller.notebook))
    return bare_shell


def ok(shell, code):
    result = shell.run_cell(code, store_history=False)
    assert result.success, result.error_before_exec or result.error_in_exec


def said(shell, code, capsys):
    """Run a cell and return what it printed."""
    capsys.readouterr()
    ok(shell, code)
    return capsys.readouterr().out


# -- help and Tab ----------------------------------------------------------------------------------


def paragraph(command):
    """Return the lines of the help about one subcommand."""
    table = LINE_HELP.partition("Examples\n")[0]
    found = re.search(rf"^    %llm_batch {command}\b.*\n(?: {{6,}}.*\n)*", table, re.MULTILINE)
    assert found, command
    return found[0]


@pytest.mark.parametrize("command", NAMES)
def test_help_names_every_option_of_a_subcommand(command):
    """What the parser takes stands in the subcommand's own lines; `run` names those of its own."""
    shared = set(cell_parser().options()) if command == "run" else set()
    for option in set(parsers.of(command).options()) - shared:
        assert re.search(rf"{option}\b", paragraph(command)), option


def test_help_names_no_option_that_there_is_not():
    """Every option that the help mentions is one."""
    known = {each for name in NAMES for each in parsers.of(name).options()}
    known |= {*cell_parser().options(), "--all", "--help"}
    for text in (LINE_HELP, CELL_HELP):
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known


def test_the_examples_of_the_help_are_lines_that_work():
    """Both helps have examples, and the parsers take each of them."""
    lines = LINE_HELP.partition("Examples\n--------\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) > 10
    for line in lines:
        _, command, *rest = words(line)
        parsers.of(command).parse(rest)
    cells = re.findall(r"^    %%llm_batch (?!NAME)(.+)$", CELL_HELP, re.MULTILINE)
    assert len(cells) > 3
    for line in cells:
        cell_parser().parse(words(line))


def test_help_names_every_setting():
    """Each trait of `%config LLMBatch` is explained, and marked where it waits for a reload."""
    section = LINE_HELP.partition("Defaults\n--------\n")[2]
    for name, trait in LLMBatch.class_own_traits(config=True).items():
        assert re.search(rf"^    .*\b{name}\b", section, re.MULTILINE), name
        waits = "%reload_ext" in trait.help
        assert waits == bool(re.search(rf"\b{name} \*", section)), name


def test_every_subcommand_explains_itself(shell, capsys):
    """`--help` prints the options of each, and does nothing else."""
    for command in NAMES:
        out = said(shell, f"%llm_batch {command} --help", capsys)
        assert f"usage: %llm_batch {command}" in out or command == "help", command


def complete(shell, text):
    """Return what our matcher offers; where it has nothing IPython asks others."""
    matcher = extension._loaded[id(shell)][2]
    context = CompletionContext(
        token=text, full_text=text, cursor_position=len(text), cursor_line=0, limit=None
    )
    return {each.text for each in matcher(context)["completions"]}


@pytest.mark.parametrize("command", NAMES)
def test_tab_offers_every_option_of_a_subcommand(shell, command):
    """The options on Tab are those of the parser, whichever they are."""
    offered = complete(shell, f"%llm_batch {command} --")
    long = {each for each in parsers.of(command).options() if each.startswith("--")}
    assert offered == long


def test_tab_offers_what_an_argument_may_be(shell):
    """Batches, collected cells, providers and choices stand where the parser wants them."""
    ok(shell, "%%llm_batch mood --wait\nsay a")
    ok(shell, "%%llm_batch draft --add\nsay b")
    for line, wanted in {
        "deadline ": "mood",
        "deadline mood --": "--finish",
        "forget ": "draft",
        "submit ": "draft",
        "compare mood ": "mood",
        "adopt ": "openai:",
        "adopt op": "openai:",
        "login ": "anthropic",
        "cost --by ": "month",
        "history --": "--all",
        "simulator --": "--off",
        "run x --cache ": "5m",
        "run x --reuse ": "mood",
        "run x -m openai:gpt-5-m": "openai:gpt-5-mini",
    }.items():
        assert wanted in complete(shell, f"%llm_batch {line}"), line
    assert "mood" not in complete(shell, "%llm_batch show mood ")
    assert "draft" not in complete(shell, "%llm_batch status ")
    assert "mood" not in complete(shell, "%llm_batch export mood --as ")
    assert complete(shell, "%llm_batch submit draft --max-cost ") == set()


# -- what was collected ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["%llm_batch", "%llm_batch history", "%llm_batch --all"])
def test_what_was_collected_is_among_the_batches(shell, capsys, line):
    """Drafts stand there with their rows and what sends them, until they are sent."""
    ok(shell, '%%llm_batch notes --add --over ["a", "b"]\nsay {{ item }}')
    ok(shell, "%%llm_batch notes --add\nand c")
    out = said(shell, line, capsys)
    assert "not sent yet: %llm_batch submit notes" in out
    assert re.search(r"submit notes +3\b", out)
    (draft,) = shell.controller.client.drafts()
    assert (draft.title, draft.rows, draft.models) == ("notes", 3, [MODEL])
    ok(shell, "%llm_batch submit notes --wait")
    assert "not sent yet" not in said(shell, line, capsys)
    assert shell.controller.client.drafts() == []


# -- other notebooks' batches ----------------------------------------------------------------------


def test_batches_of_other_notebooks_are_live_and_left_alone(shell, make_client, sim, capsys):
    """`--all` shows their end as it comes, and never takes their lease."""
    sim.behave(seconds=1000)
    other = make_client(notebook="/n/other.ipynb")
    theirs = other.submit("say {{ item }}", name="theirs", over=["a", "b"], model=MODEL)
    until(lambda: theirs.snapshot().safe_to_close)
    out = said(shell, "%llm_batch --all", capsys)
    assert "theirs" in out
    assert "/n/other.ipynb, only shown here" in out
    driver = other.store.leases.driver(theirs.id)
    sim.advance(2000)
    theirs.refresh().wait(60)
    view = shell.controller.panels._texts[-1]
    until(lambda: view._latest.finished)
    assert "2 of 2 answered" in said(shell, "pass", capsys)
    assert driver is not None
    assert not shell.controller.client.poller()._leasing.leases


def test_a_batch_that_nobody_looks_after_is_only_shown(shell, make_client, sim, capsys):
    """Nobody drives it: the dashboard says so, and does not begin to."""
    sim.behave(seconds=1000)
    other = make_client(notebook="/n/other.ipynb")
    theirs = other.submit("say {{ item }}", name="theirs", over=["a"], model=MODEL)
    until(lambda: theirs.snapshot().safe_to_close)
    other.close()
    seen = []
    shell.controller.client.context.listen(seen.append)
    assert "nobody looks after 1 of them" in said(shell, "%llm_batch --all", capsys)
    until(lambda: len([each for each in seen if each.batch_id == theirs.id]) > 2)
    assert shell.controller.client.store.leases.driver(theirs.id) is None


# -- rows without an answer ------------------------------------------------------------------------


def test_errors_names_the_rows_of_each_kind(shell, capsys):
    """Rows stand as ranges; where there are many, the code that gives all of them."""
    shell.user_ns["rows"] = [
        f"{i} [[sim:fail-400]]" if i % 2 else f"{i} [[sim:refuse]]" if i in {0, 2} else f"{i}"
        for i in range(60)
    ]
    ok(shell, "%llm_batch run x --over rows --wait --retry 0")
    out = said(shell, "%llm_batch errors x", capsys)
    assert "1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 and 18 more" in out
    assert re.search(r"refused: refusal +2 +0, 2 ", out)
    code = re.search(r"jupyter_llm_batch(\.get\('x'\)\.failures\(\)\[0\]\.rows)", out)[1]
    client = shell.controller.client
    assert eval(f"client{code}", {"client": client}) == [*range(1, 60, 2)]


def test_retry_names_the_rows_that_may_be_paid_again(shell, sim, capsys):
    """Before anything is sent, the line asks about rows that may have been billed."""
    rows = ["a", "b [[sim:refuse]]", "c [[sim:refuse]]", "d [[sim:fail-400]]"]
    shell.user_ns["rows"] = rows
    ok(shell, "%llm_batch run x --over rows --wait --retry 0")
    with pytest.raises(UsageError) as asked:
        shell.run_line_magic("llm_batch", "retry x")
    question = str(asked.value)
    assert "x: 3 rows have no answer. 2 of them may have been billed (row 1-2)" in question
    assert re.search(r"pay for them again \(about (under )?\$[\d.]+\)\. Nothing was sent", question)
    assert "add --yes to send all 3, --unbilled to send only 1 row that was not billed" in question
    assert len(sim.ledger()) == 3
    out = said(shell, "%llm_batch retry x --unbilled", capsys)
    assert "1 row without an answer to be sent again; 2 rows that may have been billed left" in out
    until(lambda: shell.controller.client.get("x").done)
    assert len(sim.ledger()) == 3
    out = said(shell, "%llm_batch retry x --yes", capsys)
    assert "2 of them may have been billed: 1-2" in out


def test_failures_from_python(client):
    """The handle gives kind, rows and whether they may be billed; an answered batch gives none."""
    over = ["a", "b [[sim:refuse]]", "c [[sim:fail-400]]", "d [[sim:fail-400]]"]
    handle = client.submit(name="x", over=over, model=MODEL, retry=0).wait(60)
    found = {each.kind: (each.rows, each.billed) for each in handle.failures()}
    assert found == {"failed: invalid_value": ([2, 3], False), "refused: refusal": ([1], True)}
    assert client.submit(name="y", over=["a"], model=MODEL).wait(60).failures() == []
    # Rows that are taken from an earlier batch keep their reason.
    again = client.submit(name="x", over=[*over, "e"], model=MODEL, retry=0).wait(60)
    assert {row for each in again.failures() for row in each.rows} == {1, 2, 3}
    assert mark("e") in again.answers()[4]


def test_a_mistyped_subcommand_offers_nothing(shell):
    """Tab after a word that is no subcommand stays silent."""
    assert complete(shell, "%llm_batch statsu ") == set()
    with pytest.raises(LLMBatchError):
        parsers.of("advise").parse(["x"])


def test_a_folder_takes_effect_with_loading_again(shell, tmp_path):
    """`data_dir` and `at_once` change nothing before, as the help says."""
    shell.controller.use(Client(folder=tmp_path / "first", notebook=shell.controller.notebook))
    shell.controller.client.poller()
    ok(shell, f"%config LLMBatch.data_dir = {str(tmp_path / 'second')!r}")
    ok(shell, "%config LLMBatch.at_once = 3")
    assert shell.controller.client.store.folder == tmp_path / "first"
    assert shell.controller.client.poller().policy.at_once == 64
    ok(shell, "%reload_ext jupyter_llm_batch")
    client = extension._loaded[id(shell)][0].commands().controller.client
    assert client.store.folder == tmp_path / "second"
    assert client.poller().policy.at_once == 3
