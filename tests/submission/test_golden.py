"""An upgrade buys nothing again: request hashes of every release stay what they were."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pydantic
import pytest
from typing_extensions import TypedDict

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.request import Recipe
from jupyter_llm_batch.data import structured
from jupyter_llm_batch.providers import registry
from jupyter_llm_batch.submission import fingerprint
from jupyter_llm_batch.submission.fill import content_hash
from jupyter_llm_batch.submission.plan import HASH

CASES = json.loads((Path(__file__).parents[1] / "golden_hashes.json").read_text())
MODEL = "openai:gpt-5-mini"


def request_hash(case):
    adapter = registry.make(case["provider"], {})
    recipe = Recipe(**case["recipe"])
    adapter.validate(recipe, case["model"])
    shared = hashlib.blake2b(adapter.meaning(recipe, case["model"]), digest_size=HASH)
    return content_hash(shared, case["content"]).hex()


def test_no_request_hash_ever_changes():
    """What a release could ask hashes now as it did then, with every provider and option."""
    changed = [case for case in CASES if request_hash(case) != case["hash"]]
    assert not changed, f"{len(changed)} of {len(CASES)} would be paid for again: {changed[0]}"
    assert {case["provider"] for case in CASES} >= {"openai", "anthropic", "google"}


def test_the_order_of_keys_means_nothing():
    """Parameters, schemas and messages hash alike in whatever order their keys stand."""

    def turned(value):
        if isinstance(value, dict):
            return {key: turned(each) for key, each in reversed(value.items())}
        return [turned(each) for each in value] if isinstance(value, list) else value

    assert [request_hash(turned(case)) for case in CASES] == [case["hash"] for case in CASES]


class Part(pydantic.BaseModel):
    n: int = pydantic.Field(description="how many")


class Verdict(pydantic.BaseModel):
    """What the critic says."""

    label: str
    parts: list[Part] = []
    sure: bool | None = None


@dataclass
class Point:
    x: int
    y: float = 0.0


class Entry(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("kind", "golden"),
    [
        (Verdict, "a12dc3c15790275f223d5340a8de62a5"),
        (Point, "63fb0f06d4302d46a9f63e41f255b6b7"),
        (Entry, "5ca6e9bf51d540545cfa79af4eea0223"),
    ],
)
def test_schemas_of_classes_read_as_they_did(kind, golden):
    """Pydantic describes a class as it did at the first release; else their hashes change too."""
    described, _ = structured.read_schema(kind)
    text = msgspec.json.encode(described, order="sorted")
    assert hashlib.blake2b(text, digest_size=HASH).hexdigest() == golden


# -- an upgrade that changes what is meant ---------------------------------------------------------


@pytest.fixture
def upgraded(monkeypatch):
    """Have an upgrade change how this package or pydantic describes a request."""

    def upgrade(package="jupyter-llm-batch", *, meaning=True):
        versions = fingerprint.version
        monkeypatch.setattr(
            fingerprint, "version", lambda name: "99" if name == package else versions(name)
        )
        if meaning:
            from jupyter_llm_batch.providers.openai.adapter import OpenAI

            before = OpenAI.meaning
            monkeypatch.setattr(OpenAI, "meaning", lambda *args: before(*args) + b"changed")

    return upgrade


def test_a_cell_that_an_upgrade_made_new_asks_before_it_pays(client, sim, upgraded):
    """Same name, options and rows, other versions, and no request the same: --resubmit decides."""
    ask = {"name": "x", "over": ["a", "b"], "model": MODEL, "system": "Be brief"}
    client.submit(**ask).wait(60)
    upgraded()
    with pytest.raises(UsageProblem, match=r"jupyter-llm-batch .* to 99.*--resubmit pays again"):
        client.submit(**ask)
    assert len(sim.ledger()) == 2
    assert not [*client.store.folder.glob("batches/*/*.part")]
    client.submit(resubmit=True, **ask).wait(60)
    assert client.submit(**ask).attached
    assert len(sim.ledger()) == 4


def test_a_schema_that_pydantic_describes_otherwise_asks(client, sim, upgraded, monkeypatch):
    """The same class under another pydantic is the same cell, and asks before it pays."""
    ask = {"name": "x", "over": ["a"], "model": MODEL, "schema": Verdict}
    client.submit(**ask).wait(60)
    upgraded("pydantic", meaning=False)
    read = structured.read_schema
    monkeypatch.setattr(
        structured,
        "read_schema",
        lambda value: ({**read(value)[0], "examples": []}, read(value)[1]),
    )
    with pytest.raises(UsageProblem, match="since the upgrade of pydantic"):
        client.submit(**ask)
    assert len(sim.ledger()) == 1


def test_an_upgrade_that_changes_nothing_asks_nothing(client, sim, upgraded):
    """Other versions alone attach as before."""
    ask = {"name": "x", "over": ["a", "b"], "model": MODEL}
    client.submit(**ask).wait(60)
    upgraded(meaning=False)
    assert client.submit(**ask).attached


def test_what_the_user_changed_is_sent_without_a_question(client, sim, upgraded):
    """Other rows, options or descriptions of fields are meant, upgrade or not."""
    client.submit(name="x", over=["a"], model=MODEL, schema=Verdict).wait(60)
    described = structured.read_schema(Verdict)[0]
    described["properties"]["label"]["description"] = "one word"
    client.submit(name="x", over=["a"], model=MODEL, schema=described).wait(60)
    upgraded()
    client.submit(name="x", over=["b"], model=MODEL).wait(60)
    client.submit(name="x", over=["b"], model=MODEL, system="s").wait(60)
    assert len(sim.ledger()) == 4
