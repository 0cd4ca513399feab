"""Forks children out of a process that has imported everything and started no thread.

So a run costs no imports. One story per provider is played in this process first, which loads what
is loaded on first use. Orders come in as lines of JSON, and what becomes of the children goes
out the same way: ``[pid, "born"]``, ``[pid, "stopped"]``, ``[pid, "ended", code, seconds]``.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import sys
import threading
import time

import msgspec

from jupyter_llm_batch.client.context import BACKGROUND

from . import child


def say(*event: object) -> None:
    """Write an event to the harness."""
    os.write(1, msgspec.json.encode(event) + b"\n")


def reap() -> None:
    """Tell what became of children, whoever it was."""
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return
        if not pid:
            return
        if os.WIFSTOPPED(status):
            say(pid, "stopped")
        else:
            say(pid, "ended", os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)


def warm(orders: list[child.Order]) -> None:
    """Play in this process, and end its threads: a fork copies memory but no threads."""
    for order in orders:
        child.play(order, child.Report(passed=[]))
    BACKGROUND.stop()
    while threading.active_count() > 1:
        time.sleep(0.001)
    gc.collect()
    gc.freeze()  # what is shared stays shared


def main() -> None:
    """Serve until the harness closes the pipe."""
    warm(msgspec.json.decode(sys.argv[1], type=list[child.Order]))
    say(0, "ready")
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(read, selectors.EVENT_READ)
    pending = b""
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, 1 << 16)
            if key.fd == read:
                reap()
                continue
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                order = msgspec.json.decode(line, type=child.Order)
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.dup2(2, 1)
                    child.run(order)
                say(pid, "born")


if __name__ == "__main__":
    main()
    sys.exit()
