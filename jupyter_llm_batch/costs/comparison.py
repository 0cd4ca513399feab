"""Compare two batches over the same rows: agreement, differences, cost. No I/O here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from ..core.batch import Batch
from ..core.result import Outcome, Result
from ..data import tables

#: Mark that the simulator appends to each answer.
_MARK = re.compile(r" \(simulated [0-9a-f]{8}\)$")


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two batches.

    Attributes
    ----------
    paid, realtime
        USD, None where a price is not known.
    """

    title: str
    model: str
    answered: int
    input_tokens: int
    output_tokens: int
    paid: Decimal | None = None
    realtime: Decimal | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One row whose answers differ."""

    row: int
    left: str
    right: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of two batches over the same rows.

    Attributes
    ----------
    both
        Rows that both answered; only these are compared.
    same, alike
        Of them: exact matches; equal except for case, blanks and marks at the ends (exact
        matches included).
    fields
        With a schema: by field, the number of rows in which it is alike.
    nearness
        With embeddings: the mean cosine of the pairs.
    only_left, only_right
        Rows that only one of them answered.
    differences
        The rows that are not alike, in order.
    notes
        Limits of the comparison: other prompts, or another number of rows.
    """

    left: Side
    right: Side
    rows: int
    both: int
    same: int
    alike: int
    only_left: int
    only_right: int
    fields: dict[str, int] = msgspec.field(default_factory=dict)
    nearness: float | None = None
    differences: list[Difference] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)

    @property
    def agreement(self) -> float | None:
        """Share of the rows with two answers that are alike; None when there is no such row."""
        return self.alike / self.both if self.both else None

    def frame(self) -> Any:
        """Return the differences as a frame: pandas where it is installed, else pyarrow."""
        records = [
            {"row": each.row, self.left.title: each.left, self.right.title: each.right}
            for each in self.differences
        ]
        return tables.frame_of_records(records, prefer_pandas=True)


def summarize_side(batch: Batch, found: Sequence[Result | None], costs: Sequence[Any]) -> Side:
    """Return the figures of one batch.

    Parameters
    ----------
    costs
        A `pricing.Cost` per row, None where it is not known.
    """
    known = [
        (result, cost)
        for result, cost in zip(found, costs, strict=True)
        if result is not None and (result.usage.input or result.usage.output)
    ]
    priced = all(cost is not None for _, cost in known)
    return Side(
        title=batch.title,
        model=" + ".join(batch.models),
        answered=sum(1 for result in found if result and result.outcome is Outcome.OK),
        input_tokens=sum(result.usage.input for result, _ in known),
        output_tokens=sum(result.usage.output for result, _ in known),
        paid=sum((cost.batch for _, cost in known), Decimal(0)) if priced else None,
        realtime=sum((cost.realtime for _, cost in known), Decimal(0)) if priced else None,
    )


def compare_sides(
    left: Side,
    right: Side,
    ours: Sequence[Result | None],
    theirs: Sequence[Result | None],
    *,
    simulated: bool = False,
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare two batches row by row, ignoring the mark of simulated answers."""
    same = alike = both = only_left = only_right = 0
    fields: dict[str, int] = {}
    nearness: list[float] = []
    differences: list[Difference] = []
    if simulated:
        ours, theirs = [*map(_unmarked, ours)], [*map(_unmarked, theirs)]
    for row, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        has_one, has_other = _answered(one), _answered(other)
        only_left += has_one and not has_other
        only_right += has_other and not has_one
        if one is None or other is None or not (has_one and has_other):
            continue
        both += 1
        if one.vector is not None and other.vector is not None:
            nearness.append(_cosine(one.vector, other.vector))
            equal = one.vector == other.vector
            same, alike = same + equal, alike + equal
            continue
        equal = _value(one) == _value(other)
        near = equal or _plainly(_value(one)) == _plainly(_value(other))
        same, alike = same + equal, alike + near
        if isinstance(one.parsed, dict) and isinstance(other.parsed, dict):
            for name in {**one.parsed, **other.parsed}:
                fit = _plainly(one.parsed.get(name)) == _plainly(other.parsed.get(name))
                fields[name] = fields.get(name, 0) + fit
        if not near:
            differences.append(Difference(row=row, left=_text(one), right=_text(other)))
    return Comparison(
        left=left,
        right=right,
        rows=len(ours),
        both=both,
        same=same,
        alike=alike,
        only_left=only_left,
        only_right=only_right,
        fields=fields,
        nearness=math.fsum(nearness) / len(nearness) if nearness else None,
        differences=differences,
        notes=[*notes],
    )


def _unmarked(result: Result | None) -> Result | None:
    if result is None:
        return None
    text = result.text and _MARK.sub("", result.text)
    return msgspec.structs.replace(result, text=text)


def _answered(result: Result | None) -> bool:
    return result is not None and result.outcome is Outcome.OK


def _value(result: Result) -> Any:
    return result.parsed if result.parsed is not None else result.text


def _text(result: Result) -> str:
    value = _value(result)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _plainly(value: Any) -> Any:
    """Return a value normalised for case, blanks and marks at the ends."""
    if isinstance(value, str):
        return " ".join(value.casefold().split()).strip(" .,;:!?\"'`*")
    if isinstance(value, dict):
        return {name: _plainly(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plainly(each) for each in value]
    return value


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):
        return 0.0
    norm = math.hypot(*one) * math.hypot(*other)
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / norm if norm else 0.0
