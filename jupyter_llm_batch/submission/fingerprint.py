"""The cell as its user wrote it, in a hash that no encoding of ours or of pydantic's enters.

Where that is what it was and yet every request reads differently, not the user changed what is
meant but an upgrade did: then the cell asks before it pays again.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import msgspec

from ..core.batch import Batch
from ..core.errors import UsageProblem
from ..core.request import Content, Recipe
from ..data import structured

#: Rows that are looked at: enough to know them again, few enough to cost nothing.
HEAD = 20

_canonical = msgspec.json.Encoder(order="deterministic", enc_hook=repr).encode


def peek(
    contents: Iterable[Content | None],
) -> tuple[list[Content | None], Iterable[Content | None]]:
    """Return the first contents, and all of them."""
    rest = iter(contents)
    head = list(itertools.islice(rest, HEAD))
    return head, itertools.chain(head, rest)


def of(model: str, recipe: Recipe, head: Sequence[Content | None]) -> str:
    """Return the hash of model, options and first rows; of a schema only what its fields are.

    Options that stand at their defaults are left out, so that a release with new ones agrees with
    the one before.
    """
    plain = Recipe()
    said = {
        name: value
        for name in recipe.__struct_fields__
        if name not in {"schema", "cache"}
        and (value := getattr(recipe, name)) != getattr(plain, name)
    }
    if recipe.schema is not None:
        said["schema"] = sorted(structured.schema_fields(recipe.schema))
    return hashlib.blake2b(_canonical([model, said, head]), digest_size=16).hexdigest()


def made_with(recipe: Recipe) -> dict[str, str]:
    """Return the versions of what turns a cell into requests."""
    packages = ["jupyter-llm-batch", *(["pydantic"] if recipe.schema is not None else [])]
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a folder
            found[package] = ""
    return found


def check(
    written: str,
    made: Mapping[str, str],
    hashes: bytes,
    versions: Sequence[Batch],
    known: Mapping[str, bytes],
    size: int,
) -> None:
    """Ask before a cell is paid for that only an upgrade has made a new one.

    Parameters
    ----------
    hashes
        The request hashes of the cell, `size` bytes each.
    versions, known
        Earlier batches of the name, and their request hashes by id.

    Raises
    ------
    UsageProblem
        An earlier batch was written the same and none of its requests is the same, and they were
        made by other versions.
    """
    for batch in reversed(versions):
        if batch.written != written or batch.made_with == made:
            continue
        if parts(hashes, size).isdisjoint(parts(known.get(batch.id, b""), size)):
            changed = ", ".join(
                f"{package} {batch.made_with.get(package) or '?'} to {now or '?'}"
                for package, now in made.items()
                if batch.made_with.get(package) != now
            )
            raise UsageProblem(
                f"this cell reads as it did for {batch.title}, but since the upgrade of {changed} "
                "every request would be a new one: "
                f"`%llm_batch results {batch.title}` binds the answers that were paid for, "
                "--resubmit pays again"
            )


def parts(hashes: bytes, size: int) -> set[bytes]:
    """Return the request hashes of a batch, without those of rows that were left out."""
    return {hashes[at : at + size] for at in range(0, len(hashes), size)} - {bytes(size)}
