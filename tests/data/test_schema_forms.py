"""Each provider gets a schema that it takes, or the user one line before anything is sent."""

import json
from typing import Annotated, Any, Literal, Optional

import pytest
from answering import MODELS
from pydantic import BaseModel, Field, HttpUrl
from simulated_rules import check

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.data import schema_forms, structured, validation
from jupyter_llm_batch.providers.registry import reader


class Mood(BaseModel):
    name: Literal["good", "bad"]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = Field(max_length=20)


class Siblings(BaseModel):
    """A reference with words beside it."""

    mood: Mood = Field(description="how it is")
    again: Mood
    maybe: Mood | None = Field(None, description="perhaps")


class Pets(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    both: list[Cat | Dog] = []


class Bounded(BaseModel):
    stars: int = Field(ge=1, le=5)
    tags: list[str] = Field(min_length=2, max_length=4)
    code: str = Field(pattern="^[A-Z]+$", min_length=2)
    link: HttpUrl
    unique: set[str]
    odd: Literal["a", None]  # noqa: PYI061 - an enum that holds null


class Pair(BaseModel):
    place: tuple[float, float]
    mixed: tuple[int, str]


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Chain(BaseModel):
    name: str
    next: Optional["Chain"]


class Anything(BaseModel):
    value: Any


class Bare(BaseModel):
    values: list


class Table(BaseModel):
    cells: dict[str, int]


KINDS = [Siblings, Pets, Bounded, Pair, Node, Chain, Anything, Bare, Table]
#: What cannot be had from whom, and the words that say so.
REFUSED = {
    ("anthropic", Node): "refers to itself (Node)",
    ("anthropic", Chain): "refers to itself (Chain)",
    ("anthropic", Anything): "a value of any kind",
    ("anthropic", Bare): "a value of any kind",
    ("anthropic", Table): "any fields: name the fields",
    ("google", Chain): "give the field by which it does so a default",
}


def sent(provider, kind):
    """Return the schema in the request that a batch of `kind` sends, and whether it is strict."""
    from jupyter_llm_batch.core.request import Recipe

    schema, name = structured.read_schema(kind)
    before = json.dumps(schema)
    adapter = reader(provider)
    recipe = Recipe(schema=schema, schema_name=name)
    adapter.validate(recipe, MODELS[provider])
    body = json.loads(adapter.encoder(recipe, MODELS[provider])("b-0", "p"))
    assert json.dumps(schema) == before
    if provider == "openai":
        form = body["body"]["response_format"]["json_schema"]
        return form["schema"], form["strict"]
    if provider == "anthropic":
        return body["params"]["output_config"]["format"]["schema"], True
    return body["request"]["generationConfig"]["responseJsonSchema"], True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("provider", MODELS)
def test_what_is_sent_is_what_the_provider_takes(provider, kind):
    """Every schema is written as the provider's documentation allows, or refused in one line."""
    if words := REFUSED.get((provider, kind)):
        with pytest.raises(UsageProblem) as caught:
            sent(provider, kind)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    schema, strict = sent(provider, kind)
    assert strict == (provider != "openai" or kind not in {Anything, Bare, Table})
    if strict:
        check(provider, schema)
    validation.compile_validator(schema)


@pytest.mark.parametrize("provider", MODELS)
def test_what_cannot_be_enforced_is_said_in_words(provider):
    """Bounds that a provider does not know stand in the description, and are checked on return."""
    schema, _ = sent(provider, Bounded)
    told = json.dumps(schema["properties"])
    assert ("maximum: 5" in told) == (provider == "anthropic")
    assert "uniqueItems: true" in told
    assert "format: uri" in told or provider != "openai"
    check_original = validation.compile_validator(structured.read_schema(Bounded)[0])
    with pytest.raises(ValueError, match="stars"):
        check_original({"stars": 9, "tags": ["a", "b"], "code": "AB", "link": "http://x",
                        "unique": [], "odd": None})  # fmt: skip


def test_tuples_are_checked_place_by_place():
    """What is sent as a list of any kind is held against the kinds of its places."""
    validate = validation.compile_validator(structured.read_schema(Pair)[0])
    validate({"place": [1.0, 2.0], "mixed": [1, "x"]})
    with pytest.raises(ValueError, match="mixed"):
        validate({"place": [1.0, 2.0], "mixed": ["x", 1]})
    with pytest.raises(ValueError, match="place"):
        validate({"place": [1.0], "mixed": [1, "x"]})


def test_optional_fields_are_nullable_and_objects_closed():
    """OpenAI's strict mode has all fields required; one that was optional may be null."""
    schema, strict = sent("openai", Siblings)
    assert strict
    assert schema["required"] == ["mood", "again", "maybe"]
    assert schema["additionalProperties"] is False
    assert {"type": "null"} in schema["properties"]["maybe"]["anyOf"]
    assert schema["properties"]["maybe"]["description"] == "perhaps"
    assert schema["properties"]["mood"]["description"] == "how it is"


def test_fine_tuned_models_and_azure_get_bounds_in_words():
    """They refuse keywords for bounds, which the description says instead."""
    schema, strict = schema_forms.for_openai(structured.read_schema(Bounded)[0], bounds=False)
    assert strict
    assert not {"minimum", "pattern", "minItems"} & {
        key for part in schema["properties"].values() for key in part
    }
    assert "minimum: 1" in schema["properties"]["stars"]["description"]


def test_many_references_to_each_other_end():
    """Twenty models that refer to each other with words beside it are written in no time."""
    names = [f"M{i}" for i in range(20)]
    refs = {name: {"$ref": f"#/$defs/{name}", "description": "d"} for name in names}
    part = {"type": "object", "properties": refs, "required": names}
    schema = {**part, "$defs": dict.fromkeys(names, part)}
    for form in (schema_forms.for_openai, schema_forms._plain):
        form(schema)


def test_a_schema_that_cannot_be_sent_is_refused_before_anything_is(client, sim):
    """The cell says so in one line, and no request goes out."""
    with pytest.raises(UsageProblem, match="refers to itself"):
        client.submit(name="x", over=["a"], model="anthropic:claude-haiku-4-5", schema=Node)
    assert sim.requests() == []
