"""Find the notebook that this process works for.

Batches are journaled under the name of their notebook. It is determined once per process, so that
`os.chdir` or a variable that is set late changes nothing. Imports little, because importing the
package imports this module.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return os.environ.get("PWD", "") or os.sep


#: The working folder when the package was imported.
FOLDER = _working_folder()

#: Programs that run the notebook named on their command line.
_RUNNERS = frozenset({"papermill", "nbconvert", "jupyter-nbconvert", "execute", "jupyter-execute"})


class Identity(NamedTuple):
    """A notebook, or the working folder when no notebook is known.

    Attributes
    ----------
    name
        The notebook's path; else the working folder.
    is_folder
        Only the working folder is known. Other kernels may have the same identity.
    former
        Other names under which batches of this notebook may be journaled.
    """

    name: str
    is_folder: bool = False
    former: tuple[str, ...] = ()

    def also(self, name: str) -> Identity:
        """Return it with one more former name."""
        if not name or name == self.name or name in self.former:
            return self
        return self._replace(former=(*self.former, name))


@cache
def current_notebook() -> Identity:
    """Return the notebook of this process, from its environment and its launcher."""
    return _of_path(_session() or _executed())


def notebook_of_shell(namespace: Mapping[str, Any]) -> Identity:
    """Return the notebook of a shell; some front ends name it in a variable."""
    told = notebook_variable(namespace)
    return _of_path(told) if told else current_notebook()


def notebook_variable(namespace: Mapping[str, Any]) -> str:
    """Return the notebook path that VS Code or papermill put into the namespace, or ``""``."""
    for name in ("__vsc_ipynb_file__", "PAPERMILL_INPUT_PATH"):
        found = namespace.get(name)
        if isinstance(found, str) and found.endswith(".ipynb"):
            return found if "://" in found else str(Path(FOLDER, found))
    return ""


def _of_path(path: str) -> Identity:
    if not path:
        return Identity(storable_name(FOLDER), is_folder=True)
    # Older versions looked at no runner or variable: they journaled under the folder.
    former = () if path == os.environ.get("JPY_SESSION_NAME") else (FOLDER,)
    return Identity(storable_name(path), former=tuple(map(storable_name, former)))


def storable_name(name: str) -> str:
    """Return a name that JSON and SQLite accept: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _session() -> str:
    """Return the session name that a Jupyter server gave to this kernel, not to an outer one.

    A kernel or script that a notebook starts inherits the variable.
    """
    name = os.environ.get("JPY_SESSION_NAME", "")
    if not name or not _is_kernel():
        return ""
    with contextlib.suppress(Exception):  # no rights, or it has ended
        if _launcher().environ().get("JPY_SESSION_NAME") == name:
            return ""
    return name


def _executed() -> str:
    """Return the notebook that papermill, `jupyter execute` or nbconvert runs in this kernel.

    For papermill it is the input notebook: the output often has another name each time.
    """
    if not _is_kernel():
        return ""
    with contextlib.suppress(Exception):
        launcher = _launcher()
        words = launcher.cmdline()
        runners = {Path(word).stem for word in words[:4]} & _RUNNERS
        books = [word for word in words[1:] if word.endswith(".ipynb")]
        if runners and books and (len(books) == 1 or "papermill" in runners):
            path = Path(launcher.cwd(), books[0])
            return str(path) if path.is_file() else ""
    return ""


def _is_kernel() -> bool:
    """Whether this process is a Jupyter kernel, and not a script that one has started."""
    app = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return bool(app is not None and app.initialized())


def _launcher() -> Any:
    """Return the process that launched this kernel."""
    import psutil

    told = os.environ.get("JPY_PARENT_PID", "")
    own = os.name == "posix" and told.isdigit() and told != "1"
    return psutil.Process(int(told) if own else os.getppid())
