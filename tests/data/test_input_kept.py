"""Before anything is sent, the copy of the input is known to come back as it was given."""

import datetime as dt
import math
import subprocess
import sys
from zoneinfo import ZoneInfo

import dateutil.tz
import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.data import input_copy, rows, sameness
from jupyter_llm_batch.data.fields import is_data_error
from jupyter_llm_batch.data.tagged_json import pack, unpack

OPENAI = "openai:gpt-5-mini"
BERLIN = dateutil.tz.gettz("Europe/Berlin")
DAYS = pd.to_datetime(["2026-01-01", "2026-07-01"])


def kept(frame, path):
    """Return the frame as it comes back."""
    rows.read_rows(frame).snapshot(path / "rows")
    library = type(frame).__module__.partition(".")[0]
    return input_copy.read_copy(path / "rows", library)


# -- kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        pd.cut([1, 9], 3),
        pd.cut([1.5, math.nan], [1, 2, 3], right=False),
        pd.interval_range(0.0, 2.0),
        pd.Categorical(DAYS.tz_localize("Europe/Berlin"), ordered=True),
        pd.Categorical(DAYS.tz_localize(BERLIN)),
        pd.Categorical(pd.period_range("2026-01", periods=2, freq="M")),
        pd.Categorical(pd.Series([(1, 2), (3, 4)])),
        pd.Categorical(pd.array([1, 2], dtype="Int64")),
        pd.Categorical([dt.date(2026, 1, 1), None]),
        DAYS.tz_localize(BERLIN),
        DAYS.tz_localize(dt.timezone(dt.timedelta(hours=5, minutes=30))),
        pd.Series([pd.Timestamp("2026-01-01", tz=BERLIN), 1], dtype=object),
        pd.Series([pd.Interval(0, 1.5), pd.Period("2026Q1", "Q-NOV")], dtype=object),
        pd.Series(["a", None], dtype="string[python]"),
        pd.Series(["a", None], dtype="string[pyarrow]"),
        pd.Series([[1, 2], [1.5]]),
        pd.Series([np.array([1], dtype="int8"), np.array([1.5, 2])]),
        pd.Series([np.eye(2), np.array(["a", None], dtype=object)]),
    ],
    ids=lambda values: f"{values.dtype}"[:40],
)
def test_odd_columns_and_indexes_come_back_exactly(values, tmp_path):
    """What Arrow would change or could not read is kept in another form, as column and index."""
    frame = pd.DataFrame({"c": pd.Series(values)})
    out = kept(frame, tmp_path)
    assert sameness.same_pandas(frame["c"].array, out["c"].array)
    if not isinstance(frame["c"][0], np.ndarray | list):
        index = pd.DataFrame({"n": [1, 2]}, index=pd.Index(values))
        pd.testing.assert_index_equal(kept(index, tmp_path).index, index.index, exact=True)
        levels = index.set_index([index.index, ["x", "y"]])
        pd.testing.assert_index_equal(kept(levels, tmp_path).index, levels.index, exact=True)


def test_a_binned_column_comes_back_in_a_new_process(tmp_path):
    """Intervals find their way back after a restart, where pandas has not met Arrow yet."""
    frame = pd.DataFrame({"c": pd.cut([1, 9], 2, labels=None)})
    rows.read_rows(frame).snapshot(tmp_path / "rows")
    code = (
        "import sys, pathlib; from jupyter_llm_batch.data import input_copy as snapshots;"
        "print(snapshots.read_copy(pathlib.Path(sys.argv[1]), 'pandas')['c'].tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "rows")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == str(frame["c"].tolist()), done.stderr


def test_labels_of_intervals_and_periods_are_kept(tmp_path):
    """The columns of a pivot over bins or months keep their labels."""
    for labels in (pd.interval_range(0, 2), pd.period_range("2026-01", periods=2, freq="M")):
        out = kept(pd.DataFrame([[1, 2]], columns=labels), tmp_path)
        assert out.columns.tolist() == labels.tolist()


# -- refused ---------------------------------------------------------------------------------------

ENDLESS = []
ENDLESS.append(ENDLESS)
DEEP = "x"
for _ in range(300):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (pd.DataFrame({"fine": [1], "odd": [ENDLESS]}), "column 'odd'"),
        (pd.DataFrame({"fine": [1], "odd": [DEEP]}), "column 'odd'"),
        (pd.DataFrame({"fine": [1, 2], "odd": pd.Series([10**5000, 1])}), "column 'odd'"),
        (pd.DataFrame({"odd": pd.arrays.SparseArray([0, 1])}), "column 'odd'"),
        (pd.DataFrame({"odd": np.array([1, 2], dtype="longdouble")}), "column 'odd'"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([object()])), "the index"),
        (pl.DataFrame({"a": [1], "odd": pl.Series([[]], dtype=pl.Array(pl.Int8, 0))}), "'odd'"),
        (pl.DataFrame({"odd": [[[]]]}, schema={"odd": pl.List(pl.Array(pl.Int8, 0))}), "'odd'"),
        (pl.DataFrame({"odd": [[1]]}, schema={"odd": pl.List(pl.Int128)}), "column 'odd'"),
    ],
    ids=["endless", "deep", "digits", "sparse", "wide", "index", "empty", "nested", "int128"],
)  # fmt: skip
def test_what_would_not_come_back_is_refused_by_name(frame, what, tmp_path, capfd):
    """One line names the column, whatever the library raised, and says that nothing was sent."""
    with pytest.raises(UsageProblem, match=what) as caught:
        kept(frame, tmp_path)
    assert "\n" not in str(caught.value)
    assert "nothing was sent" in str(caught.value)
    assert not capfd.readouterr().err


class Shifted(pa.ExtensionType):
    """A type of the user's own that reads differently from what was written."""

    def __init__(self, note="given"):
        self.note = note
        super().__init__(pa.int64(), "tests.shifted")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls("read")

    def __eq__(self, other):
        return isinstance(other, Shifted) and self.note == other.note

    __hash__ = pa.ExtensionType.__hash__


def test_a_copy_that_reads_differently_is_refused(tmp_path):
    """What is read back is compared, not trusted."""
    pa.register_extension_type(Shifted())
    try:
        odd = pa.ExtensionArray.from_storage(Shifted(), pa.array([1]))
        with pytest.raises(UsageProblem, match=r"column 'odd'.*not come back as it is"):
            kept(pa.table({"fine": [1], "odd": odd}), tmp_path)
    finally:
        pa.unregister_extension_type("tests.shifted")


@pytest.mark.parametrize(
    "frame",
    [
        pa.table({"t": pa.array([1 << 62], pa.int64()).view(pa.timestamp("s"))}),
        pl.DataFrame({"t": pl.Series([10**8], dtype=pl.Int32).cast(pl.Date)}),
        pl.DataFrame({"t": pl.Series([1 << 62]).cast(pl.Duration("ms"))}),
    ],
    ids=["timestamp", "date", "duration"],
)
def test_a_value_that_python_cannot_hold_is_named(client, sim, frame):
    """A date beyond Python's is one line with its column, and nothing goes out."""
    with pytest.raises(UsageProblem, match="column 't' holds a value") as caught:
        client.submit("Q {{ t }}", name="x", over=frame, model=OPENAI)
    assert "\n" not in str(caught.value)
    assert not sim.requests()


def test_nothing_is_sent_for_an_input_that_cannot_come_back(client, sim):
    """The refusal comes before anything is paid for; without the column, the batch goes."""
    over = pd.DataFrame({"t": ["a"], "odd": [object()]})
    with pytest.raises(UsageProblem, match="column 'odd'"):
        client.submit("Q {{ t }}", name="x", over=over, model=OPENAI)
    assert not sim.requests()
    binned = over.assign(odd=pd.cut([1], 2))
    out = client.submit("Q {{ t }}", name="x", over=binned, model=OPENAI).wait(60).answers()
    assert out["odd"][0] == binned["odd"][0]


# -- values ----------------------------------------------------------------------------------------


def test_equal_is_not_the_same():
    """True, 1 and 1.0 differ, NaN does not; order does not matter in a set."""
    nan = float("nan")
    assert not sameness.same_values([True, 1], [1, True])
    assert not sameness.same_values([[1], {"a": 1}], [[1.0], {"a": 1}])
    assert not sameness.same_values({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert sameness.same_values(
        [nan, (nan,), {nan: [nan]}, {nan}], [float("nan"), (nan,), {nan: [nan]}, {nan}]
    )
    one = dt.datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert not sameness.same_values(one, one.astimezone(dt.UTC))


LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.binary(max_size=4) | st.dates() | st.datetimes() | st.decimals() | st.uuids()
    | st.datetimes(timezones=st.timezones()) | st.timedeltas() | st.complex_numbers()
    | st.sampled_from([pd.NA, pd.NaT, np.float32(1.5), np.int8(1), pd.Timestamp(0, tz=BERLIN)])
)  # fmt: skip
NESTED = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
COLUMN = st.sampled_from([LEAF, NESTED, st.lists(st.integers() | st.floats(), max_size=3)])


def fuzzed(max_examples):
    """Return settings for properties that write a small file each time."""
    return settings(
        deadline=None,
        max_examples=max_examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@fuzzed(150)
@given(st.data())
def test_property_what_is_taken_comes_back_and_what_is_refused_has_a_name(tmp_path, data):
    """Any pandas column of any values is kept exactly, or refused by its name in one line."""
    cells = data.draw(COLUMN)
    values = data.draw(st.lists(cells, min_size=2, max_size=2))
    frame = pd.DataFrame({"fine": [1, 2], "odd": pd.Series(values, dtype=object)})
    if data.draw(st.booleans()):
        frame = pd.DataFrame({"fine": [1, 2], "odd": pd.Series(values)})
    try:
        out = kept(frame, tmp_path)
    except UsageProblem as refused:
        assert "column 'odd'" in str(refused)  # noqa: PT017
        assert "\n" not in str(refused)  # noqa: PT017
    else:
        assert sameness.same_pandas(frame["odd"].array, out["odd"].array)


@pytest.mark.parametrize("hour", [2, 1], ids=["skipped", "repeated"])
@pytest.mark.parametrize("fold", [0, 1])
def test_a_time_that_the_clocks_skip_or_repeat_is_the_same_when_it_comes_back(hour, fold):
    """Python calls such a time unequal to its copy in another time zone."""
    day = 7 if hour == 2 else 27
    value = dt.datetime(
        2002, 4 if hour == 2 else 10, day, hour, tzinfo=ZoneInfo("America/Atka"), fold=fold
    )
    assert sameness.same_values(value, unpack(pack(value)))
    assert not sameness.same_values(value, unpack(pack(value.replace(minute=1))))


@fuzzed(100)
@given(NESTED)
def test_property_packed_values_are_the_same(value):
    """Any value that can be packed is the same when it is unpacked."""
    try:
        packed = pack(value)
    except (TypeError, ValueError):
        return
    assert sameness.same_values(value, unpack(packed))


@fuzzed(60)
@given(st.data())
def test_property_polars_and_arrow_columns_are_kept_or_named(tmp_path, data):
    """Any column that polars or pyarrow make of values is kept exactly, or refused by its name."""
    values = data.draw(st.lists(data.draw(COLUMN), min_size=1, max_size=3))
    for make in (lambda: pl.DataFrame({"odd": values}), lambda: pa.table({"odd": values})):
        try:
            frame = make()
        except BaseException as error:  # no such column; polars also panics
            if not is_data_error(error):
                raise
            continue
        try:
            out = kept(frame, tmp_path)
        except UsageProblem as refused:
            assert "column 'odd'" in str(refused)  # noqa: PT017
        else:
            assert type(out) is type(frame)
            assert frame.shape == out.shape
