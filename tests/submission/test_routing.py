"""Each row its model: one batch over models and providers, one answer in the input's shape."""

import dataclasses

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support import Shifted, mark, until

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import JobState

OPENAI, ANTHROPIC, GOOGLE = (
    "openai:gpt-5-mini",
    "anthropic:claude-haiku-4-5",
    "google:gemini-2.5-flash",
)
ALL = [OPENAI, ANTHROPIC, GOOGLE]


def frame(rows=9):
    return pd.DataFrame(
        {"text": [f"t{i}" for i in range(rows)], "llm": [ALL[i % 3] for i in range(rows)]},
        index=[i // 2 for i in range(rows)],
    )


def asked(sim):
    """Return the prompts that each provider billed, by provider and model."""
    return {(entry["provider"], entry["model"]) for entry in sim.ledger()}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_one_batch_spans_three_providers(client, sim, library):
    """Rows come back in order, each answered by its own model, named in a column."""
    made = frame()
    over = {"pandas": made, "polars": pl.from_pandas(made), "pyarrow": pa.table(made)}[library]
    handle = client.submit("Q {{ text }}", name="x", over=over, route="llm").wait(60)
    out = handle.answers()
    out = out if library == "pandas" else out.to_pandas()
    assert list(out["model"]) == list(made["llm"])
    assert all(mark(f"Q t{i}") in answer for i, answer in enumerate(out["answer"]))
    assert {job.provider for job in client.store.jobs(handle.id)} == {
        "openai",
        "anthropic",
        "google",
    }
    assert asked(sim) == {tuple(model.split(":")) for model in ALL}


def test_the_jobs_of_a_routed_batch_run_side_by_side(make_client, sim):
    """A provider that does not answer keeps no other from its work."""
    sim.fault(action="freeze", path="*batchGenerateContent", times=None)
    client = make_client()
    handle = client.submit("Q {{ text }}", name="x", over=frame(), route="llm")

    def states():
        return {job.provider: job.state for job in client.store.jobs(handle.id)}

    until(lambda: states()["openai"] is states()["anthropic"] is JobState.DONE)
    assert states()["google"] is JobState.SUBMITTING
    sim.clear_faults()


def test_a_function_of_the_row_chooses(client):
    """It is given the row's fields, or the item itself; None means --model."""
    out = client.submit(
        "Q {{ text }}", name="x", over=frame(4), model=GOOGLE,
        route=lambda row: OPENAI if row["text"] in {"t1", "t2"} else None,
    ).wait(60).answers()  # fmt: skip
    assert list(out["model"]) == [GOOGLE, OPENAI, OPENAI, GOOGLE]
    handle = client.submit(
        "Q {{ item }}",
        name="y",
        over=["a", "b"],
        route=lambda item: {"a": OPENAI, "b": ANTHROPIC}[item],
    )
    handle.wait(60)
    assert [result.model.split("-")[0] for result in handle.results()] == ["gpt", "claude"]


def test_a_list_of_models_or_a_field_of_objects_chooses(client):
    """A list as long as the rows; the fields of dicts and dataclasses."""

    @dataclasses.dataclass
    class Row:
        text: str
        llm: str

    for name, over, route in [
        ("a", ["p", "q"], [OPENAI, GOOGLE]),
        ("b", [{"text": "p", "llm": OPENAI}, {"text": "q", "llm": GOOGLE}], "llm"),
        ("c", [Row("p", OPENAI), Row("q", GOOGLE)], "llm"),
        ("d", {"k": "p", "l": "q"}, pd.Series([OPENAI, GOOGLE])),
    ]:
        handle = client.submit("Q {{ key }}", name=name, over=over, route=route).wait(60)
        assert client.store.batch(handle.id).models == [OPENAI, GOOGLE]


def test_a_generator_is_read_once(client):
    """The model of a row is asked for while its prompt is made."""
    over = ({"text": f"t{i}", "llm": ALL[i % 2]} for i in range(6))
    handle = client.submit("Q {{ text }}", name="x", over=over, route="llm").wait(60)
    assert all(mark(f"Q t{i}") in answer for i, answer in enumerate(handle.answers()))
    assert client.store.batch(handle.id).models == ALL[:2]


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("lm", "did you mean 'llm'"),
        (lambda row: 5, "row 0: --route gave 5"),
        (lambda row: None, "row 0: --route gave no model"),
        (lambda row: row["nope"], "row 0: --route failed (KeyError"),
        (lambda row: "opnai:x", "row 0: unknown provider 'opnai' (did you mean 'openai'?)"),
        ([OPENAI], "names 1 model for 3 rows"),
        (7, "not an int"),
    ],
)
def test_a_route_that_cannot_be_taken_is_one_clear_line(client, sim, route, words):
    """Nothing is written and nothing sent."""
    with pytest.raises(UsageProblem) as found:
        client.submit("Q {{ text }}", name="x", over=frame(3), route=route)
    assert words in str(found.value)
    assert not client.batches()
    assert not sim.ledger()


def test_an_async_function_is_refused_with_the_remedy(client):
    """Nothing of ours runs on the kernel's loop."""

    async def route(row):
        return OPENAI

    with pytest.raises(UsageProblem, match="nest_asyncio2"):
        client.submit("Q {{ text }}", name="x", over=frame(3), route=route)


def test_a_route_needs_rows(client):
    """One prompt has one model."""
    with pytest.raises(UsageProblem, match="needs --over"):
        client.submit("Q", name="x", route=lambda row: OPENAI)


def test_a_missing_key_of_one_provider_sends_nothing(make_client, sim):
    """Before anything is sent, every provider's key is there."""
    environ = {key: sim.environ()[key] for key in sim.environ() if key != "ANTHROPIC_API_KEY"}
    client = make_client(environ=environ)
    with pytest.raises(UsageProblem, match="row 1: ANTHROPIC_API_KEY is not set"):
        client.submit("Q {{ text }}", name="x", over=frame(3), route="llm")
    assert not sim.ledger()


def test_a_routed_batch_runs_again_at_no_cost_and_sends_only_what_changed(client, sim):
    """Attached when nothing changed; a row that moves to another model is asked there."""
    client.submit("Q {{ text }}", name="x", over=frame(), route="llm").wait(60)
    paid = len(sim.ledger())
    assert client.submit("Q {{ text }}", name="x", over=frame(), route="llm").attached
    moved = frame()
    moved.iloc[0, 1] = GOOGLE
    out = client.submit("Q {{ text }}", name="x", over=moved, route="llm").wait(60).answers()
    assert len(sim.ledger()) == paid + 1
    assert list(out["model"]) == list(moved["llm"])


def test_rows_already_answered_without_a_route_are_taken(client, sim):
    """What counts is who is asked what, not how the model was named."""
    over = ["a", "b", "c"]
    client.submit("Q {{ item }}", name="x", over=over, model=OPENAI).wait(60)
    handle = client.submit(
        "Q {{ item }}", name="x", over=over, route=lambda item: GOOGLE if item == "c" else OPENAI
    )
    handle.wait(60)
    assert client.store.batch(handle.id).reused == 2
    assert len(sim.ledger()) == 4


def test_a_parameter_may_be_meant_for_one_provider(client, sim):
    """Providers call things differently; PROVIDER:NAME goes to that one only."""
    handle = client.submit(
        "Q {{ text }}", name="x", over=frame(3), route="llm",
        params={"openai:reasoning_effort": "low", "google:temperature": 0.5},
    )  # fmt: skip
    bodies = {
        job.provider: (client.store.folder_of(handle.id) / job.payload).read_text()
        for job in client.store.jobs(handle.id)
    }
    assert '"reasoning_effort":"low"' in bodies["openai"]
    assert "reasoning_effort" not in bodies["anthropic"] + bodies["google"]
    assert '"temperature":0.5' in bodies["google"]
    handle.wait(60)


def test_models_of_anthropic_share_a_job(client):
    """Any mix of models goes into one batch there, and every model is checked."""
    models = ["anthropic:claude-haiku-4-5", "anthropic:claude-opus-4-5"]
    handle = client.submit(
        "Q {{ item }}", name="x", over=["a", "b", "c"], route=[*models, models[0]]
    )
    (job,) = client.store.jobs(handle.id)
    assert job.models == ["claude-haiku-4-5", "claude-opus-4-5"]
    assert handle.wait(60).done


def test_failed_rows_of_a_routed_batch_go_to_their_own_model_again(client, sim):
    """A retry round keeps provider and model of each row."""
    over = pd.DataFrame({"text": ["a [[sim:expire x1]]", "b [[sim:expire x1]]", "c"], "llm": ALL})
    out = client.submit("Q {{ text }}", name="x", over=over, route="llm").wait(60).answers()
    assert out["error"].isna().all()
    assert list(out["model"]) == ALL


def test_collected_cells_keep_their_routes(client):
    """--add snapshots the model of each row too."""
    client.add("Q {{ item }}", name="x", key="1", over=["a", "b"], route=[OPENAI, GOOGLE])
    client.add("Q {{ item }}", name="x", key="2", over=["c"], route=[ANTHROPIC])
    handle = client.submit_draft("x").wait(60)
    assert client.store.batch(handle.id).models == [OPENAI, GOOGLE, ANTHROPIC]
    assert all(mark(f"Q {c}") in answer for c, answer in zip("abc", handle.answers(), strict=True))


def test_the_frames_columns_may_be_called_model(client):
    """A column of the input is never overwritten."""
    over = pd.DataFrame({"text": ["a", "b"], "model": [OPENAI, GOOGLE]})
    out = client.submit("Q {{ text }}", name="x", over=over, route="model").wait(60).answers()
    assert list(out["answer_model"]) == list(out["model"]) == [OPENAI, GOOGLE]


def test_the_time_left_is_that_of_the_slowest_provider(make_client, sim):
    """The estimate takes the provider that took longest before, and is none where one is new."""
    clock = Shifted()
    client = make_client(clock=clock)
    sim.behave(seconds=1000, anthropic_retry_after=0)
    models = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5"]

    def took(name, model, seconds):
        handle = client.submit(name=name, over=["a"], model=model)
        until(lambda: handle.snapshot().safe_to_close)
        clock.ahead += seconds
        sim.advance(2000)
        handle.refresh().wait(60)

    def remaining(name):
        handle = client.submit(name=name, over=["a", "b"], route=models)
        until(lambda: handle.snapshot().safe_to_close)
        return handle.snapshot().remaining

    took("quick", models[0], 100)
    assert remaining("one_is_new") is None
    took("slow", models[1], 5000)
    assert 4000 < remaining("both_known") < 6000
