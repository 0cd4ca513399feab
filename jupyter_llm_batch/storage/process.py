"""Who drives a batch: an identity that can be checked for life, and the record of a lease."""

from __future__ import annotations

import contextlib
import os
import socket
from functools import cache
from pathlib import Path

import msgspec
import psutil

#: Seconds without a heartbeat after which a lease of a process that cannot be checked is void.
STALE = 45.0

#: Seconds between two heartbeats.
BEAT = 10.0


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A process, so described that a later process with the same number is told apart."""

    host: str
    boot: str
    pid: int
    started: float
    nonce: str = ""
    #: Clock ticks from boot to its start, where the system tells: no clock that is set moves them.
    ticks: int = 0

    def is_dead(self) -> bool:
        """Whether the process has surely ended; False where that cannot be known from here."""
        here = me()
        if self.host != here.host:
            return False
        if self.boot != here.boot:
            return True
        try:
            process = psutil.Process(self.pid)
            ticks = _ticks(self.pid)
            if self.ticks and ticks:
                another = ticks != self.ticks
            else:
                another = abs(process.create_time() - self.started) > 1
            return bool(another or process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


def write(owner: Owner) -> str:
    """Return `owner` as a text that `may_act` reads."""
    return msgspec.json.encode(owner).decode()


def may_act(written: str) -> bool:
    """Whether another process of this host, as `write` named it, may wake up and act yet.

    This process is not meant: it is awake, and knows what it does. Nor are those of other hosts,
    which nobody could wait for.
    """
    if not written:
        return False
    owner = msgspec.json.decode(written, type=Owner)
    here = me()
    return owner.host == here.host and owner.pid != here.pid and not owner.is_dead()


@cache
def _of(pid: int) -> Owner:
    return Owner(
        host=socket.gethostname(),
        boot=_boot_id(),
        pid=pid,
        started=psutil.Process(pid).create_time(),
        ticks=_ticks(pid),
    )


def _ticks(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[19])  # the 22nd, after the name in brackets
    return 0


def me() -> Owner:
    """Return the identity of this process (asked anew after a fork)."""
    return _of(os.getpid())


def _boot_id() -> str:
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
        return file.read().strip()
    return str(round(psutil.boot_time() / 60))  # elsewhere the boot time wobbles by a second
