"""Reading the columns of a turn table: the needed ones at once, the others when a setting asks for them.

A missing column is an error that names the column and the setting that needs it; numbers must be finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from marft.credit.keys import Codes
from marft.errors import RecipeError, RewardError

MERGED = {"value": "first", "order": "first", "attempt": "first", "nll": "mean", "logp": "mean", "reflect": "first"}
"""How the turns of one decision (a message and its move) merge; every other column of numbers adds up."""

RESERVED = frozenset(
    ("episode", "group", "instance", "game", "seat", "agent", "step", "order", "role", "reward", "version", "tokens")
    + ("invalid", "truncated", "nll", "acted", "node", "parent", "sample", "value", "kl", "observation", "learner")
    + ("call", "attempt", "reflect", "logp")
)
"""Columns with a meaning of their own, so that no reward term may be called so."""


class Columns:
    """The table's columns by decision, in the order of `collapse`, or of the decisions taken from it."""

    def __init__(self, table: Mapping[str, Any], decision: Codes, first_D: np.ndarray, row_D: Any = None) -> None:
        self._table, self._decision, self._first_D, self._row_D = table, decision, first_D, row_D
        self.known: dict[Any, Any] = {}
        """What was worked out of these rows once and may be asked for again."""

    def __contains__(self, name: str) -> bool:
        return name in self._table or f"{name}_U" in self._table

    def take(self, row_D: np.ndarray) -> Columns:
        """The same columns at these rows (indices or mask) of the present ones."""
        now = np.arange(self._decision.size) if self._row_D is None else self._row_D
        return Columns(self._table, self._decision, self._first_D, now[row_D])

    def labels(self, name: str, setting: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Raw values of a column of ids, of the decision's first turn; of these `rows` of the decisions only."""
        if name not in self:
            raise missing(name, self._table, setting)
        value_U = read_column(self._table, name, len(self._decision.code))
        first_D = self._first_D if self._row_D is None else self._first_D[self._row_D]
        return value_U[first_D if rows is None else first_D[rows]]

    def numbers(self, name: str, setting: str) -> np.ndarray:
        """(D,) float64 numbers of a column."""
        if name not in self:
            raise missing(name, self._table, setting)
        number_U = read_numbers(read_column(self._table, name, len(self._decision.code)), name)
        how = MERGED.get(name, "sum")
        if how == "first":
            number_D = number_U[self._first_D]
        else:
            number_D = np.bincount(self._decision.code, number_U, self._decision.size)
            if how == "mean":
                number_D = number_D / np.bincount(self._decision.code, minlength=self._decision.size)
        return number_D if self._row_D is None else number_D[self._row_D]


def read_column(table: Mapping[str, Any], name: str, n: int | None = None) -> np.ndarray | None:
    """A column by its name, with or without `_U`; None where it is not there and `n` rows are expected."""
    found = [key for key in (f"{name}_U", name) if key in table]
    if len(found) == 2:
        raise RecipeError(f"turn table: both '{name}_U' and '{name}' are there; give one of them")
    if not found:
        if n is None:
            raise missing(name, table)
        return None
    column = np.asarray(table[found[0]])
    if column.ndim != 1:
        raise RecipeError(f"turn table: '{found[0]}' has shape {column.shape}; a column has one value per turn")
    if n is not None and len(column) != n:
        raise RecipeError(f"turn table: '{found[0]}' has {len(column)} rows, 'reward_U' has {n}")
    return column


def missing(name: str, table: Mapping[str, Any], setting: str = "") -> RecipeError:
    """The error for a column that is not there; `setting` is what needs it."""
    near = get_close_matches(name, [str(key) for key in table], 1, 0.6)
    why = f", which {setting} needs" if setting else ""
    meant = f"; did you mean it by '{near[0]}'?" if near else ""
    return RecipeError(f"turn table: no column '{name}_U'{why}{meant}")


def read_numbers(column: np.ndarray, name: str) -> np.ndarray:
    """A column as finite float64."""
    try:
        number_U = column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise RewardError(f"turn table: '{name}_U' must hold numbers: {error}") from None
    bad = np.flatnonzero(~np.isfinite(number_U))
    if len(bad):
        raise RewardError(
            f"turn table: {len(bad)} {name}s are not finite, the first {number_U[bad[0]]} in row {bad[0]}"
        )
    return number_U
