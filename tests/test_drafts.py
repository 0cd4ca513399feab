"""What ``--add`` collects stays one whole, whenever the kernel dies."""

import pytest
from support import mark

MODEL = "openai:gpt-5-mini"


def test_a_cell_that_dies_while_it_is_collected_again_changes_nothing(client, monkeypatch):
    """Until the record names the new texts, the old ones stand."""
    client.add("old", name="x", key="one", model=MODEL)
    with monkeypatch.context() as patch:
        patch.setattr(client.store, "put_part", _die)
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


def _die(*_):
    raise KeyboardInterrupt
