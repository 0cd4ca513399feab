"""tiktoken's counter, if its data is already on this disk; nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .tokens import Counter


def counter(model: str = "") -> tuple[Counter | None, str]:
    """Return tiktoken's counter and its name where its data is on disk; never downloads."""
    del model  # o200k_base is that of every present model of OpenAI, and near to the others
    if importlib.util.find_spec("tiktoken") is None:
        return None, ""
    encoding = _encoding("o200k_base")
    if encoding is None:
        return None, ""
    return (lambda text: len(encoding.encode_ordinary(text))), "tiktoken o200k_base"


@cache
def _encoding(name: str) -> Any:
    """Return an encoding of tiktoken whose data is on disk and whole; else tiktoken would fetch."""
    try:
        import tiktoken
        from tiktoken_ext import openai_public

        constants = getattr(openai_public, name).__code__.co_consts
    except (ImportError, AttributeError):
        return None
    texts = list(_strings(constants))
    url = next((text for text in texts if text.endswith(f"/{name}.tiktoken")), "")
    digest = next((text for text in texts if re.fullmatch("[0-9a-f]{64}", text)), "")
    path = _cache_folder() / hashlib.sha1(url.encode()).hexdigest()  # noqa: S324 - tiktoken's naming
    if not url or not path.is_file():
        return None
    if not digest or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        return None
    return tiktoken.get_encoding(name)


def _strings(constants: Iterable[Any]) -> Iterator[str]:
    for each in constants:
        if isinstance(each, str):
            yield each
        elif isinstance(each, tuple):
            yield from _strings(each)


def _cache_folder() -> Path:
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if name in os.environ:
            return Path(os.environ[name])
    return Path(tempfile.gettempdir()) / "data-gym-cache"
