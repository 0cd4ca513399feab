from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

SETUP = """
import threading
from jupyter_llm_batch.core.result import ErrorKind, Sample
from jupyter_llm_batch.core.snapshot import JobLine, Snapshot
from jupyter_llm_batch.notebook.panel.display import PanelView
from jupyter_llm_batch.notebook.panel.panel import Panel

actions = []

def press(batch_id, action):
    actions.append((batch_id, action))

def shot(**changes):
    known = dict(
        batch_id="b1", title="sentiment", model="openai:gpt-5-mini", state="running",
        words="running at OpenAI", rows=1000, waiting=1000, progress=415, progress_failed=3,
        safe_to_close=True, elapsed=130.0, remaining=480.0, keep_until=1798000000.0,
        line="sentiment · running",
    )
    return Snapshot(**known | changes)

DONE = dict(
    state="done", words="done", ok=981, failed=19, waiting=0, progress=None, progress_failed=0,
    outcomes={"ok": 981, "expired": 12, "refused": 7}, finished=True, retryable=12, elapsed=2520.0,
    remaining=None, cost=0.0412, saved=0.0412, line="sentiment · done · 981 of 1,000 answered",
    errors=[
        ErrorKind(kind="expired", rows=12, example="batch expired before this request ran",
                  remedy="Not billed. %llm_batch retry sentiment sends them again."),
        ErrorKind(kind="content_policy", rows=7, example="<b>refused</b>",
                  remedy="The model refuses these prompts; look at them with %llm_batch errors."),
    ],
    samples=[
        Sample(row=0, prompt="Is this review positive, negative or mixed? Great!",
               answer="positive"),
        Sample(row=1, prompt="Is this review positive, negative or mixed? <i>Meh</i>",
               answer="<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"),
    ],
    jobs=[
        JobLine(id="b1-0-0", model="openai:gpt-5-mini", rows=800, state="done (completed)",
                remote_id="batch_6741a0c1d2e38190a1b2c3d4e5f60718"),
        JobLine(id="b1-0-1", model="openai:gpt-5-mini", rows=200, state="done (expired)",
                remote_id="batch_6741a0c1d2e38190a1b2c3d4e5f60719", error="12 rows expired"),
    ],
)
"""

GALLERY = """
SHOTS = dict(
    running={},
    uploading=dict(state="submitting", words="uploading", progress=None, progress_failed=0,
                   safe_to_close=False, elapsed=3.0, remaining=None, keep_until=None),
    collecting=dict(state="collecting", words="collecting answers", ok=700, failed=3, waiting=297,
                    progress=297, progress_failed=0, cost=0.0287, saved=0.0287, remaining=None),
    attention=dict(state="attention", safe_to_close=False, progress=None, progress_failed=0,
                   words="needs you: the outcome of a submission is unknown, "
                         "%llm_batch resolve sentiment", remaining=None),
    paused=dict(state="paused", words="paused: sent with another OpenAI account", remaining=None),
    done=DONE | dict(state="partial", words="done, 19 rows without an answer"),
    cut=DONE | dict(state="partial", words="done, 160 answers cut off", ok=1000, failed=0, cut=160,
                    outcomes={"ok": 1000}, retryable=0),
    stopped=dict(state="stopped", words="stopped: OpenAI refuses the key in OPENAI_API_KEY; "
                 "set another, then %llm_batch status sentiment", safe_to_close=False,
                 remaining=None),
    failed=DONE | dict(state="failed", words="failed: model gpt-9 does not exist", ok=0, samples=[],
                       failed=1000, outcomes={"failed": 1000}, retryable=0, cost=0.0, saved=None),
    cancelled=DONE | dict(state="cancelled", words="cancelled", ok=400, failed=600, retryable=600,
                          outcomes={"ok": 400, "cancelled": 600}),
    simulated=dict(simulated=True, title="demo#2",
                   notice="attached to the batch of 12:03, no new cost; --resubmit pays again"),
)
"""
STATES = (
    *("running", "uploading", "collecting", "attention", "paused", "done", "failed"),
    *("cancelled", "simulated", "cut", "stopped"),
)


@pytest.fixture
def panel(lab):
    """The notebook with the helpers loaded and one running panel."""
    lab.write("panel.ipynb", [SETUP, "p = Panel(shot(), press); p", "", "print(actions)"])
    lab.open("panel.ipynb")
    lab.run(0)
    lab.run(1)
    expect(lab.panel(1)).to_be_visible()
    return lab.panel(1)


def run_code(lab, code, index=2):
    """Put `code` into a cell and run it."""
    lab.page.evaluate(
        """([index, code]) => window.jupyterapp.shell.currentWidget.content.widgets[index]
             .model.sharedModel.setSource(code)""",
        [index, code],
    )
    lab.run(index)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_can_be_seen(lab, theme):
    """All states draw in both themes, and the pictures are kept for a person to look at."""
    lab.page.set_viewport_size({"width": 1200, "height": 2600})
    live = [f"Panel(shot(**SHOTS['{state}']), press)" for state in STATES]
    still = [f"display(HTML(static.render(shot(**SHOTS['{state}']))))" for state in STATES]
    imports = (
        "from IPython.display import HTML, display\n"
        "from jupyter_llm_batch.notebook.panel import static_html as static"
    )
    lab.write("gallery.ipynb", [f"{SETUP}{imports}\n{GALLERY}", *live, *still])
    lab.open("gallery.ipynb")
    lab.theme(theme)
    lab.run_all()
    for index, state in enumerate(STATES, start=1):
        expect(lab.panel(index)).to_contain_text("demo#2" if state == "simulated" else "sentiment")
    cancelled = lab.panel(STATES.index("cancelled") + 1)
    expect(cancelled.locator(".llmb-seg-cancelled")).to_have_attribute("style", "width: 60%;")
    expect(cancelled.locator(".llmb-seg-failed")).to_have_attribute("style", "width: 0%;")
    lab.page.add_style_tag(content=".jp-Cell-inputWrapper { display: none !important }")
    lab.screenshot(f"panels-{theme}")
    done = STATES.index("done") + 1
    lab.panel(1).get_by_role("button", name="Cancel").click()
    lab.screenshot(f"panel-cancel-{theme}", lab.output(1))
    lab.panel(done).get_by_role("button", name="Details").click()
    lab.screenshot(f"panel-details-{theme}", lab.output(done))
    summary = lab.output(done + len(STATES))
    summary.get_by_text("Details").click()
    lab.screenshot(f"summary-details-{theme}", summary)
    lab.page.set_viewport_size({"width": 720, "height": 1400})
    lab.screenshot(f"panels-narrow-{theme}")


def test_a_running_panel_tells_everything(panel):
    """Name, model, state, counts, time and safety are visible, and only what makes sense."""
    for text in ("sentiment", "openai:gpt-5-mini", "running at OpenAI", "412 of 1,000 done"):
        expect(panel).to_contain_text(text)
    for text in ("3 failed", "2 min", "about 7 min left", "safe to close"):
        expect(panel).to_contain_text(text)
    expect(panel).to_contain_text(re.compile(r"available until \d+ \w{3}"))
    expect(panel.get_by_text("simulated")).to_be_hidden()
    expect(panel.get_by_role("button", name="Retry failed")).to_be_hidden()
    bar = panel.get_by_role("progressbar", name="sentiment")
    expect(bar).to_have_attribute("aria-valuenow", "415")
    expect(bar).to_have_attribute("aria-valuetext", "412 of 1,000 done, 3 failed")
    expect(panel.locator(".llmb-seg-progress")).to_have_attribute("style", "width: 41.2%;")


def test_time_goes_on_without_messages(lab, panel):
    """Elapsed ticks in the page, with nothing sent by the kernel."""
    lab.page.clock.install()
    run_code(lab, "shown = Panel(shot(elapsed=58.0, remaining=None), press); shown")
    elapsed = lab.panel(2).locator(".llmb-meters span").first
    expect(elapsed).to_have_text("58 s")
    lab.page.clock.run_for(3_000)
    expect(elapsed).to_have_text("1 min")


def test_cancel_asks_and_then_arrives(lab, panel):
    """Cancel does nothing before it is confirmed in the panel; then Python hears of it once."""
    panel.get_by_role("button", name="Cancel").click()
    keep = panel.get_by_role("button", name="Keep running")
    expect(keep).to_be_focused()
    lab.page.keyboard.press("Escape")
    expect(keep).to_be_hidden()
    panel.get_by_role("button", name="Cancel").click()
    panel.get_by_role("button", name="Cancel batch").click()
    expect(panel.get_by_role("button", name="Cancelling…")).to_be_disabled()
    lab.run(3)
    expect(lab.output(3)).to_have_text("[('b1', 'cancel')]")


def test_buttons_work_by_keyboard(lab, panel):
    """Tab reaches the buttons in order, Enter presses them, and focus stays visible."""
    panel.get_by_role("button", name="Cancel").focus()
    lab.page.keyboard.press("Tab")
    refresh = panel.get_by_role("button", name="Refresh")
    expect(refresh).to_be_focused()
    assert refresh.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    lab.page.keyboard.press("Enter")
    lab.run(3)
    expect(lab.output(3)).to_have_text("[('b1', 'refresh')]")


def test_details_show_answers_as_text(lab, panel):
    """Jobs, errors and samples open below the panel, and markup in them stays text."""
    run_code(lab, "p.update(shot(**DONE))")
    more = panel.get_by_role("button", name="Details")
    expect(more).to_have_attribute("aria-expanded", "false")
    more.click()
    expect(more).to_have_attribute("aria-expanded", "true")
    for text in ("<script>document.title", "<b>refused</b>", "batch_6741a0c1d2e3", "Not billed."):
        expect(panel).to_contain_text(text)
    assert panel.locator("script, img, i").count() == 0
    assert lab.page.title() != "owned"


def test_state_changes_are_spoken_and_ticks_are_not(lab, panel):
    """The live region holds the new state after a change, and nothing before one."""
    spoken = panel.get_by_role("status")
    run_code(lab, "p.update(shot(elapsed=140.0, progress=500))")
    expect(panel).to_contain_text("497 of 1,000 done")
    expect(spoken).to_have_text("")
    run_code(lab, "p.update(shot(**DONE))")
    expect(spoken).to_have_text("sentiment: done")


def test_retry_appears_with_the_failures(lab, panel):
    """A finished panel offers Retry failed, asks, and tells Python."""
    run_code(lab, "p.update(shot(**DONE))")
    expect(panel.get_by_role("button", name="Cancel")).to_be_hidden()
    panel.get_by_role("button", name="Retry failed").click()
    expect(panel).to_contain_text("Send 12 rows again?")
    panel.get_by_role("button", name="Send again").click()
    lab.run(3)
    expect(lab.output(3)).to_have_text("[('b1', 'retry')]")


FINISH = "threading.Thread(target=view.finish, args=[shot(**DONE)]).start()"


def test_the_summary_replaces_the_panel_and_survives(lab, panel):
    """Finishing while another cell runs swaps the panel in its own; the saved notebook keeps it."""
    run_code(lab, "view = PanelView(press); view.show(shot())")
    expect(lab.panel(2)).to_be_visible()
    run_code(lab, FINISH, index=3)
    expect(lab.output(2)).to_contain_text("981 of 1,000 answered")
    expect(lab.panel(2)).to_have_count(0)
    expect(lab.output(3)).to_have_text("")
    lab.save()
    data = lab.read().cells[2].outputs[0]["data"]
    assert sorted(data) == ["text/html", "text/plain"]
    assert data["text/plain"] == "sentiment · done · 981 of 1,000 answered"
    lab.reopen()
    expect(lab.output(2)).to_contain_text("981 of 1,000 answered")


def test_the_summary_arrives_while_the_kernel_is_idle(lab, panel):
    """A thread that finishes long after the cells are through still finds the panel's cell."""
    run_code(lab, "view = PanelView(press); view.show(shot())")
    run_code(lab, FINISH.replace("Thread(target=", "Timer(1, ").replace("args=[", "["), index=3)
    expect(lab.output(2)).to_contain_text("981 of 1,000 answered")
    expect(lab.panel(2)).to_have_count(0)
    expect(lab.output(3)).to_have_text("")


def test_prices_are_not_taken_for_formulas(lab, panel):
    """JupyterLab typesets what stands between dollars, but not in the summary."""
    run_code(
        lab,
        "from IPython.display import HTML, display\n"
        "PanelView(press).show(shot(**DONE))\n"
        "display(HTML('<p id=formula>$x^2$</p>'))",
    )
    expect(lab.page.locator("#formula mjx-container")).to_be_visible()
    expect(lab.output(2)).to_contain_text("$0.0412 · saved $0.0412")
    expect(lab.output(2).locator("mjx-container")).to_have_count(1)


def test_a_reloaded_page_keeps_the_last_frame(lab, panel):
    """After a reload the replacement cannot land; the panel itself shows the end."""
    run_code(lab, "view = PanelView(press); view.show(shot())")
    lab.save()
    lab.reload()
    expect(lab.panel(2)).to_contain_text("412 of 1,000 done")
    run_code(lab, FINISH, index=3)
    expect(lab.panel(2)).to_contain_text("981 of 1,000 answered")


def test_a_restarted_kernel_leaves_the_panel_readable(lab, panel):
    """After a restart through the menu the last frame stays, and the notebook can go on."""
    lab.restart()
    expect(panel).to_contain_text("412 of 1,000 done")
    lab.run(0)
    lab.run(1)
    expect(lab.panel(1)).to_contain_text("412 of 1,000 done")
