"""Facts about rows in and answers out."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import subprocess
import sys
import uuid

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.data import rows as frames

ADDED = ["answer", "error", "finish_reason"]


def answered(value, path, answers=None, column="answer", **more):
    """Read, snapshot and restore `value` with one answer per row."""
    rows = frames.read_rows(value, column=column)
    size = len(list(rows.items()))
    rows.snapshot(path / "rows")
    answers = [f"a{i}" for i in range(size)] if answers is None else answers
    return frames.restore(
        rows.shape,
        path / "rows",
        answers,
        errors=[None if answer is not None else "expired" for answer in answers],
        reasons=["stop" if answer is not None else None for answer in answers],
        **more,
    )


def same_pandas(value, path):
    """Check that a pandas frame comes back exactly, with the answers after it."""
    out = answered(value, path)
    assert list(out.columns) == [*value.columns, *ADDED]
    pd.testing.assert_frame_equal(
        out.iloc[:, : value.shape[1]], value, check_column_type=False, check_freq=False
    )
    assert out["answer"].tolist() == [f"a{i}" for i in range(len(value))]
    return out


# -- what is rows and what is not ------------------------------------------------------------------


def numbers():
    """Yield two rows."""
    yield "a"
    yield "b"


@pytest.mark.parametrize(
    "value",
    [["a", "b"], ("a", "b"), range(2), numbers(), np.array(["a", "b"]), pa.array(["a", "b"]),
     pd.Index(["a", "b"]), collections.deque("ab"), {"a": 1, "b": 2}.keys()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_any_ordered_iterable_is_a_list(value, tmp_path):
    """Lists, tuples, generators, arrays and other iterables come back as lists."""
    assert answered(value, tmp_path) == ["a0", "a1"]


def test_the_key_of_a_list_item_is_its_position():
    """Lists and iterators count their rows from 0."""
    assert list(frames.read_rows(["x", "y"]).items()) == [(0, "x"), (1, "y")]
    assert list(frames.read_rows(iter("xy")).items()) == [(0, "x"), (1, "y")]


def test_an_iterator_is_never_gathered():
    """Rows of a generator are taken one at a time, and `len` says how many were."""
    taken = []
    rows = frames.read_rows(taken.append(i) or i for i in range(1000))
    pairs = rows.items()
    next(pairs)
    next(pairs)
    assert (taken, len(rows)) == ([0, 1], 2)
    assert rows.names() == []
    assert len(list(pairs)) == 998
    assert len(rows) == 1000


def test_an_iterator_is_read_once():
    """A second pass over a generator is refused, and so is one that has nothing left."""
    source = (i for i in range(3))
    rows = frames.read_rows(source)
    list(rows.items())
    with pytest.raises(UsageProblem, match="use a list"):
        list(rows.items())
    with pytest.raises(UsageProblem, match="make it anew"):
        frames.read_rows(source)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("text", r"put it in a list, \[text\]"),
        (b"text", "not a bytes"),
        (None, "not a NoneType"),
        (3, "not an int"),
        (object(), "not an object"),
        ({1, 2}, "sorted"),
        ([], "no rows"),
        ({}, "no rows"),
        (np.zeros((2, 2)), "has 2"),
        (np.array(1), "has 0"),
        (pd.DataFrame({"a": []}), "no rows"),
        (pd.Series([], dtype=float), "no rows"),
        (pl.DataFrame({"a": []}), "no rows"),
        (pl.Series([]), "no rows"),
        (pa.table({"a": []}), "no rows"),
        (pd.DataFrame(index=[1, 2]), "no columns"),
        (pl.LazyFrame({"a": [1]}), r"\.collect\(\)"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "more than once: a;"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "more than once: 1;"),
        (pa.table([[1], [2]], names=["a", "a"]), "more than once: a;"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])), "levels"),
        (pd.DataFrame({"answer": [1]}), "--as NAME"),
        (pa.table({"a": [1]}).to_reader(), r"\.read_all\(\)"),
        ({enum.Enum("Color", "RED").RED: 1}, "Color is not kept"),
        ({"\ud800": 1}, "keys of the dict"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_rows_says_what_to_do(value, words):
    """Text, single things, empty input, lazy frames and names that clash are refused."""
    with pytest.raises(UsageProblem, match=words) as caught:
        frames.read_rows(value)
    assert "\n" not in str(caught.value)


def test_a_single_record_is_not_rows():
    """One dataclass or pydantic object is refused with the remedy of a list."""
    record = dataclasses.make_dataclass("Record", ["x"])(1)
    model = pydantic.create_model("Model", x=(int, ...))(x=1)
    for value in (record, model):
        with pytest.raises(UsageProblem, match=r"\[row\]"):
            frames.read_rows(value)


def test_another_answer_name_frees_the_taken_one(tmp_path):
    """``--as`` names the answer column, except like the fixed ones."""
    out = answered(pd.DataFrame({"answer": [1]}), tmp_path, column="label")
    assert list(out.columns) == ["answer", "label", "error", "finish_reason"]
    with pytest.raises(UsageProblem, match="cannot be called 'error'"):
        frames.read_rows(pd.DataFrame({"a": [1]}), column="error")


def test_names_are_what_a_template_sees():
    """Names are a frame's columns, or the fields of the first item."""
    point = collections.namedtuple("Point", "x y")  # noqa: PYI024
    record = dataclasses.make_dataclass("Record", ["x", "y"])
    model = pydantic.create_model("Model", x=(int, ...), y=(int, ...))
    same = [point(1, 2), record(1, 2), model(x=1, y=2), {"x": 1, "y": 2}]
    for item in same:
        assert frames.read_rows([item]).names() == ["x", "y"]
        assert frames.read_rows({"k": item}).names() == ["x", "y"]
        assert frames.read_rows(iter([item])).names() == ["x", "y"]
    assert frames.read_rows(pl.DataFrame({"x": [1], "y": [2]})).names() == ["x", "y"]
    assert frames.read_rows(["text"]).names() == []
    assert frames.read_rows(pd.Series([{"x": 1}])).names() == ["x"]


# -- values of frames ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_give_python_values_in_order(make):
    """Columns come as tuples of Python objects, in the order asked for, over many slices."""
    size = 2500
    rows = frames.read_rows(make({"n": list(range(size)), "t": [f"t{i}" for i in range(size)]}))
    assert list(rows.columns(["t", "n", "t"])) == [(f"t{i}", i, f"t{i}") for i in range(size)]
    assert type(next(rows.columns(["n"]))[0]) is int
    assert list(rows.columns([])) == [()] * size
    assert list(rows.items())[-1] == (size - 1, {"n": size - 1, "t": f"t{size - 1}"})
    assert len(rows) == size
    assert list(rows.fields) == ["n", "t"]


def test_keys_are_index_labels():
    """The key of a pandas row is its index label, tuples for several levels."""
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "x"])
    assert [key for key, _ in frames.read_rows(frame).items()] == ["x", "x"]
    levels = frame.set_index([["p", "q"], [1, 2]])
    assert [key for key, _ in frames.read_rows(levels).items()] == [("p", 1), ("q", 2)]
    assert list(frames.read_rows(pd.Series([5, 6], index=["u", "v"])).items()) == [
        ("u", 5),
        ("v", 6),
    ]
    assert list(frames.read_rows(pl.Series([5, 6])).items()) == [(0, 5), (1, 6)]


# -- pandas ----------------------------------------------------------------------------------------

STAMPS = pd.date_range("2026-03-28", periods=3, freq="D", tz="Europe/Berlin")


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["a", None, "b"]),
        pd.Series(["a", None, "b"], dtype=object),
        pd.Series(["a", "b", "c"], dtype=object),
        pd.Series(["a", np.nan, pd.NA], dtype=object),
        pd.Series([1, "x", 2.5], dtype=object),
        pd.Series([(1, 2), {"k": [1, (2,)]}, {3}], dtype=object),
        pd.Series([{"a": 1}, {"b": 2}, {}], dtype=object),
        pd.Series([[1, 2], [], [3]]),
        pd.Series([["a"], None, ["b"]]),
        pd.Series([[1.5], [math.nan], [2.5]]),
        pd.Series([[[1]], [[2, 3]], []]),
        pd.Series([dt.date(2026, 1, 1)] * 3, dtype=object),
        pd.Series([decimal.Decimal("1.10"), decimal.Decimal(2), None], dtype=object),
        pd.Series([uuid.UUID(int=1), b"\xff", 2**80], dtype=object),
        pd.Series([pd.Timestamp("2026-01-01", tz="Asia/Tokyo"), pd.NaT, 1], dtype=object),
        pd.Series([True, None, False], dtype=object),
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series([1, 2, 3], dtype="uint8"),
        pd.Series([1.5, np.nan, 2]),
        pd.Series([1.5, None, 2], dtype="Float32"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series(["a", None, "b"], dtype="string"),
        pd.Series(["a", None, "b"], dtype=pd.CategoricalDtype(["z", "b", "a"], ordered=True)),
        pd.Series([1, 2, 1], dtype="category"),
        pd.Series(STAMPS),
        pd.Series(pd.date_range("2026", periods=3).as_unit("s")),
        pd.Series(pd.to_timedelta([1, None, 3], unit="s")),
        pd.Series(pd.period_range("2026-01", periods=3, freq="M")),
        pd.Series(pd.interval_range(0, 3)),
        pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string())),
        pd.Series([[1], None, [2]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    ],
    ids=lambda values: f"{values.dtype}-{type(values[0]).__name__}",
)
def test_pandas_columns_come_back_as_they_were(values, tmp_path):
    """Values, nulls and dtypes of a pandas column survive, as a column and as an index."""
    out = same_pandas(pd.DataFrame({"c": values, "n": [1, 2, 3]}), tmp_path)
    for before, after in zip(values, out["c"], strict=True):
        assert type(after) is type(before)


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(10, 16, 2, name="r"),
        pd.Index(["x", "x", "y"]),
        pd.Index([3, 1, 1], name="named"),
        pd.Index([1, "x", (2,)], dtype=object),
        pd.Index([0.5, np.nan, 1]),
        STAMPS,
        pd.DatetimeIndex(STAMPS[[0, 0, 2]], name=("odd", 1)),
        pd.timedelta_range("1h", periods=3, freq="h"),
        pd.period_range("2026-01", periods=3, freq="M"),
        pd.interval_range(0, 3),
        pd.CategoricalIndex(["a", "b", "a"]),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", None)], names=["p", None]),
        pd.MultiIndex.from_arrays([STAMPS, ["a", "b", "c"]], names=["when", "c"]),
    ],
    ids=lambda index: type(index).__name__,
)
def test_pandas_indexes_come_back_as_they_were(index, tmp_path):
    """Frames and series keep their index: named, repeated, with levels, zones and frequencies."""
    frame = pd.DataFrame({"c": ["p", "q", "r"]}, index=index)
    out = same_pandas(frame, tmp_path)
    pd.testing.assert_index_equal(out.index, index, exact=True, check_freq=False)
    assert getattr(out.index, "freq", None) == getattr(index, "freq", None)
    series = answered(frame["c"], tmp_path, column="label")
    pd.testing.assert_index_equal(series.index, index, exact=True, check_freq=False)
    assert (series.name, series.tolist()) == ("label", ["a0", "a1", "a2"])


def test_pandas_vectors_in_the_input_stay_arrays(tmp_path):
    """A column of NumPy arrays comes back as arrays, a column of lists as lists."""
    frame = pd.DataFrame({"v": [np.array([1.5, 2]), np.array([3.0])], "l": [[1.5], [2.5]]})
    out = answered(frame, tmp_path)
    assert [each.tolist() for each in out["v"]] == [[1.5, 2.0], [3.0]]
    assert type(out["v"][0]) is np.ndarray
    assert out["l"].tolist() == [[1.5], [2.5]]


def test_pandas_labels_and_attrs_are_kept(tmp_path):
    """Column labels keep their type, the axis its name, and the frame its attrs."""
    frame = pd.DataFrame([[1, 2]], columns=pd.Index([7, "x"], name="axis"))
    frame.attrs = {"source": "survey", "year": 2026}
    out = same_pandas(frame, tmp_path)
    assert out.attrs == frame.attrs
    assert out.columns.name == "axis"
    frame.attrs = {"odd": object()}
    assert answered(frame, tmp_path).attrs == {}


def test_a_restored_pandas_frame_can_be_changed(tmp_path):
    """The output is the user's: it can be written to, and the input is left alone."""
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    out = answered(frame, tmp_path)
    out.loc[0, "x"] = 5.0
    out.loc[0, "answer"] = "mine"
    assert (out["x"].tolist(), out["answer"].tolist()) == ([5.0, 2.0], ["mine", "a1"])
    assert list(frame.columns) == ["x"]


@pytest.mark.parametrize(
    "values",
    [[object(), 1], [1 + 2j, 3], pd.arrays.SparseArray([0, 1]), ["\ud800", 1], [10**5000, 1]],
    ids=["object", "complex", "sparse", "surrogate", "digits"],
)
def test_a_column_that_cannot_be_kept_is_named(values, tmp_path):
    """What neither Arrow nor JSON holds is refused by its column's name, with a remedy."""
    frame = pd.DataFrame({"fine": [1, 2], "odd": pd.Series(values)})
    with pytest.raises(UsageProblem, match=r"column 'odd'.*--over df\[\[") as caught:
        frames.read_rows(frame).snapshot(tmp_path / "rows")
    assert "\n" not in str(caught.value)


def test_the_snapshot_is_read_by_a_new_process(tmp_path):
    """Answers find their rows after a restart, also where pandas adds types of its own to Arrow."""
    frame = pd.DataFrame(
        {
            "p": pd.period_range("2026-01", periods=2, freq="M"),
            "i": pd.interval_range(0, 2),
            "o": [(1,), "x"],
        }
    )
    rows = frames.read_rows(frame)
    rows.snapshot(tmp_path / "rows")
    code = (
        "import sys, pathlib; from jupyter_llm_batch.core.request import Shape;"
        "from jupyter_llm_batch.data import rows as frames;"
        "shape = Shape(kind='frame', library='pandas', columns=['p', 'i', 'o']);"
        "out = frames.restore(shape, pathlib.Path(sys.argv[1]), ['x', None],"
        " errors=[None] * 2, reasons=[None] * 2);"
        "print(*out.dtypes[['p', 'i']], out['o'].tolist(), out['answer'].isna().tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "rows")], capture_output=True, text=True
    )
    assert done.stdout.strip() == "period[M] interval[int64, right] [(1,), 'x'] [False, True]", (
        done.stderr
    )


def test_nothing_is_imported_that_the_user_does_not_use():
    """Lists are read without pandas, polars, pyarrow or narwhals."""
    code = (
        "import sys; from jupyter_llm_batch.data import rows as frames; frames.read_rows(['a']);"
        "print({'pandas', 'polars', 'pyarrow', 'narwhals', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


# -- polars and pyarrow ----------------------------------------------------------------------------


def test_polars_columns_come_back_as_they_were(tmp_path):
    """Every kind of polars column survives, also objects and wide integers."""
    frame = pl.DataFrame(
        {
            "category": pl.Series(["a", "b", None], dtype=pl.Categorical),
            "enum": pl.Series(["a", "b", None], dtype=pl.Enum(["b", "a", "z"])),
            "stamp": pl.Series([0, 1, 2]).cast(pl.Datetime("ns", "Asia/Tokyo")),
            "time": [dt.time(1, 2)] * 3,
            "span": [dt.timedelta(1)] * 3,
            "list": [[1], [2, 3], None],
            "array": pl.Series([[1, 2]] * 3, dtype=pl.Array(pl.Int32, 2)),
            "struct": [{"a": 1}, {"a": None}, None],
            "null": [None] * 3,
            "decimal": [decimal.Decimal("1.10")] * 3,
            "small": pl.Series([1, 2, 3], dtype=pl.Int8),
            "wide": pl.Series([1, None, 2**100], dtype=pl.Int128),
            "float": pl.Series([1.0, math.nan, None], dtype=pl.Float32),
            "bytes": [b"x", None, b""],
        }
    )
    objects = pl.Series("object", [(1, 2), "x", None], dtype=pl.Object)
    out = answered(frame.with_columns(objects), tmp_path)
    assert out.columns == [*frame.columns, "object", *ADDED]
    polars.testing.assert_frame_equal(out.select(frame.columns), frame)
    assert out["object"].dtype == pl.Object
    assert out["object"].to_list() == [(1, 2), "x", None]
    assert out["answer"].to_list() == ["a0", "a1", "a2"]


def test_a_polars_object_that_cannot_be_kept_is_named(tmp_path):
    """A polars column of arbitrary objects is refused by its name."""
    frame = pl.DataFrame({"odd": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(UsageProblem, match="column 'odd'"):
        frames.read_rows(frame).snapshot(tmp_path / "rows")


def test_pyarrow_tables_come_back_as_they_were(tmp_path):
    """Types, metadata, chunks and differing categories of a table survive."""
    chunks = pa.chunked_array(
        [pa.array(["a"]).dictionary_encode(), pa.array(["b", None]).dictionary_encode()]
    )
    table = pa.table({"d": chunks, "s": [{"x": 1}, None, {"x": None}]}).replace_schema_metadata(
        {"mine": "yes"}
    )
    out = answered(table, tmp_path)
    assert out.column_names == ["d", "s", *ADDED]
    assert out.select(["d", "s"]).cast(table.schema).to_pylist() == table.to_pylist()
    assert out.schema.field("d").type == table.schema.field("d").type
    assert out.schema.metadata == {b"mine": b"yes"}


def test_series_come_back_as_series(tmp_path):
    """A polars or pyarrow series gives one of the same library."""
    out = answered(pl.Series("x", [1, 2]), tmp_path, column="label")
    polars.testing.assert_series_equal(out, pl.Series("label", ["a0", "a1"]))
    chunked = answered(pa.chunked_array([["x"], ["y"]]), tmp_path)
    assert isinstance(chunked, pa.ChunkedArray)
    assert chunked.to_pylist() == ["a0", "a1"]


# -- dicts -----------------------------------------------------------------------------------------

KEYS = [
    "text", "", 1, 2**70, -3, 0.5, math.inf, None, True, (1, ("a", None)), frozenset({1}), b"\x00",
    dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc), dt.time(1),  # noqa: UP017
    dt.timedelta(1, 2, 3), decimal.Decimal("1.10"), uuid.UUID(int=7),
    pd.Timestamp("2026-01-01T00:00:00.123456789", tz="Europe/Berlin"), pd.Timedelta(5, "ns"),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_dict_keys_keep_their_type(key, tmp_path):
    """A dict gives a dict with the same keys of the same types."""
    ((back, answer),) = answered({key: "x"}, tmp_path).items()
    assert (back, answer) == (key, "a0")
    assert type(back) is type(key)


def test_keys_of_subclasses_are_found_again(tmp_path):
    """NumPy scalars and enums of text or numbers come back as what they compare equal to."""
    color = enum.StrEnum("Color", {"RED": "red"})
    out = answered({np.int64(5): 1, np.str_("s"): 2, color.RED: 3}, tmp_path)
    assert (out[np.int64(5)], out["s"], out[color.RED]) == ("a0", "a1", "a2")


def test_dict_order_is_kept(tmp_path):
    """Keys come back in the order of the input."""
    assert list(answered({"b": 1, "a": 2, "c": 3}, tmp_path)) == ["b", "a", "c"]


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_rows_without_an_answer_are_null(make, tmp_path):
    """A missing answer is null in a column that is still text, and the reason is beside it."""
    out = answered(make({"n": [1, 2]}), tmp_path, answers=["x", None])
    table = pa.table(out) if not isinstance(out, pa.Table) else out
    assert table.column("answer").to_pylist() == ["x", None]
    assert table.column("error").to_pylist() == [None, "expired"]
    assert table.column("finish_reason").to_pylist() == ["stop", None]
    none = answered(make({"n": [1, 2]}), tmp_path, answers=[None, None])
    kind = (pa.table(none) if not isinstance(none, pa.Table) else none).schema.field("answer").type
    assert str(kind) in {"string", "large_string", "string_view"}


def test_rows_without_an_answer_are_none_in_lists_and_dicts(tmp_path):
    """Lists and dicts hold None."""
    assert answered(["a", "b"], tmp_path, answers=["x", None]) == ["x", None]
    assert answered({"k": "a", "l": "b"}, tmp_path, answers=[None, "x"]) == {"k": None, "l": "x"}


def test_vectors_come_back_as_arrays(tmp_path):
    """Embeddings are NumPy arrays in pandas, fixed-size lists in polars and pyarrow, else lists."""
    vectors = [[0.5, 1.0], None, [2.0, 3.5]]
    out = answered(pd.DataFrame({"n": [1, 2, 3]}), tmp_path, answers=vectors)
    assert type(out["answer"][0]) is np.ndarray
    assert out["answer"][2].tolist() == [2.0, 3.5]
    assert out["answer"][1] is None
    out = answered(pl.DataFrame({"n": [1, 2, 3]}), tmp_path, answers=vectors)
    assert out["answer"].dtype == pl.Array(pl.Float64, 2)
    assert out["answer"].to_list() == vectors
    out = answered(pa.table({"n": [1, 2, 3]}), tmp_path, answers=vectors)
    assert out.column("answer").to_pylist() == vectors
    assert pa.types.is_fixed_size_list(out.schema.field("answer").type)
    uneven = [[0.5], None, [2.0, 3.5]]
    out = answered(pa.table({"n": [1, 2, 3]}), tmp_path, answers=uneven)
    assert out.column("answer").to_pylist() == uneven
    assert pa.types.is_list(out.schema.field("answer").type)
    assert answered([1, 2, 3], tmp_path, answers=vectors) == vectors


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_rows_of_several_vectors_come_back(make, tmp_path):
    """A row that held a list of inputs has a list of vectors; in pandas one array of them."""
    vectors = [[[0.5, 1.0], [2.0, 3.5]], None, [[4.0, 5.0]]]
    out = answered(make({"n": [1, 2, 3]}), tmp_path, answers=vectors)
    column = out.column("answer") if make is pa.table else out["answer"]
    found = column.to_pylist() if make is pa.table else column.to_list()
    assert [each if each is None else [[*one] for one in each] for each in found] == vectors
    if make is pd.DataFrame:
        assert found[0].shape == (2, 2)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_validated_objects_come_back(make, tmp_path):
    """Answers that are objects keep their fields; what has no type in common is kept as it is."""
    out = answered(make({"n": [1, 2]}), tmp_path, answers=[{"a": 1, "b": ["x"]}, None])
    column = out.column("answer").to_pylist() if make is pa.table else out["answer"].to_list()
    assert column == [{"a": 1, "b": ["x"]}, None]
    out = answered(make({"n": [1, 2]}), tmp_path, answers=[{"a": 1}, ["x"]])
    column = out.column("answer").to_pylist() if make is pa.table else out["answer"].to_list()
    assert column == (['{"a":1}', '["x"]'] if make is pa.table else [{"a": 1}, ["x"]])


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_no_answer_is_lost_to_a_lone_surrogate(make, tmp_path):
    """A character that no column can hold costs that character, not the answers."""
    out = answered(make({"n": [1, 2]}), tmp_path, answers=["good", "bad \ud800"])
    column = out.column("answer").to_pylist() if make is pa.table else out["answer"].to_list()
    assert column == ["good", "bad ?"]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_models_are_a_column_with_a_free_name(make, tmp_path):
    """The models that answered go into ``model``, or ``answer_model`` where that is taken."""
    models = ["small", None]
    out = answered(make({"n": [1, 2]}), tmp_path, models=models)
    names = out.column_names if make is pa.table else list(out.columns)
    assert names == ["n", *ADDED, "model"]
    out = answered(make({"model": [1, 2]}), tmp_path, models=models)
    names = out.column_names if make is pa.table else list(out.columns)
    assert names == ["model", *ADDED, "answer_model"]


def test_a_single_prompt_gives_a_single_answer(tmp_path):
    """The shape of one prompt is one answer, without any snapshot."""
    shape = frames.read_rows(["x"]).shape.__class__(kind="one")
    assert frames.restore(shape, tmp_path / "none", ["yes"], errors=[None], reasons=[None]) == "yes"


# -- properties ------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CELL = {
    "str": (TEXT, "str"),
    "object": (st.one_of(TEXT, st.none(), st.integers(), st.booleans(), st.tuples(TEXT)), "object"),
    "Int64": (st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), "Int64"),
    "float": (st.floats(), "float64"),
    "category": (TEXT, "category"),
    "datetime": (
        st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)),  # noqa: DTZ001
        "datetime64[us]",
    ),
    "list": (st.lists(st.integers(-9, 9), max_size=3), "object"),
}


@st.composite
def pandas_frames(draw):
    """Draw a frame of any columns over any index."""
    size = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from(sorted(CELL)), min_size=1, max_size=4))
    data = {}
    for i, kind in enumerate(kinds):
        cells, dtype = CELL[kind]
        values = draw(st.lists(cells, min_size=size, max_size=size))
        data[f"c{i}"] = pd.Series(values, dtype=dtype)
    frame = pd.DataFrame(data)
    kind = draw(st.sampled_from(sorted(CELL.keys() - {"list"})))
    cells, dtype = CELL[kind]
    levels = draw(st.integers(0, 2))
    if levels:
        indexes = [
            pd.Index(pd.Series(draw(st.lists(cells, min_size=size, max_size=size)), dtype=dtype))
            for _ in range(levels)
        ]
        names = draw(st.lists(st.none() | TEXT, min_size=levels, max_size=levels))
        frame.index = (
            pd.MultiIndex.from_arrays(indexes, names=names)
            if levels > 1
            else indexes[0].rename(names[0])
        )
    return frame


def per_example(**more):
    """Return settings for properties that write a small file each time."""
    return settings(
        deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], **more
    )


@per_example(max_examples=80)
@given(pandas_frames())
def test_property_pandas_in_is_pandas_out(tmp_path, frame):
    """Any pandas frame comes back with its values, index and order, and its answers beside them."""
    out = same_pandas(frame, tmp_path)
    pd.testing.assert_index_equal(out.index, frame.index, exact=True)


@st.composite
def columns(draw):
    """Draw plain columns, as polars and pyarrow take them."""
    size = draw(st.integers(1, 6))
    cells = [TEXT, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.lists(TEXT, max_size=2)]
    kinds = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=4))
    return {
        f"c{i}": draw(st.lists(st.none() | kind, min_size=size, max_size=size))
        for i, kind in enumerate(kinds)
    }


@per_example(max_examples=50)
@given(columns())
def test_property_polars_in_is_polars_out(tmp_path, data):
    """Any polars frame comes back as it was, with its answers beside it."""
    frame = pl.DataFrame(data)
    out = answered(frame, tmp_path)
    polars.testing.assert_frame_equal(out.select(frame.columns), frame)
    assert out["answer"].to_list() == [f"a{i}" for i in range(frame.height)]


@per_example(max_examples=50)
@given(columns())
def test_property_pyarrow_in_is_pyarrow_out(tmp_path, data):
    """Any table comes back as it was, with its answers beside it."""
    table = pa.table(data)
    out = answered(table, tmp_path)
    assert out.select(table.column_names).equals(table)
    assert out.column("answer").to_pylist() == [f"a{i}" for i in range(table.num_rows)]


@per_example(max_examples=80)
@given(
    st.dictionaries(
        st.recursive(
            TEXT | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
            | st.dates() | st.uuids() | st.binary(max_size=4) | st.timedeltas(),
            lambda inner: st.tuples(inner, inner),
            max_leaves=4,
        ),
        st.none(),
        min_size=1,
    )
)  # fmt: skip
def test_property_dict_in_is_dict_out(tmp_path, data):
    """Any dict comes back with its keys, in order."""
    out = answered(data, tmp_path)
    assert list(out) == list(data)
    assert list(map(type, out)) == list(map(type, data))
