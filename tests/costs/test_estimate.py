"""What a batch will use and cost, from a sample of its requests and from earlier batches."""

import itertools
import json
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Usage
from jupyter_llm_batch.costs import estimate, tokens
from jupyter_llm_batch.costs.estimate import Meter, Past, Prior, make_estimate, past_usage
from jupyter_llm_batch.costs.estimate_price import price_estimates
from jupyter_llm_batch.costs.prices import PriceBook

LANE = {"provider": "openai", "model": "gpt-5-mini"}


def line(text):
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return json.dumps({"custom_id": "abcdefghij-0", "body": body}).encode() + b"\n"


def metered(lines):
    meter = Meter()
    for each in lines:
        meter.rows += 1
        meter.size += len(each)
        if meter.rows == meter.due:
            meter.take(each)
        meter.longest = max(meter.longest, len(each))
    return meter


@given(st.integers(1, 5000))
def test_the_sample_is_even_and_bounded(rows):
    """However many lines there are, a bounded number is kept, at equal distances from the first."""
    kept = [int(each) for each in metered(b"%d" % i for i in range(rows)).lines]
    assert 0 < len(kept) < 2 * estimate.SAMPLE
    assert kept[0] == 0
    steps = {b - a for a, b in itertools.pairwise(kept)}
    assert len(steps) <= 1
    assert rows - kept[-1] <= (steps.pop() if steps else 1)


def test_large_lines_are_not_all_held():
    """Lines with images in them are sampled the more sparsely, so that memory stays small."""
    meter = metered(b"x" * 2_000_000 for _ in range(40))
    assert estimate.FEWEST // 2 < len(meter.lines) <= estimate.FEWEST


def test_a_sample_tells_the_whole():
    """The estimate of 3,000 texts of very different lengths is near to counting every one."""
    random.seed(4)
    lines = [line("some words of it " * random.choice([1, 1, 1, 5, 40])) for _ in range(3000)]
    found = make_estimate(metered(lines), recipe=Recipe(max_tokens=10), **LANE)
    exact = sum(tokens.measure_request(each, "openai", "gpt-5-mini").expected for each in lines)
    assert found.rows == 3000
    assert found.input == pytest.approx(exact, rel=0.05)
    assert found.low < exact < found.ceiling
    assert found.output_ceiling == 30_000


def test_the_ceiling_is_never_more_than_a_token_a_byte():
    """A token is at least a byte, so the bytes of the requests bound their tokens."""
    lines = [line("a" * 500)] * 10
    found = make_estimate(metered(lines), recipe=Recipe(), before=Past(correction=1.0), **LANE)
    assert found.ceiling <= sum(map(len, lines))


@pytest.mark.parametrize(
    ("recipe", "provider", "ceiling"),
    [
        (Recipe(max_tokens=7), "openai", 70),
        (Recipe(params={"max_completion_tokens": 9}), "openai", 90),
        (Recipe(params={"n": 3}, max_tokens=7), "openai", 210),
        (Recipe(), "openai", None),
        (Recipe(), "anthropic", 40_960),
        (Recipe(params={"generationConfig": {"maxOutputTokens": 4}}), "google", 40),
        (Recipe(endpoint="embeddings"), "openai", 0),
        (Recipe(raw=True), "openai", None),
    ],
)
def test_the_most_output(recipe, provider, ceiling):
    """Output is bounded by what the requests allow, and unbounded is said as None."""
    found = make_estimate(metered([line("x")] * 10), provider=provider, model="m", recipe=recipe)
    assert found.output_ceiling == ceiling


def test_output_is_expected_as_it_was_before():
    """The prompt's own answers count; those to other prompts only correct how input is counted."""
    mine = Prior(prompt="p", rows=10, usage=Usage(input=100, output=70), counted=50)
    other = Prior(prompt="q", rows=10, usage=Usage(input=100, output=900), counted=100)
    assert past_usage("p", [mine, other]).output == 7
    assert past_usage("p", [mine, other]).basis == "10 earlier answers to this prompt"
    assert past_usage("p", [mine, other]).correction == 2.0
    assert past_usage("new", [mine, other]) == Past(correction=1.5)
    schema = Prior(prompt="s", rows=10, usage=Usage(input=300, output=10), counted=1000)
    assert past_usage("s", [schema]).correction == 0.3
    assert past_usage("new", [schema]) == Past(correction=1.0)
    assert past_usage("new", []) == Past()


def test_a_guess_is_a_span_from_the_guess_to_the_ceiling():
    """After one-word answers an essay is a guess, and no low is an empty answer."""
    labels = Prior(prompt="p", rows=20_000, usage=Usage(input=10, output=20_000))
    essay = Recipe(max_tokens=4000)
    before = past_usage("essay", [labels])
    guess = make_estimate(metered([line("x")] * 1000), recipe=essay, before=before, **LANE)
    assert guess.guessed
    money = price_estimates([guess], PriceBook())
    assert money.guessed
    assert money.low == pytest.approx(money.expected, rel=Decimal("0.05"))
    assert money.expected * 10 < money.ceiling
    known = past_usage(
        "p", [Prior(prompt="p", rows=10, usage=Usage(input=100, output=1000), counted=100)]
    )
    sure = make_estimate(metered([line("x")] * 1000), recipe=essay, before=known, **LANE)
    assert not sure.guessed
    lowest = price_estimates([sure], PriceBook()).low
    assert lowest > Decimal("0.6") * price_estimates([sure], PriceBook()).expected


def test_a_guess_stays_within_its_bound():
    """A guess is half of what is allowed at most, and called a guess."""
    guess = make_estimate(metered([line("x")] * 10), recipe=Recipe(max_tokens=5), **LANE)
    assert guess.output == 25  # never more than half of what is allowed
    assert "guess" in guess.basis


def test_a_correction_is_an_adjustment_and_no_accident():
    """A provider that tells no usage, or nonsense, does not ruin later estimates."""
    odd = Prior(prompt="p", rows=1, usage=Usage(input=10**9), counted=1)
    assert past_usage("p", [odd]).correction == 3.0
    assert past_usage("p", [Prior(prompt="p", rows=5, usage=Usage(), counted=9)]) == Past()


def test_priming_makes_most_of_a_long_prefix_cached():
    """With --cache at Anthropic one row writes what is shared, and all others read it."""
    system = "These are the rules. " * 500
    body = {"system": system, "messages": [{"role": "user", "content": "x"}]}
    lines = [json.dumps({"custom_id": "x-0", "params": body}).encode()] * 100
    recipe = Recipe(system=system, cache="1h", max_tokens=5)
    lane = {"provider": "anthropic", "model": "claude-haiku-4-5"}
    found = make_estimate(metered(lines), recipe=recipe, **lane)
    assert found.cached > 0.9 * found.input
    assert 0 < found.cache_write < 0.02 * found.input
    plain = make_estimate(metered(lines), recipe=Recipe(system=system, max_tokens=5), **lane)
    book = PriceBook()
    assert price_estimates([found], book).expected < price_estimates([plain], book).expected / 3
    # but a cache promises nothing: at most every row writes it for an hour
    assert price_estimates([found], book).ceiling > price_estimates([plain], book).ceiling


# -- money -----------------------------------------------------------------------------------------


def test_a_price_has_three_figures_and_its_source():
    """Low, expected and ceiling rise; real time costs twice as much; the source has a date."""
    found = make_estimate(
        metered([line("hello " * 50)] * 10), recipe=Recipe(max_tokens=400), **LANE
    )
    money = price_estimates([found], PriceBook())
    assert 0 < money.low < money.expected < money.ceiling
    assert money.realtime == 2 * money.expected
    assert "genai-prices" in money.source
    assert money.notes == []


def test_what_is_not_known_is_said():
    """An unknown price, a full-price fallback and a missing bound are notes, never a figure."""
    meter = metered([line("x")] * 10)
    unknown = price_estimates(
        [make_estimate(meter, recipe=Recipe(max_tokens=1), provider="openai", model="nobody")],
        PriceBook(),
    )
    assert (unknown.expected, unknown.ceiling, unknown.realtime) == (None, None, None)
    assert "is not known" in unknown.notes[0]
    lane = {"provider": "openai", "model": "gpt-4o-realtime-preview"}
    full = price_estimates([make_estimate(meter, recipe=Recipe(max_tokens=1), **lane)], PriceBook())
    assert full.expected is None
    assert full.realtime > 0
    assert "no batch price" in full.notes[0]
    unbounded = price_estimates([make_estimate(meter, recipe=Recipe(), **LANE)], PriceBook())
    assert unbounded.expected > 0
    assert unbounded.ceiling is None
    assert "--max-tokens" in unbounded.notes[0]


def test_long_requests_cost_what_their_tier_costs():
    """Requests above the tier are priced as such, and the ceiling assumes it of all."""
    lane = {"provider": "google", "model": "gemini-2.5-pro"}
    recipe = Recipe(max_tokens=1)
    long = make_estimate(metered([line("some words of it " * 80_000)] * 2), recipe=recipe, **lane)
    assert long.long_rows == 2
    money = price_estimates([long], PriceBook())
    flat = Decimal("0.625") / 10**6 * long.input
    assert money.expected > Decimal("1.9") * flat
    assert money.ceiling >= 2 * Decimal("0.625") / 10**6 * long.ceiling
    short = make_estimate(metered([line("some words of it ")] * 2), recipe=recipe, **lane)
    assert (short.long_rows, short.steep) == (0, False)


def test_reasking_multiplies_the_ceiling_alone():
    """Each round of re-asking may pay every row again, and is not what is expected."""
    meter, book = metered([line("x")] * 10), PriceBook()
    once = price_estimates([make_estimate(meter, recipe=Recipe(max_tokens=9), **LANE)], book)
    thrice = price_estimates(
        [make_estimate(meter, recipe=Recipe(max_tokens=9), reasks=2, **LANE)], book
    )
    assert thrice.ceiling == 3 * once.ceiling
    assert thrice.expected == once.expected


def test_estimates_of_several_models_add_up():
    """A batch over two models costs what its parts cost; one unknown price makes it unknown."""
    meter, book = metered([line("x")] * 10), PriceBook()
    one = make_estimate(meter, recipe=Recipe(max_tokens=9), **LANE)
    two = make_estimate(
        meter, recipe=Recipe(max_tokens=9), provider="google", model="gemini-2.5-flash"
    )
    assert price_estimates([one, two], book).ceiling == (
        price_estimates([one], book).ceiling + price_estimates([two], book).ceiling
    )
    strange = make_estimate(meter, recipe=Recipe(max_tokens=9), provider="openai", model="nobody")
    assert price_estimates([one, strange], book).expected is None
