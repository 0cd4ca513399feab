"""What tokens cost, and when that is not known."""

from decimal import Decimal

import pytest
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from jupyter_llm_batch.models import Usage
from jupyter_llm_batch.pricing import LINEAR, Cost, cost

MODELS = [
    ("openai", "gpt-5-mini"),
    ("anthropic", "claude-haiku-4-5"),
    ("google", "gemini-2.5-flash"),
]

#: A model whose price per token rises for long requests.
TIERED = ("google", "gemini-2.5-pro")


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_a_batch_costs_half_of_real_time(provider, model):
    """Each provider's batch price is half of the price in real time, the rest is saved."""
    found = cost(provider, model, Usage(input=10_000, output=2_000))
    assert found.realtime > 0
    assert found.batch * 2 == found.realtime
    assert found.saved == found.batch


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_a_short_request_costs_what_the_price_list_says(provider, model):
    """One request with cached tokens costs exactly what genai-prices charges for it."""
    listed = calc_price(
        PricedUsage(input_tokens=5000, cache_read_tokens=2000, output_tokens=700),
        model_ref=model,
        provider_id=provider,
        price_context={"processing": "batch"},
    )
    assert cost(provider, model, Usage(input=5000, cached=2000, output=700)).batch == (
        listed.total_price
    )


def test_cached_tokens_cost_less_than_fresh_ones():
    """Tokens read from the prompt cache are charged at their own price."""
    fresh = cost("openai", "gpt-5-mini", Usage(input=1000))
    cached = cost("openai", "gpt-5-mini", Usage(input=1000, cached=1000))
    assert 0 < cached.batch < fresh.batch


def test_tokens_written_to_the_cache_cost_more_than_fresh_ones():
    """Writing to Anthropic's prompt cache has its own price, a higher one for an hour."""
    model = ("anthropic", "claude-haiku-4-5")
    fresh = cost(*model, Usage(input=1000))
    written = cost(*model, Usage(input=1000, cache_write=1000))
    hour = cost(*model, Usage(input=1000, cache_write=1000, cache_write_1h=1000))
    assert fresh.batch < written.batch < hour.batch


def test_a_sum_of_short_requests_is_not_a_long_request():
    """A thousand short requests cost a thousand times one, below the long-context tier."""
    one = Usage(input=LINEAR, output=1000)
    many = Usage(input=LINEAR * 1000, output=1_000_000)
    single, total = cost(*TIERED, one), cost(*TIERED, many)
    assert total.batch == single.batch * 1000
    assert total.realtime == single.realtime * 1000


def test_a_long_request_pays_the_long_context_price():
    """A request past the tier costs more than its tokens would in short requests."""
    usage = Usage(input=LINEAR * 3, output=1000)
    short, long = cost(*TIERED, usage), cost(*TIERED, Usage(), [usage])
    assert long.batch > short.batch
    assert long.realtime > short.realtime
    both = cost(*TIERED, usage, [usage, usage])
    assert both.batch == short.batch + 2 * long.batch


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "nobody"])
def test_an_unknown_model_has_no_cost(provider):
    """A model or provider that the price list lacks costs an unknown amount, not nothing."""
    assert cost(provider, "no-such-model", Usage(input=1000, output=1)) is None
    assert cost(provider, "no-such-model", Usage(), [Usage(input=LINEAR * 3)]) is None


def test_a_model_without_a_batch_price_has_no_cost():
    """Where the list would silently charge real-time prices, the cost is unknown."""
    model = "gpt-4o-realtime-preview"
    assert calc_price(PricedUsage(input_tokens=1000), model_ref=model, provider_id="openai")
    assert cost("openai", model, Usage(input=1000, output=10)) is None


def test_no_tokens_cost_nothing():
    """A known model that used no tokens costs exactly nothing."""
    nothing = Cost(batch=Decimal(0), realtime=Decimal(0))
    assert cost("openai", "gpt-5-mini", Usage()) == nothing
    assert nothing.saved == 0
