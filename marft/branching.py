"""The pure part of a rollout that branches: which answers go together, and from which of them play goes on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

from marft.config import Branching
from marft.seeds import derive


def combinations(plan: Branching, seats: int, samples: int) -> list[tuple[int, ...]]:
    """The joint actions out of `samples` answers of each of `seats` seats: one sample number per seat each.

    aligned: the g-th answers of all seats, so `samples` of them. cross: all `samples` ** `seats` (MAGRPO, 2508.04652).
    """
    if plan.pairing == "cross":
        return list(itertools.product(range(samples), repeat=seats))
    return [(number,) * seats for number in range(samples)]


def going_on(plan: Branching, rewards: Sequence[Mapping[str, float]], seed: int) -> list[int]:
    """Numbers of the joint actions from which play goes on, by what each paid at once.

    best: the first of those with the largest sum over the seats. random: one of them, drawn by `seed`.
    """
    numbers = list(range(len(rewards)))
    if plan.goes_on == "all":
        return numbers
    if plan.goes_on == "random":
        return [random.Random(derive(seed, "branch")).choice(numbers)]
    return [max(numbers, key=lambda number: (sum(rewards[number].values()), -number))]


def leaves(plan: Branching, seats: int, decisions: int) -> int:
    """Paths through one tree of a game with `decisions` decisions of `seats` seats each, those cut short included."""
    alive, ended = 1, 0
    for decision in range(decisions):
        width = len(combinations(plan, seats, plan.samples_at(decision)))
        if plan.goes_on == "all":
            alive *= width
        else:
            ended += width - 1
    return alive + ended
