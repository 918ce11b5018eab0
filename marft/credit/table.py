"""The turn table: columns of a batch of turns, and its collapse to decisions.

A turn table maps column names to arrays with one row per turn (suffix `_U`). Credit works on *decisions* (suffix
`_D`): a decision is a unique (episode, seat, step). A message and the move it goes with share a step, so they are one
decision: their rewards add up, they count once in every statistic, and both carry the one advantage. Ragged batches
need no padding: everything is keyed by integer codes, and nothing loops over episodes, seats or turns.

Invariants: decisions are sorted by (episode, seat, step); the result does not depend on the order of the turns, except
where the table has no `step` column and the order *is* the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from marft.credit.keys import Codes, combine, compact, factorise, first_rows
from marft.errors import RecipeError, RewardError


@dataclass(frozen=True, slots=True)
class Decisions:
    """D decisions sorted by (episode, seat, step).

    codes: column name -> Codes of length D, for episode, instance, game, seat, agent and step.
    clock_D: the game's own step number. reward_D: the turns' rewards added up.
    acted_D: false where a seat earned at a step at which it had no turn: such a row counts in returns and nowhere else.
    """

    codes: dict[str, Codes]
    clock_D: np.ndarray
    reward_D: np.ndarray
    acted_D: np.ndarray

    def key(self, names: Iterable[str]) -> Codes:
        """Codes of the rows' values in several columns together; no column at all means one key for all."""
        return combine([self.codes[name] for name in names], len(self.clock_D))

    def take(self, row_D: np.ndarray) -> Decisions:
        """The decisions at these rows (indices or mask)."""
        codes = {name: Codes(column.code[row_D], column.size) for name, column in self.codes.items()}
        return Decisions(codes, self.clock_D[row_D], self.reward_D[row_D], self.acted_D[row_D])


def collapse(table: Mapping[str, Any]) -> tuple[Decisions, np.ndarray]:
    """Read a turn table. Returns its decisions and the decision each turn belongs to, (U,) integers.

    `episode_U` and `reward_U` are required. Defaults: one `group` for all, one `game`, one `seat`, `agent` = the seat,
    `step` = the turn's place among its seat's turns of the episode, `acted` = true. A name may stand without its `_U`;
    columns that credit does not know are left alone. Ids may be integers or strings.
    Raises RecipeError for a column that is missing, of the wrong length or inconsistent, RewardError for a reward that
    is not a finite number.
    """
    reward_U = _rewards(_column(table, "reward"))
    n = len(reward_U)
    one = Codes(np.zeros(n, np.int64), 1)
    read = {name: _column(table, name, n) for name in ("episode", "group", "game", "seat", "agent", "step", "acted")}
    if read["episode"] is None:
        raise _missing("episode", table)
    codes = {
        name: one if read[name] is None else factorise(read[name]) for name in ("episode", "group", "game", "seat")
    }
    codes["instance"] = codes.pop("group")
    codes["agent"] = codes["seat"] if read["agent"] is None else factorise(read["agent"])
    clock_U = _places(codes) if read["step"] is None else _clock(read["step"])
    codes["step"] = factorise(clock_U)
    for name in ("instance", "game"):
        _check_constant(codes[name], codes["episode"], "group" if name == "instance" else name, read["episode"])
    decision = compact(combine([codes["episode"], codes["seat"], codes["step"]], n))
    first_D = first_rows(decision)
    acted_U = np.ones(n, bool) if read["acted"] is None else read["acted"].astype(bool)
    decisions = Decisions(
        codes={name: Codes(column.code[first_D], column.size) for name, column in codes.items()},
        clock_D=clock_U[first_D],
        reward_D=np.bincount(decision.code, reward_U, decision.size),
        acted_D=np.bincount(decision.code, acted_U, decision.size) > 0,
    )
    return decisions, decision.code


def _column(table: Mapping[str, Any], name: str, n: int | None = None) -> np.ndarray | None:
    found = [key for key in (f"{name}_U", name) if key in table]
    if len(found) == 2:
        raise RecipeError(f"turn table: both '{name}_U' and '{name}' are there; give one of them")
    if not found:
        if n is None:
            raise _missing(name, table)
        return None
    column = np.asarray(table[found[0]])
    if column.ndim != 1:
        raise RecipeError(f"turn table: '{found[0]}' has shape {column.shape}; a column has one value per turn")
    if n is not None and len(column) != n:
        raise RecipeError(f"turn table: '{found[0]}' has {len(column)} rows, 'reward_U' has {n}")
    return column


def _missing(name: str, table: Mapping[str, Any]) -> RecipeError:
    near = get_close_matches(name, [str(key) for key in table], 1, 0.6)
    return RecipeError(f"turn table: no column '{name}_U'" + (f"; did you mean it by '{near[0]}'?" if near else ""))


def _rewards(column: np.ndarray) -> np.ndarray:
    try:
        reward_U = column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise RewardError(f"turn table: 'reward_U' must hold numbers: {error}") from None
    bad = np.flatnonzero(~np.isfinite(reward_U))
    if len(bad):
        raise RewardError(
            f"turn table: {len(bad)} rewards are not finite, the first {reward_U[bad[0]]} in row {bad[0]}"
        )
    return reward_U


def _clock(column: np.ndarray) -> np.ndarray:
    whole = column.dtype.kind in "iub" or (column.dtype.kind == "f" and bool(np.all(column == np.floor(column))))
    if len(column) and not (whole and column.min() >= 0):
        raise RecipeError("turn table: 'step_U' must hold whole numbers from 0 on: the game's own clock")
    return column.astype(np.int64)


def _places(codes: Mapping[str, Codes]) -> np.ndarray:
    """Each turn's place among the turns of its episode and seat, in the order of the table."""
    pair = combine([codes["episode"], codes["seat"]], len(codes["episode"].code)).code
    order = np.argsort(pair, kind="stable")
    new = np.concatenate([[True], np.diff(pair[order]) != 0])[: len(pair)]
    start = np.flatnonzero(new)
    place = np.empty(len(pair), np.int64)
    place[order] = np.arange(len(pair)) - np.repeat(start, np.diff(start, append=len(pair)))
    return place


def _check_constant(column: Codes, episode: Codes, name: str, episode_U: np.ndarray) -> None:
    if column.size == 1 or not len(column.code):
        return
    of_episode = np.empty(episode.size, np.int64)
    of_episode[episode.code] = column.code
    bad = np.flatnonzero(of_episode[episode.code] != column.code)
    if len(bad):
        raise RecipeError(f"turn table: episode {episode_U[bad[0]]} has more than one value in '{name}_U'")
