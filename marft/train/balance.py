"""Work spread evenly over the processes: training waits for the slowest, and groups differ in length.

Who played a row need not train on it. Rows go from process to process where the slowest would have to work clearly
longer than the mean; every process works out the same assignment from the costs of all, so only rows travel.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from marft.train.workers import Workers

Item = TypeVar("Item")
TOLERATED = 0.05
"""How far the largest load may lie above the mean, as a share of it, before anything is sent."""


class Loads(NamedTuple):
    """Cost of the slowest process as the rows were played, the same as they are trained on, and the mean."""

    played: float
    slowest: float
    mean: float


def cost_of(tokens: int, width: int) -> float:
    """What a sequence costs, in tokens of a short one: tokens · (1 + tokens / (12 · width)).

    A layer of a model of this width has some 12 · width² weights, which is 24 · width² operations a token, and its
    causal attention takes 2 · width · tokens more on average.
    """
    return tokens * (1.0 + tokens / (12.0 * width))


def assign(costs: Sequence[float], bins: int) -> list[int]:
    """The bin of each item: the most expensive first, each to the bin that has least so far.

    Longest processing time first (Graham 1969): the largest load is at most 4/3 − 1/(3 · bins) of the least possible.
    """
    heap = [(0.0, number) for number in range(bins)]
    places = [0] * len(costs)
    for item in sorted(range(len(costs)), key=lambda item: (-costs[item], item)):
        load, number = heapq.heappop(heap)
        places[item] = number
        heapq.heappush(heap, (load + costs[item], number))
    return places


def loads_of(costs: Sequence[float], places: Sequence[int], bins: int) -> list[float]:
    """The summed cost of each bin."""
    loads = [0.0] * bins
    for cost, place in zip(costs, places, strict=True):
        loads[place] += cost
    return loads


def spread(items: Sequence[Item], costs: Sequence[float], workers: Workers) -> tuple[list[Item], Loads]:
    """What this process shall work on, in the order of all processes' items; every process calls it."""
    everyone = workers.gather([list(costs)])
    flat = [cost for own in everyone for cost in own]
    home = [rank for rank, own in enumerate(everyone) for _ in own]
    played, mean = max(loads_of(flat, home, workers.size)), sum(flat) / workers.size
    places = home
    if played > (1 + TOLERATED) * mean:
        better = assign(flat, workers.size)
        places = better if max(loads_of(flat, better, workers.size)) < played else home
    loads = Loads(played, max(loads_of(flat, places, workers.size)), mean)
    if places == home:
        return list(items), loads
    first = home.index(workers.rank) if workers.rank in home else 0
    numbered = list(enumerate(items, first))
    arrived = workers.gather([(number, item) for number, item in numbered if places[number] != workers.rank])
    mine = [(number, item) for number, item in [*numbered, *arrived] if places[number] == workers.rank]
    return [item for _, item in sorted(mine, key=lambda pair: pair[0])], loads
