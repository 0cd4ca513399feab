"""Measures the budgets side by side with the plainest alternative, the script by hand.

    python benchmarks/bench.py [--rows 50000] [--quick]

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
import threading
import time
from pathlib import Path

import pandas as pd

from jupyter_llm_batch.client import Client
from jupyter_llm_batch.lifecycle import Policy
from jupyter_llm_batch.simulator import Simulator

MODEL = "gpt-5-mini"
TEMPLATE = "Is this review positive, negative or mixed? One word.\n\n{{ text }}"
FAST = Policy(poll=0.05, poll_longest=0.2, retry=0.1, jitter=0.0)


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def by_hand(texts, path):
    """Build the input file as the script by hand does, without an fsync."""
    with Path(path).open("w") as file:
        for row, text in enumerate(texts):
            prompt = f"Is this review positive, negative or mixed? One word.\n\n{text}"
            body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
            request = {
                "custom_id": str(row),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(request) + "\n")


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
                    floor.append(timed(lambda: by_hand(texts, Path(folder, "floor.jsonl")))[0])
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
    client.background = Quiet()
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
    return client.submit(template, name=name, over=frame, model=f"openai:{MODEL}")


def script(sim, texts, folder):
    """Upload, create, poll, download and parse as the script by hand does."""
    import openai

    environ = sim.environ()
    sdk = openai.OpenAI(api_key=environ["OPENAI_API_KEY"], base_url=environ["OPENAI_BASE_URL"])
    path = Path(folder, "by-hand.jsonl")
    by_hand(texts, path)
    with path.open("rb") as file:
        upload = sdk.files.create(file=file, purpose="batch")
    batch = sdk.batches.create(
        input_file_id=upload.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    while batch.status != "completed":
        time.sleep(0.05)
        batch = sdk.batches.retrieve(batch.id)
    answers = {}
    for line in sdk.files.content(batch.output_file_id).text.splitlines():
        result = json.loads(line)
        body = result["response"]["body"]
        answers[int(result["custom_id"])] = body["choices"][0]["message"]["content"]
    frame = pd.DataFrame({"text": texts})
    frame["answer"] = [answers[row] for row in range(len(texts))]
    return frame


def end_to_end(rows, rounds):
    """Submit to bound answers, less the time that the simulator itself needs."""
    texts = [f"text {i} " + "lorem ipsum dolor sit amet " * 12 for i in range(rows)]
    frame = pd.DataFrame({"text": texts})
    ours, theirs, restart = [], [], []
    with Simulator(seconds=0) as sim, tempfile.TemporaryDirectory() as folder:
        script(sim, texts[:10], folder)  # imports and connections
        for number in range(rounds):
            client = Client(
                environ=sim.environ(), folder=Path(folder), notebook="n", simulated=True,
                policy=FAST,
            )  # fmt: skip
            name = f"run{number}"
            both = [
                lambda name=name, client=client: (
                    submit(client, frame, TEMPLATE, name).wait().answers()
                ),
                lambda: script(sim, texts, folder),
            ]
            order = both if number % 2 else both[::-1]
            spent = {id(work): timed(work)[0] for work in order}
            ours.append(spent[id(both[0])])
            theirs.append(spent[id(both[1])])
            client.close()
            again = Client(
                environ=sim.environ(), folder=Path(folder), notebook="n", simulated=True,
                policy=FAST,
            )  # fmt: skip
            restart.append(timed(lambda a=again, n=name: a.get(n).answers())[0])
            again.close()
        busy = provider_time(sim, texts, folder)
    a, b = statistics.median(ours) - busy, statistics.median(theirs) - busy
    print(
        f"submit to answers, {rows:,} rows: {a / b:.2f} x the script by hand "
        f"({a:.2f} s against {b:.2f} s, the simulator's own {busy:.2f} s taken off both)"
    )
    print(f"restart to {rows:,} answers bound: {statistics.median(restart):.2f} s")


def provider_time(sim, texts, folder):
    """Return how long the simulator needs to run one batch, seen from a waiting client."""
    import openai

    environ = sim.environ()
    sdk = openai.OpenAI(api_key=environ["OPENAI_API_KEY"], base_url=environ["OPENAI_BASE_URL"])
    path = Path(folder, "by-hand.jsonl")
    by_hand(texts, path)
    with path.open("rb") as file:
        upload = sdk.files.create(file=file, purpose="batch")
    batch = sdk.batches.create(
        input_file_id=upload.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    start = time.perf_counter()
    while sdk.batches.retrieve(batch.id).status != "completed":
        time.sleep(0.01)
    return time.perf_counter() - start


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
from jupyter_llm_batch.client import Client
from jupyter_llm_batch.lifecycle import Policy
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
    """How much a running cell is disturbed while answers are collected."""
    frame = pd.DataFrame({"text": [f"t{i} " + "x" * 200 for i in range(rows)]})
    with Simulator(seconds=0) as sim, tempfile.TemporaryDirectory() as folder:
        client = Client(
            environ=sim.environ(), folder=Path(folder), notebook="n", simulated=True, policy=FAST
        )
        collecting = threading.Event()
        client.listen(lambda s: collecting.set() if s.state == "collecting" else None)
        submit(client, frame, TEMPLATE, "x")
        collecting.wait(60)
        client.background.user_is_busy = True
        longest, last, spins = 0.0, time.perf_counter(), 0
        end = last + 2
        while last < end:
            sum(range(1000))
            now = time.perf_counter()
            longest, last, spins = max(longest, now - last), now, spins + 1
        client.background.user_is_busy = False
        client.get("x").wait()
        quiet, last = 0, time.perf_counter()
        end = last + 2
        while time.perf_counter() < end:
            sum(range(1000))
            quiet += 1
        client.close()
    print(
        f"a cell while {rows:,} answers are collected: longest stall {1000 * longest:.0f} ms "
        f"(budget 50), slowed by {100 * (1 - spins / quiet):.0f} % (budget 15)"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    loading(5)
    cell(options.rows, options.rounds)
    end_to_end(options.rows, options.rounds)
    memory(options.rows)
    stalls(options.rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"(this process: {peak / 1e3:.0f} MB with the frames and the simulator in it)")


if __name__ == "__main__":
    main()
