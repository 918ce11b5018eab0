"""Prompt templates of a recipe: jinja2, cut down to what cannot run long, write much, or reach anything.

A template may insert values, choose between texts (`if`), go through one list (`for`, not inside another), and use the
filters and tests named here. It cannot call, calculate, include or assign, so its work is bounded by its own length and
that of its values. Values are data: what an agent wrote is inserted as it is, and never read as a template.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from marft.lookup import nearest

LENGTH = 20_000
"""Characters a template may have."""
LIMIT = 100_000
"""Characters that may come out of one."""
FILTERS = frozenset({"capitalize", "first", "last", "length", "lower", "title", "trim", "truncate", "upper"})
TESTS = frozenset({"defined", "eq", "equalto", "even", "none", "number", "odd", "sequence", "string", "undefined"})
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem),
    *(nodes.If, nodes.For, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat),
    *(nodes.Filter, nodes.Test, nodes.Tuple, nodes.Keyword),
)
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
)


class Prompt:
    """A checked template. ValueError where the text is none, or uses more than it may; see the module.

    names: the values it may use. members: of a value that is a mapping, the keys it may use ({"outputs": ["writer"]}).
    """

    def __init__(self, text: str, names: Collection[str], members: Mapping[str, Collection[str]] | None = None) -> None:
        if len(text) > LENGTH:
            raise ValueError(f"a template may have {LENGTH} characters, this one has {len(text)}")
        try:
            tree = _ENVIRONMENT.parse(text)
            _check(tree, names, members or {})
            self._template = _ENVIRONMENT.from_string(text)
        except TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno} of the template: {error.message}") from None
        constant = not any(isinstance(node, nodes.Name) for node, _, _ in _walk(tree, 0, frozenset()))
        self._text = self._filled({}) if constant else None  # most system prompts are, and all of a run share them

    def render(self, **values: Any) -> str:
        """The text with these values in it; ValueError where a value is missing or the text grows beyond LIMIT."""
        return self._filled(values) if self._text is None else self._text

    def _filled(self, values: Mapping[str, Any]) -> str:
        pieces, length = [], 0
        try:
            for piece in self._template.generate(values):
                length += len(piece)
                if length > LIMIT:
                    raise ValueError(f"more than {LIMIT} characters came out of the template")
                pieces.append(piece)
        except (TemplateError, TypeError, AttributeError, AssertionError) as error:  # what a filter makes of a value
            raise ValueError(f"the template cannot be filled in: {error}") from None
        return "".join(pieces)


def _check(tree: nodes.Template, names: Collection[str], members: Mapping[str, Collection[str]]) -> None:
    for node, loops, bound in _walk(tree, 0, frozenset()):
        kind, line = type(node).__name__.lower(), getattr(node, "lineno", 1)
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"line {line} of the template: {kind} is not allowed in a prompt")
        if isinstance(node, nodes.For) and (loops or node.recursive):
            raise ValueError(f"line {line} of the template: a loop inside a loop is not allowed in a prompt")
        if isinstance(node, nodes.Name) and node.ctx == "load" and node.name not in names and node.name not in bound:
            raise ValueError(f"line {line} of the template: nothing is called {node.name!r}{nearest(node.name, names)}")
        for part, known, what in ((nodes.Filter, FILTERS, "filter"), (nodes.Test, TESTS, "test")):
            if isinstance(node, part) and node.name not in known:
                raise ValueError(f"line {line} of the template: no {what} {node.name!r}{nearest(node.name, known)}")
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            _check_member(node, line, members)


def _check_member(node: nodes.Getattr | nodes.Getitem, line: int, members: Mapping[str, Collection[str]]) -> None:
    key: Any = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
    if isinstance(key, str) and key.startswith("_"):
        raise ValueError(f"line {line} of the template: {key!r} is not allowed in a prompt")
    if isinstance(node.node, nodes.Name) and node.node.name in members:
        known = members[node.node.name]
        if key not in known:
            raise ValueError(f"line {line} of the template: {node.node.name} has no {key!r} here{nearest(key, known)}")


def _walk(node: nodes.Node, loops: int, bound: frozenset[str]) -> Iterator[tuple[nodes.Node, int, frozenset[str]]]:
    """Every node, with how many loops are around it and the names that those bind."""
    yield node, loops, bound
    if isinstance(node, nodes.For):
        names = [node.target, *node.target.find_all(nodes.Name)]
        targets = {name.name for name in names if isinstance(name, nodes.Name)}
        inside = bound | targets | {"loop"}
        yield from _walk(node.iter, loops, bound)
        for child in (*node.body, *node.else_, *([node.test] if node.test is not None else [])):
            yield from _walk(child, loops + 1, inside)
        return
    for child in node.iter_child_nodes():
        yield from _walk(child, loops, bound)
