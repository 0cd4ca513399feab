"""Parts of a message that are not text, from our neutral form to Anthropic's content blocks.

The neutral form is ``{"type": "image" | "file", "media_type", "data"}`` with base64 data, or
``{"type", "url"}``. Everything else goes out as it is: it is Anthropic's own form, or a newer one.
"""

from __future__ import annotations

import base64
from typing import Any

from ..errors import UsageProblem

#: What the API takes as an image (SDK, Base64ImageSourceParam).
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"


def block(part: Any) -> Any:
    """Return one part of a message as Anthropic takes it."""
    if not isinstance(part, dict) or part.get("type") not in {"image", "file"}:
        return part
    if "url" in part:
        kind = "image" if part["type"] == "image" else "document"
        return {"type": kind, "source": {"type": "url", "url": part["url"]}}
    if "data" not in part:
        return part
    return _from_data(part, str(part.get("media_type", "")))


def _from_data(part: dict[str, Any], media_type: str) -> dict[str, Any]:
    if media_type in _IMAGES or media_type == _PDF:
        kind = "document" if media_type == _PDF else "image"
        source = {"type": "base64", "media_type": media_type, "data": part["data"]}
        return {"type": kind, "source": source}
    if part["type"] == "file" and media_type.startswith("text/"):
        # Text of any kind is taken as plain text, and not in base64.
        try:
            text = base64.b64decode(part["data"], validate=True).decode()
        except ValueError as exc:
            raise UsageProblem(f"a file of type {media_type} is not UTF-8 text") from exc
        return {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": text},
        }
    takes = "JPEG, PNG, GIF and WebP images" + (
        ", PDF and text files" if part["type"] == "file" else ""
    )
    raise UsageProblem(f"Anthropic takes {takes}, not {media_type or 'data without media_type'}")
