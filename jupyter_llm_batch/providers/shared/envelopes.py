"""Objects of an API as other servers hand them out: in an envelope, in a list, half of them odd."""

from __future__ import annotations

from typing import Any

from ...core import loose_json

_IDS = ("id", "batch_id", "job_id")
#: Under these a page holds its objects.
_LISTS = ("data", "batches", "jobs", "operations", "items", "results")


def opened(body: bytes) -> dict[str, Any]:
    """Return the one object that a body holds; `ValueError` when it holds none."""
    found = _inner(loose_json.loads(body))
    if found is None:
        raise ValueError("this is no object with an id")
    return found


def items(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a page, without those that nobody could tell from others.

    Raises
    ------
    ValueError
        It is no page.
    """
    held = value
    if isinstance(value, dict):
        held = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), None)
    if held is None and isinstance(value, dict) and "data" in value:
        held = value["data"] or []
    if not isinstance(held, list):
        raise ValueError("this is no page of a listing")  # noqa: TRY004 - of another server
    return [found for each in held if (found := _inner(each)) is not None]


def has_more(page: Any) -> bool:
    """Whether a page says that another one follows."""
    return isinstance(page, dict) and str(page.get("has_more")).lower() in {"true", "1"}


def _inner(value: Any) -> dict[str, Any] | None:
    """Return a value that has an id, or what it is an envelope of."""
    if not isinstance(value, dict):
        return None
    for name in _IDS:
        if _is_id(value.get(name)):
            if isinstance(value.get("error"), (dict, str)) and "status" not in value:
                return None  # the id of a request that failed
            return {**value, "id": str(value[name])}
    inner = [each for name, each in value.items() if isinstance(each, dict) and name != "error"]
    found = [each for each in map(_inner, inner) if each is not None]
    return found[0] if len(found) == 1 else None


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
