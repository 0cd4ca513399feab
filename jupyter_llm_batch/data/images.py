"""PIL images to bytes, without importing PIL: who has such an image has imported it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

#: Formats that every provider with images takes, so that an image may stay in its own.
_OWN = frozenset({"PNG", "JPEG", "WEBP"})


#: What a cell waits for: PNG's usual effort takes more than three times as long, and saves a sixth
#: of a photograph's bytes.
_QUICK: dict[str, Any] = {"compress_level": 1}


def is_picture(value: Any) -> bool:
    """Whether `value` is a PIL image."""
    return any(
        each.__module__ == "PIL.Image" and each.__name__ == "Image" for each in type(value).__mro__
    )


def encoded(image: Any) -> bytes:
    """Return a PIL image as bytes: in the format it was opened from, or else as PNG."""
    form = image.format if image.format in _OWN else "PNG"
    if form == "JPEG" and (kept := _saved(image, form, quality="keep")):
        return kept  # untouched, with its own tables, so that nothing is lost a second time
    kept = _saved(image, form, lossless=True) if form == "WEBP" else b""
    # PNG does not have every mode: CMYK and floats are converted.
    return kept or _saved(image, "PNG", **_QUICK) or _saved(image.convert("RGB"), "PNG", **_QUICK)


def _saved(image: Any, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    try:
        image.save(buffer, format=form, **options)
    except (OSError, ValueError):
        return b""
    return buffer.getvalue()


def decoded(data: bytes) -> Any:
    """Return the PIL image that `data` is; the bytes themselves where PIL is gone by now."""
    try:
        from PIL import Image
    except ImportError:
        return data
    return Image.open(BytesIO(data))
