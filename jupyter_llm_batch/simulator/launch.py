"""Finds or starts the simulator process that the kernels of a user share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import msgspec

from .world.files import private_folder, private_open

#: Seconds that a new process may take until it answers.
_PATIENCE = 30.0
#: Without a request for so long, the process ends itself.
_IDLE_EXIT = 1800.0

#: The processes started here; kept so that the interpreter can reap them.
_started: list[subprocess.Popen[bytes]] = []


class Running(msgspec.Struct, frozen=True):
    """A simulator process that answers."""

    url: str
    pid: int
    key: str

    def __repr__(self) -> str:
        return f"Running(url={self.url!r}, pid={self.pid})"

    def behave(self, **switches: object) -> None:
        """Set switches of `Behaviour`."""
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{self.url}/_sim/behave",
            data=msgspec.json.encode(switches),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        with _direct().open(request, timeout=5):
            pass


def _direct() -> urllib.request.OpenerDirector:
    """Return what opens addresses without a proxy of the environment in between."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Address(msgspec.Struct):
    """What a simulator process writes down about itself, in ``simulator.json``."""

    port: int
    pid: int
    key: str


def address_file(state_dir: Path) -> Path:
    """Return where a process with this state writes its address."""
    return state_dir / "simulator.json"


def ensure_running(state_dir: Path, *, seconds: float = 8.0) -> Running:
    """Return the simulator with this state, and start it if there is none.

    The process is in a session of its own: it survives the kernel that started it.

    Parameters
    ----------
    state_dir
        Folder of its files, batches and ledger.
    seconds
        Life of a batch, if a process has to be started; one that runs keeps its own.

    Raises
    ------
    RuntimeError
        If the new process does not answer; the message names its log.
    """
    private_folder(state_dir)
    with _locked(state_dir / "launch.lock"):
        return _find(state_dir) or _start(state_dir, seconds)


def _find(state_dir: Path) -> Running | None:
    try:
        address = msgspec.json.decode(address_file(state_dir).read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError):
        return None
    url = f"http://127.0.0.1:{address.port}"
    # No proxy of the environment may come between; the port may be another program's by now.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{url}/_sim/health", headers={"Authorization": f"Bearer {address.key}"}
        )
        with opener.open(request, timeout=5):
            return Running(url=url, pid=address.pid, key=address.key)
    except (OSError, HTTPException):
        return None


def _start(state_dir: Path, seconds: float) -> Running:
    log = state_dir / "simulator.log"
    command = [sys.executable, "-m", __package__, "--port", "0", "--seconds", str(seconds)]
    command += ["--state", str(state_dir), "--idle-exit", str(_IDLE_EXIT)]
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
    with private_open(log, "ab") as output:
        process = subprocess.Popen(  # noqa: S603  this very interpreter and package
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            creationflags=flags,
        )
    _started.append(process)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        running = _find(state_dir)
        if running is not None:
            return running
        time.sleep(0.02)
    message = f"the simulator did not start; see {log}"
    raise RuntimeError(message)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes; it goes with the process that holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
