"""Failure looks like failure, in words and colours; polls are no news in the log."""

import logging
import re

import pytest
from support import Shifted, mark, until

from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.notebook.panel import static_html

MODEL = "openai:gpt-5-mini"


def ask(client, over, name="x", **options):
    return client.submit("Q {{ item }}", name=name, over=[*over], **{"model": MODEL} | options)


def test_a_batch_with_failures_is_no_green_done(client):
    """Some rows without an answer: amber, with their number in the first words."""
    handle = ask(client, ["a", "b [[sim:fail-400]]"], retry=0).wait(60)
    shot = handle.snapshot()
    assert (shot.state, shot.words) == ("partial", "done, 1 row without an answer")
    html = static_html.render(shot)
    assert static_html._AMBER in html
    assert f"background:{static_html._GREEN}" not in html.partition("</div>")[0]
    assert "%llm_batch retry x" in html


def test_rows_that_were_cancelled_did_not_fail(shell, client, sim, capsys):
    """A batch that the user cancelled says so, in its tally and in history."""
    sim.behave(seconds=10_000)
    handle = ask(client, "abc")
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    handle.cancel()
    until(lambda: any(each["path"].endswith("/cancel") for each in sim.requests()))
    sim.advance(2000)
    shot = handle.wait(60).snapshot()
    assert shot.state == "cancelled"
    assert "0 of 3 answered, 3 cancelled" in shot.line
    assert "failed" not in shot.line
    shell.controller.use(client)
    capsys.readouterr()
    shell.run_cell("%llm_batch history", store_history=False)
    assert "cancelled (3 rows)  3     0   0 " in capsys.readouterr().out.replace("\\n", "\n")


def test_what_a_deadline_cost_is_said(make_client, sim):
    """After it: how many rows were sent again at full price, and for how much."""
    clock = Shifted()
    client = make_client(clock=clock)
    sim.behave(seconds=1000, stuck=True)
    handle = ask(client, map(str, range(20)), deadline="6h", max_tokens=300)
    until(lambda: client.store.jobs(handle.id)[0].state is JobState.RUNNING)
    clock.ahead = 6 * 3600.0 + 1.0
    client.poller().wake()
    until(lambda: any(each["path"].endswith("/cancel") for each in sim.requests()))
    sim.behave(stuck=False)
    sim.advance(800)
    notice = handle.wait(60).snapshot().notice
    assert re.search(
        r"after the deadline, \d+ rows were sent in real time at full price for ", notice
    )


@pytest.fixture
def info(caplog):
    """Logging as a user sets it up with `basicConfig(level=INFO)`."""
    caplog.set_level(logging.INFO)
    return caplog


def test_polls_are_not_logged_as_news(client, info):
    """With logging at INFO a batch logs no line for each of its calls; other threads still do."""
    assert mark("Q a") in ask(client, ["a"]).wait(60).answers()[0]
    assert info.records == []
    logging.getLogger("httpx2").info("a call of the user's own")
    assert [record.message for record in info.records] == ["a call of the user's own"]


@pytest.mark.parametrize(
    ("system", "said"), [("About {{ item }}, in brief", True), ("Answer as {{}} or {x}", False)]
)
def test_a_place_in_the_system_prompt_is_said_not_to_be_filled(client, system, said):
    """Only the cell's text is a template, and a person who takes `--system` for one is told."""
    preview = client.preview("{{ item }}", name="x", over=["a"], model=MODEL, system=system)
    assert ("{{ item }} in it is not filled in" in preview.note) == said
    handle = client.submit("{{ item }}", name="x", over=["a"], model=MODEL, system=system)
    assert ("{{ item }} in it is not filled in" in handle.notice) == said
