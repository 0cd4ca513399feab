"""Who is let in: whoever has this simulator's key, and no web page."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ..world.files import write_whole
from .wire import KEY_PREFIX

#: Headers that carry a key, with what stands before it.
_CARRIERS = {"Authorization": "Bearer ", "x-api-key": "", "x-goog-api-key": ""}
#: What stands where a key was that opens nothing.
_NO_KEY = "not-the-simulators-key"


class Door:
    """The key of one simulator, kept with its state, and a check of each request.

    Keys that begin with the simulator's own are let in, too: they are other accounts.

    Parameters
    ----------
    state
        The folder that keeps the key for the next run.
    also
        What further keys begin with, for tests.
    """

    def __init__(self, state: Path, also: tuple[str, ...] = ()) -> None:
        self._also = also
        file = state / "key"
        try:
            self.key = file.read_text().strip()
        except OSError:
            self.key = ""
        if not self.key.startswith(KEY_PREFIX):
            self.key = KEY_PREFIX + secrets.token_hex(16)
            write_whole(file, self.key.encode())
        if os.name != "nt":
            file.chmod(0o600)

    def opens(self, key: str) -> bool:
        """Whether `key` is let in."""
        own = key[: len(self.key)].encode(errors="replace")
        return secrets.compare_digest(own, self.key.encode()) or key.startswith(self._also)

    def checked(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return a request's keys by header: as they came, or one that every provider refuses."""
        found = {}
        for name, before in _CARRIERS.items():
            value = headers.get(name)
            if value is not None:
                key = value.removeprefix(before)
                # Real keys are refused by the provider's own endpoint, in its words.
                foreign = key.startswith(KEY_PREFIX) and not self.opens(key)
                found[name] = before + _NO_KEY if foreign else value
        return found

    def has_key(self, headers: Mapping[str, str]) -> bool:
        """Whether a request of the control API brings the key."""
        return self.opens(headers.get("Authorization", "").removeprefix("Bearer "))


def is_of_a_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser sent this for a web page: no SDK names an origin."""
    return "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none"
