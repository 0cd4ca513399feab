"""`--sample N`: a few rows at once and in real time, the rest when the user says so."""

import asyncio
import re
from collections import Counter

import pytest
from support import mark

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.errors import LLMBatchError, NotReady, UsageProblem
from jupyter_llm_batch.core.request import Mode
from jupyter_llm_batch.core.text import money
from jupyter_llm_batch.notebook.tables import show

MODEL = "openai:gpt-5-mini"


def start(client, rows, **options):
    over = [f"prompt {i}" for i in range(rows)]
    return client.submit(name="x", over=over, model=MODEL, max_tokens=300, **options)


def looked_at(handle):
    """Wait until the sample is over."""
    with pytest.raises(NotReady, match="waits for you"):
        handle.wait(60)
    return handle


def test_only_the_sample_is_asked_until_the_user_says_so(client, sim):
    """Five rows are answered in real time; the others are not sent before `send_rest`."""
    handle = looked_at(start(client, 30, sample=5))
    assert Counter(entry["mode"] for entry in sim.ledger()) == {"realtime": 5}
    assert [a is not None for a in handle.answers(partial=True)] == [True] * 5 + [False] * 25
    handle.send_rest().wait(60)
    assert Counter(entry["mode"] for entry in sim.ledger()) == {"realtime": 5, "batch": 25}
    assert all(mark(f"prompt {i}") in answer for i, answer in enumerate(handle.answers()))
    assert sim.summary()["max_per_body"] == 1


def test_run_all_over_a_sample_sends_nothing_again(client, sim):
    """The cell and `submit` attach, also after the batch has ended."""
    looked_at(start(client, 30, sample=5))
    client.submit_draft("x").wait(60)
    assert start(client, 30, sample=5).attached
    again = client.submit_draft("x")
    assert again.attached
    assert "nothing is left to send" in again.notice
    assert len(sim.ledger()) == 30


@pytest.mark.parametrize("forgotten", [False, True])
def test_awaiting_agrees_with_waiting(client, forgotten):
    """A batch that waits for its user, or is none any more, raises the same either way."""
    handle = looked_at(start(client, 30, sample=5))
    if forgotten:
        handle.cancel().wait(60)
        client.forget(handle, confirm=True)

    async def awaited():
        return await handle

    with pytest.raises(LLMBatchError) as waited:
        handle.wait(60)
    with pytest.raises(type(waited.value), match="forgotten" if forgotten else "waits for you"):
        asyncio.run(awaited())


def test_the_panel_asks_with_figures(client):
    """What the sample took and what the rest will cost stand beside the two buttons."""
    shot = looked_at(start(client, 100, sample=10)).snapshot()
    assert shot.state == "attention"
    assert shot.choices == ["send", "stop"]
    assert "the sample of 10 took" in shot.question
    assert "send 90 rows (about $0.00" in shot.question
    assert shot.question in shot.line
    assert len(shot.samples) == 10
    assert not shot.safe_to_close


def test_a_sample_without_an_answer_has_no_figures(client, sim):
    """What was lost on the way may have been billed: no tokens and no price are named for it."""
    sim.fault(action="accept_then_drop", method="POST", times=2)
    question = looked_at(start(client, 10, sample=2)).snapshot().question
    assert len(sim.ledger()) == 2
    assert "no row of the sample of 2 got an answer (%llm_batch errors x): send 8 rows" in question


def test_a_sample_names_its_rows_without_an_answer(client, sim):
    """Tokens of nine rows are not taken for those of ten."""
    sim.fault(action="accept_then_drop", method="POST")
    question = looked_at(start(client, 20, sample=10)).snapshot().question
    assert "the sample of 10 took" in question
    assert ", 1 without an answer: send 10 rows" in question


def test_the_panel_has_one_figure(client):
    """What all will cost is what the sample cost and what the rest costs by its answers."""
    handle = looked_at(start(client, 100, sample=10))
    shot = handle.snapshot()
    rest = re.search(r"send 90 rows \(about \$([0-9.]+)\)", shot.question)[1]
    assert shot.expected == pytest.approx(shot.cost + float(rest), abs=6e-5)
    assert f"of about {money(shot.expected)}" in shot.line
    handle.send_rest().wait(60)
    assert " of about " not in handle.snapshot().line


def test_the_first_panel_says_how_many_are_asked(client):
    """While the sample is asked, the words name its rows and all rows."""
    shot = start(client, 30, sample=5).snapshot()
    assert "asking a sample of 5 of 30 rows in real time" in shot.words
    assert "25 rows are waiting for your OK (%llm_batch submit x)" in shot.line


def test_the_answers_of_a_sample_are_in_the_order_of_the_rows(client):
    """They come back in any order, and are shown as the rows are."""
    shown = [each.row for each in looked_at(start(client, 60, sample=10)).snapshot().samples]
    assert shown == sorted(shown)
    assert len(shown) == 10


def test_stopping_sends_nothing_more(client, sim):
    """After a cancel the sample's answers are there, and the others were never sent or billed."""
    handle = looked_at(start(client, 30, sample=5))
    handle.cancel().wait(60)
    outcomes = Counter(result.outcome for result in handle.results())
    assert outcomes == {Outcome.OK: 5, Outcome.CANCELLED: 25}
    assert len(sim.ledger()) == 5
    shot = handle.snapshot()
    assert (shot.state, shot.words, shot.failed, shot.unsent) == ("cancelled", "stopped", 0, 25)
    assert "5 of 30 answered, 25 not sent" in shot.line
    assert shot.errors == []
    assert shot.outcomes == {"ok": 5}
    assert handle.retry(confirm=True) == 25
    handle.wait(60)
    assert Counter(entry["mode"] for entry in sim.ledger()) == {"realtime": 5, "batch": 25}
    assert handle.snapshot().unsent == 0


def test_what_was_stopped_is_sent_for_the_first_time(client, capsys):
    """`retry` of rows that were never sent does not speak of sending them again."""
    handle = looked_at(start(client, 30, sample=5)).cancel().wait(60)
    show.before_retry(client, handle, unbilled=True)
    assert "x: 25 rows to be sent for the first time" in capsys.readouterr().out


def test_the_same_cell_attaches_to_a_sample_that_waits(client, sim):
    """Without --sample the cell sends nothing more, and names the command that does."""
    looked_at(start(client, 30, sample=5))
    handle = start(client, 30)
    assert "attached" in handle.notice
    assert "%llm_batch submit x" in handle.snapshot().question
    assert len(sim.ledger()) == 5


def test_the_rest_is_sent_once(client, sim):
    """A second `submit` says that nothing is left to send."""
    looked_at(start(client, 30, sample=5))
    client.submit_draft("x")
    assert "nothing is left to send" in client.submit_draft("x").notice
    client.get("x").wait(60)
    assert len(sim.ledger()) == 30


def test_a_random_sample_is_the_same_each_time(client):
    """The rows are chosen by the batch's name, from the whole input."""
    chosen = []
    for _ in range(2):
        handle = looked_at(start(client, 200, sample=6, random=True, resubmit=True))
        jobs = client.store.jobs(handle.id)
        sample = next(job for job in jobs if job.mode is Mode.REALTIME)
        chosen.append([*client.store.job_rows(sample.id)])
        handle.cancel().wait(60)
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 6
    assert chosen[0] != [*range(6)]


def test_a_restart_keeps_waiting(make_client, sim):
    """The rest waits for the user through restarts of the kernel."""
    client = make_client()
    looked_at(start(client, 8, sample=2))
    client.close()
    client = make_client()
    handle = looked_at(client.get("x"))
    client.submit_draft("x")
    handle.wait(60)
    assert len(sim.ledger()) == 8


def test_a_sample_of_all_new_rows_holds_nothing_back(client):
    """With no more new rows than the sample there is nothing to decide, and that is said."""
    start(client, 3).wait(60)
    handle = start(client, 5, sample=4)
    assert "asked in real time" in handle.notice
    assert len(handle.wait(60).answers()) == 5
    with pytest.raises(UsageProblem, match="waits to be sent"):
        handle.send_rest()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"random": True}, "--sample N"),
        ({"sample": 2, "realtime": True}, "all is asked at once"),
        ({"sample": -1}, "at least 1"),
        ({"sample": 3}, "of 3 rows leaves nothing to wait"),
    ],
)
def test_what_makes_no_sense_is_refused(client, sim, options, words):
    """A wrong combination is one line, and nothing is sent."""
    with pytest.raises(UsageProblem, match=words):
        start(client, 3, **options)
    assert not sim.requests()
