"""Azure's deployments and OpenAI-compatible servers of the settings, against the simulator."""

import asyncio
import json

import pytest
from IPython.core.interactiveshell import InteractiveShell
from support import KEYS, mark, until

from jupyter_llm_batch import Outcome, Settings
from jupyter_llm_batch.core.errors import Undecided, UsageProblem
from jupyter_llm_batch.core.job import Job, Phase
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.core.result import Usage
from jupyter_llm_batch.costs import prices
from jupyter_llm_batch.notebook import extension
from jupyter_llm_batch.providers import registry
from jupyter_llm_batch.providers.openai import objects
from jupyter_llm_batch.storage import trust

AZURE = "azure:my-deployment"
GROQ = "groq:llama-3.3-70b"


@pytest.fixture
def azure(sim):
    """The variables that make the simulator an Azure resource."""
    return {"AZURE_OPENAI_ENDPOINT": f"{sim.url}/azure/", "AZURE_OPENAI_API_KEY": KEYS["azure"]}


@pytest.fixture
def servers(sim):
    """Settings under which the simulator is a compatible server."""
    return Settings(servers={"groq": f"{sim.url}/openai/v1"})


def creates(sim, path):
    """Count the creates that the simulator saw."""
    seen = sim.requests()
    return sum(each["method"] == "POST" and each["path"] == path for each in seen)


# -- Azure -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_deployment_answers(endpoint, make_client, azure, sim):
    """A batch goes through Azure's own create, whatever the lines ask for."""
    client = make_client(environ=azure)
    handle = client.submit(
        "Say {{ item }}", name="x", over=["a", "b [[sim:fail-400]]"], model=AZURE,
        endpoint=endpoint, retry=0,
    ).wait(60)  # fmt: skip
    answers = handle.answers()
    assert mark("Say a") in answers[0]
    assert answers[1] is None
    assert creates(sim, "/azure/openai/v1/batches") == 1
    job = client.store.jobs(handle.id)[0]
    assert (job.provider, job.model) == ("azure", "my-deployment")
    assert job.account.base_url == f"{sim.url}/azure/openai/v1"


@pytest.mark.parametrize(
    "endpoint",
    ["https://r.openai.azure.com", "https://R.openai.azure.com/", "https://r.openai.azure.com/openai",
     "https://r.openai.azure.com/openai/v1/", " https://r.openai.azure.com/openai/deployments/x "],
)  # fmt: skip
def test_every_way_to_write_the_address_is_the_same_account(endpoint):
    """The portal's address and those of samples lead to one base URL."""
    environ = {"AZURE_OPENAI_ENDPOINT": endpoint, "AZURE_OPENAI_API_KEY": "k"}
    account = registry.make("azure", environ).account(b"")
    assert account.base_url == "https://r.openai.azure.com/openai/v1"


def test_what_is_missing_is_named(make_client, azure):
    """Without key or address nothing is written, and the variable is named."""
    for name in azure:
        environ = {key: value for key, value in azure.items() if key != name}
        client = make_client(environ=environ)
        with pytest.raises(UsageProblem, match=f"{name} is not set"):
            client.submit(name="x", over=["a"], model=AZURE)
        assert client.batches() == []


def test_other_clouds_variables_do_not_count(azure):
    """Azure's adapter takes nothing of OpenAI's account, and the other way round."""
    openai = {
        "OPENAI_API_KEY": "sk-abcdefgh",
        "OPENAI_ORG_ID": "org",
        "OPENAI_BASE_URL": "http://h",
    }
    both = azure | openai
    assert registry.make("azure", both).account(b"") == registry.make("azure", azure).account(b"")
    assert registry.make("openai", both).account(b"") == registry.make("openai", openai).account(
        b""
    )
    with pytest.raises(UsageProblem, match="AZURE_OPENAI_API_KEY"):
        registry.make("azure", openai).check_key()


def test_no_room_at_the_door_is_a_wait(make_client, azure, sim):
    """Azure's 400 for too many queued tokens created nothing; the job goes out later, once."""
    body = {"error": {"code": "token_limit_exceeded", "message": "Too many enqueued tokens."}}
    sim.fault(
        method="POST", path="/azure/openai/v1/batches", action="status", status=400,
        body=json.dumps(body),
    )  # fmt: skip
    handle = make_client(environ=azure).submit(name="x", over=["a"], model=AZURE).wait(60)
    assert mark("a") in handle.answers()[0]
    assert creates(sim, "/azure/openai/v1/batches") == 2


def test_a_create_that_was_lost_is_found_by_its_label(make_client, azure, sim):
    """A create whose answer is lost is found in Azure's listing and paid once."""
    sim.fault(method="POST", path="/azure/openai/v1/batches", action="accept_then_drop")
    handle = make_client(environ=azure).submit(name="x", over=["a"], model=AZURE).wait(60)
    assert mark("a") in handle.answers()[0]
    assert creates(sim, "/azure/openai/v1/batches") == 1


def test_counts_that_are_null_and_empty_file_ids_are_read():
    """What Azure documents of a batch that failed as a whole: its error file may be empty."""
    body = {
        "id": "batch_1", "status": "failed", "created_at": 1, "error_file_id": "file-1",
        "output_file_id": "", "metadata": None, "endpoint": None,
        "errors": {"data": [{"code": "model_not_found", "message": "No such deployment."}]},
        "request_counts": {"total": 10, "completed": None, "failed": None},
    }  # fmt: skip
    remote = objects.read_remote(json.dumps(body).encode())
    assert (remote.phase, remote.counts.total, remote.counts.done) == (Phase.ENDED, 10, 0)
    assert remote.rest is Outcome.FAILED
    assert remote.error == "No such deployment."
    assert remote.parts == {"errors": "file-1"}
    body["errors"]["data"][0]["code"] = "token_limit_exceeded"
    assert objects.read_remote(json.dumps(body).encode()).phase is Phase.LATER


def test_prices_of_azure_are_azures(sim):
    """Azure's batch price is not in the price data, so it stays unknown instead of OpenAI's."""
    assert prices.list_cost("azure", "gpt-5-mini", Usage(input=1000)) is None
    assert prices.list_cost("openai", "gpt-5-mini", Usage(input=1000)) is not None


def test_prices_of_a_server_go_by_its_address():
    """A server is priced by whose API it is, never by the name that the user gave it."""
    usage = Usage(input=1000)
    assert prices.list_cost("my-openai", "gpt-5-mini", usage, url="https://api.openai.com/v1")
    assert (
        prices.list_cost("mistral", "mistral-large-latest", usage, url="http://127.0.0.1:1/v1")
        is None
    )
    assert prices.list_cost("mistral", "mistral-large-latest", usage) is None


def test_hashes_name_the_provider():
    """The same request to another provider is another request; OpenAI's hash is as it was."""
    recipe = Recipe()
    found = {
        name: registry.make(name, {}, {"groq": "http://h/v1"}).meaning(recipe, "m")
        for name in ("openai", "azure", "groq")
    }
    assert len(set(found.values())) == 3
    assert found["openai"].replace(b'"openai"', b'"groq"') == found["groq"]


# -- servers of the settings -----------------------------------------------------------------------


def test_a_configured_server_answers_in_python(make_client, servers, sim):
    """``groq:MODEL`` goes to the configured server with the key in GROQ_API_KEY."""
    client = make_client(environ={"GROQ_API_KEY": KEYS["groq"]}, settings=servers)
    handle = client.submit("Say {{ item }}", name="x", over=["a"], model=GROQ).wait(60)
    assert mark("Say a") in handle.answers()[0]
    job = client.store.jobs(handle.id)[0]
    assert (job.provider, job.account.base_url) == ("groq", f"{sim.url}/openai/v1")


def test_a_configured_server_answers_in_a_notebook(make_client, sim, monkeypatch, tmp_path, capsys):
    """`%config LLMBatch.servers` makes the server usable with the next cell; doctor shows it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "jupyter_llm_batch")
    try:
        controller = extension._loaded[id(shell)][0].commands().controller
        controller.use(make_client(environ={"GROQ_API_KEY": KEYS["groq"]}))
        url = f"{sim.url}/openai/v1"
        assert shell.run_cell(f"%config LLMBatch.servers = {{'groq': {url!r}}}").success
        cell = f'%%llm_batch x -m {GROQ} --over ["a"] --wait\nSay {{{{ item }}}}'
        assert shell.run_cell(cell).success
        assert mark("Say a") in shell.user_ns["x"][0]
        capsys.readouterr()
        assert shell.run_cell("%llm_batch doctor").success
        said = capsys.readouterr().out
        assert "groq key" in said
        assert KEYS["groq"] not in said
    finally:
        extension.unload(shell)
        shell.history_manager.end_session()


def test_old_results_are_read_when_the_server_is_gone(make_client, servers):
    """Answers, frames and the dashboard's line of a server that is configured no more."""
    client = make_client(environ={"GROQ_API_KEY": KEYS["groq"]}, settings=servers)
    client.submit("Say {{ item }}", name="x", over=["a"], model=GROQ).wait(60)
    client.close()
    later = make_client(environ={})
    handle = later.get("x")
    assert mark("Say a") in handle.answers()[0]
    assert len(handle.frame()) == 1
    assert handle.results()[0].outcome is Outcome.OK
    assert "x ·" in repr(handle)


def submitted(client, sim):
    """A batch under way at a configured server, which ends as soon as its kernel is gone."""
    sim.behave(seconds=1000)
    handle = client.submit("Say {{ item }}", name="x", over=["a"], model=GROQ)
    until(lambda: handle.snapshot().safe_to_close)
    return handle


def test_a_batch_goes_on_before_the_server_is_configured_again(make_client, servers, sim):
    """After a restart, or in a terminal, no cell has named the server: the journal knows it."""
    environ = {"GROQ_API_KEY": KEYS["groq"]}
    client = make_client(environ=environ, settings=servers)
    submitted(client, sim)
    client.close()
    sim.advance(2000)
    again = make_client(environ=environ)
    assert mark("Say a") in again.get("x").wait(60).answers()[0]


def test_a_batch_of_a_server_that_nothing_names_is_paused(make_client, servers, sim):
    """As in journals of before: it waits, says why, and goes on later."""
    environ = {"GROQ_API_KEY": KEYS["groq"]}
    client = make_client(environ=environ, settings=servers)
    submitted(client, sim)
    with client.store.write() as db:
        db.execute("DELETE FROM meta WHERE key = 'servers'")
    client.close()
    sim.advance(2000)
    paused = make_client(environ=environ)
    snapshot = paused.get("x").snapshot()
    assert "groq" in snapshot.line
    assert "LLMBatch.servers" in str(snapshot)
    paused.close()
    again = make_client(environ=environ, settings=servers)
    assert mark("Say a") in again.get("x").wait(60).answers()[0]


def test_lines_of_a_vanished_package_are_not_taken_for_openais():
    """Results of a provider whose package is gone are refused, not read wrongly."""
    reader = registry.reader("acme")
    line = b'{"custom_id": "b-1", "response": {"status_code": 200, "body": {}}, "error": null}'
    assert reader.parse(line, "chat").custom_id == "b-1"
    with pytest.raises(UsageProblem, match="install its package"):
        reader.parse(b'{"id": "b-1", "text": "hello"}', "chat")


def test_a_server_on_this_machine_needs_no_key():
    """On loopback a dummy stands for the key; elsewhere the variable is asked for."""
    local = registry.make("my-llm", {}, {"my-llm": "http://localhost:8000/v1"})
    local.check_key()
    assert local.account(b"").fingerprint == ""
    far = registry.make("my-llm", {}, {"my-llm": "https://llm.example/v1"})
    with pytest.raises(UsageProblem, match="MY_LLM_API_KEY is not set"):
        far.check_key()


def test_a_name_of_ours_cannot_be_configured_away(make_client, sim):
    """A server called like a provider is refused: its keys would go elsewhere."""
    client = make_client(settings=Settings(servers={"openai": "https://elsewhere.example/v1"}))
    with pytest.raises(UsageProblem, match="rename it"):
        client.submit(name="x", over=["a"], model="openai:gpt-5-mini")


def test_an_unknown_provider_names_the_setting(client):
    """A provider that nobody knows leads to the list of providers and to the setting."""
    with pytest.raises(UsageProblem, match=r"known are .*openai.*LLMBatch\.servers"):
        client.submit(name="x", over=["a"], model=GROQ)


def find(adapter, label, remotes):
    """Look a label up in a listing."""

    async def listing(since):
        for remote in remotes:
            yield remote

    adapter.list = listing
    job = Job(
        id="j", batch_id="b", round=0, number=0, provider="groq", model="m", endpoint="chat",
        rows=1, bytes=1, payload="p",
    )  # fmt: skip
    return asyncio.run(adapter.find(label, job, 0.0))


def remote(number, label=None):
    metadata = {objects.LABEL: label} if label else None
    body = {"id": f"batch_{number}", "status": "in_progress", "created_at": 5, "metadata": metadata}
    return objects.read_remote(json.dumps(body).encode())


def test_absent_is_said_only_of_a_server_that_keeps_labels():
    """Whether a lost create exists is undecided where jobs of that time bear no label at all."""
    adapter = registry.make("groq", {}, {"groq": "http://localhost/v1"})
    assert find(adapter, "mine", [remote(1, "mine")]).remote_id == "batch_1"
    assert find(adapter, "mine", []) is None
    assert find(adapter, "mine", [remote(1), remote(2, "other")]) is None
    with pytest.raises(Undecided) as caught:
        find(adapter, "mine", [remote(1)])
    assert [each.remote_id for each in caught.value.candidates] == ["batch_1"]


def test_a_server_that_a_journal_brings_along_gets_no_key(make_client, tmp_path, monkeypatch):
    """Only servers of this machine, and those that this user has named on it, are asked."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(trust, "_here", set())
    client = make_client(environ={"MINE_API_KEY": KEYS["odd"]}, settings=Settings())
    client.store.add_server("mine", "https://192.0.2.1/v1")
    client.store.add_server("here", "http://127.0.0.1:9/v1")
    assert {*client.context.servers.all()} == {"here"}
    with pytest.raises(UsageProblem, match=r"unknown provider 'mine'.*LLMBatch\.servers"):
        client.adapter("mine")
    named = make_client(settings=Settings(servers={"mine": "https://192.0.2.1/v1"}))
    named.context.servers.keep(["mine:model"])
    monkeypatch.setattr(trust, "_here", set())  # another process of this user
    assert {*make_client().context.servers.all()} == {"here", "mine"}
