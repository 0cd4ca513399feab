"""The second decoder: fits a JSON value into a type, field by field, when the fast one refuses it.

A field that does not fit is left at its default, so that an odd token count or a strange annex
never costs the answer beside it. A line, or an object of a listing, is lost only when it lacks what
its type cannot do without.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import inspect

from ...core import loose_json

#: A number of tokens or rows; what is below or beyond any sense is read as not told.
Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]

_T = TypeVar("_T")


class MisfitError(ValueError):
    """A value that cannot be read as what it is wanted for."""

    def __init__(self) -> None:
        super().__init__("it lacks what its kind cannot do without")


def decode(body: bytes | bytearray, kind: type[_T]) -> _T:
    """Read a JSON text as `kind`; `ValueError` when it is none, or lacks what that needs."""
    return fit(loose_json.loads(body), kind)


def fit(value: Any, kind: type[_T]) -> _T:
    """Read a value as `kind`; `ValueError` when it lacks what that needs."""
    fitted: _T = _fit(value, _info(kind))  # type: ignore[arg-type]
    return fitted


@lru_cache(maxsize=64)
def _info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _fit(value: Any, kind: inspect.Type) -> Any:
    match kind:
        case inspect.AnyType():
            return value
        case inspect.UnionType():
            return _member(value, kind)
        case inspect.StructType():
            return _struct(value, kind)
        case inspect.StrType():
            return _text(value)
        case inspect.IntType():
            return _whole(value, kind)
        case inspect.FloatType():
            return _number(value)
        case inspect.BoolType():
            return _truth(value)
        case inspect.ListType():
            return _list(value, kind)
        case inspect.DictType() if isinstance(value, dict):
            return value
        case inspect.NoneType() if value is None:
            return None
    raise MisfitError


def _member(value: Any, kind: inspect.UnionType) -> Any:
    ordered = sorted(kind.types, key=lambda each: not _is_natural(value, each))
    for each in ordered:
        try:
            return _fit(value, each)
        except MisfitError:
            continue
    raise MisfitError


def _is_natural(value: Any, kind: inspect.Type) -> bool:
    match value:
        case None:
            return isinstance(kind, inspect.NoneType)
        case bool():
            return isinstance(kind, inspect.BoolType)
        case str():
            return isinstance(kind, inspect.StrType)
        case int() | float():
            return isinstance(kind, (inspect.IntType, inspect.FloatType))
        case list():
            return isinstance(kind, inspect.ListType)
    return isinstance(kind, (inspect.StructType, inspect.DictType))


def _struct(value: Any, kind: inspect.StructType) -> Any:
    if not isinstance(value, dict):
        raise MisfitError
    given: dict[str, Any] = {}
    for field in kind.fields:
        if field.encode_name in value:
            try:
                given[field.name] = _fit(value[field.encode_name], field.type)
            except MisfitError:
                if field.required:
                    raise
        elif field.required:
            raise MisfitError
    return kind.cls(**given)


def _list(value: Any, kind: inspect.ListType) -> list[Any]:
    if not isinstance(kind.item_type, inspect.StructType):
        if not isinstance(value, list):
            raise MisfitError
        return [_fit(each, kind.item_type) for each in value]  # numbers: all of them, or none
    found = []
    for each in value if isinstance(value, list) else [value]:
        try:
            found.append(_fit(each, kind.item_type))
        except MisfitError:
            continue
    if value and not found:
        raise MisfitError
    return found


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return loose_json.dumps(value).decode()
    raise MisfitError


def _whole(value: Any, kind: inspect.IntType) -> int:
    number = _number(value)
    if not math.isfinite(number):
        raise MisfitError
    whole = value if isinstance(value, int) else round(number)
    if (kind.ge is not None and whole < kind.ge) or (kind.le is not None and whole > kind.le):
        raise MisfitError
    return whole


def _number(value: Any) -> float:
    match value:
        case bool():
            raise MisfitError
        case None:
            return math.nan  # so encoders write what is no number
        case int() | float() | str():
            try:
                return float(value)
            except (ValueError, OverflowError):
                raise MisfitError from None
    raise MisfitError


def _truth(value: Any) -> bool:
    match value:
        case bool():
            return value
        case str():
            return value.strip().lower() == "true"
        case int():
            return value != 0
    raise MisfitError
