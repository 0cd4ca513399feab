"""Names of batches, and keys of collected cells."""

from __future__ import annotations

import builtins
import hashlib
import keyword
import re
import unicodedata

from ..core.errors import UsageProblem

#: Names that IPython keeps for itself, besides those that begin with an underscore.
_SHELL = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open", "display"})


def check_name(name: str) -> None:
    """Raise `UsageProblem` unless `name` can be a variable of the user's own."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageProblem(f"{name!r} cannot be a batch's name: it must be a variable name")
    if name != (read := unicodedata.normalize("NFKC", name)):
        # Under the name as it was typed nobody could reach the answers, and two spellings that
        # look alike would be two batches, both paid for.
        raise UsageProblem(
            f"Write {read!r} instead of {name!r}: Python reads the name so, and nothing was sent "
            "(the two may look alike; copy the first)"
        )
    if name in _SHELL or re.fullmatch(r"_+|_i*|_i?\d+|_[iod]h|__.*", name):
        raise UsageProblem(f"Choose another name: {name!r} is one of IPython's own")
    if hasattr(builtins, name):
        raise UsageProblem(f"Choose another name: {name!r} is a Python built-in")


def cell_key(*parts: str) -> str:
    """Return a key for a collected cell where the front end gives no cell id."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
