"""What a request shows to the model besides text: counted, checked, and named in the answer."""

from __future__ import annotations

import base64
import binascii
import hashlib

#: How the images and documents begin that some provider takes.
_BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "application/pdf": b"%PDF-",
}


class Seen:
    """The images and files of one request."""

    def __init__(self) -> None:
        self.images = 0
        self.files = 0
        self._digest = hashlib.sha256()

    def image(self, data: bytes) -> None:
        """Count an image: its bytes, or where it is."""
        self.images += 1
        self._digest.update(b"image" + data)

    def file(self, data: bytes) -> None:
        """Count a file that is no image."""
        self.files += 1
        self._digest.update(b"file" + data)

    def __str__(self) -> str:
        """Return what the answer says of them, with a hash of their bytes; "" without any."""
        counted = [
            f"{number} {name}{'s' if number > 1 else ''}"
            for number, name in ((self.images, "image"), (self.files, "file"))
            if number
        ]
        if not counted:
            return ""
        return f"; saw {' and '.join(counted)} {self._digest.hexdigest()[:8]}"


def decode_base64(data: object) -> bytes | None:
    """Return the bytes that base64 stands for; None when it is not base64 of anything."""
    if not isinstance(data, str) or not data:
        return None
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def fits_media_type(data: bytes, media_type: str) -> bool:
    """Whether bytes begin as their media type has to; true for types that have no beginning."""
    if media_type == "image/webp":
        return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if media_type in ("image/heic", "image/heif"):
        return data[4:8] == b"ftyp"
    return data.startswith(_BEGINNINGS.get(media_type, b""))


def data_url(url: str) -> tuple[str, bytes | None]:
    """Return the media type of a ``data:`` URL, and its bytes if they are valid base64."""
    head, _, body = url.removeprefix("data:").partition(",")
    media_type, _, coding = head.partition(";")
    return media_type, decode_base64(body) if coding == "base64" else None
