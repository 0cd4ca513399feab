"""What Anthropic checks of a request, and how it words its refusals and pages."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..server.wire import KEY_PREFIX, Call, Refused, Reply, account_of
from ..world.files import private_open
from .bodies import OLD_VERSION, VERSION, ApiError

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_ROWS = 100_000
_MAX_BODY = 256 * 1024 * 1024


class _Request(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Create(msgspec.Struct):
    requests: list[msgspec.Raw]


_decode_create = msgspec.json.Decoder(_Create).decode
_decode_request = msgspec.json.Decoder(_Request).decode


def refused(message: str, status: int = 400, kind: str = "invalid_request_error") -> Refused:
    """Return what ends a call with an error in Anthropic's shape."""
    return Refused(Reply(ApiError(message, kind=kind).error, status))


def let_in(headers: Mapping[str, str]) -> str:
    """Return the account of a request with either form of key and a known version."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        key = headers.get("x-api-key", "")
    if not key:
        raise refused("x-api-key header is required", 401, "authentication_error")
    if not key.startswith(KEY_PREFIX):
        raise refused("invalid x-api-key", 401, "authentication_error")
    version = headers.get("anthropic-version")
    if version is None:
        raise refused("anthropic-version: header is required")
    if version not in (VERSION, OLD_VERSION):
        raise refused(f'anthropic-version: "{version}" is not a valid version')
    return account_of(key)


def json_body(call: Call) -> Any:
    """Return the body of a call."""
    try:
        return msgspec.json.decode(call.body)
    except msgspec.DecodeError as error:
        raise refused(f"The request body is not valid JSON: {error}") from error


def spool_requests(body: Path, target: Path, most: int | None) -> int:
    """Write the requests of a create as lines, and return how many; one bad id refuses them all."""
    if body.stat().st_size > _MAX_BODY:
        raise refused("Request exceeds the maximum size", 413, "request_too_large")
    with body.open("rb") as file:
        # Mapped, so that a full batch does not count as memory.
        content: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if _size(body) else b""
        try:
            requests = _decode_create(content).requests
        except msgspec.DecodeError as error:
            raise refused(f"requests: {error}") from error
    if not 1 <= len(requests) <= (most or _MAX_ROWS):
        raise refused(f"requests: expected between 1 and {most or _MAX_ROWS} items")
    seen: set[str] = set()
    with private_open(target, "wb") as lines:
        for number, raw in enumerate(requests):
            try:
                custom_id = _decode_request(raw).custom_id
            except msgspec.DecodeError as error:
                target.unlink()
                raise refused(f"requests.{number}: {error}") from error
            if not _CUSTOM_ID.fullmatch(custom_id) or custom_id in seen:
                target.unlink()
                # unrecorded: the words of these refusals
                why = "is not unique" if custom_id in seen else "should match ^[a-zA-Z0-9_-]{1,64}$"
                raise refused(f"requests.{number}.custom_id: {why}")
            seen.add(custom_id)
            line = bytes(raw)
            lines.write((msgspec.json.format(line, indent=-1) if b"\n" in line else line) + b"\n")
    return len(requests)


def _size(path: Path) -> int:
    return path.stat().st_size


def page_of(objects: list[dict[str, Any]], query: Mapping[str, str]) -> Reply:
    """Return one page of a listing, newest first."""
    try:
        limit = int(query.get("limit", 20))
    except ValueError:
        limit = 0
    if not 1 <= limit <= 1000:
        raise refused("limit: Input should be between 1 and 1000")
    ids = [item["id"] for item in objects]
    for cursor in ("after_id", "before_id"):
        if cursor in query and query[cursor] not in ids:
            raise refused(f"{cursor}: no object with id {query[cursor]}")
    if "after_id" in query:
        objects = objects[ids.index(query["after_id"]) + 1 :]
    if "before_id" in query:
        objects = objects[: ids.index(query["before_id"])]
        page = objects[-limit:]
    else:
        page = objects[:limit]
    return Reply(
        {
            "data": page,
            "has_more": len(objects) > limit,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }
    )
