"""What OpenAI checks of a request, and how it words its refusals and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..server.wire import Call, Refused, Reply
from .batches import MONTH
from .errors import ApiError


def refused(
    message: str, status: int, *, param: str | None = None, code: str | None = None
) -> Refused:
    """Return what ends a call with an error in OpenAI's shape."""
    error = ApiError(message, status=status, param=param, code=code)
    return Refused(Reply(error.body, status))


def json_body(call: Call) -> dict[str, Any]:
    """Return the body of a call, which has to be a JSON object."""
    try:
        return msgspec.json.decode(call.body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        message = f"We could not parse the JSON body of your request. ({error})"
        raise refused(message, 400) from error


def lifetime(param: str, anchor: Any, seconds: Any) -> float:
    """Return the seconds of an ``expires_after``: an hour to 30 days from the creation."""
    try:
        number = int(seconds)
    except (TypeError, ValueError):
        number = 0
    if anchor != "created_at" or not 3600 <= number <= MONTH:
        raise refused(
            f"Invalid '{param}': the anchor must be 'created_at' and seconds 3600 to 2592000.",
            400,
            param=param,
            code="invalid_value",
        )
    return number


def check_metadata(metadata: Any) -> None:
    """Refuse more than 16 pairs, keys over 64 characters, values over 512."""
    if metadata is None:
        return
    good = isinstance(metadata, dict) and len(metadata) <= 16
    if not good or not all(
        len(key) <= 64 and isinstance(value, str) and len(value) <= 512
        for key, value in metadata.items()
    ):
        raise refused(
            "Invalid 'metadata': at most 16 pairs, keys of 64 and string values of 512 characters.",
            400,
            param="metadata",
            code="invalid_value",
        )


def page_of(
    objects: list[dict[str, Any]], query: Mapping[str, str], default: int, most: int
) -> Reply:
    """Return one page of a listing."""
    try:
        limit = int(query.get("limit", default))
    except ValueError:
        limit = 0
    if not 1 <= limit <= most:
        raise refused(
            f"Invalid 'limit': expected an integer between 1 and {most}.",
            400,
            param="limit",
            code="invalid_value",
        )
    if "after" in query:
        ids = [item["id"] for item in objects]
        if query["after"] not in ids:
            raise refused(f"No object found with id '{query['after']}'.", 404, param="after")
        objects = objects[ids.index(query["after"]) + 1 :]
    page = objects[:limit]
    return Reply(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(objects) > limit,
        }
    )
