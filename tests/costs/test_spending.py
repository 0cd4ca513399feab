"""Caps and budgets hold before anything is sent; what was paid is exactly what was billed."""

import json
import re
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from support import bill, until

from jupyter_llm_batch.client.handle import BatchHandle
from jupyter_llm_batch.core.errors import NotReady, UsageProblem
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.costs.ledger import Ledger

MODEL = "openai:gpt-5-mini"
HAIKU = "anthropic:claude-haiku-4-5"
FLASH = "google:gemini-2.5-flash"

#: Longer than what any of the three keeps in a cache.
LONG = "These are the rules. " * 400


def rows(tag):
    return [
        *(f"{tag} plain {i}" for i in range(20)),
        *(f"{tag} late {i} [[sim:expire x1]]" for i in range(3)),
        *(f"{tag} broken {i} [[sim:fail-500 x1]]" for i in range(3)),
        f"{tag} wrong [[sim:fail-400]]",
        f"{tag} cut [[sim:length]]",
        f"{tag} declined [[sim:refuse]]",
    ]


# -- after -----------------------------------------------------------------------------------------


def test_a_mixed_run_costs_exactly_what_was_billed(client, sim):
    """Three providers, caches, retries, expired, failed, reused rows: equal to the last digit."""
    for name, model in (("a", MODEL), ("b", HAIKU), ("c", FLASH)):
        client.submit(
            "{{ item }}", name=name, over=rows(name), model=model, system=LONG, max_tokens=50
        ).wait()
    client.submit(
        "{{ item }}", name="d", over=[f"cached {i}" for i in range(10)], model=HAIKU, system=LONG,
        cache="5m", max_tokens=50,
    ).wait()  # fmt: skip
    before = bill(sim)
    again = client.submit(
        "{{ item }}", name="a", over=[*rows("a"), "one more"], model=MODEL, system=LONG,
        max_tokens=50,
    ).wait()  # fmt: skip
    assert bill(sim) > before
    ledger = client.cost()
    assert ledger.total.paid == bill(sim)
    assert ledger.total.usage.cached == sum(entry["cached_tokens"] for entry in sim.ledger()) > 0
    assert ledger.total.usage.cache_write == sum(
        entry["cache_write_tokens"] for entry in sim.ledger()
    )
    assert ledger.total.usage.cache_write > 0
    assert ledger.total.realtime > ledger.total.paid
    assert ledger.total.doubtful == 0
    assert again.snapshot().saved_reuse > 0
    by_batch = {total.key: total for total in ledger.by("batch")}
    assert by_batch["a#2"].reuse > 0
    assert by_batch["d"].cache > 0
    assert sum(total.paid for total in ledger.by("provider")) == bill(sim)


def test_what_was_asked_in_real_time_costs_its_full_price(client, sim):
    """--realtime, a sample and its rest, on the three providers: equal to the last digit."""
    for name, model in (("a", MODEL), ("b", HAIKU), ("c", FLASH)):
        ask = {"model": model, "system": LONG, "max_tokens": 50}
        client.submit(name=name, over=rows(name), realtime=True, **ask).wait()
        sampled = client.submit(name=f"some_{name}", over=rows(f"some {name}"), sample=4, **ask)
        with pytest.raises(NotReady):
            sampled.wait()
        sampled.send_rest().wait()
        assert sum(sampled.frame(costs=True)["cost_usd"]) == pytest.approx(
            float(client.cost(f"some_{name}").total.paid), abs=1e-12
        )
    assert {entry["mode"] for entry in sim.ledger()} == {"batch", "realtime"}
    ledger = client.cost()
    assert ledger.total.paid == bill(sim)
    assert ledger.total.doubtful == 9  # answered 500 in real time, three of each provider


def test_the_rows_of_a_batch_cost_what_the_batch_costs(client, sim):
    """The costs of the rows, as `frame(costs=True)` shows them, are the batch's cost."""
    batch = client.submit("{{ item }}", name="a", over=rows("a"), model=MODEL, max_tokens=50).wait()
    frame = batch.frame(costs=True)
    assert float(bill(sim)) == pytest.approx(frame["cost_usd"].sum(), abs=1e-12)
    assert frame["cost_usd"].isna().sum() == 0
    assert (frame.loc[frame["outcome"] == "failed", "cost_usd"] == 0).all()


def test_rows_that_never_came_back_may_cost_more(client, sim):
    """Billed rows without a line are counted apart: the bill lies within what the ledger says."""
    client.submit(
        "{{ item }}", name="a", over=["a", "b", "lost [[sim:missing]]"], model=MODEL, max_tokens=50
    ).wait()
    total = client.cost().total
    assert total.doubtful == 1
    assert total.paid < bill(sim) <= total.paid + total.doubt


def test_a_forgotten_batch_keeps_its_money(client):
    """`forget` deletes answers, not what they cost."""
    batch = client.submit("{{ item }}", name="a", over=["a"], model=MODEL).wait()
    paid = client.cost().total.paid
    assert paid > 0
    client.forget(batch, confirm=True)
    assert client.cost().total.paid == paid
    assert client.cost("a").total.paid == paid


def test_simulated_money_has_a_ledger_of_its_own(make_client):
    """What was simulated is never in the sum of real money."""
    simulated = make_client()
    simulated.submit("{{ item }}", name="a", over=["a"], model=MODEL).wait()
    assert simulated.cost().simulated
    assert repr(simulated.cost()).startswith("simulated, no real money")
    real = make_client(simulated=False)
    assert real.cost().lines == []


# -- the estimate learns ---------------------------------------------------------------------------


def test_the_next_estimate_is_corrected_by_the_last_batch(client):
    """After one batch, the same prompt's estimate is within a twentieth of what it costs."""
    ask = {"model": MODEL, "max_tokens": 60, "name": "a"}
    over = [f"Describe thing number {i} in the usual words" for i in range(200)]
    first = client.preview("{{ item }}", over=over, **ask)
    assert "guess" in first.estimates[0].basis
    client.submit("{{ item }}", over=over, **ask).wait()
    fresh = [each.replace("thing", "item") for each in over]
    second = client.preview("{{ item }}", over=fresh, **ask)
    assert second.estimates[0].basis == "200 earlier answers to this prompt"
    other = client.preview("Write an essay about {{ item }}", over=fresh, **ask)
    assert other.estimates[0].guessed
    batch = client.submit("{{ item }}", over=fresh, **ask).wait()
    assert float(second.cost.expected) == pytest.approx(batch.snapshot().cost, rel=0.05)


def test_a_batch_under_way_shows_what_it_will_cost(client, sim):
    """Until the cost is known, the panel says what it may be, and that this is a guess."""
    sim.behave(seconds=3600)
    batch = client.submit("{{ item }}", name="a", over=["a"] * 100, model=MODEL, max_tokens=10)
    end = time.monotonic() + 60
    while batch.snapshot().expected is None:
        assert time.monotonic() < end
    shot = batch.snapshot()
    assert shot.cost is None
    assert 0 < shot.expected <= shot.ceiling
    assert re.search(r"between \$[\d.]+ \(a guess\) and \$", shot.line)


# -- caps ------------------------------------------------------------------------------------------


def refused(client, sim, **options):
    """Return why a submission is refused; nothing of it was kept or sent."""
    ask = {"name": "x", "over": ["a"] * 100, "model": MODEL} | options
    with pytest.raises(UsageProblem) as problem:
        client.submit("{{ item }}", **ask)
    assert client.batches() == []
    assert sim.ledger() == []
    assert not any((client.store.folder / "batches").glob("*"))
    return str(problem.value)


def test_a_cap_refuses_with_the_figures(client, sim):
    """A batch whose ceiling is above --max-cost is not sent, and the message says both."""
    said = refused(client, sim, max_tokens=1000, max_cost=0.1)
    assert "over --max-cost $0.10" in said
    assert "up to $0.10" in said
    assert "nothing was sent" in said


def test_real_time_counts_in_full_towards_the_cap(client, sim):
    """Asked at once, or perhaps after a deadline, rows cost twice as much; a sample in part."""
    plain = ceiling(client)
    assert ceiling(client, realtime=True) == pytest.approx(2 * plain)
    assert ceiling(client, deadline="6h") == pytest.approx(2 * plain)
    assert ceiling(client, sample=25) == pytest.approx(1.25 * plain)
    assert "over --max-cost" in refused(
        client, sim, max_tokens=1000, max_cost=1.5 * plain, deadline="6h"
    )


def ceiling(client, **options):
    plan = client.preview("{{ item }}", name="x", over=["a"] * 100, model=MODEL, max_tokens=1000,
                          **options)  # fmt: skip
    return float(plan.cost.ceiling)


def test_reasking_counts_towards_the_cap(client, sim):
    """A round of --reask may be paid again, so the ceiling counts it."""
    options = {"max_tokens": 1000, "max_cost": 0.15}
    assert "up to $0.20" in refused(client, sim, reask=1, **options)
    client.submit("{{ item }}", name="x", over=["a"] * 100, model=MODEL, **options).wait()


def test_an_answer_without_a_bound_cannot_be_capped(client, sim):
    """Without --max-tokens nothing bounds the cost, and the message names the option."""
    said = refused(client, sim, max_cost=100)
    assert "--max-tokens" in said


def test_an_unknown_price_cannot_be_capped(client, sim):
    """A model without a price is refused under a cap, and the message names the setting."""
    said = refused(client, sim, model="openai:my-own", max_cost=100, max_tokens=5)
    assert "%config LLMBatch.prices = {'openai:my-own'" in said


def test_prices_of_ones_own_are_used_at_once(client, sim):
    """Set by %config, they price estimate, cap and bill."""
    client.settings = Settings(prices={"openai:my-own": {"input": 1000.0, "output": 1000.0}})
    assert "over --max-cost" in refused(
        client, sim, model="openai:my-own", max_cost=0.1, max_tokens=5
    )
    batch = client.submit("{{ item }}", name="x", over=["a"], model="openai:my-own").wait()
    usage = client.cost().total.usage
    assert client.cost().total.paid == Decimal(usage.input + usage.output) * 500 / 1_000_000
    assert batch.snapshot().saved == pytest.approx(batch.snapshot().cost)


def test_own_prices_hold_for_each_model_of_a_routed_batch(client, sim):
    """Answers name dated snapshots; they are booked at the price of the model that was named."""
    models = ["anthropic:claude-haiku-4-5", "anthropic:claude-sonnet-4-5"]
    client.settings = Settings(
        prices={model: {"input": 1000.0, "output": 1000.0} for model in models}
    )
    over = [{"text": "a", "llm": models[0]}, {"text": "b", "llm": models[1]}]
    client.submit("{{ text }}", name="x", over=over, route="llm", max_tokens=5).wait()
    total = client.cost().total
    assert total.paid == Decimal(total.usage.input + total.usage.output) * 500 / 1_000_000
    assert {f"anthropic:{line.model}" for line in client.cost().lines} == set(models)


def test_own_prices_hold_for_an_adopted_batch(client, sim):
    """An adopted batch's model is known by its answers only, which name a dated snapshot."""
    client.settings = Settings(prices={"openai:gpt-5-mini": {"input": 1000.0, "output": 1000.0}})
    sent = client.submit("{{ item }}", name="x", over=["a", "b"], model=MODEL).wait()
    remote = client.store.jobs(sent.id)[0].remote_id
    client.forget(sent, confirm=True)
    adopted = client.adopt(f"openai:{remote}", "taken").wait()
    usage = client.cost("taken").total.usage
    assert usage.output > 0
    assert client.cost("taken").total.paid == Decimal(usage.input + usage.output) / 2000
    assert adopted.snapshot().cost == pytest.approx(float(client.cost("taken").total.paid))


OWN = Settings(prices={"openai:my-own": {"input": 1000.0, "output": 1000.0}})


@pytest.mark.parametrize("notebook", ["nb.ipynb", "of a terminal"])
def test_own_prices_outlive_their_kernel(make_client, sim, notebook):
    """Whoever books the end has not run the cell that sets them."""
    sim.behave(seconds=1000)
    client = make_client(settings=OWN)
    handle = client.submit("{{ item }}", name="x", over=["a"], model="openai:my-own")
    until(lambda: handle.snapshot().safe_to_close)
    client.close()
    make_client(notebook="other.ipynb").submit("{{ item }}", name="y", over=["b"], model=MODEL)
    sim.advance(2000)
    later = make_client(notebook=notebook)
    BatchHandle(later.context, handle.id).wait(60)
    total = Ledger(later.store.spending.spends(batch_id=handle.id)).total
    assert total.paid == Decimal(total.usage.input + total.usage.output) * 500 / 1_000_000
    later.settings = Settings(prices={"openai:my-own": {"input": 2000.0}})
    assert later.context.accounts.rules_in_use().book.quote("openai", "my-own").realtime.output == 0


def test_a_price_named_later_is_booked_then(client):
    """What was not known when the batch ended is no more unknown, in all sums from then on."""
    client.submit("{{ item }}", name="x", over=["a"], model="openai:my-own").wait(60)
    assert client.cost().total.unpriced == 1
    client.settings = OWN
    total = client.cost().total
    assert total.paid == Decimal(total.usage.input + total.usage.output) * 500 / 1_000_000
    client.settings = Settings()
    assert client.cost().total == total
    assert client.store.spending.committed(0.0)[0] == pytest.approx(float(total.paid))


def test_the_figure_follows_the_answers(client, sim):
    """A retry is priced by its own rows, at the user's prices; a finished batch has no estimate."""
    client.settings = Settings(discounts={"openai": 0.5})
    over = [*(f"plain {i}" for i in range(98)), *(f"late {i} [[sim:expire x1]]" for i in range(2))]
    batch = client.submit("{{ item }}", name="x", over=over, model=MODEL, retry=0).wait()
    done = batch.snapshot()
    assert done.expected is None
    sim.behave(seconds=3600)
    batch.retry(confirm=True)
    shot = batch.refresh().snapshot()
    assert shot.cost == done.cost
    assert shot.expected == pytest.approx(done.cost * 100 / 98)


def test_a_price_that_is_not_known_is_said(client):
    """The panel does not leave out the cost without a word."""
    batch = client.submit("{{ item }}", name="x", over=["a"], model="openai:my-own").wait()
    assert "price not known" in batch.snapshot().line


def test_a_budget_counts_what_is_under_way(client, sim):
    """Batches that have not ended count at their ceiling; afterwards at what they cost."""
    sim.behave(seconds=3600)
    client.settings = Settings(monthly_budget=0.15)
    ask = {"over": ["a"] * 100, "model": MODEL, "max_tokens": 500}
    first = client.submit("{{ item }}", name="x", **ask)
    client.submit("{{ item }}", name="y", **ask)
    with pytest.raises(
        UsageProblem,
        match=r"over the monthly budget: this may cost up to.*way \([xy], [xy]\)",
    ):
        client.submit("{{ item }}", name="z", **ask)
    sim.behave(seconds=0)
    sim.advance(4000)
    first.refresh().wait()
    client.submit("{{ item }}", name="z", **ask)


def test_a_retry_by_the_user_is_held_to_the_cap(client, sim):
    """Sending billed rows again may not lift a batch over its --max-cost."""
    over = ["an answer", *(f"{i} [[sim:missing]]" for i in range(99))]
    batch = client.submit(
        "{{ item }}", name="x", over=over, model=MODEL, max_tokens=1000, max_cost=0.11
    ).wait()  # fmt: skip
    spent = client.cost().total
    assert spent.doubtful == 99
    with pytest.raises(UsageProblem, match="over --max-cost"):
        batch.retry(confirm=True)
    assert client.store.spending.committed(0.0)[1] == 0


START = """
import json, sys
from pathlib import Path
from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.settings import Settings
environ, folder, number = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
client = Client(environ=environ, folder=folder, notebook="n" + number, simulated=True,
                settings=Settings(monthly_budget=0.25))
client.preview("{{ item }}", name="x", over=["a"], model="openai:gpt-5-mini")
print("ready", flush=True)
sys.stdin.readline()
sent = 0
for turn in range(3):
    try:
        client.submit("{{ item }}", name=f"x{turn}", over=[f"{number} {turn}"] * 100,
                      model="openai:gpt-5-mini", max_tokens=400)
        sent += 1
    except UsageProblem as problem:
        assert "monthly budget" in str(problem), problem
print(sent, flush=True)
client.close()
"""


def test_four_kernels_never_exceed_their_budget(sim, tmp_path, make_client):
    """Four processes that submit at once get together what the budget has room for, and no more."""
    sim.behave(seconds=3600)
    environ = json.dumps(sim.environ())
    kernels = [
        subprocess.Popen(
            [sys.executable, "-c", START, environ, str(tmp_path / "data"), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    for kernel in kernels:
        assert kernel.stdout.readline() == "ready\n"
    for kernel in kernels:
        kernel.stdin.write("go\n")
        kernel.stdin.flush()
    sent = [int(kernel.communicate()[0]) for kernel in kernels]
    spent, promised = make_client().store.spending.committed(0.0)
    assert spent + promised <= 0.25
    assert sum(sent) == 6  # a batch may cost 0.0407
    assert Path(tmp_path / "data" / "simulated" / "journal.sqlite").exists()
