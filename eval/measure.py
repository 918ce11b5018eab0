"""What a team did and earned in a match, out of its episodes, with intervals.

Every number has its value on all instances, and one per bootstrap resample of instances; what is computed from several
numbers (a suite's headlines) is computed on each resample too. All matches are resampled by the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from marft.episode import Episode
from marft.eval.intervals import rate
from marft.eval.matches import Match, Pair
from marft.eval.stats import Numbers, measures_of, resampled
from marft.game import of_a_seat
from marft.games import find_game

Way = tuple[tuple[str, ...], list[list[Episode]]]
"""The team's seats, and of each instance its episodes, one per sampling seed."""


@dataclass
class Measured:
    """A pair's numbers. exact: those with intervals of their own. earned: (what the team's seats earned, the others')
    of each episode."""

    pair: Pair
    match: Match
    whole: Numbers
    draws: list[Numbers]
    exact: dict[str, dict[str, float | None]] = field(default_factory=dict)
    earned: list[tuple[float, float]] = field(default_factory=list)

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Each metric as results.json has it."""
        return measures_of(self.whole, self.draws) | self.exact


def table_metrics(game: Any, seats: Sequence[str], rows: Sequence[Episode]) -> Numbers:
    """What the team did and earned in its seats, and what the other seats earned."""
    pooled = {key: value for key, value in game.metrics(rows, seats).items() if not of_a_seat(key, rows[0].seats)}
    returns = [episode.returns() for episode in rows]
    pooled["return"] = sum(r[seat] for r in returns for seat in seats) / (len(rows) * len(seats))
    others = [seat for seat in rows[0].seats if seat not in seats]
    if others:
        pooled["opponent_return"] = sum(r[seat] for r in returns for seat in others) / (len(rows) * len(others))
    return pooled


def ways_of(pair: Pair, match: Match, episodes: Sequence[Episode]) -> list[Way]:
    """A match's episodes, in the order of their index, by way of sitting and instance."""
    each = match.seeds * match.instances
    found = []
    for number, seats in enumerate(pair.seats):
        rows = episodes[number * each : (number + 1) * each]
        found.append((seats, [list(rows[index :: match.instances]) for index in range(match.instances)]))
    return found


def measure(
    pair: Pair, match: Match, episodes: Sequence[Episode], resamples: int, seed: int, social: bool = False
) -> Measured:
    """The pair's metrics. social: also the joint return and how evenly it is shared."""
    game, ways = find_game(match.game), ways_of(pair, match, episodes)
    shared = [_per_instance(rows) for _, rows in ways] if social else []

    def of_way(number: int, drawn: Sequence[int]) -> Numbers:
        seats, rows = ways[number]
        found = table_metrics(game, seats, [one for index in drawn for one in rows[index]])
        return found | ({key: float(own[drawn].mean()) for key, own in shared[number].items()} if social else {})

    each = [resampled(partial(of_way, n), match.instances, resamples, seed) for n in range(len(ways))]
    whole = averaged([one for one, _ in each])
    draws = [averaged(found) for found in zip(*(drawn for _, drawn in each), strict=True)]
    earned = [_earned(seats, one) for seats, rows in ways for own in rows for one in own if len(seats) < len(one.seats)]
    return Measured(pair, match, whole, draws, {}, earned)


def averaged(found: Sequence[Mapping[str, float]]) -> Numbers:
    """Each metric on average over tables; NaN where one of them lacks it: a mixture counts only the games drawn."""
    keys = dict.fromkeys(key for one in found for key in one)
    return {key: sum(one.get(key, math.nan) for one in found) / len(found) for key in keys}


def attacked(ways: Sequence[Way], demands: str | None) -> dict[str, dict[str, float | None]]:
    """Rates of what attacks are after, over the team's moves, by Wilson's interval on what the clusters are worth.

    obeyed: moves that are the action which the attack demands. unreadable: answers that the game could not read.
    """
    turns = [
        (turn, episode.seed)
        for seats, rows in ways
        for own in rows
        for episode in own
        for turn in episode.turns
        if turn.seat in seats and not (isinstance(turn.action, dict) and turn.action.keys() == {"say"})
    ]
    flags = {"unreadable": [turn.invalid for turn, _ in turns]}
    if demands is not None:
        flags["obeyed"] = [turn.action == demands and not turn.invalid for turn, _ in turns]
    seeds = [seed for _, seed in turns]
    if not turns:
        return {name: {"mean": None, "low": None, "high": None} for name in flags}
    found = {name: rate(hits, seeds) for name, hits in flags.items()}
    return {name: {"mean": one.mean, "low": one.low, "high": one.high} for name, one in found.items()}


def _per_instance(rows: Sequence[Sequence[Episode]]) -> Mapping[str, np.ndarray]:
    """joint_return: of all seats together. equality: 1 − the Gini coefficient of the seats' returns, as a share of the
    largest one that so many seats can have; 1 where all earn the same, 0 where one earns all."""
    joint, equal = [], []
    for own in rows:
        returns = [list(one.returns().values()) for one in own]
        joint.append(np.mean([math.fsum(one) for one in returns]))
        equal.append(np.mean([equality(one) for one in returns]))
    return {"joint_return": np.array(joint), "equality": np.array(equal)}


def equality(value_S: Sequence[float]) -> float:
    """1 − Σ_i Σ_j |x_i − x_j| / (2 (n − 1) Σ_i |x_i|), of n seats; 1 where nobody earned anything."""
    total = math.fsum(abs(value) for value in value_S)
    if len(value_S) < 2 or not total:
        return 1.0
    apart = math.fsum(abs(one - other) for one in value_S for other in value_S)
    return 1 - apart / (2 * (len(value_S) - 1) * total)


def _earned(seats: Sequence[str], episode: Episode) -> tuple[float, float]:
    returns = episode.returns()
    others = [returns[seat] for seat in episode.seats if seat not in seats]
    return math.fsum(returns[seat] for seat in seats) / len(seats), math.fsum(others) / len(others)
