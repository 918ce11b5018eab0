"""The options of a game (or any pydantic model) in words: key, default, what is allowed, what it means.

Everything comes from the model itself: its fields, and what its docstring says after "name:" at the start of a
sentence, as the house's docstrings are written. Pure.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from marft.recipe import apply_override

REQUIRED = "required"
_NOTHING = object()


class Key(NamedTuple):
    """One option: its dotted name, its default and what is allowed as people would write them, its meaning."""

    name: str
    default: str
    allowed: str
    meaning: str


def keys_of(model: type[BaseModel], prefix: str = "", values: Any = _NOTHING) -> Iterator[Key]:
    """The keys of a model in order; those of a model within it follow by their dotted names."""
    said = meanings(model)
    for name in model.model_fields:  # an option that is told of with another
        at = next((other for other, text in said.items() if re.search(rf"\b{re.escape(name)}\b", text)), None)
        if name not in said and at is not None:
            said[name] = f"see {prefix}{at}"
    for name, field in model.model_fields.items():
        key, inner = f"{prefix}{field.alias or name}", _model(field.annotation)
        default = getattr(values, name) if isinstance(values, BaseModel) else _default(field)
        if inner is None:
            yield Key(key, written(default), allowed(field.annotation, field.metadata), said.get(name, ""))
        else:
            yield from keys_of(inner, f"{key}.", default)


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> its own description, else what the docstrings of model and bases say; nearest class first."""
    names = list(model.model_fields)
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if "__doc__" in vars(base) and issubclass(base, BaseModel) and base is not BaseModel:
            found |= told(inspect.cleandoc(base.__doc__ or ""), names)
    return found | {name: field.description for name, field in model.model_fields.items() if field.description}


def told(doc: str, names: list[str]) -> dict[str, str]:
    """What a docstring of the form "one: its meaning. two, three: theirs." says of these names."""
    if not names:
        return {}
    word = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    parts = re.split(rf"(?:^|(?<=[.;:)] ))((?:{word})(?:, (?:{word}))*): ", " ".join(doc.split()))
    return {name: parts[at + 1].strip(" ;") for at in range(1, len(parts), 2) for name in parts[at].split(", ")}


def allowed(annotation: Any, metadata: Any = ()) -> str:
    """The values a type takes, as people would write them: "a whole number from 1 to 10", "one | two"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return allowed(arguments[0], [*metadata, *_flat(arguments[1:])])
    if origin is Literal:
        return " | ".join(map(written, arguments))
    if origin in (typing.Union, types.UnionType):
        return " | ".join("null" if one is type(None) else allowed(one, metadata) for one in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list of {allowed(arguments[0])}{_bounds(metadata)}"
        return "[" + ", ".join(map(allowed, arguments)) + "]"
    if origin is dict:
        return "a mapping"
    kinds = {bool: "true | false", int: "whole number", float: "number", str: "text"}
    return kinds.get(annotation, getattr(annotation, "__name__", str(annotation))) + _bounds(metadata)


def written(value: Any) -> str:
    """A value as it is written on the command line or in a recipe."""
    if value is _NOTHING:
        return REQUIRED
    if isinstance(value, str) and value:
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _bounds(metadata: Any) -> str:
    least = most = ""
    for item in _flat(metadata):
        if isinstance(item, Ge):
            least = f" from {written(item.ge)}"
        elif isinstance(item, Gt):
            least = f" above {written(item.gt)}"
        elif isinstance(item, Le):
            most = f" to {written(item.le)}"
        elif isinstance(item, Lt):
            most = f" below {written(item.lt)}"
        elif isinstance(item, MinLen) and item.min_length > 1:
            least = f", at least {item.min_length}"
    return least + most


def _flat(metadata: Any) -> Iterator[Any]:
    """Constraints out of the fields that group them."""
    for item in metadata:
        yield from _flat(item.metadata) if isinstance(item, FieldInfo) else (item,)


def _default(field: FieldInfo) -> Any:
    return _NOTHING if field.is_required() else field.get_default(call_default_factory=True)


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


def read_changes(changes: Sequence[str]) -> dict[str, Any]:
    """Options from key=value texts, dotted for options within options; the values are YAML."""
    options: dict[str, Any] = {}
    for change in changes:
        apply_override(options, change)
    return options
