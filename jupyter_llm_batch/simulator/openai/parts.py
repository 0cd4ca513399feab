"""OpenAI's checks of the parts of a message, and what they show to the model."""

from __future__ import annotations

from typing import Any

from ..server.seen import Seen, data_url, fits_media_type
from .errors import ApiError

_CHAT = ("text", "image_url", "input_audio", "refusal", "audio", "file")
_INPUT = (
    "input_text", "input_image", "output_text", "refusal", "input_file", "computer_screenshot",
    "summary_text",
)  # fmt: skip
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MOST_FILE = 50_000_000


def look(content: Any, where: str, seen: Seen, *, chat: bool) -> str:
    """Return the joined text of a message's content, and note what else is in it."""
    if isinstance(content, str):
        return content
    text = ""
    for number, part in enumerate(content if isinstance(content, list) else ()):
        place = f"{where}.content[{number}]"
        if isinstance(part, dict):
            _check_kind(part, place, _CHAT if chat else _INPUT)
            text += str(part.get("text", ""))
            _look_at(part, place, seen)
    return text


def _check_kind(part: dict[str, Any], place: str, known: tuple[str, ...]) -> None:
    if part.get("type") not in known:
        listed = ", ".join(f"'{each}'" for each in known[:-1])
        raise ApiError(
            f"Invalid value: '{part.get('type')}'. Supported values are: {listed}, "
            f"and '{known[-1]}'.",
            param=place,
            code="invalid_value",
        )


def _look_at(part: dict[str, Any], place: str, seen: Seen) -> None:
    kind = part["type"]
    if kind == "image_url":
        source = part.get("image_url")
        url = source.get("url") if isinstance(source, dict) else None
        _image(url, f"{place}.image_url", seen)
    elif kind == "input_image":
        if part.get("file_id"):
            seen.image(str(part["file_id"]).encode())
        else:
            _image(part.get("image_url"), f"{place}.image_url", seen)
    elif kind == "file":
        source = part.get("file")
        _file(source if isinstance(source, dict) else {}, f"{place}.file", seen)
    elif kind == "input_file":
        if part.get("file_url"):
            seen.file(str(part["file_url"]).encode())
        else:
            _file(part, place, seen)


def _image(url: Any, place: str, seen: Seen) -> None:
    if not isinstance(url, str):
        raise _missing(f"{place}.url")
    if url.startswith(("http://", "https://")):
        seen.image(url.encode())
        return
    media_type, data = data_url(url) if url.startswith("data:") else ("", None)
    if data is None:
        raise ApiError(
            f"Invalid '{place}'. Expected a base64-encoded data URL with an image MIME type "
            "(e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got an invalid value.",
            param=place,
            code="invalid_value",
        )
    if media_type not in _IMAGES or not any(fits_media_type(data, each) for each in _IMAGES):
        raise ApiError(
            "You uploaded an unsupported image. Please make sure your image has of one the "
            "following formats: ['png', 'jpeg', 'gif', 'webp'].",
            param=place,
            code="invalid_image_format",
        )
    seen.image(data)


def _file(source: dict[str, Any], place: str, seen: Seen) -> None:
    if source.get("file_id"):
        seen.file(str(source["file_id"]).encode())
        return
    encoded = source.get("file_data")
    if not isinstance(encoded, str):
        raise _missing(f"{place}.file_id")
    if not source.get("filename"):
        raise _missing(f"{place}.filename")
    media_type, data = data_url(encoded) if encoded.startswith("data:") else ("", None)
    if not data or not media_type or not fits_media_type(data, media_type):
        raise ApiError(
            "Invalid file data: 'file_data'. Expected a base64-encoded data URL with the MIME "
            "type of the file (e.g. 'data:application/pdf;base64,aGVsbG8...').",
            param=f"{place}.file_data",
            code="invalid_value",
        )
    if len(data) > _MOST_FILE:
        raise ApiError(
            "The file is larger than 50 MB.", param=f"{place}.file_data", code="file_too_large"
        )
    seen.file(data)


def _missing(param: str) -> ApiError:
    return ApiError(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )
