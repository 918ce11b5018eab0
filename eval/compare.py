"""Two evaluations side by side: what differs beyond noise, and what it would take to show it.

Both sides were played on the same instances, against the same opponents, from the same seats, so they are compared
instance by instance: what makes an instance easy cancels out. A side may be several training seeds of one recipe; then
seeds are drawn anew as well, since another seed might have come out otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from marft.episode import Episode
from marft.errors import RecipeError, RunFolderError
from marft.eval.intervals import LEVEL, instances_for
from marft.eval.measure import averaged, table_metrics
from marft.games import find_game
from marft.lookup import nearest
from marft.store import read_episodes

Tables = list[tuple[tuple[str, ...], dict[int, Episode]]]
"""Of one pairing, a way of sitting each: the team's seats, and instance seed -> episode."""


@dataclass(frozen=True)
class Played:
    """A team's evaluation on disk: opponent -> its tables."""

    name: str
    game: str
    pairings: dict[str, Tables]


@dataclass(frozen=True)
class Difference:
    """One metric against one opponent.

    low, high: the interval of ours − theirs. clear: whether it differs beyond noise, with all metrics of the comparison
    in view (Holm 1979). needed: instances that would show a difference of this size four times in five; None where
    there is none. instances: how many there are.
    """

    opponent: str
    metric: str
    ours: float
    theirs: float
    low: float
    high: float
    clear: bool
    needed: int | None
    instances: int

    @property
    def difference(self) -> float:
        return self.ours - self.theirs


def compare(
    ours: Sequence[Played],
    theirs: Sequence[Played],
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Every metric (or these alone) against every opponent that both sides met, on the instances that all played.

    ours, theirs: one evaluation per training seed.
    """
    game = find_game(ours[0].game)
    for one in (*ours, *theirs):
        if one.game != ours[0].game:
            raise RunFolderError(f"compare: {one.name} played {one.game}, and {ours[0].name} {ours[0].game}")
    opponents = [name for name in ours[0].pairings if all(name in one.pairings for one in (*ours, *theirs))]
    if not opponents:
        raise RunFolderError(f"compare: {ours[0].name} and {theirs[0].name} have no opponent in common")
    found: list[tuple[Difference, float]] = []
    for opponent in opponents:
        sides = [[one.pairings[opponent] for one in side] for side in (ours, theirs)]
        instances = sorted(set.intersection(*(set(rows) for side in sides for tables in side for _, rows in tables)))
        if len(instances) < 2:
            raise RunFolderError(
                f"compare: against {opponent} the two sides share {len(instances)} instances; evaluate both with the "
                "same --seed"
            )
        found += _against(game, opponent, sides, instances, resamples, np.random.default_rng(seed))
    known = list(dict.fromkeys(one.metric for one, _ in found))
    for name in metrics or ():
        if name not in known:
            raise RecipeError(f"--metric: there is no {name!r}{nearest(name, known)}")
    found = [pair for pair in found if metrics is None or pair[0].metric in metrics]
    clear = _holm([chance for _, chance in found])
    return [replace(one, clear=certain) for (one, _), certain in zip(found, clear, strict=True)]


def load_played(text: str) -> Played:
    """FOLDER of `marft eval`, or FOLDER:TEAM where it holds several teams."""
    place, _, team = text.partition(":") if not Path(text).exists() else (text, "", "")
    folder = Path(place)
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"compare: {folder} holds no results.json of marft eval: {error}") from None
    teams = list(results["teams"])
    if not team and len(teams) > 1:
        raise RunFolderError(f"compare: {folder} holds {', '.join(teams)}; say which, as {folder}:{teams[0]}")
    if team and team not in teams:
        raise RunFolderError(f"compare: {folder} has no team {team!r}{nearest(team, teams)}")
    team = team or teams[0]
    episodes, start, pairings = list(read_episodes(folder)), 0, {}
    done = [episode for episode in episodes if episode.status == "done"]
    each = results["settings"]["episodes_per_seat"]
    for pairing in results["pairs"]:
        rows = done[start : start + pairing["episodes"]]
        start += pairing["episodes"]
        if pairing["team"] == team:
            pairings[pairing["opponent"]] = _tables(pairing, rows, each)
    return Played(text, results["game"], pairings)


def _tables(pairing: Mapping[str, Any], rows: Sequence[Episode], each: int) -> Tables:
    count = len(rows) // each
    share = len(pairing["seats"]) // count
    return [
        (
            tuple(pairing["seats"][number * share : (number + 1) * share]),
            {episode.seed: episode for episode in rows[number * each : (number + 1) * each]},
        )
        for number in range(count)
    ]


def _against(
    game: Any,
    opponent: str,
    sides: Sequence[Sequence[Tables]],
    instances: Sequence[int],
    resamples: int,
    rng: np.random.Generator,
) -> list[tuple[Difference, float]]:
    """Each metric with the probability that chance alone makes a difference at least as large (two-sided)."""
    whole = [_means(game, side, range(len(side)), instances) for side in sides]
    draws: dict[str, list[float]] = {key: [] for key in whole[0] if key in whole[1]}
    for _ in range(resamples):
        drawn = [instances[number] for number in rng.integers(len(instances), size=len(instances))]
        ours, theirs = (_means(game, side, rng.integers(len(side), size=len(side)), drawn) for side in sides)
        for key, values in draws.items():
            values.append(ours.get(key, math.nan) - theirs.get(key, math.nan))
    found = []
    for key, values in draws.items():
        apart = np.array(values)
        apart = apart[~np.isnan(apart)]
        ours, theirs = whole[0][key], whole[1][key]
        if math.isnan(ours - theirs) or len(apart) < 2:
            continue
        low, high = np.quantile(apart, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
        error = float(apart.std(ddof=1))
        needed = instances_for(ours - theirs, error * math.sqrt(len(instances))) if ours != theirs and error else None
        found.append(
            (
                Difference(opponent, key, ours, theirs, float(low), float(high), False, needed, len(instances)),
                _chance(ours - theirs, error, len(instances)),
            )
        )
    return found


def _means(game: Any, side: Sequence[Tables], seeds: Sequence[int], instances: Sequence[int]) -> dict[str, float]:
    """Each metric, on average over the drawn training seeds and the ways of sitting."""
    found = [
        table_metrics(game, seats, [rows[instance] for instance in instances])
        for number in seeds
        for seats, rows in side[number]
    ]
    return averaged(found)


def _chance(difference: float, error: float, instances: int) -> float:
    """Student's two-sided p, on the bootstrap's standard error."""
    if not error:
        return float(difference == 0)
    return 2 * float(stats.t.sf(abs(difference) / error, instances - 1))


def _holm(chances: Sequence[float]) -> list[bool]:
    """Which differences hold at the level for all of them together: the least likely first, each by a laxer bound."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    clear = [False] * len(chances)
    for rank, number in enumerate(order):
        if chances[number] > (1 - LEVEL) / (len(chances) - rank):
            break
        clear[number] = True
    return clear
