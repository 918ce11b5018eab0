"""Names to things: what a wrong name or value is told, and a user's own object by path."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from marft.errors import RecipeError


def nearest(word: Any, known: Iterable[Any]) -> str:
    """The end of an error message: "; did you mean 'rounds'?" or, with nothing near, the known names."""
    names = [str(name) for name in known]
    found = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if found:
        return f"; did you mean {found[0]!r}?"
    return f"; known: {', '.join(sorted(names))}" if names else ""


def short(value: Any) -> str:
    """A value as it stands in an error message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "", also: Iterable[str] = ()) -> str:
    """One line per complaint of pydantic about a `model`: the dotted key, what is wrong, the value, the nearest name.

    prefix: what stands before every key ("game."). also: keys that may stand at the top beside the model's own.
    """
    lines = (_complaint(item, model, prefix, also) for item in error.errors())
    return "\n".join(dict.fromkeys(lines))


def _complaint(item: Mapping[str, Any], model: type[BaseModel], prefix: str, also: Iterable[str]) -> str:
    place = [part for part in item["loc"] if "[" not in str(part)]  # pydantic adds the branch of a union: "tuple[str]"
    key = (prefix + ".".join(map(str, place))).rstrip(".")
    if item["type"] == "extra_forbidden":
        known = fields_at(model, place[:-1]) + (list(also) if len(place) == 1 else [])
        return f"{key}: unknown key{nearest(place[-1], known) or '; no keys are known here'}"
    if item["type"] == "missing":
        return f"{key}: required, but missing"
    if item["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        near = difflib.get_close_matches(str(item["input"]), allowed, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}? " if near else ""
        return f"{key}: cannot be {short(item['input'])}; {meant}allowed: {', '.join(allowed)}"
    return f"{key}: {item['msg'].removeprefix('Value error, ')} (got {short(item['input'])})"


def fields_at(model: Any, place: Iterable[Any]) -> list[str]:
    """Names of the keys that a recipe may use at a dotted place under `model`; empty where there is no such place."""
    for part in place:
        model = _inner(model, part)
    return [info.alias or name for name, info in getattr(model, "model_fields", {}).items()]


def _inner(model: Any, part: Any) -> Any:
    """The type at `part` (a field's name, a mapping's key, a place in a list) of a type; None where there is none."""
    fields = getattr(model, "model_fields", None)
    if fields is not None:
        found = [info.annotation for name, info in fields.items() if part in (name, info.alias)]
        return _not_none(found[0]) if found else None
    arguments = typing.get_args(model)  # dict[str, X] or tuple[X, ...]
    return _not_none(arguments[-1] if typing.get_origin(model) is dict else arguments[0]) if arguments else None


def _not_none(annotation: Any) -> Any:
    """X out of X | None."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next(item for item in typing.get_args(annotation) if item is not type(None))
    return annotation


def load_object(reference: str, where: str) -> Any:
    """The object at "path/to/file.py:name" or "package.module:name"; `where` is the key to blame in an error."""
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise RecipeError(f"{where}: {reference!r} must read path/to/file.py:name or package.module:name")
    module = load_module(place, where)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise RecipeError(f"{where}: {place} has no {name!r}{nearest(name, public)}") from None


def load_module(place: str, where: str) -> types.ModuleType:
    """The user's own module: a file ending in .py, or a package's module by its dotted name.

    A file is imported once, so that its classes stay the same whoever asks. What the import raises is told with its
    place in the user's code.
    """
    if place.endswith(".py") and not Path(place).is_file():
        raise RecipeError(f"{where}: there is no file {place} (paths are relative to the working directory)")
    try:
        return _import_file(Path(place).resolve()) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # a user's module may fail in any way; the message must name it
        raise RecipeError(cannot_import(f"{where}: {place}", error)) from error


def cannot_import(what: str, error: Exception) -> str:
    """The message for a user's code that fails to import: what failed, how, and where in that code."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{what} cannot be imported: {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"


def _import_file(path: Path) -> types.ModuleType:
    key = f"marft_user_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module  # before execution, as the import system does: dataclasses and pickles look it up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[key]
            raise
    return sys.modules[key]
