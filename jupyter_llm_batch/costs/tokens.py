"""Estimate the input tokens of a request. No I/O but tiktoken's own data.

Providers report tokens only afterwards or over the network. Here they are counted by tiktoken if
its encoding is on this machine, else by measured rates per script. Both give a range: low,
expected, ceiling.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from . import media_tokens
from .media_tokens import Span

#: Extra tokens per message and per request.
MESSAGE, REQUEST = 4, 3

#: Beyond the expectation: what an older or newer tokenizer makes of the same text. Those of the
#: providers differ by up to a half on the same prose.
LOW, CEILING = 0.75, 1.6

#: The same for a count by tiktoken, which is exact for most of OpenAI's models.
TIKTOKEN_LOW, TIKTOKEN_CEILING = 0.95, 1.1

#: Tokens per character, measured with o200k_base on translated messages, prose, code and data.
_LETTER, _FOREIGN_LETTER = 0.225, 0.275

_DIGIT, _MARK, _BREAK = 0.48, 0.62, 0.35

_SCRIPTS = (
    (re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"), 0.95),  # Han
    (re.compile("[\u3040-\u30ff\uff00-\uffef]"), 0.70),  # kana, full width
    (re.compile("[\uac00-\ud7af\u1100-\u11ff]"), 0.80),  # Hangul
    (re.compile("[\u0400-\u052f]"), 0.31),  # Cyrillic
    (re.compile("[\u0370-\u03ff\u1f00-\u1fff]"), 0.44),  # Greek
    (re.compile("[\u0590-\u05ff]"), 0.52),  # Hebrew
    (re.compile("[\u0600-\u06ff\u0750-\u077f]"), 0.41),  # Arabic
    (re.compile("[\u0900-\u0dff]"), 0.40),  # Indic
    (re.compile("[\u0e00-\u0eff]"), 0.46),  # Thai, Lao
    (re.compile("[\u00c0-\u024f\u1e00-\u1eff]"), 0.62),  # Latin with accents
)

_OTHER = 1.5

_ASCII_LETTERS = bytes(range(65, 91)) + bytes(range(97, 123))

_DIGITS = b"0123456789"

_BLANKS = b" \t"

_BREAKS = b"\n\r"

#: Long runs of letters and digits: keys, hashes, base64. They split into tiny tokens.
_ENDLESS = re.compile(r"[A-Za-z0-9+/=_-]{40,}")

_ENDLESS_RATE = 0.7

#: The providers' parameters that limit output tokens.
_BOUNDS = (
    "max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens",
)  # fmt: skip

#: Counts the tokens of a text.
Counter = Callable[[str], int]


class Media(msgspec.Struct, frozen=True):
    """An image or file in a request: what it is, and its base64 data where it is inline."""

    kind: str
    data: Any = None
    detail: str = ""


class Content(msgspec.Struct):
    """The texts and media of a request that count as tokens."""

    texts: list[str]
    media: list[Media]
    messages: int = 0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The input tokens of one request."""

    low: int
    expected: int
    ceiling: int
    media: int = 0


def measure_request(
    line: bytes, provider: str, model: str, counter: Counter | None = None
) -> Measured:
    """Return the input tokens of one request line."""
    try:
        body = request_body(msgspec.json.decode(line))
    except (msgspec.DecodeError, RecursionError):
        body = line.decode(errors="replace")
    content = Content(texts=[], media=[])
    _collect(body, "", content)
    frame = REQUEST + MESSAGE * max(1, content.messages)
    if counter is None:
        spans = [text_tokens(text) for text in content.texts]
        low, expected, ceiling = (sum(each[i] for each in spans) for i in range(3))
    else:
        count = float(sum(counter(text) for text in content.texts))
        low, expected, ceiling = count * TIKTOKEN_LOW, count, count * TIKTOKEN_CEILING
    shown = [_media(provider, model, each) for each in content.media]
    return Measured(
        low=round(low) + frame // 2 + sum(each[0] for each in shown),
        expected=round(expected) + frame + sum(each[1] for each in shown),
        ceiling=round(ceiling) + 2 * frame + sum(each[2] for each in shown),
        media=len(shown),
    )


def text_tokens(text: str) -> tuple[float, float, float]:
    """Return low, expected and ceiling of a text by the scripts it is written in."""
    expected = 0.0
    if len(text) > 40 and (long := _ENDLESS.findall(text)):
        expected += _ENDLESS_RATE * sum(map(len, long))
        text = _ENDLESS.sub(" ", text)
    letter = _LETTER
    if not text.isascii():
        known = text.encode("ascii", "ignore")
        others = len(text) - len(known)
        for script, rate in _SCRIPTS:
            found = len(script.findall(text))
            expected += rate * found
            others -= found
            if rate == _SCRIPTS[-1][1] and found * 100 > len(known):
                letter = _FOREIGN_LETTER  # words of another language than English
        expected += _OTHER * max(0, others)
    else:
        known = text.encode()
    size = len(known)
    letters = size - len(known.translate(None, _ASCII_LETTERS))
    digits = size - len(known.translate(None, _DIGITS))
    blanks = size - len(known.translate(None, _BLANKS))
    breaks = size - len(known.translate(None, _BREAKS))
    expected += letter * letters + _DIGIT * digits + _BREAK * breaks
    expected += _MARK * (size - letters - digits - blanks - breaks)
    return expected * LOW, expected, expected * CEILING


def output_bound(body: Any) -> int | None:
    """Return the most output tokens that a request body allows, over all its answers."""
    if not isinstance(body, dict):
        return None
    config = body.get("generationConfig") or body.get("generation_config") or {}
    config = config if isinstance(config, dict) else {}
    given = [
        place[name]
        for place in (body, config)
        for name in _BOUNDS
        if isinstance(place.get(name), int)
    ]
    answers = body.get("n") or config.get("candidateCount") or config.get("candidate_count") or 1
    return max(given) * answers if given and isinstance(answers, int) else None


def request_body(line: Any) -> Any:
    """Return the request body within a line of any of the providers."""
    if isinstance(line, dict):
        for name in ("body", "params", "request"):
            if isinstance(line.get(name), dict):
                return line[name]
    return line


# -- what is in a request --------------------------------------------------------------------------

#: Keys whose text a model reads.
_TEXTS = frozenset(
    {"text", "content", "input", "prompt", "system", "instructions", "arguments", "output"}
)

#: Keys whose whole value is shown to the model as JSON.
_SHAPES = frozenset(
    {
        "tools", "functions", "response_format", "output_config", "schema", "responseSchema",
        "responseJsonSchema", "response_schema", "response_json_schema",
    }
)  # fmt: skip

_IMAGES = frozenset({"image", "image_url", "input_image"})

_FILES = frozenset({"document", "file", "input_file"})


def _collect(value: Any, key: str, into: Content) -> None:
    if isinstance(value, str):
        if key in _TEXTS:
            into.texts.append(value)
    elif isinstance(value, list):
        for item in value:
            _collect(item, key, into)
    elif isinstance(value, dict):
        if (media := _media_of(value)) is not None:
            into.media.append(media)
            return
        if "role" in value or "parts" in value:
            into.messages += 1
        for name, item in value.items():
            if name in _SHAPES:
                into.texts.append(msgspec.json.encode(item).decode())
            else:
                _collect(item, name, into)


def _media_of(part: dict[str, Any]) -> Media | None:
    """Return the image or file that a part of a message is."""
    kind = part.get("type")
    if kind in _IMAGES or kind in _FILES:
        inner = part.get("source") or part.get("image_url") or part.get("file") or part
        inner = inner if isinstance(inner, dict) else {"url": inner}
        data = inner.get("data") or inner.get("file_data") or inner.get("url")
        mime = str(inner.get("media_type", ""))
        detail = str(part.get("detail") or inner.get("detail") or "")
        return Media("image" if kind in _IMAGES else _file_kind(mime, data), _payload(data), detail)
    for name in ("inlineData", "inline_data", "fileData", "file_data"):
        if isinstance(inner := part.get(name), dict):
            mime = str(inner.get("mimeType") or inner.get("mime_type") or "")
            return Media(_file_kind(mime, inner.get("data")), inner.get("data"))
    return None


def _file_kind(mime: str, data: Any) -> str:
    if not mime and isinstance(data, str) and data.startswith("data:"):
        mime = data[5:].partition(";")[0]
    return mime.partition("/")[0] if mime and mime != "application/pdf" else "pdf"


def _payload(data: Any) -> Any:
    """Return the base64 of a data URL, nothing for an address elsewhere."""
    if isinstance(data, str) and data.startswith("data:"):
        return data.partition(",")[2]
    return None if isinstance(data, str) and "://" in data[:12] else data


def _media(provider: str, model: str, media: Media) -> Span:
    if media.kind == "image":
        size = media_tokens.size_of(media.data)
        return media_tokens.image(provider, model, size, detail=media.detail)
    if media.kind == "text" and isinstance(media.data, str):
        characters = len(media.data) * 3 // 4
        return characters // 6, characters // 4, characters
    if media.kind == "pdf":
        return media_tokens.pages(provider, model, media_tokens.page_count(media.data))
    # Sound and film: by the second (Gemini: 32 tokens of sound, 263 of film), which bytes tell
    # badly; 16 kB of sound and 250 kB of film a second.
    size_in_bytes = len(media.data) * 3 // 4 if isinstance(media.data, str) else 1_000_000
    rate = 263 / 250_000 if media.kind == "video" else 32 / 16_000
    middle = int(size_in_bytes * rate)
    return middle // 4, middle, middle * 10
