"""Measures the budgets side by side with the plainest alternative, the script by hand.

    python benchmarks/bench.py [--rows 50000] [--rounds 3]

Prints ratios, since seconds differ from machine to machine. Every pair is measured in one run, in
alternation, and the median of the rounds is taken.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pandas as pd
from by_hand import MODELS, QUESTION, SCRIPTS, openai_lines

from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.job import JobState
from jupyter_llm_batch.core.policy import Policy
from jupyter_llm_batch.simulator import Simulator

TEMPLATE = QUESTION + "\n\n{{ text }}"
FAST = Policy(poll=0.05, poll_longest=0.2, retry=0.1, jitter=0.0)


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def cell(rows, rounds):
    """Shift-Enter to the cell's return, everything durable, against building the same JSONL."""
    with Simulator(seconds=3600) as sim:
        for size in (40, 400, 4000):
            texts = [
                (f"{i} " + "lorem ipsum dolor " * (size // 18 + 1))[:size] for i in range(rows)
            ]
            frame = pd.DataFrame({"text": texts})
            ours, floor, jinja = [], [], []
            for number in range(rounds):
                with tempfile.TemporaryDirectory() as folder:
                    client = offline(sim, folder)
                    floor.append(timed(lambda: openai_lines(texts, Path(folder, "floor.jsonl")))[0])
                    ours.append(timed(lambda: submit(client, frame, TEMPLATE, f"a{number}"))[0])
                    upper = TEMPLATE.replace("text", "text|trim")
                    jinja.append(timed(lambda: submit(client, frame, upper, f"b{number}"))[0])
                    client.close()
            base = statistics.median(floor)
            print(
                f"cell, {rows:,} rows of {size:>5} characters: "
                f"{statistics.median(ours) / base:.2f} x floor, with a filter "
                f"{statistics.median(jinja) / base:.2f} x (floor {base:.2f} s)"
            )


def offline(sim, folder):
    """Return a client whose background never begins, so that only the cell is measured."""
    client = Client(
        environ=sim.environ(), folder=Path(folder), notebook="n", simulated=True, policy=FAST
    )
    client.context.background = Quiet()
    return client


class Quiet:
    """Takes work and leaves it."""

    def soon(self, *work):
        pass

    def call(self, work):
        work.close()
        return self

    def result(self, timeout=None):
        pass

    async def breathe(self):
        pass


def submit(client, frame, template, name):
    return client.submit(template, name=name, over=frame, model=f"openai:{MODELS['openai']}")


class World:
    """The simulator as a process of its own, so that its work is not taken for anybody's."""

    def __init__(self):
        command = [sys.executable, "-m", "jupyter_llm_batch.simulator", "--seconds", "3600"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told = self._process.stdout.readline()
        self.environ = dict(pair.split("=", 1) for pair in told.split())
        self._url = self.environ["OPENAI_BASE_URL"].partition("/openai")[0]

    def run_all(self):
        """Let all batches come to their end; when this returns every result can be fetched."""
        key = {"Authorization": f"Bearer {self.environ['OPENAI_API_KEY']}"}
        data = json.dumps({"advance": 4000}).encode()
        for what, body in (("clock", data), ("ledger/summary", None)):
            request = urllib.request.Request(f"{self._url}/_sim/{what}", body, key)
            with urllib.request.urlopen(request):
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()


def sending_and_receiving(world, send, receive):
    """Return the seconds until the provider has it, and from its end to the bound answers."""
    sending, sent = timed(send)
    world.run_all()
    return sending, timed(lambda: receive(sent))[0]


def end_to_end(provider, rows, rounds):
    """Submit to bound answers at a provider that needs no time."""
    texts = [f"text {i} " + "lorem ipsum dolor sit amet " * 12 for i in range(rows)]
    frame = pd.DataFrame({"text": texts})
    ours, theirs, restart = [], [], []
    with World() as world, tempfile.TemporaryDirectory() as folder:

        def client():
            return Client(
                environ=world.environ, folder=Path(folder), notebook="n", simulated=True,
                policy=FAST,
            )  # fmt: skip

        def send(name, frame=frame):
            model = f"{provider}:{MODELS[provider]}"
            handle = here.submit(TEMPLATE, name=name, over=frame, model=model)
            while any(job.state is not JobState.RUNNING for job in here.store.jobs(handle.id)):
                time.sleep(0.005)
            return handle

        script = SCRIPTS[provider](world.environ)
        here = client()
        # Imports and connections.
        few = texts[:10]
        sending_and_receiving(world, lambda: send("few", frame[:10]), lambda h: h.wait().answers())
        sending_and_receiving(
            world, lambda: script.send(few, folder), lambda i: script.receive(i, few)
        )
        here.close()
        for number in range(rounds):
            here = client()
            us = lambda name=f"run{number}": sending_and_receiving(  # noqa: E731
                world, lambda: send(name), lambda handle: handle.wait().answers()
            )
            them = lambda: sending_and_receiving(  # noqa: E731
                world, lambda: script.send(texts, folder), lambda i: script.receive(i, texts)
            )
            for work, spent in ((us, ours), (them, theirs))[:: 1 if number % 2 else -1]:
                spent.append(work())
            here.close()
            again = client()
            restart.append(timed(lambda a=again, n=f"run{number}": a.get(n).answers())[0])
            again.close()
    a, b = (statistics.median(map(sum, spent)) for spent in (ours, theirs))
    parts = [
        statistics.median(part) for spent in (ours, theirs) for part in zip(*spent, strict=True)
    ]
    print(
        f"{provider}, submit to answers, {rows:,} rows: {a / b:.2f} x the script by hand (until it "
        f"is sent {parts[0]:.2f} s against {parts[2]:.2f} s, from its end to the answers "
        f"{parts[1]:.2f} s against {parts[3]:.2f} s)"
    )
    print(f"{provider}, restart to {rows:,} answers: {statistics.median(restart):.2f} s")


LOADING = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
start = time.perf_counter()
shell.run_line_magic("load_ext", "jupyter_llm_batch")
print(time.perf_counter() - start)
"""


def loading(rounds):
    """`%load_ext` over a bare shell."""
    spent = [
        float(
            subprocess.run(
                [sys.executable, "-c", LOADING], capture_output=True, text=True, check=True
            ).stdout.split()[-1]
        )
        for _ in range(rounds)
    ]
    print(f"%load_ext: {1000 * statistics.median(spent):.0f} ms (budget 60)")


MEMORY = """
import resource, sys, tempfile, threading, time
from pathlib import Path
from jupyter_llm_batch.client.client import Client
from jupyter_llm_batch.core.policy import Policy
import openai, pyarrow, genai_prices, msgspec

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

rows, url, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = Client(environ={"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key},
                folder=Path(tempfile.mkdtemp()), notebook="n", simulated=True,
                policy=Policy(poll=0.1, poll_longest=0.2))
client.submit(name="warm", over=["a"], model="openai:gpt-5-mini").wait()
idle, peak, stop = resident(), [0.0], threading.Event()
def watch():
    while not stop.wait(0.005):
        peak[0] = max(peak[0], resident())
threading.Thread(target=watch, daemon=True).start()
texts = (f"{i} " + "x" * 4000 for i in range(rows))
client.submit(name="big", over=texts, model="openai:gpt-5-mini").wait()
stop.set()
print(peak[0] - idle)
"""


def memory(rows):
    """Peak memory above idle while rows of 4 KB are submitted and collected."""
    with Simulator(seconds=0) as sim:
        environ = sim.environ()
        arguments = [str(rows), environ["OPENAI_BASE_URL"], environ["OPENAI_API_KEY"]]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True
        )
    print(f"peak above idle, {rows:,} rows of 4 KB: {float(done.stdout):.0f} MB (budget 64)")


def stalls(rows):
    """How much a running cell is disturbed while answers are fetched and collected."""
    frame = pd.DataFrame({"text": [f"t{i} " + "x" * 200 for i in range(rows)]})
    with World() as world, tempfile.TemporaryDirectory() as folder:
        client = Client(
            environ=world.environ, folder=Path(folder), notebook="n", simulated=True, policy=FAST
        )
        handle = submit(client, frame, TEMPLATE, "x")
        while any(job.state is not JobState.RUNNING for job in client.store.jobs(handle.id)):
            time.sleep(0.005)
        client.context.background.user_is_busy = True
        before, _ = spinning(2)
        world.run_all()
        waited, longest = spinning(2)
        still = not handle.done
        client.context.background.user_is_busy = False
        handle.wait()
        client.close()
    print(
        f"a cell while {rows:,} answers are collected: longest stall {1000 * longest:.0f} ms "
        f"(budget 50), slowed by {100 * (waited - before):.0f} % (budget 15; "
        f"{100 * before:.0f} % without)" + ("" if still else "; it was over before the measuring")
    )


def spinning(seconds):
    """Return by which share a loop was slowed, and the longest time that it stood still."""
    longest, start, ran = 0.0, time.perf_counter(), time.thread_time()
    last, end = start, start + seconds
    while last < end:
        sum(range(1000))
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return (last - start) / (time.thread_time() - ran) - 1, longest


def many(batches):
    """What it costs to keep an eye on many batches: each tick asks every provider once."""
    policy = Policy(poll=2.0, poll_longest=2.0)
    with World() as world, tempfile.TemporaryDirectory() as folder:
        client = Client(
            environ=world.environ, folder=Path(folder), notebook="n", simulated=True, policy=policy
        )
        for number in range(batches):
            model = list(MODELS.items())[number % len(MODELS)]
            client.submit(name=f"b{number}", over=["a"], model=":".join(model))
        while any(
            job.state is not JobState.RUNNING
            for handle in client.batches()
            for job in client.store.jobs(handle.id)
        ):
            time.sleep(0.1)
        before = time.process_time()
        time.sleep(20)
        share = (time.process_time() - before) / 20 * policy.poll / Policy().poll
        client.close()
    print(f"{batches} batches under way: {100 * share:.2f} % of a core (budget 1)")


LAZY = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from bench import offline
from jupyter_llm_batch.simulator import Simulator

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

with Simulator(seconds=3600) as sim:
    client = offline(sim, sys.argv[2])
    model = "openai:gpt-5-mini"
    client.submit(name="warm", over=(f"{i}" for i in range(50_000)), model=model)
    before, start, rows = peak(), time.perf_counter(), int(sys.argv[1])
    client.submit(name="x", over=(f"row {i} " + "x" * 100 for i in range(rows)), model=model)
    print(rows / (time.perf_counter() - start), peak() - before)
"""


def lazy(rows):
    """Rows from a generator, planned and on disk."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", LAZY, str(rows), folder, str(Path(__file__).parent)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, grown = map(float, done.stdout.split())
    print(
        f"{rows:,} rows from a generator: {rate:,.0f} rows/s to disk (budget 50,000), memory "
        f"{grown:.0f} MB above that of 50,000"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    loading(5)
    cell(options.rows, options.rounds)
    for provider in SCRIPTS:
        end_to_end(provider, options.rows, options.rounds)
    memory(options.rows)
    stalls(options.rows)
    many(100)
    lazy(20 * options.rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"(this process: {peak / 1e3:.0f} MB with the frames and the simulator in it)")


if __name__ == "__main__":
    main()
