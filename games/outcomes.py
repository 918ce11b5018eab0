"""Metrics of games that somebody wins, all share, or nobody wins: counted from finished episodes.

An episode's facts must hold `players` (seat -> its side, from 0) and `moves` (decisions taken).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marft.episode import Episode

SIDES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
RATES = ("win", "draw", "loss", "return", "invalid")

Play = tuple[str, str, float, float, int, int]
"""Seat, side, return, how far that is above the others' in sum, unreadable answers, answers."""


def outcome_metrics(episodes: Sequence[Episode], seats: Sequence[str], chosen: Sequence[str]) -> dict[str, float]:
    """RATES pooled over the `chosen` seats, then per seat and per side; `length` over the episodes.

    A seat wins where its return is above the mean of the others'. Failed episodes are left out; NaN where nothing was
    observed.
    """
    for seat in chosen:
        if seat not in seats:
            raise ValueError(f"no seat {seat!r}: the seats are {', '.join(seats)}")
    sides = [SIDES[number] if number < len(SIDES) else str(number + 1) for number in range(len(seats))]
    played: list[Play] = []
    lengths = []
    for episode in episodes:
        if episode.failed:
            continue
        returns = episode.returns()
        lengths.append(episode.facts["moves"])
        for seat in chosen:
            ahead = fsum(returns[seat] - returns[other] for other in seats)  # 0 where all are equal, whatever rounds
            flags = [turn.invalid for turn in episode.turns_of(seat)]
            side = sides[episode.facts["players"][seat]]
            played.append((seat, side, returns[seat], ahead, sum(flags), len(flags)))
    result = _rates(played) | {"length": _mean(lengths)}
    for seat in chosen:
        rates = _rates([play for play in played if play[0] == seat])
        result[f"return_{seat}"] = rates.pop("return")
        result |= {f"{seat}/{name}": rate for name, rate in rates.items()}
    for side in sides:
        rates = _rates([play for play in played if play[1] == side])
        result |= {f"{side}/{name}": rate for name, rate in rates.items()}
    return result


def _rates(played: Sequence[Play]) -> dict[str, float]:
    values = (
        _mean([play[3] > 0 for play in played]),
        _mean([play[3] == 0 for play in played]),
        _mean([play[3] < 0 for play in played]),
        _mean([play[2] for play in played]),
        _mean([1.0] * sum(play[4] for play in played) + [0.0] * sum(play[5] - play[4] for play in played)),
    )
    return dict(zip(RATES, values, strict=True))


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return fsum(values) / len(values) if values else nan


def score_metrics(episodes: Sequence[Episode], seats: tuple[str, ...], chosen: Sequence[str]) -> dict[str, float]:
    """For games in which all earn the same: return, invalid, "seat/invalid", length and zero (nothing was scored)."""
    for seat in chosen:
        if seat not in seats:
            raise ValueError(f"no seat {seat!r}: the seats are {', '.join(seats)}")
    done = [episode for episode in episodes if not episode.failed]
    scores = [episode.returns()[seats[0]] for episode in done]
    flags = {seat: [turn.invalid for episode in done for turn in episode.turns_of(seat)] for seat in chosen}
    return {
        "return": _mean(scores),
        "zero": _mean([score == 0 for score in scores]),
        "invalid": _mean([flag for seat in chosen for flag in flags[seat]]),
        "length": _mean([episode.facts["moves"] for episode in done]),
        **{f"{seat}/invalid": _mean(flags[seat]) for seat in chosen},
    }
