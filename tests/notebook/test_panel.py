from __future__ import annotations

import html.parser

import nbclient
import nbformat
import pytest

from jupyter_llm_batch.core.result import ErrorKind, Sample
from jupyter_llm_batch.core.snapshot import JobLine, Snapshot
from jupyter_llm_batch.notebook.panel import static_html
from jupyter_llm_batch.notebook.panel.display import TextView

NASTY = "</td><script>alert('x')</script><img src=x onerror=\"y\">"


def shot(**changes):
    known = {
        "batch_id": "b1",
        "title": "sentiment",
        "model": "openai:gpt-5-mini",
        "state": "running",
        "words": "running at OpenAI",
        "rows": 10,
        "waiting": 10,
        "line": "sentiment · running at OpenAI",
    }
    return Snapshot(**known | changes)


class Tags(html.parser.HTMLParser):
    """Collects tags, their attributes and the text between them."""

    def __init__(self, source):
        super().__init__()
        self.names, self.attributes, self.open, self.words = set(), set(), [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": NASTY, "finished": True, "failed": 1, "retryable": 1},
        {"model": NASTY},
        {"words": NASTY},
        {"notice": NASTY},
        {"errors": [ErrorKind(kind=NASTY, rows=1, example=NASTY, remedy=NASTY)]},
        {"samples": [Sample(row=0, prompt=NASTY, answer=NASTY)]},
        {"jobs": [JobLine(id="j", model=NASTY, rows=1, state=NASTY, remote_id=NASTY, error=NASTY)]},
        {"outcomes": {NASTY: 1}},
    ],
)
def test_markup_from_outside_stays_text(changes):
    """No name, prompt, answer or error becomes an element or an attribute of the summary."""
    tags = Tags(static_html.render(shot(**changes)))
    assert NASTY in tags.text
    assert not tags.names & {"script", "img", "link", "iframe"}
    assert tags.attributes <= {"style", "class"}
    assert not tags.open


def test_the_summary_reads_in_order_without_styles():
    """Stripped of all markup, the summary is still a text that makes sense."""
    view = shot(
        state="done",
        words="done",
        ok=8,
        failed=2,
        waiting=0,
        finished=True,
        retryable=1,
        simulated=True,
        outcomes={"ok": 8, "expired": 1, "refused": 1, "skipped": 3},
        elapsed=2_520.0,
        cost=0.04,
        saved=0.04,
    )
    text = Tags(static_html.render(view)).text
    assert "sentiment openai:gpt-5-mini simulated" in text
    assert (
        "8 of 10 answered, 2 failed (1 expired, 1 refused) · 3 skipped · 42 min · $0.0400 · "
        "saved $0.0400" in text
    )
    assert "Why: %llm_batch errors sentiment" in text
    assert "1 row can be sent again: %llm_batch retry sentiment" in text


def test_a_running_batch_can_be_rendered_too():
    """Where no live panel can run, the summary says what matters while waiting."""
    view = shot(progress=4, safe_to_close=True, keep_until=1_798_000_000.0, elapsed=5.0)
    text = Tags(static_html.render(view)).text
    assert "4 of 10 done · 5 s · safe to close · available until 2" in text
    assert "%llm_batch" not in text


def test_the_summary_says_until_when_the_provider_keeps_a_copy():
    """What stays in the notebook has the date, too."""
    view = shot(state="done", ok=10, waiting=0, finished=True, keep_until=1_798_000_000.0)
    assert "available until 2" in Tags(static_html.render(view)).text


def test_a_batch_without_rows_can_be_rendered():
    """Nothing is divided by zero rows, and no count of them is shown."""
    drawn = static_html.render(shot(rows=0, waiting=0, finished=True))
    assert "0 s" in drawn
    assert "0 of 0" not in drawn
    assert "<bdi></bdi>" not in drawn


# -- in a kernel -----------------------------------------------------------------------------------

SETUP = """
import threading
from jupyter_llm_batch.core.snapshot import Snapshot
from jupyter_llm_batch.notebook.panel.display import PanelView

actions = []
def press(batch_id, action):
    actions.append((batch_id, action))

def shot(**changes):
    known = dict(batch_id="b1", title="sentiment", model="m", state="running", words="running",
                 rows=10, waiting=10, line="sentiment · running")
    return Snapshot(**known | changes)

def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()

DONE = shot(state="done", words="done", ok=10, waiting=0, finished=True, line="sentiment · done")
view = PanelView(press)
"""


class Kernel(nbclient.NotebookClient):
    """Runs cells in a real kernel and keeps every message that the kernel publishes."""

    def __init__(self, cells):
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        super().__init__(nb, timeout=60, kernel_name="python3")
        self.published = []
        self.execute()

    def process_message(self, msg, cell, cell_index):
        self.published.append((cell_index, msg["header"]["msg_type"], msg["content"]))
        return super().process_message(msg, cell, cell_index)

    def outputs(self, index):
        return self.nb.cells[index].outputs

    def printed(self, index):
        return "".join(part["text"] for part in self.outputs(index) if "text" in part)

    def frames(self):
        """Return the lines of all snapshots sent to the page after the first."""
        return [
            content["data"]["state"]["snapshot"]["line"]
            for _, kind, content in self.published
            if kind == "comm_msg" and "snapshot" in content["data"].get("state", {})
        ]


@pytest.fixture(autouse=True)
def kernels_find_the_package(monkeypatch, request):
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")


def test_the_panel_is_a_widget_whose_text_is_the_line():
    """The display bundle holds the widget and, for everything else, the one line."""
    imports = "from jupyter_llm_batch.notebook.panel.panel import *"
    kernel = Kernel([SETUP, "view.show(shot())", imports, "Panel(shot(), press)"])
    for index in (1, 3):
        data = kernel.outputs(index)[0]["data"]
        assert set(data) == {"text/plain", "application/vnd.jupyter.widget-view+json"}
        assert data["text/plain"] == "sentiment · running"


def test_the_line_follows_the_updates():
    """The panel's repr is always the latest line."""
    kernel = Kernel([
        SETUP + "from jupyter_llm_batch.notebook.panel.panel import Panel\n"
        "p = Panel(shot(), press)",
        "p.update(shot(line='sentiment · later')); print(repr(p))",
    ])  # fmt: skip
    assert kernel.printed(1) == "sentiment · later\n"


def test_no_more_than_four_messages_a_second():
    """A thousand updates within a second send four messages, and the latest is never lost."""
    kernel = Kernel([
        SETUP,
        "view.show(shot())",
        """
for i in range(1000):
    wait = view.update(shot(line=f"line {i}"), now=i / 1000)
print(wait > 0, view.flush(now=0.999), view.flush(now=1.0), view.flush(now=9.0))
""",
    ])  # fmt: skip
    assert kernel.frames() == ["line 0", "line 250", "line 500", "line 750", "line 999"]
    assert kernel.printed(2).split()[0::2] == ["True", "0.0"]


def test_the_end_goes_out_at_once():
    """Finishing ignores the rate, replaces the panel in its own cell, and drops what waited."""
    kernel = Kernel([
        SETUP,
        "view.show(shot())",
        """
view.update(shot(line="one"), now=0)
view.update(shot(line="two"), now=0)
in_thread(view.finish, DONE)
view.flush(now=9)
view.update(shot(line="too late"), now=10);
""",
    ])  # fmt: skip
    assert kernel.frames() == ["one", "sentiment · done"]
    [output] = kernel.outputs(1)
    assert set(output["data"]) == {"text/html", "text/plain"}
    assert output["data"]["text/plain"] == "sentiment · done"
    assert kernel.outputs(2) == []


def test_a_finished_batch_is_shown_as_its_summary():
    """A batch that is over needs no widget."""
    kernel = Kernel([SETUP, "view.show(DONE)"])
    assert set(kernel.outputs(1)[0]["data"]) == {"text/html", "text/plain"}


def test_only_known_actions_reach_python():
    """A page can ask for the four actions of the buttons and for nothing else."""
    kernel = Kernel([
        SETUP + "from jupyter_llm_batch.notebook.panel.panel import Panel\n"
        "p = Panel(shot(), press)",
        """
for content in ({"action": "cancel"}, {"action": "eval"}, {}, "retry", {"action": ["cancel"]}):
    message = {"content": {"data": {"method": "custom", "content": content}}, "buffers": []}
    p._handle_msg(message)
print(actions)
""",
    ])  # fmt: skip
    assert kernel.printed(1) == "[('b1', 'cancel')]\n"


def test_a_panel_that_is_only_looked_at_reaches_nobody():
    """Of another notebook's batch the page shows no buttons that act, and none would."""
    kernel = Kernel([
        SETUP + "from jupyter_llm_batch.notebook.panel.panel import Panel\n"
        "p = Panel(shot(), None)",
        """
p._receive(p, {"action": "cancel"}, [])
print(p.read_only, Panel(shot(), press).read_only, actions)
""",
    ])  # fmt: skip
    assert kernel.printed(1) == "True False []\n"


@pytest.mark.parametrize(
    "obstacle", ["sys.modules['anywidget'] = None", "sys.modules['google.colab'] = sys"]
)
def test_without_anywidget_the_summary_is_live(obstacle):
    """Where anywidget cannot run, a core HTML widget draws each snapshot until the end."""
    kernel = Kernel([
        f"import sys; {obstacle}\n{SETUP}",
        "view.show(shot())",
        "view.update(shot(words='later'), now=0); print(type(view._live).__name__)",
        "in_thread(view.finish, DONE)",
    ])  # fmt: skip
    values = [
        content["data"]["state"]["value"]
        for _, kind, content in kernel.published
        if kind in ("comm_open", "comm_msg") and "value" in content["data"].get("state", {})
    ]
    assert kernel.printed(2) == "HTMLPanel\n"
    assert [word in value for word, value in zip(("running", "later", "done"), values, strict=True)]
    assert kernel.outputs(1)[0]["data"]["text/plain"] == "sentiment · done"


@pytest.mark.parametrize("state", ["attention", "stopped", "paused"])
def test_other_cells_of_a_terminal_are_told_news_only(capsys, state):
    """Progress is not printed after a cell about something else; a batch that needs the user is."""
    view = TextView()
    view.show(shot())
    capsys.readouterr()
    view.update(shot(state="collecting", line="sentiment · collecting"), now=1)
    view.speak(news=True)
    assert capsys.readouterr().out == ""
    view.update(shot(state=state, line="sentiment · needs you"), now=2)
    view.speak(news=True)
    assert capsys.readouterr().out == "sentiment · needs you\n"
    view.finish(shot(state="done", line="sentiment · done", finished=True))
    view.speak(news=True)
    view.speak(news=True)
    assert capsys.readouterr().out == "sentiment · done\n"


def test_a_terminal_gets_a_line_per_state_between_cells(capsys):
    """In a terminal only new states are printed, and never by the background."""
    view = TextView()
    view.show(shot())
    view.update(shot(line="tick"), now=1)
    view.speak()
    view.update(shot(state="collecting", line="sentiment · collecting"), now=2)
    view.finish(shot(state="done", line="sentiment · done"))
    view.flush(now=9)
    assert capsys.readouterr().out.splitlines() == ["sentiment · running at OpenAI"]
    view.speak()
    view.speak()
    assert capsys.readouterr().out.splitlines() == ["sentiment · done"]
