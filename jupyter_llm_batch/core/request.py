"""Requests: contents, recipes, limits, and the protocols of rows and sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import msgspec

#: Content of one request: a prompt, a list of messages, or (with ``raw``) a request body.
Content: TypeAlias = "str | list[Any] | dict[str, Any]"


#: Returns how many requests a request line counts as.
Weigh: TypeAlias = "Callable[[bytes], int]"


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that all requests of a batch share.

    Attributes
    ----------
    endpoint
        ``"chat"``, ``"responses"``, ``"embeddings"`` or a provider's own path.
    system
        System prompt.
    max_tokens
        Upper bound of output tokens per answer.
    params
        Further request parameters, passed to the provider as they are.
    raw
        Contents are complete request bodies.
    schema
        JSON schema that every answer has to follow.
    schema_name
        Its name, for providers that want one.
    cache
        ``"5m"`` or ``"1h"``: cache the shared prefix. A hint: not part of the request hash.
    prefix
        Text that all prompts begin with, where caching is wanted. A hint as well.
    """

    endpoint: str = "chat"
    system: str | None = None
    max_tokens: int | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    raw: bool = False
    schema: dict[str, Any] | None = None
    schema_name: str = ""
    cache: str | None = None
    prefix: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider accepts in one job, less our margin.

    Attributes
    ----------
    requests
        Rows per job.
    bytes
        Bytes per job.
    line_bytes
        Bytes of one row.
    weigh
        Returns how many of `requests` a line counts as; None where each line counts once.
    one_model
        A job may hold only one model.
    labelled
        The provider stores our label on the job, so that a lost create can be found.
    settle
        Seconds until a listing surely shows an accepted create.
    documented
        The provider documents that time: a job that is not listed by then was not created. Else
        only a listing that shows a later create of ours proves it.
    primed
        One request must be answered before others can read its prefix from the cache.
    """

    requests: int
    bytes: int
    line_bytes: int
    weigh: Weigh | None = None
    one_model: bool = True
    labelled: bool = True
    settle: float = 120.0
    documented: bool = False
    primed: bool = False


class Mode(StrEnum):
    """How a job's requests reach the provider."""

    BATCH = "batch"
    REALTIME = "realtime"  # one by one through the ordinary endpoints, by this machine


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The form of the input, in which the answers are returned.

    Attributes
    ----------
    kind
        ``"one"``, ``"list"``, ``"dict"``, ``"series"`` or ``"frame"``.
    library
        ``"pandas"``, ``"polars"`` or ``"pyarrow"`` for frames and series.
    columns
        Columns of the input frame, in order.
    column
        Name of the answer column (``--as``).
    """

    kind: str
    library: str = ""
    columns: list[str] = msgspec.field(default_factory=list)
    column: str = "answer"


class Rows(Protocol):
    """The input of a batch, read once. `data.rows.read_rows` makes one from any input.

    Attributes
    ----------
    shape
        The form in which the answers are returned.
    fields
        Field names when all rows are known to have the same ones (frames), else None.
    """

    shape: Shape
    fields: Sequence[str] | None

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def columns(self, names: Sequence[str], step: int = 1024) -> Iterator[tuple[Any, ...]]:
        """Yield the values of the fields `names`, a tuple per row (frames only).

        At most `step` rows are Python objects at a time.
        """
        ...

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield ``(key, item)`` per row; the key of a list item is its position."""
        ...

    def key(self, number: int) -> Any:
        """Return the key of row `number` alone."""
        ...

    def first(self) -> Any:
        """Return the first item without consuming it (where `fields` is None)."""
        ...


class Sink(Protocol):
    """A writable target of bytes."""

    def write(self, data: bytes, /) -> object:
        """Write `data`."""
        ...
