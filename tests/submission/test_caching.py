"""``--cache``: each provider's own form, one request ahead where it is needed, and figures."""

import json

import pytest
from support import mark

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.lifecycle import waits_until
from jupyter_llm_batch.core.policy import CACHE_PATIENCE as PATIENCE
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.providers.anthropic import requests
from jupyter_llm_batch.providers.registry import make
from jupyter_llm_batch.submission.splitter import Splitter

ANTHROPIC, OPENAI, GOOGLE = (
    "anthropic:claude-haiku-4-5",
    "openai:gpt-5-mini",
    "google:gemini-2.5-flash",
)
LONG = "You know everything about cats. " * 300
ITEMS = [f"item {i}" for i in range(6)]


def lines(client, handle, number=0):
    job = client.store.jobs(handle.id)[number]
    text = (client.store.folder_of(handle.id) / job.payload).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_one_request_goes_ahead_and_the_others_read_what_it_wrote(client, sim):
    """A batch of Anthropic's reads what an earlier batch wrote into the cache."""
    handle = client.submit(
        "Q {{ item }}", name="x", over=ITEMS, model=ANTHROPIC, system=LONG, cache="1h"
    )
    first, rest = client.store.jobs(handle.id)
    assert (first.rows, rest.rows, rest.after) == (1, 5, [first.number])
    handle.wait(60)
    assert all(
        mark(f"Q {item}") in text for item, text in zip(ITEMS, handle.answers(), strict=True)
    )
    first, rest = client.store.jobs(handle.id)
    assert first.usage.cache_write_1h == first.usage.cache_write > 0
    assert rest.usage.cache_write == 0
    assert rest.usage.cached == 5 * first.usage.cache_write
    assert rest.submitted_at >= first.ended_at
    assert len(sim.ledger()) == len(ITEMS)


def test_the_panel_tells_the_hit_rate(client):
    """The share of the input that came out of the cache."""
    handle = client.submit(
        "Q {{ item }}", name="x", over=ITEMS, model=ANTHROPIC, system=LONG, cache="1h"
    )
    shot = handle.wait(60).snapshot()
    usage = [job.usage for job in client.store.jobs(handle.id)]
    assert shot.cached == sum(u.cached for u in usage) / sum(u.input for u in usage)
    assert "% of the input cached" in shot.line
    assert [r.usage.cached > 0 for r in handle.results()] == [False] + [True] * 5


def test_each_model_fills_its_own_cache(client):
    """A cache belongs to a model: with --route one request of each goes ahead."""
    models = ["anthropic:claude-haiku-4-5", "anthropic:claude-opus-4-5"] * 3
    handle = client.submit(
        "Q {{ item }}", name="x", over=ITEMS, route=models, system=LONG, cache=True
    )
    jobs = client.store.jobs(handle.id)
    assert [(job.rows, job.after) for job in jobs] == [(1, []), (1, []), (4, [1, 2])]
    handle.wait(60)
    assert client.store.jobs(handle.id)[2].usage.cache_write == 0


def test_the_beginning_of_the_cell_is_cached_too(client):
    """What stands before the first field of a row is the same for all rows."""
    handle = client.submit(
        LONG + "\n\nQ {{ item }}", name="x", over=ITEMS, model=ANTHROPIC, cache="5m"
    )
    (line,) = lines(client, handle)
    shared, own = line["params"]["messages"][0]["content"]
    assert shared["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
    assert shared["text"] == LONG + "\n\nQ "
    assert own == {"type": "text", "text": "item 0"}
    handle.wait(60)
    assert client.store.jobs(handle.id)[1].usage.cached > 0


def test_a_variable_of_the_notebook_belongs_to_the_beginning(client):
    """A glossary at the head of the cell is what people cache."""
    handle = client.submit(
        "{{ glossary }} Q {{ item }}", name="x", over=ITEMS, model=ANTHROPIC, cache="1h",
        namespace={"glossary": LONG},
    )  # fmt: skip
    assert lines(client, handle)[0]["params"]["messages"][0]["content"][0]["text"] == LONG + " Q "
    handle.wait(60)


def test_a_hint_does_not_change_what_is_meant(client, sim):
    """With or without --cache, the same cell is the same batch."""
    ask = {"name": "x", "over": ITEMS, "model": ANTHROPIC, "system": LONG}
    client.submit("Q {{ item }}", **ask).wait(60)
    again = client.submit("Q {{ item }}", **ask, cache="1h")
    assert again.attached
    assert len(sim.ledger()) == len(ITEMS)


def test_a_short_beginning_is_told_and_nothing_goes_ahead(client):
    """Providers cache from about 1,024 tokens on."""
    handle = client.submit(
        "Q {{ item }}", name="x", over=ITEMS, model=ANTHROPIC, system="Be brief.", cache="1h"
    )
    assert "--cache will hardly help" in handle.notice
    assert len(client.store.jobs(handle.id)) == 1
    handle.wait(60)


def test_nothing_shared_is_refused(client):
    """There is nothing to cache when every prompt begins with a field."""
    with pytest.raises(UsageProblem, match="begin the prompt with the common part"):
        client.submit("{{ item }}", name="x", over=ITEMS, model=ANTHROPIC, cache="1h")
    with pytest.raises(UsageProblem, match="for 5m or 1h, not '2h'"):
        client.submit("{{ item }}", name="x", over=ITEMS, model=ANTHROPIC, cache="2h")


def test_openai_is_told_which_requests_share_their_beginning(client, sim):
    """One key for one beginning; its caching is automatic, nothing has to go ahead."""
    handle = client.submit(
        "Q {{ item }}", name="x", over=ITEMS, model=OPENAI, system=LONG, cache="1h"
    )
    keys = {line["body"]["prompt_cache_key"] for line in lines(client, handle)}
    other = client.submit(
        "Q {{ item }}", name="y", over=ITEMS, model=OPENAI, system=LONG + "!", cache="1h"
    )
    assert len(keys) == 1
    assert keys.isdisjoint(line["body"]["prompt_cache_key"] for line in lines(client, other))
    assert handle.wait(60).snapshot().cached > 0
    other.wait(60)


def test_a_block_of_blanks_is_never_sent():
    """Anthropic refuses a text block of blanks: then the prompt stays in one piece."""
    recipe = Recipe(cache="1h", prefix="Say:")
    line = json.loads(requests.encoder(recipe, "m")("x-0", "Say:\n "))
    assert line["params"]["messages"][0]["content"] == "Say:\n "


def test_nothing_waits_for_ever_for_what_goes_ahead():
    """A provider may take a day: after an hour the others are sent all the same."""
    base = {
        "batch_id": "b", "round": 0, "provider": "anthropic", "model": "m", "endpoint": "chat",
        "rows": 1, "bytes": 1, "payload": "p", "created_at": 1000.0,
    }  # fmt: skip
    first = Job(id="1", number=1, state=JobState.RUNNING, **base)
    second = Job(id="2", number=2, after=[1], **base)
    assert waits_until(second, [first, second]) == 1000.0 + PATIENCE
    assert waits_until(first, [first, second]) == 0.0
    done = Job(id="1", number=1, state=JobState.FAILED, **base)
    assert waits_until(second, [done, second]) == 0.0


def test_a_request_that_goes_ahead_and_fails_holds_nobody_up(client):
    """Caching is a hint: the other rows are asked whatever became of the first."""
    over = ["[[sim:refuse]] first", *ITEMS]
    handle = client.submit(
        "Q {{ item }}", name="x", over=over, model=ANTHROPIC, system=LONG, cache="1h"
    )
    answers = handle.wait(60).answers()
    assert answers[0] is None
    assert all(mark(f"Q {item}") in text for item, text in zip(ITEMS, answers[1:], strict=True))


def test_cancelling_while_the_cache_is_filled_sends_no_more(make_client, sim):
    """Rows that were held back are withdrawn, unbilled."""
    sim.behave(seconds=3600)
    client = make_client()
    handle = client.submit(
        "Q {{ item }}", name="x", over=ITEMS, model=ANTHROPIC, system=LONG, cache="1h"
    )
    handle.cancel()
    assert handle.wait(60).snapshot().state == "cancelled"
    assert client.store.jobs(handle.id)[1].remote_id is None


def test_a_single_row_ahead_takes_no_room_of_the_others():
    """The first row's job is closed; the others fill theirs as always."""
    limits = make("anthropic", {}).limits("chat")
    splitter = Splitter()
    splitter.place(0, "anthropic", "m", 10, limits, alone=True)
    for row in range(1, 5):
        splitter.place(row, "anthropic", "m", 10, limits)
    assert [draft.count for draft in splitter.drafts] == [1, 4]
