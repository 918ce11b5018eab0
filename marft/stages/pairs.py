"""Preference pairs out of recorded episodes. Pure: no model, no file.

Two completions make a pair where a seat was in the same situation: the same group (so the same instance and the same
others), the same seat, and the same context, id for id. The first turns of a group's episodes are such, and any later
turns up to which all that the seat heard and said was alike; in a tree only siblings under one node. Equal completions
are one, which is worth the mean over all episodes that went through it; in a tree these are the leaves below (MALT,
2412.01928).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from marft.stages.select import Filters, as_agents, worth
from marft.stages.sources import Batch

ROUNDING = 1e-9
"""Means that differ by less are equal."""

Worth = Literal["return", "step"]


@dataclass(frozen=True)
class Pair:
    """prompt, chosen, rejected: token ids as recorded. gap: by how much the chosen one is worth more."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    gap: float
    seat: str


def preference_pairs(
    batches: Iterable[Batch], filters: Filters, *, margin: float = 0.0, by: Worth = "return"
) -> dict[str, list[Pair]]:
    """agent -> all pairs whose worth differs, and by at least `margin`.

    by: `return`, what the whole episode brought; paths of a tree that were not played to their end say nothing then.
    `step`: what was paid at the turn's own step, which those paths know too.
    """
    pairs: dict[str, list[Pair]] = {}
    for batch in as_agents(batches, filters, partial=by == "step"):
        for (agent, seat, prompt, *_), values in _situations(batch, filters, by).items():
            means = {ids: math.fsum(found) / len(found) for ids, found in values.items()}
            for one, other in itertools.combinations(means, 2):
                gap = means[one] - means[other]
                if abs(gap) < max(margin, ROUNDING):
                    continue
                chosen, rejected = (one, other) if gap > 0 else (other, one)
                pairs.setdefault(agent, []).append(Pair(prompt, chosen, rejected, abs(gap), seat))
    return pairs


def _situations(batch: Batch, filters: Filters, by: Worth) -> dict[tuple, dict[tuple[int, ...], list[float]]]:
    """(agent, seat, context, group, instance, node) -> completion -> its worth in each episode through it."""
    found: dict[tuple, dict[tuple[int, ...], list[float]]] = {}
    for episode in batch.episodes:
        for seat in episode.seats:
            for turn, context in episode.contexts(seat):
                if filters.takes(turn):
                    instance = (episode.group, episode.seed, turn.marks.get("parent"))
                    place = (turn.agent, seat, tuple(context), *instance)
                    value = worth(episode, seat, filters.reward, turn.step if by == "step" else None)
                    found.setdefault(place, {}).setdefault(tuple(turn.completion_ids), []).append(value)
    return found


def at_most(pairs: Mapping[str, Sequence[Pair]], most: int | None, seed: int) -> dict[str, list[Pair]]:
    """Up to `most` pairs of each agent, drawn by `seed`, in their order."""
    chosen = {}
    for agent, own in pairs.items():
        numbers: Sequence[int] = range(len(own))
        if most is not None and len(own) > most:
            numbers = sorted(random.Random(f"{seed}/{agent}").sample(numbers, most))
        chosen[agent] = [own[number] for number in numbers]
    return chosen
