"""What Google checks of a request, how it spells names, and how it words its refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ..server.wire import Call, Refused, Reply

Body = dict[str, Any]

#: The names of google.rpc codes, and the HTTP status that goes with each.
STATUSES = {
    1: ("CANCELLED", 499),
    3: ("INVALID_ARGUMENT", 400),
    4: ("DEADLINE_EXCEEDED", 504),
    5: ("NOT_FOUND", 404),
    7: ("PERMISSION_DENIED", 403),
    8: ("RESOURCE_EXHAUSTED", 429),
    9: ("FAILED_PRECONDITION", 400),
    13: ("INTERNAL", 500),
    14: ("UNAVAILABLE", 503),
}
CODES = {name: code for code, (name, _) in STATUSES.items()}

REQUEST_FIELDS = frozenset(
    {
        "cachedContent",
        "contents",
        "generationConfig",
        "model",
        "safetySettings",
        "serviceTier",
        "store",
        "systemInstruction",
        "toolConfig",
        "tools",
    }
)
EMBED_FIELDS = frozenset({"content", "model", "outputDimensionality", "taskType", "title"})
CONFIG_FIELDS = frozenset(
    {
        "candidateCount",
        "enableEnhancedCivicAnswers",
        "frequencyPenalty",
        "logprobs",
        "maxOutputTokens",
        "mediaResolution",
        "presencePenalty",
        "responseFormat",
        "responseJsonSchema",
        "responseLogprobs",
        "responseMimeType",
        "responseModalities",
        "responseSchema",
        "seed",
        "speechConfig",
        "stopSequences",
        "temperature",
        "thinkingConfig",
        "topK",
        "topP",
    }
)

_UNDERSCORE = re.compile(r"_([a-z0-9])")


class ApiError(Exception):
    """A refusal, as a google.rpc.Status."""

    def __init__(self, message: str, code: int = 3, details: list[Body] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status, self.http = STATUSES[code]
        self.details = details

    @property
    def reply(self) -> Reply:
        """The reply to a call that is refused for this."""
        error: Body = {"code": self.http, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        return Reply({"error": error}, self.http)


class UnknownField(ApiError):
    """A field that the message does not have: no row, but the whole call or job is refused."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no such field: '{name}'")
        self.name = name


def refused(message: str, code: int = 3, details: list[Body] | None = None) -> Refused:
    """Return what ends a call with an error in Google's shape."""
    return Refused(ApiError(message, code, details).reply)


def rate_limited(wait: float | None = None) -> ApiError:
    """Return the 429 as it was reported: often nothing says how long to wait, never a header."""
    link = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"}
    delay = [] if wait is None else [info]
    return ApiError(
        "You exceeded your current quota, please check your plan and billing details. For more "
        "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.",
        8,
        [{"@type": "type.googleapis.com/google.rpc.Help", "links": [link]}, *delay],
    )


def check_key(headers: Mapping[str, str], prefix: str) -> str:
    """Return the key of a call, or refuse one that is missing or no simulator's."""
    key = headers.get("x-goog-api-key", "")
    if not key:
        raise refused(
            "Method doesn't allow unregistered callers (callers without established identity). "
            "Please use API Key or other form of API consumer identity to call this API.",
            7,
        )
    if not key.startswith(prefix):
        raise refused(
            "API key not valid. Please pass a valid API key.",
            3,
            [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                    "metadata": {"service": "generativelanguage.googleapis.com"},
                }
            ],
        )
    return key


def json_body(call: Call) -> Body:
    """Return the body of a call, which has to be a JSON object."""
    try:
        return msgspec.json.decode(call.body or b"{}", type=Body)
    except msgspec.DecodeError as error:
        raise refused(f"Invalid JSON payload received. {error}") from error


def camel_case(value: Any) -> Any:
    """Return an object whose own names are in camel case: both spellings are accepted."""
    if not isinstance(value, dict):
        return value
    return {_UNDERSCORE.sub(lambda found: found[1].upper(), key): value[key] for key in value}


def check_fields(value: Any, fields: frozenset[str]) -> Body:
    """Return an object in camel case that has only these fields."""
    if not isinstance(value, dict):
        raise ApiError("Invalid value: expected an object.")
    for name, spelled in zip(value, camel_case(value), strict=True):
        if spelled not in fields:
            raise UnknownField(name)
    result: Body = camel_case(value)
    return result


def page_of(
    objects: list[Body], field: str, query: Mapping[str, str], default: int, most: int
) -> Reply:
    """Return one page of a listing; its token is the name of the last object."""
    size = query.get("pageSize", "0")
    if not size.isdigit():
        raise refused("Invalid value at 'page_size'.")
    count = min(int(size) or default, most)
    if token := query.get("pageToken"):
        names = [item["name"] for item in objects]
        if token not in names:
            raise refused("Invalid page token.")
        objects = objects[names.index(token) + 1 :]
    page: Body = {field: objects[:count]} if objects else {}
    if len(objects) > count:
        page["nextPageToken"] = objects[count - 1]["name"]
    return Reply(page)
