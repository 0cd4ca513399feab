"""Prompts hold plain data, in full and the same in every run, or their value is refused by name."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import datetime as dt
import decimal
import enum
import re
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.data import plain_text, rows
from jupyter_llm_batch.submission.prompts import ready as ready_
from jupyter_llm_batch.submission.prompts import template

#: The same value written by concatenation and by Jinja.
WAYS = ["{{ item }}", "{{ item }}{{ '' }}", "{{ item|string }}", "{{ '' ~ item }}", "{{ f() }}"]

Colour = enum.Enum("Colour", {"RED": 1})
Tagged = dataclasses.make_dataclass("Tagged", ["name", "tags"])
Model = pydantic.create_model("Model", name=(str, ...), tags=(set[str], ...))
Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024
LONG = list(range(3000))
TAGS = {f"t{i}" for i in range(9)}
SORTED = str(sorted(TAGS)).replace("[", "{").replace("]", "}")


def rendered(text, value, **more):
    """Return the prompt of the one item `value`."""
    (prompt,) = template.compile(text).render(
        rows.read_rows([value]), namespace={"f": lambda: value, **more}
    )
    return prompt


def problem(text, value, **more):
    """Return the one line that refuses `text` over `value`."""
    with pytest.raises(UsageProblem) as caught:
        rendered(text, value, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Tensor:
    """What PyTorch's prints: shortened."""

    __module__ = "torch"

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)

    def __repr__(self):
        return "tensor([0, ..., 2999])"


def sqlite_row():
    """Return a row of a database."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row = connection.execute("SELECT 'x' AS name, 2 AS n").fetchone()
    connection.close()
    return row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (TAGS, SORTED),
        ([TAGS], f"[{SORTED}]"),
        ({"tags": TAGS}, f"{{'tags': {SORTED}}}"),
        (frozenset({"b", "a"}), "frozenset({'a', 'b'})"),
        (set(), "set()"),
        ({8, 1, 16}, "{1, 8, 16}"),
        ({(2, "b"), (1, "a"), None}, "{(1, 'a'), (2, 'b'), None}"),
        (collections.OrderedDict(tags=TAGS), f"{{'tags': {SORTED}}}"),
        (collections.defaultdict(set, tags=TAGS), f"{{'tags': {SORTED}}}"),
        (Tagged("x", TAGS), f"{{'name': 'x', 'tags': {SORTED}}}"),
        (Model(name="x", tags=TAGS), f"{{'name': 'x', 'tags': {SORTED}}}"),
        (Pair(TAGS, 1), f"{{'a': {SORTED}, 'b': 1}}"),
        ([np.float64(1.5), np.int8(2), np.bool_(True), np.str_("s")], "[1.5, 2, True, 's']"),
        (np.array(LONG), str(LONG)),
        ([np.array(LONG)], f"[{LONG}]"),
        (np.array([0.1234567891, 2.0]), "[0.1234567891, 2.0]"),
        (np.array(["a", None], dtype=object), "['a', None]"),
        (pd.Series(LONG), str(LONG)),
        (pd.Series([1, "x"], index=["a", "b"]), "{'a': 1, 'b': 'x'}"),
        (pd.Index([1, 2]), "[1, 2]"),
        (pd.Categorical(["a", "b"]), "['a', 'b']"),
        (pl.Series(LONG), str(LONG)),
        (pa.array(LONG), str(LONG)),
        (Tensor(LONG), str(LONG)),
        (sqlite_row(), "{'name': 'x', 'n': 2}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_is_written_in_full_and_in_order(value, text):
    """No text is shortened, and none depends on the run, whichever way it gets into the prompt."""
    for way in WAYS:
        assert rendered(way, value) == text, way
    (one,) = template.compile("{{ g }}").render(rows.read_rows(["x"]), namespace={"g": value})
    assert one == text


@pytest.mark.parametrize(
    "value",
    [
        [1, "a", None, 1.5, float("nan"), b"x", (1,), {"k": [True]}],
        np.array([1, 2]), np.array([[1.5, 2.25], [0.0, 1e300]]), np.array(["a", "b"]),
        [np.array([1.5])], np.datetime64("2026-01-02"), [np.datetime64("2026-01-02", "ns")],
        pd.Timestamp("2026-01-02", tz="Asia/Tokyo"), [pd.Timestamp("2026-01-02"), pd.NaT, pd.NA],
        pd.Timedelta("1h"), pd.Interval(0, 1), pd.Period("2026-01", "M"), [dt.date(2026, 1, 2)],
        decimal.Decimal("1.10"), Colour.RED, [Colour.RED], collections.Counter("aab"),
        collections.OrderedDict(a=1), collections.deque([1, 2]), Tagged("x", ["t"]), Pair(1, "b"),
        pydantic.create_model("P", x=(int, ...))(x=1), {"a": 1}.keys(), range(3), {"one"},
        1 + 2j, ValueError("said so"),
    ],
    ids=lambda value: f"{type(value).__name__}-{value}"[:30],
)  # fmt: skip
def test_what_was_complete_keeps_its_text(value):
    """Values whose text was in full and stable are asked as before: nothing is paid again."""
    for way in WAYS[:4]:
        assert rendered(way, value) == str(value)


@settings(deadline=None, max_examples=150)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        | st.binary(max_size=3) | st.dates() | st.decimals(),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)  # fmt: skip
def test_property_plain_values_keep_pythons_text(value):
    """Lists, tuples and dicts of plain values are written as Python writes them."""
    assert plain_text.text_of(value) == str(value)


@pytest.mark.parametrize("option", [{"precision": 2}, {"threshold": 1}, {"legacy": "1.13"}])
def test_numpys_print_options_do_not_get_into_prompts(option):
    """An array's text is the same whatever the user has set for the screen."""
    before = rendered("{{ item }}", np.array([1.25, 2.5]))
    with np.printoptions(**option):
        assert rendered("{{ item }}", np.array([1.25, 2.5])) == before


class Bare:
    """Has no text of its own."""


def endless():
    """Return a list that holds itself."""
    found = [1]
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Bare(), "is a Bare, which has no text of its own"),
        ([Bare()], "is a Bare"),
        ({"k": (1, Bare())}, "is a Bare"),
        (Tagged("x", Bare()), "is a Bare"),
        ((each for each in "ab"), "is a generator, which can be read once: make it a list"),
        ([iter([1])], "is a list_iterator"),
        (concurrent.futures.Future(), "is a Future, not its result"),
        ([re.compile("a").finditer("a")], "can be read once"),
        (pd.DataFrame({"a": [1]}), "is a whole frame, not text"),
        ([pl.DataFrame({"a": [1]})], "is a whole frame"),
        (pl.LazyFrame({"a": [1]}), "is a lazy frame"),
        (pd.DataFrame({"a": [1]}).groupby("a"), "DataFrameGroupBy"),
        (pd.Series([1, 2], index=["a", "a"]), "labels repeat"),
        (endless(), "contains itself"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_text_is_refused_by_name(value, words):
    """A repr with an address, an iterator, a frame or a future is one line with name and row."""
    message = problem("{{ g }}", "x", g=value)
    assert message.startswith("row 0: g ")
    assert words in message
    assert words in problem("{{ g }}{{ '' }}", "x", g=value)
    assert words in problem("{{ 'a' ~ g }}", "x", g=value)
    assert words in problem("{{ row.v }}", {"v": value})


def test_an_asyncio_future_is_refused():
    """A task that was not awaited is no answer."""

    async def main():
        return problem("{{ g }}", "x", g=asyncio.get_running_loop().create_future())

    assert "is a Future, not its result" in asyncio.run(main())


def test_addresses_in_the_users_own_texts_are_data():
    """A crash report is a text like any other, also inside a list or a record."""
    text = "<Thing object at 0x7f1234567890> crashed"
    assert rendered("{{ item }}", [text]) == str([text])
    assert rendered("{{ item }}", Tagged(text, 1)) == str(Tagged(text, 1))


TEMPLATES = [
    "{{ tags }}", "{{ tags|string }}", "{{ tags|join(',') }}",
    "{% for t in tags %}{{ t }}{% endfor %}",
    "{{ tags|list }}", "{{ tags|first }}", "{{ 'x' ~ tags }}", "{{ row.tags|join }}",
    "{{ item.tags|join }}", "{{ item['tags']|join }}", "{{ (tags - gone)|join }}",
    "{{ (tags | list)[0] }}", "{{ tags.union(gone)|join }}", "{{ deep.a[0]|join }}",
    "{{ f()|join }}", "{{ [tags]|map('join')|first }}", "{{ record.tags|join }}",
    "{% set u = tags %}{{ u|join }}", "{{ tags|upper }}", "{{ record }}",
]  # fmt: skip

SCRIPT = """
import dataclasses
from jupyter_llm_batch.data import rows as frames
from jupyter_llm_batch.submission.prompts import template as prompts
tags = {f"tag{i}" for i in range(12)}
Record = dataclasses.make_dataclass("Record", ["tags"])
names = {"gone": {"tag1"}, "f": lambda: set(tags), "deep": {"a": [set(tags)]}}
names["record"] = Record(tags)
for text in %r:
    print(*prompts.compile(text).render(frames.read_rows([{"tags": tags}]), namespace=names))
"""


def test_sets_read_the_same_after_a_restart():
    """Whatever a template does with a set, another process with other hashes makes the same of it.

    Else each restart would pay for the rows again.
    """
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT % TEMPLATES],
            capture_output=True, text=True, env={"PYTHONHASHSEED": seed}, check=False,
        )
        for seed in ("1", "2")
    ]  # fmt: skip
    first, second = (run.stdout.splitlines() for run in runs)
    assert len(first) == len(TEMPLATES), runs[0].stderr
    assert dict(zip(TEMPLATES, first, strict=True)) == dict(zip(TEMPLATES, second, strict=True))


def test_a_set_stays_a_set_for_a_template():
    """Sets can be asked, compared and counted as before."""
    text = "{{ 'a' in item }} {{ item|length }} {{ item == same }} {{ (item - same)|length }}"
    assert rendered(text, {"a", "b"}, same={"a", "b"}) == "True 2 True 0"


def ready(value, *, raw):
    """Return the one finished prompt or request body."""
    return list(ready_.ready(rows.read_rows([value]), raw=raw))[0]  # noqa: RUF015


def test_finished_prompts_hold_plain_data():
    """NumPy's values in messages and request bodies are Python's."""
    messages = [{"role": "user", "content": [{"type": "text", "text": np.str_("x")}]}]
    assert ready(messages, raw=False) == [
        {"role": "user", "content": [{"type": "text", "text": "x"}]}
    ]
    body = {"n": np.int64(1), "v": np.array([1.5]), 1: [np.float64(2)]}
    assert ready(body, raw=True) == {"n": 1, "v": [1.5], "1": [2.0]}


@pytest.mark.parametrize("value", [{"a": Bare()}, {"a": endless()}, {"a": "\ud800"}, {"a": 1 + 2j}])
def test_what_json_does_not_have_is_one_line(value):
    """A body with an object, without end or with broken text is refused with its row."""
    with pytest.raises(UsageProblem, match=r"^row 0 (is not JSON|holds a lone)") as caught:
        ready(value, raw=True)
    assert "\n" not in str(caught.value)


# -- columns without a name ------------------------------------------------------------------------

FRAME = pd.DataFrame([["a", 1.5], ["b", 2.5]], columns=[2023, 0])


@pytest.mark.parametrize(
    "text",
    ["{{ 2023 }}/{{ 0 }}", "{{ 2023 }}/{{ 0 }}{{ '' }}", "{{ 2023|lower }}/{{ 0|round(1) }}",
     "{{ row[2023] }}/{{ row[0] }}", "{{ row['2023'] }}/{{ item[0] }}"],
)  # fmt: skip
def test_a_number_is_the_column_of_that_name(text):
    """`{{ 2023 }}` and `{{ row[2023] }}` are the column, whatever Jinja takes a number for."""
    assert list(template.compile(text).render(rows.read_rows(FRAME))) == ["a/1.5", "b/2.5"]
    named = FRAME.rename(columns=str)
    assert list(template.compile(text).render(rows.read_rows(named))) == ["a/1.5", "b/2.5"]


def test_a_number_that_is_no_column_stays_one():
    """Numbers in expressions, and where there is no such column, are numbers."""
    text = "{{ 5 }} {{ 2023 - 1 }} {% if 1 > 0 %}{{ row[2023] }}{% endif %}"
    assert next(template.compile(text).render(rows.read_rows(FRAME))) == "5 2022 a"


@pytest.mark.parametrize(
    ("text", "value", "remedy"),
    [
        ("{{ 1.5 }}", pd.DataFrame({1.5: [1]}), "row[1.5]"),
        ("{{ -1 }}", pd.DataFrame({-1: [1]}), "row[-1]"),
        ("{{ None }}", pd.DataFrame({None: [1]}), "row[None]"),
        ("{{ True }}", pd.DataFrame({True: [1]}), "row[True]"),
        ("{{ 0 }}", [{0: "a"}], "row[0]"),
        ("{{ 0 }}", [("a", "b")], "item[0]"),
    ],
)
def test_other_literals_that_read_like_a_column_are_refused(text, value, remedy):
    """What would be sent as it stands with every row says how the column is spelled."""
    with pytest.raises(UsageProblem, match="the same with every row") as caught:
        list(template.compile(text).render(rows.read_rows(value)))
    assert remedy in str(caught.value)
    (prompt,) = template.compile(f"{{{{ {remedy} }}}}").render(rows.read_rows(value))
    assert prompt in {"1", "a"}


def test_the_note_that_all_rows_ask_the_same_knows_numbers(client):
    """A cell whose only field is a number names a field."""
    handle = client.submit("Q {{ 2023 }}", name="x", over=FRAME, model="openai:gpt-5-mini")
    assert "every row asks the same" not in handle.notice
    assert handle.wait(60).answers()[2023].tolist() == ["a", "b"]
