"""Check and classify the target of `--notify`: desktop, URL or command."""

from __future__ import annotations

import os
import shlex
import shutil
from urllib.parse import parse_qsl, urlsplit

from ..core.errors import UsageProblem, conceal
from ..storage import trust

DESKTOP = "desktop"


#: Words that switch a default off.
OFF = frozenset({"", "off", "none"})


#: ``env:NAME``: the URL is in a variable of the environment.
VARIABLE = "env:"


#: Parameters of a URL that are secrets.
_SECRETS = frozenset(
    {"key", "token", "sig", "signature", "secret", "password", "auth", "code", "access_token",
     "api_key", "apikey", "api-key"}
)  # fmt: skip


#: What is said of a command that a journal brought along.
FOREIGN = (
    "the --notify command was not run: it came with the data folder and was never set on this "
    "machine. To have it run, set it with --notify or %config LLMBatch.notify"
)


def check(wanted: str) -> str:
    """Return a way to be told, checked; empty for none.

    Raises
    ------
    UsageProblem
        It is neither ``desktop``, a URL, nor a command that is there.
    """
    wanted = wanted.strip()
    if wanted.lower() in OFF:
        return ""
    if wanted.lower() == DESKTOP:
        return DESKTOP
    if wanted.startswith(VARIABLE):
        url_of(wanted)
        return wanted
    if "://" in wanted.split(maxsplit=1)[0]:
        parts = urlsplit(wanted)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageProblem(
                f"--notify {parts.scheme}://…: a URL begins with https:// or http://"
            )
        named = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        if parts.username or parts.password or named & _SECRETS:
            raise UsageProblem(
                "--notify: this URL holds a key or a password, which would be stored with the "
                "batch. Put the URL into a variable of the environment, and write --notify env:NAME"
            )
        return wanted
    program = (command_words(wanted) or [""])[0]
    if shutil.which(program) is None:
        raise UsageProblem(
            f"--notify: there is no program {program!r}; say desktop, a URL, or a command line"
        )
    return wanted


def is_command(wanted: str) -> bool:
    """Whether a way that `check` returned runs a program of the user's choice."""
    others = ("http://", "https://", VARIABLE)
    return bool(wanted) and wanted != DESKTOP and not wanted.startswith(others)


def url_of(wanted: str) -> str:
    """Return the URL that a variable of the environment holds; it is stored nowhere else."""
    name = wanted.removeprefix(VARIABLE)
    url = os.environ.get(name, "").strip()
    if not url.startswith(("http://", "https://")):
        raise UsageProblem(f"--notify {wanted}: set the variable {name} to a URL first")
    conceal(url)
    return url


def is_foreign(wanted: str) -> bool:
    """Whether it is a command that this user never set on this machine.

    A journal may come from anywhere, and a command in it is then anybody's.
    """
    return is_command(wanted) and not trust.knows(wanted)


def command_words(line: str) -> list[str]:
    """Split a command line as a shell would."""
    try:
        return shlex.split(line, posix=os.name != "nt")
    except ValueError as error:
        raise UsageProblem(f"--notify {line}: {error}") from None
