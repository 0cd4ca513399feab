"""Facts about templates and the prompts they give."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
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
from jupyter_llm_batch.data import rows as frames
from jupyter_llm_batch.submission.prompts import ready as ready_
from jupyter_llm_batch.submission.prompts import template

MAKERS = [pd.DataFrame, pl.DataFrame, pa.table]


def render(text, value, **more):
    """Render `text` over the rows of `value`."""
    return list(template.compile(text).render(frames.read_rows(value), **more))


def problem(text, value, **more):
    """Return the one line that refuses `text` over `value`."""
    with pytest.raises(UsageProblem) as caught:
        render(text, value, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- the text --------------------------------------------------------------------------------------


def test_blank_lines_at_the_ends_are_dropped():
    """Blank lines around the body go, blank lines and spaces within stay."""
    assert template.compile("\n \n  a \n\n b \n\n").text == "  a \n\n b "
    assert render("\n{{ item }}\n\n", ["x"]) == ["x"]


def test_the_last_line_keeps_its_spaces():
    """A prompt may end in a space on purpose."""
    assert render("Answer: \n", ["x"]) == ["Answer: "]


@pytest.mark.parametrize("text", ["", "  ", "\n\n \n"])
def test_a_blank_body_is_refused(text):
    """A cell without text asks nothing."""
    with pytest.raises(UsageProblem, match="blank"):
        template.compile(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n{{ x", 2),
        ("a\n{% fi %}", 2),
        (r"\newcommand{\x}[1]{#1}", 1),
        ('a\nb\n{{"a": 1}}', 3),
        ("{{ x|nofilter }}", 1),
        ("{% 5 %}", 1),
    ],
)
def test_a_template_error_names_the_line_and_raw(text, line):
    """What Jinja cannot read is one line: where, why, and how to write literal braces."""
    with pytest.raises(UsageProblem, match=f"^line {line} of the prompt.*{{% raw %}}") as caught:
        template.compile(text)
    assert "\n" not in str(caught.value)


def test_raw_keeps_braces():
    """LaTeX between raw tags goes through as it is."""
    assert render(r"{% raw %}{#1} {{x}}{% endraw %} {{ item }}", ["y"]) == ["{#1} {{x}} y"]


def test_json_and_latex_need_no_escape_in_single_braces():
    """Single braces mean nothing to a template."""
    text = r'{"a": {"b": "{{ item }}"}} \frac{1}{2} 100% {item} %s %(x)s'
    assert render(text, ["y"]) == [text.replace("{{ item }}", "y")]


def test_names_are_what_must_come_from_outside():
    """Loop variables and set variables are no names of the template."""
    text = "{{ a }}{% for x in b %}{{ x }}{{ loop.index }}{% endfor %}{% set y = c %}{{ y }}"
    assert template.compile(text).names == {"a", "b", "c"}


def test_split_divides_at_lines_of_dashes():
    """Only a line that holds nothing but ``---`` divides."""
    assert template.split("a\n\n---\n b ---\n----\n--- \n\nc\n") == ["a", " b ---\n----", "c"]
    assert template.split("a") == ["a"]


@pytest.mark.parametrize(
    ("text", "number"), [("a\n---\n", 2), ("---\na", 1), ("a\n---\n \n---", 2)]
)
def test_a_blank_part_is_refused(text, number):
    """A part without text is named by its number."""
    with pytest.raises(UsageProblem, match=f"prompt {number} of --split is blank"):
        template.split(text)


# -- where values come from ------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("text", ["{{ b }}-{{ a }}-{{ b }}", "{{ b }}-{{ a|lower }}-{{ b }}"])
def test_columns_are_names(make, text):
    """Columns of a frame go into plain and other templates alike, over many slices."""
    size = 1500
    frame = make({"a": [f"t{i}" for i in range(size)], "b": list(range(size))})
    assert render(text, frame) == [f"{i}-t{i}-{i}" for i in range(size)]


def test_items_and_keys():
    """Lists, dicts, series and generators give ``item`` and ``key``."""
    assert render("{{ key }}={{ item }}", ["a", "b"]) == ["0=a", "1=b"]
    assert render("{{ key }}={{ item }}", (c for c in "ab")) == ["0=a", "1=b"]
    assert render("{{ key }}={{ item }}", {"x": 1, ("y", 2): 2}) == ["x=1", "('y', 2)=2"]
    assert render("{{ key }}={{ item }}", pd.Series([1, 2], index=["u", "u"])) == ["u=1", "u=2"]
    assert render("{{ key }}={{ item }}", pl.Series(["p"])) == ["0=p"]


Pair = collections.namedtuple("Pair", "x y")  # noqa: PYI024
Record = dataclasses.make_dataclass("Record", ["x", "y"])
Model = pydantic.create_model("Model", x=(int, ...), y=(int, ...))
Loose = pydantic.create_model("Loose", __config__=pydantic.ConfigDict(extra="allow"), x=(int, ...))


@pytest.mark.parametrize(
    "item",
    [{"x": 1, "y": 2}, Pair(1, 2), Record(1, 2), Model(x=1, y=2), Loose(x=1, y=2),
     collections.ChainMap({"x": 1, "y": 2})],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_records_work_like_rows(item):
    """Fields of dicts, dataclasses, pydantic models and named tuples are names."""
    assert render("{{ x }}{{ y }}", [item]) == ["12"]
    assert render("{{ x }}{{ row.y + 1 }}", [item]) == ["13"]
    assert render("{{ x }}", {"k": item}) == ["1"]


def test_an_item_is_visible_beside_its_fields():
    """Attributes and methods of an item are reached through ``item``."""
    assert render("{{ item.x }}{{ item.days }}", [{"x": 1, "days": 2}]) == ["12"]
    assert render("{{ item.upper() }}", ["a"]) == ["A"]


@pytest.mark.parametrize("make", [*MAKERS, lambda data: [{k: v[0] for k, v in data.items()}]])
def test_row_is_always_the_field(make):
    """``row.items`` is the field of that name, whatever methods a dict has."""
    data = {name: [name.upper()] for name in ("items", "values", "keys", "get", "copy")}
    text = "{{ row.items }} {{ row.values }} {{ row.keys }} {{ row['get'] }} {{ row.copy }}"
    assert render(text, make(data)) == ["ITEMS VALUES KEYS GET COPY"]


def test_a_row_without_such_a_field_is_a_dict():
    """A row can be gone through, and written as JSON."""
    frame = pd.DataFrame({"a": [1], "b": [None]})
    assert render("{% for k, v in row.items() %}{{ k }}={{ v or '-' }};{% endfor %}", frame) == [
        "a=1;b=-;"
    ]
    assert json.loads(render("{{ row|tojson }}", frame)[0]) == {"a": 1, "b": None}


def test_fields_win_over_all_other_names():
    """A field called item, key or row wins as a bare name, and any field over a variable."""
    frame = pd.DataFrame({"item": ["i"], "key": ["k"], "row": ["r"], "x": ["x"]})
    assert render("{{ item }}{{ key }}{{ row }}{{ x }}", frame, namespace={"x": 0}) == ["ikrx"]
    assert render("{{ item }}{{ key }}", ["v"], namespace={"item": 0, "key": 0}) == ["v0"]


@pytest.mark.parametrize("text", ["{{ g }}: {{ a }}", "{{ g|string }}: {{ a|string }}"])
def test_variables_fill_the_other_names(text):
    """Names that are no fields come from the namespace, row by row."""
    namespace = {"g": "100% {{ a }}", "a": "default"}
    assert render(text, pd.DataFrame({"a": [1]}), namespace=namespace) == ["100% {{ a }}: 1"]
    rows = [{"a": 1}, {"b": 2}, {"a": 3}]
    expected = [f"100% {{{{ a }}}}: {a}" for a in (1, "default", 3)]
    assert render(text, rows, namespace=namespace) == expected


def test_a_cell_without_rows_reads_variables():
    """A single prompt takes its names from the namespace."""
    assert template.compile("{{ a }} {{ b|upper }}").render_one({"a": 1, "b": "x"}) == "1 X"
    assert template.compile("plain 100%").render_one({}) == "plain 100%"
    with pytest.raises(UsageProblem, match="no field or variable 'topc'; did you mean 'topic'"):
        template.compile("{{ topc }}").render_one({"topic": 1})
    with pytest.raises(UsageProblem, match="variable 'a' is empty"):
        template.compile("{{ a }}").render_one({"a": None})


def test_jinjas_own_globals_are_gone():
    """``range``, ``dict`` and the like are names like any other."""
    for name in ("range", "dict", "lipsum", "cycler", "joiner", "namespace"):
        assert f"no field or variable '{name}'" in problem(f"{{{{ {name} }}}}", ["a"])


def test_macros_work():
    """Macros, calls with a body and filters over a block see the row's values."""
    text = (
        "{% macro m(x) %}<{{ x|upper }}{{ caller() if caller is defined }}>{% endmacro %}"
        "{{ m(item) }}{% call m('b') %}{{ item }}{% endcall %}"
        "{% filter upper %}{{ item }}{% endfilter %}"
    )
    assert render(text, ["a", "c"]) == ["<A><Ba>A", "<C><Bc>C"]


def test_rows_do_not_leak_into_each_other():
    """What one row sets or has is not there for the next."""
    assert render("{{ x|default('-') }}", [{"x": 1}, {"y": 1}, {"x": 2}]) == ["1", "-", "2"]
    text = "{% if item == 1 %}{% set y = 'set' %}{% endif %}{{ y|default('-') }}"
    assert render(text, [1, 2, 1]) == ["set", "-", "set"]


# -- values are text -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{{ item }}", "{{ item|string }}", "<{{ item }}>"])
@pytest.mark.parametrize(
    "value",
    ["{{ 7*7 }}", "{% raw %}", "{# gone #}", "100%s", "<b>&amp;", "\u2028 \x0b é 漢 🙂", "a\r\n",
     "x" * 1_000_000, "\\1 {0} $x", "lone \ud800"],
    ids=lambda value: ascii(value[:12]),
)  # fmt: skip
def test_values_are_never_rendered_or_escaped(text, value):
    """Whatever a value holds stands in the prompt as it is."""
    expected = f"<{value}>" if "<" in text else value
    assert render(text, [value]) == [expected]
    assert render(text.replace("item", "g"), [1], namespace={"g": value}) == [expected]


COLOR = enum.StrEnum("COLOR", {"RED": "red"})
VALUES = [
    (1, "1"), (1.5, "1.5"), (True, "True"), (np.int64(3), "3"), (np.float64(0.5), "0.5"),
    (np.bool_(True), "True"), (np.str_("s"), "s"), (decimal.Decimal("1.10"), "1.10"),
    (dt.date(2026, 1, 2), "2026-01-02"), (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
    (np.datetime64("2026-01-02T00:00:00", "ns"), "2026-01-02T00:00:00.000000000"),
    ([1, "a"], "[1, 'a']"), (COLOR.RED, "red"), ("", ""), (0, "0"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), VALUES, ids=ascii)
def test_other_values_are_their_text(value, text):
    """Numbers, dates and lists go in as ``str`` has them, NumPy's as Python's."""
    assert render("{{ item }}", [value]) == [text]
    assert render("{{ item }}{{ '' }}", [value]) == [text]


def test_numpy_numbers_are_pythons_in_expressions():
    """A NumPy scalar can be written as JSON and shows no type."""
    assert render("{{ [item] }} {{ item|tojson }}", [np.int64(3)]) == ["[3] 3"]


@pytest.mark.parametrize("text", ["{{ item }}", "{{ item }}{{ '' }}"])
def test_bytes_are_refused(text):
    """Bytes are no text until somebody says how to read them."""
    assert "row 1: item is bytes" in problem(text, ["a", b"b"])
    assert render("{{ item.decode() }}", [b"b"]) == ["b"]


# -- names that are not there ----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{{ tezt }}", "{{ tezt|upper }}", "{% if tezt %}{% endif %}"])
def test_a_missing_field_names_row_and_nearest_name(text):
    """The error says which name, in which row, and what was probably meant."""
    frame = pd.DataFrame({"text": ["a"]}, index=["first"])
    expected = "row 0 (index 'first'): there is no field or variable 'tezt'; did you mean 'text'?"
    assert problem(text, frame) == expected
    namespace = {"_tezt": 1, "tezts": 1}
    assert problem(text, ["a"], namespace=namespace).endswith("did you mean 'tezts'?")


@pytest.mark.parametrize("text", ["{{ x }}", "{{ x + 1 }}", "{{ row.x }}", "{{ item.x }}"])
def test_a_field_that_one_item_lacks_is_found_at_that_item(text):
    """In a list of dicts, the first one without the field is named."""
    message = problem(text, [{"x": 1}, {"y": 2, "z": 3}])
    assert message.startswith("row 1: there is no")
    assert "there is: y, z" in message


def test_a_missing_attribute_names_the_nearest():
    """Deeper fields are looked for, too."""
    assert "no 'nmae' in this dict; did you mean 'name'" in problem(
        "{{ item.user.nmae }}", [{"user": {"name": "x"}}]
    )


def test_a_name_may_be_missing_where_the_template_says_so():
    """``default`` and ``is defined`` work as they do in Jinja."""
    assert render("{{ x|default('-') }}{{ 1 if y is defined else 2 }}", ["a"]) == ["-2"]


def test_an_if_without_else_may_be_nothing():
    """The short form of a condition inserts nothing when it does not hold."""
    assert render("<{{ 'x' if item }}>", [0, 1]) == ["<>", "<x>"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ 1 / item }}", "ZeroDivisionError"),
        ("{{ item.real.foo() }}", "no 'foo' in this int"),
        ("{{ item|join(1, 2, 3, 4, 5) }}", "TypeError"),
        ("{% include 'x' %}", "TypeError"),
        ("{{ fail() }}", r"RuntimeError: two lines"),
        ("{{ []|first }}", "sequence was empty"),
    ],
)
def test_a_failing_template_names_the_row(text, words):
    """Errors inside a template are one line with the row."""

    def fail():
        raise RuntimeError("two\nlines")

    message = problem(text, {"k": 0}, namespace={"fail": fail})
    assert message.startswith("row 0 (key 'k'): ")
    assert words in message


def test_rows_are_named_by_position_and_label():
    """The index label is added where it says more than the position."""
    frame = pd.DataFrame({"a": ["x", None]})
    assert problem("{{ a }}", frame).startswith("row 1: a is empty")
    assert problem("{{ a }}", frame.set_index([["p", "q"], [1, 2]])).startswith(
        "row 1 (index ('q', 2)): a"
    )
    assert problem("{{ item }}", {"p": 1, "q": None}).startswith("row 1 (key 'q'): item")


# -- nulls -----------------------------------------------------------------------------------------

NULL_FRAMES = [
    pd.DataFrame({"a": ["x", None]}),
    pd.DataFrame({"a": ["x", np.nan]}, dtype=object),
    pd.DataFrame({"a": [1.5, np.nan]}),
    pd.DataFrame({"a": pd.Series([1, None], dtype="Int64")}),
    pd.DataFrame({"a": pd.to_datetime(["2026-01-01", None])}),
    pd.DataFrame({"a": pd.Series(["x", None], dtype="category")}),
    pd.DataFrame({"a": pd.Series(["x", None], dtype="string")}),
    pl.DataFrame({"a": ["x", None]}),
    pl.DataFrame({"a": [1.0, float("nan")]}),
    pa.table({"a": ["x", None]}),
    [{"a": 1}, {"a": None}],
    [{"a": 1}, {"a": np.float32("nan")}],
    [{"a": 1}, {"a": np.datetime64("NaT")}],
    {0: {"a": 1}, 1: {"a": pd.NaT}},
]


@pytest.mark.parametrize("value", NULL_FRAMES, ids=lambda value: type(value).__module__)
@pytest.mark.parametrize(
    "text",
    ["{{ a }}", "{{ a|string }}", "{{ 'b' ~ a }}", "{{ row.a }}", "{{ item.a }}", "{{ none|d(a) }}",
     "{% if 1 %}{{ a }}{% endif %}", "{{ 1 if 1 > 2 else a }}", "{{ item['a'] }}",
     "{% set y = a %}{{ y }}", "{{ (a or a)|string }}", "{{ a > 1 if 0 else [a]|string }}"],
)  # fmt: skip
def test_a_null_is_refused_or_left_out(text, value):
    """A null that would get into a prompt is an error with a remedy, or its row is skipped."""
    message = problem(text, value)
    assert message.startswith("row 1: ")
    assert "is empty (None, NaN or NA): --skip-null" in message
    skipped = render(text, value, skip_null=True)
    assert skipped[0] is not None
    assert skipped[1] is None


@pytest.mark.parametrize("value", NULL_FRAMES, ids=lambda value: type(value).__module__)
@pytest.mark.parametrize(
    "text",
    ["{{ a or '-' }}", "{{ a|default('-') }}", "{% if a %}{{ a|string }}{% else %}-{% endif %}",
     "{{ a|string if a else '-' }}", "{{ '-' if a is none else a }}", "{{ '-' if not a else a }}",
     "{{ '-' if a == None else a }}", "{{ row.a or '-' }}", "{{ (a and a|string) or '-' }}",
     "{% set y = a %}{{ y or '-' }}", "{{ a or b|d('-') }}", "{{ (a or a) or '-' }}"],
)  # fmt: skip
def test_a_null_that_the_template_deals_with_is_fine(text, value):
    """``or``, ``default`` and conditions may meet a null, which they see as None."""
    out = render(text, value)
    assert out[1] == "-"
    assert out[0] != "-"
    assert render(text, value, skip_null=True) == out


def test_nulls_elsewhere_in_the_row_do_not_matter():
    """Only what a prompt uses is looked at."""
    assert render("{{ a }}", pd.DataFrame({"a": ["x"], "b": [None]})) == ["x"]


def test_an_empty_text_is_no_null():
    """An empty string is the user's own."""
    assert render("<{{ item }}>", [""]) == ["<>"]


@pytest.mark.parametrize("text", ["{{ g }}{{ item }}", "{{ g|upper }}{{ item }}"])
def test_an_empty_variable_never_skips_rows(text):
    """``--skip-null`` is about rows: a variable without a value would silently skip them all."""
    message = problem(text, ["a"], namespace={"g": None}, skip_null=True)
    assert message == "the variable 'g' is empty: give it a value"


# -- prompts that are ready ------------------------------------------------------------------------

MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text"}]}]


def ready(value, *, raw=False, **more):
    """Return the contents of ready prompts."""
    return list(ready_.ready(frames.read_rows(value), raw=raw, **more))


def test_ready_prompts_are_taken_as_they_are():
    """Texts are not templates, and lists of messages stay such."""
    assert ready(["{{ x }}", MESSAGES, np.str_("s")]) == ["{{ x }}", MESSAGES, "s"]
    assert ready({"k": "a"}) == ["a"]
    assert ready(pd.Series(["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize("make", MAKERS)
def test_a_frame_of_one_column_holds_prompts(make):
    """The only column is taken; of several, the user says which."""
    assert ready(make({"p": ["a", "b"]})) == ["a", "b"]
    with pytest.raises(UsageProblem, match=r"2 columns \(p, q\).*--over df"):
        ready(make({"p": ["a"], "q": ["b"]}))


def test_raw_bodies_are_dicts_or_json():
    """Bodies come as dicts, JSON text or JSON bytes."""
    body = {"model": "m", "input": "x"}
    assert ready([body, json.dumps(body), json.dumps(body).encode()], raw=True) == [body] * 3


@pytest.mark.parametrize(
    ("item", "raw", "words"),
    [
        (3, False, "is an int: a text or a list of messages is wanted"),
        (b"x", False, "is a bytes"),
        ([], False, "is an empty list"),
        ({"role": "user", "content": "x"}, False, "is a dict: a list of messages"),
        ([{"role": "user"}], False, "not a dict of 'role' and 'content'"),
        ([{"role": 1, "content": "x"}], False, "not a dict of 'role' and 'content'"),
        (["x"], False, "not a dict of 'role' and 'content'"),
        ([object()], False, "not a dict of 'role' and 'content'"),
        ("text", True, "is not JSON"),
        (b"\xff", True, "is not JSON"),
        ("[1]", True, "is a list: --raw wants"),
        (MESSAGES, True, "is a list: --raw wants"),
        (None, False, "is empty"),
        (float("nan"), True, "is empty"),
    ],
)
def test_what_is_no_prompt_names_the_row(item, raw, words):
    """A wrong row is named, with what is wanted."""
    with pytest.raises(UsageProblem, match=r"^row 1 \(key 'b'\) ") as caught:
        ready({"a": "{}" if raw else "x", "b": item}, raw=raw)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_ready_rows_can_be_left_out():
    """With ``--skip-null``, an empty row is None."""
    assert ready(["a", None, float("nan")], skip_null=True) == ["a", None, None]


# -- cost ------------------------------------------------------------------------------------------


def test_a_template_is_rendered_one_row_at_a_time():
    """Prompts are made as they are asked for: no second copy of the input."""
    taken = []
    source = (taken.append(i) or i for i in range(10))
    out = template.compile("{{ item }}").render(frames.read_rows(source))
    assert (next(out), next(out)) == ("0", "1")
    assert taken == [0, 1]


def test_nothing_is_imported_before_the_first_template():
    """The room costs nothing to load."""
    code = (
        "import sys; from jupyter_llm_batch.submission.prompts import template as prompts;"
        "print({'pandas', 'polars', 'pyarrow', 'numpy', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


# -- properties ------------------------------------------------------------------------------------

LITERAL = st.text(max_size=8).map(lambda text: text.replace("{", "(").replace("\r", ""))
VALUE = st.one_of(
    st.text(max_size=8), st.integers(), st.booleans(), st.floats(allow_nan=False), st.none(),
    st.binary(max_size=2), st.dates(), st.lists(st.integers(), max_size=2),
)  # fmt: skip


def outcome(text, rows, **more):
    """Return the prompts, or the words that refuse them."""
    try:
        return render(text, rows, **more)
    except UsageProblem as refused:
        return str(refused)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(LITERAL, st.sampled_from(["a", "b", "item", "key", "g"])), min_size=1),
    st.lists(st.fixed_dictionaries({"a": VALUE}, optional={"b": VALUE, "key": VALUE}), min_size=1),
    st.fixed_dictionaries({}, optional={"b": VALUE, "g": VALUE}),
    st.booleans(),
)
def test_property_both_ways_of_rendering_agree(parts, rows, namespace, skip_null):
    """Concatenation and Jinja give the same prompts and the same refusals."""
    plain = "<" + "".join(f"{text}{{{{ {name} }}}}" for text, name in parts) + ">"
    jinja = f"{plain}{{{{ '' }}}}"
    assert template.compile(plain)._parsed.parts is not None
    assert template.compile(jinja)._parsed.parts is None
    more = {"namespace": namespace, "skip_null": skip_null}
    assert outcome(plain, rows, **more) == outcome(jinja, rows, **more)


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(bool), min_size=1
    ),
    LITERAL,
)
def test_property_the_library_makes_no_difference(texts, literal):
    """The same rows give the same prompts from every library and shape."""
    expected = [f"<{literal}{text}>" for text in texts]
    for make in MAKERS:
        assert render(f"<{literal}{{{{ t }}}}>", make({"t": texts})) == expected
    for value in (texts, tuple(texts), iter(texts), dict(enumerate(texts)), pl.Series(texts)):
        assert render(f"<{literal}{{{{ item }}}}>", value) == expected


@settings(deadline=None)
@given(st.text(max_size=60))
def test_property_any_text_is_a_prompt_or_refused(text):
    """No text makes anything but a prompt or one line for the user."""
    try:
        out = render(text, ["x"])
    except UsageProblem as refused:
        assert "\n" not in str(refused)  # noqa: PT017
    else:
        assert len(out) == 1
