"""Answers: deterministic, plausible, and each marked with a hash of its prompt."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from functools import lru_cache

_OPTIONS = re.compile(r"\b[\w'-]+(?:, [\w'-]+)*,? or [\w'-]+")
_SEPARATOR = re.compile(r",? or |, ")
_WORD = re.compile(r"[\w']+")
_DIRECTIVE = re.compile(r"\[\[sim:[^\]]*\]\]")

_POSITIVE = frozenset(
    _WORD.findall(
        """
        good great excellent amazing love loved loves perfect wonderful fantastic best happy enjoyed
        recommend superb brilliant delightful delicious works friendly fast beautiful awesome
        helpful pleased nice
        """
    )
)
_NEGATIVE = frozenset(
    _WORD.findall(
        """
        bad terrible awful poor hate hated worst broken broke disappointing disappointed slow rude
        refund useless waste horrible never cheap boring annoying unusable dirty cold late ugly
        wrong fails failed
        """
    )
)
_SIDES = {
    "positive": frozenset({"positive", "good", "happy", "favorable", "favourable"}),
    "negative": frozenset({"negative", "bad", "unhappy", "sad", "unfavorable", "unfavourable"}),
    "mixed": frozenset({"mixed", "neutral", "unclear", "both"}),
}
_MOODS = frozenset().union(*_SIDES.values())
#: Characters of a prompt in which moods are looked for.
_LOOK = 2000
_SENTENCES = (
    "In short, yes, with a few reservations.",
    "The main point is stated in the first half of the text.",
    "There are two sides to this, and both deserve a look.",
    "It depends on the context, but the usual answer applies here.",
    "The text describes one topic clearly and leaves a detail open.",
    "A brief summary: the matter is simple and well explained.",
    "This can be done in three small steps.",
    "Nothing unusual stands out.",
)

#: Values that are computed for an embedding before they are repeated to its length.
_BASE = 64


def digest(text: str) -> bytes:
    """Return the SHA-256 of a text, also of one with lone surrogates."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def mark(prompt: str) -> str:
    """Return the eight hex digits that bind an answer to its prompt."""
    return digest(prompt).hex()[:8]


def marked(text: str, prompt: str, seen: str = "") -> str:
    """Return a text that says that it is simulated, for which prompt, and with which media."""
    return f"{text} (simulated {mark(prompt)}{seen})"


def pick(options: Sequence[str], prompt: str) -> str:
    """Choose an option: by the mood of the prompt if the options are moods, else by its hash."""
    if any(option.lower() in _MOODS for option in options):
        words = set(_WORD.findall(prompt[:_LOOK].lower())).difference(map(str.lower, options))
        good, bad = words & _POSITIVE, words & _NEGATIVE
        mood = "mixed" if good and bad else "positive" if good else "negative"
        for option in options if good or bad else ():
            if option.lower() in _SIDES[mood]:
                return option
    return options[digest(prompt)[8] % len(options)]


def reply(prompt: str, instructions: str = "") -> str:
    """Return the body of an answer, still without its mark."""
    if "[[sim:" in prompt:
        prompt = _DIRECTIVE.sub("", prompt)
    for text in (prompt, instructions):
        # The test for the word spares the search through long texts without it.
        if " or " in text and (offered := _OPTIONS.search(text)):
            return pick(_SEPARATOR.split(offered.group()), prompt)
    return _SENTENCES[digest(prompt)[8] % len(_SENTENCES)]


def count_tokens(text: str) -> int:
    """Return a token count: four UTF-8 bytes each, as is usual for English."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return (size + 3) // 4


@lru_cache(maxsize=8192)
def _direction(text: str) -> tuple[float, ...]:
    seed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BASE).digest()
    return tuple(byte / 127.5 - 1 for byte in seed)


def embedding(text: str, dimensions: int) -> list[float]:
    """Return a unit vector: texts that share words lie near each other, no two are equal."""
    parts = [_direction(word.lower()) for word in _WORD.findall(text)]
    base = [sum(column) for column in zip(*parts, _direction("\0" + text), strict=True)]
    cut = (base * (dimensions // _BASE + 1))[:dimensions]
    norm = math.sqrt(sum(value * value for value in cut))
    scaled = [round(value / norm, 8) for value in base]
    return (scaled * (dimensions // _BASE + 1))[:dimensions]
