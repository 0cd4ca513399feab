"""Answers that stop before their end: bound, never silent, and sent again only when asked."""

from __future__ import annotations

import pytest
from support import ok

from jupyter_llm_batch.core.result import Outcome, Result
from jupyter_llm_batch.core.row_codes import (
    count_outcomes,
    is_cut,
    outcome_of,
    result_code,
    row_code,
    rows_cut,
    rows_without_answer,
)
from jupyter_llm_batch.notebook.panel import static_html

MODEL = "openai:gpt-5-mini"
PROMPTS = ["one", "two [[sim:length]]", "three"]


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("length", True),
        ("MAX_TOKENS", True),
        ("max_output_tokens", True),
        ("model_context_window_exceeded", True),
        ("error", True),
        ("content_filter", True),
        ("stop", False),
        ("end_turn", False),
        (None, False),
    ],
)
def test_the_providers_words_say_whether_an_answer_is_cut(reason, cut):
    """Every word for an early end counts, and only of what is an answer."""
    result = Result(custom_id="b-1", outcome=Outcome.OK, text="x", finish_reason=reason)
    assert result.cut is cut
    code = result_code(result, user_cancelled=False)
    assert (is_cut(code), outcome_of(code)) == (cut, Outcome.OK)
    failed = Result(custom_id="b-1", outcome=Outcome.FAILED, finish_reason=reason)
    assert not failed.cut


def test_the_mark_of_a_cut_answer_is_a_bit_that_older_rows_do_not_have():
    """An answer of an older journal is an answer, and so is a cut one to every other count."""
    codes = bytes([row_code(Outcome.OK, billed=True), row_code(Outcome.OK, billed=True, cut=True)])
    assert codes[0] == 0x11
    assert rows_cut(codes) == [1]
    assert (count_outcomes(codes), rows_without_answer(codes)) == ({"ok": 2}, [])


def test_cut_answers_are_bound_counted_and_named(client):
    """The panel counts them, `failures` names their rows with a remedy, and they are answers."""
    batch = client.submit(name="x", over=PROMPTS, model=MODEL).wait(60)
    assert all(batch.answers())
    shot = batch.snapshot()
    assert (shot.ok, shot.cut, shot.failed, shot.retryable) == (3, 1, 0, 0)
    assert "3 of 3 answered (1 cut)" in shot.line
    assert (shot.state, shot.words) == ("partial", "done, 1 answer cut off")
    (kind,) = batch.failures()
    assert (kind.kind, kind.rows, kind.billed) == ("cut: length", [1], True)
    assert "--max-tokens" in kind.remedy
    assert [each.kind for each in shot.errors] == ["cut: length"]
    html = static_html.render(shot)
    assert "1 cut" in html
    assert "#c98a12;opacity:1" in html
    assert "%llm_batch errors x" in html


def test_errors_and_the_dashboard_name_cut_answers(shell, capsys):
    """`errors` says that they were cut and what helps; the list counts them beside the others."""
    shell.user_ns["prompts"] = PROMPTS
    ok(shell, "%llm_batch run x --over prompts --wait")
    capsys.readouterr()
    ok(shell, "%llm_batch errors x")
    told = capsys.readouterr().out
    assert "0 of 3 rows got no answer. 1 answer was cut." in told
    assert "cut: length" in told
    ok(shell, "%llm_batch")
    assert "3 (1 cut)" in capsys.readouterr().out
    ok(shell, "%llm_batch show x 1")
    assert "ok, cut (length)" in capsys.readouterr().out


def test_reask_sends_cut_answers_again(client):
    """Only with --reask, only these, and what comes back whole takes the place of the cut one."""
    once = ["one", "two [[sim:length x1]]"]
    batch = client.submit(name="x", over=once, model=MODEL, reask=1).wait(60)
    shot = batch.snapshot()
    assert (shot.ok, shot.cut, len(shot.jobs)) == (2, 0, 2)
    assert batch.failures() == []
    assert not batch.results()[1].truncated


def test_a_cut_answer_counts_until_there_is_a_better_one(client, sim):
    """When sending it again gives nothing, the cut answer is still bound."""
    batch = client.submit(
        name="x", over=["one", "two [[sim:length]]"], model=MODEL, reask=1, retry=0
    )
    batch.wait(60)
    assert (batch.snapshot().ok, batch.snapshot().cut) == (2, 1)
    assert len(batch.snapshot().jobs) == 2
    assert all(batch.answers())
    assert batch.results()[1].truncated


def test_a_cut_answer_is_kept_when_its_second_try_fails(client):
    """An answer that was paid for is not given up for a failure."""
    prompts = ["one", "two [[sim:length x1]] [[sim:fail-500]]"]
    batch = client.submit(name="x", over=prompts, model=MODEL, reask=1, retry=0).wait(60)
    assert all(batch.answers())
