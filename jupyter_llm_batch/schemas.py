"""Structured output: what the user calls a schema, as JSON schema, and answers held against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from . import loosejson
from .errors import UsageProblem
from .models import Outcome, Result
from .wording import a_type

#: The code of answers that do not follow their schema. They were billed.
INVALID = "schema"


def read(value: Any) -> tuple[dict[str, Any], str]:
    """Return the JSON schema of `value` and its name.

    Parameters
    ----------
    value
        A pydantic model, a dataclass, a TypedDict, or a JSON schema as a dict; an object at its
        top.

    Raises
    ------
    UsageProblem
        It is none of these, or its top is no object.
    """
    if isinstance(value, dict):
        schema, name = value, str(value.get("title") or "answer")
    elif isinstance(value, type) and (_is_model(value) or dataclasses.is_dataclass(value)
                                      or _is_typed_dict(value)):  # fmt: skip
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            schema, name = TypeAdapter(value).json_schema(), value.__name__
        except PydanticUserError as error:
            said = " ".join(str(error).split())
            raise UsageProblem(f"--schema {value.__name__}: {said[:200]}") from None
    else:
        raise UsageProblem(
            "--schema takes a pydantic model, a dataclass, a TypedDict or a JSON schema (a dict), "
            f"not {a_type(value)}"
        )
    if schema.get("type") != "object" and "$ref" not in schema:
        raise UsageProblem("--schema must describe an object: put the value into a field of one")
    _validator(_key(schema))
    return schema, "".join(c if c.isalnum() or c in "_-" else "_" for c in name)[:64]


def fields(schema: dict[str, Any]) -> list[str]:
    """Return the names of an object's fields, in order."""
    return [*_resolved(schema).get("properties", {})]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    if reference.startswith("#/$defs/"):
        found: dict[str, Any] = schema["$defs"][reference.removeprefix("#/$defs/")]
        return found
    return schema


def strict(schema: Any) -> Any:
    """Return `schema` as OpenAI's strict mode wants it.

    Every object is closed and all its fields are required; a field that was optional may be null
    instead, and keywords that strict mode refuses (``default``) are left out.
    Source: OpenAI's structured-output guide, "All fields must be required".
    """
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if key != "default"}
    if "properties" in schema and isinstance(schema["properties"], dict):
        required = set(schema.get("required", ()))
        properties = {}
        for name, each in schema["properties"].items():
            inner = strict(each)
            properties[name] = inner if name in required else _nullable(inner)
        made |= {
            "properties": properties,
            "required": [*properties],
            "additionalProperties": False,
        }
    return made


def is_open(schema: Any) -> bool:
    """Whether some object may have fields that are not named, which strict mode cannot have."""
    if isinstance(schema, list):
        return any(map(is_open, schema))
    if not isinstance(schema, dict):
        return False
    bare = schema.get("type") == "object" and "properties" not in schema
    return bare or bool(schema.get("additionalProperties")) or any(map(is_open, schema.values()))


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    options = schema.get("anyOf", [schema])
    if any(option.get("type") == "null" for option in options):
        return schema
    return {"anyOf": [*options, {"type": "null"}]}


def legible(parse: Callable[[bytes, str], Result]) -> Callable[[bytes, str], Result]:
    """Return `parse` that takes a line with bytes that are no text for one that is garbled."""

    def parse_legible(line: bytes, endpoint: str) -> Result:
        try:
            return parse(line, endpoint)
        except UnicodeDecodeError:
            return msgspec.structs.replace(
                parse(line.decode(errors="replace").encode(), endpoint),
                outcome=Outcome.FAILED,
                error="its answer arrived garbled",
                billed=True,
            )

    return parse_legible


def checked(
    parse: Callable[[bytes, str], Result], schema: dict[str, Any] | None
) -> Callable[[bytes, str], Result]:
    """Return `parse` with every answer held against `schema`.

    An answer that does not follow it, or was cut off before its end, is *failed* with the code
    `INVALID`; it was billed, and keeps its text.
    """
    parse = legible(parse)
    if schema is None:
        return parse
    validate = _validator(_key(schema))

    def parse_checked(line: bytes, endpoint: str) -> Result:
        result = parse(line, endpoint)
        if result.outcome is not Outcome.OK or (result.text is None and not result.tool_calls):
            return result
        try:
            value = validate(result.text or "")
        except ValueError as error:
            why = str(error)
            if result.truncated:
                why = "cut off by the token limit"
            elif not result.text and result.tool_calls:
                why = f"it calls a tool instead, {result.tool_calls[0].name!r}"
            return msgspec.structs.replace(
                result,
                outcome=Outcome.FAILED,
                code=INVALID,
                error=f"the answer does not follow the schema: {why}",
                billed=True,
            )
        return msgspec.structs.replace(result, parsed=value)

    return parse_checked


def _key(schema: dict[str, Any]) -> bytes:
    return msgspec.json.encode(schema, order="sorted")


@lru_cache(maxsize=16)
def _validator(key: bytes) -> Callable[[str], Any]:
    """Return a function from an answer's text to its value; it raises ValueError."""
    import fastjsonschema

    schema = {key: value for key, value in msgspec.json.decode(key).items() if key != "$schema"}
    try:
        check = fastjsonschema.compile(schema, use_default=False)
    except fastjsonschema.JsonSchemaDefinitionException as error:
        raise UsageProblem(f"--schema is no valid JSON schema: {error}") from None

    def validate(text: str) -> Any:
        try:
            value = msgspec.json.decode(text)
        except (ValueError, RecursionError):
            try:
                value = loosejson.answer(text)
            except ValueError as error:
                raise ValueError(f"no JSON ({error})") from None
        try:
            check(value)
        except fastjsonschema.JsonSchemaValueException as error:
            # Strict mode answers null where an optional field has no value.
            bare = _without_nulls(value)
            try:
                check(bare)
            except fastjsonschema.JsonSchemaValueException:
                raise ValueError(" ".join(str(error.message).split())[:200]) from None
            return bare
        return value

    return validate


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _is_typed_dict(value: type) -> bool:
    # `typing.is_typeddict` does not know the class of typing_extensions before Python 3.12.
    return issubclass(value, dict) and hasattr(value, "__required_keys__")


def _is_model(value: type) -> bool:
    return hasattr(value, "model_json_schema")


def build(kind: Any, value: Any) -> Any:
    """Return `value` as an object of the user's own class, or as it is without one."""
    if value is None or not isinstance(kind, type) or kind is dict:
        return value
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return value  # it follows the JSON schema; a validator of the class says more than that
