"""OpenAI's request bodies: what chat completions, responses and embeddings ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from ..server.seen import Seen
from ..world import answers
from .errors import ApiError
from .parts import look

Body = dict[str, Any]


_IMAGE_TOKENS = 85


_MESSAGE_TOKENS = 4


class Asked(msgspec.Struct):
    """What a request body asks."""

    body: Body
    model: str
    #: The last user message, or the input of an embedding.
    prompt: str
    #: All before it.
    context: str = ""
    tokens: int = 0
    limit: int | None = None
    schema: Body | None = None
    #: The single inputs of an embedding.
    inputs: list[str] = []
    #: What the answer says of images and files.
    seen: str = ""


def common(body: Any) -> str:
    """Return the model that a request names, after what is checked of each."""
    if not isinstance(body, dict):
        raise ApiError("The request body must be a JSON object.", code="invalid_json")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError("you must provide a model parameter")
    if model.startswith("unknown"):
        raise ApiError(
            f"The model `{model}` does not exist or you do not have access to it.",
            status=404,
            code="model_not_found",
        )
    if body.get("stream"):
        raise ApiError("The simulator does not stream.", param="stream", code="unsupported_value")
    return model


def _conversation(body: Body, model: str, messages: Any, param: str, before: str) -> Asked:
    if not isinstance(messages, list) or not messages:
        raise ApiError(
            f"Invalid '{param}': empty array. Expected an array with minimum length 1.",
            param=param,
            code="empty_array",
        )
    last = len(messages) - 1
    texts = []
    seen = Seen()
    tokens = 3 + (answers.count_tokens(before) + _MESSAGE_TOKENS if before else 0)
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise ApiError(
                f"Invalid type for '{param}[{number}]': expected an object.",
                param=f"{param}[{number}]",
                code="invalid_type",
            )
        if message.get("role") == "user":
            last = number
        where = f"{param}[{number}]"
        text = look(message.get("content"), where, seen, chat=param == "messages")
        texts.append(text)
        tokens += answers.count_tokens(text) + _MESSAGE_TOKENS
    tokens += (seen.images + seen.files) * _IMAGE_TOKENS
    context = before + "".join(texts[:last])
    return Asked(
        body=body, model=model, prompt=texts[last], context=context, tokens=tokens, seen=str(seen)
    )


def _schema(form: Any) -> Body | None:
    """Return the schema that a format asks for; any object for plain JSON mode."""
    if not isinstance(form, dict):
        return None
    if form.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if form.get("type") == "json_schema":
        wrapped = form.get("json_schema", form)
        schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
        if not isinstance(schema, dict):
            raise ApiError(
                "Missing required parameter: 'response_format.json_schema.schema'.",
                param="response_format",
                code="missing_required_parameter",
            )
        return schema
    return None


def ask_chat(body: Any) -> Asked:
    """Read a chat completions request."""
    model = common(body)
    asked = _conversation(body, model, body.get("messages"), "messages", "")
    asked.limit = body.get("max_completion_tokens", body.get("max_tokens"))
    asked.schema = _schema(body.get("response_format"))
    return asked


def ask_responses(body: Any) -> Asked:
    """Read a responses request."""
    model = common(body)
    given = body.get("input")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    asked = _conversation(body, model, messages, "input", str(body.get("instructions") or ""))
    asked.limit = body.get("max_output_tokens")
    asked.schema = _schema((body.get("text") or {}).get("format"))
    return asked


def ask_embeddings(body: Any) -> Asked:
    """Read an embeddings request."""
    model = common(body)
    given = body.get("input")
    # A list of numbers is one input that is tokenized already.
    single = isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int)
    items = [given] if single else given
    if not isinstance(items, list) or not items or "" in items:
        raise ApiError("'$.input' is invalid. Please check the API reference.")
    inputs = [item if isinstance(item, str) else json.dumps(item) for item in items]
    return Asked(
        body=body,
        model=model,
        prompt="\n".join(inputs),
        tokens=sum(map(answers.count_tokens, inputs)),
        inputs=inputs,
    )


ASK: dict[str, Callable[[Any], Asked]] = {
    "/v1/chat/completions": ask_chat,
    "/v1/responses": ask_responses,
    "/v1/embeddings": ask_embeddings,
}
