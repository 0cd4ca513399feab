"""Downloads that did not arrive whole: kept, and joined when no more is to be had.

``r0-j1.output.incomplete0`` lies beside the place of ``r0-j1.output.jsonl``. What is in it was paid
for, and a later download may hold less, or find the file gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.result import Outcome, Result
from . import files as payloads


def put_aside(path: Path) -> None:
    """Keep a download beside its place, where the next one goes."""
    number = 0
    while (other := path.with_suffix(f".incomplete{number}")).exists():
        number += 1
    path.replace(other)


def of(path: Path) -> list[Path]:
    """Return what was kept of the downloads of a file, the oldest first."""
    found = path.parent.glob(f"{path.stem}.incomplete*")
    return sorted(found, key=lambda each: int(each.suffix.removeprefix(".incomplete")))


def names(payload: Path) -> list[str]:
    """Return the parts of a job's results of which downloads were kept."""
    found = payload.parent.glob(f"{payload.stem}.*.incomplete*")
    return sorted({each.name.split(".")[-2] for each in found})


def join(path: Path, parse: Callable[[bytes], Result], before_commit: Callable[[], object]) -> None:
    """Put one line of every row that any download brought into `path`; an answer wins.

    A garbled line, whose row is known all the same, stands where no other is.

    Parameters
    ----------
    parse
        Reads one result line.
    before_commit
        Called when the file is about to get its name.
    """
    files = [*([path] if path.exists() else []), *of(path)]
    best: dict[tuple[str, int], tuple[int, int, int]] = {}
    read = [0] * len(files)
    times: Counter[tuple[int, str]] = Counter()
    for file, number, line in _numbered(files):
        read[file] += 1
        result = parse(line)
        worth = 2 if result.outcome is Outcome.OK else 1 if payloads.is_json(line) else 0
        if not (result.custom_id or worth):
            continue
        # Other programs may give an id twice, or none: the second in a file is another row.
        times[file, result.custom_id] += 1
        row = result.custom_id, times[file, result.custom_id]
        if row not in best or worth > best[row][0]:
            best[row] = worth, file, number
    chosen = {(file, number) for _, file, number in best.values()}
    if not chosen or (path.exists() and chosen == {(0, number) for number in range(read[0])}):
        return
    with payloads.writing(path) as writer:
        for file, number, line in _numbered(files):
            if (file, number) in chosen:
                writer.write(line.rstrip(b"\r\n") + b"\n")
        before_commit()
        if path.exists():
            put_aside(path)  # as it came


def _numbered(files: list[Path]) -> Iterator[tuple[int, int, bytes]]:
    for file, path in enumerate(files):
        for number, line in enumerate(payloads.lines(path)):
            yield file, number, line
