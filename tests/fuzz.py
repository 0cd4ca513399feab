"""Batches of any lines, schemas and values: each ends, good rows are bound exactly, counts add up.

The test suite tries a few; ``python tests/fuzz.py 10000`` tries that many per provider,
and ``--provider openai`` one of them. What fails is printed in its smallest form.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from answering import LINES, Answering
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.core.row_codes import outcome_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
WHOLE = st.one_of(
    st.integers(-3, 3),
    st.integers(2**53 - 2, 2**53 + 2),
    st.integers(2**63 - 2, 2**63 + 2),
    st.integers(-(2**63) - 2, -(2**63) + 2),
    st.integers(2**64 - 2, 2**64 + 2),
    st.integers(-(10**320), 10**320),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), st.booleans(), WHOLE, FLOATS, TEXT)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def _plain(kind, values):
    return st.just(({"type": kind}, values))


def _of(pair, kind):
    """Return a schema with its values, from one and its own."""
    schema, values = pair
    if kind == "list":
        return {"type": "array", "items": schema}, st.lists(values, max_size=3)
    if kind == "null":
        return {"anyOf": [schema, {"type": "null"}]}, values | st.none()
    made = {"type": "object", "properties": {"in": schema}, "required": ["in"]}
    return made, values.map(lambda value: {"in": value})


#: Schemas of a field, each with the values that follow it.
FIELDS = st.recursive(
    st.one_of(
        _plain("integer", WHOLE),
        _plain("number", WHOLE | FLOATS),
        _plain("string", TEXT),
        _plain("boolean", st.booleans()),
        st.just(({}, ANY)),
        st.just(({"anyOf": [{"type": "string"}, {"type": "integer"}]}, TEXT | WHOLE)),
        st.just(({"type": "string", "pattern": "^(a|aa)+$"}, st.sampled_from(["a", "a" * 40]))),
        st.just(({"type": "object"}, st.dictionaries(TEXT, ANY, max_size=3))),
    ),
    lambda inner: st.builds(_of, inner, st.sampled_from(["list", "null", "object"])),
    max_leaves=2,
)
NAMES = st.lists(st.sampled_from(["a", "b", "answer", "$ref", "é"]), min_size=1, max_size=3,
                 unique=True)  # fmt: skip

#: Answers that no row can be bound to, and lines that no reader knows.
BROKEN = ["[" * 1200, "{" * 1200, "", "no JSON", '{"a": ', "[" * 150 + "]" * 150, "null", "[]"]
LIBRARIES = {
    "list": None,
    "series": lambda rows: pd.Series(range(rows)),
    "pandas": lambda rows: pd.DataFrame({"n": range(rows)}),
    "polars": lambda rows: pl.DataFrame({"n": range(rows)}),
    "pyarrow": lambda rows: pa.table({"n": range(rows)}),
}
ODD = ["answer", "line", "error", "missing", "bytes", "nested"]


@st.composite
def batches(draw):
    """Draw an input, a schema or none, and what comes back for each row."""
    rows = draw(st.integers(1, 5))
    library = draw(st.sampled_from(sorted(LIBRARIES)))
    schema, values = None, TEXT.filter(bool)
    if draw(st.booleans()):
        fields = {name: draw(FIELDS) for name in draw(NAMES)}
        schema = {
            "type": "object",
            "properties": {name: each for name, (each, _) in fields.items()},
            "required": [*fields],
        }
        values = st.fixed_dictionaries({name: each for name, (_, each) in fields.items()})
    deeds = draw(
        st.lists(
            st.sampled_from(["good", "good", "good", "twice", *ODD]), min_size=rows, max_size=rows
        )
    )
    found = [
        draw(values)
        if deed in {"good", "twice"}
        else draw(st.sampled_from(BROKEN) if deed == "answer" else ANY)
        for deed in deeds
    ]
    return library, schema, list(zip(deeds, found, strict=True))


def line(provider, name, deed, value):
    """Return the bytes that come back for a row; None where nothing does."""
    make = LINES[provider]
    if deed == "missing":
        return None
    if deed in {"good", "twice"}:
        text = value if isinstance(value, str) else json.dumps(value)
        made = json.dumps(make(name, text)).encode()
        return made + b"\n" + made if deed == "twice" else made
    if deed == "answer":
        return json.dumps(make(name, value)).encode()
    key = "key" if provider == "google" else "custom_id"
    if deed == "error":
        return json.dumps({key: name, "error": value}).encode()
    if deed == "line":
        return json.dumps({key: name, "response": value, "result": value}).encode()
    if deed == "bytes":
        return b'{"' + key.encode() + b'": "' + name.encode() + b'", "response": \xff\xfe'
    return json.dumps({key: name, "response": value}).encode()[:-1] + b', "x": ' + b"[" * 3000


def there(value):
    """Return a value as it is compared: arrays as lists, NA as None, unset keys as null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is pd.NA:
        return None
    if isinstance(value, list):
        return [there(each) for each in value]
    if isinstance(value, dict):
        return {key: there(each) for key, each in value.items() if each is not None}
    return value


def is_same(found, value):
    """Whether two values are the same, true being no number."""
    if isinstance(value, list) and isinstance(found, list):
        return len(found) == len(value) and all(map(is_same, found, value))
    if isinstance(value, dict) and isinstance(found, dict):
        return found.keys() == value.keys() and all(
            is_same(found[key], value[key]) for key in value
        )
    if isinstance(value, bool) or isinstance(found, bool):
        return found is value
    return found == value and isinstance(found, str) == isinstance(value, str)


def column(bound, name):
    """Return a column of a bound frame as plain values."""
    if isinstance(bound, pd.DataFrame):
        missing = bound[name].isna() & (bound[name].dtype != object)  # in text pandas says NaN
        found = zip(bound[name].tolist(), missing, strict=True)
        return [None if gone else there(each) for each, gone in found]
    if isinstance(bound, pl.DataFrame):
        return [there(each) for each in bound[name].to_list()]
    found = bound.column(name).to_pylist()
    if isinstance(bound.schema.field(name).type, pa.JsonType):
        found = [None if each is None else json.loads(each) for each in found]
    return [there(each) for each in found]


def hold(answering, provider, drawn):
    """Collect and bind a batch, and check what was promised of it."""
    library, schema, deeds = drawn
    rows = len(deeds)
    make = LIBRARIES[library]
    batch = answering.collect(
        provider,
        lambda name, row: line(provider, name, *deeds[row]),
        rows=rows,
        schema=schema,
        over=None if make is None else make(rows),
    )
    try:
        _check(answering, batch, drawn)
    finally:
        answering.forget(batch)


def _check(answering, batch, drawn):
    library, schema, deeds = drawn
    tally = answering.tally(batch)
    assert sum(tally.values()) == len(deeds), tally
    assert set(tally) <= {str(each) for each in Outcome}
    found = answering.read(batch)
    codes = answering.store.pack(batch.id, "outcomes")
    counted = Counter(str(outcome_of(code)) for code in codes)
    assert counted == tally
    assert Counter(str(result.outcome) for result in found) == tally
    assert [result.custom_id for result in found] == [
        f"{batch.id}-{row}" for row in range(len(deeds))
    ]
    good = [row for row, (deed, _) in enumerate(deeds) if deed in {"good", "twice"}]
    assert all(found[row].outcome is Outcome.OK for row in good), [found[row] for row in good]
    assert all(result.error for result in found if result.outcome is not Outcome.OK)
    bound = answering.bound(batch, found)
    again = answering.bound(batch)  # from the files, as after a restart
    for each in (bound, again):
        _check_bound(each, library, schema, good, deeds)


def _check_bound(bound, library, schema, good, deeds):
    if library in {"list", "series"}:
        values = list(bound)
        assert len(values) == len(deeds)
        for row in good:
            assert is_same(there(values[row]), there(deeds[row][1])), (values[row], deeds[row])
        return
    for name in ["answer"] if schema is None else schema["properties"]:
        values = column(bound, name)
        assert len(values) == len(deeds)
        for row in good:
            value = deeds[row][1]
            wanted = there(value if schema is None else value[name])
            assert is_same(values[row], wanted), (name, values[row], wanted)


def run(provider, folder, examples):
    """Try many batches of a provider."""
    answering = Answering(folder)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(batches())
    def every(drawn):
        event(drawn[0])
        hold(answering, provider, drawn)

    try:
        every()
    finally:
        answering.close()


def main():
    """Run the long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=int, nargs="?", default=10_000)
    parser.add_argument("--provider", choices=LINES, action="append")
    asked = parser.parse_args()
    memory = Path("/dev/shm")  # each example is journaled, and that takes no disk here
    for provider in asked.provider or LINES:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            run(provider, Path(folder), asked.examples)
        seconds = time.monotonic() - began
        print(f"{provider}: {asked.examples:,} batches hold, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
