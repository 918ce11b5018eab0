"""Preference pairs out of recorded episodes. Pure: no model, no file.

Two completions make a pair where a seat was in the same situation: the same group (so the same instance and the same
others), the same seat, and the same context, id for id or word for word. The first turns of a group's episodes are
such, and any later turns up to which all that the seat heard and said was alike; in a tree only siblings under one
node. Equal completions are one, which is worth the mean over all episodes that went through it, or over its nodes.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from marft.episode import Episode, Turn
from marft.stages.select import Filters, as_agents
from marft.stages.sources import Batch
from marft.stages.values import node_values, place_of, worth

ROUNDING = 1e-9
"""Means that differ by less are equal."""

ENDED, PAID_AT_ONCE = ("done",), ("done", "partial")
"""Statuses of episodes that say what a whole return is, and what a single step paid."""

Worth = Literal["return", "step", "value"]
Reading = Callable[[Episode, str], Iterator[tuple[Turn, tuple, Hashable]]]
"""(episode, seat) -> each turn of the seat, with its context and its completion as they are compared."""


@dataclass(frozen=True)
class Pair:
    """prompt, chosen, rejected: token ids as recorded; or messages and two texts.

    gap: by how much the chosen one is worth more.
    """

    prompt: tuple
    chosen: Any
    rejected: Any
    gap: float
    seat: str


def by_ids(episode: Episode, seat: str) -> Iterator[tuple[Turn, tuple, Hashable]]:
    """Contexts and completions as token ids."""
    return ((turn, tuple(context), tuple(turn.completion_ids)) for turn, context in episode.contexts(seat))


def by_text(episode: Episode, seat: str) -> Iterator[tuple[Turn, tuple, Hashable]]:
    """Contexts as (role, text) messages, neighbours of one role joined by an empty line; completions as texts."""
    said: list[tuple[str, str]] = []
    for turn in episode.turns_of(seat):
        for role, text in turn.messages:
            if said and said[-1][0] == role:
                text = f"{said.pop()[1]}\n\n{text}"
            said.append((role, text))
        yield turn, tuple(said), turn.text
        said.append(("assistant", turn.text))


def preference_pairs(
    batches: Iterable[Batch], filters: Filters, *, margin: float = 0.0, by: Worth = "return", read: Reading = by_ids
) -> dict[str, list[Pair]]:
    """agent -> all pairs whose worth differs, and by at least `margin`; with `filters.above` on either side of it.

    by: `return`, what the whole episode brought; paths of a tree that were not played to their end say nothing then.
    `value`, the mean over what followed the turn, node by node up from the leaves. `step`: what was paid at the turn's
    own step, which paths that were not played on know too.
    """
    pairs: dict[str, list[Pair]] = {}
    for batch in as_agents(batches, filters, PAID_AT_ONCE if by == "step" else ENDED):
        for (agent, seat, prompt, *_), values in _situations(batch, filters, by, read).items():
            means = {said: math.fsum(found.values()) / len(found) for said, found in values.items()}
            for one, other in itertools.combinations(means, 2):
                gap = means[one] - means[other]
                if abs(gap) < max(margin, ROUNDING):
                    continue
                chosen, rejected = (one, other) if gap > 0 else (other, one)
                if filters.above is not None and not means[chosen] > filters.above >= means[rejected]:
                    continue
                pairs.setdefault(agent, []).append(Pair(prompt, chosen, rejected, abs(gap), seat))
    return pairs


def _situations(
    batch: Batch, filters: Filters, by: Worth, read: Reading
) -> dict[tuple, dict[Hashable, dict[Hashable, float]]]:
    """(agent, seat, context, group, instance, node) -> completion -> its worth in each episode through it.

    By value it is the worth of each node that says it.
    """
    nodes = node_values(batch.episodes, filters.reward) if by == "value" else {}
    found: dict[tuple, dict[Hashable, dict[Hashable, float]]] = {}
    for episode in batch.episodes:
        for seat in episode.seats:
            for turn, context, said in read(episode, seat):
                if filters.takes(turn):
                    instance = (episode.group, episode.seed, turn.marks.get("parent"))
                    place = (turn.agent, seat, context, *instance)
                    node, values = place_of(episode, turn), found.setdefault(place, {}).setdefault(said, {})
                    if by == "value" and node is not None:
                        values[node] = nodes[node][seat]
                    else:
                        step = turn.step if by == "step" else None
                        values[len(values)] = worth(episode, seat, filters.reward, step)
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
