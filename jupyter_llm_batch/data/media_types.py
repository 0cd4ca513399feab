"""Detect the media type of bytes from their beginning, else from a file name.

The tables are ours and short, because a media type is part of a request's hash: the standard
library's change with the release and with what the machine has installed.
"""

from __future__ import annotations

from pathlib import PurePath

#: (offset, bytes there, media type); the first match counts.
_BEGINNINGS = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"%PDF-", "application/pdf"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (8, b"AIFF", "audio/aiff"),
    (8, b"AIFC", "audio/aiff"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\xff\xf9", "audio/aac"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"\0\0\1\xba", "video/mpeg"),
    (0, b"\0\0\1\xb3", "video/mpeg"),
    (0, b"FLV\1", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (0, b"PK\3\4", "application/zip"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"{\\rtf", "text/rtf"),
)

#: Brands of the family of MP4, which all begin alike; the others are video/mp4.
_BRANDS = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"M4A ": "audio/mp4",
    b"qt  ": "video/quicktime",
}

_OFFICE = "application/vnd.openxmlformats-officedocument"

#: What a suffix says. Only these types are told apart by name.
_SUFFIXES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".pdf": "application/pdf",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".aiff": "audio/aiff",
    ".m4a": "audio/mp4",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".webm": "video/webm",
    ".wmv": "video/x-ms-wmv",
    ".3gp": "video/3gpp",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".html": "text/html",
    ".htm": "text/html",
    ".md": "text/markdown",
    ".xml": "text/xml",
    ".css": "text/css",
    ".js": "text/javascript",
    ".py": "text/x-python",
    ".rtf": "text/rtf",
    ".json": "application/json",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".doc": "application/msword",
    ".xls": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
}
#: The suffix that a type is given where a provider wants the name of a file.
SUFFIX_OF = {kind: suffix for suffix, kind in reversed(_SUFFIXES.items())}

#: Containers whose beginning is the same for many types.
_CONTAINERS = {"application/zip": (_OFFICE, "application/vnd.oasis"), "application/x-ole-storage": (
    "application/msword", "application/vnd.ms-")}  # fmt: skip

_HEAD = 16


def type_by_name(name: str) -> str:
    """Return the media type for the suffix of a file name or URL path, or ""."""
    return _SUFFIXES.get(PurePath(name).suffix.lower(), "")


def media_type_of(data: bytes, name: str = "") -> str:
    """Return the media type of `data`, or "" if unknown.

    Parameters
    ----------
    data
        The whole file: text must be UTF-8 to the end.
    name
        Distinguishes types that begin alike: kinds of text, office files, headerless sound.
    """
    found = _by_beginning(data[:_HEAD])
    named = type_by_name(name)
    if found in _CONTAINERS:
        return named if named.startswith(_CONTAINERS[found]) else found
    if found:
        return found
    if is_utf8(data):
        return named if named.startswith("text/") or named == "application/json" else "text/plain"
    return named if named.startswith(("audio/", "video/")) else ""


def _by_beginning(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return _BRANDS.get(brand, "video/3gpp" if brand[:2] == b"3g" else "video/mp4")
    for offset, beginning, found in _BEGINNINGS:
        if head[offset : offset + len(beginning)] == beginning:
            return found
    return ""


def is_utf8(data: bytes) -> bool:
    """Whether `data` is UTF-8 text."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
