"""Two evaluations side by side: what differs beyond noise, and what it would take to show it.

Both sides were played on the same instances, against the same opponents, from the same seats, so they are compared
instance by instance: what makes an instance easy cancels out. A side may be several training seeds of one recipe; then
seeds are drawn anew as well, since another seed might have come out otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from marft.episode import Episode, finished
from marft.errors import RecipeError, RunFolderError
from marft.eval.intervals import LEVEL, instances_for
from marft.eval.measure import averaged, table_metrics
from marft.eval.results import Pairing, read_results
from marft.games import find_game
from marft.lookup import nearest
from marft.store import read_episodes

Tables = list[tuple[tuple[str, ...], dict[int, list[Episode]]]]
"""Of one pairing, a way of sitting each: the team's seats, and instance seed -> its episodes, one per sampling seed."""


class Meeting(NamedTuple):
    """What is played, and against whom. options: of the game, as JSON."""

    game: str
    options: str
    opponent: str


@dataclass(frozen=True)
class Played:
    """A team's evaluation on disk."""

    name: str
    pairings: dict[Meeting, Tables]


@dataclass(frozen=True)
class Difference:
    """One metric against one opponent at one game.

    low, high: the interval of ours − theirs. clear: whether it differs beyond noise, with all metrics of the comparison
    in view (Holm 1979). needed: instances that would show a difference of this size four times in five; None where
    there is none. instances: how many there are.
    """

    game: str
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
    meetings = [one for one in ours[0].pairings if all(one in other.pairings for other in (*ours, *theirs))]
    if not meetings:
        raise RunFolderError(
            f"compare: {ours[0].name} and {theirs[0].name} have no opponent at the same game in common; one met "
            f"{_listed(ours[0])}, the other {_listed(theirs[0])}"
        )
    found: list[tuple[Difference, float]] = []
    for meeting in meetings:
        sides = [[one.pairings[meeting] for one in side] for side in (ours, theirs)]
        instances = sorted(set.intersection(*(set(rows) for side in sides for tables in side for _, rows in tables)))
        if len(instances) < 2:
            raise RunFolderError(
                f"compare: at {meeting.game} against {meeting.opponent} the two sides share {len(instances)} "
                "instances; evaluate both with the same --seed"
            )
        found += _against(meeting, sides, instances, resamples, np.random.default_rng(seed))
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
        results = read_results(folder / "results.json")
    except RunFolderError as error:
        raise RunFolderError(f"compare: {folder} holds no results of marft eval: {error}") from None
    teams = results.played()
    if not team and len(teams) > 1:
        raise RunFolderError(f"compare: {folder} holds {', '.join(teams)}; say which, as {folder}:{teams[0]}")
    if team and team not in teams:
        raise RunFolderError(f"compare: {folder} has no team {team!r}{nearest(team, teams)}")
    team = team or teams[0]
    episodes: dict[int, list[Episode]] = {}
    for episode in finished(list(read_episodes(folder))):
        episodes.setdefault(episode.group, []).append(episode)
    return Played(
        text,
        {
            Meeting(one.game, json.dumps(one.options, sort_keys=True), one.opponent): tables_of(
                one, episodes.get(one.group, [])
            )
            for one in results.pairs
            if one.team == team
        },
    )


def tables_of(pairing: Pairing, episodes: Sequence[Episode]) -> Tables:
    """A pairing's episodes by the way of sitting (the first so many by `index`, and so on), and by instance."""
    if len(episodes) != pairing.episodes:
        raise RunFolderError(
            f"results: {pairing.team} against {pairing.opponent} has {len(episodes)} episodes on disk and "
            f"{pairing.episodes} in results.json; marft eval --resume, or --rescore"
        )
    each, share = len(episodes) // pairing.ways, len(pairing.seats) // pairing.ways
    tables: Tables = []
    for number in range(pairing.ways):
        rows: dict[int, list[Episode]] = {}
        for episode in sorted(episodes, key=lambda one: one.index):
            if episode.index // each == number:
                rows.setdefault(episode.seed, []).append(episode)
        tables.append((tuple(pairing.seats[number * share : (number + 1) * share]), rows))
    return tables


def _listed(played: Played) -> str:
    return ", ".join(f"{one.opponent} at {one.game}" for one in played.pairings)


def _against(
    meeting: Meeting,
    sides: Sequence[Sequence[Tables]],
    instances: Sequence[int],
    resamples: int,
    rng: np.random.Generator,
) -> list[tuple[Difference, float]]:
    """Each metric with the probability that chance alone makes a difference at least as large (two-sided)."""
    game = find_game(meeting.game)
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
                Difference(
                    game=meeting.game,
                    opponent=meeting.opponent,
                    metric=key,
                    ours=ours,
                    theirs=theirs,
                    low=float(low),
                    high=float(high),
                    clear=False,
                    needed=needed,
                    instances=len(instances),
                ),
                _chance(ours - theirs, error, len(instances)),
            )
        )
    return found


def _means(game: Any, side: Sequence[Tables], seeds: Sequence[int], instances: Sequence[int]) -> dict[str, float]:
    """Each metric, on average over the drawn training seeds and the ways of sitting."""
    found = [
        table_metrics(game, seats, [episode for instance in instances for episode in rows[instance]])
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
