"""Cross-play as one table: who earns what with whom, and ratings out of who came out ahead of whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from marft.eval.measure import Measured
from marft.eval.ratings import alpha_rank, bradley_terry, plackett_luce
from marft.eval.stats import measure_of

SPREAD = 1.959964
"""Standard deviations to either side of a 95 % interval of a normal."""


def matrix_of(measured: Sequence[Measured]) -> dict[str, Any]:
    """players, and payoff[i][j]: what a seat of i's earns where the others are j's; None where they did not meet."""
    players = list(dict.fromkeys(one.pair.team for one in measured))
    place = {name: number for number, name in enumerate(players)}
    payoff: list[list[float | None]] = [[None] * len(players) for _ in players]
    for one in measured:
        other = one.pair.team if one.pair.kind == "self" else one.pair.opponent
        if one.pair.kind in ("self", "team"):
            payoff[place[one.pair.team]][place[other]] = one.whole["return"]
    return {"players": players, "payoff": payoff}


def ratings_of(measured: Sequence[Measured], resamples: int, seed: int) -> dict[str, Any]:
    """Of all teams that met another one. An episode is won by who earns more per seat.

    Intervals: of Bradley–Terry by the bootstrap over instances; of openskill 1.96 of its own deviations. α-rank needs
    every meeting of a game of two seats, and is left out otherwise; so is openskill where it is not installed.
    """
    met = [one for one in measured if one.pair.kind == "team" and one.earned]
    players = list(dict.fromkeys(one.pair.team for one in met))
    if len(players) < 2:
        return {}
    once = list({one.pair.group: one for one in met}.values())  # a shared match counts once
    ratings = {"bradley_terry": _bradley_terry(once, players, resamples, seed)}
    if find_spec("openskill") is not None:
        games = [{one.pair.team: own, one.pair.opponent: theirs} for one in once for own, theirs in one.earned]
        skill = plackett_luce(games)
        ratings["openskill"] = {name: _within(*skill[name]) for name in players}
    table = matrix_of(measured)
    whole = all(value is not None for row in table["payoff"] for value in row)
    if whole and all(len(one.match.tables[0]) == 2 for one in met) and find_spec("pyspiel") is not None:
        shares = alpha_rank(np.array(table["payoff"]))
        ratings["alpha_rank"] = dict(zip(table["players"], shares.tolist(), strict=True))
    return ratings


def _within(mean: float, deviation: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - SPREAD * deviation, "high": mean + SPREAD * deviation}


def _bradley_terry(once: Sequence[Measured], players: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    place = {name: number for number, name in enumerate(players)}
    # counts[pair, instance]: won, drawn, lost by the pair's team
    tables = []
    for one in once:
        own = np.array(one.earned)
        per = one.match.instances
        instance_E = np.arange(len(own)) // one.match.seeds % per  # by way of sitting, instance, sampling seed
        counts = np.zeros((per, 3))
        np.add.at(counts, (instance_E, 1 - np.sign(own[:, 0] - own[:, 1]).astype(int)), 1)
        tables.append((place[one.pair.team], place[one.pair.opponent], counts))

    def rated(pick: np.ndarray | None) -> np.ndarray:
        wins, draws = np.zeros((2, len(players), len(players)))
        for i, j, counts in tables:
            won, level, lost = counts.sum(0) if pick is None else counts[pick].sum(0)
            wins[i, j] += won
            wins[j, i] += lost
            draws[i, j] += level
            draws[j, i] += level
        return bradley_terry(wins, draws_AA=draws)

    whole, rng = rated(None), np.random.default_rng(seed)
    instances = max(len(counts) for _, _, counts in tables)
    drawn = np.array([rated(rng.integers(instances, size=instances)) for _ in range(resamples)])
    return {
        name: measure_of(float(whole[n]), drawn[:, n] if len(drawn) else [math.nan]) for n, name in enumerate(players)
    }
