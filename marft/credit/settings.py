"""What a recipe may write under `algorithm`, read into an `Algorithm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from marft.blocks import Algorithm
from marft.errors import RecipeError
from marft.lookup import explain, nearest


def read_algorithm(settings: Any, presets: Mapping[str, Any]) -> Algorithm:
    """An `Algorithm` from a preset name, from itself, or from a mapping of blocks.

    A mapping may name a `preset` to start from; its blocks then change only the options they name, and a bare string
    changes only a block's `kind`. Raises RecipeError that names the nearest valid word.
    """
    if isinstance(settings, Algorithm):
        return settings
    if isinstance(settings, str):
        return _preset(settings, presets)
    if not isinstance(settings, Mapping):
        raise RecipeError(f"algorithm: expected a preset's name or a mapping of blocks, got {settings!r}")
    blocks = {"return" if name == "return_" else name: value for name, value in settings.items()}
    name = blocks.pop("preset", None)
    if name is not None:
        blocks = _merge(_preset(name, presets).model_dump(by_alias=True), blocks)
    try:
        return Algorithm.model_validate(blocks)
    except ValidationError as error:
        raise RecipeError(explain(error, Algorithm, "algorithm.", also=("preset",))) from None


def _preset(name: Any, presets: Mapping[str, Any]) -> Algorithm:
    if not isinstance(name, str) or name not in presets:
        raise RecipeError(f"algorithm: no preset {name!r}{nearest(name, presets)}")
    return presets[name].settings


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(old, dict) and isinstance(value, str):
            value = {"kind": value}
        merged[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
