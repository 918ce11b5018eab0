"""Metrics of two-seat games with two actions, counted from finished episodes.

Choices are turns whose action is a string; anything else (cheap talk) is passed over. Replaced unreadable choices count
as played, since the other seat met them; `invalid` says how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marft.episode import Episode

RATES = ("cooperation", "cooperation_after_first", "p_c_cc", "p_c_cd", "p_c_dc", "p_c_dd", "invalid")


def play_metrics(
    episodes: Sequence[Episode], labels: tuple[str, str], seats: tuple[str, str], chosen: Sequence[str]
) -> dict[str, float]:
    """Rates pooled over the `chosen` of the two `seats` and per seat as "seat/rate"; means of returns and welfare.

    labels: how action 0 and 1 are recorded. Failed episodes are left out; NaN stands where nothing was observed.
    """
    for seat in chosen:
        if seat not in seats:
            raise ValueError(f"no seat {seat!r}: the seats are {', '.join(seats)}")
    index = {label: i for i, label in enumerate(labels)}
    tallies = {seat: [[0, 0] for _ in RATES] for seat in chosen}
    returns: dict[str, list[float]] = {seat: [] for seat in chosen}
    welfare: list[float] = []
    for episode in episodes:
        if episode.failed:
            continue
        gained = episode.returns()
        welfare.append(fsum(gained.values()) / episode.facts.get("rounds", len(episode.rewards)))
        moves: dict[str, dict[int, int]] = {seat: {} for seat in seats}
        for turn in episode.turns:
            if isinstance(turn.action, str):
                if turn.seat in tallies:
                    _count(tallies[turn.seat][-1], turn.invalid)
                if turn.action in index:
                    moves[turn.seat][turn.step] = index[turn.action]
        for seat, tally in tallies.items():
            returns[seat].append(gained[seat])
            _tally(tally, moves[seat], moves[seats[1 - seats.index(seat)]])
    pooled = [[sum(column) for column in zip(*pairs, strict=True)] for pairs in zip(*tallies.values(), strict=True)]
    result = _rates(pooled)
    result["return"] = _mean([value for values in returns.values() for value in values])
    result["welfare"] = _mean(welfare)
    for seat, tally in tallies.items():
        result[f"return_{seat}"] = _mean(returns[seat])
        result.update({f"{seat}/{name}": rate for name, rate in _rates(tally).items()})
    return result


def _tally(tally: list[list[int]], own: dict[int, int], other: dict[int, int]) -> None:
    for step, move in own.items():
        first = move == 0
        _count(tally[0], first)
        if step > 0:
            _count(tally[1], first)
        if step - 1 in own and step - 1 in other:
            _count(tally[2 + 2 * own[step - 1] + other[step - 1]], first)


def _count(pair: list[int], hit: bool) -> None:
    pair[0] += hit
    pair[1] += 1


def _rates(tally: Sequence[Sequence[int]]) -> dict[str, float]:
    if not tally:
        return dict.fromkeys(RATES, nan)
    return {name: hits / seen if seen else nan for name, (hits, seen) in zip(RATES, tally, strict=True)}


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values) if values else nan
