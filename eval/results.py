"""results.json and the table people read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from marft.files import write_text

SCHEMA = 1
"""Version of results.json; raised when a reader of the old form would misread the new one."""

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

LEFT_OUT = {"p_c_cd", "p_c_dc", "welfare"}
"""In results.json, but not in the table."""


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write results.json whole or not at all."""
    write_text(path, json.dumps(results, indent=2) + "\n")


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """One row per pairing: means and, where the terminal is wide enough, the half-width of their intervals."""
    known = {key for pairing in results["pairs"] for key in pairing["metrics"]} - LEFT_OUT
    columns = [key for key in COLUMNS if key in known] + sorted(known - COLUMNS.keys())
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=results["game"], title_justify="left"
    )
    for heading in ("team", "against"):
        table.add_column(heading)
    for column in columns:
        table.add_column(COLUMNS.get(column, column.replace("_", " ")), justify="right")
    wide = console.width >= 100
    previous = None
    for pairing in results["pairs"]:
        if previous is not None and pairing["team"] != previous:
            table.add_section()
        previous = pairing["team"]
        cells = [_cell(pairing["metrics"].get(column), wide) for column in columns]
        table.add_row(pairing["team"], pairing["opponent"], *cells)
    console.print(table)


def _cell(value: Mapping[str, float | None] | None, wide: bool) -> str:
    if value is None or value["mean"] is None:
        return "–"
    digits = 1 if abs(value["mean"]) >= 10 else 2
    mean = f"{value['mean']:.{digits}f}"
    if not wide or value["low"] is None:
        return mean
    return f"{mean} ± {(value['high'] - value['low']) / 2:.{digits}f}"
