"""No text of others controls a terminal: escapes, hidden links and marks of direction are shown."""

import pytest
from support import ok

from jupyter_llm_batch.core import short_traceback, terminal
from jupyter_llm_batch.core.errors import Refused, UsageProblem
from jupyter_llm_batch.notebook.panel import static_html
from jupyter_llm_batch.notebook.tables import grid

#: OSC 52 sets the clipboard, OSC 8 hides a link, CSI moves the cursor, RLO turns text around.
HOSTILE = "\x1b]52;c;ZXZpbA==\x07 \x1b]8;;http://evil\x1b\\x \x9b2J \u202egnp.exe \u2066 \r gone"
SIGNS = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\r")


def clean(text):
    return not any(sign in text for sign in SIGNS)


def test_controls_are_written_out_and_text_stays():
    """Letters of any script, tabs and line breaks are untouched; all else can be seen."""
    plain = "Grüße, 日本語, עברית, 👩‍👩‍👧\tx\ny"
    assert terminal.visible(plain) == plain
    assert terminal.visible("a\x1b[2J\ud800") == "a\\x1b[2J\\ud800"
    assert clean(terminal.visible(HOSTILE))


@pytest.mark.parametrize("kind", [UsageProblem, Refused])
def test_errors_are_clean(kind):
    """The message of an error, and what IPython shows of it, holds no control character."""
    error = kind(f"no batch {HOSTILE}")
    assert clean(str(error))
    assert clean("".join(short_traceback.render_for_users(error)))


def test_tables_are_clean():
    """A table in a terminal holds none, and HTML isolates each cell's direction."""
    bundle = grid.bundle(["a"], [[HOSTILE]], note=HOSTILE)
    assert clean(bundle["text/plain"])
    assert "unicode-bidi:isolate" in bundle["text/html"]


def test_show_errors_and_the_dashboard_are_clean(shell, capsys):
    """What a model, a prompt and a name say reaches a terminal without its controls."""
    shell.user_ns["rows"] = [f"{HOSTILE} one", f"{HOSTILE} [[sim:fail-400]]"]
    shell.run_cell("%%llm_batch x --over rows --wait --retry 0\n{{ item }}")
    shell.run_cell("%llm_batch show x 0\n%llm_batch show x 1\n%llm_batch errors x\n%llm_batch")
    shell.run_cell(f"%llm_batch show 'x{HOSTILE}' 0".replace("\r", ""))
    out, err = capsys.readouterr()
    assert "\\x1b]52" in out
    assert clean(out + err)
    snapshot = shell.controller.client.get("x").snapshot()
    assert clean(snapshot.line)
    assert "<bdi>" in static_html.render(snapshot)


def test_show_is_bounded(shell, capsys):
    """A prompt of megabytes is not printed into the notebook."""
    shell.user_ns["rows"] = ["y" * 3_000_000]
    ok(shell, "%%llm_batch x --over rows --wait\n{{ item }}")
    ok(shell, "%llm_batch show x 0")
    out = capsys.readouterr().out
    assert len(out) < 100_000
    assert "3,000,000 characters in all" in out
