"""Takes keys out of texts: those of known forms, those that were told, those that were masked."""

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
#: A word with stars in it, perhaps a key that its provider masked. The whole word is taken, so that
#: each character is looked at once: a pattern that begins anywhere in it would take quadratic time.
_WORD = re.compile(r"[A-Za-z0-9_.\-*]+")
_MASKED = re.compile(r"[A-Za-z0-9_.\-]\*{3}")

#: Shorter ones are words as well, and no real key is that short.
_SHORTEST_KEY = 8
_concealed: tuple[str, ...] = ()


def conceal(key: str) -> None:
    """Have `redact` replace this key, whatever it looks like."""
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
