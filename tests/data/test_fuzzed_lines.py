"""Result lines that are changed at random: reading never raises, and an answer stays an answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from odd_lines import (
    KINDS,
    STEPS,
    as_written,
    changed,
)

from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.providers.registry import reader


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_line_is_read_and_its_answer_is_kept(kind):
    """Whatever stands beside an answer, it is one; and whatever a line holds, nothing raises."""
    provider, endpoint, base, said, name = KINDS[kind]
    parse = reader(provider).parse

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(STEPS)
    @example([(0, "=", math.nan)])
    @example([(k, "=", 10**500) for k in range(3)])
    def check(steps):
        line = changed(base, steps)
        result = parse(as_written(line), endpoint)
        if any(isinstance(text, str) and text.strip() for text in said(line)):
            assert result.outcome in {Outcome.OK, Outcome.REFUSED}, line
            assert result.billed or result.outcome is Outcome.REFUSED
        if isinstance(given := line.get(name), str) and given.isascii():
            assert result.custom_id == given
        assert result.usage.input >= 0
        assert result.usage.output < 10**13
        assert str(result.error)

    check()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cut=st.integers(0, 400), byte=st.integers(0, 255), at=st.integers(0, 400))
def test_torn_and_garbled_bytes_never_raise(kind, cut, byte, at):
    """A line that ends anywhere, or holds any byte, gives a row."""
    provider, endpoint, base, _, _ = KINDS[kind]
    line = bytearray(as_written(base))
    line[at % len(line)] = byte
    parse = reader(provider).parse
    for each in (bytes(line), bytes(line[: cut % len(line)])):
        assert parse(each, endpoint).outcome in set(Outcome)
