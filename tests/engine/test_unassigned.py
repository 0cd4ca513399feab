"""Answers that come back without a key: kept, counted and shown, never bound by their place."""

from __future__ import annotations

import copy

import pytest
from odd_lines import CANDIDATE
from replay import Replay
from support import KEYS

from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.notebook.tables import show

ROOT = "https://h/v1/"
NAME = "batches/1"
MODEL = "gemini-2.5-flash"


def exchange(method, path, body):
    response = {"status": 200, "headers": {}, "body": body}
    return {"request": {"method": method, "uri": ROOT + path}, "response": response}


def answer(text):
    response = copy.deepcopy(CANDIDATE["response"])
    response["candidates"][0]["content"]["parts"][0]["text"] = text
    response["modelVersion"] = MODEL
    return {"response": response}


@pytest.fixture
def nameless(make_client):
    """A Gemini batch of three rows whose inline answers carry no metadata."""
    job = {"name": NAME, "metadata": {"state": "BATCH_STATE_PENDING"}}
    held = {"inlinedResponses": {"inlinedResponses": [answer(t) for t in ("Oslo", "Bern", "Rom")]}}
    stats = {"requestCount": "3", "successfulRequestCount": "3"}
    metadata = {"state": "BATCH_STATE_SUCCEEDED", "batchStats": stats}
    done = {"name": NAME, "metadata": metadata, "done": True, "response": held}
    exchanges = [
        exchange("POST", f"models/{MODEL}:batchGenerateContent", job),
        exchange("GET", NAME, done),
    ]
    with Replay(exchanges) as server:
        environ = {"GEMINI_API_KEY": KEYS["google"], "GOOGLE_GEMINI_BASE_URL": server.url}
        client = make_client(environ=environ, simulated=False)
        yield client.submit(name="x", over=["a", "b", "c"], model=f"google:{MODEL}", retry=0)


def test_answers_without_a_key_are_kept_and_never_bound_by_their_place(nameless, capsys):
    """The rows are missing, for that reason; the answers are counted as paid, and shown."""
    batch = nameless.wait(60)
    assert batch.answers() == [None, None, None]
    assert [each.text for each in batch.unassigned()] == ["Oslo", "Bern", "Rom"]
    told = "3 answers came back without a key"
    shot = batch.snapshot()
    assert f"{told}: `%llm_batch show x unassigned`" in shot.line
    (kind,) = batch.failures()
    assert (kind.kind, kind.rows, kind.billed) == ("missing: no_key", [0, 1, 2], True)
    assert told in kind.example
    assert "show NAME unassigned" in kind.remedy
    assert {each.outcome for each in batch.results()} == {Outcome.MISSING}
    assert shot.cost is not None
    assert shot.cost > 0
    show.unassigned(batch)
    assert "Bern" in capsys.readouterr().out
