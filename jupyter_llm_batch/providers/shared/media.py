"""Parts of a message that are not text: the one form that every provider's wire understands.

``{"type": "image" | "file", ...}`` with exactly one of

``"data"``
    the bytes in base64, with their ``"media_type"``; sound and video are files;
``"url"``
    where the provider fetches them, with a ``"media_type"`` if it is known;
``"id"``
    what the provider keeps already, under the name that it gave: ``file-…``, ``file_…``,
    ``files/…``.

``"pixels"`` beside ``"data"`` stands for it in the request's hash, where the bytes depend on the
release of an encoder. A part of any other shape is a provider's own and goes out as it is.
`media` makes these parts of the user's values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...core.errors import UsageProblem

_SOURCES = ("data", "url", "id")
#: Base64 that is shorter than this is shown to people as it is.
_SHOWN = 120


class Takes(msgspec.Struct, frozen=True, kw_only=True):
    """What media a provider takes in one request.

    Attributes
    ----------
    who
        The provider, as a message names it.
    images, files
        Media types; one that ends in ``/`` stands for all that begin so.
    words
        Both, as a message names them.
    most_images
        Images per request.
    image_data, file_data, all_data
        Characters of base64 of one image, of all files and of everything in a request.
    schemes
        What a URL may begin with.
    ids
        How the names of kept files begin.
    """

    who: str
    images: frozenset[str]
    files: tuple[str, ...]
    words: str
    most_images: int
    image_data: int
    file_data: int
    all_data: int
    schemes: tuple[str, ...] = ("https:", "http:")
    ids: tuple[str, ...]


def is_neutral(part: Any) -> bool:
    """Whether `part` is of the form that this module describes."""
    return (
        isinstance(part, dict)
        and part.get("type") in {"image", "file"}
        and any(source in part for source in _SOURCES)
    )


def neutral(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the neutral parts of a list of messages."""
    if not isinstance(content, list):
        return
    for message in content:
        said = message.get("content") if isinstance(message, dict) else None
        for part in said if isinstance(said, list) else ():
            if is_neutral(part):
                yield part


def check(content: Any, takes: Takes) -> None:
    """Raise `UsageProblem` for media that are refused, or too much for one request."""
    images = files = everything = 0
    for part in neutral(content):
        kind = str(part.get("media_type", ""))
        image = part["type"] == "image" or kind.startswith("image/")
        images += image
        if "data" not in part:
            _check_address(part, takes)
            continue
        if kind not in takes.images and not (
            part["type"] == "file" and kind.startswith(takes.files)
        ):
            raise UsageProblem(
                f"{takes.who} takes {takes.words}, not {kind or 'data without media_type'}"
            )
        size = len(part["data"])
        everything += size
        if image and size > takes.image_data:
            raise UsageProblem(
                f"{takes.who} takes images up to {_size(takes.image_data)} in base64, and this one "
                f"has {_size(size)}: make it smaller, about {_size(takes.image_data * 3 // 4)} as "
                "a file"
            )
        files += 0 if image else size
    for found, most, what in (
        (files, takes.file_data, "files"),
        (everything, takes.all_data, "images and files"),
    ):
        if found > most:
            raise UsageProblem(
                f"{takes.who} takes {what} up to {_size(most)} in base64 per request, and these "
                f"have {_size(found)}: upload them to the provider and give their ids, or send less"
            )
    if images > takes.most_images:
        raise UsageProblem(
            f"{takes.who} takes {takes.most_images:,} images per request, not {images:,}"
        )


def _check_address(part: dict[str, Any], takes: Takes) -> None:
    if "url" in part:
        url = str(part["url"])
        if "://" in url and not url.startswith(takes.schemes):
            allowed = " or ".join(f"{scheme}//…" for scheme in takes.schemes)
            raise UsageProblem(f"{takes.who} fetches {allowed}, not {url[:80]}")
    elif not str(part["id"]).startswith(takes.ids):
        known = " or ".join(f"{each}…" for each in takes.ids)
        raise UsageProblem(f"{takes.who} keeps files as {known}: {part['id']!r} is none of them")


def count(content: Any) -> tuple[int, int]:
    """Return how many images and files a content has, and their characters of base64."""
    found = [*neutral(content)]
    return len(found), sum(len(part.get("data", "")) for part in found)


# -- for people ------------------------------------------------------------------------------------


def mark(part: Any) -> str:
    """Return a part of any provider's form as a mark for people: ``[image/png, 24 kB]``."""
    if not isinstance(part, dict):
        return "[part]"
    kind = str(part.get("type") or next(iter(part), "part"))
    for media, data in _described(part):
        if media:
            return f"[{media}, {_size(len(data) * 3 // 4)}]"
        if data:
            return f"[{kind.removeprefix('input_').removesuffix('_url')} {data[:200]}]"
    return f"[{kind}]"


def _described(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the known forms say: media type and base64, or "" and an address."""
    for holder in (part, *(value for value in part.values() if isinstance(value, dict))):
        media = holder.get("media_type") or holder.get("mimeType") or ""
        for key in ("data", "file_data", "url", "image_url", "file_url", "fileUri", "file_id"):
            data = holder.get(key)
            if not isinstance(data, str):
                continue
            if data.startswith("data:"):
                head, _, data = data.partition(",")
                yield head[5:].split(";")[0], data
            else:
                yield (str(media) if key == "data" else ""), data


def shortened(value: Any) -> Any:
    """Return a request or an answer with its base64 cut to a readable length."""
    if isinstance(value, list):
        return [shortened(each) for each in value]
    if not isinstance(value, dict):
        return _cut(value) if isinstance(value, str) and value.startswith("data:") else value
    encoded = value.get("type") == "base64" or "mimeType" in value
    return {
        key: _cut(each) if key == "data" and encoded and isinstance(each, str) else shortened(each)
        for key, each in value.items()
    }


def _cut(text: str) -> str:
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN // 2]}… ({len(text):,} characters)"


def _size(size: int) -> str:
    for unit, name in ((1_000_000, "MB"), (1_000, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
