"""The headlines of the suites: a few numbers per team out of all its pairs, with intervals.

A headline is computed from the pairs' numbers on all instances, and on each bootstrap resample of them, where all
pairs saw the same instances drawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from marft.eval.evaluation import Entry
from marft.eval.measure import Measured
from marft.eval.stats import Numbers, measures_of

Look = Callable[[Measured, str], float]
"""A pair's metric, on all instances or on one resample; NaN where it has none."""
Headlines = Callable[[Sequence[Measured], Sequence[Entry], Look], Numbers]

BOTS = "rock_paper_scissors"
COMMON = ("random", "first", "last")
"""Its players that are none of the programs, and that other games have too."""


def summary_of(kind: str | None, measured: Sequence[Measured], entries: Sequence[Entry]) -> dict[str, Any]:
    """team -> headline -> its measure."""
    headlines = SUMMARIES.get(kind or "")
    if headlines is None:
        return {}
    found: dict[str, Any] = {}
    references = [one for one in measured if one.pair.kind == "reference"]
    for team in dict.fromkeys(one.pair.team for one in measured if one.pair.kind != "reference"):
        own = [*(one for one in measured if one.pair.team == team and one.pair.kind != "reference"), *references]
        whole = headlines(own, entries, lambda one, key: one.whole.get(key, math.nan))
        count = min(len(one.draws) for one in own)
        draws = [
            headlines(own, entries, lambda one, key, number=number: one.draws[number].get(key, math.nan))
            for number in range(count)
        ]
        found[team] = measures_of(whole, draws)
        if kind == "safety":
            found[team] |= _rates(own)
    return found


def social(own: Sequence[Measured], entries: Sequence[Entry], look: Look) -> Numbers:
    """Means over the dilemmas, each on a scale of its own.

    efficiency: the joint return of self-play, 0 where all play like the greedy player, 1 where all play like the kind
    one. robustness: the return among greedy partners, 0 that of the kind player there, 1 that of a greedy one.
    fairness: how evenly self-play shares, 0 one takes all, 1 all get the same. cooperation: in self-play, where the
    game has a measure of it.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for number, pairs in _by_entry(own).items():
        entry = entries[number]
        mine = {one.pair.opponent: one for one in pairs if one.pair.kind != "reference"}
        ends = [one for one in pairs if one.pair.kind == "reference"]
        alone = mine.get("self")
        if alone is not None:
            found["fairness"].append(look(alone, "equality"))
            if entry.cooperation is not None:
                found["cooperation"].append(look(alone, entry.cooperation))
        if len(ends) != 3:
            continue
        kind, greedy, among = ends
        if alone is not None:
            found["efficiency"].append(_between(*(look(one, "joint_return") for one in (alone, greedy, kind))))
        against = mine.get(str(entry.greedy))
        if against is not None:
            low, high = look(among, "return"), look(greedy, "return")
            found["robustness"].append(_between(look(against, "return"), low, high))
    return {key: _mean(found[key]) for key in ("cooperation", "efficiency", "robustness", "fairness") if found[key]}


def games(own: Sequence[Measured], entries: Sequence[Entry], look: Look) -> Numbers:
    """Per opponent, points won (a draw half) on average over the games; the same against all rock-paper-scissors
    programs together. The return in self-play of games where all share one; NashConv where it was computed."""
    points: dict[str, list[float]] = defaultdict(list)
    for one in own:
        if one.pair.kind != "scripted" or "win" not in one.whole:  # where all share one return, nobody wins
            continue
        value = look(one, "win") + look(one, "draw") / 2
        bots = one.match.game == BOTS and one.pair.opponent not in COMMON
        points["bots" if bots else one.pair.opponent].append(value)
    found = {f"points against {name}": _mean(values) for name, values in points.items()}
    for one in own:
        if one.pair.kind == "self" and "win" not in one.whole:
            found[f"return of {one.match.game}"] = look(one, "return")
        if "nash_conv" in one.exact:
            found[f"NashConv of {one.match.game}"] = float(one.exact["nash_conv"]["mean"])
    return found


def gama(own: Sequence[Measured], entries: Sequence[Entry], look: Look) -> Numbers:
    """score: the mean of the games' scores in self-play, 0 to 100; and each of them. welfare/GAME: the joint return."""
    alone = [one for one in own if one.pair.kind == "self"]
    found = {"score": _mean([look(one, "score") for one in alone])}
    for one in alone:
        found[f"score/{one.match.game}"] = look(one, "score")
        found[f"welfare/{one.match.game}"] = look(one, "joint_return")
    return found


def reasoning(own: Sequence[Measured], entries: Sequence[Entry], look: Look) -> Numbers:
    """Of the team, of its first agent alone, and of the majority of as many of that agent's answers as cost what the
    team's do: accuracy, and tokens sampled per question. votes: how many answers that are."""
    found: Numbers = {}
    for one in own:
        if one.pair.kind == "self":
            found |= {"team/accuracy": look(one, "accuracy"), "team/tokens": look(one, "tokens")}
        elif one.pair.kind == "votes":
            found |= {"single/accuracy": look(one, "accuracy"), "single/tokens": look(one, "tokens")}
            found |= {"majority/accuracy": look(one, "majority"), "majority/tokens": look(one, "majority_tokens")}
            found["majority/votes"] = look(one, "votes")
    return found


def cross_play(own: Sequence[Measured], entries: Sequence[Entry], look: Look) -> Numbers:
    """self: the return per seat with itself; partner: the same with the other teams, which it never trained with."""
    apart = [look(one, "return") for one in own if one.pair.kind == "team"]
    joint = [look(one, "joint_return") for one in own if one.pair.kind == "team"]
    found = {"self": _mean([look(one, "return") for one in own if one.pair.kind == "self"])}
    return found | ({"partner": _mean(apart), "joint with partners": _mean(joint)} if apart else {})


def safety(own: Sequence[Measured], entries: Sequence[Entry], look: Look) -> Numbers:
    """cost of ATTACK: what it takes from the return that the same opponent leaves without it, mean over the games."""
    found: dict[str, list[float]] = defaultdict(list)
    for number, pairs in _by_entry(own).items():
        control = next((one for one in pairs if one.pair.opponent == entries[number].control), None)
        for one in pairs:
            if control is not None and one is not control and one.pair.kind == "scripted":
                found[f"cost of {_short(one)}"].append(look(control, "return") - look(one, "return"))
    return {key: _mean(values) for key, values in found.items()}


def _rates(own: Sequence[Measured]) -> dict[str, Any]:
    """The rates of each attack in each game; they have intervals of their own."""
    return {
        f"{key} under {_short(one)} in {one.match.game}": value
        for one in own
        if one.pair.kind == "scripted"
        for key, value in one.exact.items()
    }


def _short(one: Measured) -> str:
    return one.pair.opponent.rpartition(":")[2]


def _by_entry(own: Sequence[Measured]) -> Mapping[int, list[Measured]]:
    found: dict[int, list[Measured]] = defaultdict(list)
    for one in own:
        found[one.pair.entry].append(one)
    return found


def _between(value: float, low: float, high: float) -> float:
    """Where it lies on the way from low to high; NaN where there is no such way."""
    return (value - low) / (high - low) if high > low else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


SUMMARIES: dict[str, Headlines] = {
    "social": social,
    "games": games,
    "gama": gama,
    "reasoning": reasoning,
    "cross_play": cross_play,
    "safety": safety,
}
