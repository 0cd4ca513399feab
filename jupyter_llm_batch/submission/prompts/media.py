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

import base64
import binascii
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import msgspec

from ...core.errors import UsageProblem
from ...core.request import Content, Rows
from ...data import images, media_types
from ...data.fields import fields_of, plain
from ...providers.shared.media import neutral
from .template import RESERVED, Template, place

Kind = Literal["image", "file"]
Part = dict[str, Any]

#: No provider takes more than this inline, so that a larger file is not even read.
MOST = 100_000_000

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
#: The names that providers give to files they keep; a path that exists is a path.
_KEPT = re.compile(r"file[-_][A-Za-z0-9_-]{6,}|files/[a-z0-9-]{1,40}")
#: Values per slice of a frame: each may be as large as an image.
_SLICE = 8


class Column(msgspec.Struct, frozen=True):
    """What ``--image NAME`` or ``--file NAME`` asks for.

    Attributes
    ----------
    folders
        Where the files of rows may lie; None for anywhere.
    """

    name: str
    kind: Kind
    folders: tuple[Path, ...] | None = None

    @property
    def option(self) -> str:
        """How a message names it."""
        return f"--{self.kind} {self.name}"


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
        except _Empty as empty:
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
        except _Empty:
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


# -- rows ------------------------------------------------------------------------------------------


class _Empty(Exception):
    """A null stands where media should be; the argument names the column."""


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


# -- values ----------------------------------------------------------------------------------------


def parts_of(value: Any, column: Column) -> list[Part]:
    """Return the parts that a value is; a list gives several, an empty one none.

    Raises
    ------
    UsageProblem
        It is no media, or cannot be read.
    """
    try:
        return [*_parts(value, column)]
    except UsageProblem as problem:
        raise UsageProblem(f"{column.option}: {problem}") from None


def _parts(value: Any, column: Column) -> Iterator[Part]:
    value = plain(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 0) == 1:
        value = value.tolist()
    if isinstance(value, list | tuple):
        for each in value:
            yield from _parts(each, column)
        return
    if value is None or (isinstance(value, str) and not value.strip()):
        raise _Empty(column.name)
    yield _part(value, column)


def _part(value: Any, column: Column) -> Part:
    kind = column.kind
    if isinstance(value, str):
        return _from_text(value, column)
    if isinstance(value, PurePath):
        return _from_path(Path(value), column)
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_bytes(bytes(value), kind, "", "the value")
    if images.is_picture(value):
        return _from_picture(value)
    if isinstance(value, Mapping) and (value.get("bytes") or value.get("path")):
        if value.get("bytes"):
            return _from_bytes(bytes(value["bytes"]), kind, str(value.get("path") or ""), "bytes")
        return _part(value["path"], column)
    uri, name = getattr(value, "uri", None), getattr(value, "id", None)
    if isinstance(uri, str):
        return _from_url(uri, kind, getattr(value, "mime_type", None))
    if isinstance(name, str) and _KEPT.fullmatch(name):
        return {"type": kind, "id": name}
    hint = ": PIL.Image.fromarray makes an image of it" if hasattr(value, "ndim") else ""
    raise UsageProblem(f"{type(value).__name__} is no path, URL, bytes or PIL image{hint}")


def _from_text(text: str, column: Column) -> Part:
    kind = column.kind
    found = _URL.match(text)
    if found is None:
        if _KEPT.fullmatch(text) and not Path(text).exists():
            return {"type": kind, "id": text}
        return _from_path(Path(text), column)
    scheme = found[1].lower()
    if scheme == "data":
        return _from_data_url(text, kind)
    if scheme == "file":
        return _from_path(Path(url2pathname(urlsplit(text).path)), column)
    if scheme in {"http", "https", "gs"} and found[2]:
        return _from_url(text, kind)
    if found[2]:
        raise UsageProblem(
            f"no provider fetches {scheme}:// URLs ({_short(text)}): give a signed https URL, a "
            "path or the bytes"
        )
    return _from_path(Path(text), column)


def _from_url(url: str, kind: Kind, media_type: str | None = None) -> Part:
    media_type = media_type or media_types.by_name(urlsplit(url).path)
    kind = "image" if media_type.startswith("image/") else kind
    if kind == "image" and media_type and not media_type.startswith("image/"):
        raise UsageProblem(f"{_short(url)} is no image ({media_type}): use --file")
    return {"type": kind, **({"media_type": media_type} if media_type else {}), "url": url}


def _from_data_url(url: str, kind: Kind) -> Part:
    head, comma, body = url.partition(",")
    try:
        if head.lower().endswith(";base64"):
            data = base64.b64decode(unquote_to_bytes(body), validate=True)
        else:
            data = unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        comma = ""
        data = b""
    if not comma:
        raise UsageProblem(f"{_short(url)} is no valid data: URL")
    said = head[5:].split(";")[0].lower()
    return _from_bytes(data, kind, f"x{media_types.SUFFIX_OF.get(said, '')}", _short(url))


def _check_place(path: Path, column: Column, shown: str) -> None:
    """Refuse a file that lies outside the folders whose files rows may name."""
    if column.folders is None:
        return
    place = path.resolve()
    inside = [place.relative_to(each) for each in column.folders if place.is_relative_to(each)]
    if any(not any(name.startswith(".") for name in each.parts) for each in inside):
        return
    where = "in a hidden folder" if inside else f"outside the notebook's folder {column.folders[0]}"
    raise UsageProblem(
        f"{shown} lies {where}, where a row may not name files: --media-folder "
        f"{_short(str(place.parent))} allows those there; nothing was sent"
    )


def _from_path(path: Path, column: Column) -> Part:
    kind, shown = column.kind, _short(str(path))
    try:
        path = path.expanduser()
        _check_place(path, column, shown)
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise UsageProblem(f"{shown} is a folder, not a file")
        if not stat.S_ISREG(about.st_mode):
            raise UsageProblem(f"{shown} is no regular file")
        if about.st_size > MOST:
            raise UsageProblem(
                f"{shown} has {about.st_size / 1e6:,.0f} MB, more than any provider takes inside a "
                "request: upload it to the provider, and give its id or URI"
            )
        data = path.read_bytes()
    except UsageProblem:
        raise
    except FileNotFoundError:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise UsageProblem(f"there is no file {shown}{where}") from None
    except PermissionError:
        raise UsageProblem(f"{shown} may not be read: check its permissions") from None
    except (OSError, ValueError, RuntimeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise UsageProblem(f"{shown} cannot be read as a file ({words})") from None
    return _from_bytes(data, kind, path.name, shown)


def _from_bytes(data: bytes, kind: Kind, name: str, shown: str) -> Part:
    if not data:
        raise UsageProblem(f"{shown} is empty: it has no bytes")
    media_type = media_types.of(data, name)
    if not media_type:
        raise UsageProblem(f"{shown} is of no known type: no {kind} that a provider takes")
    if kind == "image" and not media_type.startswith("image/"):
        raise UsageProblem(f"{shown} is no image ({media_type}): use --file")
    kind = "image" if media_type.startswith("image/") else "file"
    return {"type": kind, "media_type": media_type, "data": base64.b64encode(data).decode()}


def _from_picture(image: Any) -> Part:
    """Return a PIL image; its pixels stand for it in the hash, as PIL's encoders change."""
    data = images.encoded(image)
    pixels = blake2b(f"{image.mode}:{image.size}:".encode(), digest_size=16)
    pixels.update(image.tobytes())
    return {
        "type": "image",
        "media_type": media_types.of(data),
        "data": base64.b64encode(data).decode(),
        "pixels": pixels.hexdigest(),
    }


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:80]}… ({len(text):,} characters)"
