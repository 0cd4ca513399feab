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
    handle = client.submit(
        "Q {{ t }}", name="x", over=over, schema=KINDS, route=lambda row: OPENAI
    )
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
    assert set(out["answer_finish_reason"]) == {"stop"}


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
    handle = client.submit(
        "Q {{ t }}", name="x", over=LIBRARIES[library](over), route="model"
    )
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
