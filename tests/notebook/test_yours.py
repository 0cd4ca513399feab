"""What the user makes of the answers is the user's: no cell overwrites it."""

import nbclient
import nbformat
import pandas as pd
import pytest
from IPython.core.error import UsageError
from pydantic import BaseModel
from support import mark, ok, run, until

MODEL = "openai:gpt-5-mini"
CELL = '%%llm_batch x --over ["a", "b"]\nsay {{ item }}'


class Label(BaseModel):
    mood: str


def test_a_corrected_item_stays_when_the_cell_runs_again(shell, sim, capsys):
    """The cell attaches, says that the variable was left alone, and costs nothing."""
    ok(shell, CELL.replace("\n", " --wait\n"))
    ok(shell, "mine = x\nx[0] = 'my correction'")
    capsys.readouterr()
    ok(shell, CELL)
    said = capsys.readouterr().out
    assert "attached to the batch" in said
    assert "x has changes of yours and was left alone" in said
    assert shell.user_ns["x"] is shell.user_ns["mine"]
    assert shell.user_ns["x"][0] == "my correction"
    ok(shell, CELL.replace("\n", " --wait\n"))
    ok(shell, "%llm_batch wait x")
    assert shell.user_ns["x"][0] == "my correction"
    assert len(sim.ledger()) == 2


@pytest.mark.parametrize(
    "change", ["x['answer'] = x['answer'].str.upper()", "x.loc['p', 'answer'] = 'mine'"]
)
def test_a_corrected_column_stays_when_the_cell_runs_again(shell, change):
    """A column or a cell of the frame that was replaced is not replaced back."""
    shell.user_ns["df"] = pd.DataFrame({"t": ["a", "b"]}, index=["p", "q"])
    cell = "%%llm_batch x --over df --wait\nsay {{ t }}"
    ok(shell, cell)
    ok(shell, change)
    before = shell.user_ns["x"].copy()
    ok(shell, cell)
    assert shell.user_ns["x"].equals(before)


def test_the_object_stays_when_nothing_is_new(shell):
    """Answers that are bound already are not bound again, so every reference stays the same."""
    ok(shell, CELL.replace("\n", " --wait\n"))
    first = shell.user_ns["x"]
    ok(shell, CELL)
    assert shell.user_ns["x"] is first


def test_answers_in_another_shape_are_bound_unless_there_are_changes(shell, capsys):
    """Another --as, index or column is new; with changes of the user's it is only pointed out."""
    shell.user_ns["df"] = pd.DataFrame({"t": ["a", "b"]})
    ok(shell, "%%llm_batch x --over df --wait\nsay {{ t }}")
    ok(shell, "%%llm_batch x --over df --as said\nsay {{ t }}")
    assert "said" in shell.user_ns["x"].columns
    shell.user_ns["df"] = pd.DataFrame({"t": ["a", "b"]}, index=["p", "q"])
    ok(shell, "%%llm_batch x --over df --as said\nsay {{ t }}")
    assert list(shell.user_ns["x"].index) == ["p", "q"]
    ok(shell, "x.loc['p', 'said'] = 'mine'")
    capsys.readouterr()
    ok(shell, "%%llm_batch x --over df\nsay {{ t }}")
    assert "after `del x`, `%llm_batch results x` binds" in capsys.readouterr().out
    assert shell.user_ns["x"].loc["p", "said"] == "mine"
    ok(shell, "del x\n%llm_batch results x")
    assert list(shell.user_ns["x"].columns) == ["t", "answer", "error", "finish_reason"]


def test_more_answers_are_bound(shell):
    """After a retry the answers are newer than those that are bound."""
    ok(shell, "%%llm_batch x --over ['a', 'b [[sim:expire x1]]'] --retry 0 --wait\n{{ item }}")
    assert shell.user_ns["x"][1] is None
    ok(shell, "%llm_batch retry x --yes")
    ok(shell, "%llm_batch wait x")
    assert mark("b [[sim:expire x1]]") in shell.user_ns["x"][1]


def test_asking_for_the_answers_does_not_undo_changes(shell):
    """`results` binds anew only what is as it was bound."""
    ok(shell, CELL.replace("\n", " --wait\n"))
    first = shell.user_ns["x"]
    ok(shell, "%llm_batch results x")
    assert shell.user_ns["x"] == first
    ok(shell, "x[1] = 'mine'")
    error = run(shell, "%llm_batch results x").error_in_exec
    assert "`del x`" in str(error)
    assert shell.user_ns["x"][1] == "mine"


@pytest.mark.parametrize("more", ["", "--resubmit"])
def test_another_version_does_not_take_a_changed_variable(shell, sim, more):
    """A batch that is new is refused before anything is written or sent."""
    ok(shell, CELL.replace("\n", " --wait\n"))
    ok(shell, "x[0] = 'mine'")
    paid, folders = len(sim.ledger()), [*shell.controller.client.store.folder.rglob("*.jsonl")]
    words = "say" if more else "whisper"
    cell = f'%%llm_batch x --over ["a", "b"] {more}\n{words} {{{{ item }}}}'
    error = run(shell, cell).error_in_exec
    assert isinstance(error, UsageError)
    assert "answers that you have changed" in str(error)
    assert shell.user_ns["x"][0] == "mine"
    assert len(sim.ledger()) == paid
    assert [*shell.controller.client.store.folder.rglob("*.jsonl")] == folders
    assert shell.controller.client.get("x").record.version == 1


def test_objects_of_a_schema_are_the_users_to_change(shell):
    """A field that was corrected stays, also when the class is defined again."""
    shell.user_ns["Label"] = Label
    cell = '%%llm_batch x --over ["a"] --schema Label --wait\nsay {{ item }}'
    ok(shell, cell)
    ok(shell, "x[0].mood = 'mine'")
    shell.user_ns["Label"] = type("Label", (Label,), {"__module__": "__main__"})
    ok(shell, cell)
    assert shell.user_ns["x"][0].mood == "mine"


def test_a_collected_cell_may_run_again_beside_changed_answers(shell):
    """Run All over `--add` and `submit` neither fails nor overwrites."""
    cells = ["%%llm_batch x --add --over ['a']\nsay {{ item }}", "%llm_batch submit x --wait"]
    for cell in cells:
        ok(shell, cell)
    ok(shell, "x[0] = 'mine'")
    for cell in cells:
        ok(shell, cell)
    assert shell.user_ns["x"] == ["mine"]


def test_a_variable_taken_inside_the_running_cell_is_told_of(shell, sim, capsys):
    """Answers that come while a cell runs, and find the user's own value, say how to get them."""
    sim.behave(seconds=1000)
    ok(shell, CELL)
    handle = shell.controller.client.get("x")
    until(lambda: handle.snapshot().safe_to_close)
    binder = shell.controller.binder

    def come():
        sim.advance(2000)
        handle.refresh().wait(60)
        until(lambda: binder._queue)

    shell.user_ns["come"] = come
    capsys.readouterr()
    ok(shell, "come()\nx = 'mine'")
    said = capsys.readouterr().out

    def told():
        nonlocal said
        ok(shell, "pass")  # a terminal speaks between two cells, and the end may come just after
        said += capsys.readouterr().out
        return "was left alone" in said

    until(told)
    assert "your variable was left alone; `%llm_batch results x` binds the answers" in said
    ok(shell, "pass")
    assert shell.user_ns["x"] == "mine"


KERNEL = """
%load_ext jupyter_llm_batch
%llm_batch simulator --seconds 0
controller = get_ipython().magics_manager.registry['LLMBatchMagics'].commands().controller
import time
def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
"""


@pytest.fixture
def saved(tmp_path, monkeypatch, request):
    """Run cells in a real kernel, and return the displays of each as they are saved."""
    import json
    import os
    import signal

    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))

    def execute(*cells):
        made = [nbformat.v4.new_code_cell(cell) for cell in (KERNEL, *cells)]
        notebook = nbformat.v4.new_notebook(cells=made)
        nbclient.NotebookClient(
            notebook, timeout=120, kernel_name="python3",
            resources={"metadata": {"path": str(tmp_path)}},
        ).execute()  # fmt: skip
        return [[each["data"] for each in cell.outputs if "data" in each] for cell in made[1:]]

    yield execute
    for address in tmp_path.rglob("simulator.json"):
        os.kill(json.loads(address.read_text())["pid"], signal.SIGTERM)


def test_the_saved_panel_says_that_the_variable_was_left_alone(saved):
    """The summary in the cell of the batch has the notice, though it ended before the refusal."""
    panel, _, value = saved(
        CELL,
        "until(lambda: controller.binder._queue and not controller.panels._views)\nx = 'mine'",
        "x",
    )
    assert "2 of 2 answered" in panel[0]["text/html"]
    assert "your variable was left alone" in panel[0]["text/html"]
    assert value[0]["text/plain"] == "'mine'"


def test_status_of_an_ended_batch_is_saved_as_its_summary(saved):
    """The notebook keeps what `status` showed, as the cell of the batch does."""
    _, status = saved(CELL.replace("\n", " --wait\n"), "%llm_batch status x")
    assert set(status[0]) == {"text/html", "text/plain"}
    assert "2 of 2 answered" in status[0]["text/html"]
