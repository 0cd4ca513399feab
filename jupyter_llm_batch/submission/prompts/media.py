"""Images and files beside a prompt: the user's values, row by row, as parts of a message.

A value is a path (text or pathlib), a URL (``https:``, ``data:``, ``gs:``), the name of a file
that the provider keeps (``file-…``, ``file_…``, ``files/…``), bytes, a PIL image, a dict with
``bytes`` or ``path``, an uploaded file's object, or a list of these. What comes out is described
in `providers.parts`. Contents of files are read when their row is reached, and no path gets into
a request: the same bytes ask the same, whatever they are called.

Rows may come from anybody, so the paths that they name are read only in the notebook's folder and
those that the user allows, and never in hidden folders. What a variable names is the user's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from ...core.errors import UsageProblem
from ...core.request import Content, Rows
from ...data.fields import fields_of
from ...providers.shared.media import neutral
from .media_parts import Column, Empty, Kind, Part, parts_of
from .template import RESERVED, Template, place

#: Values per slice of a frame: each may be as large as an image.
_SLICE = 8


def columns(
    image: str | Iterable[str],
    file: str | Iterable[str],
    folders: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
) -> list[Column]:
    """Return the columns that the two options name, images first.

    Parameters
    ----------
    folders
        Where rows may name files, besides the notebook's own folder.
    """
    allowed = [folders] if isinstance(folders, str | PathLike) else folders
    places = tuple(
        each.resolve() for each in (Path.cwd(), *(Path(f).expanduser() for f in allowed))
    )
    named: list[tuple[Kind, str | Iterable[str]]] = [("image", image), ("file", file)]
    return [
        Column(name, kind, places)
        for kind, names in named
        for name in ([names] if isinstance(names, str) else names)
        if name
    ]


def attach(
    template: Template,
    rows: Rows,
    wanted: Sequence[Column],
    *,
    namespace: Mapping[str, Any],
    skip_null: bool,
) -> Iterator[Content | None]:
    """Yield one content per row: its media, then its text; None for a row that is left out.

    A name is a field of the row, ``item``, ``key``, or else a variable, as in the template.

    Raises
    ------
    UsageProblem
        A name is not there, or a value is null or no media; with the row.
    """
    watched = _Watched(rows, wanted, namespace)
    texts = template.render(watched, namespace=namespace, skip_null=skip_null)
    for number, text in enumerate(texts):
        if text is None:
            yield None
            continue
        try:
            parts = [each for column in wanted for each in watched.parts(column)]
            yield _content(text, parts)
        except Empty as empty:
            if not skip_null:
                raise UsageProblem(
                    f"{place(rows, number)}: {empty} is empty (None, NaN or NA): "
                    "--skip-null leaves such rows out"
                ) from None
            yield None
        except UsageProblem as problem:
            raise UsageProblem(f"{place(rows, number)}: {problem}") from None


def attach_one(text: str, wanted: Sequence[Column], namespace: Mapping[str, Any]) -> Content:
    """Return the content of a prompt without rows, whose media are variables."""
    if not wanted:
        return text
    found: list[Part] = []
    for column in wanted:
        if column.name not in namespace:
            raise UsageProblem(f"{column.option}: {_nothing(column.name, (), namespace)}")
        try:
            found += parts_of(namespace[column.name], _of_users(column))
        except Empty:
            raise UsageProblem(f"{column.option}: the variable is empty") from None
    return _content(text, found)


def _of_users(column: Column) -> Column:
    """Return a column whose value is a variable: the user's own, wherever its file lies."""
    return Column(column.name, column.kind)


def _content(text: str, parts: list[Part]) -> Content:
    """Return media before text, as Anthropic and Google advise; OpenAI has no preference."""
    if not text.strip():
        raise UsageProblem("the prompt is blank; leave the row out")
    if not parts:
        return text
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def meaning(content: Content) -> Content:
    """Return what of a content goes into its hash: pixels instead of how they were encoded."""
    if not any("pixels" in part for part in neutral(content)):
        return content
    return [
        {**message, "content": [_meant(part) for part in message["content"]]}
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        else message
        for message in content
    ]


def _meant(part: Any) -> Any:
    if not isinstance(part, dict) or "pixels" not in part:
        return part
    return {"type": part["type"], "pixels": part["pixels"]}


class _Watched:
    """Rows that remember the one which was read last, so that an iterator is read only once."""

    def __init__(self, rows: Rows, wanted: Sequence[Column], namespace: Mapping[str, Any]) -> None:
        self.shape = rows.shape
        self.fields = rows.fields
        self._rows = rows
        self._namespace = namespace
        self._shared: dict[Column, list[Part]] = {}
        self._row: Mapping[Any, Any] = {}
        self._own = [column.name for column in wanted if column.name in (rows.fields or ())]
        for column in wanted:
            if rows.fields is not None and not (column.name in self._own or self._known(column)):
                words = _nothing(column.name, rows.fields, namespace)
                raise UsageProblem(f"{column.option}: {words}")

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self, names: Sequence[str], step: int = 1024) -> Iterator[tuple[Any, ...]]:
        """Yield the values of the fields `names`, and remember those of the media."""
        texts = self._rows.columns(names, step)
        media = self._rows.columns(self._own, _SLICE)
        for values, found in zip(texts, media, strict=True):
            self._row = dict(zip(self._own, found, strict=True))
            yield values

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield ``(key, item)`` per row, and remember it."""
        for key, item in self._rows.items():
            self._row = {"item": item, "key": key, **fields_of(item)}
            yield key, item

    def first(self) -> Any:
        """Return the first item."""
        return self._rows.first()

    def key(self, number: int) -> Any:
        """Return the key of row `number`."""
        return self._rows.key(number)

    def parts(self, column: Column) -> list[Part]:
        """Return the parts that `column` has in the row that was read last."""
        if column.name in self._row:
            return parts_of(self._row[column.name], column)
        if not self._known(column):
            fields = [name for name in self._row if name not in RESERVED or self.fields]
            words = _nothing(column.name, fields, self._namespace)
            if not fields:
                words = "the items have no fields: --" + column.kind + " item takes them themselves"
            raise UsageProblem(f"{column.option}: {words}")
        if column not in self._shared:
            self._shared[column] = parts_of(self._namespace[column.name], _of_users(column))
        return self._shared[column]

    def _known(self, column: Column) -> bool:
        return column.name in self._namespace


def _nothing(name: str, fields: Sequence[str], namespace: Mapping[str, Any]) -> str:
    texts = [each for each in fields if isinstance(each, str)]
    known = [*texts, *(each for each in namespace if not each.startswith("_"))]
    near = get_close_matches(name, known, n=1)
    if near:
        return f"there is no field or variable {name!r}; did you mean {near[0]!r}?"
    there = f"; there is: {', '.join(texts)[:200]}" if texts else ""
    return f"there is no field or variable {name!r}{there}"
