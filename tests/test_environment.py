"""What the environment may bring: certificates, proxies, folders, names, outputs."""

import os
from pathlib import Path

import pytest
from support import mark, until

from jupyter_llm_batch import reaching
from jupyter_llm_batch.client import Client
from jupyter_llm_batch.errors import UsageProblem
from jupyter_llm_batch.providers import network

MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]
KEYS = {
    "OPENAI_API_KEY": "sim-0penAiKey0fTheTests7x",
    "ANTHROPIC_API_KEY": "sim-ant-Anthr0picKey0fTests",
    "GEMINI_API_KEY": "sim-AIza-Go0gleKey0fTheTests",
}
#: What breaks every HTTP client that is built, and what says so.
BROKEN = {
    "SSL_CERT_FILE": ("/nowhere/ca.pem", "/nowhere/ca.pem"),
    "ALL_PROXY": ("socks5://user:hidden@127.0.0.1:9", "socksio"),
    "HTTPS_PROXY": ("gopher://127.0.0.1:9", "gopher://"),
}


@pytest.fixture(params=BROKEN)
def broken(request, monkeypatch):
    """An environment in which no client can be built; return variable and what names its fault."""
    for name in [*os.environ]:
        if name.upper().endswith("_PROXY") or name.startswith("SSL_CERT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(request.param, BROKEN[request.param][0])
    monkeypatch.setattr(network, "find_spec", lambda _: None)
    return request.param, BROKEN[request.param][1]


@pytest.mark.parametrize("model", MODELS)
def test_a_broken_environment_is_one_line_before_anything_is_sent(broken, tmp_path, model):
    """Variable and fault are named, no password is, and no batch is made."""
    client = Client(environ=KEYS, folder=tmp_path / "data", notebook="nb.ipynb")
    with pytest.raises(UsageProblem) as said:
        client.submit(name="x", over=["a"], model=model)
    words = str(said.value)
    assert all(each in words for each in broken)
    assert "\n" not in words
    assert "hidden" not in words
    assert client.batches() == []
    client.close()


def test_a_batch_on_its_way_waits_for_a_better_environment(make_client, sim, monkeypatch, broken):
    """Its panel has the line, nothing is tried meanwhile, and no answer is lost."""
    client = make_client()
    sim.behave(seconds=1000)
    handle = client.submit(name="x", over=["a"], model=MODELS[0])
    until(lambda: client.store.jobs(handle.id)[0].remote_id)
    monkeypatch.setattr(network, "_is_local", lambda _: False)
    until(lambda: broken[0] in str(handle.snapshot()))
    sim.advance(2000)
    monkeypatch.undo()
    client.poller()
    handle.refresh()
    assert mark("a") in handle.wait(60).answers()[0]


@pytest.mark.parametrize("model", MODELS)
def test_a_server_of_this_machine_needs_nothing_of_the_environment(broken, client, model):
    """The simulator answers whatever is said of proxies and certificates."""
    assert mark("a") in client.submit("a", name="x", model=model).wait(60).answers()
    assert mark("b") in client.submit("b", name="y", model=model, realtime=True).wait(60).answers()


def test_looking_at_servers_outlives_a_broken_environment(broken, client, sim):
    """What `doctor` shows is the line for those outside, and an answer of those on this machine."""
    places = {"openai": sim.openai_url, "google": "https://192.0.2.1"}
    found = client.background.call(reaching.look(places, {})).result()
    assert found["openai"].status is not None
    assert broken[0] in found["google"].remark


def test_a_file_without_a_certificate_is_named(tmp_path, monkeypatch):
    """It is there, and is no list of certificates; what is mended counts at once."""
    import certifi

    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(UsageProblem, match="holds no certificate"):
        network.check("https://192.0.2.1")
    path.write_bytes(Path(certifi.where()).read_bytes())
    network.check("https://192.0.2.1")
