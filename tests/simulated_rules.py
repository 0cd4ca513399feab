"""What the providers' documentation says of schemas, read independently of the package."""

ANNOTATIONS = {"title", "description"}
KEYWORDS = {
    "openai": {
        "$defs", "$ref", "additionalProperties", "anyOf", "const", "enum", "exclusiveMaximum",
        "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
        "minLength", "minimum", "multipleOf", "pattern", "properties", "required", "type",
    },
    "anthropic": {
        "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "enum", "format",
        "items", "minItems", "properties", "required", "type",
    },
    "google": {
        "$defs", "$ref", "additionalProperties", "anyOf", "enum", "format", "items", "maxItems",
        "maximum", "minItems", "minimum", "oneOf", "prefixItems", "properties", "required", "type",
    },
}  # fmt: skip
FORMATS = {
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid",
}  # fmt: skip


def check(provider, schema):
    """Raise AssertionError for a schema that `provider` would refuse."""
    if provider == "openai":
        assert schema.get("type") == "object", "the root must be an object"
    _part(provider, schema, top=True)


def _part(provider, part, *, top=False):
    assert isinstance(part, dict), part
    keys = part.keys() - ANNOTATIONS
    assert keys <= KEYWORDS[provider], keys - KEYWORDS[provider]
    if "$ref" in part:
        beside = part.keys() - {"$ref"} - ({"$defs"} if top else set())
        assert not beside, f"$ref cannot have keywords {beside}"
    if provider != "google":
        assert part.keys() & {"type", "anyOf", "allOf", "enum", "const", "$ref"}, "no type"
        assert part.get("format", "date") in FORMATS | (
            {"uri"} if provider == "anthropic" else set()
        )
        if "properties" in part or part.get("type") == "object":
            assert part["additionalProperties"] is False
    if provider == "openai" and "properties" in part:
        assert part["required"] == [*part["properties"]]
    if provider == "anthropic":
        assert part.get("minItems", 0) in {0, 1}
    if provider == "google":
        assert all(type(each) in {str, int, float} for each in part.get("enum", ()))
    for key in ("properties", "$defs"):
        for each in part.get(key, {}).values():
            _part(provider, each)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for each in part.get(key, ()):
            _part(provider, each)
    if isinstance(part.get("items"), dict) and (part["items"] or provider != "google"):
        _part(provider, part["items"])
