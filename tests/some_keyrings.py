"""Keyrings for tests: real backends of the package `keyring`, chosen by PYTHON_KEYRING_BACKEND."""

import json
import os
import threading
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class File(KeyringBackend):
    """Keeps passwords in the file that TEST_KEYRING names, and counts how often it was asked."""

    priority = 5

    def _read(self):
        path = Path(os.environ["TEST_KEYRING"])
        return json.loads(path.read_text()) if path.exists() else {}

    def _write(self, kept):
        Path(os.environ["TEST_KEYRING"]).write_text(json.dumps(kept))

    def get_password(self, service, username):
        kept = self._read()
        self._write(kept | {"asked": kept.get("asked", 0) + 1})
        return kept.get(f"{service} {username}")

    def set_password(self, service, username, password):
        self._write(self._read() | {f"{service} {username}": password})

    def delete_password(self, service, username):
        kept = self._read()
        if kept.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError(username)
        self._write(kept)


class Weak(File):
    """As good as a file in plain text."""

    priority = 0.5


class Broken(KeyringBackend):
    """Raises whatever it is asked."""

    priority = 5

    def get_password(self, service, username):
        raise RuntimeError("no bus")

    def set_password(self, service, username, password):
        raise RuntimeError("no bus")

    def delete_password(self, service, username):
        raise RuntimeError("no bus")


class Stuck(Broken):
    """Never answers until the test lets it."""

    let_go = threading.Event()

    def get_password(self, service, username):
        Stuck.let_go.wait(60)
        return "sim-of-a-slow-keyring"
