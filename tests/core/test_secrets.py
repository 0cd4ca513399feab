"""No key gets anywhere but into a request: five providers, both doors, whatever goes wrong."""

import asyncio
import json
import logging
import re
import traceback

import pytest
from IPython.core.interactiveshell import InteractiveShell
from support import KEYS, until

from jupyter_llm_batch import Settings
from jupyter_llm_batch.core.errors import KeyRefused, LLMBatchError
from jupyter_llm_batch.notebook import extension
from jupyter_llm_batch.providers import registry

#: The model that each provider is asked for, and the variable of its key.
PROVIDERS = {
    "openai": ("openai:gpt-5-mini", "OPENAI_API_KEY"),
    "anthropic": ("anthropic:claude-haiku-4-5", "ANTHROPIC_API_KEY"),
    "google": ("google:gemini-2.5-flash", "GEMINI_API_KEY"),
    "azure": ("azure:deployment", "AZURE_OPENAI_API_KEY"),
    "groq": ("groq:llama", "GROQ_API_KEY"),
}

#: Headers and queries with a value that is no stand-in for one.
_SENT = re.compile(
    r"""(?ix) (?:authorization|api-key) ['"]? \s* [:=,] \s* b?['"]? (?!<|\[)\S | [?&]key=(?!\[)"""
)


def refusal(provider, key):
    """Return a provider's 401 that repeats the key, whole and masked."""
    message = (
        f"Incorrect API key provided: {key}, that is {key[:7]}********{key[-4:]} (see ?key={key})"
    )
    kinds = {
        "anthropic": {
            "type": "error",
            "error": {"type": "authentication_error", "message": message},
        },
        "google": {"error": {"code": 401, "message": message, "status": "UNAUTHENTICATED"}},
    }
    plain = {"error": {"message": message, "type": "invalid_request_error", "code": key}}
    return json.dumps(kinds.get(provider, plain))


class Case:
    """One provider under a fake key, and everything that was said and written about it."""

    def __init__(self, provider, sim, make_client, folder):
        self.provider, self.sim, self.folder = provider, sim, folder
        self.model, self.variable = PROVIDERS[provider]
        self.key = KEYS[provider]
        environ = sim.environ() | {"AZURE_OPENAI_ENDPOINT": f"{sim.url}/azure"}
        self.client = make_client(
            environ=environ | {self.variable: self.key},
            settings=Settings(servers={"groq": f"{sim.url}/openai/v1"}),
        )
        self.seen = []

    def refuse(self):
        """From now on every request is refused, and the key repeated."""
        body = refusal(self.provider, self.key)
        self.sim.fault(action="status", status=401, body=body, times=None)

    def look(self, handle):
        """Take down everything that can be printed of a batch and its client."""
        client = self.client
        adapter = client.adapter(self.provider)
        account = adapter.account(client.store.salt())
        self.seen += [repr(each) for each in (handle, client, adapter, account, client.keys)]
        self.seen += [repr(handle.record), repr(handle.snapshot()), str(vars(handle))]
        self.seen += [
            repr(client.store.jobs(handle.id)),
            repr(client.store.events.of_batch(handle.id)),
        ]
        self.seen += [repr(handle.results(partial=True)), repr(handle.answers(partial=True))]

    def check(self, *texts):
        """Fail if the key, a telling part of it or a header's value is anywhere."""
        texts = [*self.seen, *texts]
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert any(path.name == "journal.sqlite" for path in files)
        texts += [path.read_bytes().decode(errors="replace") for path in files]
        for text in texts:
            for part in (self.key, self.key[4:14], self.key[-10:]):
                assert part not in text, text[max(0, text.find(part) - 200) :][:400]
            found = _SENT.search(text)
            assert found is None, text[max(0, found.start() - 100) :][:300]


@pytest.fixture(params=PROVIDERS)
def case(request, sim, make_client, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "anthropic", "google_genai", "httpx2", "httpcore2", "jupyter_llm_batch"):
        caplog.set_level(logging.DEBUG, logger=name)
    return Case(request.param, sim, make_client, tmp_path)


def failures(case):
    """Return the tracebacks, plain and with variables, of calls that meet the refused key."""
    shell = InteractiveShell()
    told = []
    for name in ("retrieve", "cancel"):
        adapter = registry.make(case.provider, case.client.environ, case.client.settings.servers)
        try:
            asyncio.run(finished(adapter, getattr(adapter, name)("batches/batch_0")))
        except KeyRefused as error:
            told.append("".join(traceback.format_exception(error)))
            for mode in ("Verbose", "Context"):
                shell.InteractiveTB.set_mode(mode)
                found = shell.InteractiveTB.structured_traceback(
                    type(error), error, error.__traceback__
                )
                told.append("\n".join(found))
    shell.history_manager.end_session()
    return told


async def finished(adapter, call):
    """Await a call and close the adapter's connections."""
    try:
        return await call
    finally:
        await adapter.close()


def test_python_shows_no_key(case, caplog, capfd):
    """Success, refusal, retry and look-ups from Python: nothing printed or written has the key."""
    handle = case.client.submit(name="x", over=["a", "b [[sim:fail-400]]"], model=case.model)
    case.look(handle.wait(60))
    case.refuse()
    refused = case.client.submit(name="y", over=["c"], model=case.model)
    until(lambda: case.client.store.jobs(refused.id)[0].error)
    case.look(refused)
    told = failures(case)
    assert len(told) == 6
    assert any("[key]" in text for text in told)
    for action in (refused.refresh, refused.lost, refused.resolve, handle.retry):
        try:
            action()
        except LLMBatchError as error:
            told.append("".join(traceback.format_exception(error)))
    out, err = capfd.readouterr()
    assert len(caplog.records) > 10
    logged = [f"{each.getMessage()} {each.exc_text} {each.__dict__}" for each in caplog.records]
    case.check(caplog.text, out, err, *told, *logged)


def test_the_magic_shows_no_key(case, caplog, capsys, monkeypatch, tmp_path):
    """The same in a notebook, with doctor, dashboard, panel, errors and history."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "jupyter_llm_batch")
    try:
        controller = extension._loaded[id(shell)][0].commands().controller
        controller.config.servers = case.client.settings.servers
        controller.use(case.client)
        cell = f'%%llm_batch x -m {case.model} --over ["a", "b [[sim:fail-400]]"] --wait\n'
        assert shell.run_cell(cell + "Say {{ item }}", store_history=True).success
        case.refuse()
        cell = f'%%llm_batch y -m {case.model} --over ["c"]\n'
        assert shell.run_cell(cell + "Say {{ item }}", store_history=True).success
        refused = case.client.get("y")
        until(lambda: case.client.store.jobs(refused.id)[0].error)
        case.look(refused)
        for line in ("", "doctor", "status x", "status y", "errors x", "errors y", "show x 0",
                     "history", "resolve y", "retry x", "results y --partial"):  # fmt: skip
            shell.run_cell(f"%llm_batch {line}", store_history=True)
        panels = [repr(each) for each in controller.panels.__dict__.values()]
        typed = [str(entry) for entry in shell.history_manager.get_range(output=True)]
    finally:
        extension.unload(shell)
        shell.history_manager.end_session()
    out, err = capsys.readouterr()
    assert "present" in out
    assert "refused" in out + err or "401" in out + err
    case.check(out, err, caplog.text, *panels, *typed)
