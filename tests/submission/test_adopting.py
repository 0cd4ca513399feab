"""``adopt``: a batch that a script created is taken over, its answers in custom_id order."""

import io
import json
import subprocess
import sys

import openai
import pytest
from elsewhere import KEYS, created_at_anthropic
from google import genai
from support import mark, until

from jupyter_llm_batch import Outcome
from jupyter_llm_batch.client import rows
from jupyter_llm_batch.core.errors import NotFound, UsageProblem
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.submission import adopt

SORTED = ["row-1", "row-9", "row-10", "zeta"]


def created_at_openai(sim, prompts=None, endpoint="/v1/chat/completions"):
    prompts = prompts or {key: f"Q {key}" for key in KEYS}
    lines = [
        {"custom_id": key, "method": "POST", "url": endpoint,
         "body": {"model": "gpt-5-mini", "messages": [{"role": "user", "content": prompt}]}}
        for key, prompt in prompts.items()
    ]  # fmt: skip
    environ = sim.environ()
    with openai.OpenAI(
        api_key=environ["OPENAI_API_KEY"], base_url=environ["OPENAI_BASE_URL"]
    ) as script:
        data = "\n".join(map(json.dumps, lines)).encode()
        file = script.files.create(file=("in.jsonl", io.BytesIO(data)), purpose="batch")
        return script.batches.create(
            input_file_id=file.id, endpoint=endpoint, completion_window="24h"
        ).id


def created_at_google(sim, prompts=None, *, named=True):
    prompts = prompts or {key: f"Q {key}" for key in KEYS}
    environ = sim.environ()
    script = genai.Client(
        api_key=environ["GEMINI_API_KEY"],
        http_options={"base_url": environ["GOOGLE_GEMINI_BASE_URL"]},
    )
    requests = [
        {"contents": prompt} | ({"metadata": {"key": key}} if named else {})
        for key, prompt in prompts.items()
    ]
    return script.batches.create(model="gemini-2.5-flash", src=requests).name


CREATE = {
    "openai": created_at_openai, "anthropic": created_at_anthropic, "google": created_at_google,
}  # fmt: skip


@pytest.mark.parametrize("provider", CREATE)
def test_a_batch_of_a_script_is_taken_over(client, sim, provider):
    """Answers by custom_id, numbers in their natural order; nothing is paid again."""
    remote_id = CREATE[provider](sim)
    handle = client.adopt(f"{provider}:{remote_id}", "found").wait(60)
    answers = handle.answers()
    assert list(answers) == SORTED
    assert all(mark(f"Q {key}") in text for key, text in answers.items())
    assert len(sim.ledger()) == len(KEYS)
    frame = handle.frame()
    assert list(frame["custom_id"]) == SORTED
    assert handle.snapshot().cost is not None


@pytest.mark.parametrize("provider", CREATE)
def test_an_adopted_batch_goes_on_after_a_restart(make_client, sim, provider):
    """It is journaled like any other, while it still runs."""
    sim.behave(seconds=3600)
    client = make_client()
    handle = client.adopt(f"{provider}:{CREATE[provider](sim)}", "found")
    assert handle.snapshot().state == "running"
    client.close()
    sim.advance(3600)
    answers = make_client().get("found").wait(60).answers()
    assert list(answers) == SORTED


def test_inline_answers_without_a_key_keep_the_order_of_the_requests(client, sim):
    """Gemini documents that order; their place is their name."""
    prompts = {str(i): f"Q {i}" for i in range(12)}
    remote_id = created_at_google(sim, prompts, named=False)
    answers = client.adopt(f"google:{remote_id}", "found").wait(60).answers()
    assert list(answers) == list(prompts)
    assert all(mark(prompts[key]) in text for key, text in answers.items())


def test_requests_that_openai_hands_out_are_here_too(client, sim):
    """Rows without an answer are known, and can be sent again under their own names."""
    prompts = {"b": "Q b", "a": "[[sim:missing x1]] Q a"}
    handle = client.adopt(f"openai:{created_at_openai(sim, prompts)}", "found").wait(60)
    assert [result.outcome for result in handle.results()] == [Outcome.MISSING, Outcome.OK]
    assert handle.retry(confirm=True) == 1
    answers = handle.wait(60).answers()
    assert mark(prompts["a"]) in answers["a"]


def test_requests_that_are_not_handed_out_cannot_be_sent_again(client, sim):
    """One line says whose business it is."""
    prompts = {"a": "[[sim:fail-400]] Q a", "b": "Q b"}
    handle = client.adopt(f"anthropic:{created_at_anthropic(sim, prompts)}", "found").wait(60)
    assert handle.snapshot().failed == 1
    with pytest.raises(UsageProblem, match="was created elsewhere"):
        handle.retry(confirm=True)
    assert handle.done

    with pytest.raises(NotFound, match="does not hand out the requests"):
        rows.request_line(client.store, handle.record, 0)


def test_cancelling_an_adopted_batch_cancels_it_at_the_provider(client, sim):
    """It is the user's own batch."""
    sim.behave(seconds=3600)
    handle = client.adopt(f"openai:{created_at_openai(sim)}", "found")
    handle.cancel()
    until(lambda: any(each["path"].endswith("/cancel") for each in sim.requests()))
    sim.advance(3600)
    assert handle.wait(60).done


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("batch_1", "names no provider's batch"),
        ("opnai:batch_1", "names no provider's batch"),
        ("openai:batch_none", "cannot adopt openai:batch_none"),
        ("anthropic:msgbatch_none", "cannot adopt"),
        ("google:batches/none", "cannot adopt"),
    ],
)
def test_what_cannot_be_adopted_is_one_line(client, remote, words):
    """Nothing is written."""
    with pytest.raises(UsageProblem, match=words):
        client.adopt(remote, "found")
    assert not client.batches()


def test_our_own_batch_is_not_adopted_twice(client, sim):
    """It is known already, under its name."""
    remote = f"openai:{created_at_openai(sim)}"
    client.adopt(remote, "found").wait(60)
    with pytest.raises(UsageProblem, match="known here already"):
        client.adopt(remote, "again")


PREFIX = {"openai:gpt-5-mini": "openai:", "google:gemini-2.5-flash": "google:batches/"}


@pytest.mark.parametrize("model", PREFIX)
def test_what_a_batch_of_ours_sent_is_not_adopted_beside_it(client, sim, model):
    """Its label says whose it is, also while the answer to its create is lost."""
    sim.fault(action="accept_then_drop", method="POST", path="*/batches")
    sim.fault(action="accept_then_drop", method="POST", path="*:batchGenerateContent")
    sim.fault(action="status", status=503, method="GET", path="*/batches", times=None)
    ours = client.submit(name="ours", over=["a", "b"], model=model)
    until(lambda: client.store.jobs(ours.id)[0].state is JobState.UNKNOWN)
    until(sim.ledger)
    made = sim.ledger()[0]["batch_id"]
    with pytest.raises(UsageProblem, match="is what ours sent"):
        client.adopt(f"{PREFIX[model]}{made}", "found")


def test_adopting_what_a_lost_create_made_buys_nothing_again(client, sim):
    """Without a label nothing tells whose it is before it ends: that it was adopted does not."""
    sim.behave(seconds=1000)
    sim.fault(action="accept_then_drop", method="POST", path="*/messages/batches")
    ours = client.submit(name="ours", over=["a", "b"], model="anthropic:claude-haiku-4-5")
    until(lambda: "may be what was sent" in (client.store.jobs(ours.id)[0].error or ""))
    ((_, (remote,)),) = ours.lost()
    client.adopt(f"anthropic:{remote.remote_id}", "found")
    ((_, (still,)),) = ours.lost()
    assert still.remote_id == remote.remote_id
    sim.advance(2000)
    assert mark("b") in ours.wait(60).answers()[1]
    client.get("found").wait(60)
    assert len(sim.ledger()) == 2


def test_what_was_adopted_may_be_decided_to_be_ours(client, sim):
    """The user knows better."""
    sim.behave(seconds=1000)
    sim.fault(action="accept_then_drop", method="POST", path="*/messages/batches")
    ours = client.submit(name="ours", over=["a"], model="anthropic:claude-haiku-4-5")
    until(lambda: "may be what was sent" in (client.store.jobs(ours.id)[0].error or ""))
    ((_, (remote,)),) = ours.lost()
    client.adopt(f"anthropic:{remote.remote_id}", "found")
    ours.resolve(remote.remote_id)
    assert client.store.jobs(ours.id)[0].state is JobState.RUNNING


def test_the_answers_file_is_read_whole_before_rows_are_named(client, sim):
    """A download that was cut short is fetched again."""
    remote_id = created_at_openai(sim)
    sim.fault(action="truncate", path="*/content", times=1, shorten_length=True, after=1)
    answers = client.adopt(f"openai:{remote_id}", "found").wait(60).answers()
    assert list(answers) == SORTED


def test_natural_order():
    """Numbers count as numbers, whatever stands around them."""
    keys = ["b2", "b10", "a", "10", "9", "²"]
    assert sorted(keys, key=adopt._natural) == ["9", "10", "a", "b2", "b10", "²"]


def test_a_simulated_batch_is_adopted_by_the_magic(sim, tmp_path):
    """%llm_batch adopt PROVIDER:ID NAME binds the answers when they are there."""
    remote_id = created_at_openai(sim)
    script = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "jupyter_llm_batch")
shell.run_line_magic("llm_batch", "adopt openai:{remote_id} found --wait")
assert list(shell.user_ns["found"]) == {SORTED!r}, shell.user_ns["found"]
shell.run_line_magic("llm_batch", "show found " + {SORTED[1]!r})
"""
    env = {
        **dict(__import__("os").environ), **sim.environ(), "JUPYTER_DATA_DIR": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", script], env=env, check=True, cwd=tmp_path)
