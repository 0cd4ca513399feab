"""Rows into jobs within the limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llm_batch.core import ids
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.request import Limits
from jupyter_llm_batch.storage import inherited_rows
from jupyter_llm_batch.submission import splitter as planning


@given(
    st.lists(st.tuples(st.integers(1, 50), st.sampled_from("abc")), min_size=1, max_size=200),
    st.integers(1, 30),
    st.integers(50, 400),
    st.booleans(),
)
def test_every_row_lands_in_exactly_one_job_within_the_limits(rows, most, size, one_model):
    """Splitting by count, bytes and model loses no row and breaks no limit."""
    limits = Limits(requests=most, bytes=size, line_bytes=50, one_model=one_model)
    splitter = planning.Splitter()
    for row, (bytes_, model) in enumerate(rows):
        splitter.place(row, "p", model, bytes_, limits)
    placed = [row for draft in splitter.drafts for row in draft.rows]
    assert sorted(placed) == list(range(len(rows)))
    for draft in splitter.drafts:
        assert draft.count == len(draft.rows) <= most
        assert draft.bytes == sum(rows[row][0] for row in draft.rows) <= size
        if one_model:
            assert {rows[row][1] for row in draft.rows} == {draft.model}
    numbers = [draft.number for draft in splitter.drafts]
    assert numbers == list(range(1, len(numbers) + 1))


def test_120000_rows_make_three_jobs():
    """The provider's 50,000 rows a job divide 120,000 rows into three."""
    limits = Limits(requests=50_000, bytes=190_000_000, line_bytes=1000)
    splitter = planning.Splitter()
    for row in range(120_000):
        splitter.place(row, "openai", "m", 100, limits)
    assert [draft.count for draft in splitter.drafts] == [50_000, 50_000, 20_000]


def test_full_jobs_of_a_provider_without_labels_differ_in_size():
    """Where the number of rows is all that tells jobs apart, no two full ones have the same."""
    limits = Limits(requests=100, bytes=10**6, line_bytes=1000, labelled=False)
    splitter = planning.Splitter()
    for row in range(450):
        splitter.place(row, "anthropic", "m", 100, limits)
    assert [draft.count for draft in splitter.drafts] == [100, 99, 98, 97, 56]


def test_a_row_too_large_is_named():
    """A row that no job can hold is refused by its number."""
    limits = Limits(requests=5, bytes=100, line_bytes=80)
    with pytest.raises(UsageProblem, match=r"row 7 is 81 bytes"):
        planning.Splitter().place(7, "openai", "m", 81, limits)


@given(st.integers(0, 10**9))
def test_custom_ids_are_portable_and_come_back(row):
    """A custom_id fits every provider's pattern and names its row, only for its own batch."""
    import re

    batch = ids.new_batch_id()
    made = ids.custom_id(batch, row)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", made)
    assert ids.row_of(made, batch) == row
    assert ids.row_of(made, ids.new_batch_id()) is None


@pytest.mark.parametrize(
    "strange", ["", "x", "b-", "b-1x", "b--1", "b-01", "b-" + "9" * 5000, "b-\u0663"]
)
def test_foreign_custom_ids_name_no_row(strange):
    """Ids that we did not make are not taken for ours."""
    assert ids.row_of(strange, "b") is None


@given(st.sets(st.integers(0, 300)))
def test_ranges_keep_rows(rows):
    """Row numbers survive being packed into ranges."""
    ranges = ids.Ranges()
    for row in sorted(rows):
        ranges.add(row)
    assert list(ranges) == sorted(rows)
    assert len(ranges) == len(rows)


@given(st.dictionaries(st.integers(0, 50), st.tuples(st.sampled_from("xy"), st.integers(0, 99))))
def test_sources_round_trip(taken):
    """Where inherited answers come from survives packing."""
    packed = inherited_rows.pack(51, taken, ["x", "y"])
    assert inherited_rows.read(packed, ["x", "y"]) == taken
