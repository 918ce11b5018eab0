"""results.json: its form (docs/evaluation.md tells it field by field), its one reader, and the table people read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from marft.errors import RunFolderError
from marft.files import write_text

SCHEMA = 2
"""Version of results.json; raised when a reader of the old form would misread the new one."""


class Measure(BaseModel):
    """A mean with its interval; None where nothing was observed."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        return self.mean is not None and math.isfinite(self.mean)

    @property
    def bounded(self) -> bool:
        return all(end is not None and math.isfinite(end) for end in (self.low, self.high))


class TeamFacts(BaseModel):
    """What played under a team's name. adapters: agent -> SHA-256 of its weights. bases: by their key in the recipe."""

    kind: str = "run"
    source: str = ""
    recipe: str | None = None
    adapters: dict[str, str] = Field(default_factory=dict)
    bases: dict[str, str] = Field(default_factory=dict)
    sampling: dict[str, Any] = Field(default_factory=dict)


class Pairing(BaseModel):
    """One team against one opponent at one game; `kind` is self, scripted, team or votes.

    group: the number that the pair's episodes carry as their `group`. instances: how many were played, each from every
    one of `ways` of sitting and with every sampling seed; `index` counts episodes in this order, ways first. seats:
    those of the team, way after way, as many in each.
    """

    team: str
    opponent: str
    kind: str = "scripted"
    game: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    group: int = 0
    instances: int = 0
    ways: int = 1
    episodes: int = 0
    seats: list[str] = Field(default_factory=list)
    metrics: dict[str, Measure] = Field(default_factory=dict)

    def measure(self, metric: str) -> Measure:
        return self.metrics.get(metric, Measure())


class Matrix(BaseModel):
    """payoff[i][j]: what a seat of players[i] earns on average where the others are players[j]'s."""

    players: list[str]
    payoff: list[list[float | None]]


class Ratings(BaseModel):
    """player -> rating; see `marft.eval.ratings`."""

    bradley_terry: dict[str, Measure] = Field(default_factory=dict)
    openskill: dict[str, Measure] = Field(default_factory=dict)
    alpha_rank: dict[str, float] = Field(default_factory=dict)


class Results(BaseModel):
    """An evaluation, whole. summary: team -> headline -> its measure."""

    suite: str = "own"
    marft: str = ""
    teams: dict[str, TeamFacts] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    pairs: list[Pairing] = Field(default_factory=list)
    summary: dict[str, dict[str, Measure]] = Field(default_factory=dict)
    matrix: Matrix | None = None
    ratings: Ratings | None = None

    def metrics(self) -> list[str]:
        """All metrics, in the order they first appear."""
        return list(dict.fromkeys(key for pairing in self.pairs for key in pairing.metrics))

    def played(self) -> list[str]:
        """The teams that have pairs, in the order they first appear."""
        return list(dict.fromkeys(pairing.team for pairing in self.pairs))

    def games(self) -> list[str]:
        """All games, in the order they first appear."""
        return list(dict.fromkeys(pairing.game for pairing in self.pairs))


def read_results(path: Path) -> Results:
    """Read and check a results.json; RunFolderError where it is none, or one of another schema."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"results {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunFolderError(f"results {path} is not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        seen = data.get("schema") if isinstance(data, dict) else None
        raise RunFolderError(
            f"results {path} has schema {seen!r}; this version reads schema {SCHEMA}. Evaluate again: marft eval"
        )
    try:
        return Results.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise RunFolderError(f"results {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


COLUMNS = {
    "cooperation": "coop",
    "cooperation_after_first": "later",
    "p_c_cc": "C|CC",
    "p_c_dd": "C|DD",
    "return": "return",
    "opponent_return": "theirs",
    "invalid": "invalid",
}
"""Metrics with a short heading, in the table's order; others follow under their own names."""

LEFT_OUT = {"p_c_cd", "p_c_dc", "welfare", "joint_return", "equality"}
"""In results.json, but not in the table."""


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write results.json whole or not at all."""
    write_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


MOST_COLUMNS = 10
"""Metrics in a table; the others stand in results.json alone."""


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """Per game a table with one row per pairing: means and, where the terminal is wide enough, the half-width of their
    intervals."""
    for game in dict.fromkeys(pairing["game"] for pairing in results["pairs"]):
        _print_game(game, [pairing for pairing in results["pairs"] if pairing["game"] == game], console)


def _print_game(game: str, pairs: Sequence[Mapping[str, Any]], console: Console) -> None:
    known = {key for pairing in pairs for key in pairing["metrics"]} - LEFT_OUT
    columns = [key for key in COLUMNS if key in known] + sorted(known - COLUMNS.keys())
    columns = columns[:MOST_COLUMNS]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=game, title_justify="left")
    for heading in ("team", "against"):
        table.add_column(heading)
    for column in columns:
        table.add_column(COLUMNS.get(column, column.replace("_", " ")), justify="right")
    wide = console.width >= 100
    previous = None
    for pairing in pairs:
        if previous is not None and pairing["team"] != previous:
            table.add_section()
        previous = pairing["team"]
        cells = [_cell(pairing["metrics"].get(column), wide) for column in columns]
        table.add_row(pairing["team"], pairing["opponent"].rpartition(":")[2], *cells)
    console.print(table)


def print_summary(results: Mapping[str, Any], console: Console) -> None:
    """The headlines, one row each and a column per team; then the ratings."""
    summary = results["summary"]
    headlines = dict.fromkeys(key for own in summary.values() for key in own)
    if headlines:
        table = Table(
            box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=results["suite"], title_justify="left"
        )
        table.add_column("")
        for team in summary:
            table.add_column(team, justify="right")
        for key in headlines:
            table.add_row(key, *(_cell(own.get(key), True) for own in summary.values()))
        console.print(table)
    ratings = results.get("ratings") or {}
    if ratings:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title="ratings", title_justify="left")
        table.add_column("")
        for kind in ratings:
            table.add_column(kind.replace("_", " "), justify="right")
        for team in ratings["bradley_terry"]:
            row = [one.get(team) for one in ratings.values()]
            table.add_row(team, *(f"{one:.2f}" if isinstance(one, float) else _cell(one, True) for one in row))
        console.print(table)


def _cell(value: Mapping[str, float | None] | None, wide: bool) -> str:
    if value is None or value["mean"] is None:
        return "–"
    digits = 1 if abs(value["mean"]) >= 10 else 2
    mean = f"{value['mean']:.{digits}f}"
    if not wide or value["low"] is None:
        return mean
    return f"{mean} ± {(value['high'] - value['low']) / 2:.{digits}f}"
