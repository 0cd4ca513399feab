"""Parts of a message that are not text, from our neutral form (`parts`) to OpenAI's two.

Limits, from developers.openai.com/api/docs/guides: images-vision (PNG, JPEG, WebP and still GIF
images, 1,500 per request, 512 MB in all, which no row of a batch reaches) and file-inputs (the
types of files, 50 MB per file and in all).
"""

from __future__ import annotations

from typing import Any

from ...core.errors import UsageProblem
from ...data.media_types import SUFFIX_OF
from ..shared.media import Takes, check, is_neutral

TAKES = Takes(
    who="OpenAI",
    images=frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"}),
    files=(
        "application/pdf",
        "text/",
        "application/json",
        "application/msword",
        "application/vnd.ms-",
        "application/vnd.openxmlformats-officedocument",
        "application/vnd.oasis.opendocument.text",
    ),
    words="PNG, JPEG, GIF and WebP images, and PDF, text and office files with --file",
    most_images=1_500,
    image_data=512_000_000,
    file_data=50_000_000 * 4 // 3,
    all_data=512_000_000,
    ids=("file-", "file_"),
)


def messages(content: list[Any], *, responses: bool) -> list[Any]:
    """Return messages whose parts are as the endpoint takes them.

    Parameters
    ----------
    responses
        The endpoint is ``responses``, not ``chat``.
    """
    check(content, TAKES)
    return [_message(message, responses=responses) for message in content]


def _message(message: Any, *, responses: bool) -> Any:
    said = message.get("content") if isinstance(message, dict) else None
    if not isinstance(said, list):
        return message
    if not responses:
        return {**message, "content": [_chat(part) for part in said]}
    text = "output_text" if message.get("role") == "assistant" else "input_text"
    return {**message, "content": [_input(part, text) for part in said]}


def _chat(part: Any) -> Any:
    if not is_neutral(part):
        return part
    if _is_image(part):
        if "id" in part:
            raise UsageProblem(
                "the endpoint chat takes no image by its id: use --endpoint responses"
            )
        return {"type": "image_url", "image_url": {"url": part.get("url") or _data_url(part)}}
    if "url" in part:
        raise UsageProblem(
            "the endpoint chat takes no file by its URL: use --endpoint responses, or give a path"
        )
    if "id" in part:
        return {"type": "file", "file": {"file_id": part["id"]}}
    return {"type": "file", "file": {"filename": _name(part), "file_data": _data_url(part)}}


def _input(part: Any, text: str) -> Any:
    if isinstance(part, dict) and part.get("type") == "text":
        return {**part, "type": text}
    if not is_neutral(part):
        return part
    if _is_image(part):
        source = (
            {"file_id": part["id"]}
            if "id" in part
            else {"image_url": part.get("url") or _data_url(part)}
        )
        return {"type": "input_image", "detail": "auto", **source}
    if "url" in part:
        return {"type": "input_file", "file_url": part["url"]}
    if "id" in part:
        return {"type": "input_file", "file_id": part["id"]}
    return {"type": "input_file", "filename": _name(part), "file_data": _data_url(part)}


def _is_image(part: dict[str, Any]) -> bool:
    return part["type"] == "image" or str(part.get("media_type", "")).startswith("image/")


def _data_url(part: dict[str, Any]) -> str:
    return f"data:{part['media_type']};base64,{part['data']}"


def _name(part: dict[str, Any]) -> str:
    """Return a name for a file: its type is read from it, and the user's own stays here."""
    return f"file{SUFFIX_OF.get(part['media_type'], '.txt')}"
