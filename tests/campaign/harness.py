"""Runs children against a simulator, and holds the ledger against the answers."""

from __future__ import annotations

import hashlib
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import msgspec

from jupyter_llm_batch.simulator import Simulator

from . import script
from .child import Order, Report, report_path
from .faults import mix
from .scenarios import PATIENCE, PROVIDERS, SCENARIOS, plays

_ROOT = Path(__file__).parents[2]


class Broken(AssertionError):
    """The promise does not hold."""


class Lane:
    """One simulator and one forge; runs of a lane follow one another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sim = Simulator(
            keys=("sim-",), seconds=0, anthropic_retry_after=0, state=folder / "sim"
        ).start()
        paths = [str(_ROOT), str(_ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        self._runs = 0
        #: The points of undisturbed runs.
        self.known: dict[tuple[str, str], list[str]] = {}
        self.seconds = 0.0  # of processor time in children
        self.locked_out = 0  # times that a frozen process kept another one out
        warm = msgspec.json.encode([self.begin(each, "one_job") for each in PROVIDERS])
        self._forge = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.forge", warm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if key != "SSL_CERT_FILE"}
            | {
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                # Nothing here speaks TLS, and reading all certificates costs as much as a run.
                "SSL_CERT_DIR": str(folder),
            },
        )
        self._events: list[list[object]] = []
        self._rest = b""
        self.await_event(lambda event: event[1] == "ready")

    def close(self) -> None:
        """End the forge and the simulator."""
        self._forge.communicate()
        self.sim.stop()

    # -- children ----------------------------------------------------------------------------------

    def begin(self, provider: str, scenario: str) -> Order:
        """Return the order for a new story: empty folders, an empty ledger."""
        self._runs += 1
        folder = self.folder / f"run{self._runs}"
        folder.mkdir()
        self.sim.reset()
        story, environ = SCENARIOS[scenario], self.sim.environ()
        if story.behaviour:
            self.sim.behave(**story.behaviour)
        return Order(
            provider=provider,
            scenario=scenario,
            folder=str(folder),
            control=self.sim.url,
            environ=environ,
            given=script.send(provider, environ, story.given) if story.given else "",
        )

    def end(self, order: Order) -> None:
        """Delete what a story left."""
        shutil.rmtree(order.folder, ignore_errors=True)

    def start(self, order: Order) -> int:
        """Start a child and return its number."""
        self._forge.stdin.write(msgspec.json.encode(order) + b"\n")
        self._forge.stdin.flush()
        return self.await_event(lambda event: event[1] == "born")[0]

    def await_event(self, wanted, timeout=None):
        """Return the first event that is wanted, now or when it comes; None after `timeout`."""
        while True:
            for event in self._events:
                if wanted(event):
                    self._events.remove(event)
                    return event
            if not select.select([self._forge.stdout], [], [], timeout)[0]:
                return None
            data = os.read(self._forge.stdout.fileno(), 1 << 16)
            if not data:
                raise RuntimeError("the forge died")
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._events += [msgspec.json.decode(line) for line in lines]

    def await_end(self, pid: int) -> int:
        """Return the exit code of a child, negative for a signal."""
        _, _, code, seconds = self.await_event(
            lambda event: event[0] == pid and event[1] == "ended"
        )
        self.seconds += seconds
        return code

    def report(self, order: Order, pid: int) -> Report:
        """Return what a child that ended by itself saw."""
        report = msgspec.json.decode(report_path(order.folder, pid).read_bytes(), type=Report)
        if report.error:
            raise Broken(f"a child failed\n{report.error}")
        return report

    def play(self, order: Order) -> tuple[int, Report | None]:
        """Run a child to its end; there is no report of one that was killed."""
        pid = self.start(order)
        code = self.await_end(pid)
        return code, None if code == -signal.SIGKILL else self.report(order, pid)

    # -- stories -----------------------------------------------------------------------------------

    def points(self, provider: str, scenario: str) -> list[str]:
        """Return the points that an undisturbed run passes."""
        order = self.begin(provider, scenario)
        _, report = self.play(order)
        self.check(order, report, calm=True)
        self.end(order)
        return report.passed

    def kill_at(self, provider: str, scenario: str, *names: str) -> int:
        """Kill children, one after the other, at these points; return how many were killed.

        Each child goes on where the one before was killed; the last one is left alone.
        """
        order = self.begin(provider, scenario)
        killed = kept = 0
        for name in names:
            code, report = self.play(msgspec.structs.replace(order, at={name: "SIGKILL"}))
            order.resume = killed % 2 == 0
            if code != -signal.SIGKILL:
                break
            killed += 1
            kept = max(kept, answered(order))
        else:
            _, report = self.play(order)
        self.check(order, report, calm=not killed, kept=kept)
        self.end(order)
        return killed

    def everywhere(self, deed: str, provider: str, scenario: str) -> int:
        """Kill or freeze once at every point; return how often.

        A busy machine makes a poll more or less between two runs; all other points are passed in
        each, and one that is not breaks the promise of this check (of a story with a deadline: one
        in ten).

        Parameters
        ----------
        deed
            ``kills`` or ``freezes``.
        """
        at = self.freeze_at if deed == "freezes" else self.kill_at
        names = self.points(provider, scenario)
        broken, missed = {}, []
        for name in names:
            try:
                if not at(provider, scenario, name):
                    missed.append(name)
            except Broken as error:
                broken[name] = str(error)
        absent = [name for name in missed if not _POLL.search(name)]
        if not SCENARIOS[scenario].timed or len(absent) > len(names) // 10:
            broken |= dict.fromkeys(absent, "not passed again")
        if broken:
            told = "\n".join(f"{name}: {said}" for name, said in broken.items())
            raise Broken(f"{provider}, {scenario}: {len(broken)} {deed} of {len(names)}\n{told}")
        return len(names) - len(missed)

    def endure(self, provider: str, scenario: str, *faults: dict) -> int:
        """Play a scenario while the wire fails; return how often it did."""
        order = self.begin(provider, scenario)
        for fault in faults:
            self.sim.fault(**fault)
        _, report = self.play(order)
        self.check(order, report)
        self.end(order)
        return sum(fault["met"] for fault in self.sim.faults())

    def chaos(self, seed: int, most: int = 4) -> tuple[str, int]:
        """Play something at random, with faults of the wire, killed up to `most` times.

        Returns
        -------
        tuple
            What was played, and how often it was killed.
        """
        dice = random.Random(seed)
        provider, scenario = dice.choice(sorted(plays()))
        faults = mix(seed) if dice.random() < 0.5 else []
        names = self._names(provider, scenario)
        order = self.begin(provider, scenario)
        for fault in faults:
            self.sim.fault(**fault)
        story = f"seed {seed}: {scenario} at {provider}, {len(faults)} faults"
        killed = 0
        while killed < most:
            order.resume = dice.random() < 0.5
            code, report = self.play(
                msgspec.structs.replace(order, at={dice.choice(names): "SIGKILL"})
            )
            if code != -signal.SIGKILL:
                break
            killed += 1
        else:
            _, report = self.play(order)
        try:
            self.check(order, report)
        except Broken as broken:
            raise Broken(f"{story}, killed {killed} times: {broken}") from None
        self.end(order)
        return story, killed

    def crowd(self, seed: int, most: int = 4) -> tuple[str, int]:
        """Have several play the same story at once, killed here and there, then one in peace.

        Returns
        -------
        tuple
            What was played, and how many were killed.
        """
        dice = random.Random(seed)
        # Whose cell is collected first is open among several: so is the order of the answers.
        provider, scenario = dice.choice([each for each in plays() if each[1] != "collected_cells"])
        names = self._names(provider, scenario)
        order = self.begin(provider, scenario)
        story = f"seed {seed}: {most} kernels play {scenario} at {provider}"
        killed = kept = 0
        try:
            ats = [{dice.choice(names): "SIGKILL"} for _ in range(most)]
            for kernel in [self.start(msgspec.structs.replace(order, at=at)) for at in ats]:
                if self.await_end(kernel) == -signal.SIGKILL:
                    killed += 1
                else:
                    self.report(order, kernel)
            kept = answered(order)
            _, report = self.play(order)
            self.check(order, report, kept=kept)
        except Broken as broken:
            raise Broken(f"{story}, {killed} killed: {broken}") from None
        self.end(order)
        return story, killed

    def _names(self, provider: str, scenario: str) -> list[str]:
        if (provider, scenario) not in self.known:
            self.known[provider, scenario] = self.points(provider, scenario)
        return self.known[provider, scenario]

    def freeze_at(self, provider: str, scenario: str, name: str) -> bool:
        """Freeze a child at a point, have another one take over, and wake the first one.

        One that is frozen with a lock in hand keeps the other out, who has to say so in one line;
        after the wake both go on.

        Returns
        -------
        bool
            Whether the point was passed.
        """
        order = self.begin(provider, scenario)
        first = self.start(msgspec.structs.replace(order, at={name: "SIGSTOP"}))
        frozen = self.await_event(lambda event: event[0] == first)[1] == "stopped"
        if frozen:
            self._take_over(order, first)
        self.check(order, self.report(order, first))
        self.end(order)
        return frozen

    def _take_over(self, order: Order, first: int) -> None:
        second = self.start(msgspec.structs.replace(order, resume=True, impatient=True))
        before = None
        end = time.monotonic() + PATIENCE
        while not (ended := self.await_event(lambda event: event[0] == second, 0.1)):
            if waits_for_sender(order):
                break  # rightly: nobody else can know what the frozen one will do
            if time.monotonic() > end:
                raise Broken("nobody took over")
        kept_out = bool(ended) and self.kept_out(order, second)
        if ended and not kept_out:
            before = self.deeds(order)
        os.kill(first, signal.SIGCONT)
        self.await_end(first)
        if not ended:
            self.await_end(second)
        if before is not None and before != (after := self.deeds(order)):
            raise Broken(f"the woken one acted: {before} became {after}")
        if kept_out:
            self.locked_out += 1
            second = self.start(order)
            self.await_end(second)
        self.check(order, self.report(order, second))

    def kept_out(self, order: Order, pid: int) -> bool:
        """Whether a child said that a frozen one has the journal, and nothing more."""
        report = msgspec.json.decode(report_path(order.folder, pid).read_bytes(), type=Report)
        *_, said = report.error.strip().splitlines() or [""]
        return "StoreProblem" in said and "another process's hands" in said

    def await_journal(self, order: Order, wanted: str) -> None:
        """Wait until an event stands in the journal."""
        end = time.monotonic() + PATIENCE
        while wanted not in self.deeds(order)[0]:
            if time.monotonic() > end:
                raise Broken(f"{wanted} never came")
            time.sleep(0.01)

    def deeds(self, order: Order) -> tuple[list[str], int]:
        """Return what stands in the journal, and how often something was created."""
        query = "SELECT event FROM event WHERE event != 'cancel-requested' ORDER BY seq"
        try:
            with journal(order) as db:
                events = [row[0] for row in db.execute(query)]
        except sqlite3.OperationalError:
            events = []  # there is none yet
        creates = [seen for seen in self.sim.requests() if seen["method"] == "POST"]
        return events, len([seen for seen in creates if _CREATE.search(seen["path"])])

    def check(self, order: Order, report: Report, *, calm: bool = False, kept: int = 0) -> None:
        """Hold ledger and answers against one another; `Broken` says what is wrong.

        Parameters
        ----------
        calm
            Nobody disturbed the story: no row has an excuse.
        kept
            So many real-time answers were on disk at a kill.
        """
        story = SCENARIOS[order.scenario]
        ledger = Counter(entry["prompt_mark"] for entry in self.sim.ledger())
        asked: Counter[str] = Counter()
        for cell in report.seen:
            here = Counter(mark(prompt) for prompt in cell["prompts"])
            asked |= here
            for prompt, outcome, answer in zip(
                cell["prompts"], cell["outcomes"], cell["answers"], strict=True
            ):
                paid = ledger[mark(prompt)]
                if outcome == "ok" and mark(prompt) not in (answer or ""):
                    raise Broken(f"{cell['name']}: {prompt!r} has another row's answer: {answer!r}")
                if outcome == "ok" and not paid:
                    raise Broken(f"{cell['name']}: {prompt!r} has an answer that nobody billed")
                if outcome == "missing" and story.unclear and not calm:
                    continue
                if outcome != "ok" and (paid or story.exact):
                    raise Broken(f"{cell['name']}: {prompt!r} was lost ({outcome}, paid {paid})")
        for key, paid in ledger.items():
            most = min(asked[key], 1) if story.once else asked[key]
            if paid > most:
                raise Broken(f"{key} was billed {paid} times and asked {asked[key]} times")
        bound = sum(cell["outcomes"].count("ok") for cell in report.seen)
        if bound < kept:
            raise Broken(f"{kept} real-time answers were on disk, and {bound} are bound")
        if report.unfinished:
            raise Broken(f"left unfinished: {report.unfinished}")


#: Points that depend on timing: a poll, the note of what it saw, the cancel of what may have ended,
#: and a second look at a model, where two jobs ask for it at the same moment.
_POLL = re.compile(
    r" GET \S+/(batches|batches/\*) #| commit update batch #|/cancel #| GET \S+/models/\S+ #(?!1$)"
)

#: The path of a request that creates a batch.
_CREATE = re.compile(r"/batches$|:(async)?batch\w+$", re.IGNORECASE)


@contextmanager
def journal(order: Order):
    """Give read access to the journal of a story."""
    path = Path(order.folder) / "data" / "simulated" / "journal.sqlite"
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        yield db
    finally:
        db.close()


def answered(order: Order) -> int:
    """Return how many rows have a whole real-time answer on disk."""
    logs = (Path(order.folder) / "data").glob("**/*.answers.*")
    rows = {line.split()[0] for log in logs for line in log.read_bytes().splitlines(True)
            if line.endswith(b"\n")}  # fmt: skip
    return len(rows)


def waits_for_sender(order: Order) -> bool:
    """Whether a job waits for what a frozen process will do."""
    try:
        with journal(order) as db:
            rows = db.execute("SELECT record FROM job WHERE state = 'unknown'").fetchall()
    except sqlite3.Error:
        return False
    return any("frozen" in row[0].decode() for row in rows)


def mark(prompt: str) -> str:
    """Return the mark of a prompt in ledger and answers."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:8]


def lane() -> Lane:
    """Return a lane in a temporary folder, in memory where there is one."""
    shm = Path("/dev/shm")
    return Lane(Path(tempfile.mkdtemp(prefix="campaign-", dir=shm if shm.is_dir() else None)))
