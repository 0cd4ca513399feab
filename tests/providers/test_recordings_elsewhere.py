"""Adopted batches of other people's programs, as they were recorded or told of in public."""

from __future__ import annotations

import json
import re

import pytest
from recordings import NEEDED, RECORDINGS
from replay import Replay
from support import KEYS, until

from jupyter_llm_batch.client import rows as rows_
from jupyter_llm_batch.core.errors import Damaged, NotFound

pytestmark = NEEDED

ENVIRON = {
    "OPENAI_API_KEY": KEYS["openai"], "ANTHROPIC_API_KEY": KEYS["anthropic"],
    "GEMINI_API_KEY": KEYS["google"],
}  # fmt: skip


@pytest.fixture
def replayed(make_client):
    """Return a client that talks to a server which answers what a file holds, and that server."""
    servers = []

    def serve(exchanges):
        if isinstance(exchanges, str):
            exchanges = json.loads((RECORDINGS / "found" / exchanges).read_text())
        for exchange in exchanges:  # the SDK asks a newer version of the same path
            request = exchange["request"]
            request["uri"] = re.sub("/v1beta/", "/v1/", request["uri"])
        server = Replay(exchanges)
        servers.append(server)
        server.__enter__()
        environ = ENVIRON | {
            "OPENAI_BASE_URL": f"{server.url}/v1", "GOOGLE_GEMINI_BASE_URL": server.url,
            "ANTHROPIC_BASE_URL": server.url,
        }  # fmt: skip
        return make_client(environ=environ), server

    yield serve
    for server in servers:
        server.__exit__()


def posts(server):
    return [asked.path for asked in server.asked if asked.method == "POST"]


def _paths(name):
    exchanges = json.loads((RECORDINGS / "found" / name).read_text())
    return [re.sub("^https?://[^/]*", "", each["request"]["uri"]) for each in exchanges]


def test_a_batch_that_was_refused_for_lack_of_room_is_not_sent(replayed):
    """What was adopted is read: its rows end with the provider's reason."""
    client, server = replayed("tok2.json")
    (remote_id,) = {
        path.rpartition("/")[2] for path in _paths("tok2.json")
        if path.startswith("/v1/batches/batch_") and "NEW" not in path
    }  # fmt: skip
    handle = client.adopt(f"openai:{remote_id}", "found").wait(60)
    assert posts(server) == []
    assert "Enqueued token limit" in repr(handle)
    assert [result.custom_id for result in handle.results()] == ["r0", "r1", "r2"]
    assert [result.outcome for result in handle.results()] == ["failed"] * 3


def test_rows_that_a_first_download_lacks_are_taken_up(replayed):
    """The row set grows while the answers come in."""
    client, _ = replayed("short.json")
    answers = client.adopt("openai:batch_short", "found").wait(60).answers()
    assert answers == {"request-0": "zero", "request-1": "one", "request-2": "two"}


def test_a_result_file_that_is_named_late_is_waited_for(replayed):
    """The errors of a row, too."""
    client, _ = replayed("late.json")
    handle = client.adopt("openai:batch_late", "found").wait(60)
    assert len(handle.results()) == 3
    assert handle.snapshot().ok == 2
    assert handle.snapshot().failed == 1


def test_an_input_file_that_cannot_be_read_keeps_no_answer_back(replayed):
    """It is tried for a moment, and `show` says why a request is not there."""
    client, _ = replayed("in500.json")
    handle = client.adopt("openai:batch_in500", "found").wait(60)
    assert handle.answers() == {"request-0": "zero"}
    with pytest.raises(NotFound, match=r"could not be read at the provider \(.*500"):
        rows_.request_line(client.store, handle.record, 0)


def line(custom_id, text, **more):
    body = {"model": "gpt-5-mini", "choices": [{"message": {"content": text}}]} | more
    found = {"custom_id": custom_id, "response": {"status_code": 200, "body": body}}
    return found if custom_id is not None else {"response": found["response"]}


def openai_batch(lines, asked=None, **more):
    """Return the exchanges of a batch of OpenAI's whose output holds `lines`."""
    batch = {
        "id": "batch_1", "status": "completed", "endpoint": "/v1/chat/completions",
        "created_at": 1764500000, "completed_at": 1764500100, "output_file_id": "file-o",
        "request_counts": {"total": len(lines), "completed": len(lines), "failed": 0},
    }  # fmt: skip
    if asked is not None:
        batch["input_file_id"] = "file-i"
    told = {
        "/v1/batches/batch_1": batch | more,
        "/v1/files/file-o/content": "".join(f"{json.dumps(each)}\n" for each in lines),
        "/v1/files/file-i/content": asked,
    }
    return [
        {
            "request": {"method": "GET", "uri": f"https://api.openai.com{path}"},
            "response": {
                "status": 200 if body is not None else 404,
                "headers": {"content-type": "application/json"},
                "body": body if body is not None else "",
            },
        }
        for path, body in told.items()
    ]


def test_every_line_is_a_row_whatever_its_id(replayed):
    """Ids that come twice, numbers, paths, and none at all."""
    lines = [
        line("a/b", "one"), line(5, "two"), line("x", "three"), line("x", "four"),
        line(None, "five"), line(7.5, "six"),
    ]  # fmt: skip
    client, _ = replayed(openai_batch(lines))
    handle = client.adopt("openai:batch_1", "found").wait(60)
    assert handle.answers() == {
        "5": "two", "7.5": "six", "a/b": "one", "line 5": "five", "x": "three", "x (2)": "four",
    }  # fmt: skip
    assert handle.snapshot().rows == handle.snapshot().ok == 6
    assert [
        rows_.read_row(client.store, handle.record, row).text for row in range(6)
    ] == [*handle.answers().values()]  # fmt: skip


def test_lines_of_the_input_that_cannot_be_read_keep_nothing_back(replayed):
    """A byte order mark, NaN, text that is no JSON: the others are known, and sent on request."""
    asked = (
        '\ufeff{"custom_id": "a", "body": {}}\nnot JSON\n{"custom_id": 5, "body": {"t": NaN}}\n'
        '{"custom_id": "twice", "body": {"n": 1}}\n{"custom_id": "twice", "body": {"n": 2}}\n{"cut'
    )
    counts = {"total": 5, "completed": 2, "failed": 0}
    exchanges = openai_batch([line("a", "one"), line("twice", "two")], asked, request_counts=counts)
    client, _ = replayed(exchanges)
    handle = client.adopt("openai:batch_1", "found").wait(60)
    found = {result.custom_id: str(result.outcome) for result in handle.results()}
    assert found == {
        "5": "missing", "a": "ok", "twice": "ok", "(unknown 1)": "missing",
        "(unknown 2)": "missing",
    }  # fmt: skip
    rows = {key: row for row, key in enumerate(found)}
    request, _ = rows_.request_line(client.store, handle.record, rows["5"])
    assert b"NaN" in request
    with pytest.raises(NotFound):  # nobody can tell which of two it answers
        rows_.request_line(client.store, handle.record, rows["twice"])


@pytest.mark.parametrize(
    "endpoint", ["/chat/completions", "https://x.example/openai/v1/chat/completions", None, "/odd"]
)
def test_an_endpoint_is_understood_however_it_is_spelled(replayed, endpoint):
    """The answer is its text, not the whole body."""
    client, _ = replayed(openai_batch([line("a", "one")], endpoint=endpoint))
    assert client.adopt("openai:batch_1", "found").wait(60).answers() == {"a": "one"}


def test_an_endpoint_that_nobody_names_is_seen_in_the_answers(replayed):
    """So is the model."""
    text = [{"type": "message", "content": [{"type": "output_text", "text": "one"}]}]
    body = {"object": "response", "status": "completed", "model": "gpt-5-mini", "output": text}
    told = {"custom_id": "a", "response": {"status_code": 200, "body": body}}
    client, _ = replayed(openai_batch([told], endpoint=None))
    handle = client.adopt("openai:batch_1", "found").wait(60)
    assert handle.answers() == {"a": "one"}
    assert handle.snapshot().model == "openai:gpt-5-mini"


def test_a_batch_whose_validation_failed_says_why(replayed):
    """Also where no row of it is known."""
    client, server = replayed("luna_failed_validation.json")
    (path,) = _paths("luna_failed_validation.json")
    handle = client.adopt(f"openai:{path.rpartition('/')[2]}", "found").wait(60)
    assert "Missing required parameter: 'messages'" in repr(handle)
    assert handle.snapshot().state == "failed"
    assert handle.answers() == {}
    assert posts(server) == []


def test_answers_without_keys_are_all_there(replayed):
    """Gemini keeps the order of the requests."""
    client, _ = replayed("langchain4j_inline_nokeys.json")
    (path,) = _paths("langchain4j_inline_nokeys.json")
    handle = client.adopt(f"google:batches/{path.rpartition('/')[2]}", "found").wait(60)
    assert list(handle.answers()) == ["0", "1", "2"]
    assert "Tokyo" in handle.answers()["1"]


ENDS = {
    "openai:batch_canc0": ["cancelled"] * 3,
    "openai:batch_exp": ["ok", "expired", "expired"],
    "openai:batch_tok": [],
    "anthropic:msgbatch_x1": ["cancelled", "cancelled"],
    "anthropic:msgbatch_x2": ["failed", "expired"],
    "google:batches/gfail": ["failed", "failed"],
    "google:batches/gcanc": ["cancelled", "cancelled"],
    "google:batches/gexp": ["expired", "expired"],
}


def test_batches_that_came_to_another_end_keep_their_rows_and_reasons(replayed):
    """Rows that were only counted are rows; where none is known the reason is said."""
    client, _ = replayed("ends.json")
    for number, (remote, outcomes) in enumerate(ENDS.items()):
        handle = client.adopt(remote, f"found{number}").wait(60)
        assert [str(result.outcome) for result in handle.results()] == outcomes, remote
        shot = handle.snapshot()
        assert shot.rows == shot.ok + shot.failed == len(handle.answers()) == len(outcomes)
        assert shot.ok or shot.state == "failed"
        assert bool(handle.failures()) == bool(shot.failed)


def test_what_was_counted_and_never_came_is_a_row_without_an_answer(replayed):
    """The counts add up to the provider's."""
    name = "curator_resubmission_batch_completion.json"
    client, _ = replayed(name)
    remote_id = next(path for path in _paths(name) if "/batches/batch_" in path).rpartition("/")[2]
    handle = client.adopt(f"openai:{remote_id}", "found").wait(60)
    assert (handle.snapshot().rows, handle.snapshot().ok) == (3, 2)


def test_answers_and_a_row_of_the_error_file_add_up(replayed):
    """A refused row stands beside the answers."""
    name = "litellm_ok_plus_issue302_error.json"
    client, _ = replayed(name)
    remote_id = next(path for path in _paths(name) if "/batches/" in path).rpartition("/")[2]
    shot = client.adopt(f"openai:{remote_id}", "found").wait(60).snapshot()
    assert (shot.ok, shot.failed, shot.rows) == (2, 1, 3)


def test_a_batch_object_of_three_fields_suffices(replayed):
    """Its answers are there, and the model is known from them."""
    client, _ = replayed("batchling_sparse_object.json")
    handle = client.adopt("openai:batch-123", "found").wait(60)
    assert handle.answers() == {
        "openai-sample-0": "The capital of France is Paris.",
        "openai-sample-1": "The capital of Italy is Rome.",
    }
    assert handle.snapshot().model == "openai:gpt-4o-2024-08-06"


@pytest.mark.parametrize("name", ["p400.json", "p403.json"])
def test_polls_that_are_refused_end_nothing(replayed, name):
    """The rows that were counted are shown, and nothing is called failed or sent."""
    client, server = replayed(name)
    handle = client.adopt(f"openai:batch_{name[1:4]}", "found")
    until(lambda: len(server.asked) > 1)
    shot = handle.snapshot()
    assert (shot.rows, shot.failed, shot.finished) == (3, 0, False)
    assert posts(server) == []


def test_how_long_an_adopted_batch_took_is_its_own_time(replayed):
    """It does not spoil the estimate of the next one."""
    client, _ = replayed(openai_batch([line("a", "one")]))
    client.adopt("openai:batch_1", "found").wait(60)
    assert client.store.remote_jobs.durations("openai") == [100.0]


def test_a_batch_without_times_says_nothing_of_how_long_batches_take(replayed):
    """Neither does it look as old as the clock."""
    client, _ = replayed("batchling_sparse_object.json")
    client.adopt("openai:batch-123", "found").wait(60)
    assert client.store.remote_jobs.durations("openai") == []


def test_a_batch_of_last_year_is_not_called_stuck(replayed):
    """Nobody is invited to pay for it again."""
    exchanges = openai_batch([], status="in_progress", output_file_id=None, completed_at=None)
    client, server = replayed(exchanges)
    handle = client.adopt("openai:batch_1", "found")
    until(lambda: len(server.asked) > 1)
    shot = handle.snapshot()
    assert (shot.question, shot.choices) == ("", [])
    assert "0 rows" not in shot.line


def test_rows_that_cannot_be_sent_again_are_offered_no_retry(replayed):
    """Their requests were never here."""
    client, _ = replayed("ends.json")
    handle = client.adopt("openai:batch_exp", "found").wait(60)
    assert handle.snapshot().retryable == 0
    remedies = [kind.remedy for kind in (*handle.failures(), *handle.snapshot().errors)]
    assert remedies
    assert not any("retry" in remedy for remedy in remedies)


def failed_line(custom_id, message):
    error = {"status_code": 400, "body": {"error": {"message": message, "code": "bad"}}}
    return {"response": error} if custom_id is None else {"custom_id": custom_id, "response": error}


def two_files(lines, failed, again=""):
    """Return the exchanges of a batch with an output file and an error file.

    The second download of the output file gives `again`; without it, it is gone by then.
    """
    more = {"error_file_id": "file-e", "request_counts": {
        "total": len(lines) + len(failed), "completed": len(lines), "failed": len(failed),
    }}  # fmt: skip
    errors = "".join(f"{json.dumps(each)}\n" for each in failed)
    exchanges = openai_batch(lines, **more)
    for path, body in ("file-e", errors), ("file-e", ""), ("file-o", again):
        uri = f"https://api.openai.com/v1/files/{path}/content"
        response = {"status": 200 if body else 404, "headers": {}, "body": body}
        exchanges.append({"request": {"method": "GET", "uri": uri}, "response": response})
    return exchanges


def harm(handle, part, how):
    (path,) = [each for each in handle._context.store.folder_of(handle.id).iterdir()
               if each.name.endswith(f".{part}.jsonl")]  # fmt: skip
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"one", b"eno"))


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_a_result_file_that_is_lost_moves_no_line_of_another_one(replayed, how):
    """Without a key a line's place is its name, which the lines of both files make together."""
    good = [line("x", "one"), line(None, "two"), line("y", "one more")]
    bad = [failed_line(None, "why four"), failed_line("x", "why x again"), failed_line("z", "why")]
    client, _ = replayed(two_files(good, bad))
    handle = client.adopt("openai:batch_1", "found").wait(60)
    before = {result.custom_id: (result.outcome, result.error) for result in handle.results()}
    assert before["line 4"] == ("failed", "why four")
    assert before["x (2)"] == ("failed", "why x again")

    harm(handle, "output", how)
    after = {result.custom_id: result for result in handle.results(partial=True)}
    for key in "x", "line 2", "y":
        assert after[key].outcome == "missing"
        assert "damaged" in after[key].error
    assert (after["z"].outcome, after["z"].error) == ("failed", "why")
    for key in "line 4", "x (2)":
        assert (after[key].outcome, after[key].error) == ("failed", "failed")
    shown = [rows_.read_row(client.store, handle.record, row) for row in range(6)]
    assert [each.error for each in shown] == [each.error for each in after.values()]
    assert {row for each in handle.failures() for row in each.rows} == {*range(6)} - {
        row for row, key in enumerate(after) if key in {"x", "line 2", "y"}
    }


@pytest.mark.parametrize("keyed", [True, False])
def test_lines_that_come_again_in_another_order_are_taken_if_each_has_an_id(replayed, keyed):
    """Where their places are their names nobody can tell which row they are of."""
    first, second = ("y", "z") if keyed else (None, None)
    good = [line("x", "one"), line(first, "two"), line(second, "three")]
    again = "".join(f"{json.dumps(good[place])}\n" for place in (0, 2, 1))
    client, _ = replayed(two_files(good, [], again))
    handle = client.adopt("openai:batch_1", "found").wait(60)
    answers = handle.answers()
    harm(handle, "output", "damaged")
    if keyed:
        assert handle.answers() == answers
    else:
        with pytest.raises(Damaged, match="2 answers are not in what came"):
            handle.answers()
        assert {*handle.answers(partial=True).values()} == {None}
