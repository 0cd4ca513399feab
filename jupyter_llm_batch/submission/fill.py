"""Write the requests of every row into the jobs of a plan."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from ..core import ids
from ..core.errors import UsageProblem
from ..core.ids import HASH, LEFT_OUT
from ..core.request import Content
from ..core.row_codes import SKIPPED, WAITING
from .lanes import Lane, Lanes
from .prompts import media, routing
from .reuse import Earlier
from .spec import Ask
from .spool import Spool

_canonical = msgspec.json.Encoder(order="deterministic").encode


class Filler:
    """Writes each row's line, or notes where its answer comes from."""

    def __init__(
        self, spool: Spool, lanes: Lanes, batch_id: str, earlier: Earlier, *, dedupe: bool
    ) -> None:
        self.taken: dict[int, tuple[str, int]] = {}
        self.hashes, self.outcomes, self.picks = bytearray(), bytearray(), bytearray()
        self._spool = spool
        self._lanes = lanes
        self._batch_id = batch_id
        self._take = earlier.take
        self._rows_of: dict[bytes, int] | None = {} if dedupe else None

    def fill(self, ask: Ask) -> None:
        """Take all rows of `ask`."""
        prefix = ids.custom_id(self._batch_id, 0)[:-1]
        write, hashes, outcomes = self._spool.write, self.hashes, self.outcomes
        models = None if ask.models is None else iter(ask.models)
        lane = None if models else self._lanes.of(ask.model)[1]
        for row, content in enumerate(ask.contents):
            if models is not None:
                lane = self._routed(models, ask.model, row, left_out=content is None)
            if content is None:
                hashes += bytes(HASH)
                outcomes.append(SKIPPED)
                continue
            assert lane is not None
            if isinstance(content, str) and not content.strip():
                raise UsageProblem(f"row {row}: the prompt is blank; leave the row out")
            digest = content_hash(lane.meaning, content, row)
            hashes += digest
            outcomes.append(WAITING)
            known = self._take(digest)
            if self._rows_of is not None:
                known = self._repeated(digest, row, known)
            if known is not None:
                self.taken[row] = known
                continue
            try:
                line = lane.encode(f"{prefix}{row}", content)
            except UsageProblem as problem:
                raise UsageProblem(f"row {row}: {problem}") from None
            write(row, line, lane)
            if type(content) is list:
                self._spool.weigh(content, lane)

    def _routed(
        self, models: Iterator[Any], default: str, row: int, *, left_out: bool
    ) -> Lane | None:
        """Return the lane of a row that names its model."""
        try:
            named = next(models)
            if left_out:
                self.picks += struct.pack("<H", LEFT_OUT)
                return None
            number, lane = self._lanes.of(routing.model_name(named, default))
        except UsageProblem as problem:
            raise UsageProblem(f"row {row}: {problem}") from None
        self.picks += struct.pack("<H", number)
        return lane

    def _repeated(
        self, digest: bytes, row: int, known: tuple[str, int] | None
    ) -> tuple[str, int] | None:
        """Return where an equal prompt is asked already, in this batch too."""
        assert self._rows_of is not None
        first = self._rows_of.setdefault(digest, row)
        if first == row or known is not None:
            return known
        return self.taken.get(first, (self._batch_id, first))


def content_hash(meaning: hashlib.blake2b, content: Content, row: int = 0) -> bytes:
    """Return the request hash: what all rows share, then what this one asks.

    It must never change for the same meaning, or an upgrade would buy answers again.
    """
    digest = meaning.copy()
    if isinstance(content, str):
        try:
            digest.update(b"\0text\0" + content.encode())
        except UnicodeEncodeError:
            raise UsageProblem(
                f"row {row}: the text holds a lone surrogate, which is not valid Unicode: "
                "clean it with text.encode('utf-8', 'replace').decode()"
            ) from None
    else:
        digest.update(b"\0json\0" + _canonical(media.meaning(content)))
    return digest.digest()
