"""Opening the journal: every released version, every kind of damage, every file system."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from support import mark

from jupyter_llm_batch import filesystems, journal
from jupyter_llm_batch.client import Client
from jupyter_llm_batch.errors import StoreProblem, UsageProblem
from jupyter_llm_batch.store import Store

JOURNALS = Path(__file__).parent / "journals"
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
    monkeypatch.setitem(journal.MIGRATIONS, journal.SCHEMA_VERSION, broken)
    with pytest.raises(StoreProblem, match="cannot be used"):
        Store(path.parent, time.time)
    assert schema(path) == before
    monkeypatch.undo()
    Store(path.parent, time.time).close()


def test_eight_processes_open_an_old_journal_at_once(released):
    """One migrates, all can use it."""
    script = (
        "import sys, time; from pathlib import Path; from jupyter_llm_batch.store import Store\n"
        "s = Store(Path(sys.argv[1]), time.time); print(s.schema_version(), len(s.batches()))"
    )
    folder = str(released / "simulated")
    children = [
        subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    said = {child.communicate()[0].strip() for child in children}
    assert len(said) == 1
    assert said.pop().startswith(f"{journal.SCHEMA_VERSION} ")
    assert len([*(released / "simulated" / "backups").iterdir()]) == 1
