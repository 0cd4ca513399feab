"""Opening the journal: every released version, every kind of damage, every file system."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from support import mark

from jupyter_llm_batch.core.errors import StoreProblem, UsageProblem
from jupyter_llm_batch.storage import damage, migrations
from jupyter_llm_batch.storage.store import Store

JOURNALS = Path(__file__).parents[1] / "journals"
MODEL = "openai:gpt-5-mini"


@pytest.fixture(params=sorted(each.name for each in JOURNALS.iterdir()))
def released(request, tmp_path):
    """A copy of the stored example of a released version."""
    shutil.copytree(JOURNALS / request.param, tmp_path / "data")
    return tmp_path / "data"


def schema(path):
    """Return the schema of a journal, as SQLite keeps it, without blanks."""
    db = sqlite3.connect(path)
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    found = {name: " ".join(sql.split()) for name, sql in rows}
    db.close()
    return found


# -- released versions -----------------------------------------------------------------------------


def test_a_released_journal_opens_and_its_answers_are_there(released, make_client):
    """Every finished batch of an earlier release gives its answers on the right rows."""
    client = make_client(notebook="example.ipynb")
    frame = client.get("frame").answers()
    assert [*frame["text"]] == ["one", "two", "one"]
    assert [*frame.index] == [7, 7, 9]
    for text, answer in zip(frame["text"], frame["answer"], strict=True):
        assert mark(f"Say {text}") in answer
    assert [mark(each) in client.get("listed#2").answers()[i] for i, each in enumerate("abc")] == [
        True, True, True,
    ]  # fmt: skip
    assert client.get("judged").answers().keys() == {"k"}
    assert client.get("mixed").answers()[1] is None
    assert mark("hello") in client.get("claude").answers()[0]
    assert mark("hello") in client.get("gemini").answers()[0]


def test_a_released_journal_goes_on(released, make_client, sim):
    """What an earlier release had planned is sent, once, and its draft can be submitted."""
    client = make_client(notebook="example.ipynb")
    assert [handle.name for handle in client.resume()] == ["unsent"]
    answers = client.get("unsent").wait(60).answers()
    assert mark("later") in answers[0]
    assert mark("still later") in answers[1]
    assert mark("collected") in client.submit_draft("draft").wait(60).answers()
    assert len(sim.ledger()) == 3


def test_a_released_journal_buys_nothing_again(released, make_client, sim):
    """The same cells attach to what an earlier release paid for, with every provider."""
    client = make_client(notebook="example.ipynb")
    again = [
        client.submit(name="listed", over=["a", "b", "c"], model=MODEL, max_tokens=50),
        client.submit(
            name="claude", over=["hello"], model="anthropic:claude-haiku-4-5", max_tokens=50
        ),
        client.submit(name="gemini", over=["hello"], model="google:gemini-2.5-flash"),
    ]
    assert all(handle.attached for handle in again)
    assert sim.ledger() == []


def test_a_migration_leaves_a_copy_of_the_journal_as_it_was(released, tmp_path):
    """The copy opens with the version before, row for row."""
    path = released / "simulated" / "journal.sqlite"
    db = sqlite3.connect(path)
    before = db.execute("SELECT id, record FROM batch ORDER BY id").fetchall()
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    Store(path.parent, time.time).close()
    (copy,) = (path.parent / "backups").iterdir()
    assert f"schema{version}-" in copy.name
    db = sqlite3.connect(copy)
    assert db.execute("PRAGMA user_version").fetchone()[0] == version
    assert db.execute("SELECT id, record FROM batch ORDER BY id").fetchall() == before
    db.close()


def test_a_migrated_journal_has_the_schema_of_a_new_one(released, tmp_path):
    """Migrations lead to what `schema.sql` makes."""
    Store(released / "simulated", time.time).close()
    Store(tmp_path / "new", time.time).close()
    new = schema(tmp_path / "new" / "journal.sqlite")
    assert schema(released / "simulated" / "journal.sqlite") == new


def test_a_migration_that_fails_changes_nothing(released, monkeypatch):
    """Each migration is one transaction: half of one is never seen."""
    path = released / "simulated" / "journal.sqlite"
    before = schema(path)
    broken = (
        "CREATE TABLE half (x)",
        "INSERT INTO nowhere VALUES (1)",
    )
    monkeypatch.setitem(migrations.MIGRATIONS, migrations.SCHEMA_VERSION, broken)
    with pytest.raises(StoreProblem, match="cannot be used"):
        Store(path.parent, time.time)
    assert schema(path) == before
    monkeypatch.undo()
    Store(path.parent, time.time).close()


def test_eight_processes_open_an_old_journal_at_once(released):
    """One migrates, all can use it."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from jupyter_llm_batch.storage.store import Store\n"
        "s = Store(Path(sys.argv[1]), time.time); print(s.schema_version(), len(s.batches()))"
    )
    folder = str(released / "simulated")
    children = [
        subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    said = {child.communicate()[0].strip() for child in children}
    assert len(said) == 1
    assert said.pop().startswith(f"{migrations.SCHEMA_VERSION} ")
    assert len([*(released / "simulated" / "backups").iterdir()]) == 1


# -- damage ----------------------------------------------------------------------------------------


def garbage_header(path):
    with path.open("rb+") as file:
        file.write(b"\0garbage" * 4)


def cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


def page_overwritten(path):
    """Overwrite the page that holds the events, which nothing else needs."""
    db = sqlite3.connect(path)
    page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with path.open("rb+") as file:
        file.seek((page - 1) * size)
        file.write(b"\xee" * size)


def table_dropped(path):
    db = sqlite3.connect(path)
    db.execute("DROP TABLE part")
    db.commit()
    db.close()


def emptied(path):
    os.truncate(path, 0)


def deleted(path):
    path.unlink()


DAMAGES = [garbage_header, cut_short, page_overwritten, table_dropped, emptied, deleted]


@pytest.fixture
def paid(make_client, sim):
    """A journal with a batch that was paid for; its client is closed."""
    client = make_client()
    client.submit("Say {{ item }}", name="x", over=["a", "b"], model=MODEL).wait(60)
    client.close()
    assert len(sim.ledger()) == 2
    return client.store.path


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_journal_is_set_aside_byte_by_byte(paid, make_client, harm):
    """It is reported in one line, kept as it was, and every payload stays."""
    harm(paid)
    before = paid.read_bytes() if paid.exists() and paid.stat().st_size else None
    files = sorted(each for each in paid.parent.rglob("batches/*/*"))
    client = make_client()
    words = client.store.loss.words
    assert "\n" not in words
    assert sorted(each for each in paid.parent.rglob("batches/*/*")) == files
    if before is not None:
        (kept,) = (paid.parent / "damaged").rglob("journal.sqlite")
        assert kept.read_bytes() == before
        assert str(kept.parent) in words


@pytest.mark.parametrize("harm", [page_overwritten, table_dropped])
def test_what_can_be_read_of_a_damaged_journal_goes_on(paid, make_client, sim, harm):
    """A batch of which every part is there keeps its answers, and its cell attaches."""
    harm(paid)
    client = make_client()
    assert client.store.loss.recovered == 1
    assert client.store.loss.folders == []
    assert mark("Say a") in client.get("x").answers()[0]
    assert client.submit("Say {{ item }}", name="x", over=["a", "b"], model=MODEL).attached
    assert len(sim.ledger()) == 2


@pytest.mark.parametrize("harm", [garbage_header, cut_short, emptied, deleted])
def test_a_cell_that_the_journal_forgot_asks_before_it_pays(paid, make_client, sim, harm):
    """After a loss nothing is sent under a name that is not known, unless the user says so."""
    harm(paid)
    client = make_client()
    ask = {"name": "x", "over": ["a", "b"], "model": MODEL}
    with pytest.raises(UsageProblem, match="--resubmit"):
        client.submit("Say {{ item }}", **ask)
    assert len(sim.ledger()) == 2
    client.submit("Say {{ item }}", resubmit=True, **ask).wait(60)
    assert len(sim.ledger()) == 4
    assert client.submit("Say {{ item }}", **ask).attached


def test_a_loss_is_settled_by_the_user_alone(paid, make_client, sim):
    """It is remembered over restarts, until the user says that it is known."""
    paid.unlink()
    make_client().close()
    client = make_client()
    assert client.store.loss is None
    assert client.store.losses().folders
    with pytest.raises(UsageProblem, match="doctor"):
        client.submit(name="y", over=["c"], model=MODEL)
    client.store.settle_loss()
    client.submit(name="y", over=["c"], model=MODEL).wait(60)
    assert len(sim.ledger()) == 3


def test_a_job_of_a_recovered_journal_is_looked_up_before_it_is_sent(make_client, sim):
    """The newest pages may be the lost ones: a job that stands as planned may run already."""
    client = make_client()
    handle = client.submit(name="x", over=["a"], model=MODEL).wait(60)
    job = client.store.jobs(handle.id)[0]
    client.close()
    db = sqlite3.connect(client.store.path)
    stale = msgspec.structs.replace(
        job, state="planned", attempts=0, remote_id=None, parts={}, tally={}
    )
    db.execute("UPDATE job SET state = 'planned', record = ?", [msgspec.json.encode(stale)])
    db.execute("UPDATE batch SET finished_at = NULL")
    db.execute("UPDATE pack SET data = x'00' WHERE kind = 'outcomes'")
    db.execute("UPDATE pack SET data = x'00000000' WHERE kind = 'owners'")
    db.execute("DROP TABLE part")
    db.commit()
    db.close()
    client = make_client()
    assert client.store.loss.recovered == 1
    assert mark("a") in client.get("x").wait(60).answers()[0]
    assert len(sim.ledger()) == 1


def test_damage_found_while_running_is_one_line_and_mended_at_the_next_start(
    paid, make_client, monkeypatch
):
    """Every page is looked at after something was suspicious, whatever the journal's size."""
    monkeypatch.setattr(damage, "SMALL", 0)
    client = make_client()
    db = sqlite3.connect(paid)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'event'")
    db.execute("PRAGMA schema_version = 99")  # running connections read the schema again
    db.commit()
    db.close()
    with pytest.raises(StoreProblem, match="restart the kernel") as said:
        client.store.events.of_batch("x")
    assert "\n" not in str(said.value)
    client.close()
    assert make_client().store.loss.recovered == 1


def test_a_journal_moved_away_under_a_running_kernel_is_noticed(paid, make_client):
    """Nothing is written into a file that no name leads to; put back, it goes on."""
    client = make_client()
    away = paid.with_name("elsewhere")
    paid.replace(away)
    with pytest.raises(StoreProblem, match="moved or deleted"):
        client.submit(name="y", over=["c"], model=MODEL)
    away.replace(paid)
    client.submit(name="y", over=["c"], model=MODEL).wait(60)


def test_a_sound_journal_loses_nothing_at_a_start(paid, make_client):
    """No loss is reported where there is none."""
    client = make_client()
    assert client.store.loss is None
    assert client.store.losses() is None
    assert client.store.check() == ""
