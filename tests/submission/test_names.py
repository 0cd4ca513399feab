"""Names and typos: models, batches, variables, columns, and what a placeholder is taken for."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from support import mark

from jupyter_llm_batch.client.names import check_name
from jupyter_llm_batch.core.errors import NotConfirmed, NotReady, UsageProblem
from jupyter_llm_batch.costs.model_names import is_slip, near_miss
from jupyter_llm_batch.data import rows
from jupyter_llm_batch.notebook import options
from jupyter_llm_batch.notebook.variables import Placeholder


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("openai:gpt-5-minni", "openai:gpt-5-mini"),
        ("openai:gpt-5-miin", "openai:gpt-5-mini"),
        ("openai:gpt5-mini", "openai:gpt-5-mini"),
        ("anthropic:claude-hiaku-4-5", "anthropic:claude-haiku-4-5"),
        ("google:gemini-2.5-flsh", "google:gemini-2.5-flash"),
        ("openai:gpt-5-mini-2025-08-07", ""),
        ("openai:gpt-7-mini", ""),
        ("openai:gpt-5-brandnew", ""),
        ("azure:gpt-5-minni", ""),
        ("groq:gpt-5-minni", ""),
    ],
)
def test_only_slips_of_known_models_count_as_misspelt(model, meant):
    """New models have other numbers or words; deployments and servers name theirs as they like."""
    assert near_miss(model) == meant


def test_a_slip_is_one_character_or_two_that_changed_places():
    """Not the same, and not further apart."""
    for one, other in [("ab", "abc"), ("abc", "ab"), ("axc", "abc"), ("bac", "abc"), ("xbc", "bc")]:
        assert is_slip(one, other)
    for one, other in [("abc", "abc"), ("abc", "cba"), ("abcd", "ab"), ("ab", "xy"), ("", "ab")]:
        assert not is_slip(one, other)


def test_a_misspelt_model_is_asked_about_before_anything_is_sent(client, sim):
    """`confirm` insists; from then on the cell attaches, and more rows are not asked about."""
    ask = {"name": "x", "model": "openai:gpt-5-minni"}
    with pytest.raises(NotConfirmed, match=r"did you mean 'openai:gpt-5-mini'\? Nothing was sent"):
        client.submit("Q {{ item }}", over=["a"], **ask)
    assert sim.requests() == []
    assert "did you mean" in client.preview("Q {{ item }}", over=["a"], **ask).note
    client.submit("Q {{ item }}", over=["a"], confirm=True, **ask)
    assert client.submit("Q {{ item }}", over=["a"], **ask).attached
    assert not client.submit("Q {{ item }}", over=["a", "b"], **ask).attached


@pytest.mark.parametrize(
    "name",
    ["exit", "quit", "get_ipython", "In", "Out", "_", "__", "_i", "_3", "_i4", "_oh", "print"],
)
def test_names_that_are_not_the_users_are_refused(name):
    """IPython's names and Python's built-ins hold no answers."""
    with pytest.raises(UsageProblem, match="Choose another name: "):
        check_name(name)


def test_names_of_ipython_are_not_suggested():
    """A mistyped variable is not answered with `exit`."""
    with pytest.raises(UsageProblem) as caught:
        options.evaluate("exi", {"exit": 1, "In": [], "get_ipython": 1}, "--over")
    assert "did you mean" not in str(caught.value)


def test_a_placeholder_is_no_value():
    """Formatting, arithmetic, conversion and arrays say that the answers are not there yet."""
    x = Placeholder("x", lambda: "x · running", lambda: False)
    uses = [
        lambda: f"{x}", lambda: f"{x:>9}", lambda: x + 1, lambda: "a" + x, lambda: 2 * x,
        lambda: int(x), lambda: [1][x], lambda: np.asarray(x), lambda: pd.Series(x),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(NotReady, match="%llm_batch wait x"):
            use()
    assert repr(x) == "x · running"


@pytest.mark.parametrize("library", [pd, pl])
def test_columns_of_the_input_keep_their_names(client, library):
    """An input column `error` or `finish_reason` stays, the answers' has another name."""
    frame = library.DataFrame({"error": ["disk full"], "finish_reason": ["none"]})
    handle = client.submit("Why {{ error }}", name="x", over=frame, model="openai:gpt-5-mini")
    assert "column 'error' is called 'answer_error'" in handle.notice
    out = handle.wait(60).answers()
    assert list(out.columns) == [
        "error", "finish_reason", "answer", "answer_error", "answer_finish_reason",
    ]  # fmt: skip
    assert out["error"][0] == "disk full"
    assert mark("Why disk full") in out["answer"][0]
    assert out["answer_finish_reason"][0] == "stop"


@pytest.mark.parametrize(
    ("module", "name", "how"),
    [("ray.data.dataset", "Dataset", "add .to_pandas()")],
)
def test_rows_that_lie_elsewhere_are_told_how_to_come(module, name, how):
    """The hint is the library's own call."""
    kind = type(name, (), {"to_pandas": lambda self: None, "__module__": module})
    with pytest.raises(UsageProblem) as caught:
        rows.read_rows(kind())
    assert how in str(caught.value)


def test_duckdb_relations_are_told_how_to_come():
    """`.arrow()` gives a stream in newer releases: the hint names what gives a frame."""
    duckdb = pytest.importorskip("duckdb")
    with pytest.raises(UsageProblem, match=r"add \.df\(\), \.pl\(\) or \.to_arrow_table\(\)"):
        rows.read_rows(duckdb.sql("select 1 as a"))


@pytest.mark.parametrize(
    ("typed", "read"), [("\ufb01", "fi"), ("cafe\u0301", "caf\u00e9"), ("r\u1d52ws", "rows")]
)
def test_a_name_is_spelled_as_python_reads_it(client, sim, typed, read):
    """Nobody could reach a variable of another spelling, and two that look alike are paid twice."""
    with pytest.raises(UsageProblem, match=f"Write {read!r} instead of"):
        client.submit(name=typed, over=["a"], model="openai:gpt-5-mini")
    assert not sim.ledger()
    check_name(read)
