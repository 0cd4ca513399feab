"""What a person types about money, and what comes back."""

import csv
import time

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError

from jupyter_llm_batch.client import session
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.identity import Identity
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.notebook.commands import Commands
from jupyter_llm_batch.notebook.config import LLMBatch
from jupyter_llm_batch.notebook.controller import Controller

MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]


@pytest.fixture
def run(client, monkeypatch):
    """Runs lines of the magics against a client on the simulator, and returns what they show."""
    shell = InteractiveShell()
    shell.user_ns["rows"] = [f"text {i}: good or bad" for i in range(20)]
    config = LLMBatch()
    config.model = MODELS[0]
    controller = Controller(shell, config, Identity("nb.ipynb"))
    controller.use(client)
    commands = Commands(controller)
    shown = []
    monkeypatch.setattr(
        "jupyter_llm_batch.notebook.tables.grid.display", lambda data, **_: shown.append(data)
    )
    monkeypatch.setattr(
        "jupyter_llm_batch.notebook.tables.money.display", lambda data, **_: shown.append(data)
    )

    def run(line, cell=None):
        shown.clear()
        if cell is None:
            commands.line(line)
        else:
            commands.cell(line, cell)
        return "\n".join(each["text/plain"] for each in shown)

    run.config, run.shown, run.controller = config, shown, controller
    return run


def test_a_dry_run_shows_the_cost_both_ways(run, sim):
    """Tokens and cost as low, expected and ceiling, beside real time, with the prices' source."""
    said = run("x --over rows --dry-run --max-tokens 50", "{{ item }}")
    rows = {line[:18].strip(): line for line in said.splitlines()}
    assert {"input tokens", "output tokens", "cost as a batch", "cost in real time"} <= rows.keys()
    assert "genai-prices" in rows["cost as a batch"]
    assert "saved by the batch" in rows
    assert sim.ledger() == []


def test_a_dry_run_says_what_a_cap_would_say(run, capsys):
    """The same words as the submission's refusal, before it."""
    said = run("x --over rows --dry-run --max-cost 0.00001 --max-tokens 50", "{{ item }}")
    assert "would not be sent: over --max-cost" in said
    assert "to submit" not in capsys.readouterr().out


def test_a_dry_run_says_what_is_asked_in_real_time(run):
    """All of it, a sample, or what is late: each is told, and nothing is saved by no batch."""
    said = run("x --over rows --dry-run --realtime", "{{ item }}")
    assert "cost in real time" in said
    assert "batch" not in said
    assert "--sample: 5 rows are sent first" in run(
        "x --over rows --dry-run --sample 5", "{{ item }}"
    )
    assert "--deadline: rows that are not done" in run(
        "x --over rows --dry-run --deadline 6h", "{{ item }}"
    )


def test_a_dry_run_beside_earlier_batches(run, client, capsys):
    """A new prompt of an old name is a new version; --reuse that matches nothing says so."""
    client.submit("{{ item }}", name="x", over=["a"], model=MODELS[0]).wait()
    run("x --over rows --dry-run --reuse x", "new {{ item }}")
    said = capsys.readouterr().out
    assert "version x#2" in said
    assert "0 rows would be taken from earlier runs" in said


def test_a_long_system_prompt_is_cut_visibly(run, capsys):
    """What is left out is marked."""
    run("x --over rows --dry-run --system " + repr("rules " * 1000), "{{ item }}")
    assert "ru…\n" in capsys.readouterr().out


def test_a_wrong_deadline_names_its_option(run):
    """The error says which option is meant."""
    with pytest.raises(UsageError, match="--deadline soon: give a time"):
        run("x --over rows --deadline soon", "{{ item }}")


@pytest.mark.parametrize("model", MODELS)
def test_the_provider_counts_a_sample(run, capsys, sim, model):
    """--count asks the provider's own counter about some rows, and compares the estimate."""
    run(f"x --over rows -m {model} --dry-run --count 5", "{{ item }}")
    said = capsys.readouterr().out
    assert f"{model}: " in said
    assert "input tokens in 5 rows, counted by the provider (estimated" in said
    assert sim.ledger() == []


def test_cost_by_every_grouping(run, client, tmp_path, capsys):
    """`%llm_batch cost` is a sentence, a table and a chart; --csv writes the lines."""
    for model in MODELS:
        name = model.partition(":")[0]
        client.submit("{{ item }}", name=name, over=["a", "b"], model=model).wait()
    for group in ("day", "provider", "model", "batch", "notebook"):
        said = run(f"cost --by {group}")
        assert said.startswith("all batches: simulated, no real money: $0.00")
        assert "<svg" in run.shown[0]["text/html"]
    assert "openai " in run("cost --by provider")
    assert "openai:gpt-5-mini" in run("cost openai")
    path = tmp_path / "ledger.csv"
    run(f"cost --csv {path}")
    assert len(list(csv.DictReader(path.open()))) == 3
    run.config.monthly_budget = 5.0
    assert "monthly budget: $5.00, of which" in run("cost")


def test_nothing_spent_yet(run, capsys):
    """An empty ledger says so in a line."""
    run("cost")
    assert capsys.readouterr().out == "all batches: nothing was spent yet\n"


def test_compare_shows_agreement_and_cost(run, client):
    """Two batches over the same rows, side by side, and a few differences."""
    over = ["good or bad", "bad or good", "x"]
    client.submit("{{ item }}", name="a", over=over, model=MODELS[0]).wait()
    client.submit("now {{ item }}", name="b", over=over, model=MODELS[2]).wait()
    said = run("compare a b")
    assert "gpt-5-mini" in said
    assert "% agree" in said
    assert "per 1,000 answers" in said


def test_advice_has_its_figure_and_its_command(run, client, capsys):
    """What would have been cheaper, with the line that acts on it; nothing is said in a line."""
    run("advise")
    assert "nothing to advise" in capsys.readouterr().out
    client.submit(
        "{{ item }}", name="x", over=["same"] * 50, model="openai:gpt-5.4-pro",
        system="rules " * 500, max_tokens=9,
    ).wait()  # fmt: skip
    said = run("advise")
    assert "%%llm_batch x --model openai:gpt-5.4-pro --over ROWS" in said
    assert "--dedupe" in said
    assert "$0." in said


def test_what_is_advised_can_be_run_as_printed(run, client, sim, capsys):
    """Each line takes the first line's place in its cell; the sample is compared at once."""
    run.controller.shell.user_ns["rows"] = [f"text {i % 30}: good or bad" for i in range(60)]
    typed = 'x --over rows -m openai:gpt-5.4-pro --system "Be brief" --max-tokens 40 --wait'
    run(typed, "{{ item }}")
    found = {each.kind: each.command.splitlines() for each in client.advise()}
    assert found["reuse"] == [f"%%llm_batch {typed} --dedupe"]
    trial, comparison = found["model"]
    assert trial == (
        '%%llm_batch x_small --over rows --system "Be brief" --max-tokens 40 --wait '
        "--model openai:gpt-5.4 --sample 50"
    )
    run(found["reuse"][0].removeprefix("%%llm_batch "), "{{ item }}")
    run(trial.removeprefix("%%llm_batch "), "{{ item }}")
    assert client.get("x_small").snapshot().choices == ["send", "stop"]
    said = run(comparison.removeprefix("%llm_batch "))
    assert "x_small is waiting for your OK: the 50 rows of its sample are compared" in said
    assert "% agree: " in said
    assert "of 50 rows" in said
    assert "only x answered" not in said


def test_settings_reach_the_next_cell(run):
    """%config of budget and prices is in force at once; a wrong price is named."""
    run.config.prices = {"openai:gpt-5-mini": {"input": 1000, "output": 1000}}
    said = run("x --over rows --dry-run --max-tokens 50", "{{ item }}")
    assert "your own prices" in said
    with pytest.raises(TraitError, match="unknown 'inputs'"):
        run.config.prices = {"openai:gpt-5-mini": {"inputs": 1}}
    with pytest.raises(TraitError, match="a discount is a share"):
        run.config.discounts = {"openai": 20}
    assert "your own prices" in run("x --over rows --dry-run --max-tokens 50", "{{ item }}")


def test_python_has_the_same(client):
    """`cost`, `compare` and `advise` of the package are the client's."""
    import jupyter_llm_batch as llm_batch

    session.use(client)
    client.submit("{{ item }}", name="a", over=["a"], model=MODELS[0]).wait()
    assert llm_batch.cost().total.paid > 0
    assert llm_batch.compare("a", "a").agreement == 1.0
    assert llm_batch.advise() == []
    with pytest.raises(UsageProblem):
        llm_batch.cost().by("mood")


def test_a_wrong_price_stops_no_batch(client):
    """A price that cannot be read is refused in a cell; what is under way goes on without it."""
    batch = client.submit("{{ item }}", name="a", over=["a"], model=MODELS[0])
    client.settings = Settings(prices={"openai:gpt-5-mini": {"inputs": 1}})
    assert batch.wait(60).done
    with pytest.raises(UsageProblem, match="unknown 'inputs'"):
        client.submit("{{ item }}", name="b", over=["a"], model=MODELS[0])


def test_a_refused_button_says_why(run, client):
    """Retry on the panel is held to the budget as well, and the refusal stands on the panel."""
    over = [f"{i} [[sim:missing]]" for i in range(20)]
    batch = client.submit(
        "{{ item }}", name="a", over=over, model=MODELS[0], max_tokens=1000
    ).wait()
    client.settings = Settings(monthly_budget=0.001)
    run.controller.buttons.press(batch.id, "retry")
    end = time.monotonic() + 60
    while batch.id not in run.controller.panels.notices:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "over the monthly budget" in run.controller.panels.notices[batch.id]
