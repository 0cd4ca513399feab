"""The module's functions: everything that a cell can do, from Python."""

import pytest
from support import mark, until

import jupyter_llm_batch as llm_batch
from jupyter_llm_batch.client import session
from jupyter_llm_batch.core.cell_options import cell_parser
from jupyter_llm_batch.core.errors import NotConfirmed, NotFound, UsageProblem
from jupyter_llm_batch.submission import options

MODEL = "openai:gpt-5-mini"


@pytest.fixture
def client(make_client):
    """The client of the module's functions."""
    return session.use(make_client())


def test_every_option_of_a_cell_has_its_place_in_python(client, sim):
    """An option is `submit`'s own, or the error names the place where Python has it."""
    here = {*options.Options.__annotations__, "wait"}
    for action in cell_parser()._actions:
        if action.option_strings and action.dest not in here:
            with pytest.raises(UsageProblem, match=f"no option '{action.dest}': write "):
                llm_batch.submit("a", name="x", model=MODEL, **{action.dest: True})
    assert sim.requests() == []


def test_submit_may_wait(client, sim):
    """`wait=True` returns when the answers are there, or a sample waits for a look."""
    assert mark("a") in llm_batch.submit("a", name="x", model=MODEL, wait=True).answers()
    handle = llm_batch.submit(name="y", over=["p", "q"], model=MODEL, sample=1, wait=True)
    assert not handle.done
    assert mark("q") in handle.send_rest().wait(60).answers()[1]


def test_preview_sends_nothing(client, sim):
    """A preview has prompts, rows and cost; with `count`, the provider's own count of tokens."""
    plan = llm_batch.preview("say {{ item }}", name="x", over=["a", "b"], model=MODEL)
    assert (plan.rows, plan.prompts[0], plan.counted) == (2, "say a", {})
    assert plan.cost.expected > 0
    assert sim.requests() == []
    plan = llm_batch.preview("say a", name="x", model="anthropic:claude-haiku-4-5", count=1)
    ((rows, exact, guessed),) = plan.counted.values()
    assert rows == 1
    assert exact > 0 < guessed
    assert sim.ledger() == []
    assert llm_batch.batches() == []


def test_collecting_and_sending(client):
    """Parts of equal contents or of one key count once; what was sent is no draft any more."""
    add = {"name": "x", "model": MODEL}
    assert llm_batch.add("one {{ item }}", over=["a"], **add) == 1
    assert llm_batch.add("one {{ item }}", over=["b"], **add) == 2
    assert llm_batch.add("one {{ item }}", over=["b"], **add) == 2
    assert llm_batch.add("two", key="../outside", **add) == 3
    assert llm_batch.add("three", key="../outside", **add) == 3
    (draft,) = llm_batch.collected()
    assert (draft.title, draft.rows) == ("x", 3)
    answers = llm_batch.submit_draft("x", wait=True).answers()
    prompts = ["one a", "one b", "three"]
    assert all(mark(p) in each for p, each in zip(prompts, answers, strict=True))
    assert llm_batch.collected() == []


def test_a_cell_that_failed_leaves_no_draft_to_look_at(client):
    """What could not be rendered is not among what was collected."""
    with pytest.raises(UsageProblem):
        llm_batch.add("{{ nothing }}", name="x", over=["a"], model=MODEL)
    assert llm_batch.collected() == []


def test_retry_and_forget(client):
    """`retry` sends what has no answer; `forget` deletes a batch or what was collected."""
    over = ["a", "b [[sim:fail-400]]"]
    handle = llm_batch.submit(name="x", over=over, model=MODEL, retry=0, wait=True)
    assert [each.rows for each in handle.failures()] == [[1]]
    assert llm_batch.retry("x") == 1
    until(lambda: handle.done)
    assert handle.record.round == 1
    folder = client.store.folder_of(handle.id)
    with pytest.raises(NotConfirmed, match=r"x holds 1 answer that cost .* confirm=True"):
        llm_batch.forget("x")
    llm_batch.forget("x", confirm=True)
    assert not folder.exists()
    llm_batch.add("a", name="x", model=MODEL)
    llm_batch.forget("x")
    assert llm_batch.collected() == []
    with pytest.raises(NotFound):
        llm_batch.forget("x")
