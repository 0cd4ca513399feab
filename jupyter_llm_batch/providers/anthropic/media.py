"""Parts of a message that are not text, from our neutral form (`parts`) to Anthropic's blocks.

Limits, from platform.claude.com/docs: build-with-claude/vision (JPEG, PNG, GIF and WebP images,
600 per request, 100 for models with a small context), build-with-claude/pdf-support and
api/overview (32 MB per request). The API's own words give the bound of an image, which counts
the base64: "image exceeds 5 MB maximum: … bytes > 5242880 bytes".
"""

from __future__ import annotations

import base64
from typing import Any

from ...core.errors import UsageProblem
from ..shared.media import Takes, is_neutral

_PDF = "application/pdf"

TAKES = Takes(
    who="Anthropic",
    images=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"}),
    files=(_PDF, "text/", "application/json"),
    words="JPEG, PNG, GIF and WebP images, and PDF and text files with --file",
    most_images=600,
    image_data=5 * 1024 * 1024,
    file_data=32_000_000,
    all_data=32_000_000,
    schemes=("https:",),
    ids=("file_",),
)


def block(part: Any) -> Any:
    """Return one part of a message, which has been checked, as Anthropic takes it."""
    if not is_neutral(part):
        return part
    media_type = str(part.get("media_type", ""))
    image = part["type"] == "image" or media_type in TAKES.images
    kind = "image" if image else "document"
    if "url" in part:
        return {"type": kind, "source": {"type": "url", "url": part["url"]}}
    if "id" in part:
        return {"type": kind, "source": {"type": "file", "file_id": part["id"]}}
    if image or media_type == _PDF:
        source = {"type": "base64", "media_type": media_type, "data": part["data"]}
        return {"type": kind, "source": source}
    # Text of any kind is taken as plain text, and not in base64.
    try:
        text = base64.b64decode(part["data"], validate=True).decode()
    except ValueError as exc:
        raise UsageProblem(f"a file of type {media_type} is not UTF-8 text") from exc
    source = {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": kind, "source": source}
