"""Gemini's explicit caches: made, listed, deleted, and read by requests.

Never recorded with batches: shapes and refusals are those reported of calls that answer at once.
Caches are forgotten when the simulator ends.
"""

from __future__ import annotations

import re
import secrets
import string
from typing import Any

import msgspec

from ..server.seen import Seen
from ..server.wire import Call, Refused, Reply, Route
from ..world import answers
from ..world.dialect import Clock
from .bodies import Asked, ask
from .checks import ApiError, Body, camel_case, json_body, page_of, refused
from .parts import read_content
from .times import timestamp

_LEAST_TOKENS = 1024
_HOUR = 3600.0
_ALPHABET = string.ascii_lowercase + string.digits
_FIELDS = ("systemInstruction", "tools", "toolConfig")


class Cache(msgspec.Struct):
    """What is stored."""

    name: str
    account: str
    model: str
    display_name: str
    content: Body
    tokens: int
    created_at: float
    expires_at: float


class Caches:
    """The endpoints of caches below ``/google``, and their part in requests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._caches: dict[str, Cache] = {}
        version, cache = "/(?P<version>v1|v1beta)/cachedContents", "/(?P<id>[^/:]+)"
        self.routes = [
            Route("POST", re.compile(version), self._create),
            Route("GET", re.compile(version), self._list),
            Route("GET", re.compile(version + cache), self._get),
            Route("DELETE", re.compile(version + cache), self._delete),
        ]

    def ask(self, account: str, method: str, model: str, given: Any) -> Asked:
        """Read a request, with what is in the cache that it names."""
        if not isinstance(given, dict) or not {"cachedContent", "cached_content"} & given.keys():
            return ask(method, model, given)
        request = camel_case(given)
        if any(field in request for field in _FIELDS):
            raise ApiError(
                "CachedContent can not be used with GenerateContent request setting "
                "system_instruction, tools or tool_config.\n\nProposed fix: move those values to "
                "CachedContent from GenerateContent request."
            )
        cache = self._find(account, str(request["cachedContent"]))
        if cache.model != f"models/{model}":
            raise ApiError(
                f"Model used by GenerateContent request (models/{model}) and CachedContent "
                f"({cache.model}) has to be the same."
            )
        contents = [*cache.content.get("contents", []), *request.get("contents", [])]
        held = {name: cache.content[name] for name in _FIELDS if name in cache.content}
        asked = ask(method, model, request | held | {"contents": contents})
        asked.stored = cache.tokens
        return asked

    def _find(self, account: str, name: str) -> Cache:
        cache = self._caches.get(name)
        if cache is None or cache.account != account or cache.expires_at <= self._clock.now():
            raise ApiError("CachedContent not found (or permission denied)", 7)
        return cache

    async def _create(self, call: Call) -> Reply:
        body = camel_case(json_body(call))
        model = str(body.get("model", ""))
        if not model.startswith("models/"):
            raise refused("* CreateCachedContentRequest.cached_content.model: invalid\n")
        given = [body.get("systemInstruction"), *(body.get("contents") or [])]
        try:
            text = "".join(read_content(content, Seen()) for content in given if content)
        except ApiError as error:
            raise Refused(error.reply) from error
        tokens = answers.count_tokens(text)
        if tokens < _LEAST_TOKENS:
            raise refused(
                f"Cached content is too small. total_token_count={tokens}, "
                f"min_total_token_count={_LEAST_TOKENS}"
            )
        ttl = str(body.get("ttl", f"{_HOUR:g}s"))
        if not re.fullmatch(r"\d+(\.\d+)?s", ttl):
            raise refused(f"Invalid value at 'cached_content.ttl' ({ttl!r})")
        now = self._clock.now()
        cache = Cache(
            name="cachedContents/" + "".join(secrets.choice(_ALPHABET) for _ in range(40)),
            account=call.account,
            model=model,
            display_name=str(body.get("displayName", "")),
            content={name: body[name] for name in (*_FIELDS, "contents") if name in body},
            tokens=tokens,
            created_at=now,
            expires_at=now + float(ttl[:-1]),
        )
        self._caches[cache.name] = cache
        return Reply(_told(cache))

    async def _list(self, call: Call) -> Reply:
        now = self._clock.now()
        mine = [
            _told(cache)
            for cache in self._caches.values()
            if cache.account == call.account and cache.expires_at > now
        ]
        return page_of(mine, "cachedContents", call.query, 50, 1000)

    async def _get(self, call: Call) -> Reply:
        return Reply(_told(self._named(call)))

    async def _delete(self, call: Call) -> Reply:
        del self._caches[self._named(call).name]
        return Reply({})

    def _named(self, call: Call) -> Cache:
        try:
            return self._find(call.account, f"cachedContents/{call.names['id']}")
        except ApiError as error:
            raise Refused(error.reply) from error


def _told(cache: Cache) -> Body:
    """Return a cache on the wire, which never says what is in it."""
    return {
        "name": cache.name,
        "model": cache.model,
        "createTime": timestamp(cache.created_at),
        "updateTime": timestamp(cache.created_at),
        "expireTime": timestamp(cache.expires_at),
        "displayName": cache.display_name,
        "usageMetadata": {"totalTokenCount": cache.tokens},
    }
