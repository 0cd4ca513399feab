"""Parts of a message that are not text, from our neutral form (`parts`) to Gemini's.

Types, from ai.google.dev/gemini-api/docs: image-understanding, document-processing, audio,
video-understanding; 3,600 images per request. A row's bytes are bounded as a whole, by
`Limits.line_bytes`: 20 MB are allowed inline in a batch, whatever a single request may carry
(file-input-methods). What is larger goes to the Files API first and in by its URI.
"""

from __future__ import annotations

from typing import Any

from ...core.errors import UsageProblem
from ..shared.media import Takes, is_neutral

TAKES = Takes(
    who="Gemini",
    images=frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}),
    files=("application/pdf", "text/", "application/json", "audio/", "video/"),
    words=(
        "PNG, JPEG, WebP, HEIC and HEIF images, and PDF, text, audio and video files with --file"
    ),
    most_images=3_600,
    image_data=20_000_000,
    file_data=20_000_000,
    all_data=20_000_000,
    schemes=("https:", "http:", "gs:"),
    ids=("files/",),
)

#: Where Gemini's documents name a type otherwise than the rest of the world.
_SPELLED = {
    "audio/mpeg": "audio/mp3",
    "video/quicktime": "video/mov",
    "video/x-msvideo": "video/avi",
    "video/x-ms-wmv": "video/wmv",
}

#: The Files API gives such a URI to each file, whatever server it was uploaded through.
_KEPT = "https://generativelanguage.googleapis.com/v1beta/"


def to_part(part: Any) -> Any:
    """Return a part in Gemini's form; one that is in it already passes."""
    if isinstance(part, str):
        return {"text": part}
    if not isinstance(part, dict):
        raise UsageProblem("each part of a message must be a text or a dict")
    if part.get("type") == "text":
        return {"text": part.get("text", "")}
    if not is_neutral(part):
        return part
    media = part.get("media_type")
    media = _SPELLED.get(media, media) if isinstance(media, str) else None
    if "data" in part:
        return {"inlineData": {"mimeType": media, "data": part["data"]}}
    file = {"mimeType": media, "fileUri": part.get("url") or _KEPT + part["id"]}
    return {"fileData": {name: value for name, value in file.items() if value is not None}}
