"""Remove API keys from text: known forms, registered keys, and masked ones."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"""(?ix)
      (?<=bearer\s)[^\s"',}]+
    | (?<=[?&]key=)[^&\s"']+
    | (?<=-api-key:\s)\S+                                  # a header as text
    | (?<=-api-key":\s")[^"]+ | (?<=-api-key':\s')[^']+    # and in a dict
    | \b(?:sk|pk|rk|sess|ak|sim)-[A-Za-z0-9_*.\-]{6,}      # OpenAI, Anthropic, the simulator
    | \bAIza[A-Za-z0-9_*\-]{6,} | \bAQ\.[A-Za-z0-9_\-]{6,}  # Google
    """
)
#: A word with stars in it, perhaps a key masked by its provider. The whole word matches, so that
#: each character is read once: a pattern that begins anywhere in it would take quadratic time.
_WORD = re.compile(r"[A-Za-z0-9_.\-*]+")
_MASKED = re.compile(r"[A-Za-z0-9_.\-]\*{3}")

#: Shortest key that is registered: shorter texts are ordinary words, and no real key is so short.
_SHORTEST_KEY = 8
_concealed: tuple[str, ...] = ()


def conceal(key: str) -> None:
    """Register a key that `redact` replaces, whatever its form."""
    global _concealed  # noqa: PLW0603 - replaced as a whole, since other threads read it
    if len(key) >= _SHORTEST_KEY and key not in _concealed:
        _concealed = tuple(sorted((*_concealed, key), key=len, reverse=True))


def redact(text: str) -> str:
    """Return `text` with everything that is, or looks like, a key or a part of one replaced."""
    for key in _concealed:
        text = text.replace(key, "[key]")
    text = _SECRETS.sub("[key]", text)
    return _WORD.sub(_unless_masked, text) if "***" in text else text


def _unless_masked(word: re.Match[str]) -> str:
    return "[key]" if _MASKED.search(word[0]) else word[0]
