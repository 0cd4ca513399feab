"""Structured output: read a user's schema as JSON schema, and check answers against it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from ..core import loose_json
from ..core.errors import UsageProblem
from ..core.result import Outcome, Result
from ..core.text import a_type
from . import subschemas, validation

_log = logging.getLogger(__name__)

#: The code of answers that do not follow their schema. They were billed.
INVALID = "schema"


def read_schema(value: Any) -> tuple[dict[str, Any], str]:
    """Return the JSON schema of `value` and its name.

    Parameters
    ----------
    value
        A pydantic model, a dataclass, a TypedDict, or a JSON schema as a dict; an object at its
        top.

    Raises
    ------
    UsageProblem
        It is none of these, its top is no object, or it refers to something outside itself.
    """
    if isinstance(value, dict):
        schema, name = value, str(value.get("title") or "answer")
    elif isinstance(value, type) and (_is_model(value) or dataclasses.is_dataclass(value)
                                      or _is_typed_dict(value)):  # fmt: skip
        schema, name = _of_class(value), value.__name__
    else:
        raise UsageProblem(
            "--schema takes a pydantic model, a dataclass, a TypedDict or a JSON schema (a dict), "
            f"not {a_type(value)}"
        )
    _check(schema)
    return schema, "".join(c if c.isalnum() or c in "_-" else "_" for c in name)[:64]


def _of_class(value: type) -> dict[str, Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    try:
        return TypeAdapter(value).json_schema()
    except (
        PydanticUserError, PydanticUndefinedAnnotation, NameError, TypeError, RecursionError,
    ) as error:  # fmt: skip
        if getattr(error, "code", None) == "typed-dict-version":
            raise UsageProblem(
                f"--schema {value.__name__}: before Python 3.12 a TypedDict must come from "
                "typing_extensions: `from typing_extensions import TypedDict`, and run the cell "
                "that defines it again"
            ) from None
        said = " ".join(str(error).split())
        raise UsageProblem(f"--schema {value.__name__}: {said[:200]}") from None


def _check(schema: dict[str, Any]) -> None:
    """Raise `UsageProblem` for a schema that answers cannot be checked against."""
    try:
        key = _key(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageProblem(
            f"--schema cannot be sent as JSON ({error}): use texts, numbers, lists and dicts"
        ) from None
    for part in subschemas.walk(schema):
        reference = part.get("$ref", subschemas.LOCAL)
        if not isinstance(reference, str) or not reference.startswith(subschemas.LOCAL):
            raise UsageProblem(
                f"--schema refers to {str(reference)[:80]!r}, outside itself, and nothing is "
                "fetched: copy what that means into '$defs' and refer to '#/$defs/NAME'"
            )
    try:
        top = subschemas.top_schema(schema)
        for part in subschemas.walk(schema):
            subschemas.follow_references(schema, part)
    except LookupError as error:
        raise UsageProblem(f"--schema is not a valid JSON schema: {error} leads nowhere") from None
    if top.get("type", "object" if "$ref" in schema else None) != "object":
        raise UsageProblem("--schema must describe an object: put the value into a field of one")
    if (why := _validator(key).problem) is not None:
        raise UsageProblem(f"--schema is not a valid JSON schema: {why}")


def schema_problem(schema: dict[str, Any] | None) -> str | None:
    """Return why answers cannot be checked against a schema; None where they can."""
    return None if schema is None else _validator(_key(schema)).problem


def schema_fields(schema: dict[str, Any]) -> list[str]:
    """Return the names of an object's fields, in order; none where it names none."""
    try:
        named = subschemas.top_schema(schema).get("properties")
    except LookupError:
        return []
    return [*named] if isinstance(named, dict) else []


def never_raising(parse: Callable[[bytes, str], Result]) -> Callable[[bytes, str], Result]:
    """Wrap `parse` so that it never raises: an unreadable line becomes a failed row.

    An error in one line affects that row alone. The row may have been billed, and its raw line is
    kept.
    """

    def parse_legible(line: bytes, endpoint: str) -> Result:
        try:
            return parse(line, endpoint)
        except UnicodeDecodeError:
            why = "its answer arrived garbled"
        except Exception as error:  # noqa: BLE001 - of one row, whatever it is
            _log.debug("a result line cannot be read", exc_info=True)
            why = f"its answer cannot be read ({_told(error)}); the raw line is kept"
        try:
            found = parse(line.decode(errors="replace").encode(), endpoint)
        except Exception:  # noqa: BLE001 - see above
            _log.debug("nor with its odd bytes replaced", exc_info=True)
            found = Result(custom_id=_name_in(line), outcome=Outcome.FAILED)
        return msgspec.structs.replace(found, outcome=Outcome.FAILED, error=why, billed=True)

    return parse_legible


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


class _Named(msgspec.Struct):
    custom_id: str | int | None = None
    key: str | int | None = None


_NAMED = msgspec.json.Decoder(_Named)
_NAME = re.compile(rb'"(?:custom_id|key)"\s*:\s*"([^"\\]{1,256})"')


def _name_in(line: bytes) -> str:
    """Return the row's id from a line that the provider's parser cannot read."""
    try:
        named = _NAMED.decode(line)
    except (ValueError, RecursionError):
        found = _NAME.search(line)
        return found[1].decode(errors="replace") if found else ""
    return str(named.custom_id if named.custom_id is not None else named.key or "")


def with_schema_check(
    parse: Callable[[bytes, str], Result], schema: dict[str, Any] | None
) -> Callable[[bytes, str], Result]:
    """Wrap `parse` so that it checks each answer against `schema`; like `never_raising`.

    An answer that does not follow it, or was cut off before its end, is *failed* with the code
    `INVALID`; it was billed, and keeps its text. If the schema cannot be used for checks (see
    `schema_problem`), answers are accepted unchecked.
    """
    parse = never_raising(parse)
    if schema is None:
        return parse
    validate = _validator(_key(schema)).value

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


def mark_accepted(result: Result) -> Result:
    """Return a result that is not checked against its schema any more: it was accepted before."""
    value = None
    with contextlib.suppress(ValueError):
        value = _decoded(result.text or "")
    return msgspec.structs.replace(
        result,
        outcome=Outcome.OK,
        code=None,
        error=None,
        parsed=value if isinstance(value, dict) else None,
    )


def _key(schema: dict[str, Any]) -> bytes:
    return msgspec.json.encode(schema, order="sorted")


class _Validator(NamedTuple):
    """Function that parses and checks an answer's text; `why` it cannot check, if so."""

    value: Callable[[str], Any]
    problem: str | None


@lru_cache(maxsize=16)
def _validator(key: bytes) -> _Validator:
    """Return a function from an answer's text to its value; it raises ValueError."""
    try:
        check = validation.compile_validator(msgspec.json.decode(key))
    except validation.UnusableSchema as error:
        return _Validator(_unchecked, str(error))

    def validate(text: str) -> Any:
        value = _decoded(text)
        try:
            check(value)
        except ValueError as error:
            # Strict mode answers null where an optional field has no value.
            bare = _without_nulls(value)
            try:
                check(bare)
            except ValueError:
                raise error from None
            return bare
        return value

    return _Validator(validate, None)


def _unchecked(text: str) -> Any:
    value = _decoded(text)
    return value if isinstance(value, dict) else None


def _decoded(text: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        try:
            value = loose_json.loads_answer(text)
        except ValueError as error:
            raise ValueError(f"no JSON ({error})") from None
    if validation.is_deep(value):
        # By a bound of its own, so that it does not depend on who reads it, from how far down.
        raise ValueError(f"it is nested deeper than {validation.DEEPEST} levels")
    return value


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


def build_answer(kind: Any, value: Any) -> Any:
    """Return `value` as an instance of the user's class, or unchanged without one."""
    if value is None or not isinstance(kind, type) or kind is dict:
        return value
    try:
        return _builder(kind)(value)
    except Exception:  # noqa: BLE001 - a validator may be any code of the user's
        # The answer follows the JSON schema, and what its class says beyond that concerns this row
        # alone.
        _log.debug("an answer is no %s", kind.__name__, exc_info=True)
        return value


@lru_cache(maxsize=16)
def _builder(kind: type) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python
