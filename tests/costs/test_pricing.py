"""What tokens cost, and when that is not known."""

import re
from decimal import Decimal

import pytest
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import Job
from jupyter_llm_batch.core.result import Usage
from jupyter_llm_batch.costs.price_list import requested_name
from jupyter_llm_batch.costs.prices import PriceBook, list_cost
from jupyter_llm_batch.costs.rates import LINEAR, Cost

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
    found = list_cost(provider, model, Usage(input=10_000, output=2_000))
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
    assert list_cost(provider, model, Usage(input=5000, cached=2000, output=700)).batch == (
        listed.total_price
    )


def test_cached_tokens_cost_less_than_fresh_ones():
    """Tokens read from the prompt cache are charged at their own price."""
    fresh = list_cost("openai", "gpt-5-mini", Usage(input=1000))
    cached = list_cost("openai", "gpt-5-mini", Usage(input=1000, cached=1000))
    assert 0 < cached.batch < fresh.batch


def test_tokens_written_to_the_cache_cost_more_than_fresh_ones():
    """Writing to Anthropic's prompt cache has its own price, a higher one for an hour."""
    model = ("anthropic", "claude-haiku-4-5")
    fresh = list_cost(*model, Usage(input=1000))
    written = list_cost(*model, Usage(input=1000, cache_write=1000))
    hour = list_cost(*model, Usage(input=1000, cache_write=1000, cache_write_1h=1000))
    assert fresh.batch < written.batch < hour.batch


def test_a_sum_of_short_requests_is_not_a_long_request():
    """A thousand short requests cost a thousand times one, below the long-context tier."""
    one = Usage(input=LINEAR, output=1000)
    many = Usage(input=LINEAR * 1000, output=1_000_000)
    single, total = list_cost(*TIERED, one), list_cost(*TIERED, many)
    assert total.batch == single.batch * 1000
    assert total.realtime == single.realtime * 1000


def test_a_long_request_pays_the_long_context_price():
    """A request past the tier costs more than its tokens would in short requests."""
    usage = Usage(input=LINEAR * 3, output=1000)
    short, long = list_cost(*TIERED, usage), list_cost(*TIERED, Usage(), [usage])
    assert long.batch > short.batch
    assert long.realtime > short.realtime
    both = list_cost(*TIERED, usage, [usage, usage])
    assert both.batch == short.batch + 2 * long.batch


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "nobody"])
def test_an_unknown_model_has_no_cost(provider):
    """A model or provider that the price list lacks costs an unknown amount, not nothing."""
    assert list_cost(provider, "no-such-model", Usage(input=1000, output=1)) is None
    assert list_cost(provider, "no-such-model", Usage(), [Usage(input=LINEAR * 3)]) is None


def test_a_model_without_a_batch_price_has_no_cost():
    """Where the list would silently charge real-time prices, the cost is unknown."""
    model = "gpt-4o-realtime-preview"
    assert calc_price(PricedUsage(input_tokens=1000), model_ref=model, provider_id="openai")
    assert list_cost("openai", model, Usage(input=1000, output=10)) is None


def test_no_tokens_cost_nothing():
    """A known model that used no tokens costs exactly nothing."""
    nothing = Cost(batch=Decimal(0), realtime=Decimal(0))
    assert list_cost("openai", "gpt-5-mini", Usage()) == nothing
    assert nothing.saved == 0


# -- published prices ------------------------------------------------------------------------------

#: Batch prices in USD per million tokens (input, output) as the providers published them on
#: 2026-10-14: developers.openai.com/api/docs/pricing (Batch), the page about
#: batch processing at platform.claude.com, ai.google.dev/gemini-api/docs/pricing (Batch).
PUBLISHED = {
    ("openai", "gpt-5-mini"): ("0.125", "1"),
    ("openai", "gpt-5-nano"): ("0.025", "0.2"),
    ("openai", "gpt-5.4-mini"): ("0.375", "2.25"),
    ("openai", "gpt-6-astra"): ("5", "25"),
    ("openai", "gpt-6-luna"): ("0.05", "0.25"),
    ("openai", "gpt-6.1-terra"): ("0.5", "2.5"),
    ("anthropic", "claude-haiku-4-5"): ("0.5", "2.5"),
    ("anthropic", "claude-haiku-5-5"): ("0.05", "0.25"),
    ("anthropic", "claude-sonnet-5-5"): ("1", "5"),
    ("anthropic", "claude-opus-5-5"): ("2", "10"),
    ("google", "gemini-2.5-flash"): ("0.15", "1.25"),
    ("google", "gemini-2.5-pro"): ("0.625", "5"),
    ("google", "gemini-3.8-flash"): ("0.375", "1.875"),
}


@pytest.mark.parametrize(("lane", "published"), PUBLISHED.items(), ids="-".join)
def test_published_batch_prices(lane, published):
    """A million tokens of input and of output cost what the provider's batch price list says."""
    for usage, usd in zip((Usage(input=10**6), Usage(output=10**6)), published, strict=True):
        assert list_cost(*lane, usage).batch == Decimal(usd)


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"])
def test_caching_in_a_batch_halves_anthropics_multiples(model):
    """Reads cost 0.1, writes 1.25 (5 minutes) and 2 (an hour) times the input, all halved."""
    fresh = list_cost("anthropic", model, Usage(input=10**6))
    for usage, factor in (
        (Usage(input=10**6, cached=10**6), "0.1"),
        (Usage(input=10**6, cache_write=10**6), "1.25"),
        (Usage(input=10**6, cache_write=10**6, cache_write_1h=10**6), "2"),
    ):
        found = list_cost("anthropic", model, usage)
        assert found.realtime == fresh.realtime * Decimal(factor)
        assert found.batch == fresh.realtime * Decimal(factor) / 2


def test_gemini_reads_its_cache_at_the_standard_price():
    """Where a batch does not halve what is read from the cache, it is not taken as halved."""
    found = list_cost("google", "gemini-2.5-flash", Usage(input=10**6, cached=10**6))
    assert found.batch == found.realtime == Decimal("0.03")


def test_openai_charges_for_what_it_writes_to_its_cache():
    """GPT-6 writes to its cache at 1.25 times the input price."""
    found = list_cost("openai", "gpt-6-astra", Usage(input=10**6, cache_write=10**6))
    assert found.batch == Decimal("6.25")


# -- prices of one's own ---------------------------------------------------------------------------


def test_the_worked_example_to_the_cent():
    """10,000 documents of 2,000 + 500 tokens at 0.30/1.00 USD: 11.00 in real time, 5.50 a batch."""
    book = PriceBook({"openai:my-model": {"input": 0.30, "output": 1.00}})
    found = book.cost("openai", "my-model", Usage(input=10_000 * 2_000, output=10_000 * 500))
    assert (found.realtime, found.batch, found.saved) == (
        Decimal("11.00"), Decimal("5.50"), Decimal("5.50"),
    )  # fmt: skip


def test_own_prices_win_over_the_list():
    """A price of the user's own stands for the model, its dated snapshots and its batch."""
    book = PriceBook({"openai:gpt-5-mini": {"input": 1, "output": 2, "batch_output": 0.5}})
    usage = Usage(input=10**6, output=10**6)
    found = book.cost("openai", "gpt-5-mini-2025-08-07", usage, asked="gpt-5-mini")
    assert (found.realtime, found.batch) == (Decimal(3), Decimal(1))
    assert book.quote("openai", "gpt-5-mini").source == "your own prices"


def test_a_discount_is_taken_off_both():
    """A discount of a provider lowers the batch and the real-time price; a model's own wins."""
    usage = Usage(input=10**6)
    plain = list_cost("openai", "gpt-5-mini", usage)
    book = PriceBook(discounts={"openai": 0.2, "openai:gpt-5-nano": 0.5})
    assert book.cost("openai", "gpt-5-mini", usage).batch == plain.batch * Decimal("0.8")
    assert book.cost("openai", "gpt-5-mini", usage).realtime == plain.realtime * Decimal("0.8")
    nano = list_cost("openai", "gpt-5-nano", usage)
    assert book.cost("openai", "gpt-5-nano", usage).batch == nano.batch * Decimal("0.5")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"my-model": {"input": 1}}, "PROVIDER:MODEL"),
        ({"openai:x": {"inputs": 1}}, "unknown 'inputs'"),
        ({"openai:x": {"output": 1}}, "lacks 'input'"),
        ({"openai:x": {"input": "cheap"}}, "is no price"),
        ({"openai:x": {"input": -1}}, "is no price"),
    ],
)
def test_prices_that_cannot_be_read(own, said):
    """A wrong price is refused with what is wrong about it."""
    with pytest.raises(UsageProblem, match=said):
        PriceBook(own)


def test_the_full_price_is_never_taken_for_a_batch_price():
    """Where the list has no batch price, the quote says so, and knows the real-time price."""
    quote = PriceBook().quote("openai", "gpt-4o-realtime-preview")
    assert quote.batch is None
    assert quote.realtime is not None
    assert "no batch price of openai:gpt-4o-realtime-preview is known" in quote.note
    assert "genai-prices" in quote.source


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "text-embedding-3-small"), ("google", "gemini-embedding-001")],
)
def test_embeddings_in_a_batch_cost_half_and_that_is_called_derived(provider, model):
    """Price data has no batch price of embeddings; the providers document half the list price."""
    quote = PriceBook().quote(provider, model)
    assert quote.batch.input == quote.realtime.input / 2 > 0
    assert "derived" in quote.source
    assert quote.note == ""


@pytest.mark.parametrize(
    "answered",
    ["gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5-mini-20250807", "gpt-5-mini-001"],
)
def test_own_prices_and_discounts_hold_for_a_dated_snapshot(answered):
    """Providers answer with a snapshot's name; the user priced the model by its plain name."""
    usage = Usage(input=1_000_000)
    own = PriceBook({"openai:gpt-5-mini": {"input": 100}})
    assert own.cost("openai", answered, usage).batch == 50
    assert own.is_own("openai", answered)
    less = PriceBook(discounts={"openai:gpt-5-mini": 0.5})
    plain = PriceBook().cost("openai", "gpt-5-mini", usage)
    assert less.cost("openai", answered, usage, asked="gpt-5-mini").batch == plain.batch / 2


def test_own_prices_of_a_mixed_job_are_those_of_the_longest_name_that_fits():
    """In a job of several models each answer is priced as the model that was requested."""

    def a_job(**named):
        return Job(
            id="j", batch_id="b", round=0, number=1, provider="anthropic", endpoint="chat",
            rows=1, bytes=1, payload="", **named,
        )  # fmt: skip

    job = a_job(model="mixed", models=["claude-haiku", "claude-haiku-4-5"])
    assert requested_name(job, "claude-haiku-4-5-20251001") == "claude-haiku-4-5"
    assert requested_name(job, "another") == ""
    single = a_job(model="my-deployment")
    assert requested_name(single, "gpt-5-mini-2025-08-07") == "my-deployment"


def test_the_price_data_is_named_with_its_date():
    """A quote says which data it is from, and of when."""
    assert re.fullmatch(
        r"genai-prices \d+\.\d+\.\d+, prices of 20\d\d-\d\d-\d\d",
        PriceBook().quote("anthropic", "claude-haiku-4-5").source,
    )
