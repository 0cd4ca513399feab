"""Where keys come from, how they are kept, and what nobody is asked for."""

import getpass
import json
import sys
import threading
import types

import keyring
import pytest
import some_keyrings as backends
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from support import KEYS as KEYS_OF_TESTS
from support import mark

import jupyter_llm_batch as llm_batch
from jupyter_llm_batch.client import keys, session
from jupyter_llm_batch.client.keys import KEYS, Chain, Keys
from jupyter_llm_batch.core.errors import UsageProblem, redact
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.notebook import extension
from jupyter_llm_batch.providers import registry
from jupyter_llm_batch.providers.shared import addresses

MODEL = "openai:gpt-5-mini"
KEY = KEYS_OF_TESTS["login"]
VARIABLE = "OPENAI_API_KEY"


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No key in the process, none known, no keyring but the test's own."""
    for name in registry.names():
        for variable in addresses.key_variables(name):
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TEST_KEYRING", str(tmp_path / "keyring.json"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())
    KEYS.forget()
    yield
    KEYS.forget()
    keyring.set_keyring(before)
    (tmp_path / "keyring.json").unlink(missing_ok=True)


def kept(tmp_path):
    """Return what the test's keyring holds."""
    path = tmp_path / "keyring.json"
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def real_client(make_client, sim, monkeypatch):
    """A client on the process's environment whose base URLs lead to the simulator."""
    for name, value in sim.environ().items():
        if not name.endswith("_KEY"):
            monkeypatch.setenv(name, value)
    client = session.use(make_client(environ=None))
    yield client
    session._current = None


@pytest.fixture
def colab(monkeypatch):
    """Colab's secrets as a kernel there has them; `asked` lists the names that were asked for."""
    module = types.ModuleType("google.colab.userdata")
    module.secrets, module.asked = {}, []

    def get(name):
        module.asked.append(name)
        if name not in module.secrets:
            raise LookupError(f"Secret {name} does not exist.")
        return module.secrets[name]

    module.get = get
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setitem(sys.modules, "google.colab.userdata", module)
    return module


# -- the order -------------------------------------------------------------------------------------


def test_the_environment_goes_first_then_colab_then_the_keyring(monkeypatch, colab):
    """Each place counts only where those before it have no key."""
    keyring.set_keyring(backends.File())
    keyring.set_password(keys.SERVICE, VARIABLE, KEY + "-ring")
    assert KEYS.find(VARIABLE, ask=True) == (KEY + "-ring", "keyring")
    KEYS.forget()
    colab.secrets[VARIABLE] = KEY + "-colab"
    assert Chain().variables([VARIABLE], ask=True)[VARIABLE] == KEY + "-colab"
    assert Chain().origin([VARIABLE]) == "Colab"
    monkeypatch.setenv(VARIABLE, KEY)
    assert Chain().variables([VARIABLE], ask=True)[VARIABLE] == KEY
    assert Chain().origin([VARIABLE]) == "environment"


def test_only_a_provider_that_is_asked_for_is_looked_up_and_only_once(real_client, colab):
    """A batch of one provider asks for that provider's key, and never again."""
    colab.secrets[VARIABLE] = KEY
    for number in range(2):
        handle = real_client.submit(name=f"x{number}", over=["a"], model=MODEL)
        assert mark("a") in handle.wait(60).answers()[0]
    assert colab.asked == [VARIABLE]


def test_given_variables_are_all_there_is(make_client, colab):
    """A client with an environment of its own, such as the simulator's, reads no other key."""
    keyring.set_keyring(backends.File())
    keyring.set_password(keys.SERVICE, VARIABLE, KEY)
    KEYS.save("ANTHROPIC_API_KEY", KEY)
    client = make_client(environ={}, simulated=False)
    for model in (MODEL, "anthropic:claude-haiku-4-5"):
        with pytest.raises(UsageProblem, match="_API_KEY is not set"):
            client.submit(name="x", over=["a"], model=model)
    assert colab.asked == []


def test_a_denied_secret_is_like_none(real_client, colab):
    """Colab's refusal leads to the message about the missing variable, and is asked again later."""
    with pytest.raises(UsageProblem, match=r"OPENAI_API_KEY is not set.*login openai.*simulator"):
        real_client.submit(name="x", over=["a"], model=MODEL)
    now = [0.0]
    mine = Keys(clock=lambda: now[0])
    assert mine.find(VARIABLE, ask=True) is None
    colab.secrets[VARIABLE] = KEY
    assert mine.find(VARIABLE, ask=True) is None
    now[0] += keys._AGAIN
    assert mine.find(VARIABLE, ask=True) == (KEY, "Colab")


@pytest.mark.parametrize("backend", [backends.Broken, keyring.backends.fail.Keyring])
def test_a_broken_keyring_is_like_none(backend, real_client):
    """Whatever a keyring raises, the message is about the missing variable; a login still works."""
    keyring.set_keyring(backend())
    with pytest.raises(UsageProblem, match="OPENAI_API_KEY is not set"):
        real_client.submit(name="x", over=["a"], model=MODEL)
    assert llm_batch.login("openai", KEY) == "this kernel"
    assert mark("a") in real_client.submit(name="x", over=["a"], model=MODEL).wait(60).answers()[0]


def test_a_keyring_that_does_not_answer_holds_nobody_up(monkeypatch):
    """After a moment it counts as empty; its late answer is taken, and it is asked only once."""
    monkeypatch.setattr(keys, "_PATIENCE", {True: 0.01, False: 0.01})
    backends.Stuck.let_go.clear()
    keyring.set_keyring(backends.Stuck())
    mine = Keys()
    before = threading.active_count()
    assert mine.find(VARIABLE, ask=True) is None
    assert mine.find(VARIABLE, ask=True) is None
    assert threading.active_count() == before + 1
    backends.Stuck.let_go.set()
    mine._asked[VARIABLE].result(30)
    assert mine.find(VARIABLE) == ("sim-of-a-slow-keyring", "keyring")


def test_the_background_asks_nobody_who_might_show_a_dialog(colab):
    """Without the user's doing, and on other threads, neither Colab nor such a keyring is asked."""
    keyring.set_keyring(backends.File())
    keyring.set_password(keys.SERVICE, VARIABLE, KEY)
    colab.secrets[VARIABLE] = KEY
    assert KEYS.find(VARIABLE) is None
    found = []
    thread = threading.Thread(target=lambda: found.append(KEYS.find(VARIABLE, ask=True)))
    thread.start()
    thread.join()
    assert (found, colab.asked) == ([None], [])
    assert KEYS.find(VARIABLE, ask=True) == (KEY, "Colab")


def test_loading_asks_nobody(real_client, make_client, colab, tmp_path, sim):
    """Loading with an unfinished batch asks nobody; the first line about the batch does."""
    sim.behave(seconds=1000)
    colab.secrets[VARIABLE] = KEY
    handle = real_client.submit(name="x", over=["a"], model=MODEL)
    handle.refresh()
    real_client.close()
    KEYS.forget()
    colab.asked.clear()
    later = make_client(environ=None)
    assert [each.id for each in later.resume()] == [handle.id]
    assert colab.asked == []
    later.get("x")
    assert colab.asked == [VARIABLE]


# -- login and logout ------------------------------------------------------------------------------


def test_a_login_is_kept_in_the_keyring(real_client, tmp_path):
    """A process that comes later finds the key there, and `logout` removes it."""
    keyring.set_keyring(backends.File())
    assert llm_batch.login("openai", f" {KEY}\n") == "keyring"
    assert kept(tmp_path)[f"{keys.SERVICE} {VARIABLE}"] == KEY
    KEYS.forget()
    assert mark("a") in real_client.submit(name="x", over=["a"], model=MODEL).wait(60).answers()[0]
    assert llm_batch.logout("openai") == ["keyring"]
    assert f"{keys.SERVICE} {VARIABLE}" not in kept(tmp_path)
    with pytest.raises(UsageProblem, match="is not set"):
        real_client.submit(name="y", over=["a"], model=MODEL)
    assert llm_batch.logout("openai") == []


def test_a_keyring_in_plain_text_is_no_keyring(tmp_path):
    """A backend below keyring's own recommendation gets no key."""
    keyring.set_keyring(backends.Weak())
    assert KEYS.save(VARIABLE, KEY) == "this kernel"
    assert KEY not in str(kept(tmp_path))


@pytest.mark.parametrize("key", ["", "  ", "sk-\u2013dash", "two\nlines of it"])
def test_a_key_that_cannot_be_one_is_not_kept(key, real_client):
    """Blank keys and keys that no header can carry change nothing."""
    with pytest.raises(UsageProblem):
        llm_batch.login("openai", key)
    assert KEYS.find(VARIABLE) is None


def test_a_login_for_nobody_names_the_providers(real_client):
    """A misspelt provider is an error that lists those that there are."""
    with pytest.raises(UsageProblem, match="known are anthropic, azure, google, openai"):
        llm_batch.login("opnai", KEY)


def test_a_paused_batch_goes_on_after_a_login(real_client, make_client):
    """A batch that has lost its key takes up the one of a login."""
    KEYS.save(VARIABLE, KEY)
    handle = real_client.submit(name="x", over=["a"], model=MODEL)
    KEYS.forget()
    llm_batch.login("openai", KEY)
    assert mark("a") in handle.wait(60).answers()[0]


def test_a_key_of_no_known_form_is_concealed():
    """What was once a key in this process never gets into a message, whatever it looks like."""
    odd = KEYS_OF_TESTS["odd"]
    KEYS.save(VARIABLE, odd)
    assert redact(f"wrong: {odd}!") == "wrong: [key]!"
    registry.make("groq", {"GROQ_API_KEY": odd[::-1]}, {"groq": "http://h/v1"})
    assert redact(f"wrong: {odd[::-1]}!") == "wrong: [key]!"
    assert odd not in repr(KEYS) + repr(Chain().variables([VARIABLE]))


# -- the magics ------------------------------------------------------------------------------------


@pytest.fixture
def shell(real_client, tmp_path):
    """A shell with the extension and history, on the process's environment."""
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "jupyter_llm_batch")
    controller = extension._loaded[id(shell)][0].commands().controller
    controller.use(real_client)
    yield shell
    extension.unload(shell)
    if shell.history_manager:
        shell.history_manager.end_session()


@pytest.mark.parametrize(
    ("backend", "place"),
    [(backends.File, "keyring of this computer"), (backends.Broken, "this kernel only")],
)
def test_the_magic_asks_unseen_and_says_where_the_key_is(
    backend, place, shell, monkeypatch, capsys, tmp_path
):
    """`login` asks without echo; nothing shows the key; doctor names its place."""
    keyring.set_keyring(backend())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: KEY if VARIABLE in prompt else "")
    assert shell.run_cell("%llm_batch login openai", store_history=True).success
    assert place in capsys.readouterr().out
    assert shell.run_cell("%llm_batch doctor", store_history=True).success
    said = capsys.readouterr().out
    assert "keyring; server" in said if backend is backends.File else "this kernel; server" in said
    assert KEY not in said + str(list(shell.history_manager.get_range())) + str(shell.user_ns)
    assert shell.run_cell("%llm_batch logout openai", store_history=True).success
    assert "is forgotten" in capsys.readouterr().out
    assert shell.run_cell("%llm_batch doctor").success
    assert "OPENAI_API_KEY is not set" in " ".join(capsys.readouterr().out.split())


def test_a_login_behind_the_environment_says_so(shell, monkeypatch, capsys):
    """Where the environment has a key, that one goes on to count."""
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: KEY + "-other")
    assert shell.run_cell("%llm_batch login openai").success
    assert "goes first" in capsys.readouterr().out
    assert shell.run_cell("%llm_batch logout openai").success
    assert "still found in: environment" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["openai {}", "openai --key={}", "--key {} openai", ""])
def test_a_key_in_the_line_is_not_taken_and_not_repeated(line, shell, capsys):
    """Whoever types the key into the line is told why not, without the key."""
    result = shell.run_cell(f"%llm_batch login {line.format(KEY)}", store_history=False)
    assert isinstance(result.error_in_exec, UsageError)
    said = capsys.readouterr()
    assert "history" in said.out + said.err
    assert KEY not in said.out + said.err
    assert KEYS.find(VARIABLE) is None


def test_where_nobody_can_be_asked_the_variable_is_named(shell, monkeypatch, capsys):
    """Under papermill or without a terminal, `login` says which variable to set."""

    def nobody_there(prompt):
        raise RuntimeError("raw_input was called, but this frontend does not support it")

    monkeypatch.setattr(getpass, "getpass", nobody_there)
    assert isinstance(shell.run_cell("%llm_batch login google").error_in_exec, UsageError)
    said = capsys.readouterr()
    assert "set GEMINI_API_KEY in the environment" in said.out + said.err


def test_settings_never_hold_a_key():
    """A server's address with a user, a password or a query is refused without repeating it."""
    for url in (f"https://me:{KEY}@h/v1", f"https://h/v1?key={KEY}", "groq.com/v1", ""):
        servers = Settings(servers={"groq": url}).servers
        with pytest.raises(UsageProblem) as caught:
            registry.make("groq", {"GROQ_API_KEY": "sim-x"}, servers).check_key()
        assert KEY not in str(caught.value)
