"""Walk through JSON schemas, distinguishing keywords from names of fields."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

#: Keywords whose value is a schema, a list of schemas, or an object that names schemas.
SINGLE = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
LISTS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})

#: Prefix of references within the schema, the only ones that are followed.
LOCAL = "#"


def children(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the schemas that stand directly in a schema, each with its keyword."""
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            for each in value.values():
                yield key, each
        elif key in LISTS and isinstance(value, list):
            for each in value:
                yield key, each
        elif key in SINGLE:
            yield key, value


def walk(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all that stand in it; references are not followed."""
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting.extend(each for _, each in children(found))


def map_children(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a copy of a schema in which `change` has replaced those directly in it."""
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            made[key] = {name: change(each) for name, each in value.items()}
        elif key in LISTS and isinstance(value, list):
            made[key] = [change(each) for each in value]
        elif key in SINGLE:
            made[key] = change(value)
        else:
            made[key] = value
    return made


def resolve_reference(root: dict[str, Any], reference: Any) -> Any:
    """Return the target of a reference within `root`.

    Raises
    ------
    LookupError
        It leads nowhere, or out of the schema; nothing is ever fetched.
    """
    if not isinstance(reference, str) or not reference.startswith(LOCAL):
        raise LookupError(reference)
    found: Any = root
    path = reference.removeprefix(LOCAL)
    for part in path.lstrip("/").split("/") if path else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name not in found:
            name = urllib.parse.unquote(name)
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise LookupError(reference)
    return found


def follow_references(root: dict[str, Any], part: Any) -> Any:
    """Return the target of the references of a part of `root`; the part itself without any.

    Raises
    ------
    LookupError
        The references go round in a circle, or lead nowhere.
    """
    seen: set[str] = set()
    while isinstance(part, dict) and "$ref" in part:
        reference = part["$ref"]
        if not isinstance(reference, str) or reference in seen:
            raise LookupError(reference)
        seen.add(reference)
        part = resolve_reference(root, reference)
    return part


def top_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the target of a schema's top-level reference; the schema itself without one.

    Raises
    ------
    LookupError
        The references go round in a circle, or lead nowhere.
    """
    found = follow_references(schema, schema)
    if isinstance(found, dict):
        return found
    raise LookupError(str(found))
