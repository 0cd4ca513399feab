"""The forms of OpenAI's result lines, for the decoders; what no field names is skipped.

They are short-lived and without cycles: not the garbage collector's business (gc=False).
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from ..shared.lenient import Count


class Details(msgspec.Struct, gc=False):
    """Parts of a token count."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class Tokens(msgspec.Struct, gc=False):
    """Token counts as the API tells them."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None


class Error(msgspec.Struct, gc=False):
    """An error, of a line or of a body."""

    code: str | int | None = None
    type: str | None = None
    message: str | None = None


class Body(msgspec.Struct, gc=False):
    """What every body may hold."""

    model: str | None = None
    usage: Tokens | None = None
    error: Error | str | None = None


class Part(msgspec.Struct, gc=False):
    """A piece of a message."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None


class Message(msgspec.Struct, gc=False):
    """A message of a chat."""

    content: str | list[Part] | None = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    #: What compatible servers call the model's thoughts.
    reasoning_content: Any = None
    reasoning: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers of a chat."""

    message: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    error: Any = None


class Chat(Body, gc=False):
    """The body of a chat or completion."""

    choices: list[Choice] | None = None


class Item(msgspec.Struct, gc=False):
    """An item of a response."""

    type: str = ""
    call_id: str | None = None
    name: Any = None
    arguments: Any = None
    input: Any = None
    action: Any = None
    summary: Any = None
    content: list[Part] | str | None = None


class Incomplete(msgspec.Struct, gc=False):
    """Why a response is not complete."""

    reason: str | None = None


class ResponseBody(Body, gc=False):
    """The body of a response."""

    status: str | None = None
    incomplete_details: Incomplete | None = None
    output: list[Item] | None = None


class Vector(msgspec.Struct, gc=False):
    """One embedding."""

    embedding: list[float] | str
    index: int | None = None


class Embeddings(Body, gc=False):
    """The body of embeddings."""

    data: list[Vector] | None = None


class Moderations(Body, gc=False):
    """The body of moderations."""

    results: list[Any] | None = None


_B = TypeVar("_B")


class Answer(msgspec.Struct, Generic[_B], gc=False):
    """The HTTP answer to one request."""

    status_code: int | None = None
    body: _B | str | None = None


class AnyBody(Body, gc=False):
    """The body of an endpoint without a form of its own, which may be a chat's all the same."""

    object: Any = None
    choices: Any = None
    output: Any = None
    data: Any = None


class Line(msgspec.Struct, Generic[_B], gc=False):
    """A result line."""

    #: Empty where there is none that could be read.
    custom_id: str = ""
    response: Answer[_B] | None = None
    error: Error | str | None = None


_CHAT = msgspec.json.Decoder(Line[Chat])
_RESPONSES = msgspec.json.Decoder(Line[ResponseBody])
_EMBEDDINGS = msgspec.json.Decoder(Line[Embeddings])
_MODERATIONS = msgspec.json.Decoder(Line[Moderations])
OTHER = msgspec.json.Decoder(Line[AnyBody])
DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "chat": _CHAT,
    "completions": _CHAT,
    "responses": _RESPONSES,
    "embeddings": _EMBEDDINGS,
    "moderations": _MODERATIONS,
}
BODIES: dict[str, Any] = {
    "chat": Chat,
    "completions": Chat,
    "responses": ResponseBody,
    "embeddings": Embeddings,
    "moderations": Moderations,
}
