"""However a session ends, its batches go on at the provider; only `cancel` cancels."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from support import mark, until

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def calls(sim, ending):
    """Return the POST requests whose path ends so."""
    seen = sim.requests()
    return [each for each in seen if each["method"] == "POST" and each["path"].endswith(ending)]


@pytest.fixture
def script(sim, tmp_path):
    """Run Python code in a process of its own, with a client `c` on the journal."""
    made = []

    def run(code):
        before = """
            import os, signal, sys, time
            from pathlib import Path
            from jupyter_llm_batch.client import session
            from jupyter_llm_batch.client.client import Client
            from jupyter_llm_batch.core.policy import Policy
            fast = Policy(poll=0.02, poll_longest=0.05, retry=0.02, settle=0.2)
            def client():
                return Client(folder=Path(sys.argv[1]), notebook="nb.ipynb", simulated=True,
                              policy=fast)
            c = session.use(client())
            if hasattr(signal, "SIGHUP"):  # under nohup it is ignored from the beginning
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
            def submit(name, *prompts):
                handle = c.submit(name=name, over=list(prompts), model="openai:gpt-5-mini")
                while not all(job.remote_id for job in c.store.jobs(handle.id)):
                    time.sleep(0.01)
                return handle
        """
        text = textwrap.dedent(before) + textwrap.dedent(code)
        process = subprocess.Popen(
            [
                sys.executable,
                *("-W", "ignore::DeprecationWarning"),  # of forks beside threads, since 3.12
                *("-c", text, str(tmp_path / "data")),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | sim.environ(),
        )  # fmt: skip
        made.append(process)
        return process

    yield run
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate()


def goes_on(make_client, sim, name, *prompts):
    """The batch was never cancelled or sent again, and a later process gets its answers."""
    assert calls(sim, "/cancel") == []
    assert len(calls(sim, "/batches")) == 1
    sim.advance(2000)
    client = make_client()
    answers = client.get(name).wait(60).answers()
    assert all(mark(p) in answer for p, answer in zip(prompts, answers, strict=True))
    assert len(sim.ledger()) == len(prompts)


def test_an_interpreter_that_exits_leaves_the_batch_and_says_so(script, make_client, sim):
    """One line on the way out names what goes on and how it is taken up again."""
    sim.behave(seconds=1000)
    _, err = script("submit('x', 'a', 'b')").communicate(timeout=120)
    assert "x keeps running at the provider" in err
    assert len(err.strip().splitlines()) == 1
    goes_on(make_client, sim, "x", "a", "b")


def test_a_finished_batch_makes_no_noise_at_the_end(script, sim):
    """Nothing is said when nothing is under way."""
    out, err = script("submit('x', 'a').wait(60)").communicate(timeout=120)
    assert (out, err) == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_the_process_and_not_the_batch(script, make_client, sim, end):
    """Interrupted while it waits, terminated, hung up or killed: the provider goes on."""
    sim.behave(seconds=1000)
    process = script("h = submit('x', 'a', 'b'); print('up', flush=True); h.wait()")
    assert process.stdout.readline() == "up\n"
    process.send_signal(end)
    process.communicate(timeout=60)
    goes_on(make_client, sim, "x", "a", "b")


# -- forks -----------------------------------------------------------------------------------------


@needs_fork
def test_a_forked_child_touches_nothing(script, make_client, sim):
    """It can neither read nor write nor close the journal, and the parent does not notice it."""
    sim.behave(seconds=1000)
    process = script("""
        h = submit('x', 'a', 'b')
        pid = os.fork()
        if not pid:
            for use in (h.snapshot, h.results, h.cancel, c.batches, client,
                        lambda: c.submit(name='y', over=['z'], model='openai:gpt-5-mini')):
                try:
                    use()
                except Exception as error:
                    print(type(error).__name__, flush=True)
                else:
                    print('used', flush=True)
            sys.exit()   # the whole way out, with everything that runs at an exit
        os.waitpid(pid, 0)
        print(c.store.check() or 'whole', len(c.store.events.of_batch(h.id)) > 2, flush=True)
        h.wait()
        print('done', flush=True)
    """)
    said = [process.stdout.readline().strip() for _ in range(7)]
    assert said == ["ForkedProcess"] * 6 + ["whole True"]
    sim.advance(2000)
    out, err = process.communicate(timeout=120)
    assert out == "done\n"
    assert err == ""
    assert calls(sim, "/cancel") == []
    assert len(calls(sim, "/batches")) == 1
    assert mark("a") in make_client().get("x").answers()[0]


@needs_fork
def test_multiprocessing_in_a_cell_disturbs_no_batch(script, make_client, sim):
    """Children that fork while batches run work on the answers they are given."""
    process = script("""
        import multiprocessing
        h = submit('x', *(f'p{i}' for i in range(40)))
        with multiprocessing.get_context('fork').Pool(4) as pool:
            for i in range(5):
                assert pool.map(len, [['a'] * i] * 20) == [i] * 20
                submit(f'y{i}', f'q{i}').wait(60)
        answers = h.wait(60).answers()
        with multiprocessing.get_context('fork').Pool(2) as pool:
            print(sum(pool.map(len, answers)) == sum(map(len, answers)))
        c.close()
    """)
    out, err = process.communicate(timeout=200)
    assert (out, err) == ("True\n", "")
    assert len(sim.ledger()) == 45
    assert make_client().store.check() == ""


@needs_fork
def test_a_child_forked_before_any_batch_has_its_own(script, sim):
    """Where the parent has no journal open, a child may use it like any process."""
    process = script("""
        c.close()
        pid = os.fork()
        if not pid:
            c = client()
            print(bool(submit('x', 'a').wait(60).answers()), flush=True)
            c.close()
            os._exit(0)
        os.waitpid(pid, 0)
        print(len(client().batches()))
    """)
    out, err = process.communicate(timeout=120)
    assert out.split() == ["True", "1"], err


# -- kernels ---------------------------------------------------------------------------------------


@pytest.fixture
def kernel(sim, tmp_path):
    """Start kernels with the extension, on one data folder and one simulator."""
    made = []

    def start(notebook="nb.ipynb"):
        env = os.environ | sim.environ() | {"JPY_SESSION_NAME": str(tmp_path / notebook)}
        manager, client = start_new_kernel(kernel_name="python3", env=env, cwd=str(tmp_path))
        made.append((manager, client))

        def run(code, *, wait=True):
            """Run a cell; return what it said."""
            said = []

            def hear(message):
                content = message["content"]
                said.append(content.get("text", "") + "".join(content.get("traceback", [])))
                said.append(content.get("data", {}).get("text/plain", ""))

            if not wait:
                return client.execute(code)
            client.execute_interactive(code, timeout=120, output_hook=hear)
            return "".join(said)

        run.manager, run.client = manager, client
        run(
            "%load_ext jupyter_llm_batch\n"
            f"%config LLMBatch.data_dir = {str(tmp_path / 'data')!r}\n"
            "%config LLMBatch.poll_seconds = 1.0"
        )
        return run

    yield start
    for manager, client in made:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)


CELL = "%%llm_batch x --model openai:gpt-5-mini --split\na\n---\nb"
ACCEPTED = (
    "import time\nfrom jupyter_llm_batch.client import session\nc = session.current()\n"
    "while not all(job.remote_id for h in c.batches() for job in c.store.jobs(h.id)):\n"
    "    time.sleep(0.01)"
)


@pytest.mark.parametrize("end", ["shutdown", "kill", "restart"])
def test_a_kernel_that_ends_leaves_the_batch(kernel, sim, end, tmp_path):
    """Shut down, killed or restarted: the next kernel takes the batch up and binds its answers."""
    sim.behave(seconds=1000)
    run = kernel()
    run(CELL)
    run(ACCEPTED)
    if end == "kill":
        os.kill(run.manager.provisioner.pid, signal.SIGKILL)
    else:
        run.client.stop_channels()
        run.manager.shutdown_kernel(now=False, restart=end == "restart")
    (tmp_path / "nb.ipynb").unlink(missing_ok=True)
    assert calls(sim, "/cancel") == []
    sim.advance(2000)
    run = kernel()
    run("%llm_batch wait x")
    said = run("print(x)")
    assert mark("a") in said
    assert len(calls(sim, "/batches")) == 1
    assert len(sim.ledger()) == 2


def test_an_interrupt_stops_the_waiting_and_says_that_the_batch_goes_on(kernel, sim):
    """`%llm_batch wait` interrupted: one line, no cancel, and the kernel lives."""
    sim.behave(seconds=1000)
    run = kernel()
    run(CELL)
    run(ACCEPTED)
    heard = []
    message = run("%llm_batch wait x", wait=False)
    end = time.monotonic() + 90
    while time.monotonic() < end:
        got = run.client.get_iopub_msg(timeout=90)
        if got["parent_header"].get("msg_id") != message:
            continue
        content = got["content"]
        heard.append(content.get("text", "") + "".join(content.get("traceback", [])))
        if got["msg_type"] == "display_data":  # the panel: the magic waits from here on
            run.manager.interrupt_kernel()
        if content.get("execution_state") == "idle":
            break
    said = "".join(heard)
    assert "is still running at the provider" in said
    assert calls(sim, "/cancel") == []
    assert "safe to close" in run("print(repr(x))")
    sim.advance(2000)
    run("%llm_batch wait x")
    assert mark("b") in run("print(x)")
    assert len(calls(sim, "/batches")) == 1


def test_a_deleted_notebook_leaves_the_batch(kernel, sim, tmp_path):
    """Its batches run on and are found from any other notebook."""
    sim.behave(seconds=1000)
    path = tmp_path / "nb.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)]), path)
    run = kernel()
    run(CELL)
    run(ACCEPTED)
    path.unlink()
    run.client.stop_channels()
    run.manager.shutdown_kernel(now=True)
    assert calls(sim, "/cancel") == []
    assert "safe to close" in kernel("other.ipynb")("%llm_batch --all")


def test_only_cancel_cancels(kernel, sim):
    """The line magic does, and the provider hears it once."""
    sim.behave(seconds=1000)
    run = kernel()
    run(CELL)
    run(ACCEPTED)
    said = run("%llm_batch cancel x")
    assert "cancelling" in said
    until(lambda: calls(sim, "/cancel"))
    assert len(calls(sim, "/cancel")) == 1
