"""Two batches over the same rows, and what would have been cheaper."""

from decimal import Decimal

import msgspec
import pytest

from jupyter_llm_batch.core.errors import NotFound, UsageProblem
from jupyter_llm_batch.core.result import Outcome, Result, Usage
from jupyter_llm_batch.costs.advice import Call, Habit, advise
from jupyter_llm_batch.costs.comparison import Side, compare_sides
from jupyter_llm_batch.costs.price_list import listed_models
from jupyter_llm_batch.costs.prices import PriceBook

BIG, SMALL = "openai:gpt-5.4", "openai:gpt-5-mini"


def side(title):
    return Side(title=title, model="m", answered=0, input_tokens=0, output_tokens=0)


def ok(text, **more):
    return Result(custom_id="x-0", outcome=Outcome.OK, text=text, **more)


FAILED = Result(custom_id="x-0", outcome=Outcome.FAILED)


def test_answers_are_compared_row_by_row():
    """Equal but for case, blanks and marks at the ends is alike; failed rows are not compared."""
    ours = [ok("Positive"), ok("negative"), ok("mixed"), FAILED, ok("x"), None]
    theirs = [ok("Positive"), ok(" Negative. "), ok("bad"), ok("y"), FAILED, None]
    found = compare_sides(side("a"), side("b"), ours, theirs)
    assert (found.rows, found.both, found.same, found.alike) == (6, 3, 1, 2)
    assert (found.only_left, found.only_right) == (1, 1)
    assert found.agreement == pytest.approx(2 / 3)
    assert [(each.row, each.left, each.right) for each in found.differences] == [
        (2, "mixed", "bad")
    ]
    assert list(found.frame().columns) == ["row", "a", "b"]


def test_structured_answers_agree_by_field():
    """With a schema the share of equal values is known for each field."""
    ours = [ok("", parsed={"tone": tone, "stars": n}) for tone, n in (("Good", 4), ("bad", 1))]
    theirs = [ok("", parsed={"tone": tone, "stars": n}) for tone, n in (("good", 4), ("bad", 2))]
    found = compare_sides(side("a"), side("b"), ours, theirs)
    assert found.fields == {"tone": 2, "stars": 1}
    assert (found.same, found.alike) == (0, 1)


def test_embeddings_are_compared_by_their_angle():
    """Vectors are never exact matches; their mean cosine says how near they are."""
    ours = [Result(custom_id="x-0", outcome=Outcome.OK, vector=[1.0, 0.0])]
    theirs = [Result(custom_id="x-0", outcome=Outcome.OK, vector=[1.0, 1.0])]
    found = compare_sides(side("a"), side("b"), ours, theirs)
    assert found.nearness == pytest.approx(2**-0.5)


def test_two_batches_side_by_side(client, sim):
    """Agreement and cost of two models over the same rows; a sample is compared with its rows."""
    over = [f"text {i}: good or bad" for i in range(20)]
    client.submit("{{ item }}", name="big", over=over, model=BIG).wait()
    client.submit("{{ item }}", name="small", over=over[:5], model=SMALL).wait()
    found = client.compare("big", "small")
    assert (found.rows, found.agreement) == (5, 1.0)
    assert found.notes == ["big has 20 rows and small 5: the first 5 are compared"]
    assert found.left.paid > found.right.paid > 0
    assert found.left.realtime == 2 * found.left.paid
    with pytest.raises(NotFound):
        client.compare("big", "nobody")


def test_other_prompts_are_told(client):
    """Rows that asked something else are compared, and it is said that they did."""
    client.submit("{{ item }}", name="a", over=["x", "y"], model=BIG).wait()
    client.submit("{{ item }}", name="b", over=["x", "z"], model=SMALL).wait()
    assert client.compare("a", "b").notes == ["the prompts differ (for example row 1)"]


def test_a_batch_of_another_notebook_is_compared_and_advised_about(make_client):
    """It is named NOTEBOOK::NAME, and the lines that act on it can be run."""
    there = make_client(notebook="an other.ipynb")
    there.submit("{{ item }}", name="a", over=["x"] * 40, model="openai:gpt-5.4-pro").wait()
    there.close()
    here = make_client()
    here.submit("{{ item }}", name="b", over=["x"], model=SMALL).wait()
    assert here.compare("an other.ipynb::a", "b").left.title == "a"
    (found,) = [each for each in here.advise() if each.kind == "reuse"]
    assert found.what == "Ask equal prompts of an other.ipynb::a once"
    assert found.command == "%%llm_batch a --model openai:gpt-5.4-pro --over ROWS --dedupe"


def test_vectors_of_different_models_are_not_compared(client):
    """They lie in different spaces: one line says so."""
    for name, size in (("a", "small"), ("b", "large")):
        model = f"openai:text-embedding-3-{size}"
        client.submit("{{ item }}", name=name, over=["x"], model=model, embed=True).wait()
    with pytest.raises(UsageProblem, match="vectors of different models"):
        client.compare("a", "b")


# -- advice ----------------------------------------------------------------------------------------


def habit(**more):
    fields = {
        "title": "sentiment", "provider": "anthropic", "model": "claude-opus-5-5", "rows": 1000,
        "usage": Usage(input=5_000_000, output=100_000), "paid": Decimal(20),
    }  # fmt: skip
    return Habit(**fields | more)


def kinds(found):
    return [each.kind for each in found]


def test_a_long_shared_beginning_is_worth_caching():
    """The figure is what reading it would have saved, and the command names the batch."""
    (found,) = advise([habit(shared=4000)], PriceBook())
    assert found.kind == "caching"
    assert found.command == "%%llm_batch sentiment --cache"
    assert "share their first 4,000 tokens, and 0 % of them came from a cache" in found.why
    # 999 reads at 0.10 instead of 2.00 a million, less one write for an hour at 4.00
    assert found.saves == Decimal("7.5844")


def test_a_short_or_cached_beginning_is_not():
    """What no provider caches, and what came from the cache already, needs no advice."""
    assert advise([habit(shared=900)], PriceBook()) == []
    hit = habit(shared=4000, cache=True, usage=Usage(input=5_000_000, cached=3_900_000))
    assert advise([hit], PriceBook()) == []
    missed = habit(shared=4000, cache=True)
    assert advise([missed], PriceBook())[0].what == "Caching hardly helped sentiment"


def test_a_smaller_model_is_to_be_tried_and_not_just_taken():
    """The next cheaper model of the same generation, with a sample and a comparison to run."""
    (found,) = advise([habit()], PriceBook(), models=listed_models())
    assert found.kind == "model"
    assert "claude-sonnet-5-5" in found.what
    assert found.command.splitlines() == [
        "%%llm_batch sentiment_small --wait --model anthropic:claude-sonnet-5-5 --sample 50",
        "%llm_batch compare sentiment sentiment_small",
    ]
    assert found.saves == Decimal("11.0") - Decimal("5.5")


def test_rows_that_were_paid_twice_are_worth_reuse():
    """Equal prompts within a batch, and answers that another batch holds."""
    found = advise([habit(repeats=100, elsewhere=50, source="old")], PriceBook())
    assert kinds(found) == ["reuse", "reuse"]
    assert [each.saves for each in found] == [Decimal(2), Decimal(1)]
    assert found[1].command == "%%llm_batch sentiment --reuse old"


def test_a_loop_over_calls_in_real_time_is_worth_a_batch():
    """Calls of one place are summed up; a few of them are no loop."""
    usage = Usage(input=10_000, output=1000)
    one = Call(provider="openai", model="gpt-5-mini", usage=usage, where="cell 3")
    (found,) = advise([], PriceBook(), calls=[one] * 100)
    assert found.kind == "batch"
    assert "cell 3" in found.what
    assert found.saves == Decimal("0.225")
    assert advise([], PriceBook(), calls=[one] * 5) == []


def test_a_loop_whose_cost_is_unknown_is_named():
    """Streams without token counts, models without a price: the loop is told, and what is not."""
    usage = Usage(input=10_000, output=1000)
    one = Call(provider="openai", model="gpt-5-mini", usage=usage, where="cell 3")
    silent = msgspec.structs.replace(one, usage=Usage(), known=False)
    (found,) = advise([], PriceBook(), calls=[silent] * 12)
    assert (found.kind, found.saves) == ("batch", None)
    assert found.what == "Send the calls of cell 3 as a batch"
    assert found.why.startswith("12 calls of openai:gpt-5-mini, 12 of them without token counts")
    (found,) = advise([], PriceBook(), calls=[silent] * 12 + [one] * 100)
    assert found.saves == Decimal("0.225")
    assert "12 of them without token counts" in found.why
    assert "the other 100 cost $0.45 in real time, $0.23 as a batch" in found.why
    (found,) = advise([], PriceBook(), calls=[msgspec.structs.replace(one, model="newest")] * 12)
    assert "12 of them at a price that is not known" in found.why
    dear = habit(repeats=100)
    both = advise([dear], PriceBook(), calls=[silent] * 12)
    assert [each.saves for each in both] == [Decimal(2), None]


def test_cents_are_left_unsaid():
    """Advice that would save less than a cent is noise."""
    assert advise([habit(repeats=1, paid=Decimal(1))], PriceBook()) == []


def test_the_dearest_comes_first():
    """Advice is sorted by what it would have saved."""
    found = advise([habit(repeats=10, shared=4000)], PriceBook(), models=listed_models())
    assert [each.saves for each in found] == sorted((each.saves for each in found), reverse=True)
    assert kinds(found) == ["caching", "model", "reuse"]


def test_habits_are_read_from_the_journal(client):
    """What prompts share, what repeats and what was asked before is found in the journal."""
    system = "These are the rules. " * 400
    over = [f"row {i % 50}" for i in range(100)]
    ask = {"over": over, "model": "anthropic:claude-opus-5-5", "system": system, "max_tokens": 9}
    client.submit("{{ item }}", name="first", **ask).wait()
    client.submit("{{ item }}", name="second", **ask).wait()
    found = {(each.kind, each.command.split()[1]): each for each in client.advise()}
    assert "50 of its 100 rows repeat" in found["reuse", "first"].why
    line = (
        "%%llm_batch second --model anthropic:claude-opus-5-5 --over ROWS --system-from SYSTEM "
        "--max-tokens 9 --reuse first"
    )
    assert any(each.command == line for each in client.advise())
    assert ("caching", "first") in found
    assert found["model", "first_small"].command.endswith("compare first first_small")


def test_a_routed_batch_is_advised_about_by_model(client):
    """Each of its models has its own advice, with what was paid for its rows."""
    rows = [f"row {i % 20}" for i in range(100)]
    route = [
        "openai:gpt-5.4-pro" if i % 20 < 10 else "anthropic:claude-opus-5-5" for i in range(100)
    ]
    client.submit("{{ item }}", name="x", over=rows, route=route, system="word " * 200).wait()
    found = {(each.kind, each.what): each for each in client.advise()}
    again = "Ask equal prompts of the gpt-5.4-pro rows of x once"
    assert "40 of its 50 rows repeat" in found["reuse", again].why
    tried = [what for kind, what in found if kind == "model"]
    assert any("the gpt-5.4-pro rows of x" in what for what in tried)
    assert any("the claude-opus-5-5 rows of x" in what for what in tried)
