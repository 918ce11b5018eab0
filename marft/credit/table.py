"""The turn table: columns of a batch of turns, and its collapse to decisions.

A turn table maps column names to arrays with one row per turn (suffix `_U`). Credit works on *decisions* (suffix
`_D`): a decision is a unique (episode, seat, step). A message and the move it goes with share a step, so they are one
decision: their rewards add up, they count once in every statistic, and both carry the one advantage. Ragged batches
need no padding: everything is keyed by integer codes, and nothing loops over episodes, seats or turns.

Where the table has tree nodes, decisions at different nodes are different decisions.

Invariants: decisions are sorted by (episode, seat, step); the result does not depend on the order of the turns, except
where the table has no `step` column and the order *is* the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from marft.credit.columns import Columns, missing, read_column, read_numbers
from marft.credit.keys import Codes, combine, compact, factorise, first_rows
from marft.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Decisions:
    """D decisions sorted by (episode, seat, step).

    codes: column name -> Codes of length D, for episode, instance, game, seat, agent and step.
    clock_D: the game's own step number. reward_D: the turns' rewards added up.
    acted_D: false where a seat earned at a step at which it had no turn: such a row counts in returns and nowhere else.
    count_D: how often a decision counts in statistics: 1, a share of it for a completion that stands in several joint
    actions, its number of copies after `resize`.
    columns: the table's other columns, read when a setting asks for them.
    """

    codes: dict[str, Codes]
    clock_D: np.ndarray
    reward_D: np.ndarray
    acted_D: np.ndarray
    count_D: np.ndarray
    columns: Columns

    def key(self, names: Iterable[str], setting: str = "a key") -> Codes:
        """Codes of the rows' values in several columns together; no column at all means one key for all."""
        names, known = tuple(names), self.columns.known
        if names not in known:
            known[names] = combine([self.code(name, setting) for name in names], len(self.clock_D))
        return known[names]

    def code(self, name: str, setting: str = "a key") -> Codes:
        """Codes of one column; those that a table need not have are read from it here."""
        if name in self.codes:
            return self.codes[name]
        if name == "batch":
            return Codes(np.zeros(len(self.clock_D), np.int64), 1)
        if name == "call" and "call" not in self.columns:
            return Codes(np.zeros(len(self.clock_D), np.int64), 1)
        if name in ("node", "parent") and "parent" not in self.columns and "node" not in self.columns:
            return self.codes["step"]  # without a tree, what is sampled at the same step of an instance is comparable
        return factorise(self.columns.labels(name, setting))

    def event(self) -> Codes:
        """Codes of what happens at once in an episode: a step of it, and in a tree a node of the step.

        A message and its move are drawn at two nodes of one step; what a move pays must not reach back to a message
        without it being backed up, or only messages that play went on from would seem to be paid.
        """
        return self.key(("episode", "step", *(("node",) if "node" in self.columns else ())))

    def numbers(self, name: str, setting: str) -> np.ndarray:
        """(D,) float64 values of a column that `setting` needs; RecipeError where the table lacks it."""
        return self.columns.numbers(name, setting)

    def take(self, row_D: np.ndarray) -> Decisions:
        """The decisions at these rows (indices or mask)."""
        codes = {name: Codes(column.code[row_D], column.size) for name, column in self.codes.items()}
        rest = (self.reward_D[row_D], self.acted_D[row_D], self.count_D[row_D], self.columns.take(row_D))
        return Decisions(codes, self.clock_D[row_D], *rest)


def collapse(table: Mapping[str, Any]) -> tuple[Decisions, np.ndarray]:
    """Read a turn table. Returns its decisions and the decision each turn belongs to, (U,) integers.

    `episode_U` and `reward_U` are required. Defaults: one `group` for all, one `game`, one `seat`, `agent` = the seat,
    `step` = the turn's place among its seat's turns of the episode, `acted` = true. A name may stand without its `_U`;
    columns that credit does not know are left alone. Ids may be integers or strings.
    Raises RecipeError for a column that is missing, of the wrong length or inconsistent, RewardError for a reward that
    is not a finite number.
    """
    reward_U = read_numbers(read_column(table, "reward"), "reward")
    n = len(reward_U)
    one = Codes(np.zeros(n, np.int64), 1)
    read = {
        name: read_column(table, name, n) for name in ("episode", "group", "game", "seat", "agent", "step", "acted")
    }
    if read["episode"] is None:
        raise missing("episode", table)
    codes = {
        name: one if read[name] is None else factorise(read[name]) for name in ("episode", "group", "game", "seat")
    }
    codes["instance"] = codes.pop("group")
    codes["agent"] = codes["seat"] if read["agent"] is None else factorise(read["agent"])
    clock_U = _places(codes) if read["step"] is None else _clock(read["step"])
    codes["step"] = factorise(clock_U)
    for name in ("instance", "game"):
        _check_constant(codes[name], codes["episode"], "group" if name == "instance" else name, read["episode"])
    cell = [codes["episode"], codes["seat"], codes["step"]]
    if (node := read_column(table, "node", n)) is not None:  # samples taken at one state stand on one step
        cell.append(factorise(node))
    decision = compact(combine(cell, n))
    first_D = first_rows(decision)
    columns = Columns(table, decision, first_D)
    acted_U = np.ones(n, bool) if read["acted"] is None else read["acted"].astype(bool)
    decisions = Decisions(
        codes={name: Codes(column.code[first_D], column.size) for name, column in codes.items()},
        clock_D=clock_U[first_D],
        reward_D=np.bincount(decision.code, reward_U, decision.size),
        acted_D=np.bincount(decision.code, acted_U, decision.size) > 0,
        count_D=np.ones(decision.size),
        columns=columns,
    )
    return decisions, decision.code


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
