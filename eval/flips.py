"""What a debate gained, in two parts: better first answers, and better listening.

With f the share of right first answers, c the share of wrong ones that were right in the end (`corrected`) and m the
share of right ones that were wrong in the end (`misled`), f (1 - m) + (1 - f) c of the last answers are right.
The difference between two teams is split as Kitagawa (1955) splits a difference of rates: each part at the mean of the
other's, so that the two add up to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Gain(NamedTuple):
    """In shares of answers. first: what better first answers brought, listening: what better listening did."""

    first: float
    listening: float

    @property
    def whole(self) -> float:
        return self.first + self.listening


def gain(before: Mapping[str, float], after: Mapping[str, float]) -> Gain:
    """Of two teams' flip matrices (right_right, right_wrong, wrong_right, wrong_wrong: shares that add up to 1).

    Where a team has no right (wrong) first answer, what it would make of one is taken from the other team.
    """
    one, other = _rates(before), _rates(after)
    kept, corrected = _both(one[1], other[1]), _both(one[2], other[2])
    first = (other[0] - one[0]) * (sum(kept) - sum(corrected)) / 2
    share = (one[0] + other[0]) / 2
    return Gain(first, share * (kept[1] - kept[0]) + (1 - share) * (corrected[1] - corrected[0]))


def _rates(flips: Mapping[str, float]) -> tuple[float, float | None, float | None]:
    """(right first, right in the end of those, right in the end of the others)"""
    right, wrong = flips["right_right"] + flips["right_wrong"], flips["wrong_right"] + flips["wrong_wrong"]
    return right, flips["right_right"] / right if right else None, flips["wrong_right"] / wrong if wrong else None


def _both(one: float | None, other: float | None) -> tuple[float, float]:
    """Two rates; one that was never seen is the other."""
    first = one if one is not None else other
    second = other if other is not None else one
    return (first or 0.0, second or 0.0)
