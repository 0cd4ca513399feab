"""Errors that the user can mend show their own line and the message, and no frame of ours."""

import re

import pytest
from support import ok, run

from jupyter_llm_batch.core import errors, short_traceback

SETUP = "import jupyter_llm_batch as llm_batch\n"


def shown(shell, code, capsys):
    """Return the lines that a failing cell shows."""
    capsys.readouterr()
    assert not run(shell, code).success
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    return [line for line in said.splitlines() if not line.startswith("x · ")]


@pytest.mark.parametrize(
    ("code", "own", "words"),
    [
        ("a = 1\nlen(x)", "line 2: len(x)", "NotReady: the answers are not there yet"),
        ("x.y = 1", "line 1: x.y = 1", "NotReady: the answers are not there yet"),
        ("def f():\n    return [*x]\n\nf()", "line 2: return [*x]", "NotReady"),
        ("llm_batch.get('no')", "line 1: llm_batch.get('no')", "NotFound: no batch 'no'"),
        (
            "llm_batch.submit('{{ a }}', name='y',\n    over=[1], oer=1)",
            "line 1: llm_batch.submit('{{ a }}', name='y',",
            "UsageProblem: there is no option 'oer': did you mean 'over'?",
        ),
        (
            "llm_batch.get('x').wait(0)",
            "line 1: llm_batch.get('x').wait(0)",
            "NotReady: not done after 0 s",
        ),
    ],
)
def test_a_mistake_shows_the_users_line_and_the_remedy(shell, sim, capsys, code, own, words):
    """Two lines: the line of the cell, and what to do."""
    sim.behave(seconds=1000)
    ok(shell, SETUP)
    ok(shell, '%%llm_batch x --over ["a"]\nsay {{ item }}')
    lines = shown(shell, code, capsys)
    assert lines[0] == own
    assert lines[1].startswith(words)
    assert len(lines) == 2


def test_a_defect_of_ours_keeps_its_traceback(shell, capsys):
    """What no user can mend is shown whole, so that it can be mended by us."""
    ok(shell, "from jupyter_llm_batch.core.lifecycle import advance")
    lines = shown(shell, "advance(None, None)", capsys)
    assert any("lifecycle.py" in line for line in lines)
    assert not hasattr(errors.IllegalEvent("no"), "_render_traceback_")


def test_the_line_of_a_users_own_module_names_its_file(tmp_path, monkeypatch):
    """Code in a file of the user's is found by its name."""
    (tmp_path / "mine.py").write_text("def call(f):\n    f()  # here\n")
    monkeypatch.syspath_prepend(tmp_path)
    import mine

    def refuse():
        raise errors.UsageProblem("say it otherwise")

    with pytest.raises(errors.UsageProblem) as found:
        mine.call(refuse)
    found.value.__traceback__ = found.value.__traceback__.tb_next
    found.value.__traceback__.tb_next = None
    assert short_traceback.render_for_users(found.value) == [
        "mine.py, line 2: f()  # here", "UsageProblem: say it otherwise"
    ]  # fmt: skip


def test_an_error_that_nobody_raised_is_its_message():
    """Without a traceback there is no line to show."""
    assert short_traceback.render_for_users(errors.NotReady("wait")) == ["NotReady: wait"]
