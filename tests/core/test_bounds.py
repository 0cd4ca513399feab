"""What others count, name and send has limits where it is shown and stored; keys stay hidden."""

import copy
import io
import pickle
import time
import traceback

import pytest
from support import KEYS, ok, run

from jupyter_llm_batch.core import text
from jupyter_llm_batch.core.errors import Incomplete, UsageProblem
from jupyter_llm_batch.core.ids import custom_id
from jupyter_llm_batch.core.job import Counts, Job
from jupyter_llm_batch.core.result import Outcome, Result
from jupyter_llm_batch.core.secret import Secret
from jupyter_llm_batch.engine import reconcile
from jupyter_llm_batch.engine.reconcile import Reconciler
from jupyter_llm_batch.providers import registry
from jupyter_llm_batch.providers.shared import addresses
from jupyter_llm_batch.storage import download_limit
from jupyter_llm_batch.submission import notify_target

KEY = KEYS["odd"]


def job(rows):
    return Job(
        id="j", batch_id="b", round=0, number=0, provider="openai", model="m", endpoint="chat",
        rows=rows, bytes=1, payload="p",
    )  # fmt: skip


# -- limits


def test_impossible_counts_are_brought_into_bounds():
    """A server that counts -5 or 10**25 rows makes no picture of that."""
    counts = Counts(total=10**25, done=-5, failed=10**25)
    assert counts == Counts(total=10_000_000, done=0, failed=10_000_000)
    assert Counts(total=3, done=2, failed=1).done == 2


def test_invented_codes_are_merged():
    """A code of its own for each of 2,000 rows makes 50 reasons, and the sum is right."""
    rows = Reconciler(job(2_000), range(2_000), user_cancelled=False)
    for row in range(2_000):
        code = f"code {row} {KEYS['openai']} {'x' * 1_000}"
        rows.take(Result(custom_id=custom_id("b", row), outcome=Outcome.FAILED, code=code))
    kinds = rows.kinds()
    assert len(kinds) == reconcile.MOST_KINDS
    assert sum(kind.rows for kind in kinds) == 2_000
    assert kinds[-1].kind == "1,951 other reasons"
    assert KEYS["openai"] not in str(kinds)
    assert max(len(kind.kind) for kind in kinds) < 200


def test_a_download_ends_where_no_answer_can_be(tmp_path, monkeypatch):
    """Results that are larger than their rows can be are stopped, and fetched again later."""
    monkeypatch.setattr(download_limit, "ROW", 10)
    written = io.BytesIO()
    sink = download_limit.Limited(written, tmp_path, 3)
    sink.write(b"x" * 40)
    with pytest.raises(Incomplete, match="3 rows"):
        sink.write(b"x")
    assert written.tell() == 40
    download_limit.Limited(written, tmp_path, 0).write(b"x" * 1_000)


def test_a_download_leaves_room_on_the_disk(tmp_path, monkeypatch):
    """A large download stops before the disk is full; a small one goes wherever it has room."""
    monkeypatch.setattr(download_limit, "FREE", 1 << 60)
    monkeypatch.setattr(download_limit, "LOOK", 10)
    sink = download_limit.Limited(io.BytesIO(), tmp_path, 3)
    sink.write(b"x")
    with pytest.raises(OSError, match="No space"):
        sink.write(b"x" * 10)


# -- keys


def test_a_secret_shows_nothing():
    """Neither repr, format, copies of it nor a pickle give a key away."""
    secret = Secret(KEY)
    assert KEY not in f"{secret} {secret!r} {secret:>30} {[secret]} {vars(type(secret))}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    assert secret.reveal() == KEY


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_traceback_with_variables_shows_no_key(provider, bare_shell):
    """A client that cannot be built in the foreground: IPython's `%xmode Verbose` has no key."""
    variable = addresses.key_variables(provider)[0]
    address = variable.replace("API_KEY", "BASE_URL")
    adapter = registry.make(provider, {variable: KEY, address: "https://h.example/\x07"})
    with pytest.raises(Exception, match="URL") as caught:
        adapter._server.connected()
    error = caught.value
    bare_shell.InteractiveTB.set_mode("Verbose")
    shown = bare_shell.InteractiveTB.structured_traceback(type(error), error, caught.tb.tb_next)
    told = "\n".join(shown) + "".join(traceback.format_exception(error))
    assert "in connected" in told
    assert KEY not in told


def test_a_key_in_the_providers_place_is_not_repeated(shell, capsys):
    """`login sk-…` says what to do, and the key is in no output."""
    run(shell, f"%llm_batch login {KEY}")
    run(shell, f"import jupyter_llm_batch as lb; lb.login({KEY!r})")
    out, err = capsys.readouterr()
    assert "a provider's name is needed" in out + err
    assert KEY not in out + err


def test_show_hides_keys_in_raw_lines(shell, capsys):
    """A key in a request or a response is not printed with the raw lines."""
    shell.user_ns["rows"] = ["Is sk-abcdefgh12345 right?"]
    ok(shell, "%%llm_batch x --over rows --wait\n{{ item }}")
    ok(shell, "%llm_batch show x 0")
    out = capsys.readouterr().out
    _, request, raw = out.partition("--- request ---")
    assert request
    assert "[key]" in raw
    assert "sk-abcdefgh12345" not in raw


@pytest.mark.parametrize(
    "url", ["https://h.example/hook?key=abc", "https://me:pw@h.example/", "http://h/?x=1&TOKEN=2"]
)
def test_a_webhook_with_a_secret_is_not_stored(url):
    """It is refused without being repeated, and a variable can hold it."""
    with pytest.raises(UsageProblem, match="env:NAME") as caught:
        notify_target.check(url)
    assert url not in str(caught.value)


def test_a_webhook_may_be_in_a_variable(monkeypatch):
    """Only the variable's name is stored; without a URL in it the cell is refused."""
    monkeypatch.setenv("MY_HOOK", "https://h.example/hook?key=abcdefgh123")
    assert notify_target.check("env:MY_HOOK") == "env:MY_HOOK"
    assert not notify_target.is_command("env:MY_HOOK")
    with pytest.raises(UsageProblem, match="set the variable OTHER"):
        notify_target.check("env:OTHER")


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"])
def test_a_base_url_with_a_key_is_refused(variable):
    """A query is no part of a base URL, and its key would be stored and shown."""
    provider = variable.partition("_")[0].lower()
    with pytest.raises(UsageProblem, match="ends before") as caught:
        registry.make(provider, {variable: f"https://h.example/v1?key={KEY}"})
    assert KEY not in str(caught.value)


# -- words


def test_a_date_of_another_year_has_its_year():
    """``30 Dec`` is this year's; any other year is named."""
    now, form = time.time(), "%d %b"
    assert text.local_time(now, form) == time.strftime(form, time.localtime(now))
    later = now + 400 * 86_400
    assert text.local_time(later, form) == time.strftime("%d %b %Y", time.localtime(later))
