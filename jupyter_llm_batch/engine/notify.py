"""Tells the user, once, that a batch is done: on the desktop, to a URL, or by a command.

What is told is a name, a state and counts: no prompt, no answer, no key. Nothing leaves the machine
but to the URL that the user gave, and no redirect is followed. A failure harms nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys

import msgspec

from ..core.snapshot import Snapshot
from ..submission.notify_target import DESKTOP, FOREIGN, VARIABLE, command_words, is_foreign, url_of

#: Seconds for the whole attempt; a command that runs longer goes on by itself.
PATIENCE = 10.0

_WINDOWS_TOAST = """
Add-Type -AssemblyName System.Windows.Forms, System.Drawing
$icon = New-Object System.Windows.Forms.NotifyIcon
$icon.Icon = [System.Drawing.SystemIcons]::Information
$icon.Visible = $true
$icon.ShowBalloonTip(10000, $env:LLM_BATCH_NAME, $env:LLM_BATCH_TEXT, 'Info')
Start-Sleep -Seconds 8
"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is told about a batch."""

    name: str
    state: str
    rows: int
    ok: int
    failed: int
    simulated: bool
    text: str


def facts(shot: Snapshot) -> Facts:
    """Return what is told about a batch that ended; the reasons of failures may quote contents."""
    words = f"{shot.ok:,} of {shot.rows:,} rows answered"
    return Facts(
        name=shot.title,
        state=shot.state,
        rows=shot.rows,
        ok=shot.ok,
        failed=shot.failed,
        simulated=shot.simulated,
        text=f"{shot.state}: {words}, {shot.failed:,} failed" if shot.failed else words,
    )


async def send(wanted: str, told: Facts) -> str:
    """Tell `told` in the way that `check` returned; return what came of it. Never raises."""
    try:
        if is_foreign(wanted):
            return FOREIGN
        if wanted.startswith(VARIABLE):
            return await _post(url_of(wanted), told)
        if wanted.startswith(("http://", "https://")):
            return await _post(wanted, told)
        if wanted == DESKTOP:
            return await asyncio.to_thread(_desktop, told)
        return await asyncio.to_thread(_run, command_words(wanted), told)
    except Exception as error:  # noqa: BLE001 - whatever it is, the batch is done all the same
        return f"failed: {type(error).__name__}"  # its text may quote the URL, and that a secret


async def _post(url: str, told: Facts) -> str:
    import httpx2

    async with httpx2.AsyncClient(timeout=PATIENCE, follow_redirects=False) as client:
        answer = await client.post(
            url,
            content=msgspec.json.encode(told),
            headers={"Content-Type": "application/json", "User-Agent": "jupyter-llm-batch"},
        )
    return f"{'sent' if answer.status_code < 300 else 'failed'}: HTTP {answer.status_code}"


def _desktop(told: Facts) -> str:
    title = f"{told.name} is {told.state}"
    if sys.platform == "darwin":
        script = [
            "on run argv",
            "display notification (item 2 of argv) with title (item 1 of argv)",
        ]
        lines = [each for line in [*script, "end run"] for each in ("-e", line)]
        return _run(["osascript", *lines, title, told.text], told)
    if sys.platform == "win32":
        return _run(["powershell", "-NoProfile", "-Command", _WINDOWS_TOAST], told)
    if shutil.which("notify-send") is None:
        return "failed: no notify-send on this machine"
    return _run(["notify-send", "--app-name=Jupyter", "--", title, told.text], told)


def _run(command: list[str], told: Facts) -> str:
    """Run a command without a shell: facts are in its environment, never in its words."""
    given = {f"LLM_BATCH_{key.upper()}": str(value) for key, value in _plain(told).items()}
    process = subprocess.Popen(  # noqa: S603 - the user's own command line
        command,
        env={**os.environ, **given},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is not meant for it
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(PATIENCE)
        return f"{'failed' if code else 'sent'}: exit code {code}"
    return "sent: the command still runs"


def _plain(told: Facts) -> dict[str, object]:
    return msgspec.structs.asdict(told)
