"""Whether the process behind a lease has surely ended."""

import os
import subprocess
import sys
import time

import msgspec
import psutil
import pytest

from jupyter_llm_batch.storage import process as lease

_DEADLINE = 20.0


@pytest.fixture
def child():
    """A process that lives until it is ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def owner_of(process):
    return lease._of(process.pid)


def test_this_process_lives():
    """A process is not dead to itself, whatever nonce its lease has."""
    assert lease.me().pid == os.getpid()
    assert not lease.me().is_dead()
    assert not msgspec.structs.replace(lease.me(), nonce="n").is_dead()


def test_a_living_process_is_told_from_a_killed_one(child):
    """Another process of this host is alive until it was killed and reaped."""
    owner = owner_of(child)
    assert not owner.is_dead()
    child.kill()
    child.wait()
    assert owner.is_dead()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX keeps ended processes until reaped")
def test_a_killed_process_that_nobody_reaped_is_dead(child):
    """A zombie drives nothing any more, though its number is still taken."""
    owner = owner_of(child)
    child.kill()
    end = time.monotonic() + _DEADLINE
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
    assert owner.is_dead()


def test_a_process_of_another_host_cannot_be_judged():
    """What runs elsewhere is never called dead from here, whatever else is wrong with it."""
    for change in ({}, {"boot": "other"}, {"started": 0.0}, {"pid": 2**22 + 1}):
        owner = msgspec.structs.replace(lease.me(), host="elsewhere", **change)
        assert not owner.is_dead()


def test_a_process_from_before_the_reboot_is_dead():
    """A process of another boot of this host has ended, even when its number is in use again."""
    assert msgspec.structs.replace(lease.me(), boot="another boot").is_dead()


@pytest.mark.parametrize("seconds", [-3600.0, -2.0, 2.0])
def test_a_recycled_number_is_another_process(seconds):
    """A process of the same number that started at another time is not the owner."""
    here = msgspec.structs.replace(lease.me(), ticks=0)
    assert msgspec.structs.replace(here, started=here.started + seconds).is_dead()


@pytest.mark.skipif(not lease.me().ticks, reason="this system counts no ticks")
def test_a_clock_that_is_set_kills_nobody():
    """Start times move with the system's clock, the ticks from its boot do not."""
    here = lease.me()
    assert not msgspec.structs.replace(here, started=here.started - 3600.0).is_dead()
    assert msgspec.structs.replace(here, ticks=here.ticks + 1).is_dead()


def test_a_start_time_may_wobble():
    """A start time that is read a fraction of a second differently is the same process."""
    here = lease.me()
    assert not msgspec.structs.replace(here, started=here.started + 0.5).is_dead()


def test_a_number_that_no_process_has_is_dead():
    """A process number beyond all that exist belongs to nobody."""
    assert not psutil.pid_exists(2**31 - 1)
    assert msgspec.structs.replace(lease.me(), pid=2**31 - 1).is_dead()


def test_a_fork_asks_anew():
    """A forked process is someone else: it does not inherit the identity of its parent."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    code = (
        "import os\nfrom jupyter_llm_batch.storage import process as lease\nbefore = lease.me()\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(int(lease.me() == before or lease.me().pid != os.getpid()))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_who_may_yet_act(child):
    """Another living process of this host may; this one, a dead one and none at all may not."""
    written = lease.write(owner_of(child))
    assert lease.may_act(written)
    assert not lease.may_act("")
    assert not lease.may_act(lease.write(lease.me()))
    assert not lease.may_act(lease.write(msgspec.structs.replace(owner_of(child), host="other")))
    child.kill()
    child.wait()
    assert not lease.may_act(written)
