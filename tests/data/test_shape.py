"""The shape you gave is the shape you get, and nothing in it is lost to a name that is taken."""

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support import mark, ok

OPENAI, ANTHROPIC = "openai:gpt-5-mini", "anthropic:claude-haiku-4-5"

KINDS = {
    "type": "object",
    "properties": {
        "error": {"enum": ["of the schema"]},
        "finish_reason": {"enum": ["of the schema too"]},
        "model": {"enum": ["A1", "B2"]},
    },
    "required": ["error", "finish_reason", "model"],
}

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


def columns(frame):
    """Return a frame of any library as a dict of lists."""
    if hasattr(frame, "to_pydict"):
        return frame.to_pydict()
    return {name: list(frame[name]) for name in frame.columns}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_schemas_own_fields_stay_beside_the_outcome(client, library):
    """Fields named like an outcome column keep their values; the outcome's column moves aside."""
    over = LIBRARIES[library]({"t": ["a", "b"]})
    handle = client.submit("Q {{ t }}", name="x", over=over, schema=KINDS, route=lambda row: OPENAI)
    assert "'error' is called 'answer_error'" in handle.notice
    out = columns(handle.wait(60).answers())
    assert list(out) == [
        "t", "error", "finish_reason", "model",
        "answer_error", "answer_finish_reason", "answer_model",
    ]  # fmt: skip
    assert out["error"] == ["of the schema"] * 2
    assert out["finish_reason"] == ["of the schema too"] * 2
    assert set(out["model"]) <= {"A1", "B2"}
    assert out["answer_model"] == [OPENAI] * 2
    assert all("stop" in reason for reason in out["answer_finish_reason"])


def test_the_reason_of_a_failure_is_kept_beside_a_field_error(client):
    """A row without an answer has its reason in the column that moved aside."""
    over = pd.DataFrame({"t": ["a", "b [[sim:fail-400]]"]})
    out = client.submit(
        "Q {{ t }}", name="x", over=over, schema=KINDS, model=OPENAI, column="found"
    )
    out = out.wait(60).answers()
    assert list(out["error"].isna()) == list(out["found_error"].notna()) == [False, True]
    assert "invalid_value" in out["found_error"][1] or "failed" in out["found_error"][1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_column_of_the_input_gives_way_to_the_models(client, library):
    """With `model` and `answer_model` taken, a third name holds what each row was asked of."""
    models = [OPENAI, ANTHROPIC]
    over = {"t": ["a", "b"], "model": models, "answer_model": ["mine", "mine too"]}
    handle = client.submit("Q {{ t }}", name="x", over=LIBRARIES[library](over), route="model")
    out = columns(handle.wait(60).answers())
    assert {name: out[name] for name in over} == over
    assert out["answer_model_2"] == models
    assert mark("Q b") in out["answer"][1]


def test_a_cell_is_told_which_column_has_another_name(shell, capsys):
    """The panel names the column that moved aside, and the frame has both."""
    shell.user_ns |= {"df": pd.DataFrame({"t": ["a"]}), "kinds": KINDS}
    ok(shell, "%%llm_batch x --over df --schema kinds --wait\nQ {{ t }}")
    assert "'error' is called 'answer_error'" in capsys.readouterr().out
    assert list(shell.user_ns["x"]["error"]) == ["of the schema"]
    ok(shell, "%%llm_batch y --over df --schema kinds --dry-run\nQ {{ t }} again")
    assert "'error' is called 'answer_error'" in capsys.readouterr().out


# -- collected cells -------------------------------------------------------------------------------


def test_one_collected_cell_keeps_the_shape_of_its_rows(client):
    """Frame, series, dict, list and a single text come back as what they were when collected."""
    index = ["p", "q", "p"]
    given = {
        "a_frame": pd.DataFrame({"item": ["a", "b", "c"]}, index=index),
        "a_series": pd.Series(["a", "b", "c"], index=index),
        "a_dict": {"k": "a", ("l", 1): "b"},
        "a_list": ["a", "b"],
    }
    for name, over in given.items():
        client.add("Q {{ item }}", name=name, key="1", over=over, model=OPENAI)
        out = client.submit_draft(name).wait(60).answers()
        assert type(out) is type(over), name
        answers = out["answer"] if name == "a_frame" else out
        if name in {"a_frame", "a_series"}:
            assert list(out.index) == index
        found = answers.values() if name == "a_dict" else answers
        assert all(mark(f"Q {c}") in each for c, each in zip("abc", found, strict=False)), name
        assert name != "a_dict" or [*out] == [*over]
    client.add("Q", name="one", key="1", model=OPENAI)
    assert mark("Q") in client.submit_draft("one").wait(60).answers()


def test_a_collected_cell_is_replaced_with_its_rows(client, make_client):
    """The shape is that of the cell as it was run last, after a restart too."""
    client.add("Q {{ item }}", name="x", key="1", over=["a"], model=OPENAI)
    over = pd.DataFrame({"item": ["b", "c"]}, index=[5, 7])
    client.add("Q {{ item }}", name="x", key="1", over=over, model=OPENAI)
    client.close()
    out = make_client().submit_draft("x").wait(60).answers()
    assert list(out.index) == [5, 7]
    assert list(out.columns) == ["item", "answer", "error", "finish_reason"]


def test_several_collected_cells_give_a_list(client):
    """Cells of different shapes have a list in common."""
    for key, text in (("1", "a"), ("2", "b")):
        over = pd.DataFrame({"item": [text]})
        client.add("Q {{ item }}", name="x", key=key, over=over, model=OPENAI)
    out = client.submit_draft("x").wait(60).answers()
    assert [mark("Q a") in out[0], mark("Q b") in out[1]] == [True, True]


def test_one_cell_with_add_gives_its_frame(shell):
    """`--add --over df` and `submit` give a frame with the input's index and columns."""
    shell.user_ns["df"] = pd.DataFrame({"t": ["a", "b"]}, index=["p", "q"])
    ok(shell, "%%llm_batch x --add --over df --as said\nQ {{ t }}")
    ok(shell, "df['t'] = 'other'")
    ok(shell, "%llm_batch submit x --wait")
    out = shell.user_ns["x"]
    assert list(out.columns) == ["t", "said", "error", "finish_reason"]
    assert mark("Q b") in out.loc["q", "said"]
    assert list(out.index) == ["p", "q"]
