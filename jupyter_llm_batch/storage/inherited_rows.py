"""Answers that a batch takes from earlier batches of the same name, packed eight bytes a row."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

OWN = 0xFFFFFFFF


def pack(rows: int, taken: Mapping[int, tuple[str, int]], sources: Sequence[str]) -> bytes:
    """Pack ``row -> (batch id, row there)``; all other rows are the batch's own."""
    packed = bytearray(b"\xff" * (8 * rows))
    index = {source: number for number, source in enumerate(sources)}
    for row, (source, there) in taken.items():
        struct.pack_into("<II", packed, 8 * row, index[source], there)
    return bytes(packed)


def read(packed: bytes, sources: Sequence[str]) -> dict[int, tuple[str, int]]:
    """Return ``row -> (batch id, row there)`` of the rows that are not the batch's own."""
    return {
        row: (sources[source], there)
        for row, (source, there) in enumerate(struct.iter_unpack("<II", packed))
        if source != OWN
    }
