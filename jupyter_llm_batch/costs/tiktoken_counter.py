"""tiktoken's counter, if its data is already on this disk; nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from .tokens import Counter

#: The encoding of every present model of OpenAI, near to the others' too: its file, and the SHA-256
#: by which tiktoken takes a file on disk for whole.
_NAME = "o200k_base"
_URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
_DIGEST = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


def counter(model: str = "") -> tuple[Counter | None, str]:
    """Return tiktoken's counter and its name where its data is on disk; never downloads."""
    del model
    if importlib.util.find_spec("tiktoken") is None:
        return None, ""
    encoding = _encoding()
    if encoding is None:
        return None, ""
    return (lambda text: len(encoding.encode_ordinary(text))), f"tiktoken {_NAME}"


@cache
def _encoding() -> Any:
    """Return the encoding if its file is on disk and whole; else tiktoken would fetch it."""
    path = _cache_folder() / hashlib.sha1(_URL.encode()).hexdigest()  # noqa: S324 - tiktoken's naming
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _DIGEST:
        return None
    try:
        import tiktoken
    except ImportError:
        return None
    return tiktoken.get_encoding(_NAME)


def _cache_folder() -> Path:
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if name in os.environ:
            return Path(os.environ[name])
    return Path(tempfile.gettempdir()) / "data-gym-cache"
