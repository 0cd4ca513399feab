"""The magics in a real IPython shell, against the simulator."""

import getpass
import os
import re
import signal
import sys
import threading
import time

import pandas as pd
import pytest
from IPython.core.error import UsageError
from support import complete, line_of, mark, ok, run, until

from jupyter_llm_batch.client import session
from jupyter_llm_batch.notebook import extension
from jupyter_llm_batch.notebook.clients import SIMULATED_MODEL
from jupyter_llm_batch.notebook.tables import show
from jupyter_llm_batch.notebook.variables import Placeholder


def accepted(shell, code):
    """Run a cell that submits `x` and wait until the provider has taken it."""
    ok(shell, code)
    handle = shell.controller.client.get("x")
    end = time.monotonic() + 30
    while not handle.snapshot().safe_to_close and time.monotonic() < end:
        time.sleep(0.02)


def test_a_cell_becomes_a_frame_of_answers(shell, capsys):
    """Submit, wait, and the variable holds the frame with its answers."""
    shell.user_ns["reviews"] = pd.DataFrame({"text": ["good", "bad"]}, index=["p", "q"])
    ok(shell, "%%llm_batch sentiment --over reviews --wait\nIs it? {{ text }}")
    out = shell.user_ns["sentiment"]
    assert list(out.index) == ["p", "q"]
    assert mark("Is it? bad") in out.loc["q", "answer"]
    assert "sentiment" in capsys.readouterr().out


def test_the_placeholder_comes_first_and_the_answers_at_a_cell_boundary(shell, sim):
    """Until the answers are there the name holds a placeholder; a later cell sees the answers."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    placeholder = shell.user_ns["x"]
    assert isinstance(placeholder, Placeholder)
    assert "x ·" in repr(placeholder)
    for use in ("len(x)", "x[0]", "x.shape", "list(x)", "bool(x)", "x == 1", "'a' in x"):
        error = run(shell, use).error_in_exec
        assert type(error).__name__ == "NotReady", use
        assert "%llm_batch wait x" in str(error)
    sim.advance(2000)
    shell.controller.client.get("x").refresh().wait(60)
    # The value changes between cells, not inside one.
    code = "before = x\nimport time\ntime.sleep(0.3)\nsame = before is x"
    ok(shell, code)
    assert shell.user_ns["same"]
    ok(shell, "pass")
    assert mark("say a") in shell.user_ns["x"][0]


def test_a_changed_variable_is_left_alone(shell, sim, capsys):
    """What the user put into the name is never overwritten; `results` says what to do."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    ok(shell, "x = 'mine'")
    sim.advance(2000)
    shell.controller.client.get("x").refresh().wait(60)
    ok(shell, "pass")
    ok(shell, "pass")
    assert shell.user_ns["x"] == "mine"
    assert "del x" in line_of(shell, "%llm_batch results x", capsys)
    ok(shell, "del x")
    ok(shell, "%llm_batch results x")
    assert mark("say a") in shell.user_ns["x"][0]


def test_running_the_cell_again_binds_and_costs_nothing(shell, sim):
    """The same cell attaches, and its finished answers are bound at once."""
    cell = '%%llm_batch x --over ["a"]\nsay {{ item }}'
    ok(shell, cell)
    shell.controller.client.get("x").wait(60)
    ok(shell, "pass")
    del shell.user_ns["x"]
    ok(shell, cell)
    assert mark("say a") in shell.user_ns["x"][0]
    assert len(sim.ledger()) == 1


def test_an_answer_frame_that_the_user_extended_is_left_alone(shell):
    """A column added to the bound answers makes them the user's own."""
    shell.user_ns["df"] = pd.DataFrame({"t": ["a"]})
    ok(shell, "%%llm_batch x --over df --wait\n{{ t }}")
    ok(shell, "x['mine'] = 1")
    ok(shell, "%%llm_batch x --over df\n{{ t }}")
    assert "mine" in shell.user_ns["x"]
    error = run(shell, "%%llm_batch x --over df\n{{ t }}, otherwise").error_in_exec
    assert "answers that you have changed" in str(error)
    assert "mine" in shell.user_ns["x"]


def test_split_run_raw_add(shell):
    """The other ways to give prompts."""
    ok(shell, "%%llm_batch s --split --wait\none\n---\ntwo")
    assert mark("two") in shell.user_ns["s"][1]
    ok(shell, '%llm_batch run r --over ["p", "q"] --wait')
    assert mark("q") in shell.user_ns["r"][1]
    ok(shell, "bodies = [{'messages': [{'role': 'user', 'content': 'b'}]}]")
    ok(shell, "%llm_batch run w --over bodies --raw --wait")
    assert mark("b") in shell.user_ns["w"][0]
    ok(shell, "%%llm_batch c --add\nfirst")
    ok(shell, "%%llm_batch c --add\nsecond")
    ok(shell, "%llm_batch submit c --wait")
    assert [mark("first") in shell.user_ns["c"][0], mark("second") in shell.user_ns["c"][1]] == [
        True,
        True,
    ]


def test_notebook_variables_and_brackets_in_expressions(shell):
    """Templates see the namespace; expressions may hold quotes, blanks and brackets."""
    shell.user_ns["df"] = pd.DataFrame({"id": [1, 2], "text": ["a", "b"], "big": [0, 0]})
    shell.user_ns["tone"] = "kind"
    shell.user_ns["rules"] = "Be terse"
    ok(
        shell,
        '%%llm_batch x --over df[df.id > 1][["id", "text"]] --as reply --system-from rules --wait\n'
        "{{ tone }} {{ row.text }}",
    )
    out = shell.user_ns["x"]
    assert list(out.columns) == ["id", "text", "reply", "error", "finish_reason"]
    assert mark("kind b") in out["reply"].iloc[0]


def test_braces_and_dollars_stay_as_they_are(shell):
    """IPython expands nothing in the line or the body."""
    shell.user_ns["text"] = "EXPANDED"
    ok(shell, "%%llm_batch x --system '{text} $text' --wait\nuse {text} and $text")
    request = (
        shell.controller.client.store.folder_of(shell.controller.client.get("x").id) / "r0-j1.jsonl"
    )
    assert "EXPANDED" not in request.read_text()
    assert mark("use {text} and $text") in shell.user_ns["x"]


def test_dry_run_sends_nothing(shell, sim, capsys):
    """Prompts and split are shown, nothing leaves, the name stays free."""
    ok(shell, '%%llm_batch x --over ["a", "b"] --dry-run\nsay {{ item }}')
    said = capsys.readouterr().out
    assert "say a" in said
    assert "2 requests, 1 job:" in said
    assert "as a batch" in said
    assert sim.requests() == []
    assert "x" not in shell.user_ns


def test_the_line_magic_looks_after_batches(shell, capsys, tmp_path):
    """status, show, errors, history, dashboard, export, retry, doctor, forget."""
    ok(shell, '%%llm_batch x --over ["a", "b [[sim:fail-400]]"] --wait\nsay {{ item }}')
    capsys.readouterr()
    for line, words in {
        "status x": "1 of 2",
        "show x 0": "say a",
        "errors x": "invalid_value",
        "history": "openai:gpt-5-mini",
        "": "openai:gpt-5-mini",
        "--all": "nb.ipynb",
        f"export x {tmp_path}/a.csv": "2 rows, 1 of them with an answer, written",
        "retry x": "1 row without an answer to be sent again",
        "wait x": "",
        "cancel x": "nothing to cancel",
        "doctor": "openai key",
        "help": "%llm_batch retry NAME",
        "results x": "x holds the answers",
        "forget x --yes": "local data deleted",
    }.items():
        ok(shell, f"%llm_batch {line}")
        assert words in capsys.readouterr().out, line
    assert mark("say a") in (tmp_path / "a.csv").read_text()
    assert "no batch 'x'" in line_of(shell, "%llm_batch status x", capsys)


def test_cancel_from_the_magic(shell, sim, capsys):
    """`cancel` asks the provider and says what is paid for."""
    sim.behave(seconds=1000)
    ok(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    ok(shell, "%llm_batch cancel x")
    assert "not billed" in capsys.readouterr().out
    handle = shell.controller.client.get("x")
    end = time.monotonic() + 30
    while not handle.done and time.monotonic() < end:
        sim.advance(100)
        time.sleep(0.05)
    assert handle.results()[0].outcome == "cancelled"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("%%llm_batch\nhello", "name"),
        ("%%llm_batch x --modle m\nhello", "did you mean --model"),
        ("%%llm_batch x --over nothing_here\nhello {{ item }}", "nothing_here"),
        ("%%llm_batch x --over revews\nhello {{ item }}", "did you mean 'reviews'"),
        ("%%llm_batch reviews --over reviews\n{{ text }}", "would be over"),
        (
            "%%llm_batch reviews --over reviews.head(1)[['text']]\n{{ text }}",
            "would be over",
        ),
        ("%%llm_batch reviews --over [reviews for _ in 'a']\nhi", "would be over"),
        ("%llm_batch run reviews --over list(reviews.text)", "would be over"),
        ("%%llm_batch taken --over reviews\n{{ text }}", "in use"),
        ("%%llm_batch print --over reviews\n{{ text }}", "Python built-in"),
        ("%%llm_batch 2x --over reviews\n{{ text }}", "variable name"),
        ("%%llm_batch x --over reviews\n{{ txt }}", "text"),
        ("%%llm_batch x --over reviews --as text\n{{ text }}", "--as"),
        ("%%llm_batch x --over reviews --max-tokens none\n{{ text }}", "whole number"),
        ("%%llm_batch x --over reviews --param temp\n{{ text }}", "KEY=VALUE"),
        ("%%llm_batch x --over 'reviews\n{{ text }}", "quote is not closed"),
        ("%%llm_batch x --over reviews[\n{{ text }}", "bracket is not closed"),
        ("%%llm_batch x --over reviews\n   \n", "empty|blank|nothing"),
        ("%%llm_batch x --over nulls\n{{ text }}", "--skip-null"),
        ("%%llm_batch x --over twice\n{{ a }}", "a"),
        ("%%llm_batch x --over reviews -m nobody:gpt\n{{ text }}", "unknown provider 'nobody'"),
        ("%%llm_batch x --over reviews\n\\textbf{#1} {{ text }}", "raw"),
        ("%%llm_batch x --over reviews --split\n{{ text }}", "--split"),
        ("%%llm_batch x --system a --system-from b\nhi", "not both"),
        ("%%llm_batch x --system You are nice --over reviews\n{{ text }}", "in quotes"),
        ("%%llm_batch x --over reviews\n{{ my col }}", r"written {{ row\[.my col.\] }}"),
        ("%%llm_batch x --over 5\nhi {{ item }}", "not an int"),
        ("%%llm_batch x --over reviews --route [1]\n{{ text }}", "1 model for 2 rows"),
        ("%%llm_batch x --over reviews --route (lambda\trow:row.text)\nhi", r'row\["text"\]'),
        ("%%llm_batch x --over reviews --embed --schema dict\n{{ text }}", "--embed for vectors"),
        ("%llm_batch statsu x", "did you mean `%llm_batch status`"),
        ("%llm_batch status nope", "no batch 'nope'"),
        ("%llm_batch run x", "--over"),
        ("%llm_batch submit x", "--add"),
        ("%llm_batch forget", "--older-than"),
        ("%llm_batch forget --older-than soon", "30d"),
        ("%llm_batch export x a.csv", "no batch"),
    ],
)
def test_mistakes_are_one_line_and_send_nothing(shell, sim, capsys, code, words):
    """Every mistake is one line that says what to do; nothing is sent, nothing is bound."""
    shell.user_ns["reviews"] = pd.DataFrame({"text": ["a", "b"]})
    shell.user_ns["nulls"] = pd.DataFrame({"text": ["a", None]})
    shell.user_ns["twice"] = pd.DataFrame([[1, 2]], columns=["a", "a"])
    shell.user_ns["taken"] = 5
    said = line_of(shell, code, capsys)
    assert re.search(words, said), said
    assert sim.requests() == []
    assert "x" not in shell.user_ns
    assert shell.user_ns["taken"] == 5


def test_a_name_that_an_expression_uses_for_itself_is_free(shell):
    """What a comprehension calls its items is no input."""
    shell.user_ns["rows"] = ["a"]
    ok(shell, "%%llm_batch x --over [x.upper() for x in rows] --wait\nsay {{ item }}")
    assert mark("say A") in shell.user_ns["x"][0]


def test_interrupting_a_wait_harms_nothing(shell, sim, capsys):
    """Ctrl-C ends the waiting in one line; the batch goes on."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    error = run(shell, "%llm_batch wait x").error_in_exec
    assert isinstance(error, UsageError)
    assert "is still running at the provider" in str(error)
    sim.advance(2000)
    shell.controller.client.get("x").refresh().wait(60)
    assert len(sim.ledger()) == 1


def test_what_was_not_sent_is_not_said_to_be_at_the_provider(shell, sim, make_client, capsys):
    """With the server unreachable, an ended wait and `errors` say that nothing was sent."""
    environ = {**sim.environ(), "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    shell.controller.use(make_client(environ=environ))
    ok(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    handle = shell.controller.client.get("x")
    until(lambda: any(job.error for job in handle.snapshot().jobs))
    assert "still being sent" in show.goes_on(handle)
    capsys.readouterr()
    ok(shell, "%llm_batch errors x")
    said = capsys.readouterr().out
    assert "a submission does not get through" in said
    assert "cannot be reached" in said


def test_errors_and_results_of_a_batch_under_way(shell, sim, capsys):
    """`errors` says that nothing has come back; `results` names the magic's own option."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    capsys.readouterr()
    ok(shell, "%llm_batch errors x")
    assert "nothing has come back" in capsys.readouterr().out
    said = line_of(shell, "%llm_batch results x", capsys)
    assert "results x --partial" in said
    assert "partial=True" not in said


def test_under_the_simulator_no_key_counts(shell, monkeypatch, capsys):
    """`login` and `logout` say so, instead of pointing at a key that nobody has given."""
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: "sk-of-nobody")
    for command in ("login", "logout"):
        ok(shell, f"%llm_batch {command} openai")
        said = capsys.readouterr().out
        assert "talks to simulated providers" in said
        assert "goes first" not in said
        assert "still found" not in said


def test_simulated_batches_are_pointed_out_to_who_sees_none(shell, make_client, capsys):
    """Back at the real providers, the list of batches says how the simulated ones are found."""
    ok(shell, "%%llm_batch x --wait\nhello")
    shell.controller.use(make_client(simulated=False))
    for line in ("%llm_batch", "%llm_batch --all", "%llm_batch history"):
        capsys.readouterr()
        ok(shell, line)
        assert "found after `%llm_batch simulator`" in capsys.readouterr().out, line


def test_a_batch_being_cancelled_says_so_to_who_runs_its_cell_again(shell, sim, capsys):
    """Attaching is not said to be free of consequence, and a retry says what to wait for."""
    sim.behave(seconds=1000)
    cell = '%%llm_batch x --over ["a"]\nsay {{ item }}'
    accepted(shell, cell)
    ok(shell, "%llm_batch cancel x")
    capsys.readouterr()
    ok(shell, cell)
    said = capsys.readouterr().out
    assert "being cancelled; --resubmit pays again" in said
    assert "no new cost" not in said
    assert "being cancelled: a retry" in line_of(shell, "%llm_batch retry x", capsys)


def test_what_a_cell_is_told_stays_with_its_panel(shell, sim, capsys):
    """Another panel of the same batch does not repeat that a cell has attached to it."""
    sim.behave(seconds=1000)
    cell = '%%llm_batch x --over ["a"]\nsay {{ item }}'
    accepted(shell, cell)
    capsys.readouterr()
    ok(shell, cell)
    assert "attached to the batch" in capsys.readouterr().out
    ok(shell, "%llm_batch status x")
    assert "attached to the batch" not in capsys.readouterr().out


def test_export_says_what_it_wrote(shell, sim, tmp_path, capsys):
    """Rows without an answer are counted, and a file that was there is said to be replaced."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["a", "b"]\nsay {{ item }}')
    capsys.readouterr()
    ok(shell, f"%llm_batch export x {tmp_path / 'a.csv'}")
    said = capsys.readouterr().out
    assert "2 rows, 0 of them with an answer, written" in said
    assert "replaced" not in said
    ok(shell, f"%llm_batch export x {tmp_path / 'a.csv'}")
    assert "(replaced)" in capsys.readouterr().out


def test_adopting_by_a_variable(shell, capsys):
    """`{name}` on the line is the variable's value; a name that is unknown is one line."""
    ok(shell, "bid = 'batch_of_nobody'")
    assert "cannot adopt openai:batch_of_nobody" in line_of(
        shell, "%llm_batch adopt openai:{bid} x", capsys
    )
    said = line_of(shell, "%llm_batch adopt openai:{bit} x", capsys)
    assert "did you mean 'bid'" in said


def test_rows_are_shown_by_label_too(shell, capsys):
    """A position counts first; a label of the index or a key of the dict is found as well."""
    shell.user_ns["df"] = pd.DataFrame({"text": ["a", "b"]}, index=["p", "q"])
    shell.user_ns["ten"] = pd.Series(["c", "d"], index=[10, 1])
    for name, over, wanted, said in [
        ("x", "df", "q", "say b"),
        ("y", "ten", "10", "say c"),
        ("y", "ten", "1", "say d"),
        ("z", '{"k": "e"}', "k", "say e"),
    ]:
        field = "text" if name == "x" else "item"
        ok(shell, f"%%llm_batch {name} --over {over} --wait\nsay {{{{ {field} }}}}")
        capsys.readouterr()
        ok(shell, f"%llm_batch show {name} {wanted}")
        assert said in capsys.readouterr().out, wanted
    said = line_of(shell, "%llm_batch show x r", capsys)
    assert "has no row 'r': its rows are 0 to 1, or say an index label" in said


def test_help_is_complete(shell):
    """`%%llm_batch?` and `%llm_batch?` name every option and subcommand."""
    from jupyter_llm_batch.core.cell_options import cell_parser

    cell = shell.find_line_magic("llm_batch"), shell.find_cell_magic("llm_batch")
    for option in cell_parser().options():
        assert option in cell[1].__doc__, option
    magics = cell[0].__self__
    for command in magics.commands().commands:
        assert f"%llm_batch {command}" in cell[0].__doc__, command


def test_tab_completes(shell):
    """Subcommands, options, batch names, models and variables."""
    ok(shell, '%%llm_batch mood --over ["a"] --wait\nsay {{ item }}')
    shell.user_ns["my_reviews"] = []
    assert "status" in complete(shell, "%llm_batch sta")
    assert "mood" in complete(shell, "%llm_batch status mo")
    assert "--over" in complete(shell, "%%llm_batch x --ov")
    assert "my_reviews" in complete(shell, "%%llm_batch x --over my_r")
    assert "openai:gpt-5-mini" in complete(shell, "%%llm_batch x --model openai:gpt-5-m")
    assert "llm_batch" not in " ".join(complete(shell, "some_name.sta"))


def test_show_tells_what_an_answer_holds(shell, capsys):
    """A tool call is shown as a call, thoughts and every further answer are marked as such."""
    more = "-m anthropic:claude-haiku-4-5 --wait --retry 0"
    ok(shell, f"%llm_batch run x --over ['[[sim:tool]]','[[sim:think]]','[[sim:refuse]]'] {more}")
    shown = []
    for row in range(3):
        capsys.readouterr()
        ok(shell, f"%llm_batch show x {row}")
        shown.append(capsys.readouterr().out)
    assert "[tool call] simulated_tool({})  (toolu_" in shown[0]
    assert "(tool_use) ---" in shown[0]
    assert "[reasoning] The request was considered." in shown[1]
    assert "--- refused (refusal) ---" in shown[2]
    assert "I can't help with that." in shown[2]
    ok(shell, "%llm_batch run y --over ['a'] --param n=2 --wait")
    capsys.readouterr()
    ok(shell, "%llm_batch show y 0")
    assert "[answer 2 of 2]" in capsys.readouterr().out
    assert len(shell.user_ns["y"][0]) == 2
    ok(shell, "%llm_batch run z --over ['a'] --embed -m openai:text-embedding-3-small --wait "
              "--param dimensions=8")  # fmt: skip
    capsys.readouterr()
    ok(shell, "%llm_batch show z 0")
    assert "[vector of 8] " in capsys.readouterr().out


def test_embeddings_of_anthropic_are_refused_in_one_line(shell, sim, capsys):
    """The line names providers that have them, and nothing is sent."""
    code = "%llm_batch run x --over ['a'] --embed -m anthropic:claude-haiku-4-5"
    assert "use a model of OpenAI or Google" in line_of(shell, code, capsys)
    assert sim.ledger() == []


def test_config_shows_and_sets(shell, sim):
    """`%config LLMBatch` sets defaults for the next cell."""
    ok(shell, "%config LLMBatch.max_tokens = 7")
    ok(shell, "%%llm_batch x --wait\nhello")
    body = (
        shell.controller.client.store.folder_of(shell.controller.client.get("x").id) / "r0-j1.jsonl"
    )
    assert '"max_completion_tokens":7' in body.read_text()


def test_loading_twice_and_unloading(shell):
    """A second load changes nothing; unloading takes the magics away."""
    before = len(shell.events.callbacks["pre_run_cell"])
    extension.load(shell)
    assert len(shell.events.callbacks["pre_run_cell"]) == before
    extension.unload(shell)
    assert shell.find_line_magic("llm_batch") is None
    assert len(shell.events.callbacks["pre_run_cell"]) == before - 1


def test_a_simulation_outlives_loading_again(shell, sim):
    """After %reload_ext the magics and the functions go on with the simulator, not a provider."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    first = shell.controller.client
    ok(shell, "%reload_ext jupyter_llm_batch")
    controller = extension._loaded[id(shell)][0].commands().controller
    assert controller.client.simulated
    assert controller.client is not first
    assert controller.client.environ == sim.environ()
    assert session.current() is controller.client
    sim.advance(2000)
    ok(shell, "%llm_batch wait x")
    assert mark("say a") in shell.user_ns["x"][0]


def test_a_simulation_begun_in_python_is_the_magics_too(shell, make_client):
    """`simulate` before or after %load_ext: the magics never turn to a provider by themselves."""
    extension.unload(shell)
    client = session.use(make_client())
    extension.load(shell)
    controller = extension._loaded[id(shell)][0].commands().controller
    assert controller.client is client
    assert controller.config.model == SIMULATED_MODEL
    ok(shell, "%llm_batch simulator --off")
    assert not controller.client.simulated
    later = session.use(make_client())
    assert controller.client is later


def test_the_cell_run_last_owns_the_name(shell, sim):
    """A, B and A again while all run: the name gets A's answers, and every subcommand means A."""
    sim.behave(seconds=1000)
    a, b = ('%%llm_batch x --over ["z"]\n' + text for text in ("A {{ item }}", "B {{ item }}"))
    accepted(shell, a)
    accepted(shell, b)
    ok(shell, a)
    sim.advance(2000)
    for name in ("x#1", "x#2"):
        shell.controller.client.get(name).refresh().wait(60)
    ok(shell, "%llm_batch results x")
    assert mark("A z") in shell.user_ns["x"][0]
    assert shell.controller.client.get("x").name == "x"
    ok(shell, b)
    assert mark("B z") in shell.user_ns["x"][0]


def test_what_was_true_while_it_ran_is_not_said_at_the_end(shell, sim, capsys):
    """That the earlier version goes on is news on the way; what was reused stays said."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["z"]\nA {{ item }}')
    capsys.readouterr()
    accepted(shell, '%%llm_batch x --over ["z"] --reuse x#1\nB {{ item }}')
    said = capsys.readouterr().out
    assert "x#1 keeps running" in said
    assert "x#1 has no row like these" in said
    sim.advance(2000)
    ok(shell, "%llm_batch wait x")
    ok(shell, "1")
    lines = capsys.readouterr().out.splitlines()
    ends = [each for each in lines if each.startswith("x#2") and "answered" in each]
    assert not any("keeps running" in each for each in ends)
    assert any("has no row like these" in each for each in ends)


def test_the_history_numbers_the_first_of_several_versions(shell, capsys):
    """What stands there can be typed: a bare name would mean another version."""
    ok(shell, '%%llm_batch x --over ["z"] --wait\nA {{ item }}')
    ok(shell, "%llm_batch history")
    assert "x#1" not in capsys.readouterr().out
    ok(shell, '%%llm_batch x --over ["z"] --wait\nB {{ item }}')
    ok(shell, "%llm_batch history")
    said = capsys.readouterr().out
    assert "x#1" in said
    assert "x#2" in said


def test_asking_early_does_not_end_the_waiting(shell, sim, capsys):
    """`results` on a running batch, partial or not, leaves the answers to be bound when done."""
    sim.behave(seconds=1000)
    accepted(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    assert "wait" in line_of(shell, "%llm_batch results x", capsys)
    ok(shell, "%llm_batch results x --partial")
    assert "holds 0 of 1 answers so far" in capsys.readouterr().out
    assert shell.user_ns["x"] == [None]
    sim.advance(2000)
    shell.controller.client.get("x").refresh().wait(60)
    bound_by(shell, "x", lambda value: value != [None])
    assert mark("say a") in shell.user_ns["x"][0]


def bound_by(shell, name, ready):
    """Run empty cells until the variable is what is waited for."""
    end = time.monotonic() + 20
    while not ready(shell.user_ns[name]) and time.monotonic() < end:
        ok(shell, "pass")
        time.sleep(0.02)


def test_interrupting_wait_options_is_one_line_too(shell, sim):
    """Ctrl-C in a cell with --wait says that the batch goes on."""
    sim.behave(seconds=1000)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    error = run(shell, '%%llm_batch x --over ["a"] --wait\nsay {{ item }}').error_in_exec
    assert isinstance(error, UsageError)
    assert "is still running at the provider" in str(error)


def test_collected_cells_can_be_dropped(shell, capsys):
    """`forget` deletes what was collected; a dry run collects nothing."""
    ok(shell, "%%llm_batch c --add -m openai:gpt-5\none")
    ok(shell, "%%llm_batch c --add\ntwo")
    assert "different models" in line_of(shell, "%llm_batch submit c", capsys)
    ok(shell, "%llm_batch forget c")
    assert "nothing was collected" in line_of(shell, "%llm_batch submit c", capsys)
    ok(shell, "%%llm_batch d --add --dry-run\none")
    assert "nothing was collected" in line_of(shell, "%llm_batch submit d", capsys)


def test_a_kept_placeholder_names_the_variable(shell):
    """A reference taken early says where the answers are, instead of asking to wait."""
    ok(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    ok(shell, "early = x")
    early = shell.user_ns["early"]
    shell.controller.client.get("x").wait(60)
    if isinstance(early, Placeholder):
        error = run(shell, "len(early)").error_in_exec
        assert "'x' has them" in str(error)


@pytest.mark.parametrize(
    ("value", "words"),
    [("pd", "module"), ("frame", "whole frame"), ("len", "builtin_function")],
)
def test_what_is_no_text_is_refused(shell, sim, capsys, value, words):
    """Modules, functions and frames do not get into prompts by accident."""
    shell.user_ns |= {"pd": pd, "frame": pd.DataFrame({"t": [1]})}
    shell.user_ns["rows"] = pd.DataFrame({"t": ["a"]})
    shell.user_ns["len"] = len
    said = line_of(shell, f"%%llm_batch x --over rows\n{{{{ {value} }}}}", capsys)
    assert words in said
    assert sim.requests() == []


def test_a_cell_without_a_field_is_pointed_out(shell, capsys):
    """Every row asking the same is said before and on the panel."""
    shell.user_ns["rows"] = pd.DataFrame({"t": ["a", "b"]})
    ok(shell, "%%llm_batch x --over rows --dry-run\nclassify it")
    assert "every row asks the same" in capsys.readouterr().out
    ok(shell, "%%llm_batch x --over rows\nclassify it")
    assert "every row asks the same" in capsys.readouterr().out


def test_a_field_in_single_braces_is_refused(shell, sim, capsys):
    """What an f-string would fill in would be sent as it stands, and paid for with every row."""
    shell.user_ns["rows"] = pd.DataFrame({"t": ["a", "b"]})
    said = line_of(shell, "%%llm_batch x --over rows\nclassify {t}", capsys)
    assert "write {{ t }}" in said
    assert sim.requests() == []
    ok(shell, "%%llm_batch x --over rows\n{{ t }} as {t}")  # braces beside a field are the prompt's


def test_every_subcommand_explains_itself(shell, capsys):
    """`--help` lists the options of the cell and of each subcommand."""
    ok(shell, "%llm_batch retry --help")
    assert "name" in capsys.readouterr().out
    ok(shell, "%%llm_batch --help\nx")
    assert "--system-from" in capsys.readouterr().out
    assert "--help" in line_of(shell, "%llm_batch status", capsys)


def test_a_bad_setting_does_not_stop_loading(shell, capsys):
    """A value of the wrong type falls back to the defaults, with a line that says so."""
    extension.unload(shell)
    shell.config.LLMBatch.model = 5
    extension.load(shell)
    assert "setting" in capsys.readouterr().out
    assert shell.find_line_magic("llm_batch") is not None


def test_a_cell_is_told_of_and_its_files_deleted_as_the_user_set(shell, sim, tmp_path):
    """`--notify`, `%config LLMBatch.notify` and `delete_uploads` reach the batch."""
    script = tmp_path / "tell.py"
    script.write_text("")
    ok(shell, f"%config LLMBatch.notify = '{sys.executable} {script}'")
    ok(shell, "%config LLMBatch.delete_uploads = True")
    ok(shell, "%%llm_batch x --wait\na")
    record = shell.controller.client.get("x").record
    assert record.notify.endswith("tell.py")
    assert record.delete_uploads
    assert [each for each in sim.requests() if each["method"] == "DELETE"]
    ok(shell, "%%llm_batch y --wait --notify off\na")
    assert shell.controller.client.get("y").record.notify == ""


def test_forget_in_every_notebook_and_nothing_that_others_use(shell, capsys):
    """`--older-than 0h --all` keeps what a kept batch uses, and says so."""
    ok(shell, "%%llm_batch x --over ['a'] --wait\n{{ item }}")
    ok(shell, "%%llm_batch x --over ['a', 'b'] --wait\n{{ item }}")
    capsys.readouterr()
    ok(shell, "%llm_batch forget --older-than 0h --all --yes")
    out = capsys.readouterr().out
    assert out.index("x#2: local data deleted") < out.index("x: local data deleted")
    assert "--older-than" in line_of(shell, "%llm_batch forget x --all", capsys)


def test_strangers_of_the_same_size_are_asked_about(shell, sim, capsys):
    """Where nothing marks a batch as ours the panel asks; nothing is sent before the decision."""
    import anthropic

    sim.behave(seconds=1000, anthropic_retry_after=0)
    environ = sim.environ()
    params = {"model": "claude-haiku-4-5", "max_tokens": 5,
              "messages": [{"role": "user", "content": "theirs"}]}  # fmt: skip
    with anthropic.Anthropic(
        api_key=environ["ANTHROPIC_API_KEY"], base_url=environ["ANTHROPIC_BASE_URL"]
    ) as other:
        theirs = other.messages.batches.create(
            requests=[{"custom_id": f"stranger-{n}", "params": params} for n in range(2)]
        ).id
    sim.fault(method="POST", path="*/messages/batches", action="accept_then_drop")
    ok(shell, "rows = ['a', 'b']")
    ok(shell, "%llm_batch run x --over rows --model anthropic:claude-haiku-4-5")
    handle = shell.controller.client.get("x")
    end = time.monotonic() + 60
    while handle.snapshot().state != "attention" and time.monotonic() < end:
        time.sleep(0.01)
    assert "resolve" in handle.snapshot().words
    capsys.readouterr()
    ok(shell, "%llm_batch resolve x")
    shown = capsys.readouterr().out
    assert theirs in shown
    ours = (set(re.findall(r"msgbatch_\w+", shown)) - {theirs}).pop()
    creates = [r for r in sim.requests() if r["method"] == "POST"]
    assert len(creates) == 2  # theirs and ours, once
    ok(shell, f"%llm_batch resolve x --as-created {ours}")
    sim.advance(2000)
    assert mark("b") in handle.wait(60).answers()[1]
    assert len([r for r in sim.requests() if r["method"] == "POST"]) == 2
    assert len(sim.ledger()) == 4
