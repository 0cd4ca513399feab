"""The simulator fails on request: faults of the wire, switches, processes that come and go."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from support import ANY, DUMMY_KEY

from jupyter_llm_batch.simulator import Simulator, ensure_running

CHAT = "/v1/chat/completions"
WHOLE = b"0123456789" * 1000


@pytest.fixture
def sim():
    """A simulator whose batches are done at the first poll."""
    with Simulator(keys=ANY, seconds=0) as simulator:
        yield simulator


@pytest.fixture
def client(sim):
    with connect(sim.openai_url) as sdk:
        yield sdk


def connect(url, **options):
    options = {"max_retries": 0, "timeout": 20, **options}
    return openai.OpenAI(base_url=url, **{"api_key": DUMMY_KEY, **options})


def text_of(*prompts):
    return "".join(
        json.dumps(
            {
                "custom_id": f"r{number}",
                "method": "POST",
                "url": CHAT,
                "body": {"model": "gpt-5-mini", "messages": [{"role": "user", "content": prompt}]},
            }
        )
        + "\n"
        for number, prompt in enumerate(prompts)
    ).encode()


def upload(client, content=None):
    content = text_of("hello") if content is None else content
    return client.files.create(file=("in.jsonl", content), purpose="batch")


def create(client, file_id, **more):
    return client.batches.create(
        input_file_id=file_id, endpoint=CHAT, completion_window="24h", **more
    )


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Faults


def test_a_status_is_answered_and_nothing_happens(sim, client):
    """``status`` answers in place of the endpoint, with body and headers, as often as told."""
    file = upload(client)
    body = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    sim.fault(
        method="POST",
        path="*/batches",
        action="status",
        status=429,
        times=2,
        body=body,
        headers={"Retry-After": "7"},
    )
    for _ in range(2):
        with pytest.raises(openai.RateLimitError, match="slow down") as caught:
            create(client, file.id)
        assert caught.value.response.headers["retry-after"] == "7"
        assert caught.value.code == "rate_limit_exceeded"
    assert client.batches.list().data == []
    assert create(client, file.id).status == "validating"
    (fault,) = sim.faults()
    assert (fault["seen"], fault["met"]) == (3, 2)


def test_a_fault_can_let_requests_pass_first(sim, client):
    """``after`` skips the first requests, a regular expression chooses paths, null never ends."""
    path = r"^/openai/v1/batches/[^/]+$"
    sim.fault(path=path, after=2, times=None, action="status", status=503)
    batch = create(client, upload(client).id)
    assert client.batches.retrieve(batch.id)
    assert client.batches.retrieve(batch.id)
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            client.batches.retrieve(batch.id)
    assert client.batches.list().data
    sim.clear_faults()
    assert client.batches.retrieve(batch.id)


def test_a_dropped_create_makes_nothing(sim, client):
    """``drop`` closes the connection before the request is looked at."""
    file = upload(client)
    sim.fault(path="*/batches", method="POST", action="drop")
    with pytest.raises(openai.APIConnectionError):
        create(client, file.id)
    assert client.batches.list().data == []
    assert [seen["status"] for seen in sim.requests() if seen["path"].endswith("/batches")] == [
        None,
        200,
    ]


@pytest.mark.parametrize("action", ["accept_then_status", "accept_then_drop"])
def test_an_accepted_create_that_looks_failed_is_there(sim, client, action):
    """The batch exists and is billed although its creation ended with an error."""
    file = upload(client)
    sim.fault(path="*/batches", method="POST", action=action, status=500)
    with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
        create(client, file.id, metadata={"run": "1"})
    (batch,) = client.batches.list().data
    assert batch.metadata == {"run": "1"}
    assert len(sim.ledger()) == 1


def test_the_retries_of_the_sdk_buy_a_batch_twice(sim):
    """With its own retries on, the SDK creates two batches; the ledger and the log show it."""
    with connect(sim.openai_url, max_retries=2) as client:
        file = upload(client)
        sim.fault(path="*/batches", method="POST", action="accept_then_status", status=500)
        create(client, file.id)
        assert len(client.batches.list().data) == 2
    assert sim.summary()["max_per_body"] == 2
    retries = [seen["retry_count"] for seen in sim.requests() if seen["method"] == "POST"]
    assert retries == ["0", "0", "1"]


def test_an_accepted_create_may_never_be_answered(sim):
    """``accept_then_freeze`` processes the request, and the client runs into its timeout."""
    with connect(sim.openai_url, timeout=1) as client:
        file = upload(client)
        sim.fault(path="*/batches", method="POST", action="accept_then_freeze")
        with pytest.raises(openai.APITimeoutError):
            create(client, file.id)
        assert len(client.batches.list().data) == 1


def test_a_frozen_request_whose_client_left_is_never_processed(sim):
    """``freeze`` holds the request back; without its client it comes to nothing."""
    with connect(sim.openai_url, timeout=1) as client:
        file = upload(client)
        sim.fault(path="*/batches", method="POST", action="freeze")
        with pytest.raises(openai.APITimeoutError):
            create(client, file.id)
        sim.clear_faults()
        assert client.batches.list().data == []


def test_a_frozen_request_goes_on_when_the_faults_are_cleared(sim, client):
    """A client that waits gets its answer after all."""
    file = upload(client)
    sim.fault(path="*/batches", method="POST", action="freeze")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(create, client, file.id)
        wait_for(lambda: sim.faults()[0]["met"] == 1)
        assert not answer.done()
        assert client.models.list().data
        sim.clear_faults()
        assert answer.result(20).status == "validating"


def test_a_delay_comes_before_the_answer(sim):
    """``delay`` outlasts a short timeout, and a client with patience gets its answer."""
    sim.fault(path="*/models", action="delay", seconds=1.5, times=2)
    with connect(sim.openai_url, timeout=0.5) as hasty, pytest.raises(openai.APITimeoutError):
        hasty.models.list()
    with connect(sim.openai_url) as patient:
        assert patient.models.list().data


def test_a_truncated_download_breaks_off(sim, client):
    """With its full length announced, a truncated body is an error of the connection."""
    file = upload(client, WHOLE)
    sim.fault(path="*/content", action="truncate", keep=0.3)
    got = []
    with client.files.with_streaming_response.content(file.id) as response:
        with pytest.raises(httpx2.RemoteProtocolError):
            got.extend(response.iter_bytes())
        assert response.headers["content-length"] == str(len(WHOLE))
    assert b"".join(got) == WHOLE[: len(WHOLE) * 3 // 10]
    assert client.files.content(file.id).read() == WHOLE


def test_a_truncated_download_can_look_whole(sim, client):
    """With the shorter length announced, only the content tells that it is not whole."""
    file = upload(client, WHOLE)
    sim.fault(path="*/content", action="truncate", keep=0.5, shorten_length=True)
    assert client.files.content(file.id).read() == WHOLE[: len(WHOLE) // 2]


def test_a_dripping_download_arrives_whole(sim, client):
    """``drip`` sends an answer in many small pieces."""
    file = upload(client, WHOLE)
    sim.fault(path="*/content", action="drip", seconds=0.4)
    with client.files.with_streaming_response.content(file.id) as response:
        pieces = list(response.iter_bytes())
    assert b"".join(pieces) == WHOLE
    assert len(pieces) > 5


def test_a_failed_upload_leaves_nothing(sim, client):
    """An upload that meets a fault makes no file, however large it is."""
    for action in ("status", "drop"):
        sim.fault(path="*/files", method="POST", action=action, status=503)
        with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
            upload(client, b"x" * 5_000_000)
    assert client.files.list().data == []
    assert upload(client).status == "processed"


def test_a_connection_that_breaks_during_an_upload_leaves_nothing(tmp_path):
    """Half an upload is no file, neither in the list nor on disk."""
    head = (
        "POST /openai/v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {DUMMY_KEY}\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nabc'
    )
    with Simulator(keys=ANY, state=tmp_path) as sim, connect(sim.openai_url) as client:
        with socket.create_connection(("127.0.0.1", sim.port)) as connection:
            connection.sendall(head.encode())
            wait_for(lambda: list(tmp_path.glob("files/incoming-*")))
        wait_for(lambda: not list(tmp_path.glob("files/*")))
        assert client.files.list().data == []


def test_a_wrong_fault_or_switch_is_refused(sim):
    """Unknown names and values are errors that name what is wrong."""
    with pytest.raises(ValueError, match="explode"):
        sim.fault(action="explode")
    with pytest.raises(ValueError, match="no_such_switch"):
        sim.behave(no_such_switch=1)
    with pytest.raises(ValueError, match="next_outcome"):
        sim.behave(next_outcome="exploded")


# Switches


def test_the_next_batch_can_be_told_to_fail(sim, client):
    """``failed:CODE`` fails one batch with that code, and the one after it completes."""
    file = upload(client)
    sim.behave(next_outcome="failed:token_limit_exceeded")
    first, second = create(client, file.id), create(client, file.id)
    failed = client.batches.retrieve(first.id)
    assert (failed.status, failed.errors.data[0].code) == ("failed", "token_limit_exceeded")
    assert client.batches.retrieve(second.id).status == "completed"
    assert len(sim.ledger()) == 1


@pytest.mark.parametrize(
    ("outcome", "state", "done"),
    [("expired:0.25", "expired", 2), ("cancelled", "cancelled", 4), ("expired:0", "expired", 0)],
)
def test_the_next_batch_can_be_told_to_end_early(sim, client, outcome, state, done):
    """A share of the rows is done, billed and kept; the others say why they were not run."""
    file = upload(client, text_of(*"abcdefgh"))
    sim.behave(next_outcome=outcome)
    batch = client.batches.retrieve(create(client, file.id).id)
    assert batch.status == state
    assert batch.request_counts.completed == done
    assert (batch.output_file_id is None) == (done == 0)
    errors = client.files.content(batch.error_file_id).text.splitlines()
    assert [json.loads(line)["error"]["code"] for line in errors] == [f"batch_{state}"] * (8 - done)
    assert len(sim.ledger()) == done


def test_a_running_batch_can_show_a_state_that_nobody_knows(sim, client):
    """An unknown state hides the real one until the switch is back or the batch is over."""
    sim.behave(seconds=100, unknown_state="contemplating")
    batch = create(client, upload(client).id)
    assert client.batches.retrieve(batch.id).status == "contemplating"
    sim.behave(unknown_state="")
    assert client.batches.retrieve(batch.id).status == "validating"


def test_results_can_hold_rows_that_nobody_sent(sim, client):
    """Strange rows are in the output and are not billed."""
    sim.behave(extra_rows=2)
    batch = client.batches.retrieve(create(client, upload(client).id).id)
    output = client.files.content(batch.output_file_id).text.splitlines()
    ids = {json.loads(line)["custom_id"] for line in output}
    assert ids == {"r0", "stranger-0", "stranger-1"}
    assert len(sim.ledger()) == 1


def test_a_new_batch_can_be_late_in_the_listing(sim, client):
    """The batch can be retrieved at once, and shows in lists only after a while."""
    sim.behave(listing_delay=60)
    batch = create(client, upload(client).id)
    assert client.batches.retrieve(batch.id).id == batch.id
    assert client.batches.list().data == []
    sim.advance(61)
    assert [found.id for found in client.batches.list()] == [batch.id]


def test_the_seed_changes_the_order_of_the_results(sim, client):
    """The order is the same for the same seed, and another for another."""
    file = upload(client, text_of(*(f"p{n}" for n in range(30))))

    def order(seed):
        sim.behave(seed=seed)
        batch = client.batches.retrieve(create(client, file.id).id)
        output = client.files.content(batch.output_file_id).text.splitlines()
        return [json.loads(line)["custom_id"] for line in output]

    assert order(1) == order(1)
    assert order(1) != order(2)


# The control API


def test_everything_can_be_done_over_http(sim, client):
    """Ledger, log, switches, faults, clock and reset are endpoints that take the key."""
    key = {"authorization": f"Bearer {sim.key}"}
    with httpx2.Client(base_url=f"{sim.url}/_sim", headers=key) as http:
        assert http.post("/behave", json={"seconds": 50}).json()["seconds"] == 50
        assert http.get("/behave").json()["seconds"] == 50
        assert http.post("/behave", json={"seconds": "x"}).status_code == 400
        assert http.post("/fault", json={"action": "status", "status": 418}).json()["times"] == 1
        assert http.post("/fault", content=b"{").status_code == 400
        with pytest.raises(openai.APIStatusError):
            client.models.list()
        assert http.get("/fault").json()[0]["met"] == 1
        assert http.delete("/fault").json() == []
        assert http.get("/fault").json() == []
        batch = create(client, upload(client).id)
        assert http.get("/ledger").json() == []
        assert http.post("/clock", json={"advance": 50}).json()["now"] > time.time() + 40
        assert http.post("/clock", json={}).status_code == 400
        assert [row["batch_id"] for row in http.get("/ledger").json()] == [batch.id]
        assert http.get("/ledger/summary").json()["rows"] == 1
        log = http.get("/requests").json()
        assert [(seen["method"], seen["path"], seen["status"]) for seen in log] == [
            ("GET", "/openai/v1/models", 418),
            ("POST", "/openai/v1/files", 200),
            ("POST", "/openai/v1/batches", 200),
        ]
        assert http.post("/reset").status_code == 200
        assert http.get("/ledger").json() == []
        assert http.get("/requests").json() == []
        assert http.get("/nothing").status_code == 404


def test_the_environment_points_the_sdk_to_the_simulator(sim, monkeypatch):
    """With the variables of ``environ()`` set, a client without arguments talks to it."""
    for name, value in sim.environ().items():
        monkeypatch.setenv(name, value)
    assert openai.OpenAI().models.list().data
    assert (sim.anthropic_url, sim.google_url) == (f"{sim.url}/anthropic", f"{sim.url}/google")


def test_others_are_served_while_many_rows_are_worked_on(sim, client):
    """A small request overtakes the poll that makes thousands of answers."""
    file = upload(client, text_of(*(f"p{n}" for n in range(20_000))))
    batch = create(client, file.id)
    answered = []

    def poll():
        assert client.batches.retrieve(batch.id).status == "completed"
        answered.append("poll")

    thread = threading.Thread(target=poll)
    thread.start()
    wait_for(lambda: sim.requests()[-1]["path"].endswith(batch.id))
    client.models.list()
    answered.append("models")
    thread.join()
    assert answered == ["models", "poll"]


# Processes


def serve(*arguments):
    command = [sys.executable, "-m", "jupyter_llm_batch.simulator", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = dict(part.split("=", 1) for part in process.stdout.readline().split())
    return process, printed


def test_the_command_serves_and_prints_where(tmp_path):
    """The command prints one line with the variables, and takes all switches and faults."""
    fault = '{"action": "status", "status": 418, "path": "*/models"}'
    process, printed = serve("--seconds", 0, "--fail-rate", 1, "--fault", fault)
    try:
        with connect(printed["OPENAI_BASE_URL"], api_key=printed["OPENAI_API_KEY"]) as client:
            with pytest.raises(openai.APIStatusError):
                client.models.list()
            batch = client.batches.retrieve(create(client, upload(client).id).id)
            assert batch.request_counts.failed == 1
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


def test_the_command_refuses_a_wrong_switch():
    """A wrong value ends the command with a line that says what is wrong."""
    command = [sys.executable, "-m", "jupyter_llm_batch.simulator", "--next-outcome", "odd"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "next_outcome 'odd'" in ended.stderr


def test_a_killed_server_bills_nothing_twice(tmp_path):
    """After SIGKILL, a new process finishes the batch and its rows are billed once."""
    process, printed = serve("--seconds", 3600, "--state", tmp_path)
    with connect(printed["OPENAI_BASE_URL"], api_key=printed["OPENAI_API_KEY"]) as client:
        batch = create(client, upload(client).id)
    process.kill()
    process.wait(20)
    process.stdout.close()
    for _ in range(2):
        process, printed = serve("--state", tmp_path)
        key = {"authorization": f"Bearer {printed['OPENAI_API_KEY']}"}
        control = printed["OPENAI_BASE_URL"] + "/../../_sim"
        with httpx2.Client(base_url=control, headers=key) as http:
            http.post("/clock", json={"advance": 3600})
            rows = http.get("/ledger").json()
        with connect(printed["OPENAI_BASE_URL"], api_key=printed["OPENAI_API_KEY"]) as client:
            assert client.batches.retrieve(batch.id).status == "completed"
        process.kill()
        process.wait(20)
        process.stdout.close()
        assert [row["custom_id"] for row in rows] == ["r0"]


def test_the_command_ends_itself_when_idle(tmp_path):
    """Without requests for the given time, the process ends and takes back its address."""
    process, _ = serve("--idle-exit", 0.3, "--state", tmp_path)
    assert process.wait(20) == 0
    process.stdout.close()
    assert not (tmp_path / "simulator.json").exists()


@pytest.fixture
def launched():
    """Process ids that are ended after the test."""
    pids = set()
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGTERM)


def test_a_kernel_finds_the_simulator_that_runs(tmp_path, launched):
    """The second call returns the process of the first; it serves and its files are private."""
    state = tmp_path / "simulator"
    running = ensure_running(state, seconds=0)
    launched.add(running.pid)
    assert ensure_running(state) == running
    with connect(f"{running.url}/openai/v1", api_key=running.key) as client:
        batch = create(client, upload(client).id)
        assert client.batches.retrieve(batch.id).status == "completed"
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("simulator.json", "simulator.log", "launch.lock", "key"):
        assert (state / name).stat().st_mode & 0o777 == 0o600


def test_the_simulator_survives_the_process_that_started_it(tmp_path, launched):
    """It is in a session of its own, so the end of a kernel's process group does not end it."""
    code = (
        "import pathlib, sys; from jupyter_llm_batch.simulator import ensure_running;"
        "print(ensure_running(pathlib.Path(sys.argv[1])).pid)"
    )
    starter = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    pid = int(starter.stdout)
    launched.add(pid)
    assert os.getsid(pid) == pid
    assert ensure_running(tmp_path).pid == pid


def test_kernels_that_start_at_once_share_one_simulator(tmp_path, launched):
    """Four processes at once end up with the same simulator."""
    code = (
        "import pathlib, sys; from jupyter_llm_batch.simulator import ensure_running;"
        "print(ensure_running(pathlib.Path(sys.argv[1])).pid)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    pids = {int(starter.communicate(timeout=60)[0]) for starter in starters}
    launched.update(pids)
    assert len(pids) == 1


@pytest.mark.parametrize("token", ["someone-elses", "not a token"])
def test_a_stale_address_is_not_believed(tmp_path, launched, token):
    """A port that is another simulator's by now leads to a new start."""
    with Simulator(keys=ANY, seconds=0) as other:
        address = {"port": other.port, "pid": 1, "key": token}
        (tmp_path / "simulator.json").write_text(json.dumps(address))
        running = ensure_running(tmp_path)
        launched.add(running.pid)
        assert running.url != other.url
