"""The simulator as a server: ``python -m jupyter_llm_batch.simulator``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from .embedded import environ
from .launch import Address, address_file
from .server.control import World
from .server.http import serve
from .world.behaviour import Behaviour
from .world.fates import DIRECTIVES
from .world.files import private_folder, write_whole


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jupyter_llm_batch.simulator",
        description="Batch and real-time endpoints of the providers on loopback, at no cost.",
        epilog="A prompt may choose its own fate with [[sim:NAME]], or [[sim:NAME x2]] for its "
        f"first two runs; NAME is one of {', '.join(DIRECTIVES)}.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (any free one)")
    parser.add_argument("--state", type=Path, help="folder that keeps files, batches and ledger")
    parser.add_argument(
        "--fault", type=json.loads, action="append", default=[], metavar="JSON", help="set a fault"
    )
    parser.add_argument(
        "--idle-exit", type=float, metavar="SECONDS", help="end after so long without a request"
    )
    for field in msgspec.structs.fields(Behaviour):
        flag = "--" + field.encode_name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            kind = int if field.default is None else type(field.default)
            shown = "none" if field.default is None else "%(default)s"
            parser.add_argument(flag, type=kind, default=field.default, help=f"default {shown}")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted, or idle for too long."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    port, state = options.pop("port"), options.pop("state")
    faults, idle = options.pop("fault"), options.pop("idle_exit")
    try:
        behaviour = Behaviour().changed(options)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="llm-simulator-") as own, suppress(KeyboardInterrupt):
        asyncio.run(_run(state or Path(own), behaviour, port, faults, idle))


async def _run(
    state: Path,
    behaviour: Behaviour,
    port: int,
    faults: list[dict[str, Any]],
    idle: float | None,
) -> None:
    world = World(private_folder(state), behaviour)
    for fault in faults:
        world.fault(fault)
    server, port = serve(world, port)
    address = address_file(state)
    write_whole(address, msgspec.json.encode(Address(port, os.getpid(), world.door.key)))
    settings = environ(f"http://127.0.0.1:{port}", world.door.key)
    line = " ".join(f"{name}={value}" for name, value in settings.items())
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    stopping = asyncio.Event()
    with suppress(NotImplementedError):  # Windows' loop knows no signal handlers.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    try:
        while not stopping.is_set():
            rest = None
            if idle is not None:
                rest = world.last_request + idle - time.monotonic()
                if rest <= 0:
                    break
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), rest)
    finally:
        server.stop()
        world.save()
        address.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
