"""Convert a JSON schema to the form of each provider; answers are checked against the user's own.

A rule that a provider cannot enforce goes into the description, for the model to read. What the
provider would refuse is rewritten where possible, and raises `UsageProblem` where not: else each
row would be refused hours later.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.errors import UsageProblem
from . import subschemas

#: Keywords that say nothing about a value.
_NOTES = frozenset(
    {
        "$comment", "$id", "$schema", "contentEncoding", "contentMediaType", "default",
        "deprecated", "discriminator", "example", "examples", "id", "readOnly", "writeOnly",
    }
)  # fmt: skip
_REFERENCES = frozenset({"$ref", "$defs", "definitions"})
_COMMON = frozenset(
    {
        *_REFERENCES, "additionalProperties", "anyOf", "const", "description", "enum", "items",
        "properties", "required", "title", "type",
    }
)  # fmt: skip
_LENGTHS = frozenset({"maxLength", "minLength"})
_BOUNDS = frozenset(
    {
        *_LENGTHS, "exclusiveMaximum", "exclusiveMinimum", "format", "maxItems", "maximum",
        "minItems", "minimum", "multipleOf", "pattern",
    }
)  # fmt: skip
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
)

#: OpenAI's guide, "Supported schemas" and "Limitations".
_OPENAI = _COMMON | _BOUNDS
#: Its guide again: what no strict schema may hold, and what can be put in words instead.
_NOT_STRICT = frozenset(
    {
        "allOf", "contains", "dependencies", "dependentRequired", "dependentSchemas", "else", "if",
        "not", "patternProperties", "propertyNames", "then", "unevaluatedItems",
        "unevaluatedProperties",
    }
)  # fmt: skip
#: Most references that are replaced by their targets.
_INLINED = 1000
_MOST_FIELDS, _MOST_WORDS, _DEEPEST = 5000, 1000, 10

#: Anthropic's guide and the transformation that its SDK makes.
_ANTHROPIC = _COMMON | {"allOf", "format", "minItems"}

#: Gemini's reference of `responseJsonSchema`.
_GOOGLE = (_COMMON - {"const", "definitions"}) | {
    "format", "maxItems", "maximum", "minItems", "minimum", "oneOf", "prefixItems",
    "propertyOrdering",
}  # fmt: skip


class _NotStrict(Exception):
    """OpenAI's strict mode cannot hold a schema."""


# -- OpenAI ----------------------------------------------------------------------------------------


def for_openai(schema: dict[str, Any], *, bounds: bool = True) -> tuple[dict[str, Any], bool]:
    """Return the schema to send, and whether strict mode enforces it.

    In strict mode every object is closed and has all its fields; one that was optional may be null.
    What that cannot hold (values of any kind, objects of any fields) is sent as it is, without
    strict mode.

    Parameters
    ----------
    bounds
        The model supports bounds of texts, numbers and lists; fine-tuned ones and Azure do not.
    """
    known = _OPENAI if bounds else _OPENAI - _BOUNDS

    def strict(part: Any) -> dict[str, Any]:
        if not isinstance(part, dict) or _NOT_STRICT & part.keys():
            raise _NotStrict
        made = subschemas.map_children(_without_rest(part), strict)
        properties = made.get("properties")
        if _is_object(part):
            if properties is None or part.get("additionalProperties"):
                raise _NotStrict
            required = set(part.get("required", ()))
            made["properties"] = {
                name: each if name in required else _nullable(each)
                for name, each in properties.items()
            }
            made |= {"required": [*properties], "additionalProperties": False}
        elif (_is_array(part) and "items" not in part) or not (
            {"type", "anyOf", "enum", "const", "$ref"} & part.keys()
        ):
            raise _NotStrict
        return _told(made, known, formats=_FORMATS)

    try:
        made = strict(_plain(schema))
    except (_NotStrict, RecursionError):
        return schema, False
    return (made, True) if _is_small(made) else (schema, False)


def _is_small(schema: dict[str, Any]) -> bool:
    """Whether a strict schema is within the documented limits."""
    parts = [*subschemas.walk(schema)]
    fields = sum(len(part.get("properties", ())) for part in parts)
    words = sum(len(part.get("enum", ())) for part in parts)
    return fields <= _MOST_FIELDS and words <= _MOST_WORDS and _depth(schema) <= _DEEPEST


def _depth(part: Any) -> int:
    """Return how many objects stand within each other."""
    if not isinstance(part, dict):
        return 0
    deepest = max((_depth(each) for _, each in subschemas.children(part)), default=0)
    return deepest + ("properties" in part)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    options = schema.get("anyOf", [schema])
    if any(option.get("type") == "null" for option in options):
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*options, {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]}


# -- Anthropic -------------------------------------------------------------------------------------


def for_anthropic(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema as it is sent.

    Raises
    ------
    UsageProblem
        Anthropic would refuse it, and it cannot be written otherwise.
    """
    _refuse_circles(schema, "Anthropic", "write its levels out, or ask for a list", optional=False)

    def limited(part: Any) -> dict[str, Any]:
        if not isinstance(part, dict):
            raise _any_value("Anthropic")
        if isinstance(kinds := part.get("type"), list):
            rest = {key: value for key, value in part.items() if key != "type"}
            return limited({"anyOf": [{**rest, "type": kind} for kind in kinds]})
        made = subschemas.map_children(_without_rest(part), limited)
        if any(isinstance(each, (dict, list)) for each in part.get("enum", ())):
            raise UsageProblem("Anthropic takes only texts and numbers as the values of an enum")
        if _is_object(part):
            rest = part.get("additionalProperties", True)
            if isinstance(rest, dict) or (rest and "properties" not in part):
                raise UsageProblem(
                    "Anthropic takes no schema whose objects may have any fields: name the "
                    "fields, or use a list of keys and values"
                )
            made["additionalProperties"] = False
        elif not {"type", "anyOf", "allOf", "enum", "const", "$ref"} & part.keys():
            raise _any_value("Anthropic")
        if made.get("minItems", 0) > 1:
            made = _in_words(made, {"minItems"})
        return _told(made, _ANTHROPIC, formats=_FORMATS | {"uri"})

    return limited(_plain(schema))


def _any_value(provider: str) -> UsageProblem:
    return UsageProblem(
        f"{provider} takes no schema with a value of any kind (Any, or a bare list): name its type"
    )


# -- Gemini ----------------------------------------------------------------------------------------


def for_google(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema as it is sent.

    Raises
    ------
    UsageProblem
        Gemini would refuse it, and it cannot be written otherwise.
    """
    _refuse_circles(schema, "Gemini", "give the field by which it does so a default", optional=True)

    def known(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        made = subschemas.map_children(part, known)
        if "const" in made:
            made["enum"] = [made.pop("const")]
        if "enum" in made:
            made = _of_words(made)
        if "definitions" in made:
            made["$defs"] = {**made.pop("definitions"), **made.get("$defs", {})}
        if isinstance(reference := made.get("$ref"), str):
            made["$ref"] = reference.replace("#/definitions/", "#/$defs/", 1)
        return _told(made, _GOOGLE)

    made: dict[str, Any] = known(_plain(schema, tuples=False, one_of=False))
    return made


def _of_words(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an enum of texts or numbers, beside which null is a kind of its own."""
    words = schema["enum"]
    kept = [each for each in words if isinstance(each, (str, int, float)) and each is not True
            and each is not False]  # fmt: skip
    if len(kept) == len(words):
        return schema
    rest = {key: value for key, value in schema.items() if key != "enum"}
    if None in words and len(kept) == len(words) - 1:
        rest = {key: value for key, value in rest.items() if key != "type"}
        return {**rest, "anyOf": [*([{"enum": kept}] if kept else []), {"type": "null"}]}
    return _in_words({**rest, "enum": words}, {"enum"})


# -- of all ----------------------------------------------------------------------------------------


def _is_object(part: dict[str, Any]) -> bool:
    kinds = part.get("type")
    if isinstance(kinds, list):
        return "object" in kinds
    named = "properties" in part or "additionalProperties" in part
    return kinds == "object" or (kinds is None and named)


def _without_rest(part: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without what it says of fields that it does not name."""
    return {key: value for key, value in part.items() if key != "additionalProperties"}


def _is_array(part: dict[str, Any]) -> bool:
    kinds = part.get("type")
    return kinds == "array" or (isinstance(kinds, list) and "array" in kinds)


def _plain(schema: dict[str, Any], *, tuples: bool = True, one_of: bool = True) -> dict[str, Any]:
    """Return a schema without what no provider takes and what can be written otherwise.

    A reference stands alone, so that what is beside it is put together with what it refers to;
    ``allOf`` of one is that one.

    Parameters
    ----------
    tuples
        Lists with a kind for each place become lists of these kinds.
    one_of
        ``oneOf`` becomes ``anyOf``: answers are held against the user's schema afterwards.
    """
    put = 0

    def plain(part: Any, seen: tuple[str, ...]) -> Any:
        nonlocal put
        if not isinstance(part, dict):
            return part
        part = {key: value for key, value in part.items() if key not in _NOTES}
        if "$ref" in part and len(part) > 1:
            target = subschemas.resolve_reference(schema, part["$ref"])
            if part["$ref"] in seen or put >= _INLINED or not isinstance(target, dict):
                return {"$ref": part["$ref"]}
            put += 1
            rest = {key: value for key, value in part.items() if key != "$ref"}
            return plain({**target, **rest}, (*seen, part["$ref"]))
        if isinstance(all_of := part.get("allOf"), list) and len(all_of) == 1:
            (only,) = all_of
            rest = {key: value for key, value in part.items() if key != "allOf"}
            if isinstance(only, dict):
                return plain({**only, **rest}, seen)
        if one_of and "oneOf" in part and "anyOf" not in part:
            part["anyOf"] = part.pop("oneOf")
        if tuples and isinstance(places := part.get("prefixItems"), list) and places:
            part = _as_list(part, places)
        return subschemas.map_children(part, lambda each: plain(each, seen))

    made: dict[str, Any] = plain(schema, ())
    return made


def _as_list(part: dict[str, Any], places: list[Any]) -> dict[str, Any]:
    """Return a tuple as a list of any of its types, with the positions in the description."""
    made = _in_words(part, {"prefixItems"})
    kinds = [each for i, each in enumerate(places) if each not in places[:i]]
    made["items"] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {**made, "type": "array", "minItems": len(places), "maxItems": len(places)}


def _told(
    part: dict[str, Any], known: frozenset[str], *, formats: frozenset[str] | None = None
) -> dict[str, Any]:
    """Return a schema whose unknown keywords and formats stand in its description."""
    unknown = {key for key in part if key not in known}
    if formats is not None and part.get("format", "date") not in formats:
        unknown.add("format")
    return _in_words(part, unknown) if unknown else part


def _in_words(part: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    said = ", ".join(
        f"{key}: {value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for key, value in part.items()
        if key in keys
    )
    rest = {key: value for key, value in part.items() if key not in keys}
    before = rest.get("description")
    return {**rest, "description": f"{before}\n\n{{{said}}}" if before else f"{{{said}}}"}


def _refuse_circles(schema: dict[str, Any], provider: str, remedy: str, *, optional: bool) -> None:
    """Raise `UsageProblem` for a schema that refers to itself.

    Parameters
    ----------
    optional
        Fields that need not be there may do so.
    """
    done: set[str] = set()

    def follow(part: Any, above: tuple[str, ...]) -> None:
        if not isinstance(part, dict):
            return
        if isinstance(reference := part.get("$ref"), str):
            if reference in above:
                name = reference.rpartition("/")[2].removeprefix("#") or "it"
                raise UsageProblem(
                    f"{provider} takes no schema that refers to itself ({name}): {remedy}"
                )
            if reference not in done:
                follow(subschemas.resolve_reference(schema, reference), (*above, reference))
                done.add(reference)
        required = part.get("required", ())
        for key, value in part.items():
            if key in {"$defs", "definitions"}:
                continue  # met where something refers to it
            if key == "properties" and isinstance(value, dict):
                for name, each in value.items():
                    if not optional or name in required:
                        follow(each, above)
            elif key in subschemas.NAMED or key in subschemas.LISTS or key in subschemas.SINGLE:
                for _, each in subschemas.children({key: value}):
                    follow(each, above)

    follow(schema, ("#",))
