"""Cell text and rows to prompts: one text per row, in order.

The text is a Jinja2 template. Values are inserted as text and never rendered again. A template of
nothing but text and plain ``{{ name }}`` is put together without Jinja, to the same outcome.

A null (None, NaN, NA, NaT) is refused where it would be written into the prompt or be worked on,
and taken where the template deals with it: left of ``or`` and ``and``, under ``not``, ``is``,
``==``, ``in`` and ``default``, in a condition, and in a plain ``set``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

from ...core.errors import UsageProblem
from ...core.request import Rows
from ...data.fields import SIMPLE, NoText, NullFound, Row, Unknown, fields_of, plain_value
from ...data.plain_text import to_text, with_sorted_sets

#: Names that a row has beside its fields; a field of that name wins.
RESERVED = ("item", "key", "row")

_MISSING = object()

_Put: TypeAlias = Callable[[tuple[Any, ...]], str]


def compile(text: str) -> Template:  # noqa: A001 - what re and jinja2 call it
    """Return the template that `text` is, blank lines at either end left out.

    Raises
    ------
    UsageProblem
        It is blank, or no template.
    """
    return Template(text)


def split(text: str) -> list[str]:
    """Return the prompts that lines of only ``---`` divide.

    Raises
    ------
    UsageProblem
        One of them is blank.
    """
    parts: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.rstrip() == "---":
            parts.append([])
        else:
            parts[-1].append(line)
    return [_trimmed(part, f"prompt {number} of --split") for number, part in enumerate(parts, 1)]


def _trimmed(lines: Sequence[str], what: str) -> str:
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        raise UsageProblem(f"{what} is blank: write what is to be asked")
    return "\n".join(lines[filled[0] : filled[-1] + 1])


class Template:
    """A prompt with names in it.

    Attributes
    ----------
    text
        The text, without blank lines at either end.
    names
        Names that must come from a row or a variable.
    """

    def __init__(self, text: str, columns: Collection[str] = ()) -> None:
        from .jinja import Parsed

        self.text = _trimmed(text.split("\n"), "the prompt")
        self._parsed = Parsed(self.text, columns)
        self.names: frozenset[str] = self._parsed.names

    def over(self, rows: Rows) -> Template:
        """Return the template for `rows`: where they have a column 2023, ``{{ 2023 }}`` is it.

        Raises
        ------
        UsageProblem
            A literal reads like a column, but is the same in every prompt.
        """
        if not self._parsed.literals:
            return self
        if rows.fields is not None:
            known, spelled = {*rows.fields}, "row"
        else:
            first = rows.first()
            spelled = "item" if isinstance(first, list | tuple) and not fields_of(first) else "row"
            labels = range(len(first)) if spelled == "item" else fields_of(first)
            known = {*map(str, labels)}
        hits = sorted(self._parsed.literals & known)
        if rows.fields is not None and all(name.isdecimal() for name in hits):
            return Template(self.text, hits) if hits else self
        for name in hits:
            raise UsageProblem(
                f"{{{{ {name} }}}} would be sent as {name}, the same with every row: "
                f"write {{{{ {spelled}[{name}] }}}}"
            )
        return self

    def render(
        self, rows: Rows, *, namespace: Mapping[str, Any] | None = None, skip_null: bool = False
    ) -> Iterator[str | None]:
        """Yield one prompt per row, in order; None for a row that is left out.

        Parameters
        ----------
        rows
            Where the names come from first: their fields, then ``item``, ``key`` and ``row``.
        namespace
            Where the other names come from.
        skip_null
            Leave a row out, instead of refusing it, when a null would get into its prompt.

        Raises
        ------
        UsageProblem
            A name is not there, a value is null or bytes, or the template failed; with the row.
        """
        if (own := self.over(rows)) is not self:
            return own.render(rows, namespace=namespace, skip_null=skip_null)
        fields = rows.fields
        names = self._wanted()
        if fields is not None and all(n in fields or n not in RESERVED for n in names):
            source: _Source = _Columns(rows, [name for name in names if name in fields])
        else:
            source = _Items(rows, names)
        return self._prompts(source, namespace or {}, skip_null=skip_null)

    def render_one(self, namespace: Mapping[str, Any]) -> str:
        """Return the prompt of a cell without rows.

        Raises
        ------
        UsageProblem
            A variable is not there, or cannot be inserted.
        """
        (prompt,) = self._prompts(_Source(), namespace, skip_null=False)
        assert prompt is not None
        return prompt

    def prefix(self, rows: Rows, namespace: Mapping[str, Any]) -> str:
        """Return what every prompt begins with, as far as can be told without rendering them."""
        if self._parsed.parts is None:
            return self._parsed.lead
        known = ""
        for text, name in self._parsed.parts:
            known += text
            if name in RESERVED or name in (rows.fields or ()) or name not in namespace:
                break
            try:
                known += to_text(plain_value(namespace[name]))
            except (NullFound, NoText):
                break
        return known

    def _wanted(self) -> list[str]:
        """Return the names in the order in which their values are put in."""
        if self._parsed.parts is not None:
            return [name for _, name in self._parsed.parts[:-1]]
        return sorted(self.names)

    def _prompts(
        self, source: _Source, namespace: Mapping[str, Any], *, skip_null: bool
    ) -> Iterator[str | None]:
        shared = {name: plain_value(namespace[name]) for name in self.names if name in namespace}
        put = self._concatenation(source, shared) or self._rendering(source, shared)
        for number, values in enumerate(source):
            try:
                prompt = put(values)
            except NullFound as exc:
                name = str(exc)
                root = re.split(r"[.\[]", name)[0]
                if root in shared and source.lacks(root, values):
                    raise UsageProblem(f"the variable {root!r} is empty: give it a value") from None
                if not skip_null:
                    raise UsageProblem(
                        f"{source.where(number)}{name or 'an expression'} is empty "
                        "(None, NaN or NA): --skip-null leaves such rows out"
                    ) from None
                yield None
                continue
            except NoText as exc:
                raise UsageProblem(f"{source.where(number)}{exc}") from None
            except Unknown as exc:
                words = _unknown(exc, source.fields, namespace)
                raise UsageProblem(f"{source.where(number)}{words}") from None
            except Exception as exc:
                words = " ".join(str(exc).split())
                raise UsageProblem(
                    f"{source.where(number)}the template failed ({type(exc).__name__}: {words})"
                ) from exc
            yield prompt

    def _concatenation(self, source: _Source, shared: Mapping[str, Any]) -> _Put | None:
        """Return how a template of text and names alone is put together, if it is one."""
        if self._parsed.parts is None:
            return None
        names = source.names
        pattern = ""
        for text, name in self._parsed.parts:
            pattern += text.replace("%", "%%")
            if name in names:
                pattern += "%s"
            elif name:
                try:
                    pattern += to_text(shared[name]).replace("%", "%%")
                except (KeyError, NullFound, NoText):
                    return None  # Jinja finds the same, where it can be told which row it was

        def put(values: tuple[Any, ...]) -> str:
            for value in values:
                if value.__class__ not in SIMPLE:
                    return pattern % _texts(names, values, shared)
            return pattern % values

        return put

    def _rendering(self, source: _Source, shared: Mapping[str, Any]) -> _Put:
        """Return how Jinja renders the template, one context serving all rows."""
        names = source.names
        context, render = self._parsed.renderer()
        context.update({name: with_sorted_sets(value) for name, value in shared.items()})

        def put(values: tuple[Any, ...]) -> str:
            for name, value in zip(names, values, strict=True):
                if value.__class__ in SIMPLE:
                    context[name] = value
                elif value is not _MISSING:
                    context[name] = with_sorted_sets(plain_value(value))
                elif name in shared:
                    context[name] = with_sorted_sets(shared[name])
                else:
                    context.pop(name, None)
            return render()

        return put


def _texts(
    names: Sequence[str], values: tuple[Any, ...], shared: Mapping[str, Any]
) -> tuple[str, ...]:
    texts = []
    for name, value in zip(names, values, strict=True):
        found = shared.get(name, _MISSING) if value is _MISSING else value
        if found is _MISSING:
            raise Unknown(name)
        texts.append(to_text(found, name))
    return tuple(texts)


class _Source:
    """Where the values of a template come from; this one is for a cell without rows.

    Attributes
    ----------
    names
        What the tuples hold, in order.
    fields
        Names of the present row's fields.
    """

    names: Sequence[str] = ()
    fields: Collection[str] = ()
    rows: Rows | None = None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        yield ()

    def lacks(self, name: str, values: tuple[Any, ...]) -> bool:
        """Whether the row has no value for `name`."""
        return name not in self.names or values[self.names.index(name)] is _MISSING

    def where(self, number: int) -> str:
        """Return how a message names the row, up to the words that follow."""
        return f"{place(self.rows, number)}: " if self.rows is not None else ""


class _Columns(_Source):
    """Values from the columns of a frame."""

    def __init__(self, rows: Rows, names: Sequence[str]) -> None:
        self.rows: Rows = rows
        self.names = names
        self.fields = rows.fields or ()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.rows.columns(self.names)


class _Items(_Source):
    """Values from rows that are objects, each with fields of its own."""

    def __init__(self, rows: Rows, names: Sequence[str]) -> None:
        self.rows: Rows = rows
        self.names = names

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        names = self.names
        whole = "row" in names
        for key, item in self.rows.items():
            self.fields = fields = fields_of(item)
            extra = {"item": item, "key": key}
            if whole:
                extra["row"] = Row({name: plain_value(value) for name, value in fields.items()})
            yield tuple([fields[n] if n in fields else extra.get(n, _MISSING) for n in names])


def place(rows: Rows, number: int) -> str:
    """Return ``row 3``, with the index label or key where it says more."""
    if rows.shape.kind == "dict" or rows.shape.library == "pandas":
        key = rows.key(number)
        if key != number or isinstance(key, bool):
            return f"row {number} ({'key' if rows.shape.kind == 'dict' else 'index'} {key!r})"
    return f"row {number}"


def _unknown(exc: Unknown, fields: Collection[str], namespace: Mapping[str, Any]) -> str:
    """Say what is not there, and what is there of nearly that name."""
    if exc.hint:
        return exc.hint
    if exc.owner is None:
        known = [*fields, *(name for name in namespace if not name.startswith("_"))]
        words = f"there is no field or variable {exc.name!r}"
    else:
        known = list(exc.owner) if isinstance(exc.owner, Mapping) else list(fields_of(exc.owner))
        words = f"there is no {exc.name!r} in this {type(exc.owner).__name__}"
    texts = [name for name in known if isinstance(name, str)]
    near = get_close_matches(exc.name, texts, n=1)
    if near:
        return f"{words}; did you mean {near[0]!r}?"
    listed = ", ".join(fields if exc.owner is None else texts)
    return f"{words}; there is: {listed[:200]}" if listed else words
