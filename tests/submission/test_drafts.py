"""What ``--add`` collects stays one whole, whenever the kernel dies."""

from collections import Counter

import pytest
from support import mark

from jupyter_llm_batch.core.errors import UsageProblem

MODEL = "openai:gpt-5-mini"


def test_a_cell_that_dies_while_it_is_collected_again_changes_nothing(client, monkeypatch):
    """Until the record names the new texts, the old ones stand."""
    client.add("old", name="x", key="one", model=MODEL)
    with monkeypatch.context() as patch:
        patch.setattr(client.store.draft_cells, "put", _die)
        with pytest.raises(KeyboardInterrupt):
            client.add("new", name="x", key="one", model=MODEL)
    assert mark("old") in client.submit_draft("x").wait(60).answers()


def test_a_cell_that_is_collected_again_leaves_no_file(client):
    """Only the texts that are sent are kept; a key that another begins with is another."""
    for key, text in (("one", "a"), ("one.two", "b"), ("one", "c")):
        client.add(text, name="x", key=key, model=MODEL)
    assert len([*client.store.folder.glob("batches/*/part-*")]) == 2
    answers = client.submit_draft("x").wait(60).answers()
    assert mark("c") in answers[0]
    assert mark("b") in answers[1]


@pytest.mark.parametrize("before", ["find", "put"])
def test_a_draft_that_another_kernel_sends_while_a_cell_joins_it(
    client, make_client, sim, monkeypatch, before
):
    """The cell is told, in one line; nothing of it is left on the disk or sent."""
    other = make_client()
    client.add("a", name="x", key="one", model=MODEL)
    call = getattr(client.store.draft_cells, before)

    def late(*args):
        found = call(*args) if before == "find" else None
        other.submit_draft("x").wait(60)
        return found or call(*args)

    monkeypatch.setattr(client.store.draft_cells, before, late)
    with pytest.raises(UsageProblem, match=r"same moment.*run the cells of x again"):
        client.add("b", name="x", key="two", model=MODEL)
    assert not [*client.store.folder.glob("batches/*/part-*")]
    monkeypatch.undo()
    assert client.drafts() == []
    assert Counter(entry["prompt_mark"] for entry in sim.ledger()) == {mark("a"): 1}


def test_a_cell_that_another_kernel_collects_meanwhile_is_kept(client, make_client, sim):
    """What was not among the cells that were sent waits, and goes with the next submit."""
    other = make_client()
    client.add("a", name="x", key="one", model=MODEL)
    handle = client.submit_draft("x", new=lambda: other.add("b", name="x", key="two", model=MODEL))
    assert "`%llm_batch submit x` sends them" in handle.notice
    assert [draft.rows for draft in client.drafts()] == [1]
    assert mark("a") in handle.wait(60).answers()
    assert mark("b") in client.submit_draft("x").wait(60).answers()
    assert Counter(entry["prompt_mark"] for entry in sim.ledger()) == {mark("a"): 1, mark("b"): 1}


@pytest.mark.parametrize("ending", ["jsonl", "rows"])
def test_a_collected_file_that_is_gone_is_told(client, ending):
    """One line instead of a traceback, and the cell can be collected again."""

    def add():
        client.add("{{ item }}", over={"one": "a"}, name="x", key="one", model=MODEL)

    add()
    (gone,) = client.store.folder.glob(f"batches/*/part-*.{ending}")
    gone.unlink()
    with pytest.raises(UsageProblem, match="run the cells of x again"):
        client.submit_draft("x")
    add()
    client.submit_draft("x").wait(60).answers()


def _die(*_):
    raise KeyboardInterrupt


def test_a_cell_is_never_collected_without_its_kernels_earlier_ones(make_client, sim):
    """Another kernel sent them all: the cell that comes late asks for all cells, and attaches."""
    one, other = make_client(), make_client()
    cells = [("first", "1"), ("second", "2")]
    one.add("first", name="x", key="1", model=MODEL)
    for text, key in cells:
        other.add(text, name="x", key=key, model=MODEL)
    other.submit_draft("x").wait(60)
    with pytest.raises(UsageProblem, match="run the cells of x again"):
        one.add("second", name="x", key="2", model=MODEL)
    for text, key in cells:
        one.add(text, name="x", key=key, model=MODEL)
    handle = one.submit_draft("x")
    assert handle.attached
    assert handle.record.version == 1
    assert len(sim.ledger()) == 2


def test_a_cell_after_a_draft_was_dropped_or_sent_begins_a_new_one(make_client):
    """Nothing is asked again of cells that this kernel has sent or dropped itself."""
    client = make_client()
    client.add("first", name="x", key="1", model=MODEL)
    client.submit_draft("x").wait(60)
    assert client.add("second", name="x", key="2", model=MODEL) == 1
    client.drop_draft("x")
    assert client.add("third", name="x", key="3", model=MODEL) == 1
