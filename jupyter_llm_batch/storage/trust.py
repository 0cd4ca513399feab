"""What this user has set on this machine, as far as it can do harm when somebody else wrote it.

A data folder can be copied from anywhere, so nothing in it is run, and no server that it names
gets a key. Commands and servers are remembered, as hashes, in Jupyter's configuration folder when
the user gives them; later kernels and the terminal then use them for batches of theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from .files import private_folder

#: What was set in this process; enough where the configuration cannot be written.
_here: set[str] = set()


def remember(text: str) -> None:
    """Note that the user has set `text` on this machine."""
    if text in _here:
        return
    _here.add(text)
    with contextlib.suppress(Exception):  # a folder that cannot be written: then only here
        private_folder(_folder())
        (_folder() / _name(text)).touch(0o600)


def knows(text: str) -> bool:
    """Whether the user has set `text` here, in this process or an earlier one."""
    if text in _here:
        return True
    try:
        return (_folder() / _name(text)).exists()
    except OSError:
        return False


def _name(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _folder() -> Path:
    from jupyter_core.paths import jupyter_config_dir

    return Path(jupyter_config_dir()) / "llm_batch" / "set-here"
