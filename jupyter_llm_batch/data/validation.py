"""Validate values against a JSON schema, without network access and in linear time.

`fastjsonschema` checks everything but patterns: Python's regular expressions may run for ever on
some texts and block the whole process; Rust's run in linear time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from . import subschemas

#: Longest text that is checked for a format such as "email" (characters); a longer one passes.
_FORMATTED = 2000
#: Deepest nesting of a value.
DEEPEST = 200

_PATTERN = "llm-batch-pattern-%d-"


class UnusableSchema(ValueError):
    """A schema that cannot be used for validation; its text says why."""


def compile_validator(schema: dict[str, Any]) -> Callable[[Any], None]:
    """Return a function that raises ValueError for a value that does not follow `schema`.

    Raises
    ------
    Unusable
        The schema is not valid, or refers to something outside itself.
    """
    import fastjsonschema

    patterns: list[str] = []
    try:
        prepared = _prepared(schema, patterns)
        formats = {_PATTERN % i: _matcher(each) for i, each in enumerate(patterns)}
        check = fastjsonschema.compile(
            prepared, handlers=_Nowhere(), formats={**_formats(), **formats}, use_default=False
        )
    except UnusableSchema:
        raise
    except Exception as error:
        # The compiler generates Python from the user's schema, and may fail on anything in it.
        raise UnusableSchema(" ".join(str(error).split())[:200] or type(error).__name__) from error

    def validate(value: Any) -> None:
        try:
            check(value)
        except fastjsonschema.JsonSchemaValueException as error:
            said = " ".join(str(error.message).split())
            for i, pattern in enumerate(patterns):
                said = said.replace(f"be {_PATTERN % i}", f"match pattern {pattern}")
            raise ValueError(said[:200]) from None
        except RecursionError:
            raise ValueError(
                "it cannot be checked: the schema refers to itself too often"
            ) from None
        except (ArithmeticError, TypeError) as error:  # numbers beyond all floats, and the like
            raise ValueError(f"it cannot be checked ({error})") from None

    return validate


class _Nowhere(dict[str, Any]):
    """Handlers that refuse references out of a schema, for every URL scheme."""

    def __contains__(self, scheme: object) -> bool:
        return True

    def __getitem__(self, scheme: str) -> Callable[[str], NoReturn]:
        def refuse(reference: str) -> NoReturn:
            raise UnusableSchema(f"it refers to {reference}, and nothing is fetched")

        return refuse


def _prepared(schema: Any, patterns: list[str]) -> Any:
    """Return a schema without external references and without Python's regular expressions."""
    if not isinstance(schema, dict):
        return schema
    made = subschemas.map_children(schema, lambda each: _prepared(each, patterns))
    for key in ("$schema", "$id", "id"):  # by these, references may lead elsewhere
        if isinstance(made.get(key), str):
            del made[key]
    if "patternProperties" in made:
        del made["patternProperties"]
        made.pop("additionalProperties", None)
    if isinstance(places := made.pop("prefixItems", None), list):
        # A kind for each place is called `items` in the draft that is compiled.
        if "items" in made:
            made["additionalItems"] = made.pop("items")
        made["items"] = places
    if isinstance(pattern := made.pop("pattern", None), str):
        made["allOf"] = [*made.get("allOf", []), {"format": _PATTERN % len(patterns)}]
        patterns.append(pattern)
    return made


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return a linear-time matcher for `pattern`; one that always matches if that is impossible."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    re.compile(pattern)  # what is no expression at all is refused
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    except SchemaError:
        return lambda _: True  # looks around or back


@functools.cache
def _formats() -> dict[str, Callable[[str], bool]]:
    """Return the checks of fastjsonschema's own formats, for texts of a bounded length."""
    from fastjsonschema.draft07 import CodeGeneratorDraft07

    def bounded(expression: str) -> Callable[[str], bool]:
        search = re.compile(expression).search
        return lambda text: len(text) > _FORMATTED or bool(search(text))

    known = {name: bounded(regex) for name, regex in CodeGeneratorDraft07.FORMAT_REGEXS.items()}
    return {**known, "regex": _is_regex}


def _is_regex(text: str) -> bool:
    try:
        return len(text) > _FORMATTED or bool(re.compile(text))
    except (re.error, OverflowError, RecursionError):
        return False


def is_deep(value: Any) -> bool:
    """Whether lists and objects in a value are nested deeper than `DEEPEST` levels."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for each in level for inner in _held(each)]
        if not level:
            return False
    return True


def _held(value: Any) -> Iterator[Any]:
    """Yield the lists and objects directly in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (each for each in inner if isinstance(each, dict | list))
