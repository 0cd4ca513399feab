"""Which notebook a kernel works for, and which batch a name means there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import nbformat
import pytest
from support import mark, ok, until

from jupyter_llm_batch.cli.choose import check_unambiguous, choose_batch
from jupyter_llm_batch.client import ownership
from jupyter_llm_batch.core import identity
from jupyter_llm_batch.core.errors import NotConfirmed, NotFound, UsageProblem
from jupyter_llm_batch.core.identity import Identity
from jupyter_llm_batch.notebook.config import LLMBatch
from jupyter_llm_batch.notebook.controller import Controller

MODEL = "openai:gpt-5-mini"
FOLDER = Identity("/work", is_folder=True)


def ask(client, item, **more):
    return client.submit("Q {{ item }}", name="x", over=[item], model=MODEL, **more)


def test_a_name_means_what_this_kernel_asked(make_client):
    """Of two kernels in one folder that use one name, each has its own answers."""
    one, two = make_client(notebook=FOLDER), make_client(notebook=FOLDER)
    ask(one, "a").wait(60)
    second = ask(two, "b")
    second.wait(60)
    assert mark("Q a") in one.get("x").answers()[0]
    assert mark("Q b") in two.get("x").answers()[0]
    assert mark("Q b") in one.get("x#2").answers()[0]
    assert mark("Q b") in make_client(notebook=FOLDER).get("x").answers()[0]
    ask(one, "a")  # attaches: nothing else changes what `x` means for the other
    assert two.get("x").id == second.id


def test_another_kernels_batch_is_not_acted_on_without_asking(make_client, sim):
    """Where only the folder is known, what this kernel did not send is named, and not cancelled."""
    sim.behave(seconds=1000)
    batch = ask(make_client(notebook=FOLDER), "a")
    other = make_client(notebook=FOLDER)
    with pytest.raises(NotConfirmed, match=r"x#1 was not sent by this kernel: .* in /work, 1 row"):
        other.get("x").cancel()
    assert not batch.record.cancel_requested
    other.get("x").cancel(confirm=True)
    batch.wait(60)
    with pytest.raises(NotConfirmed, match="add confirm=True to retry it"):
        other.get("x").retry(unbilled=True)
    with pytest.raises(NotConfirmed, match="add confirm=True to forget it"):
        other.forget(other.get("x"))
    # A notebook that is known by its path may be restarted, and acts on its own batches.
    handle = ask(make_client(notebook="nb.ipynb"), "b")
    make_client(notebook="nb.ipynb").get("x").cancel()
    assert handle.record.cancel_requested


def test_a_notebook_that_was_known_by_its_folder_attaches(make_client, sim):
    """What was journaled before a notebook had an identity of its own is not bought again."""
    first = ask(make_client(notebook=FOLDER, simulated=False), "a").wait(60)
    client = make_client(notebook=Identity("/work/nb.ipynb", former=("/work",)), simulated=False)
    assert client.get("x").id == first.id
    assert ask(client, "a").id == first.id
    more = client.submit("Q {{ item }}", name="x", over=["a", "b"], model=MODEL).wait(60)
    assert (more.record.notebook, more.record.reused) == ("/work/nb.ipynb", 1)
    assert len(sim.ledger()) == 2


def test_the_folder_is_that_of_the_import(monkeypatch, tmp_path):
    """`os.chdir` later changes nothing."""
    monkeypatch.chdir(tmp_path)
    identity.current_notebook.cache_clear()
    assert identity.current_notebook() == Identity(identity.FOLDER, is_folder=True)
    assert str(tmp_path) != identity.FOLDER


def test_a_script_that_a_notebook_starts_is_not_the_notebook(monkeypatch):
    """The session's variable is inherited by every process; only a kernel takes it for itself."""
    monkeypatch.setenv("JPY_SESSION_NAME", "/work/outer.ipynb")
    identity.current_notebook.cache_clear()
    assert identity.current_notebook().is_folder
    identity.current_notebook.cache_clear()


def test_a_path_that_comes_late_is_another_name_of_the_same_notebook(shell, make_client, sim):
    """VS Code's variable does not change who a kernel is; its earlier batches are found."""
    early = ask(make_client(notebook="/work/late.ipynb"), "a").wait(60)
    controller = Controller(shell, LLMBatch(model=MODEL), FOLDER)
    controller.use(make_client(notebook=FOLDER))
    assert controller.client.batches() == []
    shell.user_ns["__vsc_ipynb_file__"] = "/work/late.ipynb"
    assert controller.client.notebook == "/work"
    assert ask(controller.client, "a").id == early.id
    assert identity.notebook_of_shell(shell.user_ns) == Identity(
        "/work/late.ipynb", former=(identity.FOLDER,)
    )


def test_an_executed_notebook_is_itself(tmp_path):
    """`jupyter execute` names the notebook; the session of an outer notebook is not its own."""
    code = (
        "import json, os\nimport jupyter_llm_batch\nos.chdir('..')\n"
        "from jupyter_llm_batch.core import identity\n"
        "open(os.environ['SAID'], 'w').write(json.dumps(identity.current_notebook()))"
    )
    path = tmp_path / "inner" / "report.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
    said = tmp_path / "said.json"
    env = os.environ | {"JPY_SESSION_NAME": str(tmp_path / "outer.ipynb"), "SAID": str(said)}
    runner = Path(sys.executable).with_name("jupyter-execute")
    subprocess.run([runner, "report.ipynb"], cwd=path.parent, env=env, check=True, timeout=120)
    assert json.loads(said.read_text()) == [str(path), False, [str(path.parent)]]


def test_another_kernel_with_the_name_is_pointed_out(make_client, sim, monkeypatch):
    """Two live kernels of one identity that use a name are told which batch is whose."""
    sim.behave(seconds=1000)
    first = ask(make_client(), "a")
    until(lambda: first.snapshot().safe_to_close)
    client = make_client()
    monkeypatch.setattr(
        ownership, "is_driven_elsewhere", lambda _store, batch: batch.id == first.id
    )
    assert "another running kernel of this notebook uses the name x" in ask(client, "b").passing


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sentimnt", "no batch 'sentimnt' in this notebook: did you mean 'sentiment'?"),
        ("zzz", "; there are sentiment, n5, n4, n3, n2 and 2 others: `%llm_batch history`"),
        ("x", "; another notebook has one: '/my work/b.ipynb::x'"),
    ],
)
def test_an_unknown_name_gets_one_short_hint(make_client, name, said):
    """The nearest name, or a few, or where the name means something."""
    client = make_client()
    for each in (*(f"n{number}" for number in range(6)), "sentiment"):
        client.add("a", name=each, model=MODEL)
        client.submit("a", name=each, model=MODEL).wait(60)
    ask(make_client(notebook="/my work/b.ipynb"), "a")
    with pytest.raises(NotFound) as caught:
        client.get(name)
    assert said.replace("'/my", '"/my').replace("::x'", '::x"') in str(caught.value)


def test_a_terminal_acts_on_the_one_that_is_named(make_client, sim):
    """Of several batches under way with one name, a bare name cancels none; a version does."""
    sim.behave(seconds=1000)
    one, two = make_client(notebook=FOLDER), make_client(notebook=FOLDER)
    first, second = ask(one, "a").record, ask(two, "b").record
    batches = one.store.batches()
    for bare in ("x", "/work::x"):
        with pytest.raises(UsageProblem, match=f"x#1 .id {first.id}., x#2 .id {second.id}"):
            check_unambiguous(batches, choose_batch(batches, bare), bare)
    for exact in ("x#1", first.id, f"/work::{first.id[:6]}"):
        chosen = choose_batch(batches, exact)
        check_unambiguous(batches, chosen, exact)
        assert chosen.id == first.id
    with pytest.raises(NotFound, match="did you mean 'xyzzy'"):
        choose_batch([*batches, msgspec.structs.replace(first, name="xyzzy")], "xyzz")


def test_a_batch_of_another_notebook_is_named_with_it(make_client):
    """NOTEBOOK::NAME is a name everywhere; two notebooks that it fits are a question."""
    first = ask(make_client(notebook="/a/b.ipynb"), "a")
    client = make_client()
    assert client.get("b.ipynb::x").id == first.id
    ask(make_client(notebook="/c/b.ipynb"), "a")
    with pytest.raises(UsageProblem, match="may be a batch of several notebooks: /c/b"):
        client.get("b.ipynb::x")


def test_a_line_acts_on_another_kernels_batch_with_yes_only(shell, make_client, sim):
    """The magic asks as Python does, and says `--yes`."""
    sim.behave(seconds=1000)
    batch = ask(make_client(notebook=FOLDER), "a")
    shell.controller.use(make_client(notebook=FOLDER))
    error = shell.run_cell("%llm_batch cancel x").error_in_exec
    assert "add --yes to cancel it" in str(error)
    assert not batch.record.cancel_requested
    ok(shell, "%llm_batch cancel x --yes")
    assert batch.record.cancel_requested
