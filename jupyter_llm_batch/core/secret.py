"""Wrappers that hide keys from repr, format, pickle and tracebacks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping


class Secret:
    """A key. Only `reveal` gives its text, and only the HTTP transport calls that."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself."""
        return self._value

    def __repr__(self) -> str:
        return "<a key>" if self._value else "<no key>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a key is not written anywhere")

    def fits_a_header(self) -> bool:
        """Whether the key can be sent in an HTTP header."""
        return self._value.isascii() and self._value.isprintable()

    def fingerprint(self, salt: bytes) -> str:
        """Return a salted hash that identifies this key; empty for no key."""
        if not self._value:
            return ""
        return hashlib.blake2b(self._value.encode(), key=salt, digest_size=8).hexdigest()


class HiddenDict(dict[str, str]):
    """A dict of variables or headers whose values are hidden from tracebacks."""

    def __repr__(self) -> str:
        return f"<{len(self)} values>"


class HiddenView(Mapping[str, str]):
    """A live view of a mapping whose values are hidden from tracebacks."""

    __slots__ = ("_mapping",)

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._mapping = mapping

    def __getitem__(self, name: str) -> str:
        return self._mapping[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)

    def __repr__(self) -> str:
        return f"<{len(self)} values>"
