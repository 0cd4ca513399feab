"""What an answer may hold beside its text: calls of tools, thoughts, citations, further answers.

All of it is unrecorded: no recording of a batch shows these parts, which follow the SDKs' types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import answers, schemas

Body = dict[str, Any]

THOUGHT = "The request was considered."
#: The page that a cited answer names.
PAGE, TITLE = "https://example.com/source", "A simulated source"
#: What is called when the request offers nothing.
_NO_TOOL = {"name": "simulated_tool", "parameters": {"type": "object", "properties": {}}}
#: Most answers to one request; OpenAI allows 128, Gemini 8.
_MOST = 8


def call(tools: Any, prompt: str) -> tuple[str, Any]:
    """Return name and arguments of a call of the first function that a request offers."""
    offered = _offered(tools if isinstance(tools, list) else [])
    name = str(offered.get("name") or _NO_TOOL["name"])
    schema = next(
        (offered[key] for key in ("parameters", "input_schema", "parametersJsonSchema")
         if isinstance(offered.get(key), Mapping)),
        _NO_TOOL["parameters"],
    )  # fmt: skip
    return name, schemas.sample(_lowered(schema), prompt)


def _offered(tools: list[Any]) -> Mapping[str, Any]:
    for tool in tools:
        if not isinstance(tool, Mapping):
            continue
        declared = tool.get("functionDeclarations", tool.get("function_declarations"))
        found = declared[0] if isinstance(declared, list) and declared else tool
        found = found.get("function", found)
        if isinstance(found, Mapping) and "name" in found:
            return found
    return _NO_TOOL


def _lowered(schema: Any) -> Any:
    """Return a schema with its types in small letters, which Gemini writes in capitals."""
    if isinstance(schema, Mapping):
        return {
            key: value.lower() if key == "type" and isinstance(value, str) else _lowered(value)
            for key, value in schema.items()
        }
    return [_lowered(item) for item in schema] if isinstance(schema, list) else schema


def is_forced(choice: Any) -> bool:
    """Whether a request leaves the model no choice but to call a tool."""
    if isinstance(choice, Mapping):
        config = choice.get("functionCallingConfig", choice)
        kinds = (config.get("mode"), config.get("type"))
        return not {"ANY", "any", "tool", "function"}.isdisjoint(kinds)
    return bool(choice == "required")


def many(asked: Any) -> int:
    """Return how many answers a request asks for."""
    return min(asked, _MOST) if isinstance(asked, int) and asked > 1 else 1


def variant(text: str, number: int) -> str:
    """Return the text of a further answer, told apart by its number."""
    return text if number == 0 else f"{text} (answer {number + 1})"


def thought_tokens() -> int:
    """Return the tokens of a thought."""
    return answers.count_tokens(THOUGHT)
