"""The part of `prompts` that is Jinja2: its environment, and what we add to a parsed template.

Imported when the first template is compiled; loading the extension does not need it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cache, wraps
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, Undefined, meta, nodes
from jinja2 import filters as jinja_filters
from jinja2.runtime import Context
from jinja2.utils import missing, pass_environment

from ...core.errors import UsageProblem
from ...data import plain_text
from ...data.fields import SIMPLE, NoText, NullFound, Unknown, is_null

# Filters of ours; no template can spell them.
_PRESENT = "(present)"
_WRITTEN = "(written)"
_TEXT = "(text)"

#: Jinja's filters that work on the text of whatever they are given.
_ON_TEXT = (
    "string", "upper", "lower", "capitalize", "title", "trim", "center", "indent", "wordwrap",
    "wordcount", "truncate", "striptags", "replace", "escape", "e", "forceescape", "urlize",
)  # fmt: skip

_KEYWORDS = {"if", "else", "and", "or", "not", "in", "is"}

#: Where a null is the template's own affair, by node and the child that may be null.
_LENIENT = {
    (nodes.And, "left"),
    (nodes.Or, "left"),
    (nodes.Not, "node"),
    (nodes.Test, "node"),
    (nodes.If, "test"),
    (nodes.CondExpr, "test"),
    (nodes.For, "test"),
    (nodes.Assign, "node"),  # what is done with the new name is checked there
}

#: Children that may be null where their parent may.
_INHERIT = {
    (nodes.And, "right"),
    (nodes.Or, "right"),
    (nodes.CondExpr, "expr1"),
    (nodes.CondExpr, "expr2"),
}


class _Undefined(StrictUndefined):
    """Jinja's strict undefined, which tells us what was missing instead of writing a message."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_obj is None:
            raise NullFound
        owner = None if self._undefined_obj is missing else self._undefined_obj
        raise Unknown(str(self._undefined_name), owner, self._undefined_hint)


class _Context(Context):
    """Jinja's context, where what a call gives has its sets in a fixed order."""

    def call(self, obj: Any, /, *args: Any, **named: Any) -> Any:
        """Return what a template calls."""
        return plain_text.with_sorted_sets(super().call(obj, *args, **named))


class _Environment(Environment):
    """Jinja's environment, where a field wins over a dict's method of the same name."""

    context_class = _Context

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute`` of a template."""
        if isinstance(obj, dict) and attribute in obj:
            return plain_text.with_sorted_sets(obj[attribute])
        return plain_text.with_sorted_sets(super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]`` of a template."""
        return plain_text.with_sorted_sets(super().getitem(obj, argument))


class Parsed:
    """A template that was read.

    Attributes
    ----------
    names
        Names that must come from outside.
    parts
        ``(text, name)`` in turn when there is nothing else in it, else None; the last name is
        empty.
    lead
        The text before anything else in it.
    literals
        What stands in it as a bare number, ``{{ 2023 }}``, or as True, False or None.

    Parameters
    ----------
    columns
        Those of the literals that stand for columns; whole numbers only.
    """

    def __init__(self, text: str, columns: Collection[str] = ()) -> None:
        env = _environment()
        try:
            tree = env.parse(text)
            self.literals = _literals(tree, columns)
            self.names = frozenset(meta.find_undeclared_variables(tree))
            self.parts = _parts(tree)
            self.lead = _lead(tree)
            self._template = env.from_string(_guarded(tree))
        except TemplateSyntaxError as exc:
            hint = _with_blanks(text, exc.lineno) or (
                "text with literal braces, like LaTeX or JSON, goes between {% raw %} and "
                "{% endraw %}"
            )
            raise UsageProblem(
                f"line {exc.lineno} of the prompt is not a valid template ({exc.message}); {hint}"
            ) from exc

    def renderer(self) -> tuple[dict[str, Any], Callable[[], str]]:
        """Return a dict to put values in, and a function that renders the template with them."""
        values: dict[str, Any] = {}
        # One context for all rows, since making one costs as much as rendering a short prompt.
        # A shared one holds none of Jinja's globals.
        context = self._template.new_context(values, shared=True)
        root = self._template.root_render_func

        def render() -> str:
            context.vars.clear()
            context.exported_vars.clear()
            return "".join(root(context))

        return values, render


def _with_blanks(text: str, number: int) -> str:
    """Return how a name of several words is spelled, where line `number` has one in braces."""
    found = re.search(r"\{\{\s*(?:row\.)?(\w+(?: +\w+)+)\s*\}\}", text.splitlines()[number - 1])
    if not found or _KEYWORDS & {*found[1].split()}:
        return ""
    return f'a name with blanks is written {{{{ row["{found[1]}"] }}}}'


@cache
def _environment() -> Environment:
    env = _Environment(undefined=_Undefined, finalize=_finalize, keep_trailing_newline=True)
    env.filters["default"] = env.filters["d"] = _default
    env.filters |= {_PRESENT: _present, _WRITTEN: _written, _TEXT: _text, "join": _join}
    env.filters |= {name: _on_text(env.filters[name]) for name in _ON_TEXT}
    return env


def _finalize(value: Any) -> str:
    if value.__class__ in SIMPLE or isinstance(value, Undefined):
        return str(value)
    return plain_text.to_text(value)


def _written(value: Any, name: str) -> Any:
    """Return the text of what is written into the prompt, by the name that a refusal tells."""
    if value.__class__ in SIMPLE or isinstance(value, Undefined):
        return value
    return plain_text.to_text(value, name)


def _text(value: Any) -> Any:
    """Return a value as it can be joined to text: in full and in a fixed order."""
    if value.__class__ in SIMPLE or value is None or isinstance(value, Undefined | str | float):
        return value
    try:
        return plain_text.text_of(value)
    except NoText as problem:
        raise NoText(f"a value {problem}") from None


def _on_text(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter of Jinja's that gets the text of its value."""
    at = 1 if hasattr(filter_, "jinja_pass_arg") else 0  # environment or context come first

    @wraps(filter_)
    def with_text(*args: Any, **named: Any) -> Any:
        return filter_(*args[:at], _text(args[at]), *args[at + 1 :], **named)

    return with_text


@pass_environment
def _join(env: Environment, value: Any, d: str = "", attribute: Any = None) -> str:
    """Jinja's ``join``, over the texts of the elements."""
    if attribute is not None:
        value = map(jinja_filters.make_attrgetter(env, attribute), value)
    return str(d).join(str(_text(plain_text.with_sorted_sets(each))) for each in value)


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja's ``default``, which takes a null for undefined."""
    if isinstance(value, Undefined) or is_null(value) or (boolean and not value):
        return default_value
    return value


def _present(value: Any, name: str) -> Any:
    if value.__class__ in SIMPLE or isinstance(value, Undefined) or not is_null(value):
        return value
    raise NullFound(name)


def _parts(tree: nodes.Template) -> list[tuple[str, str]] | None:
    """Return the template as text and names in turn, or None when there is more in it."""
    parts: list[tuple[str, str]] = []
    text = ""
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return None
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                text += node.data
            elif isinstance(node, nodes.Name):
                parts.append((text, node.name))
                text = ""
            else:
                return None
    return [*parts, (text, "")]


def _literals(tree: nodes.Template, columns: Collection[str]) -> frozenset[str]:
    """Return the bare literals of `tree`; those in `columns` become names."""
    found = set()
    for output in tree.find_all(nodes.Output):
        for i, node in enumerate(output.nodes):
            label = _literal(node)
            if label in columns:
                output.nodes[i] = _named(node, label)
            elif label:
                found.add(label)
    return frozenset(found)


def _literal(node: nodes.Node) -> str:
    """Return how a column is called whose name somebody wrote as a number, else nothing."""
    while isinstance(node, nodes.Filter) and node.node is not None:
        node = node.node
    if isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const):
        return f"-{node.node.value}"
    if isinstance(node, nodes.Const) and not isinstance(node.value, str):
        return str(node.value)
    return ""


def _named(node: Any, label: str) -> nodes.Expr:
    """Return an expression with its literal as the name of a column."""
    if isinstance(node, nodes.Filter):
        node.node = _named(node.node, label)
        return node
    return nodes.Name(label, "load", lineno=node.lineno)


def _lead(tree: nodes.Template) -> str:
    first = tree.body[0] if tree.body else None
    data = first.nodes[0] if isinstance(first, nodes.Output) and first.nodes else None
    return data.data if isinstance(data, nodes.TemplateData) else ""


def _guarded(tree: nodes.Template) -> nodes.Template:
    """Check every name of `tree` for null where it is used, unless the template deals with it."""
    _visit(tree, lenient=False)
    tree.set_environment(_environment())
    return tree


def _visit(node: nodes.Node, *, lenient: bool) -> nodes.Node:
    label = _label(node)
    written = [_label(each) for each in node.nodes] if isinstance(node, nodes.Output) else []
    for field, child in node.iter_fields():
        # In x.y the x must be there even where x.y may be null.
        allowed = _is_lenient(node, field, lenient)
        if isinstance(child, nodes.Node):
            setattr(node, field, _visit(child, lenient=allowed))
        elif isinstance(child, list):
            child[:] = [
                _visit(each, lenient=allowed) if isinstance(each, nodes.Node) else each
                for each in child
            ]
    if isinstance(node, nodes.Concat):
        node.nodes = [_filtered(each, _TEXT) for each in node.nodes]
    if isinstance(node, nodes.Output):
        node.nodes = [
            each if isinstance(each, nodes.TemplateData) else _filtered(each, _WRITTEN, name)
            for each, name in zip(node.nodes, written, strict=True)
        ]
    if lenient or not label or getattr(node, "ctx", "load") != "load":
        return node
    return _filtered(node, _PRESENT, label)


def _filtered(node: Any, name: str, *texts: str) -> nodes.Filter:
    args: list[nodes.Expr] = [nodes.Const(text, lineno=node.lineno) for text in texts]
    return nodes.Filter(node, name, args, [], None, None, lineno=node.lineno)


def _is_lenient(parent: nodes.Node, field: str, inherited: bool) -> bool:
    place = (type(parent), field)
    if place in _LENIENT or (inherited and place in _INHERIT):
        return True
    if isinstance(parent, nodes.Filter):
        return field == "node" and parent.name in {"default", "d"}
    if isinstance(parent, nodes.Compare):
        return all(operand.op in {"eq", "ne", "in", "notin"} for operand in parent.ops)
    return isinstance(parent, nodes.Operand) and inherited


def _label(node: nodes.Node | None) -> str:
    """Return how a template spells a name or a part of one, else nothing."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        inner = _label(node.node)
        return f"{inner}.{node.attr}" if inner else ""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        inner = _label(node.node)
        return f"{inner}[{node.arg.value!r}]" if inner else ""
    return ""
