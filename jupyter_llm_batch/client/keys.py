"""Keys: from the environment, from this kernel's `login`, from Colab's secrets, from the keyring.

A key is looked up only for a provider that is asked for, and once per process. Nothing is asked
of Colab or of a keyring that may want a password unless the user has just asked for something:
loading and the background never make a dialog appear, and never wait long.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any

from ..core.errors import UsageProblem, conceal
from ..core.secret import HiddenDict, HiddenView

#: Under this name the system's keyring holds our keys, one per variable.
SERVICE = "jupyter-llm-batch"

ENVIRONMENT = "environment"
KERNEL = "this kernel"
COLAB = "Colab"
KEYRING = "keyring"

#: Seconds that a keyring may take, where the user waits and where only the background does.
_PATIENCE = {True: 10.0, False: 1.0}
#: Seconds after which a key that was not there is looked for again.
_AGAIN = 15.0

#: Keyrings of the system that never ask for a password once the user is logged in.
_SILENT = ("keyring.backends.macOS", "keyring.backends.Windows", "keyring.backends.fail",
           "keyring.backends.null")  # fmt: skip


class Chain:
    """The variables of one client: those given, or the process's own and keys from elsewhere.

    Parameters
    ----------
    given
        A mapping like ``os.environ`` that holds everything; None for the process's environment,
        and then keys that are not in it are looked for elsewhere.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.closed = given is not None
        self.environ = HiddenView(os.environ if given is None else given)

    def variables(self, names: Sequence[str], *, ask: bool = False) -> HiddenDict:
        """Return the environment, with the key that one of `names` may hold elsewhere."""
        environ = HiddenDict(self.environ)
        if not self.closed and not _any(environ, names):
            for name in names:
                found = KEYS.find(name, ask=ask)
                if found is not None:
                    environ[name] = found[0]
                    break
        return environ

    def origin(self, names: Sequence[str]) -> str:
        """Return where the key comes from, in a word for people; empty when there is none."""
        if _any(self.environ, names):
            return "given" if self.closed else ENVIRONMENT
        if not self.closed:
            for name in names:
                found = KEYS.find(name)
                if found is not None:
                    return found[1]
        return ""


def _any(environ: Mapping[str, str], names: Sequence[str]) -> bool:
    return any(environ.get(name, "").strip() for name in names)


class Keys:
    """What this process knows of keys that are not in its environment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, str]] = {}
        self._absent: dict[tuple[str, str], float] = {}
        self._asked: dict[str, Future[str | None]] = {}

    def __repr__(self) -> str:
        return f"<keys of {', '.join(sorted(self._known)) or 'nobody'}>"

    def find(self, name: str, *, ask: bool = False) -> tuple[str, str] | None:
        """Return a key and where it comes from.

        Parameters
        ----------
        name
            The variable that would hold it.
        ask
            The user has asked for something just now, so that a dialog is no surprise; ignored
            on other threads than the main one.
        """
        known = self._known.get(name)
        if known is not None:
            return known
        ask = ask and threading.current_thread() is threading.main_thread()
        for origin, look in ((COLAB, self._in_colab), (KEYRING, self._in_keyring)):
            if self._clock() - self._absent.get((origin, name), -_AGAIN) < _AGAIN:
                continue
            value = look(name, ask)
            if value:
                return self._keep(name, value, origin)
            if value is not None:
                self._absent[origin, name] = self._clock()
        return None

    def save(self, name: str, value: str) -> str:
        """Keep a key for this process, and in the keyring when there is one; say where."""
        saved = _within(_PATIENCE[True], _write, name, value)
        return self._keep(name, value, KEYRING if saved else KERNEL)[1]

    def drop(self, name: str) -> list[str]:
        """Forget a key here and in the keyring; say where it was."""
        with self._lock:
            known = self._known.pop(name, None)
            self._absent.pop((KEYRING, name), None)
        places = [known[1]] if known is not None else []
        if _within(_PATIENCE[True], _delete, name) and KEYRING not in places:
            places.append(KEYRING)
        return places

    def forget(self) -> None:
        """Know nothing, as a new process does."""
        with self._lock:
            self._known.clear()
            self._absent.clear()
            self._asked.clear()

    def _keep(self, name: str, value: str, origin: str) -> tuple[str, str]:
        conceal(value)
        with self._lock:
            self._known[name] = value, origin
        return value, origin

    def _in_colab(self, name: str, ask: bool) -> str | None:
        """Return a secret of the notebook's owner; empty when denied, None when not asked."""
        if "google.colab" not in sys.modules and "COLAB_RELEASE_TAG" not in os.environ:
            return ""
        if not ask:
            return None  # the answer comes through the kernel's own socket, perhaps by a dialog
        try:
            userdata = importlib.import_module("google.colab.userdata")
            return str(userdata.get(name) or "").strip()
        except Exception:  # noqa: BLE001 - absent, denied, no front end: all the same here
            return ""

    def _in_keyring(self, name: str, ask: bool) -> str | None:
        """Return what the keyring holds; empty when nothing, None while it has not answered."""
        if not _has_keyring():
            return ""
        with self._lock:
            answer = self._asked.pop(name, None)
        # A keyring that did not answer in time is not asked again, only looked at.
        wait = _PATIENCE[ask] if answer is None else 0.0
        answer = answer or _on_a_thread(_read, name, ask)
        try:
            return answer.result(wait)
        except NoAnswer:
            with self._lock:
                self._asked[name] = answer
            return None


def check(value: str) -> str:
    """Return a key without blanks around it; `UsageProblem` when no header can carry it."""
    value = value.strip()
    if not value:
        raise UsageProblem("no key was given: nothing is changed")
    if not (value.isascii() and value.isprintable()):
        raise UsageProblem("that holds characters that no key has: copy it again")
    return value


# -- the keyring, on a thread of its own, since its backends may block -----------------------------


def _has_keyring() -> bool:
    return "keyring" in sys.modules or importlib.util.find_spec("keyring") is not None


def _on_a_thread(work: Callable[..., Any], *args: Any) -> Future[Any]:
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(work(*args))
        except BaseException:  # noqa: BLE001 - a broken keyring is like none, whatever it raises
            answer.set_result("")

    threading.Thread(target=run, name="llm-batch-keyring", daemon=True).start()
    return answer


def _within(seconds: float, work: Callable[..., Any], *args: Any) -> bool:
    if not _has_keyring():
        return False
    try:
        return bool(_on_a_thread(work, *args).result(seconds))
    except NoAnswer:
        return False


def _read(name: str, ask: bool) -> str | None:
    import keyring

    if not ask and not _is_silent(keyring.get_keyring()):
        return None
    return (keyring.get_password(SERVICE, name) or "").strip()


def _write(name: str, value: str) -> bool:
    import keyring
    from keyring.core import recommended

    # A file in plain text is a keyring too; a key is safer with this kernel alone.
    if not recommended(keyring.get_keyring()):
        return False
    keyring.set_password(SERVICE, name, value)
    return keyring.get_password(SERVICE, name) == value


def _delete(name: str) -> bool:
    import keyring

    if keyring.get_password(SERVICE, name) is None:
        return False
    keyring.delete_password(SERVICE, name)
    return True


def _is_silent(backend: Any) -> bool:
    """Whether a look into `backend` cannot make a dialog appear."""
    module = type(backend).__module__
    if module == "keyring.backends.chainer":
        return all(_is_silent(each) for each in backend.backends)
    if module == "keyring.backends.SecretService":
        return not _is_locked(backend)
    return module in _SILENT


def _is_locked(backend: Any) -> bool:
    """Whether the desktop's secret store would ask for its password."""
    import contextlib

    secretstorage = importlib.import_module("secretstorage")
    with contextlib.closing(secretstorage.dbus_init()) as bus:
        path = getattr(backend, "preferred_collection", None)
        if path:
            return bool(secretstorage.Collection(bus, path).is_locked())
        return bool(secretstorage.get_default_collection(bus).is_locked())


#: The process's own.
KEYS = Keys()
