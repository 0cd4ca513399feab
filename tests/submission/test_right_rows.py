"""Every bound answer is that of its row's prompt, whatever became of the input meanwhile."""

import pandas as pd
import pytest
from support import ANY, mark

from jupyter_llm_batch.simulator import Simulator

MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-3.8-flash"]


@pytest.fixture
def sim():
    """A simulator whose batches are done at the first poll and whose polls ask for no pause."""
    with Simulator(keys=ANY, seconds=0, anthropic_retry_after=0, seed=5) as simulator:
        yield simulator


def frame():
    """Return rows with duplicate indexes and prompts, and nulls."""
    data = {"text": ["a", "b", "a", None, "c", "b"], "n": [1.5, None, 3, 4, 5, 6]}
    return pd.DataFrame(data, index=[7, 7, 3, 9, 9, 7])


def agree(out, wanted):
    """Hold a frame of answers against the rows that were asked."""
    pd.testing.assert_frame_equal(out[["text", "n"]], wanted)
    for text, answer in zip(wanted["text"], out["answer"], strict=True):
        assert pd.isna(answer) if pd.isna(text) else mark(f"Q {text}") in answer


def mutated(rows):
    rows["text"] = "changed"


def reordered(rows):
    rows[:] = rows[::-1].to_numpy()


def cut(rows):
    del rows["text"]


@pytest.mark.parametrize("deed", [mutated, reordered, cut])
@pytest.mark.parametrize("model", MODELS)
def test_the_rows_of_the_moment_of_asking(make_client, model, deed):
    """What is done to the input after the cell ran changes nothing, nor does a restart."""
    rows = frame()
    client = make_client()
    handle = client.submit("Q {{ text }}", name="x", over=rows, model=model, skip_null=True)
    deed(rows)
    agree(handle.wait(120).answers(), frame())
    client.close()
    agree(make_client().get("x").answers(), frame())


@pytest.mark.parametrize("model", MODELS)
def test_a_later_version_in_another_order(make_client, sim, model):
    """Answers that are used again stand on their prompts' rows, also after a restart."""
    client = make_client()
    ask = {"name": "x", "model": model, "skip_null": True}
    client.submit("Q {{ text }}", over=frame(), **ask).wait(120)
    paid = len(sim.ledger())
    later = frame().iloc[::-1]
    later.loc[100] = ["new", 0.0]
    agree(client.submit("Q {{ text }}", over=later, **ask).wait(120).answers(), later)
    assert len(sim.ledger()) == paid + 1
    client.close()
    agree(make_client().get("x").answers(), later)
