"""What is kept, here and at the provider, how long, and what is deleted on whose word."""

import csv

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Shifted, mark, until

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.request import Mode
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.engine.status.words import expiring

OPENAI = "openai:gpt-5-mini"

MODELS = {
    "openai": "openai:gpt-5-mini",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-2.5-flash",
}
DAY = 86400.0


def run(client, over=("a", "b"), name="x", model=MODELS["openai"], **options):
    return client.submit(name=name, over=over, model=model, **options).wait(60)


def deleted(sim):
    return [each["path"] for each in sim.requests() if each["method"] == "DELETE"]


# -- at the provider -------------------------------------------------------------------------------


def job(state=JobState.RUNNING, **more):
    return Job(id="j", batch_id="b", round=0, number=1, provider="openai", model="m",
               endpoint="chat", rows=1, bytes=1, payload="p", state=state, **more)  # fmt: skip


def test_answers_that_expire_soon_are_warned_about():
    """Three days before the provider deletes what is not collected, and after it."""
    now = 1_000_000.0
    assert expiring([job(keep_until=now + 4 * DAY)], now) == ""
    assert "deletes the answers after" in expiring([job(keep_until=now + 2 * DAY)], now)
    assert "may have deleted" in expiring([job(keep_until=now - 1)], now)


def test_what_is_collected_alarms_nobody():
    """Collected answers lie here, whatever the provider deletes."""
    now = 1_000_000.0
    assert expiring([job(JobState.DONE, keep_until=now + DAY)], now) == ""
    assert expiring([job(keep_until=None)], now) == ""


def test_answers_of_a_provider_that_names_no_date_are_warned_about():
    """As soon as they surely lie there: the job is over, or its time is, and they are not here."""
    now = 1_000_000.0

    def gemini(**more):
        return [msgspec.structs.replace(job(**more), provider="google")]

    assert expiring(gemini(expires_at=now + DAY), now) == ""
    assert expiring(gemini(state=JobState.COLLECTING, ended_at=now - 60), now) == ""
    told = "Google does not say how long it keeps answers: collect them soon"
    assert told in expiring(gemini(expires_at=now - 1), now)
    assert told in expiring(gemini(state=JobState.COLLECTING, ended_at=now - 7200), now)
    assert expiring(gemini(state=JobState.DONE, ended_at=now - 7200), now) == ""
    assert expiring(gemini(state=JobState.RUNNING, mode=Mode.REALTIME), now) == ""


def test_the_panel_warns_of_gemini_answers_that_cannot_be_fetched(make_client, sim):
    """After two days everything there is over, and without a key nothing of it comes."""
    sim.behave(seconds=3600)
    first = make_client()
    handle = first.submit(name="x", over=["a"], model=MODELS["google"])
    until(lambda: first.store.jobs(handle.id)[0].expires_at)
    first.close()
    clock = Shifted()
    environ = {name: value for name, value in sim.environ().items() if "KEY" not in name}
    client = make_client(environ=environ, clock=clock)
    assert client.get("x").snapshot().notice == ""
    clock.ahead = 2.1 * DAY
    assert "Google does not say how long it keeps answers" in client.get("x").snapshot().line


def test_an_upload_that_google_has_deleted_is_made_again(make_client, sim):
    """Uploads live 48 hours: a job that waited longer for its turn is uploaded once more."""
    clock = Shifted()
    client = make_client(clock=clock)
    wait = {"status": 429, "headers": {"Retry-After": "80000"}}
    sim.fault(method="POST", path="*:batchGenerateContent", action="status", **wait)
    over = [f"{i} " + "x" * 400_000 for i in range(60)]
    handle = client.submit(name="x", over=over, model=MODELS["google"])
    until(lambda: client.store.jobs(handle.id)[0].not_before > clock() + 50_000)
    sim.advance(3 * DAY)
    clock.ahead = 3 * DAY
    assert len(handle.wait(60).answers()) == 60
    started = [each for each in sim.requests() if each["path"].endswith("/upload/v1/files")]
    assert len(started) == 2


def test_the_panel_warns(make_client, sim):
    """The warning is the panel's notice and part of its line."""
    clock = Shifted()
    client = make_client(clock=clock)
    sim.behave(seconds=3600)
    handle = client.submit(name="x", over=["a"], model=MODELS["openai"])
    while handle.snapshot().keep_until is None:
        pass
    (found,) = client.store.jobs(handle.id)
    clock.ahead = found.keep_until - DAY - clock()
    assert "OpenAI deletes the answers after" in handle.snapshot().notice
    assert "OpenAI deletes the answers after" in handle.snapshot().line


@pytest.mark.parametrize("provider", MODELS)
def test_nothing_is_deleted_unless_asked(client, sim, provider):
    """The default leaves files to the provider's own expiry."""
    run(client, model=MODELS[provider])
    assert deleted(sim) == []


@pytest.mark.parametrize(
    ("provider", "count"), [("openai", 2), ("anthropic", 1), ("google", 0)]
)  # Google takes small jobs inline: there is no file
def test_files_are_deleted_once_all_is_collected(make_client, sim, provider, count):
    """The upload and the results at OpenAI, the batch at Anthropic; the answers stay here."""
    sim.behave(anthropic_retry_after=0)
    client = make_client(settings=Settings(delete_uploads=True))
    handle = run(client, model=MODELS[provider])
    assert len(deleted(sim)) == count
    assert {each.tidied for each in client.store.jobs(handle.id)} == {"deleted"}
    assert all(mark(p) in a for p, a in zip("ab", handle.answers(), strict=True))
    assert handle.snapshot().notice == ""
    order = [each["method"] for each in sim.requests()]
    if count:
        assert "GET" not in order[order.index("DELETE") :]


def test_an_upload_to_google_is_deleted(make_client, sim):
    """What is too large to go inline is a file, and that is deleted."""
    client = make_client(settings=Settings(delete_uploads=True))
    over = [f"{i} " + "x" * 400_000 for i in range(60)]
    run(client, over, model=MODELS["google"])
    assert len(deleted(sim)) == 1


def test_a_refused_deletion_harms_nothing_and_is_said(make_client, sim):
    """The batch is done, the answers are here, and the panel says that files are left."""
    sim.fault(method="DELETE", action="status", status=403, times=None)
    client = make_client(settings=Settings(delete_uploads=True))
    handle = run(client)
    assert handle.snapshot().state == "done"
    assert "still has files" in handle.snapshot().notice
    assert mark("a") in handle.answers()[0]


def test_nothing_is_deleted_while_rows_are_missing(make_client, sim):
    """What never came back may still be found at the provider: it is left there."""
    sim.behave(missing_rate=1.0)
    client = make_client(settings=Settings(delete_uploads=True))
    handle = run(client)
    assert deleted(sim) == []
    assert "never came back" in client.store.jobs(handle.id)[0].tidied


# -- here ------------------------------------------------------------------------------------------


class Clock:
    """A clock that can be put forward."""

    def __init__(self):
        import time

        self.ahead = 0.0
        self._time = time.time

    def __call__(self):
        return self._time() + self.ahead


def test_old_batches_are_forgotten_on_load(make_client):
    """Ended, read and older than keep_days; younger ones stay."""
    clock = Clock()
    client = make_client(clock=clock)
    old = run(client, name="old")
    old.answers()
    clock.ahead = 5 * DAY
    run(client, name="young").answers()
    client.close()
    later = make_client(clock=clock, settings=Settings(keep_days=3))
    later.resume()
    assert [each.name for each in later.batches()] == ["young"]
    assert not later.store.folder_of(old.id).exists()


def test_without_keep_days_everything_stays(make_client):
    """The default keeps for ever."""
    clock = Clock()
    client = make_client(clock=clock)
    run(client).answers()
    clock.ahead = 5000 * DAY
    client.resume()
    assert [each.name for each in client.batches()] == ["x"]


@pytest.mark.parametrize("why", ["unread", "unfinished", "used", "elsewhere"])
def test_what_somebody_may_need_is_not_forgotten(make_client, sim, why):
    """Answers nobody looked at, what is under way, what others use, and other notebooks'."""
    clock = Clock()
    client = make_client(clock=clock)
    if why == "unfinished":
        sim.behave(seconds=1e9)
        client.submit(name="x", over=["a"], model=MODELS["openai"])
    else:
        handle = run(client)
        if why != "unread":
            handle.answers()
        if why == "used":
            clock.ahead = 50 * DAY
            run(client, over=["a", "b", "c"])  # takes two answers from the first
    clock.ahead += 20 * DAY
    client.close()
    notebook = "other.ipynb" if why == "elsewhere" else "nb.ipynb"
    later = make_client(clock=clock, settings=Settings(keep_days=30), notebook=notebook)
    if why != "used":
        clock.ahead += 20 * DAY
    later.resume()
    assert "x" in [each.name for each in later.batches(everywhere=True)]


def test_forget_older_than_can_mean_every_notebook(make_client):
    """`everywhere` names the batches of all notebooks, the latest first."""
    clock = Clock()
    first = make_client(clock=clock)
    run(first, name="a")
    second = make_client(clock=clock, notebook="other.ipynb")
    run(second, name="b")
    clock.ahead = 40 * DAY
    assert [each.name for each in second.library.older_than(30 * DAY)] == ["b"]
    assert [each.name for each in second.library.older_than(30 * DAY, everywhere=True)] == [
        "b",
        "a",
    ]


# -- export ----------------------------------------------------------------------------------------

READ = {
    ".csv": pd.read_csv,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".parquet": lambda path: pq.read_table(path).to_pandas(),
}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("ending", READ)
def test_a_frame_is_exported_with_its_columns(client, tmp_path, library, ending):
    """The input's columns stand before the answers, in every format and from every library."""
    data = {"text": ["a", 'b,\n"c"'], "n": [1, 2]}
    frame = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[library](data)
    handle = client.submit("Q {{ text }}", name="x", over=frame, model=MODELS["openai"]).wait(60)
    out = READ[ending](handle.export(tmp_path / f"out{ending}"))
    assert list(out.columns) == ["text", "n", "answer", "error", "finish_reason"]
    assert list(out["text"]) == data["text"]
    assert all(mark(f"Q {t}") in a for t, a in zip(data["text"], out["answer"], strict=True))


def test_an_index_with_a_meaning_is_exported(client, tmp_path):
    """Names of rows become columns, under the index's own names."""
    frame = pd.DataFrame(
        {"text": ["a", "b"]},
        index=pd.MultiIndex.from_tuples([("k", 1), ("l", 2)], names=["key", "part"]),
    )
    handle = client.submit("{{ text }}", name="x", over=frame, model=MODELS["openai"]).wait(60)
    out = pd.read_csv(handle.export(tmp_path / "out.csv"))
    assert list(out.columns[:3]) == ["key", "part", "text"]
    assert list(out["key"]) == ["k", "l"]


def test_an_index_named_like_a_column_is_named_in_the_error(client, tmp_path):
    """A file has no place for both: the line says which, and nothing is written."""
    frame = pd.DataFrame({"text": ["a"]}, index=pd.Index([5], name="text"))
    handle = client.submit("{{ row.text }}", name="x", over=frame, model=MODELS["openai"]).wait(60)
    with pytest.raises(UsageProblem, match="index 'text'"):
        handle.export(tmp_path / "out.csv")
    assert [*tmp_path.glob("out*")] == []


def test_mixed_values_are_exported_as_json(client, tmp_path):
    """Columns that have no common type do not stop the answers from being written."""
    frame = pd.DataFrame({"text": ["a", "b"], "odd": [{"k": 1}, "word"]})
    handle = client.submit("{{ text }}", name="x", over=frame, model=MODELS["openai"]).wait(60)
    out = pq.read_table(handle.export(tmp_path / "out.parquet")).to_pydict()
    assert out["odd"] == ['{"k":1}', '"word"']


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table, dict])
def test_formulas_are_escaped_for_spreadsheets(client, tmp_path, library):
    """With `spreadsheet` no text of a CSV is run by Excel; without, it is what was answered."""
    texts = ["=HYPERLINK(1)", "+1+1", "-cmd", "@SUM(1)", "\t=1", "-5", "+1.5e3", "a=b", ""]
    over = library({"=t": texts, "n": list(range(-4, 5))})
    if library is dict:
        over = [{"=t": text} for text in texts]
    handle = client.submit("Q {{ row['=t'] }}.", name="x", over=over, model=OPENAI).wait(60)
    path = handle.export(tmp_path / "x.csv", spreadsheet=True)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert not [each for row in rows for each in row if each.lstrip()[:1] in {"=", "@"}]
    if library is not dict:
        assert [row[0] for row in rows] == [
            "'=t", "'=HYPERLINK(1)", "'+1+1", "'-cmd", "'@SUM(1)", "'\t=1",
            "-5", "+1.5e3", "a=b", "",
        ]  # fmt: skip
        assert [row[1] for row in rows[1:]] == [str(n) for n in range(-4, 5)]
        assert (
            "=HYPERLINK" in handle.export(tmp_path / "plain.csv").read_text().splitlines()[1][:11]
        )
    with pytest.raises(UsageProblem, match=r"--spreadsheet is for \.csv"):
        handle.export(tmp_path / "x.parquet", spreadsheet=True)


def test_a_list_is_exported_as_records(client, tmp_path):
    """Input without columns gives row, outcome, answer and tokens."""
    handle = run(client)
    rows = [msgspec.json.decode(x) for x in handle.export(tmp_path / "o.jsonl").open("rb")]
    assert [row["row"] for row in rows] == [0, 1]
    assert mark("b") in rows[1]["answer"]


def test_what_a_plan_takes_its_answers_from_may_not_go_meanwhile(make_client, sim, monkeypatch):
    """Forgotten between plan and journal, by another kernel too: one line, and nothing is sent."""
    client = make_client()
    run(client, ["a"])
    plan = client._submitter._plan

    def interrupted(*args, **options):
        made = plan(*args, **options)
        other = make_client()
        other.forget(other.get("x"), confirm=True)
        return made

    monkeypatch.setattr(client._submitter, "_plan", interrupted)
    with pytest.raises(UsageProblem, match="run the cell again"):
        run(client, ["a", "b"], name="y", reuse="x")
    monkeypatch.undo()
    assert [batch.name for batch in client.store.batches()] == []
    assert len(sim.ledger()) == 1
    assert mark("b") in run(client, ["a", "b"], name="y").answers()[1]


def test_a_batch_that_came_to_be_used_meanwhile_is_not_forgotten(make_client, monkeypatch):
    """The journal itself checks, in the transaction that deletes."""
    client = make_client()
    run(client, ["a"])
    book = client.store.spending.book

    def interrupted(spends):
        book(spends)
        run(make_client(), ["a", "b"], name="y", reuse="x")

    monkeypatch.setattr(client.store.spending, "book", interrupted)
    with pytest.raises(UsageProblem, match="y use answers of x"):
        client.forget(client.get("x"), confirm=True)
    assert all(client.get("y").answers())
