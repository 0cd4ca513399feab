"""Gemini's checks of the parts of a content, and what they show to the model."""

from __future__ import annotations

from typing import Any

from ..server.seen import Seen, decode_base64, fits_media_type
from .checks import ApiError, camel_case

_TAKEN = ("text/", "audio/", "video/", "application/pdf", "application/json")
_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")


def read_content(content: Any, seen: Seen) -> str:
    """Return the text of a content, and note what else is in it."""
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list):
        raise ApiError("* GenerateContentRequest.contents: contents.parts must not be empty.\n")
    read = [camel_case(part) for part in parts if isinstance(part, dict)]
    for part in read:
        _look_at(part, seen)
    return "".join(str(part.get("text", "")) for part in read)


def _look_at(part: dict[str, Any], seen: Seen) -> None:
    if "inlineData" in part:
        blob = camel_case(part["inlineData"])
        media_type = blob.get("mimeType") if isinstance(blob, dict) else None
        if not isinstance(media_type, str) or not media_type:
            raise ApiError("Unable to process input image: mimeType is required.")
        if media_type not in _IMAGES and not media_type.startswith(_TAKEN):
            raise ApiError(f"Unsupported MIME type: {media_type}")
        data = decode_base64(blob.get("data"))
        if data is None:
            raise ApiError("Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES)")
        if not fits_media_type(data, media_type):
            words = "The document has no pages." if "pdf" in media_type else (
                "Unable to process input image. Please retry or report in "
                "https://developers.generativeai.google/guide/troubleshooting"
            )  # fmt: skip
            raise ApiError(words)
        (seen.image if media_type in _IMAGES else seen.file)(data)
    elif "fileData" in part:
        data = camel_case(part["fileData"])
        uri, media_type = str(data.get("fileUri") or ""), str(data.get("mimeType") or "")
        if not uri.startswith(("https://", "http://", "gs://")):
            raise ApiError("Invalid or unsupported file uri: " + uri)
        (seen.image if media_type.startswith("image/") else seen.file)(uri.encode())
