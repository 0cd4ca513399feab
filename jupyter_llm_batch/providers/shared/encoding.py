"""From Python values to the bytes of a request line, the same for every provider."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ...core.errors import UsageProblem
from ...core.request import Content
from ..base import Encoder
from .media import mark


def _plain(value: object) -> Any:
    """Give the encoder numpy's scalars and subclasses of str as the plain values they are."""
    if isinstance(value, str):
        return str.__str__(value)
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent as JSON")


#: Encodes a value without guarding against what JSON cannot carry.
fast = msgspec.json.Encoder(enc_hook=_plain).encode


def checked(value: object, what: str) -> bytes:
    """Encode `value`; `UsageProblem` says why `what` cannot be sent."""
    try:
        return fast(value)
    except (ValueError, TypeError, RecursionError) as exc:
        raise _unencodable(exc, what) from exc


def guarded(encode_line: Encoder) -> Encoder:
    """Turn the errors of a line's encoder into problems that a user can mend."""

    def encode(custom_id: str, content: Content) -> bytes:
        try:
            return encode_line(custom_id, content)
        except UsageProblem:
            raise
        except (ValueError, TypeError, RecursionError) as exc:
            raise _unencodable(exc, "the content") from exc

    return encode


def canonical(record: dict[str, Any]) -> bytes:
    """Return a record of what is meant as bytes that no release of an encoder changes."""
    plain = msgspec.to_builtins(record, str_keys=True, enc_hook=_plain)
    return b"v1" + json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def readable(messages: Any) -> str:
    """Return messages, without those of the system, as text for people."""
    if isinstance(messages, str):
        return messages
    said = [item for item in messages if _role(item) not in {"system", "developer"}]
    if len(said) == 1:
        return _text(said[0])
    return "\n\n".join(f"{_role(item) or 'input'}: {_text(item)}" for item in said)


def _role(item: Any) -> str:
    return str(item.get("role", "")) if isinstance(item, dict) else ""


def _text(item: Any) -> str:
    content = item.get("content") if isinstance(item, dict) else item
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        # A block that is marked to be cached is the beginning of the next one.
        return "".join(
            (str(part["text"]) if "text" in part else mark(part))
            + ("" if "cache_control" in part else "\n")
            for part in content
        ).rstrip("\n")
    return msgspec.json.encode(item).decode()


def _unencodable(exc: Exception, what: str) -> UsageProblem:
    if isinstance(exc, UnicodeEncodeError):
        return UsageProblem(
            "the text holds half of a surrogate pair, which no Unicode encoding can carry: "
            "clean it with text.encode('utf-8', 'replace').decode()"
        )
    if isinstance(exc, RecursionError):
        return UsageProblem(f"{what} refers to itself or is nested too deeply")
    return UsageProblem(f"{what} cannot be sent as JSON: {exc}")
