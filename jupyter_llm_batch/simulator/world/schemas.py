"""Values that are valid for a JSON schema, made from a prompt and nothing else."""

from __future__ import annotations

import math
from typing import Any

from . import answers

#: Nesting at which optional parts and recursion end.
_DEEP = 6

_FORMATS = {
    "date-time": "2026-01-15T12:00:00Z",
    "date": "2026-01-15",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}

Schema = dict[str, Any]


def sample(schema: Schema, prompt: str) -> Any:
    """Return the same valid value each time for the same schema and prompt."""
    return _Sampler(schema, prompt).value(schema, "$", 0)


class _Sampler:
    def __init__(self, root: Schema, prompt: str) -> None:
        self._root = root
        self._prompt = prompt

    def value(self, schema: Schema | bool, path: str, depth: int) -> Any:
        if isinstance(schema, bool):
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"], path)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.value(self._branch(schema, key, path, depth), path, depth)
        kind = self._type(schema, depth)
        if kind == "object":
            return self._object(schema, path, depth)
        if kind == "array":
            return self._array(schema, path, depth)
        return self._scalar(kind, schema, path)

    def _scalar(self, kind: str, schema: Schema, path: str) -> str | float | bool | None:
        if kind == "string":
            return self._string(schema, path)
        if kind == "integer":
            return self._integer(schema, path)
        if kind == "number":
            return self._float(schema, path)
        return self._hash(path) % 2 == 0 if kind == "boolean" else None

    def _resolve(self, schema: Schema) -> Schema:
        """Follow ``$ref`` and fold ``allOf`` into one schema."""
        if "$ref" in schema:
            target: Any = self._root
            for part in schema["$ref"].lstrip("#/").split("/"):
                if part:
                    target = target[part.replace("~1", "/").replace("~0", "~")]
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self._resolve({**target, **rest})
        if "allOf" not in schema:
            return schema
        folded = {key: value for key, value in schema.items() if key != "allOf"}
        for part in map(self._resolve, schema["allOf"]):
            properties = {**folded.get("properties", {}), **part.get("properties", {})}
            required = [*folded.get("required", ()), *part.get("required", ())]
            folded = {**folded, **part}
            if properties:
                folded.update(properties=properties, required=required)
        return folded

    def _type(self, schema: Schema, depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            if depth >= _DEEP and "null" in kind:
                return "null"
            return str(next((name for name in kind if name != "null"), "null"))
        if kind is not None:
            return str(kind)
        if "properties" in schema or "additionalProperties" in schema:
            return "object"
        if "items" in schema or "prefixItems" in schema:
            return "array"
        return "string"

    def _branch(self, schema: Schema, key: str, path: str, depth: int) -> Schema:
        branches = schema[key]
        nulls = [branch for branch in branches if branch.get("type") == "null"]
        if depth >= _DEEP and nulls:
            return dict(nulls[0])
        others = [branch for branch in branches if branch not in nulls] or nulls
        shared = {name: value for name, value in schema.items() if name != key}
        return {**shared, **self._resolve(others[self._hash(path) % len(others)])}

    def _choice(self, options: list[Any], path: str) -> Any:
        words = [option for option in options if isinstance(option, str)]
        if len(words) == len(options):
            return answers.pick(words, self._prompt)
        return options[self._hash(path) % len(options)]

    def _hash(self, path: str) -> int:
        return int.from_bytes(answers.digest(f"{path}\0{self._prompt}")[:4], "big")

    def _object(self, schema: Schema, path: str, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        result = {
            name: self.value(part, f"{path}.{name}", depth + 1)
            for name, part in schema.get("properties", {}).items()
            if depth < _DEEP or name in required
        }
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict) and depth < _DEEP:
            for index in range(max(1, schema.get("minProperties", 0)) - len(result)):
                result[f"key{index + 1}"] = self.value(extra, f"{path}.{index}", depth + 1)
        return result

    def _array(self, schema: Schema, path: str, depth: int) -> list[Any]:
        fixed = schema.get("prefixItems", [])
        least = schema.get("minItems", 0)
        count = least if depth >= _DEEP else max(least, len(fixed) or 2)
        count = min(count, schema.get("maxItems", count))
        items = schema.get("items", {})
        result: list[Any] = []
        # A schema of few distinct values may not fill an array of unique ones: stop in time.
        for index in range(count * 20):
            if len(result) == count:
                break
            part = fixed[len(result)] if len(result) < len(fixed) else items
            value = self.value(part, f"{path}[{index}]", depth + 1)
            if not schema.get("uniqueItems") or value not in result:
                result.append(value)
        return result

    def _string(self, schema: Schema, path: str) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        name = path.rpartition(".")[2].strip("$[]0123456789")
        text = answers.marked(name or "text", self._prompt)
        text = text.ljust(schema.get("minLength", 0), ".")
        return text[: schema.get("maxLength", len(text))]

    def _integer(self, schema: Schema, path: str) -> int:
        low, high = _bounds(schema)
        if "exclusiveMinimum" in schema:
            low += 1
        if "exclusiveMaximum" in schema:
            high -= 1
        step = schema.get("multipleOf", 1)
        first = math.ceil(low / step)
        span = max(1, math.floor(high / step) - first + 1)
        return int((first + self._hash(path) % span) * step)

    def _float(self, schema: Schema, path: str) -> float:
        low, high = _bounds(schema)
        # Strictly between the bounds, so that exclusive ones hold as well.
        value = low + (high - low) * (self._hash(path) % 99 + 1) / 100
        step = schema.get("multipleOf")
        return round(value, 6) if step is None else math.ceil(value / step) * float(step)


def _bounds(schema: Schema) -> tuple[float, float]:
    """Return the least and the greatest number, ten apart where the schema leaves it open."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 0 if high is None or high > 0 else high - 10
    return float(low), float(low + 10 if high is None else high)
