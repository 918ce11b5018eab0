"""Metrics of games with two sides that one wins, both share, or neither wins: counted from finished episodes.

An episode's facts must hold `players` (seat -> 0 or 1, its side) and `moves` (decisions taken).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marft.episode import Episode

SIDES = ("first", "second")
RATES = ("win", "draw", "loss", "return", "invalid")


def outcome_metrics(episodes: Sequence[Episode], seats: tuple[str, str], chosen: Sequence[str]) -> dict[str, float]:
    """RATES pooled over the `chosen` seats, then per seat and per side; `length` over the episodes.

    A seat wins where its return is above the other's. Failed episodes are left out; NaN where nothing was observed.
    """
    for seat in chosen:
        if seat not in seats:
            raise ValueError(f"no seat {seat!r}: the seats are {', '.join(seats)}")
    played: list[tuple[str, str, float, float, int, int]] = []
    lengths = []
    for episode in episodes:
        if episode.failed:
            continue
        returns = episode.returns()
        lengths.append(episode.facts["moves"])
        for seat in chosen:
            other = seats[1 - seats.index(seat)]
            flags = [turn.invalid for turn in episode.turns_of(seat)]
            side = SIDES[episode.facts["players"][seat]]
            played.append((seat, side, returns[seat], returns[other], sum(flags), len(flags)))
    result = _rates(played) | {"length": _mean(lengths)}
    for seat in chosen:
        rates = _rates([play for play in played if play[0] == seat])
        result[f"return_{seat}"] = rates.pop("return")
        result |= {f"{seat}/{name}": rate for name, rate in rates.items()}
    for side in SIDES:
        rates = _rates([play for play in played if play[1] == side])
        result |= {f"{side}/{name}": rate for name, rate in rates.items()}
    return result


def _rates(played: Sequence[tuple[str, str, float, float, int, int]]) -> dict[str, float]:
    values = (
        _mean([own > other for _, _, own, other, _, _ in played]),
        _mean([own == other for _, _, own, other, _, _ in played]),
        _mean([own < other for _, _, own, other, _, _ in played]),
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
