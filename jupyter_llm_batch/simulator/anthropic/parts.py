"""Anthropic's checks of the blocks of a message, and what they show to the model."""

from __future__ import annotations

from typing import Any

from ..server.seen import Seen, decode_base64, fits_media_type

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MOST_IMAGE = 5 * 1024 * 1024
_SOURCES = {
    "image": ("base64", "url", "file"),
    "document": ("base64", "url", "file", "text", "content"),
}


def media_fault(block: dict[str, Any], seen: Seen) -> str:
    """Return what is wrong with an image or a document, after its place; "" when it is good."""
    kind = block["type"]
    source = block.get("source")
    if not isinstance(source, dict) or "type" not in source:
        return f".{kind}.source: Field required"
    form, count = source["type"], seen.image if kind == "image" else seen.file
    if form not in _SOURCES[kind]:
        return f".{kind}.source: Input tag '{form}' is not known"
    if form == "url":
        url = str(source.get("url"))
        count(url.encode())
        return (
            ""
            if url.startswith("https://")
            else f".{kind}.source.url.url: Only HTTPS URLs are supported."
        )
    if form == "file":
        count(str(source.get("file_id")).encode())
        return "" if source.get("file_id") else f".{kind}.source.file.file_id: Field required"
    if form != "base64":
        count(str(source.get("data", source.get("content"))).encode())
        plain = form != "text" or source.get("media_type") == "text/plain"
        return "" if plain else f".{kind}.source.text.media_type: Input should be 'text/plain'"
    return _encoded(source, kind, seen)


def _encoded(source: dict[str, Any], kind: str, seen: Seen) -> str:
    place, media_type = f".{kind}.source.base64", str(source.get("media_type"))
    allowed = _IMAGES if kind == "image" else ("application/pdf",)
    if media_type not in allowed:
        listed = " or ".join(f"'{each}'" for each in allowed)
        return f"{place}.media_type: Input should be {listed}"
    size = len(source.get("data") or "")
    if kind == "image" and size > _MOST_IMAGE:
        return f"{place}: image exceeds 5 MB maximum: {size} bytes > {_MOST_IMAGE} bytes"
    data = decode_base64(source.get("data"))
    if data is None:
        return f"{place}.data: Input should be a valid base64 string"
    if not fits_media_type(data, media_type):
        if kind == "document":
            return f"{place}.data: The PDF specified was not valid."
        named = next((each for each in _IMAGES if fits_media_type(data, each)), None)
        if named is None:
            return f"{place}.data: Could not process image"
        return (
            f"{place}.data: Image does not match the provided media type {media_type}: "
            f"it appears to be {named}"
        )
    (seen.image if kind == "image" else seen.file)(data)
    return ""
