"""``--dedupe`` and ``--reuse``: equal prompts asked once, paid answers of other batches taken."""

import pandas as pd
import pytest
from support import mark, until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.core.errors import NotConfirmed, NotFound, UsageProblem

MODEL = "openai:gpt-5-mini"
TWICE = ["a", "b", "a", "c", "b", "a"]


def ask(client, over, name="x", text="Q {{ item }}", **options):
    return client.submit(text, name=name, over=over, model=MODEL, **options)


def test_equal_prompts_are_asked_twice_unless_dedupe_says_otherwise(client, sim):
    """The same prompt twice in the input is two requests; with --dedupe it is one."""
    ask(client, TWICE).wait(60)
    assert len(sim.ledger()) == 6
    handle = ask(client, TWICE, name="y", dedupe=True)
    assert handle.notice.startswith("3 rows repeat the prompt of another")
    answers = handle.wait(60).answers()
    assert len(sim.ledger()) == 9
    assert all(mark(f"Q {item}") in text for item, text in zip(TWICE, answers, strict=True))


def test_repeated_rows_share_their_answer_after_a_restart(make_client):
    """Frame, duplicate index: each row finds the answer of its prompt."""
    frame = pd.DataFrame({"item": TWICE}, index=[1, 1, 2, 2, 3, 3])
    client = make_client()
    ask(client, frame, dedupe=True)
    client.close()
    handle = make_client().get("x")
    out = handle.wait(60).answers()
    assert all(
        mark(f"Q {item}") in text for item, text in zip(out["item"], out["answer"], strict=True)
    )
    assert [result.custom_id[-2:] for result in handle.results()] == [
        "-0",
        "-1",
        "-0",
        "-3",
        "-1",
        "-0",
    ]


def test_a_retry_asks_a_repeated_prompt_once(client, sim):
    """Rows that share a request fail, and are mended, together."""
    over = ["a [[sim:expire x1]]", "b", "a [[sim:expire x1]]"]
    handle = ask(client, over, dedupe=True).wait(60)
    assert [result.outcome for result in handle.results()] == [Outcome.OK] * 3
    assert client_rounds(client, handle) == [2, 1]
    refused = ask(client, ["[[sim:fail-400]] z"] * 3, name="y", dedupe=True, retry=0).wait(60)
    assert refused.snapshot().failed == 3
    assert refused.retry(confirm=True) == 1
    refused.wait(60)
    assert refused.snapshot().failed == 3


def client_rounds(client, handle):
    return [job.rows for job in client.store.jobs(handle.id)]


def test_a_later_version_takes_the_shared_answer(client, sim):
    """New rows only are paid for, with --dedupe and without."""
    ask(client, TWICE, dedupe=True).wait(60)
    ask(client, [*TWICE, "d"], dedupe=True).wait(60)
    assert len(sim.ledger()) == 4
    assert client.forget(client.get("x#2"), confirm=True) is None


def test_paid_answers_of_another_name_are_pointed_out_and_not_taken(client, sim):
    """Only --reuse takes them."""
    ask(client, TWICE).wait(60)
    handle = ask(client, TWICE, name="y")
    assert (
        "x already has answers to these prompts. --reuse x takes them at no cost" in handle.notice
    )
    handle.wait(60)
    assert len(sim.ledger()) == 12


def test_what_another_name_is_asking_now_is_pointed_out(make_client, sim):
    """A renamed notebook asks the same again: it hears so, and can wait for the first instead."""
    sim.behave(seconds=1000)
    old = make_client(notebook="old.ipynb")
    first = ask(old, ["a", "b"])
    until(lambda: old.store.jobs(first.id)[0].remote_id)
    client = make_client(notebook="new.ipynb")
    plan = client.preview("Q {{ item }}", name="x", over=["a", "b"], model=MODEL)
    assert "old.ipynb::x is being sent with these prompts at this moment" in plan.note
    handle = ask(client, ["a", "b"], reuse="old.ipynb::x")
    assert not client.store.jobs(handle.id)
    sim.advance(2000)
    assert all(
        mark(f"Q {item}") in text
        for item, text in zip("ab", handle.wait(60).answers(), strict=True)
    )
    assert len(sim.ledger()) == 2


def test_a_renamed_notebook_is_asked_before_it_pays_again(make_client, sim):
    """The same name and rows in another notebook: nothing is sent until the user has chosen."""
    ask(make_client(notebook="/my notes/old.ipynb", simulated=False), ["a", "b"]).wait(60)
    client = make_client(notebook="/my notes/new.ipynb", simulated=False)
    with pytest.raises(NotConfirmed, match="Nothing was sent: add confirm=True") as said:
        ask(client, ["b", "a"])
    assert '--reuse "/my notes/old.ipynb::x" takes' in str(said.value)
    assert client.batches() == []
    assert [*client.store.folder.glob("batches/*")] == [
        client.store.folder_of(client.batches(everywhere=True)[0].id)
    ]
    taken = ask(client, ["b", "a"], reuse="/my notes/old.ipynb::x").wait(60).answers()
    assert all(mark(f"Q {item}") in text for item, text in zip("ba", taken, strict=True))
    assert len(sim.ledger()) == 2
    ask(client, ["a", "b"], name="x", resubmit=True).wait(60)
    assert len(sim.ledger()) == 4


def test_who_said_yes_attaches_the_next_time(make_client, sim):
    """A cell that was confirmed once pays once, however often it runs with its `--yes`."""
    ask(make_client(notebook="old.ipynb", simulated=False), ["a", "b"]).wait(60)
    client = make_client(notebook="new.ipynb", simulated=False)
    first = ask(client, ["a", "b"], confirm=True).wait(60)
    assert ask(client, ["a", "b"], confirm=True).id == first.id
    assert ask(client, ["a", "b"]).attached
    assert len(sim.ledger()) == 4


def test_some_of_the_rows_are_reason_enough_to_ask(make_client, sim):
    """Rows that another batch has answered are not bought again without a yes; failed ones are."""
    old = make_client(notebook="old.ipynb", simulated=False)
    ask(old, ["a", "b"]).wait(60)
    new = make_client(notebook="new.ipynb", simulated=False)
    with pytest.raises(NotConfirmed, match="answers to 2 of these 3 prompts"):
        ask(new, ["a", "b", "c"], name="other")
    ask(new, ["a", "b", "c"], name="other", reuse="old.ipynb::x").wait(60)
    assert len(sim.ledger()) == 3
    for client in (old, new):
        ask(client, ["d [[sim:fail-400]]"], name="y").wait(60)


def test_what_is_being_sent_elsewhere_is_asked_about_before(make_client, sim):
    """Prompts that another batch is waiting for are not sent a second time without a yes."""
    sim.behave(seconds=1000)
    old = make_client(simulated=False)
    ask(old, ["a", "b"])
    with pytest.raises(NotConfirmed, match="x is being sent with 1 of these 2 prompts"):
        ask(old, ["b", "c"], name="y")
    assert [each.name for each in old.batches()] == ["x"]
    assert ask(old, ["b", "c"], name="y", confirm=True).record.rows == 2


def test_reuse_of_other_prompts_is_told(client):
    """Whoever hopes not to pay hears that nothing fits."""
    ask(client, ["a"]).wait(60)
    told = client.submit("R {{ item }}", name="y", over=["a"], model=MODEL, reuse="x").notice
    assert "x has no row like these" in told
    assert "no row like these" not in ask(client, ["a"], name="z", reuse="x").notice


def test_collected_cells_reuse_too(client, sim):
    """What a cell of --add may take is taken when all of them are sent."""
    ask(client, ["a", "b"]).wait(60)
    with pytest.raises(NotFound, match="no batch 'none'"):
        client.add("Q {{ item }}", name="y", key="1", over=["a"], model=MODEL, reuse="none")
    client.add("Q {{ item }}", name="y", key="1", over=["a", "b"], model=MODEL, reuse="x")
    client.add("Q {{ item }}", name="y", key="2", over=["c"], model=MODEL)
    assert len(client.submit_draft("y").wait(60).answers()) == 3
    assert len(sim.ledger()) == 3


@pytest.mark.parametrize("option", [{"resubmit": True}, {"sample": 1, "random": True}])
def test_what_collecting_cannot_keep_is_refused(client, option):
    """No option of a cell is dropped without a word."""
    with pytest.raises(UsageProblem, match="leave them out of --add"):
        client.add("Q {{ item }}", name="y", key="1", over=["a", "b"], model=MODEL, **option)


def test_reuse_takes_them(client, sim):
    """Nothing is sent for rows that another batch has answered."""
    ask(client, ["a", "b"]).wait(60)
    handle = ask(client, ["b", "c", "a"], name="y", reuse="x")
    assert "2 rows are taken from earlier runs at no cost, 1 is new" in handle.notice
    answers = handle.wait(60).answers()
    assert all(mark(f"Q {item}") in text for item, text in zip("bca", answers, strict=True))
    assert len(sim.ledger()) == 3
    with pytest.raises(UsageProblem, match="y use answers of x"):
        client.forget(client.get("x"), confirm=True)


def test_answers_of_another_notebook_are_taken_by_its_name(make_client, sim):
    """NOTEBOOK::NAME, as the hint spells it."""
    ask(make_client(notebook="other.ipynb"), ["a", "b"]).wait(60)
    client = make_client()
    plan = client.preview("Q {{ item }}", name="y", over=["a", "b"], model=MODEL)
    assert "--reuse other.ipynb::x takes them" in plan.note
    ask(client, ["a", "b"], name="y", reuse=["other.ipynb::x"]).wait(60)
    assert len(sim.ledger()) == 2


def test_the_end_of_a_notebooks_path_is_enough(make_client, sim):
    """NOTEBOOK::NAME takes the last parts of a path, as the terminal does, and whole ones only."""
    ask(make_client(notebook="/home/me/work/other.ipynb"), ["a"], name="y").wait(60)
    client = make_client()
    with pytest.raises(NotFound):
        ask(client, ["a"], name="w", reuse="her.ipynb::y")
    assert ask(client, ["a"], name="z", reuse="work/other.ipynb::y").record.reused == 1


def test_reusing_what_is_not_there_is_one_line(client):
    """A mistyped name must not pay."""
    with pytest.raises(NotFound, match="no batch 'nope' in any notebook"):
        ask(client, ["a"], reuse="nope")


def test_cancelling_leaves_the_batch_alone_whose_answers_are_taken(client, sim):
    """It is another batch, with a cell of its own."""
    sim.behave(seconds=3600)
    first = ask(client, ["a"])
    until(lambda: first.snapshot().safe_to_close)
    ask(client, ["a", "b"], name="y", reuse="x").cancel()
    assert not first.record.cancel_requested
    sim.advance(3600)
    assert mark("Q a") in first.wait(60).answers()[0]


def test_a_row_that_its_batch_still_sends_again_is_not_sent_by_a_later_version_too(client, sim):
    """An expired row of a batch that is under way belongs to that batch until it is over."""
    late = "late [[sim:expire x1]]"
    models = [MODEL, "anthropic:claude-haiku-4-5"]
    sim.fault(action="freeze", method="GET", path="*/messages/batches*", times=None)
    first = client.submit("Q {{ item }}", name="x", over=[late, "b"], route=models)
    until(lambda: client.store.pack(first.id, "outcomes")[0])  # expired, and not yet sent again
    assert not first.done
    second = client.submit("Q {{ item }}", name="x", over=[late, "b", "c"], route=[*models, MODEL])
    assert second.record.reused == 2
    until(lambda: client.store.pack(second.id, "outcomes")[2])
    sim.clear_faults()
    for handle in (first, second):
        assert [result.outcome for result in handle.wait(60).results()] == [Outcome.OK] * (
            handle.record.rows
        )
    assert sim.summary()["max_per_body"] == 1
