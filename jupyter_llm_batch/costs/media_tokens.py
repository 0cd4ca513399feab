"""How many tokens images and files count as, by the providers' documented rules. Pure.

Anthropic: a token per patch of 28 pixels, after a resize to the model's largest size.
https://platform.claude.com/docs/en/build-with-claude/vision
OpenAI: patches of 32 pixels times a factor of the model, or tiles of 512 pixels for older ones.
https://developers.openai.com/api/docs/guides/images-vision#calculating-costs
Gemini: 258 tokens, or as many per tile of 768 pixels; from Gemini 3 on a budget per image.
https://ai.google.dev/gemini-api/docs/tokens, https://ai.google.dev/gemini-api/docs/media-resolution
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Any

#: low, expected, ceiling
Span = tuple[int, int, int]

#: What a picture of unknown size is taken for (pixels), and the least that anybody sends.
_TYPICAL, _SMALL, _HUGE = (1024, 1024), (256, 256), (8000, 8000)

#: Base64 characters that are decoded to find the size of a picture.
_HEAD = 1 << 18

#: OpenAI's models of 32-pixel patches: tokens per patch, most patches. Other models count tiles.
_PATCHES = (
    (re.compile(r"^gpt-4\.1-mini"), 1.62, 1536),
    (re.compile(r"^gpt-4\.1-nano"), 2.46, 1536),
    (re.compile(r"^(o4-mini|codex-mini)"), 1.72, 1536),
    (re.compile(r"^gpt-5-nano"), 1.5, 1536),
    (re.compile(r"^gpt-5(\.\d+)?-(mini|nano)"), 1.2, 1536),
    (re.compile(r"^gpt-(5\.[2-9]|[6-9])"), 1.2, 2500),
)
#: OpenAI's models of 512-pixel tiles: tokens of any picture, tokens per tile.
_TILES = (
    (re.compile(r"^gpt-4o-mini"), 2833, 5667),
    (re.compile(r"^gpt-5"), 70, 140),
    (re.compile(r"^(o1|o3)"), 75, 150),
    (re.compile(r""), 85, 170),
)

#: Claude models that read up to 2,576 pixels a side; the ones before them read 1,568.
_CLAUDE_LARGE = re.compile(r"claude-(opus-4-[7-9]|(opus|sonnet|haiku|fable)-[5-9])")

#: Tokens of the text of a page of a PDF beside its picture: 1,500 to 3,000 in all at Anthropic.
_PAGE_TEXT = (300, 800, 1500)
#: Bytes of a PDF per page where it does not tell how many it has.
_PAGE_BYTES = 50_000
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")


def image(provider: str, model: str, size: tuple[int, int] | None, *, detail: str = "") -> Span:
    """Return the tokens of one image; without a size the span is wide."""
    if size is not None:
        exact = _image(provider, model, *size, detail)
        return exact, exact, math.ceil(exact * 1.05)
    low, middle, high = (
        _image(provider, model, *each, detail) for each in (_SMALL, _TYPICAL, _HUGE)
    )
    return low, middle, high


def pages(provider: str, model: str, count: Span) -> Span:
    """Return the tokens of a PDF of so many pages."""
    if provider == "google":  # a page counts as one picture, its text as nothing
        each = (258, 258, 258) if _is_old_gemini(model) else (560, 560, 1120)
    else:
        picture = _image(provider, model, 1275, 1650, "")  # US letter at 150 dots per inch
        each = (picture + _PAGE_TEXT[0], picture + _PAGE_TEXT[1], picture + _PAGE_TEXT[2])
    return count[0] * each[0], count[1] * each[1], count[2] * each[2]


def _image(provider: str, model: str, width: int, height: int, detail: str) -> int:
    if provider == "anthropic":
        return _anthropic(model, width, height)
    if provider == "google":
        return _google(model, width, height)
    return _openai(model, width, height, detail)


def _anthropic(model: str, width: int, height: int) -> int:
    longest, most = (2576, 4784) if _CLAUDE_LARGE.search(model) else (1568, 1568)
    scale = min(1.0, longest / max(width, height))
    while (count := _patches(width * scale, height * scale, 28)) > most:
        scale *= min(0.99, math.sqrt(most / count))
    return count


def _google(model: str, width: int, height: int) -> int:
    if not _is_old_gemini(model):
        return 1120  # Gemini 3: the budget of the default resolution, whatever the size
    if max(width, height) <= 384:
        return 258
    return 258 * math.ceil(width / 768) * math.ceil(height / 768)


def _is_old_gemini(model: str) -> bool:
    return bool(re.search(r"gemini-(1|2)[.-]", model))


def _openai(model: str, width: int, height: int, detail: str) -> int:
    for pattern, factor, most in _PATCHES:
        if pattern.search(model):
            scale = 1.0
            while (count := _patches(width * scale, height * scale, 32)) > most:
                scale *= min(0.99, math.sqrt(most / count))
            return math.ceil(count * factor)
    base, tile = next((base, tile) for pattern, base, tile in _TILES if pattern.search(model))
    if detail == "low":
        return base
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return base + tile * _patches(width * scale, height * scale, 512)


def _patches(width: float, height: float, side: int) -> int:
    return max(1, math.ceil(width / side)) * max(1, math.ceil(height / side))


# -- what a base64 text holds ----------------------------------------------------------------------


def size_of(data: Any) -> tuple[int, int] | None:
    """Return width and height of a base64 picture (PNG, JPEG, GIF, WebP), None if unreadable."""
    raw = _decoded(data, _HEAD)
    try:
        if raw[:8] == b"\x89PNG\r\n\x1a\n":
            return struct.unpack(">II", raw[16:24])
        if raw[:6] in (b"GIF87a", b"GIF89a"):
            return struct.unpack("<HH", raw[6:10])
        if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
            return _webp(raw)
        if raw[:2] == b"\xff\xd8":
            return _jpeg(raw)
    except (struct.error, IndexError):
        pass
    return None


def page_count(data: Any) -> Span:
    """Return how many pages a base64 PDF has; an estimate where it does not tell."""
    raw = _decoded(data, None)
    found = len(_PAGE.findall(raw))
    if found:
        return found, found, found
    guess = max(1, round(len(raw) / _PAGE_BYTES))
    return 1, guess, max(10, guess * 10)


def _decoded(data: Any, most: int | None) -> bytes:
    if not isinstance(data, str):
        return b""
    try:
        return base64.b64decode(data[: most and most // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _webp(raw: bytes) -> tuple[int, int] | None:
    kind = raw[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", raw[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", raw[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return (
            int.from_bytes(raw[24:27], "little") + 1,
            int.from_bytes(raw[27:30], "little") + 1,
        )
    return None


def _jpeg(raw: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(raw):
        if raw[at] != 0xFF:
            return None
        marker = raw[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", raw[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None
