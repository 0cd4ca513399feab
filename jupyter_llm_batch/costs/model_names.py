"""Find misspelt model names: unknown ones that are one typo from a known name."""

from __future__ import annotations

from functools import lru_cache

#: Providers whose models the price list names; elsewhere a model may be called anything.
_LISTED = frozenset({"openai", "anthropic", "google"})


@lru_cache(maxsize=512)
def near_miss(model: str) -> str:
    """Return the known model that a name was probably meant to be; empty where it may be right.

    A new model has other numbers or words, so that only names with one wrong, missing, superfluous
    or swapped character, and the same digits, count as misspelt.

    Parameters
    ----------
    model
        ``provider:model``.
    """
    provider, _, name = model.partition(":")
    if provider not in _LISTED:
        return ""
    from genai_prices import data_snapshot

    providers = data_snapshot.get_snapshot().providers
    listed = next((each for each in providers if each.id == provider), None)
    if listed is None or listed.find_model(name) is not None:
        return ""
    digits = _digits(name)
    for each in listed.models:
        known = each.id
        if _digits(known) == digits and is_slip(name.casefold(), known.casefold()):
            return f"{provider}:{known}"
    return ""


def is_slip(one: str, other: str) -> bool:
    """Whether two texts differ by one character, or by two neighbours that changed places."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if at is None:
        return True  # one character more at the end
    rest, their = one[at:], other[at:]
    return (
        rest[1:] == their[1:]
        or rest[1:] == their
        or rest == their[1:]
        or (rest[:2] == their[1::-1] and rest[2:] == their[2:])
    )


def _digits(name: str) -> list[str]:
    return [char for char in name if char.isdigit()]
