"""One value of the user's (path, URL, bytes, PIL image, …) into the parts of a message."""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import msgspec

from ...core.errors import UsageProblem
from ...data import images, media_types
from ...data.fields import plain_value

Kind = Literal["image", "file"]


Part = dict[str, Any]


#: No provider takes more than this inline, so that a larger file is not even read.
MOST = 100_000_000


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")


#: The names that providers give to files they keep; a path that exists is a path.
_KEPT = re.compile(r"file[-_][A-Za-z0-9_-]{6,}|files/[a-z0-9-]{1,40}")


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


class Empty(Exception):
    """A null stands where media should be; the argument names the column."""


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
    value = plain_value(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 0) == 1:
        value = value.tolist()
    if isinstance(value, list | tuple):
        for each in value:
            yield from _parts(each, column)
        return
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Empty(column.name)
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
    media_type = media_type or media_types.type_by_name(urlsplit(url).path)
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
        raise UsageProblem(f"{_short(url)} is not a valid data: URL")
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
    media_type = media_types.media_type_of(data, name)
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
        "media_type": media_types.media_type_of(data),
        "data": base64.b64encode(data).decode(),
        "pixels": pixels.hexdigest(),
    }


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:80]}… ({len(text):,} characters)"
