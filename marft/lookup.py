"""Names to things: the nearest known name for a message, and a user's own object by path."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from marft.errors import RecipeError


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: "; did you mean 'rounds'?" or, with nothing near, the known names."""
    names = [str(name) for name in known]
    found = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if found:
        return f"; did you mean {found[0]!r}?"
    return f"; known: {', '.join(sorted(names))}" if names else ""


def load_object(reference: str, where: str) -> Any:
    """The object at "path/to/file.py:name" or "package.module:name"; `where` is the key to blame in an error."""
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise RecipeError(f"{where}: {reference!r} must read path/to/file.py:name or package.module:name")
    module = _load_file(Path(place), where) if place.endswith(".py") else _load_module(place, where)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise RecipeError(f"{where}: {place} has no {name!r}{nearest(name, public)}") from None


def _load_file(path: Path, where: str) -> Any:
    if not path.is_file():
        raise RecipeError(f"{where}: no file {path} (paths are relative to the working directory)")
    key = f"marft_user_{path.stem}_{abs(hash(str(path.resolve()))):x}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # before execution, as the import system does: dataclasses and pickles look it up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may fail in any way; the message must name it
        del sys.modules[key]
        raise RecipeError(f"{where}: {path} failed to import: {type(error).__name__}: {error}") from error
    return module


def _load_module(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RecipeError(f"{where}: cannot import {name}: {error}") from None
