"""A run folder as the report sees it: the stored recipe, the facts, one column of numbers per metric.

Everything is read as plain data, so a run made elsewhere, with a game that is not installed here or by another version,
can still be looked at. Nothing here decides what is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from marft.blocks import Algorithm
from marft.credit.presets import PRESETS
from marft.errors import RunFolderError
from marft.train.folder import read_metrics

WINDOW = 10
"""Updates that the summary numbers average over: the last ones of a run."""


@dataclass(frozen=True)
class Run:
    """One run. `lines` are those of metrics.jsonl; `name` is what the report calls it."""

    name: str
    path: Path
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def metrics(self) -> list[str]:
        """All metrics of the run, in the order they first appear."""
        return list(dict.fromkeys(key for line in self.lines for key in line))

    def updates(self) -> list[int]:
        return [line["update"] for line in self.lines]

    def column(self, key: str) -> list[float]:
        """One value per line; NaN where it is null or left out."""
        return [_finite(line.get(key)) for line in self.lines]

    def span(self, key: str) -> None:
        """A single run has no span over seeds, see `marft.report.groups`."""

    def recent(self, key: str) -> float:
        """Mean over the last WINDOW updates in which it was observed at all."""
        return mean(self.column(key)[-WINDOW:])

    def last(self, key: str) -> float:
        return self.column(key)[-1] if self.lines else math.nan

    def seats(self) -> list[str]:
        return list(_section(self.recipe, "team"))

    def game(self) -> str:
        return str(_section(self.recipe, "game").get("name", "unknown game"))


def read_run(name: str, path: Path) -> Run:
    """Read a run folder; a run that has not finished an update yet has no lines."""
    stored = path / "recipe.yaml"
    if not stored.is_file():
        raise RunFolderError(f"{path} is no run folder: it holds no recipe.yaml")
    try:
        recipe = yaml.safe_load(stored.read_text(encoding="utf-8"))
        facts = json.loads((path / "run.json").read_text(encoding="utf-8")) if (path / "run.json").is_file() else {}
    except (yaml.YAMLError, ValueError) as error:
        raise RunFolderError(f"{path}: recipe.yaml or run.json is damaged: {error}") from None
    if not isinstance(recipe, dict) or not isinstance(facts, dict):
        raise RunFolderError(f"{path}: recipe.yaml or run.json holds no mapping of keys")
    try:
        lines = read_metrics(path / "metrics.jsonl")
    except ValueError as error:
        raise RunFolderError(f"{path / 'metrics.jsonl'} is damaged: {error}") from None
    for position, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("update"), int):
            raise RunFolderError(f"{path / 'metrics.jsonl'}, line {position}: no update number")
    return Run(name, path, recipe, facts, lines)


def algorithm_summary(recipe: Mapping[str, Any]) -> str:
    """The blocks that differ from doing nothing, with the options that differ from their defaults, and the preset."""
    blocks = _section(recipe, "algorithm")
    plain = Algorithm().model_dump(mode="json", by_alias=True)
    shown = []
    for name, block in blocks.items():
        if not isinstance(block, Mapping):
            if block != plain.get(name):
                shown.append(f"{name.replace('_', ' ')} {block}")
            continue
        default = plain.get(name) if isinstance(plain.get(name), dict) else {}
        if block == default:
            continue
        options = [
            f"{key} {_brief(value)}" for key, value in block.items() if key != "kind" and value != default.get(key)
        ]
        shown.append(f"{name} {block.get('kind', '')}" + (f" ({', '.join(options)})" if options else ""))
    for name, preset in PRESETS.items():
        if preset.settings.model_dump(mode="json", by_alias=True) == blocks:
            shown.insert(0, f"preset {name}")
    return "; ".join(shown) or "all defaults"


def differences(recipes: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Recipe keys on which these recipes differ, with each one's value."""
    flat = [_flat(recipe) for recipe in recipes]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [(key, [_brief(one[key]) if key in one else "–" for one in flat]) for key in keys]
    return [(key, values) for key, values in rows if key not in ("name", "seed") and len(set(values)) > 1]


def mean(values: Sequence[float]) -> float:
    """Mean of the finite values, NaN without any."""
    found = [value for value in values if math.isfinite(value)]
    return math.fsum(found) / len(found) if found else math.nan


def _finite(value: Any) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else math.nan


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = recipe.get(name)
    return found if isinstance(found, Mapping) else {}


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_brief, value)) + "]"
    return "none" if value is None else str(value)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping) or not data:
        return {prefix.removesuffix("."): data}
    return {key: value for name, below in data.items() for key, value in _flat(below, f"{prefix}{name}.").items()}
